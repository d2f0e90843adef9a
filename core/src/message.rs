//! What crosses between the server and a shard: commands in, events out. Both lanes are reliable and ordered.
//! What crosses between shards is in [`relay`](crate::relay).

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use crate::delays::{Bounds, Delays};
use crate::ids::{ParticipantId, RequestId, RoomId, SessionId, ShardId};
use crate::jitter::JitterStats;
use crate::limits::SESSION_MEDIA_MAX;
use crate::plan::{Codec, IceCredentials, LocalDescription, MediaKind, Mid, SessionPlan};
use crate::time::Timestamp;
use crate::voice::message::{AgentAsk, AgentPlan, Heard};

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Its own media comes back to it.
    Echo,
    /// It publishes as a participant of a room. At most one session publishes for a participant; a new
    /// one replaces the old, which is closed with [`CloseReason::Replaced`].
    Publish {
        /// The room.
        room: RoomId,
        /// Who publishes.
        participant: ParticipantId,
    },
    /// It receives the tracks of one participant, or of whoever published last.
    Subscribe {
        /// The room.
        room: RoomId,
        /// Whose tracks.
        target: Target,
    },
    /// It receives one track of Opus with everybody of a room in it, mixed here.
    Mix {
        /// The room.
        room: RoomId,
        /// Who is left out: the listener itself.
        own: Option<ParticipantId>,
    },
    /// It talks with a program: what it says is heard for the program and told in [`Event::Heard`], and what the
    /// program says comes in [`Command::Agent`].
    Agent(AgentPlan),
    /// As [`Subscribe`](Self::Subscribe), in a room whose publishers are on another shard.
    SubscribeRemote {
        /// The room.
        room: RoomId,
        /// Whose tracks.
        target: Target,
        /// The shard of the room's publishers.
        home: ShardId,
    },
}

impl Role {
    /// The same for a session on `shard`, of a room whose publishers are on `home`. Only subscribers may be elsewhere.
    #[must_use]
    pub fn on(self, shard: ShardId, home: ShardId) -> Self {
        match self {
            Self::Subscribe { room, target } if shard != home => {
                Self::SubscribeRemote { room, target, home }
            }
            role => role,
        }
    }
}

/// Whose tracks a subscription follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// This participant, through absences.
    Participant(ParticipantId),
    /// The participant who began publishing last and is still there.
    Newest,
}

/// Server to shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Opens a session; answered by [`Event::Opened`] or [`Event::Rejected`].
    Open {
        /// Ties the answer to this command.
        request: RequestId,
        /// What was negotiated.
        plan: Box<SessionPlan>,
        /// What it is for.
        role: Role,
    },
    /// Restarts ICE with the peer's new credentials; answered by [`Event::Restarted`] or
    /// [`Event::Rejected`]. Media goes on over the old path until the new one is up.
    Restart {
        /// Ties the answer to this command.
        request: RequestId,
        /// Which session.
        session: SessionId,
        /// The peer's new credentials.
        remote_ice: IceCredentials,
    },
    /// Ends a session with BYE and close_notify; answered by [`Event::Closed`]. Unknown sessions are
    /// ignored: the event is already on its way.
    Close {
        /// Which session.
        session: SessionId,
        /// Why; passed on in the event.
        reason: CloseReason,
    },
    /// Something that the program at the other end of a call asks for. Ignored for a session that is none's or gone.
    Agent {
        /// Which session.
        session: SessionId,
        /// What.
        ask: AgentAsk,
    },
    /// Asks for a session's statistics; answered by [`Event::SessionStats`] or [`Event::Rejected`].
    SessionStats {
        /// Ties the answer to this command.
        request: RequestId,
        /// Which session.
        session: SessionId,
    },
    /// Asks for the shard's statistics; answered by [`Event::ShardStats`].
    ShardStats {
        /// Ties the answer to this command.
        request: RequestId,
    },
}

