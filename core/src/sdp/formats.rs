//! Payload formats of one media section: rtpmap, fmtp and rtcp-fb by payload type, and which of
//! them are codecs of ours.

use crate::audio::Rate;
use crate::limits::SDP_PAYLOAD_TYPES_MAX;
use crate::plan::{Codec, Feedback, MediaKind};

use super::attributes::parameter;
use super::error::Fault;

/// One payload type as offered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format<'a> {
    pub(super) payload_type: u8,
    /// Name, clock rate and channels as written, e.g. `OPUS/48000/2`.
    pub(super) rtpmap: Option<&'a str>,
    pub(super) fmtp: Option<&'a str>,
    feedback: Feedback,
}

/// All payload types of a section, in the order of its m-line.
#[derive(Clone, Debug)]
pub(super) struct Formats<'a> {
    list: Vec<Format<'a>>,
    /// Position in `list` by payload type, so that each attribute line costs one look.
    index: [u8; SDP_PAYLOAD_TYPES_MAX],
    /// Feedback of `a=rtcp-fb:*`.
    wildcard: Feedback,
}

const ABSENT: u8 = u8::MAX;
const _: () = assert!(SDP_PAYLOAD_TYPES_MAX <= ABSENT as usize);

impl<'a> Formats<'a> {
    /// None: for sections that are not audio or video over RTP.
    pub(super) fn none() -> Self {
        Self {
            list: Vec::new(),
            index: [ABSENT; SDP_PAYLOAD_TYPES_MAX],
            wildcard: Feedback::default(),
        }
    }

    /// From the end of an m-line.
    pub(super) fn read(text: &'a str) -> Result<Self, Fault> {
        let mut formats = Self::none();
        for (count, word) in text.split_ascii_whitespace().enumerate() {
            if count >= SDP_PAYLOAD_TYPES_MAX {
                let limit = SDP_PAYLOAD_TYPES_MAX;
                return Err(Fault::Limit {
                    what: "payload types in a section",
                    limit,
                });
            }
            let payload_type = read_payload_type(word)?;
            let slot = &mut formats.index[usize::from(payload_type)];
            if *slot == ABSENT {
                *slot = formats.list.len() as u8;
                let feedback = Feedback::default();
                formats.list.push(Format {
                    payload_type,
                    rtpmap: None,
                    fmtp: None,
                    feedback,
                });
            }
        }
        Ok(formats)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Format<'a>> {
        self.list.iter()
    }

    pub(super) fn note_rtpmap(&mut self, value: &'a str) -> Result<(), Fault> {
        if let Some((format, rtpmap)) = self.addressed(value)? {
            format.rtpmap = Some(rtpmap);
        }
        Ok(())
    }

    pub(super) fn note_fmtp(&mut self, value: &'a str) -> Result<(), Fault> {
        if let Some((format, fmtp)) = self.addressed(value)? {
            format.fmtp = Some(fmtp);
        }
        Ok(())
    }

    pub(super) fn note_feedback(&mut self, value: &'a str) -> Result<(), Fault> {
        let (feedback, kind) = match value.strip_prefix("* ") {
            Some(kind) => (&mut self.wildcard, kind),
            None => match self.addressed(value)? {
                Some((format, kind)) => (&mut format.feedback, kind),
                None => return Ok(()),
            },
        };
        match kind.trim() {
            "nack" => feedback.nack = true,
            "nack pli" => feedback.pli = true,
            "ccm fir" => feedback.fir = true,
            "transport-cc" => feedback.transport_cc = true,
            "goog-remb" => feedback.remb = true,
            _ => {}
        }
        Ok(())
    }

    /// What the offer says of a format, `a=rtcp-fb:*` included.
    pub(super) fn feedback(&self, format: &Format<'_>) -> Feedback {
        let (own, all) = (format.feedback, self.wildcard);
        Feedback {
            nack: own.nack || all.nack,
            pli: own.pli || all.pli,
            fir: own.fir || all.fir,
            remb: own.remb || all.remb,
            transport_cc: own.transport_cc || all.transport_cc,
        }
    }

