//! Why a description was refused: the line, the limit, and what to change.

use std::fmt;
use std::num::NonZeroU32;

use thiserror::Error;

use crate::limits::{MID_BYTES_MAX, SDP_BYTES_MAX};
use crate::plan::{MediaKind, Mid};

/// A refused offer or fragment. Shown, it is one sentence that tells the peer's developer what to
/// change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SdpError {
    line: Option<NonZeroU32>,
    mid: Option<Mid>,
    fault: Fault,
}

/// Whose mistake a refusal is, for the HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SdpErrorKind {
    /// Not what RFC 8866 and its attributes allow: 400.
    Malformed,
    /// Beyond a limit of ours: 413.
    TooLarge,
    /// Well-formed, but nothing we can do: 422.
    Unsupported,
}

impl SdpError {
    /// For the HTTP status.
    #[must_use]
    pub const fn kind(&self) -> SdpErrorKind {
        self.fault.kind()
    }

    /// The line at fault, counted from 1; `None` when the description as a whole is.
    #[must_use]
    pub fn line(&self) -> Option<u32> {
        self.line.map(NonZeroU32::get)
    }

    /// The media section at fault, when it has a tag and the fault is found in the negotiation.
    #[must_use]
    pub const fn mid(&self) -> Option<Mid> {
        self.mid
    }

    pub(super) const fn at(line: u32, fault: Fault) -> Self {
        Self {
            line: NonZeroU32::new(line),
            mid: None,
            fault,
        }
    }

    pub(super) const fn whole(fault: Fault) -> Self {
        Self {
            line: None,
            mid: None,
            fault,
        }
    }

    pub(super) const fn section(line: u32, mid: Option<Mid>, fault: Fault) -> Self {
        Self {
            line: NonZeroU32::new(line),
            mid,
            fault,
        }
    }
}

impl fmt::Display for SdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.mid) {
            (Some(line), Some(mid)) => write!(f, "line {line} (mid {}): ", mid.as_str())?,
            (Some(line), None) => write!(f, "line {line}: ")?,
            (None, _) => {}
        }
        self.fault.fmt(f)
    }
}

impl std::error::Error for SdpError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Fault {
    #[error("more than {SDP_BYTES_MAX} bytes (limit {SDP_BYTES_MAX}); send a shorter description")]
    Bytes,
    #[error("more than {limit} {what} (limit {limit}); send fewer")]
    Limit { what: &'static str, limit: usize },

    #[error("empty; send a session description")]
    Empty,
    #[error("not UTF-8 text; send UTF-8")]
    NotText,
    #[error("control character in a line; remove it")]
    ControlCharacter,
    #[error("not of the form x=value; start each line with a letter and an equals sign")]
    LineForm,
    #[error("a session description starts with v=0; send that first")]
    Version,
    #[error("m= wants media, port, protocol and formats; send all four")]
    MediaLine,
    #[error("port is not a number of 0 to 65535; send one that is")]
    Port,
    #[error("payload type is not a number of 0 to 127; send one that is")]
    PayloadType,
    #[error("a=mid wants 1 to {MID_BYTES_MAX} printable characters; shorten it")]
    MidForm,
    #[error("a=mid is that of an earlier section; give each section its own")]
    MidTwice,
    #[error("a=group:BUNDLE names a mid that no section has; name only sections of this offer")]
    BundleUnknown,
    #[error("a=ice-ufrag wants 4 to 256 letters, digits, + or /; send such a one")]
    Ufrag,
    #[error("a=ice-pwd wants 22 to 256 letters, digits, + or /; send such a one")]
    Password,
    #[error("a=ice-ufrag and a=ice-pwd go together; send both or neither")]
    HalfCredentials,
    #[error("a=fingerprint wants {bytes} bytes in hexadecimal for {hash}; send all of them")]
    Fingerprint { hash: &'static str, bytes: usize },
    #[error("a=setup is not actpass, active, passive or holdconn; send actpass")]
    Setup,
    #[error("a=ssrc is not a number of 32 bits; send one that is")]
    Ssrc,

    #[error("no audio or video section; offer at least one")]
    NoMedia,
    #[error("no audio section; a call with an agent needs one")]
    NoAudio,
    #[error("a={offered} is one way; a call with an agent needs a=sendrecv")]
    OneWay { offered: &'static str },
    #[error("protocol is not SRTP keyed by DTLS; offer UDP/TLS/RTP/SAVPF")]
    Protocol,
    #[error("keys in a=crypto (SDES) are not accepted; offer DTLS with a=fingerprint:sha-256")]
    Sdes,
    #[error("no a=fingerprint:sha-256; offer one")]
    NoFingerprint,
    #[error("no a=ice-ufrag and a=ice-pwd; offer ICE")]
    NoIce,
    #[error("a=ice-lite on both sides cannot connect and this server is lite; offer full ICE")]
    IceLite,
    #[error("a=setup:holdconn cannot connect; offer a=setup:actpass")]
    HoldConnection,
    #[error("no a=rtcp-mux; offer it: this server has one port")]
    NoRtcpMux,
    #[error(
        "not in one a=group:BUNDLE with the other sections; bundle all (bundlePolicy max-bundle): \
         this server has one port"
    )]
    NotBundled,
    #[error("a second a=group:BUNDLE; put all sections into one")]
    SecondBundle,
    #[error(
        "a={offered} sends nothing; to publish or to hear an echo offer a=sendonly or a=sendrecv"
    )]
    NothingSent { offered: &'static str },
    #[error("a=sendonly receives nothing; to subscribe offer a=recvonly")]
    NothingReceived,
    #[error("every section is inactive; to subscribe offer a=recvonly")]
    NothingActive,
    #[error("a second {} section; send at most one audio and one video", .0.name())]
    SecondOfKind(MediaKind),
    #[error("a=msid names another stream than an earlier section; send tracks of one MediaStream")]
    SecondStream,
    #[error("no {} codec that this server handles; offer {}", .0.name(), kind_codecs(*.0))]
    NoCodec(MediaKind),
}

impl Fault {
    const fn kind(self) -> SdpErrorKind {
        match self {
            Self::Bytes | Self::Limit { .. } => SdpErrorKind::TooLarge,
            Self::Empty
            | Self::NotText
            | Self::ControlCharacter
            | Self::LineForm
            | Self::Version
            | Self::MediaLine
            | Self::Port
            | Self::PayloadType
            | Self::MidForm
            | Self::MidTwice
            | Self::BundleUnknown
            | Self::Ufrag
            | Self::Password
            | Self::HalfCredentials
            | Self::Fingerprint { .. }
            | Self::Setup
            | Self::Ssrc => SdpErrorKind::Malformed,
            Self::NoMedia
            | Self::NoAudio
            | Self::OneWay { .. }
            | Self::Protocol
            | Self::Sdes
            | Self::NoFingerprint
            | Self::NoIce
            | Self::IceLite
            | Self::HoldConnection
            | Self::NoRtcpMux
            | Self::NotBundled
            | Self::SecondBundle
            | Self::NothingSent { .. }
            | Self::NothingReceived
            | Self::NothingActive
            | Self::SecondOfKind(_)
            | Self::SecondStream
            | Self::NoCodec(_) => SdpErrorKind::Unsupported,
        }
    }
}

const fn kind_codecs(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "opus, PCMU or PCMA",
        MediaKind::Video => "VP8, VP9, H264 or AV1",
    }
}