impl Command {
    /// The same, with silence in the place of what is said, and zeros in that of keys that are pressed.
    #[must_use]
    pub fn with_silence(&self) -> Cow<'_, Self> {
        let Self::Agent { session, ask } = self else {
            return Cow::Borrowed(self);
        };
        let mut ask = match ask {
            AgentAsk::Say { .. } | AgentAsk::Dtmf { .. } => ask.clone(),
            _ => return Cow::Borrowed(self),
        };
        match &mut ask {
            AgentAsk::Say { pcm, .. } => pcm.fill(0),
            AgentAsk::Dtmf { digits } => *digits = "0".repeat(digits.chars().count()),
            _ => {}
        }
        let session = *session;
        Cow::Owned(Self::Agent { session, ask })
    }
}

/// Shard to server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// A session is ready for the peer's first check.
    Opened {
        /// The command answered.
        request: RequestId,
        /// The new session.
        session: SessionId,
        /// Our half of the description.
        local: Box<LocalDescription>,
    },
    /// A command failed and changed nothing.
    Rejected {
        /// The command answered.
        request: RequestId,
        /// Why.
        error: CommandError,
    },
    /// ICE was restarted.
    Restarted {
        /// The command answered.
        request: RequestId,
        /// Our new credentials.
        ice: IceCredentials,
    },
    /// The handshake finished: media can flow.
    Connected {
        /// Which session.
        session: SessionId,
        /// SRTP protection profile agreed.
        profile: ProfileName,
        /// From `Open` to now.
        setup: Duration,
    },
    /// The first packet of a track arrived (again, after it was removed).
    TrackAdded {
        /// The publishing session.
        session: SessionId,
        /// Its media section.
        mid: Mid,
        /// Audio or video.
        kind: MediaKind,
        /// Its codec.
        codec: Codec,
    },
    /// A track ended: its source said BYE, or its session ended.
    TrackRemoved {
        /// The publishing session.
        session: SessionId,
        /// Its media section.
        mid: Mid,
    },
    /// Another participant speaks loudest now; `None` when all are silent.
    ActiveSpeaker {
        /// The room.
        room: RoomId,
        /// Who.
        participant: Option<ParticipantId>,
    },
    /// Something that the program at the other end of a call is to know. See [`Event::may_be_lost`].
    Heard {
        /// Which session.
        session: SessionId,
        /// What.
        heard: Heard,
    },
    /// A session ended; its id is dead. Sent exactly once for each `Opened`.
    Closed {
        /// Which session.
        session: SessionId,
        /// Why.
        reason: CloseReason,
    },
    /// Answers [`Command::SessionStats`].
    SessionStats {
        /// The command answered.
        request: RequestId,
        /// The figures.
        stats: Box<SessionStats>,
    },
    /// Answers [`Command::ShardStats`].
    ShardStats {
        /// The command answered.
        request: RequestId,
        /// The figures.
        stats: Box<ShardStats>,
    },
}

impl Event {
    /// Whose it is, as far as it says so itself.
    #[must_use]
    pub const fn session(&self) -> Option<SessionId> {
        match self {
            Self::Opened { session, .. }
            | Self::Connected { session, .. }
            | Self::TrackAdded { session, .. }
            | Self::TrackRemoved { session, .. }
            | Self::Heard { session, .. }
            | Self::Closed { session, .. } => Some(*session),
            _ => None,
        }
    }

    /// Whether a server that does not keep up may lose it: sound, of which 50 events a second and call come. All
    /// others must arrive.
    #[must_use]
    pub const fn may_be_lost(&self) -> bool {
        matches!(
            self,
            Self::Heard {
                heard: Heard::Audio { .. },
                ..
            }
        )
    }

