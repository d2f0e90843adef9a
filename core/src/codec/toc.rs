//! What an Opus packet says of itself before anything is decoded (RFC 6716 §3).

use crate::limits::OPUS_PAYLOAD_BYTES_MAX;

/// Bytes of the longest frame (RFC 6716 §3.2.1).
const FRAME_BYTES_MAX: usize = 1_275;
/// Units of 2.5 ms in the longest packet, 120 ms (RFC 6716 §3.2.5).
const UNITS_MAX: usize = 48;

/// An Opus packet whose frames are where it says they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpusPacket<'a> {
    /// `config` of the first byte: mode, bandwidth and length of frames.
    config: u8,
    stereo: bool,
    frames: u8,
    first: &'a [u8],
}

impl<'a> OpusPacket<'a> {
    /// Reads a packet's framing; `None`: it breaks a rule of RFC 6716 §3.4, or is longer than
    /// [`OPUS_PAYLOAD_BYTES_MAX`].
    #[must_use]
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        if payload.len() > OPUS_PAYLOAD_BYTES_MAX {
            return None;
        }
        let (&toc, rest) = payload.split_first()?;
        let (frames, first) = match toc & 3 {
            0 => (1, rest),
            1 => {
                let half = rest.len() / 2;
                (2, (rest.len() % 2 == 0).then(|| &rest[..half])?)
            }
            2 => {
                let (length, rest) = frame_length(rest)?;
                let second = rest.len().checked_sub(length)?;
                (2, (second <= FRAME_BYTES_MAX).then(|| &rest[..length])?)
            }
            _ => counted_frames(rest)?,
        };
        let packet = Self {
            config: toc >> 3,
            stereo: toc & 4 != 0,
            frames,
            first,
        };
        let valid = first.len() <= FRAME_BYTES_MAX
            && packet.frame_units() * usize::from(frames) <= UNITS_MAX;
        valid.then_some(packet)
    }

    /// How much sound it holds, in units of 2.5 ms: 1 to 48.
    #[must_use]
    pub fn units(&self) -> usize {
        self.frame_units() * usize::from(self.frames)
    }

    /// Whether it carries the frame before it once more (RFC 6716 §4.2.4). Frames of the CELT mode never do.
    #[must_use]
    pub fn has_fec(&self) -> bool {
        // Modes of 16 and more are CELT's alone (RFC 6716 §3.1, table 2).
        let (Some(byte), true) = (self.first.first(), self.config < 16) else {
            return false;
        };
        // The range coder's first symbols have even odds, so they are the first bits as they stand: of each channel a
        // VAD flag for each 20 ms, then the LBRR flag (RFC 6716 §4.2.3).
        let silk_frames = self.frame_units().div_ceil(8);
        let flag = |before: usize| byte >> (7 - before) & 1 == 1;
        flag(silk_frames) || self.stereo && flag(2 * silk_frames + 1)
    }

    /// Units of 2.5 ms in one frame (RFC 6716 §3.1, table 2).
    fn frame_units(&self) -> usize {
        match self.config {
            // SILK: 10, 20, 40, 60 ms.
            0..12 => [4, 8, 16, 24][usize::from(self.config & 3)],
            // Hybrid: 10, 20 ms.
            12..16 => [4, 8][usize::from(self.config & 1)],
            // CELT: 2.5, 5, 10, 20 ms.
            _ => [1, 2, 4, 8][usize::from(self.config & 3)],
        }
    }
}

/// A frame's length, and what follows it (RFC 6716 §3.2.1).
fn frame_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes {
        [low @ 252..=255, high, rest @ ..] => {
            Some((usize::from(*high) * 4 + usize::from(*low), rest))
        }
        [length, rest @ ..] if *length < 252 => Some((usize::from(*length), rest)),
        _ => None,
    }
}

