//! What a replay found: plain figures, for a table or for a machine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::Pace;

/// One direction between two addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Who sent.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
}

impl Flow {
    /// The other direction.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
        }
    }

    /// From the lower address to the higher.
    pub(super) fn is_upward(self) -> bool {
        self.source <= self.destination
    }

    /// The same for both directions.
    pub(super) fn pair(self) -> (SocketAddr, SocketAddr) {
        let (one, other) = (self.source, self.destination);
        (one.min(other), one.max(other))
    }
}

/// Why a frame or datagram tells nothing of media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Skip {
    /// A frame of an interface that the file did not describe, or secrets of another kind than TLS's.
    UnusableRecord,
    /// A link type that is not read.
    LinkType,
    /// Not IP: ARP and the like, or too short to tell.
    NotIp,
    /// An IP header that contradicts itself, or is cut.
    MalformedIp,
    /// TCP. Media over it is not followed.
    Tcp,
    /// ICMP.
    Icmp,
    /// Another protocol over IP.
    OtherTransport,
    /// A UDP header that contradicts itself, or is cut.
    MalformedUdp,
    /// A piece of an IP packet that the capture cut.
    FragmentCut,
    /// A piece of an IP packet that fits nothing.
    FragmentUnusable,
    /// A piece of an IP packet of which another never came.
    FragmentAlone,
    /// Like RTP by its first bytes, with a header that runs over its end.
    MalformedRtp,
    /// Like RTP, but alone: no second packet of its source came, and nothing else between the two addresses
    /// suggests media.
    RtpAlone,
    /// RTP of one source more than are followed.
    RtpBeyondLimit,
}

impl Skip {
    /// Snake-case name, as the JSON report shows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnusableRecord => "unusable_record",
            Self::LinkType => "link_type",
            Self::NotIp => "not_ip",
            Self::MalformedIp => "malformed_ip",
            Self::Tcp => "tcp",
            Self::Icmp => "icmp",
            Self::OtherTransport => "other_transport",
            Self::MalformedUdp => "malformed_udp",
            Self::FragmentCut => "fragment_cut",
            Self::FragmentUnusable => "fragment_unusable",
            Self::FragmentAlone => "fragment_alone",
            Self::MalformedRtp => "malformed_rtp",
            Self::RtpAlone => "rtp_alone",
            Self::RtpBeyondLimit => "rtp_beyond_limit",
        }
    }
}

/// One RTP source from one address to another.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamReport {
    /// Synchronisation source. Zero is a source like any other.
    pub ssrc: u32,
    /// Between whom.
    pub flow: Flow,
    /// Packets of each payload type.
    pub payload_types: BTreeMap<u8, u64>,
    /// Timestamp units a second, where the payload type or the user tells. Of several: that of the most packets.
    pub clock_rate: Option<u32>,
    /// Packets that came, copies included.
    pub packets: u64,
    /// Different sequence numbers that came.
    pub unique: u64,
    /// Packets whose number had come before.
    pub duplicates: u64,
    /// Packets that came after one with a higher number.
    pub late: u64,
    /// Numbers between the lowest and the highest that never came.
    pub missing: u64,
    /// Packets expected: from the first number that came to the highest (RFC 3550 §A.3).
    pub expected: u64,
    /// Expected less received (RFC 3550 §A.3). Copies count as received, so it may be negative.
    pub lost: i64,
    /// Number of the first packet.
    pub first_sequence: u16,
    /// Highest number, without its cycles.
    pub highest_sequence: u16,
    /// Times the number has wrapped.
    pub cycles: u64,
    /// Times the numbers jumped so far that they were taken as a new beginning (RFC 3550 §A.1); what lies between
    /// is neither expected nor missing.
    pub restarts: u64,
    /// Packets far from all others, of which nothing followed.
    pub strays: u64,
    /// Packets with the marker bit.
    pub markers: u64,
    /// Bytes of RTP as sent, headers included.
    pub bytes: u64,
    /// Packets the capture cut.
    pub truncated: u64,
    /// Interarrival jitter in timestamp units (RFC 3550 §A.8), over every packet of the clock above in the order
    /// it came; `None`: no clock, or no arrival times to measure.
    pub jitter: Option<f64>,
    /// From the first arrival to the last.
    pub duration: Option<Duration>,
    /// RTP bits a second over that time.
    pub bitrate: Option<u64>,
    /// Runs of at least two packets; one begins with a marker, or after media time of which no packet came. Audio
    /// of a known clock only.
    pub talk_spurts: Option<u64>,
    /// Packets that were opened with a key.
    pub opened: u64,
}

/// How SRTP fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SrtpReport {
    /// Keys in use, one a direction.
    pub keys: u64,
    /// RTP packets opened.
    pub rtp_opened: u64,
    /// RTCP datagrams opened.
    pub rtcp_opened: u64,
    /// RTP and RTCP that came again, or too late to tell.
    pub replayed: u64,
    /// RTP and RTCP that the key of their flow does not open.
    pub refused: u64,
    /// RTP and RTCP of flows that no key opens.
    pub unkeyed: u64,
    /// RTP and RTCP that the capture cut: nobody can open those.
    pub truncated: u64,
    /// Secrets in key logs, in those of the file too.
    pub secrets: u64,
    /// DTLS handshakes seen.
    pub handshakes: u64,
    /// Of those, the ones that agreed on SRTP and whose secret is in no key log.
    pub secrets_missing: u64,
    /// Of those, the ones of another version than 1.2 or without SRTP.
    pub handshakes_unusable: u64,
}

/// The capture as a whole. A datagram is sorted by its first bytes (RFC 7983), so in captures of other traffic
/// the names mean no more than that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Frames read.
    pub frames: u64,
    /// UDP datagrams, those put together again included.
    pub udp: u64,
    /// STUN, by its magic cookie.
    pub stun: u64,
    /// First byte of DTLS.
    pub dtls: u64,
    /// First bytes of RTP.
    pub rtp: u64,
    /// First bytes of RTCP.
    pub rtcp: u64,
    /// First byte of TURN's channel messages, which are not looked into.
    pub turn_channel: u64,
    /// Everything else.
    pub other_udp: u64,
    /// Datagrams that the capture cut.
    pub truncated_udp: u64,
    /// Frames that were a piece of a datagram.
    pub fragments: u64,
    /// Datagrams put together from pieces.
    pub reassembled: u64,
    /// Frames lost by whoever captured, as the file tells.
    pub capture_dropped: u64,
    /// What tells nothing of media, by reason; no zeroes.
    pub skipped: BTreeMap<Skip, u64>,
    /// SRTP.
    pub srtp: SrtpReport,
    /// Frames stamped earlier than one before them.
    pub stamps_back: u64,
    /// The furthest of those.
    pub stamp_back_max: Duration,
    /// Simulated time from the first frame to the last; it never went back.
    pub duration: Duration,
}

/// All that a replay found.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Which clock gave the arrival times.
    pub pace: Pace,
    /// In the order in which they appeared.
    pub streams: Vec<StreamReport>,
    /// The capture as a whole.
    pub totals: Totals,
}