    /// The same, with a hash in the place of sound: a journal need not hold what a replay makes again.
    #[must_use]
    pub fn with_sound_hashed(&self) -> Cow<'_, Self> {
        let mut hashed = Cow::Borrowed(self);
        if self.may_be_lost()
            && let Self::Heard {
                heard: Heard::Audio { pcm, .. },
                ..
            } = hashed.to_mut()
        {
            *pcm = XxHash3_128::oneshot(pcm).to_le_bytes().to_vec();
        }
        hashed
    }

    /// The same for a journal that is to hold nothing of what was said: as [`Self::with_sound_hashed`], and with a
    /// zero in the place of a key that was pressed.
    #[must_use]
    pub fn with_nothing_said(&self) -> Cow<'_, Self> {
        let mut silent = self.with_sound_hashed();
        if matches!(
            self,
            Self::Heard {
                heard: Heard::Dtmf { .. },
                ..
            }
        ) && let Self::Heard {
            heard: Heard::Dtmf { digit, .. },
            ..
        } = silent.to_mut()
        {
            *digit = '0';
        }
        silent
    }

    /// The request that it answers.
    #[must_use]
    pub const fn request(&self) -> Option<RequestId> {
        match self {
            Self::Opened { request, .. }
            | Self::Rejected { request, .. }
            | Self::Restarted { request, .. }
            | Self::SessionStats { request, .. }
            | Self::ShardStats { request, .. } => Some(*request),
            _ => None,
        }
    }
}

/// Why a command failed. Blames the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CommandError {
    /// As many sessions as configured exist.
    #[error("the shard holds its maximum of {max} sessions")]
    SessionsExhausted {
        /// The configured maximum.
        max: u32,
    },
    /// No such session, or no longer.
    #[error("no such session")]
    UnknownSession,
    /// The shard drains: it opens nothing more.
    #[error("the shard is draining")]
    Draining,
    /// The plan breaks a limit that negotiation should have kept.
    #[error("the plan breaks a limit: {0}")]
    InvalidPlan(PlanFlaw),
}

/// What a plan breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PlanFlaw {
    /// Too few or too many media sections.
    #[error("media sections must be 1 to {SESSION_MEDIA_MAX}")]
    Sections,
    /// A section that can carry nothing.
    #[error("a media section has no codec")]
    NoCodec,
}

/// Why a session ended; names who ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CloseReason {
    /// The API asked for it (DELETE).
    Requested,
    /// The server stops.
    Shutdown,
    /// The peer ended DTLS.
    PeerClosed,
    /// It never connected in time.
    SetupTimeout,
    /// No authenticated check in time (RFC 7675).
    ConsentExpired,
    /// The peer's certificate is not the one its description named.
    FingerprintMismatch,
    /// The DTLS handshake failed.
    HandshakeFailed,
    /// A key reached its limit of packets.
    KeyExhausted,
    /// A new session publishes for the same participant.
    Replaced,
    /// Our bug: the session panicked and was removed.
    Fault,
}

impl CloseReason {
    /// Snake-case name, as the API and metrics show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Shutdown => "shutdown",
            Self::PeerClosed => "peer_closed",
            Self::SetupTimeout => "setup_timeout",
            Self::ConsentExpired => "consent_expired",
            Self::FingerprintMismatch => "fingerprint_mismatch",
            Self::HandshakeFailed => "handshake_failed",
            Self::KeyExhausted => "key_exhausted",
            Self::Replaced => "replaced",
            Self::Fault => "fault",
        }
    }
}

/// SRTP protection profile (RFC 5764, RFC 7714).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProfileName {
    /// `AEAD_AES_256_GCM`.
    AeadAes256Gcm,
    /// `AEAD_AES_128_GCM`.
    AeadAes128Gcm,
    /// `AES128_CM_SHA1_80`.
    Aes128CmSha1_80,
}

impl ProfileName {
    /// Registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::Aes128CmSha1_80 => "AES128_CM_SHA1_80",
        }
    }
}

