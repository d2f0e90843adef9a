//! What two ends agreed on: the vocabulary between the session description, the session and the server.
//!
//! A [`SessionPlan`] holds what a session must know of an answered offer and no text. It is made off
//! the shard's thread (`sdp`), travels in a command, and is immutable afterwards.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::ZeroizeOnDrop;

use crate::audio::Rate;
use crate::limits::{MID_BYTES_MAX, RID_BYTES_MAX};

/// ICE short-term credentials (RFC 8445 §5.3). The password never shows in `Debug`.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop, Serialize, Deserialize)]
pub struct IceCredentials {
    /// User name fragment, 4 to 256 characters.
    #[zeroize(skip)]
    pub ufrag: String,
    /// Password, 22 to 256 characters.
    pub password: String,
}

impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials")
            .field("ufrag", &self.ufrag)
            .finish_non_exhaustive()
    }
}

/// SHA-256 of a DTLS certificate (RFC 8122). The only hash we accept: every peer offers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 32]);

/// `AB:CD:…`, as `a=fingerprint:sha-256` carries it.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

/// Which side of the DTLS handshake we play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DtlsRole {
    /// We send the ClientHello: the peer offered `a=setup:passive`.
    Client,
    /// We wait for the ClientHello: our answer says `a=setup:passive`.
    Server,
}

/// Audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MediaKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

impl MediaKind {
    /// As an m-line has it: `audio` or `video`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }
}

/// A codec the server handles; parameters that make two uses incompatible are part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Codec {
    /// RFC 7587; 48 kHz, always two channels in the description.
    Opus,
    /// G.711 µ-law, 8 kHz.
    Pcmu,
    /// G.711 A-law, 8 kHz.
    Pcma,
    /// RFC 7741.
    Vp8,
    /// RFC 9628, with its profile.
    Vp9 {
        /// `profile-id`, 0 when absent.
        profile: u8,
    },
    /// RFC 6184.
    H264 {
        /// `packetization-mode`, 0 when absent.
        packetization_mode: u8,
        /// First two bytes of `profile-level-id`: profile and constraints. 0x42_00 when absent.
        profile: u16,
    },
    /// AV1 RTP specification 1.0, with its profile.
    Av1 {
        /// `profile`, 0 when absent.
        profile: u8,
    },
    /// RFC 4733: keys that are pressed, beside a codec of sound and in the place of it, on a clock of 8 or 48 kHz.
    TelephoneEvent(Rate),
}

impl Codec {
    /// Whether it is no codec of its own, but goes beside one.
    #[must_use]
    pub const fn is_event(self) -> bool {
        matches!(self, Self::TelephoneEvent(_))
    }

    /// Audio or video.
    #[must_use]
    pub const fn kind(self) -> MediaKind {
        match self {
            Self::Opus | Self::Pcmu | Self::Pcma | Self::TelephoneEvent(_) => MediaKind::Audio,
            Self::Vp8 | Self::Vp9 { .. } | Self::H264 { .. } | Self::Av1 { .. } => MediaKind::Video,
        }
    }

    /// RTP timestamp units a second.
    #[must_use]
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::TelephoneEvent(rate) => rate.hz(),
            Self::Pcmu | Self::Pcma => 8_000,
            Self::Vp8 | Self::Vp9 { .. } | Self::H264 { .. } | Self::Av1 { .. } => 90_000,
        }
    }

    /// Encoding name as registered, e.g. `opus`, `VP8`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::Vp8 => "VP8",
            Self::Vp9 { .. } => "VP9",
            Self::H264 { .. } => "H264",
            Self::Av1 { .. } => "AV1",
            Self::TelephoneEvent(_) => "telephone-event",
        }
    }

    /// Whether packets of this codec may go out under a payload type agreed for `other`.
    ///
    /// VP9 and AV1 want equal profiles. H.264 wants an equal packetization mode and a profile of
    /// the same family (RFC 6184 §8.1, table 5): `42xx` (baseline and constrained baseline,
    /// whatever the constraint bits: every encoder met sends the common subset), `4dxx` with the
    /// first constraint bit (decodable by baseline), main, constrained high (`640c`) and high.
    /// Levels are not compared.
    #[must_use]
    pub const fn is_compatible_with(self, other: Self) -> bool {
        match (self, other) {
            (Self::Opus, Self::Opus)
            | (Self::Pcmu, Self::Pcmu)
            | (Self::Pcma, Self::Pcma)
            | (Self::Vp8, Self::Vp8) => true,
            (Self::Vp9 { profile: a }, Self::Vp9 { profile: b })
            | (Self::Av1 { profile: a }, Self::Av1 { profile: b }) => a == b,
            (
                Self::H264 {
                    packetization_mode: mode_a,
                    profile: a,
                },
                Self::H264 {
                    packetization_mode: mode_b,
                    profile: b,
                },
            ) => mode_a == mode_b && h264_family(a) == h264_family(b),
            (Self::TelephoneEvent(a), Self::TelephoneEvent(b)) => a.hz() == b.hz(),
            _ => false,
        }
    }
}