/// How many frames, and the first of them, of a packet that counts its frames (RFC 6716 §3.2.5).
fn counted_frames(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (&header, mut rest) = bytes.split_first()?;
    let frames = header & 0x3f;
    if frames == 0 {
        return None;
    }
    if header & 0x40 != 0 {
        let mut padding = 0;
        loop {
            let (&length, after) = rest.split_first()?;
            rest = after;
            padding += usize::from(length.min(254));
            if length < 255 {
                break;
            }
        }
        rest = &rest[..rest.len().checked_sub(padding)?];
    }
    if header & 0x80 == 0 {
        let length = rest.len() / usize::from(frames);
        return (length * usize::from(frames) == rest.len()).then(|| (frames, &rest[..length]));
    }
    let (mut first, mut together) = (None, 0);
    for _ in 1..frames {
        let (length, after) = frame_length(rest)?;
        rest = after;
        first.get_or_insert(length);
        together += length;
    }
    let last = rest.len().checked_sub(together)?;
    let first = first.unwrap_or(last);
    (last <= FRAME_BYTES_MAX).then(|| (frames, &rest[..first]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(payload: &[u8]) -> Option<(usize, usize)> {
        OpusPacket::parse(payload).map(|packet| (packet.units(), packet.first.len()))
    }

    #[test]
    fn each_configuration_has_its_length() {
        // RFC 6716 §3.1, table 2, in units of 2.5 ms.
        let silk = [4, 8, 16, 24];
        let lengths = silk
            .into_iter()
            .cycle()
            .take(12)
            .chain([4, 8, 4, 8])
            .chain([1, 2, 4, 8].into_iter().cycle().take(16));
        for (config, units) in lengths.enumerate() {
            assert_eq!(
                parse(&[(config as u8) << 3, 0]),
                Some((units, 1)),
                "{config}"
            );
        }
    }

    #[test]
    fn framing_is_read_as_the_rfc_has_it() {
        const CELT_20_MS: u8 = 31 << 3;
        // One frame, also of no bytes.
        assert_eq!(parse(&[CELT_20_MS]), Some((8, 0)));
        assert_eq!(parse(&[CELT_20_MS, 1, 2, 3]), Some((8, 3)));
        // Two of equal length.
        assert_eq!(parse(&[CELT_20_MS | 1, 1, 2]), Some((16, 1)));
        assert_eq!(parse(&[CELT_20_MS | 1, 1, 2, 3]), None);
        // Two, the first with its length.
        assert_eq!(parse(&[CELT_20_MS | 2, 2, 1, 1, 9]), Some((16, 2)));
        assert_eq!(parse(&[CELT_20_MS | 2, 4, 1, 1, 9]), None);
        assert_eq!(parse(&[CELT_20_MS | 2]), None);
        assert_eq!(parse(&[CELT_20_MS | 2, 252]), None);
        // Counted: three of equal length, then with lengths, then with padding.
        assert_eq!(parse(&[CELT_20_MS | 3, 3, 1, 2, 3]), Some((24, 1)));
        assert_eq!(parse(&[CELT_20_MS | 3, 3, 1, 2]), None);
        assert_eq!(parse(&[CELT_20_MS | 3, 0x83, 2, 1, 9, 9, 9]), Some((24, 2)));
        assert_eq!(parse(&[CELT_20_MS | 3, 0x83, 2, 2, 9, 9, 9]), None);
        assert_eq!(parse(&[CELT_20_MS | 3, 0x41, 2, 7, 0, 0]), Some((8, 1)));
        assert_eq!(parse(&[CELT_20_MS | 3, 0x41, 4, 7, 0, 0]), None);
        // None at all, no count, none, more than 120 ms.
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[CELT_20_MS | 3]), None);
        assert_eq!(parse(&[CELT_20_MS | 3, 0]), None);
        assert_eq!(parse(&[CELT_20_MS | 3, 6]), Some((48, 0)));
        assert_eq!(parse(&[CELT_20_MS | 3, 7]), None);
    }

    #[test]
    fn nothing_is_longer_than_it_may_be() {
        assert_eq!(parse(&[0; 1_276]), Some((4, 1_275)));
        assert_eq!(parse(&[0; 1_277]), None);
        let mut packet = vec![31 << 3 | 3, 6];
        packet.resize(2 + 6 * 1_275, 0);
        assert_eq!(parse(&packet), Some((48, 1_275)));
        packet.resize(OPUS_PAYLOAD_BYTES_MAX + 1, 0);
        assert_eq!(parse(&packet), None);
    }

    #[test]
    fn the_flag_of_redundancy_is_where_the_rfc_has_it() {
        let has =
            |toc: u8, first: u8| OpusPacket::parse(&[toc, first]).is_some_and(|p| p.has_fec());
        // 20 ms, wideband SILK: VAD flag, then ours.
        assert!(has(9 << 3, 0b0100_0000) && !has(9 << 3, 0b1011_1111));
        // 60 ms: three VAD flags before it.
        assert!(has(11 << 3, 0b0001_0000) && !has(11 << 3, 0b1110_1111));
        // Stereo: either channel's.
        assert!(has(9 << 3 | 4, 0b0001_0000) && has(9 << 3 | 4, 0b0100_0000));
        assert!(!has(9 << 3 | 4, 0b1010_1111));
        // Hybrid has it, CELT has not.
        assert!(has(15 << 3, 0b0100_0000) && !has(16 << 3, 0xff));
        assert!(!OpusPacket::parse(&[9 << 3]).expect("a packet").has_fec());
    }
}