/// One direction of one track of a session. Counts are since the session began.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackStats {
    /// Media section.
    pub mid: Mid,
    /// Audio or video.
    pub kind: MediaKind,
    /// Codec in use; `None` before the first packet.
    pub codec: Option<Codec>,
    /// From the peer to us (else from us to the peer).
    pub inbound: bool,
    /// Synchronisation source.
    pub ssrc: u32,
    /// RTP packets, retransmissions not counted.
    pub packets: u64,
    /// RTP payload bytes.
    pub bytes: u64,
    /// Payload bits a second over the last full second.
    pub bitrate: u64,
    /// Inbound: RFC 3550 cumulative loss as we count it; outbound: as the peer last reported it.
    pub lost: i64,
    /// Inbound: RFC 3550 A.8 jitter; outbound: as the peer last reported it.
    pub jitter: Duration,
    /// NACK messages: sent when inbound, received when outbound.
    pub nacks: u64,
    /// Packets recovered by (inbound) or sent as (outbound) retransmission.
    pub retransmissions: u64,
    /// Keyframe requests: sent when inbound, received when outbound.
    pub keyframe_requests: u64,
}

/// One session's figures at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionStats {
    /// When they were taken.
    pub at: Timestamp,
    /// Since the session was opened.
    pub age: Duration,
    /// Whether media can flow.
    pub connected: bool,
    /// Round trip to the peer, from its reports; `None` before the first.
    pub round_trip: Option<Duration>,
    /// SRTP profile; `None` before the handshake.
    pub profile: Option<ProfileName>,
    /// Authenticated SRTP and SRTCP datagrams received.
    pub packets_received: u64,
    /// RTP packets sent, retransmissions included.
    pub packets_sent: u64,
    /// Each track and direction.
    pub tracks: Vec<TrackStats>,
    /// What the jitter buffer did with what the person said; `None`: it is no call with an agent, or nothing came.
    pub jitter_buffer: Option<JitterStats>,
}

/// Why a datagram was refused. Blames the peer or the network: a counter each, never an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
#[non_exhaustive]
pub enum DropReason {
    /// Empty, or its first byte is no protocol of ours (RFC 7983).
    Unclassified,
    /// STUN that does not parse.
    MalformedStun,
    /// STUN for no session of ours.
    UnknownUfrag,
    /// STUN whose integrity check failed, or that the agent refused.
    UnauthenticatedStun,
    /// DTLS, RTP or RTCP from a source that proved nothing.
    UnknownSource,
    /// DTLS that the handshake refused.
    RefusedDtls,
    /// RTP or RTCP before the keys.
    NoKeysYet,
    /// RTP that does not parse.
    MalformedRtp,
    /// RTCP that does not parse, once opened.
    MalformedRtcp,
    /// SRTP or SRTCP whose authentication failed.
    AuthenticationFailed,
    /// SRTP or SRTCP received before, or older than the window.
    Replayed,
    /// RTP of a source that belongs to no media section, or one too many.
    UnknownSsrc,
    /// RTP of a payload type that was not agreed.
    UnknownPayloadType,
    /// A retransmission of nothing that was asked for, or of something already here.
    UselessRetransmission,
}

impl DropReason {
    /// Every reason, in order of its number.
    pub const ALL: [Self; 14] = [
        Self::Unclassified,
        Self::MalformedStun,
        Self::UnknownUfrag,
        Self::UnauthenticatedStun,
        Self::UnknownSource,
        Self::RefusedDtls,
        Self::NoKeysYet,
        Self::MalformedRtp,
        Self::MalformedRtcp,
        Self::AuthenticationFailed,
        Self::Replayed,
        Self::UnknownSsrc,
        Self::UnknownPayloadType,
        Self::UselessRetransmission,
    ];