    /// The retransmission format (RFC 4588 §8.1) of each payload type that has one: the first.
    pub(super) fn retransmissions(&self) -> [Option<&Format<'a>>; SDP_PAYLOAD_TYPES_MAX] {
        let mut by_payload_type = [None; SDP_PAYLOAD_TYPES_MAX];
        for format in &self.list {
            let name = format.rtpmap.and_then(|rtpmap| rtpmap.split('/').next());
            if !name.is_some_and(|name| name.eq_ignore_ascii_case("rtx")) {
                continue;
            }
            let apt = format.fmtp.and_then(|fmtp| parameter(fmtp, "apt"));
            let slot = apt
                .and_then(|apt| apt.parse::<usize>().ok())
                .and_then(|apt| by_payload_type.get_mut(apt));
            if let Some(slot @ None) = slot {
                *slot = Some(format);
            }
        }
        by_payload_type
    }

    /// Splits `96 rest` and finds the format; `None` when the m-line does not list it.
    fn addressed(&mut self, value: &'a str) -> Result<Option<(&mut Format<'a>, &'a str)>, Fault> {
        let (number, rest) = value.split_once(' ').unwrap_or((value, ""));
        let position = self.index[usize::from(read_payload_type(number)?)];
        Ok(self
            .list
            .get_mut(usize::from(position))
            .map(|format| (format, rest.trim())))
    }
}

impl Format<'_> {
    /// The codec of ours this is, or `None`: redundancy, comfort noise and what we do not
    /// know.
    pub(super) fn codec(&self, kind: MediaKind) -> Option<Codec> {
        let Some(rtpmap) = self.rtpmap else {
            // Static assignments of RFC 3551 §6 need no rtpmap.
            return match (kind, self.payload_type) {
                (MediaKind::Audio, 0) => Some(Codec::Pcmu),
                (MediaKind::Audio, 8) => Some(Codec::Pcma),
                _ => None,
            };
        };
        let mut parts = rtpmap.split('/');
        let name = parts.next()?.to_ascii_lowercase();
        let codec = match name.as_str() {
            "opus" => Codec::Opus,
            "telephone-event" => Codec::TelephoneEvent(match parts.clone().next()?.trim() {
                "8000" => Rate::Hz8000,
                "48000" => Rate::Hz48000,
                _ => return None,
            }),
            "pcmu" => Codec::Pcmu,
            "pcma" => Codec::Pcma,
            "vp8" => Codec::Vp8,
            "vp9" => Codec::Vp9 {
                profile: self.small_number("profile-id", 3)?,
            },
            "av1" => Codec::Av1 {
                profile: self.small_number("profile", 2)?,
            },
            "h264" => Codec::H264 {
                // Mode 2, interleaved, is not ours: no peer of ours sends it.
                packetization_mode: self.small_number("packetization-mode", 1)?,
                profile: self.h264_profile()?,
            },
            _ => return None,
        };
        let clock_rate = parts.next()?.trim().parse::<u32>().ok()?;
        (codec.kind() == kind && codec.clock_rate() == clock_rate).then_some(codec)
    }

    /// A parameter of 0 to `most`, 0 when absent; `None` when it is something else.
    fn small_number(&self, name: &str, most: u8) -> Option<u8> {
        match self.fmtp.and_then(|fmtp| parameter(fmtp, name)) {
            None => Some(0),
            Some(value) => value.parse().ok().filter(|&number| number <= most),
        }
    }

    /// Profile and constraints of `profile-level-id`; baseline when absent (RFC 6184 §8.1).
    fn h264_profile(&self) -> Option<u16> {
        match self
            .fmtp
            .and_then(|fmtp| parameter(fmtp, "profile-level-id"))
        {
            None => Some(0x42_00),
            Some(value) => {
                let digits = value.len() == 6 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
                digits
                    .then(|| u16::from_str_radix(&value[..4], 16).ok())
                    .flatten()
            }
        }
    }
}

fn read_payload_type(word: &str) -> Result<u8, Fault> {
    let number = word.parse::<u8>().ok();
    number
        .filter(|&number| usize::from(number) < SDP_PAYLOAD_TYPES_MAX)
        .ok_or(Fault::PayloadType)
}