/// One number for all spellings of an H.264 profile that decode each other.
const fn h264_family(profile: u16) -> u16 {
    match (profile >> 8, profile & 0xff) {
        (0x42, _) => 0x4200,
        (0x4d, constraints) if constraints & 0x80 != 0 => 0x4200,
        (0x4d, _) => 0x4d00,
        (0x64, constraints) if constraints & 0x0c == 0x0c => 0x640c,
        (0x64, _) => 0x6400,
        _ => profile,
    }
}

/// RTCP feedback both ends agreed on for a codec (RFC 4585, RFC 5104).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// Generic NACK.
    pub nack: bool,
    /// Picture loss indication.
    pub pli: bool,
    /// Full intra request.
    pub fir: bool,
    /// Receiver estimated maximum bitrate.
    pub remb: bool,
    /// Transport-wide congestion control.
    pub transport_cc: bool,
}

/// One payload type of one media section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodecPlan {
    /// The offer's number for it, 0 to 127.
    pub payload_type: u8,
    /// What it is.
    pub codec: Codec,
    /// Payload type of its retransmissions (RFC 4588), if agreed.
    pub rtx_payload_type: Option<u8>,
    /// Feedback agreed.
    pub feedback: Feedback,
}

/// Ids of the header extensions agreed for a media section (RFC 8285); `None`: not agreed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`.
    pub mid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`.
    pub rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`.
    pub repaired_rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464).
    pub audio_level: Option<u8>,
    /// Transport-wide sequence number.
    pub transport_cc: Option<u8>,
    /// `abs-send-time`.
    pub abs_send_time: Option<u8>,
    /// `urn:3gpp:video-orientation`.
    pub video_orientation: Option<u8>,
    /// AV1 dependency descriptor.
    pub dependency_descriptor: Option<u8>,
}

/// A short ASCII token kept inline: a mid or a rid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Token<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> Token<N> {
    /// The token, or `None` when it is empty, longer than `N` bytes or not printable ASCII.
    #[must_use]
    pub fn new(text: &[u8]) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= N && text.iter().all(u8::is_ascii_graphic);
        if !fits {
            return None;
        }
        let mut bytes = [0; N];
        bytes[..text.len()].copy_from_slice(text);
        Some(Self {
            len: text.len() as u8,
            bytes,
        })
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("checked to be ASCII when made")
    }
}

impl<const N: usize> From<Token<N>> for String {
    fn from(token: Token<N>) -> Self {
        token.as_str().to_owned()
    }
}

impl<const N: usize> TryFrom<String> for Token<N> {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text.as_bytes()).ok_or("a token is empty, too long or not printable ASCII")
    }
}

impl<const N: usize> fmt::Debug for Token<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// Media identification tag.
pub type Mid = Token<MID_BYTES_MAX>;
/// Restriction identifier of a simulcast rendition.
pub type Rid = Token<RID_BYTES_MAX>;

/// An `a=ssrc` the offer announced, with its retransmission source if grouped (`FID`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnouncedSsrc {
    /// The media source.
    pub ssrc: u32,
    /// Its retransmissions.
    pub rtx: Option<u32>,
}

