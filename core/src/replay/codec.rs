//! What payload types mean: the static assignments of RFC 3551, and what the user says of the others.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::limits::CODEC_NAME_BYTES_MAX;

/// Video's clock, by convention (RFC 3551 §5). A media clock of another rate belongs to audio.
const VIDEO_CLOCK_RATE: u32 = 90_000;
/// Fastest clock believed: four times the fastest audio anybody samples.
const CLOCK_RATE_MAX: u32 = 1_536_000;

/// RFC 3551 §6, tables 4 and 5, in order.
const STATIC: [(u8, &str, u32); 24] = [
    (0, "PCMU", 8_000),
    (3, "GSM", 8_000),
    (4, "G723", 8_000),
    (5, "DVI4", 8_000),
    (6, "DVI4", 16_000),
    (7, "LPC", 8_000),
    (8, "PCMA", 8_000),
    (9, "G722", 8_000),
    (10, "L16", 44_100),
    (11, "L16", 44_100),
    (12, "QCELP", 8_000),
    (13, "CN", 8_000),
    (14, "MPA", 90_000),
    (15, "G728", 8_000),
    (16, "DVI4", 11_025),
    (17, "DVI4", 22_050),
    (18, "G729", 8_000),
    (25, "CelB", 90_000),
    (26, "JPEG", 90_000),
    (28, "nv", 90_000),
    (31, "H261", 90_000),
    (32, "MPV", 90_000),
    (33, "MP2T", 90_000),
    (34, "H263", 90_000),
];

/// A payload format's name and clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codec {
    name: String,
    clock_rate: u32,
}

impl Codec {
    /// Its encoding name, as it was written.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// RTP timestamp units a second; never zero.
    #[must_use]
    pub const fn clock_rate(&self) -> u32 {
        self.clock_rate
    }
}

/// Whether a media clock of this rate is audio's.
pub(super) const fn is_audio(clock_rate: u32) -> bool {
    clock_rate != VIDEO_CLOCK_RATE
}

/// `name/clock[/channels]`, as `a=rtpmap` writes it (RFC 8866 §6.6).
impl FromStr for Codec {
    type Err = CodecError;

    fn from_str(text: &str) -> Result<Self, CodecError> {
        let (name, clock) = text.trim().split_once('/').ok_or(CodecError::Form)?;
        let clock = clock.split('/').next().unwrap_or_default();
        let clock_rate = clock.trim().parse().map_err(|_| CodecError::Clock)?;
        let is_named = (1..=CODEC_NAME_BYTES_MAX).contains(&name.len());
        if !is_named || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(CodecError::Form);
        }
        if !(1..=CLOCK_RATE_MAX).contains(&clock_rate) {
            return Err(CodecError::Clock);
        }
        Ok(Self {
            name: name.to_owned(),
            clock_rate,
        })
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.clock_rate)
    }
}

/// Why a payload type's meaning was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not of the form.
    #[error("a payload type is mapped as 96=vp8/90000: number, name and clock")]
    Form,
    /// Not a clock rate.
    #[error("a clock rate is a whole number from 1 to {CLOCK_RATE_MAX}")]
    Clock,
    /// Not a payload type.
    #[error("a payload type is a number from 0 to 127")]
    PayloadType,
}

/// What each payload type means in one capture.
#[derive(Clone, Debug)]
pub struct Codecs(BTreeMap<u8, Codec>);

/// The static assignments alone.
impl Default for Codecs {
    fn default() -> Self {
        let codec = |&(payload_type, name, clock_rate): &(u8, &str, u32)| {
            let name = name.to_owned();
            (payload_type, Codec { name, clock_rate })
        };
        Self(STATIC.iter().map(codec).collect())
    }
}

impl Codecs {
    /// Takes one mapping, `96=vp8/90000`, and tells which payload type it is of; the latest counts, over the static
    /// ones too.
    ///
    /// # Errors
    /// [`CodecError`] says what a mapping looks like.
    pub fn add_map(&mut self, text: &str) -> Result<u8, CodecError> {
        let (payload_type, codec) = text.split_once('=').ok_or(CodecError::Form)?;
        self.add(payload_type, codec)
    }

    /// Takes the `a=rtpmap` lines of a session description, whatever else is in it, and tells how many.
    ///
    /// # Errors
    /// A line is not of the form; the ones before it were taken.
    pub fn add_description(&mut self, sdp: &str) -> Result<usize, CodecError> {
        let mut count = 0;
        for line in sdp.lines() {
            let Some(map) = line.trim().strip_prefix("a=rtpmap:") else {
                continue;
            };
            let (payload_type, codec) = map.split_once(' ').ok_or(CodecError::Form)?;
            self.add(payload_type, codec)?;
            count += 1;
        }
        Ok(count)
    }

    /// The meaning of a payload type, if it is known.
    #[must_use]
    pub fn codec(&self, payload_type: u8) -> Option<&Codec> {
        self.0.get(&payload_type)
    }

    fn add(&mut self, payload_type: &str, codec: &str) -> Result<u8, CodecError> {
        let payload_type: u8 = payload_type
            .trim()
            .parse()
            .map_err(|_| CodecError::PayloadType)?;
        if payload_type > 127 {
            return Err(CodecError::PayloadType);
        }
        self.0.insert(payload_type, codec.parse()?);
        Ok(payload_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_types_have_their_clocks_and_free_ones_none() {
        let codecs = Codecs::default();
        let clock = |payload_type| codecs.codec(payload_type).map(Codec::clock_rate);
        assert_eq!(clock(0), Some(8_000));
        assert_eq!(
            clock(9),
            Some(8_000),
            "G.722 says half its rate, by mistake, for ever"
        );
        assert_eq!(clock(34), Some(90_000));
        for free in [1, 2, 19, 24, 27, 35, 45, 72, 96, 127] {
            assert_eq!(clock(free), None, "{free}");
        }
        assert!(STATIC.is_sorted_by_key(|(payload_type, ..)| payload_type));
    }

    #[test]
    fn maps_and_descriptions_are_taken_and_nonsense_is_refused() {
        let mut codecs = Codecs::default();
        codecs.add_map("111=opus/48000/2").unwrap();
        codecs.add_map("0=L16/16000").unwrap();
        let sdp = "v=0\r\nm=video 9 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=fmtp:96 x=y\r\n";
        assert_eq!(codecs.add_description(sdp), Ok(1));
        let text = |payload_type| codecs.codec(payload_type).map(Codec::to_string);
        assert_eq!(text(111).as_deref(), Some("opus/48000"));
        assert_eq!(text(0).as_deref(), Some("L16/16000"));
        assert_eq!(text(96).as_deref(), Some("VP8/90000"));
        let refused = |text: &str| Codecs::default().add_map(text).unwrap_err();
        assert_eq!(refused("96"), CodecError::Form);
        assert_eq!(refused("96=vp8"), CodecError::Form);
        assert_eq!(refused("96=/90000"), CodecError::Form);
        assert_eq!(refused("128=vp8/90000"), CodecError::PayloadType);
        assert_eq!(refused("x=vp8/90000"), CodecError::PayloadType);
        for clock in ["0", "-1", "fast", "4294967296", "1536001"] {
            assert_eq!(refused(&format!("96=vp8/{clock}")), CodecError::Clock);
        }
        assert!(codecs.add_description("a=rtpmap:nonsense").is_err());
    }
}
