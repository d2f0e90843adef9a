//! Every limit of the core, with its unit and its reason. Relations among them are checked at compile time.

use std::time::Duration;

// --- Driver batches ---

/// Bytes of one receive slot: a run of coalesced datagrams (GRO gives at most 64 KiB), or one datagram.
pub const RECV_SLOT_BYTES: usize = 65_536;
/// Slots of one receive batch: `recvmmsg` gains nothing beyond 64.
pub const RECV_SLOTS: usize = 64;
/// Transmits waiting for the socket: a keyframe of 64 packets to 256 subscribers.
pub const TRANSMITS_MAX: usize = 16_384;
/// Bytes of waiting transmits: [`TRANSMITS_MAX`] of them at 1,200 bytes, rounded up.
pub const TRANSMIT_ARENA_BYTES_MAX: usize = 24 << 20;
/// Receive batches handled in one turn before the driver must yield.
pub const RECV_BATCHES_PER_TURN_MAX: usize = 8;
/// Commands handled in one turn, so that a burst of joins cannot starve media.
pub const COMMANDS_PER_TURN_MAX: usize = 64;

// --- Lanes ---

/// Commands waiting for a shard. A full lane is a 503 to the caller.
pub const COMMANDS_MAX: usize = 1_024;
/// Events waiting for the server.
pub const EVENTS_MAX: usize = 65_536;

// --- Session description (a peer's offer; enforced by `sdp`) ---

/// Bytes of an offer.
pub const SDP_BYTES_MAX: usize = 64 << 10;
/// Lines of an offer.
pub const SDP_LINES_MAX: usize = 2_000;
/// Bytes of one line.
pub const SDP_LINE_BYTES_MAX: usize = 4 << 10;
/// Media sections of an offer.
pub const SDP_MEDIA_MAX: usize = 64;
/// `a=candidate` lines of an offer, all sections together.
pub const SDP_CANDIDATES_MAX: usize = 100;
/// `a=ssrc` lines of an offer, all sections together.
pub const SDP_SSRC_LINES_MAX: usize = 256;
/// Payload types of one media section: all there are (7 bits).
pub const SDP_PAYLOAD_TYPES_MAX: usize = 128;
/// Bytes of a media identification tag; it travels in each packet's header extension (one byte form: 16).
pub const MID_BYTES_MAX: usize = 16;
/// Bytes of a restriction identifier (RFC 8852 §3.1).
pub const RID_BYTES_MAX: usize = 16;
/// Simulcast renditions of one media section.
pub const RIDS_MAX: usize = 4;
/// Codecs kept of one media section, retransmission formats not counted.
pub const CODECS_MAX: usize = 16;

// --- A session ---

/// Media sections in use by one session: a browser's page of tiles; each costs the peer, not us.
pub const SESSION_MEDIA_MAX: usize = SDP_MEDIA_MAX;
/// Synchronisation sources one peer may send us, retransmission sources included.
pub const SESSION_SSRCS_MAX: usize = 64;
/// Remote addresses one session may have proved by an authenticated check.
pub const SESSION_PATHS_MAX: usize = 8;
/// A session that never connected is reaped after this.
pub const SETUP_TIMEOUT: Duration = Duration::from_secs(25);
/// Without an authenticated check for this long, consent is gone (RFC 7675 §5.1 says 30 s; one less
/// so that the session has ended within 30).
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(29);

// --- Datagrams ---

/// Largest UDP payload we make: 1,280 (IPv6 minimum) less 40 + 8 header bytes, with room to spare.
pub const DATAGRAM_BYTES_MAX: usize = 1_500;

// --- Repair ---

/// Packets kept for retransmission per video source: 1,024 is 1 s at 8 Mbit/s.
pub const CACHE_PACKETS_MAX: usize = 1_024;
/// Bytes kept for retransmission per video source.
pub const CACHE_BYTES_MAX: usize = 1 << 20;
/// Age beyond which no retransmission helps: the receiver has given up.
pub const CACHE_AGE_MAX: Duration = Duration::from_secs(1);
/// Sequence numbers one NACK generator tracks as missing.
pub const NACK_MISSING_MAX: usize = 256;
/// Requests for one missing packet.
pub const NACK_TRIES_MAX: u8 = 10;
/// Keyframe requests upstream per source are at least this far apart.
pub const KEYFRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(500);

// --- Stopping a driver ---

/// Turns a stopped driver still makes, so that a full command lane is worked off.
pub const LAST_TURNS_MAX: usize = COMMANDS_MAX / COMMANDS_PER_TURN_MAX + 1;

const _: () = assert!(EVENTS_MAX >= COMMANDS_MAX * 16, "answers must never outrun the event lane");
const _: () = assert!(SDP_LINE_BYTES_MAX < SDP_BYTES_MAX);
const _: () = assert!(SETUP_TIMEOUT.as_secs() < 30 && CONSENT_TIMEOUT.as_secs() < 30);
const _: () = assert!(TRANSMIT_ARENA_BYTES_MAX < u32::MAX as usize, "arena offsets are u32");
const _: () = assert!(DATAGRAM_BYTES_MAX <= RECV_SLOT_BYTES);