/// One media section in use. Sections that were rejected are not in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaPlan {
    /// Its tag.
    pub mid: Mid,
    /// Audio or video.
    pub kind: MediaKind,
    /// The peer sends to us.
    pub receive: bool,
    /// We send to the peer.
    pub send: bool,
    /// Codecs agreed, in order of preference; never empty. Behind them stand telephone events, if those are agreed.
    pub codecs: Vec<CodecPlan>,
    /// Header extensions agreed.
    pub extensions: ExtensionIds,
    /// Sources the offer announced.
    pub ssrcs: Vec<AnnouncedSsrc>,
    /// Simulcast renditions the peer sends: the one we took of its offer; empty without simulcast.
    pub rids: Vec<Rid>,
}

impl MediaPlan {
    /// The telephone events agreed, if any: of several those on the clock of the first codec.
    #[must_use]
    pub fn events(&self) -> Option<Codec> {
        let mut events = self.codecs.iter().filter(|it| it.codec.is_event());
        events.next().map(|it| it.codec)
    }
}

/// All a session must know of an answered offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPlan {
    /// The peer's ICE credentials.
    pub remote_ice: IceCredentials,
    /// The peer's certificate hash.
    pub remote_fingerprint: Fingerprint,
    /// Our side of the handshake.
    pub dtls_role: DtlsRole,
    /// Reduced-size RTCP was agreed (RFC 5506).
    pub reduced_size_rtcp: bool,
    /// Media sections in use, in the offer's order.
    pub media: Vec<MediaPlan>,
}

impl SessionPlan {
    /// The section in which a call with an agent talks, and its number: the first that carries sound both ways.
    #[must_use]
    pub fn talk(&self) -> Option<(u8, &MediaPlan)> {
        let mut sections = (0..).zip(&self.media);
        sections.find(|(_, media)| media.kind == MediaKind::Audio && media.send && media.receive)
    }
}

/// What we contribute to one media section we send in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalSource {
    /// Synchronisation source of what we send.
    pub ssrc: u32,
    /// That of our retransmissions, when a codec of the section has them.
    pub rtx: Option<u32>,
}

/// Our half of the description, chosen by the shard when it opens the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalDescription {
    /// Our ICE credentials.
    pub ice: IceCredentials,
    /// Our certificate's hash.
    pub fingerprint: Fingerprint,
    /// One entry a [`MediaPlan`], in the same order; `None` where we do not send.
    pub sources: Vec<Option<LocalSource>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(kind: MediaKind, receive: bool, send: bool, codecs: &[Codec]) -> MediaPlan {
        let codec = |codec: &Codec| CodecPlan {
            payload_type: 100,
            codec: *codec,
            rtx_payload_type: None,
            feedback: Feedback::default(),
        };
        MediaPlan {
            mid: Mid::new(b"0").expect("printable"),
            kind,
            receive,
            send,
            codecs: codecs.iter().map(codec).collect(),
            extensions: ExtensionIds::default(),
            ssrcs: Vec::new(),
            rids: Vec::new(),
        }
    }

    /// What a program is told of keys is of the section that its call takes.
    #[test]
    fn a_call_talks_in_the_first_section_of_sound_both_ways() {
        let event = Codec::TelephoneEvent(Rate::Hz48000);
        let mut plan = SessionPlan {
            remote_ice: IceCredentials {
                ufrag: String::new(),
                password: String::new(),
            },
            remote_fingerprint: Fingerprint([0; 32]),
            dtls_role: DtlsRole::Server,
            reduced_size_rtcp: true,
            media: vec![
                section(MediaKind::Audio, true, false, &[Codec::Opus, event]),
                section(MediaKind::Audio, false, true, &[Codec::Opus, event]),
                section(MediaKind::Video, true, true, &[Codec::Vp8]),
            ],
        };
        assert_eq!(plan.talk(), None);
        plan.media
            .push(section(MediaKind::Audio, true, true, &[Codec::Opus]));
        plan.media
            .push(section(MediaKind::Audio, true, true, &[Codec::Opus, event]));
        let (section, media) = plan.talk().expect("there is one");
        assert_eq!((section, media.events()), (3, None));
    }
}