    /// Snake-case name, as metrics show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unclassified => "unclassified",
            Self::MalformedStun => "malformed_stun",
            Self::UnknownUfrag => "unknown_ufrag",
            Self::UnauthenticatedStun => "unauthenticated_stun",
            Self::UnknownSource => "unknown_source",
            Self::RefusedDtls => "refused_dtls",
            Self::NoKeysYet => "no_keys_yet",
            Self::MalformedRtp => "malformed_rtp",
            Self::MalformedRtcp => "malformed_rtcp",
            Self::AuthenticationFailed => "authentication_failed",
            Self::Replayed => "replayed",
            Self::UnknownSsrc => "unknown_ssrc",
            Self::UnknownPayloadType => "unknown_payload_type",
            Self::UselessRetransmission => "useless_retransmission",
        }
    }
}

/// Bounds of [`ShardStats::forward_delay`], in microseconds.
pub const FORWARD_DELAY_BOUNDS: Bounds = [
    10, 20, 50, 100, 150, 200, 300, 400, 600, 800, 1_000, 2_000, 5_000, 10_000, 50_000,
];

/// Bounds of the delays of [`VoiceStats`], in microseconds: among them what is wanted of them (2, 25, 60, 130 and
/// 300 ms).
pub const VOICE_DELAY_BOUNDS: Bounds = [
    100, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 25_000, 40_000, 60_000, 100_000, 130_000,
    200_000, 300_000, 500_000,
];

/// What a shard's calls with agents came to. Times are within [`VOICE_DELAY_BOUNDS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoiceStats {
    /// Frames of 10 ms that were heard.
    pub frames_heard: u64,
    /// Packets that agents said.
    pub packets_spoken: u64,
    /// Packets of mixed rooms, one for each listener.
    pub packets_mixed: u64,
    /// Keys that were not told, as people pressed more than they can:
    /// [`HEARD_KEYS_INTERVAL`](crate::limits::HEARD_KEYS_INTERVAL).
    pub keys_dropped: u64,
    /// From the arrival of a packet to its sound being told to the agent; a batch counts by its oldest sound.
    pub hearing: Delays,
    /// From when a packet of the agent's was due to its being sent; due is when its first sound came, and 20 ms each
    /// from there.
    pub speaking: Delays,
    /// Processor time of 20 ms that were heard: decoding, analysis, decision. The mean of a turn of the pump, by the
    /// clock, so that it holds what kept the thread from running.
    pub processing: Delays,
    /// From the onset of a voice while the agent spoke to the agent's being ducked.
    pub ducking: Delays,
    /// From the onset of an interruption to the agent's last packet.
    pub interruption: Delays,
}

/// One shard's figures: cumulative since its start, absolute, so that a lost copy costs only staleness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardStats {
    /// Sessions now.
    pub sessions: u32,
    /// Sessions now whose handshake is done.
    pub sessions_connected: u32,
    /// Sessions opened.
    pub sessions_opened: u64,
    /// Sessions ended by our own bug.
    pub faults: u64,
    /// Handshakes finished with each profile, in the order of [`ProfileName`].
    pub profiles: [u64; 3],
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Datagrams handed to the socket.
    pub datagrams_sent: u64,
    /// Authenticated RTP packets received.
    pub rtp_received: u64,
    /// RTP packets sent, retransmissions included.
    pub rtp_sent: u64,
    /// Packets sent again.
    pub retransmissions_sent: u64,
    /// NACK messages sent.
    pub nacks_sent: u64,
    /// Keyframe requests sent upstream.
    pub keyframe_requests_sent: u64,
    /// Media transmits dropped because the socket stayed full.
    pub transmits_dropped: u64,
    /// Datagrams refused, by [`DropReason`] number.
    pub drops: [u64; DropReason::ALL.len()],
    /// Times a timer woke a session.
    pub timeouts: u64,
    /// Inputs stamped earlier than one before them: a clock that goes back is the driver's fault.
    pub clock_steps_back: u64,
    /// Forwarded packets by time from the kernel's receive stamp to the return of the send call; bounds
    /// From the kernel's receive stamp of a packet to the return of the send call of what it caused, within
    /// [`FORWARD_DELAY_BOUNDS`].
    pub forward_delay: Delays,
    /// Of its calls with agents.
    pub voice: VoiceStats,
}
