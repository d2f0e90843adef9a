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
/// Receive slots whose datagrams' memory is asked for at once, before the first is handled: that of 16 echoes, 45 kB,
/// stays in the second level of any cache until it is used.
pub const FORESEEN_SLOTS: usize = 16;
/// Followers foreseen with them: as much memory again four times. Tracks with more followers in all wait for theirs.
pub const FORESEEN_FOLLOWERS: usize = 64;
/// Commands handled in one turn, so that a burst of joins cannot starve media.
pub const COMMANDS_PER_TURN_MAX: usize = 64;

// --- Lanes ---

/// Commands waiting for a shard. A full lane is a 503 to the caller.
pub const COMMANDS_MAX: usize = 1_024;
/// Events waiting for the server.
pub const EVENTS_MAX: usize = 65_536;
/// Relays waiting for a shard; packets take half of it at most: 40 ms of 100,000 packets a second, 5 MB of payload.
/// What is no packet comes with a session that opened, connected or closed: a word or a list for each shard, and one
/// for each track that it follows. All else is said at most once a track and keyframe interval.
pub const RELAYS_MAX: usize = 8_192;
/// Buffers for relayed payloads that a shard keeps to fill again: as many packets as a lane holds.
pub const RELAY_BUFFERS_MAX: usize = RELAYS_MAX / 2;
/// Publishers of one room that other shards are told, the newest: what says so must fit an entry of a journal.
pub const RELAYED_PUBLISHERS_MAX: usize = 1_024;
/// Tracks of which a shard says in one keyframe interval that nobody there follows them, however many packets of them
/// come; that of the others comes with the next. All are looked through for each such packet.
pub const REFUSED_TRACKS_MAX: usize = 64;
/// Relays handled in one turn, so that another shard cannot starve this one's peers: as many as datagrams.
pub const RELAYS_PER_TURN_MAX: usize = RECV_BATCHES_PER_TURN_MAX * RECV_SLOTS;

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
/// Of these, sources that no `a=ssrc` announced; the other places wait for announced ones. A browser that announces
/// none sends from seven: sound, and three renditions with their retransmissions. A source keeps its place for the
/// session: were it forgotten, so were its replay window and rollover counter, and its packets could be replayed.
pub const UNANNOUNCED_SSRCS_MAX: usize = SESSION_SSRCS_MAX / 2;
/// One source at a time feeds a track; another takes over when it has been silent this long. Longer than the
/// 400 ms between two packets of a silent Opus encoder, so that those do not end a turn.
pub const SOURCE_SILENCE: Duration = Duration::from_millis(500);
/// Remote addresses one session may have proved by an authenticated check.
pub const SESSION_PATHS_MAX: usize = 8;
/// Checks of one session whose transactions are remembered, so that a replayed one proves no new path: five
/// minutes of a browser's. 1 KiB a session.
pub const CHECKS_REMEMBERED_MAX: usize = 128;
/// A path without an authenticated packet of its session for this long may go to another session that proves
/// it: two checks of a browser, 2.5 s apart, are lost before it.
pub const PATH_QUIET: Duration = Duration::from_secs(6);
/// Between two checks of ours over a path that has yet to answer: a lost one costs less than the second in which
/// media must be back, and all paths of a session together get fewer than the 50 a second of RFC 8445 §14.
pub const PATH_QUESTION_INTERVAL: Duration = Duration::from_millis(200);
/// A session that never connected is reaped after this.
pub const SETUP_TIMEOUT: Duration = Duration::from_secs(25);
/// Without an authenticated check for this long, consent is gone (RFC 7675 §5.1 says 30 s; one less
/// so that the session has ended within 30).
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(29);

// --- Datagrams ---

/// Largest UDP payload we make: 1,280 (IPv6 minimum) less 40 + 8 header bytes, with room to spare.
pub const DATAGRAM_BYTES_MAX: usize = 1_500;
/// STUN attributes read in search of a user name, before anything is authenticated: checks carry
/// about ten.
pub const STUN_ATTRIBUTES_MAX: usize = 32;

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
/// Sequence numbers remembered behind the highest, to know a second copy: 1 s at 8 Mbit/s. A packet
/// older than that is refused. With the word being filled it is 16 words of bits: finding one of a power of two
/// takes no division.
pub const SEQUENCE_WINDOW: usize = 15 * 64;
/// Age of a missing packet at which a keyframe is asked for instead: no decoder waits longer.
pub const NACK_AGE_MAX: Duration = Duration::from_secs(1);
/// Requests for one missing packet are at least this far apart, however short the round trip.
pub const NACK_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// A gap this old is loss, not reordering ...
pub const NACK_REORDER_DELAY: Duration = Duration::from_millis(10);
/// ... and so is one that this many later packets have passed (the threshold of RFC 9002 §6.1.1).
pub const NACK_REORDER_PACKETS: u64 = 3;
/// Bytes a second of retransmissions to one subscriber: 4 Mbit/s, a fifth of a heavy room's video.
pub const RETRANSMIT_BYTES_PER_SECOND: u64 = 500_000;
/// What one number asked for costs of these, whether or not it is found: so at most 10,000 are looked for a second.
pub const RETRANSMIT_ASK_BYTES: usize = 50;
/// Retransmissions one subscriber may get at once, as time at that rate: 0.5 s of good video.
pub const RETRANSMIT_BURST: Duration = Duration::from_millis(500);
/// Resends of one packet to one subscriber in a round trip, however often it asks.
pub const RETRANSMIT_TRIES_MAX: u32 = 3;
/// A jump forward of an incoming stream beyond this is a restart, not loss (RFC 3550 §A.1).
pub const DROPOUT_MAX: u64 = 3_000;

// --- Transport feedback ---

/// Transport sequence numbers remembered: two reports of [`FEEDBACK_STATUSES_MAX`] and the late ones.
pub const FEEDBACK_WINDOW: usize = 1_024;
/// Packet statuses of one report: at worst 128 bytes of chunks and 896 of deltas, so one datagram.
pub const FEEDBACK_STATUSES_MAX: usize = 448;
/// A packet that comes after this many higher numbers were reported is not reported any more.
pub const FEEDBACK_LATE_MAX: usize = 128;
/// Time from the first packet to the report that covers it.
pub const FEEDBACK_INTERVAL: Duration = Duration::from_millis(100);
/// The same while packets are many: the sender's estimate needs it fresher then.
pub const FEEDBACK_INTERVAL_FAST: Duration = Duration::from_millis(50);
/// Statuses from which packets are many: 50 in 50 ms are about 10 Mbit/s.
pub const FEEDBACK_FAST_STATUSES: usize = 50;

// --- Handshake ---

/// Largest DTLS datagram we read: an Ethernet frame's worth and room to spare; peers send about 1,200 bytes.
pub const DTLS_DATAGRAM_BYTES_MAX: usize = 2_048;
/// Handshake datagrams of one session that wait for an earlier one: four flights of four.
pub const DTLS_DATAGRAMS_MAX: usize = 16;
/// Bytes one session's unfinished handshake messages can hold, and so the largest certificate of a peer.
pub const DTLS_REASSEMBLY_BYTES_MAX: usize = DTLS_DATAGRAMS_MAX * DTLS_DATAGRAM_BYTES_MAX;

// --- SRTP ---

/// Bytes SRTP adds to an RTP packet at most: the AES-GCM tag (AES-CM adds 10).
pub const SRTP_OVERHEAD_BYTES_MAX: usize = 16;
/// Bytes SRTCP adds to a compound packet at most: the AES-GCM tag and the index (AES-CM adds 14).
pub const SRTCP_OVERHEAD_BYTES_MAX: usize = 20;
/// Senders whose RTCP one session follows: each media source, and a source that only reports for
/// each section the peer just receives in. 40 bytes each.
pub const SRTCP_SENDERS_MAX: usize = SESSION_SSRCS_MAX + SESSION_MEDIA_MAX;
/// Synchronisation sources we send with under one key: media and retransmissions of each section.
pub const SRTP_SEND_SOURCES_MAX: usize = 2 * SESSION_MEDIA_MAX;

// --- Rooms ---

/// Participants of one room whose loudness is followed: a scan a packet stays under 100 ns.
pub const SPEAKERS_MAX: usize = 64;

// --- Jitter buffers ---

/// Packets one buffer holds: 5 s of 20 ms each.
pub const JITTER_PACKETS_MAX: usize = 256;
/// Payload bytes one buffer holds: a second of the highest bitrate Opus has (510 kbit/s).
pub const JITTER_BYTES_MAX: usize = 64 << 10;
/// Bytes of one payload: what fits a datagram.
pub const JITTER_PAYLOAD_BYTES_MAX: usize = DATAGRAM_BYTES_MAX;
/// Delay beyond which a conversation breaks down (G.114), however bad the path is.
pub const JITTER_DELAY_MAX: Duration = Duration::from_millis(400);

// --- Calls with agents ---

/// Sound that an agent has queued to be said; a program may be this far ahead. At 24 kHz 2.9 MB.
pub const PLAYOUT_QUEUE_MAX: Duration = Duration::from_secs(60);
/// Pieces of sound and marks in that queue: pieces of 20 ms fill it.
pub const PLAYOUT_ITEMS_MAX: usize = 4_096;
/// Keys that wait to be pressed for an agent: 10 s of them.
pub const DIALLED_KEYS_MAX: usize = 64;
/// Keys of a person that an agent is told at once, as after a gap in the network: a number with its prefixes has 16.
pub const HEARD_KEYS_MAX: u32 = 16;
/// And one more each so long. ITU-T Q.24 has a key and the pause behind it take 93 ms at least; each is an event that
/// must arrive, and a peer can make one of every packet.
pub const HEARD_KEYS_INTERVAL: Duration = Duration::from_millis(100);
/// Utterances that were stopped and are remembered, so that what still comes of them is dropped.
pub const CLEARED_UTTERANCES_MAX: usize = 64;
/// Bytes of one packet that an agent says: 20 ms of Opus at 64 kbit/s have 160, of G.711 as many; a peak of
/// variable rate has thrice that.
pub const SPOKEN_BYTES_MAX: usize = 512;

// --- Mixed rooms ---

/// Publishers of a room that are decoded to be mixed: a decoder and a jitter buffer of each have 160 KiB.
pub const MIXED_SOURCES_MAX: usize = 64;
/// Rooms of a shard that are mixed; more hear nothing mixed.
pub const MIXED_ROOMS_MAX: usize = 256;

// --- Events ---

/// Between two events of one track: a peer must not be able to flood the event lane.
pub const TRACK_EVENT_INTERVAL: Duration = Duration::from_millis(750);
/// Between two changes of a room's active speaker, for the same reason, and for the eyes.
pub const SPEAKER_EVENT_INTERVAL: Duration = Duration::from_millis(300);

// --- RTCP ---

/// Between reports of a session whose media flows.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Sequence numbers and keyframes one RTCP datagram may ask for; more is a flood, and the peer asks again.
pub const ASKS_PER_DATAGRAM_MAX: usize = 512;
/// Sequence numbers one NACK of ours names: 64 is a burst of 80 kB, more calls for a keyframe.
pub const NACKS_PER_DATAGRAM_MAX: usize = 64;

// --- Replay of captures ---

/// Bytes of one record of a capture file: as Wireshark has it.
pub const CAPTURE_RECORD_BYTES_MAX: usize = 16 << 20;
/// Interfaces of one section of a pcapng file; frames of those beyond are counted.
pub const CAPTURE_INTERFACES_MAX: usize = 1_024;
/// VLAN tags of a frame: two are in use (802.1ad), a few more cost nothing.
pub const VLAN_TAGS_MAX: usize = 4;
/// Headers between IPv6's own and UDP's: each kind once and one more.
pub const IPV6_HEADERS_MAX: usize = 8;
/// Fragmented IP packets put together at one time, at most 64 KiB each.
pub const REPLAY_FRAGMENTED_MAX: usize = 256;
/// Holes in something that comes in pieces: the largest IP packet has 52 of 1,280 bytes.
pub const REPLAY_PIECES_MAX: usize = 64;
/// Bytes of a DTLS hello: those with post-quantum key shares have about 2,000.
pub const REPLAY_HELLO_BYTES_MAX: usize = 16 << 10;
/// Pairs of addresses whose DTLS handshakes are followed.
pub const REPLAY_ASSOCIATIONS_MAX: usize = 16_384;
/// Master secrets of a key log.
pub const REPLAY_SECRETS_MAX: usize = 65_536;
/// SRTP keys, one a direction.
pub const REPLAY_KEYS_MAX: usize = 2 * REPLAY_ASSOCIATIONS_MAX;
/// Packets of one flow for which every key is tried: a flow without a key must not cost that for ever.
pub const REPLAY_KEY_TRIES_MAX: u32 = 64;
/// RTP sources followed, 5 KiB each: a server's capture of 4,000 calls.
pub const REPLAY_STREAMS_MAX: usize = 16_384;
/// Pairs of addresses known to carry media.
pub const REPLAY_FLOWS_MAX: usize = 65_536;
/// A packet of a captured stream that is this far behind, and should not be, is a new beginning (RFC 3550 §A.1).
pub const MISORDER_MAX: u64 = 100;
/// Silence played at one time of a captured stream: a longer pause of hours, or of a stamp that is wrong, is cut to it.
pub const PLAYOUT_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Bytes of an encoding name that a user may give.
pub const CODEC_NAME_BYTES_MAX: usize = 32;

// --- Journals ---

/// Bytes of one entry of a journal: a receive slot, with room for addresses; nothing else is longer.
pub const JOURNAL_RECORD_BYTES_MAX: usize = 256 << 10;
/// Bytes from which a chunk of entries is handed to the writer, at the end of a turn.
pub const JOURNAL_CHUNK_BYTES: usize = 256 << 10;
/// Age at which a chunk is handed over though it is not full: what a crash of the machine can lose.
pub const JOURNAL_CHUNK_AGE_MAX: Duration = Duration::from_millis(250);

/// Each living session's birth is written again this often where a journal may forget its beginning. The rollover
/// counter of a stream is guessed right from one that is this old up to 3,276 packets a second: 30 Mbit/s.
pub const JOURNAL_BIRTH_INTERVAL: Duration = Duration::from_secs(10);
/// Births written after one turn, 1 to 3 kB each; 10,000 sessions take 2,500 turns of the 10 s.
pub const JOURNAL_BIRTHS_EACH_TURN_MAX: usize = 4;

/// Slots in which a replay puts sessions back: ten times what a shard is known to carry. A journal may name any, and
/// those before it come into being with it.
pub const REPLAY_SLOTS_MAX: u32 = 1 << 17;

/// Turns that a replay on its own time adds between two of the run: one a millisecond for a hundred seconds in which
/// the run was asleep. Nobody's journal has more; one that was made to may not hold up who reads it.
pub const REPLAY_WAKES_MAX: u32 = 100_000;

// --- Sound ---

/// Samples of a frame of 10 ms at the highest rate, 48 kHz.
pub const FRAME_SAMPLES_MAX: usize = 480;
/// Samples of the longest packet at that rate: 120 ms of Opus.
pub const PACKET_SAMPLES_MAX: usize = 12 * FRAME_SAMPLES_MAX;
/// Bytes of one Opus payload: six frames of 20 ms, each at its longest (1,275 bytes, RFC 6716 §3.2), and their lengths.
pub const OPUS_PAYLOAD_BYTES_MAX: usize = 6 * 1_275 + 16;
/// Bytes of one G.711 payload: 120 ms, as of Opus.
pub const G711_PAYLOAD_BYTES_MAX: usize = 960;

// --- Voice ---

// --- Stopping a driver ---

/// Turns a stopped driver still makes, so that a full command lane is worked off.
pub const LAST_TURNS_MAX: usize = COMMANDS_MAX / COMMANDS_PER_TURN_MAX + 1;

const _: () = assert!(
    EVENTS_MAX >= COMMANDS_MAX * 16,
    "answers must never outrun the event lane"
);
const _: () = assert!(
    RELAYED_PUBLISHERS_MAX * (16 + 2 * SESSION_MEDIA_MAX) < JOURNAL_RECORD_BYTES_MAX,
    "three numbers of five bytes at most, and two bytes a section"
);
const _: () = assert!(SDP_LINE_BYTES_MAX < SDP_BYTES_MAX);
const _: () = assert!(SETUP_TIMEOUT.as_secs() < 30 && CONSENT_TIMEOUT.as_secs() < 30);
const _: () = assert!(
    2 * TRANSMIT_ARENA_BYTES_MAX < u32::MAX as usize,
    "arena offsets are u32"
);
const _: () = assert!(DATAGRAM_BYTES_MAX <= RECV_SLOT_BYTES);
const _: () = assert!(2 * RECV_SLOT_BYTES <= JOURNAL_RECORD_BYTES_MAX);
const _: () = assert!(
    SESSION_PATHS_MAX >= 2,
    "the path in use and one it may move to"
);
const _: () = assert!(SESSION_PATHS_MAX as u128 * 1_000 < 50 * PATH_QUESTION_INTERVAL.as_millis());
const _: () = assert!(CACHE_BYTES_MAX.is_power_of_two() && CACHE_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(CACHE_PACKETS_MAX.is_power_of_two());
const _: () = assert!(JITTER_PAYLOAD_BYTES_MAX <= JITTER_BYTES_MAX);
const _: () = assert!(
    JITTER_PACKETS_MAX < SEQUENCE_WINDOW,
    "a copy of what is held is known as one"
);
const _: () =
    assert!(SEQUENCE_WINDOW.is_multiple_of(64) && (SEQUENCE_WINDOW / 64 + 1).is_power_of_two());
const _: () = assert!(
    NACK_MISSING_MAX < SEQUENCE_WINDOW,
    "what is asked for is still accepted"
);
const _: () = assert!(FEEDBACK_WINDOW.is_power_of_two() && FEEDBACK_WINDOW <= 1 << 14);
const _: () = assert!(FEEDBACK_STATUSES_MAX + FEEDBACK_LATE_MAX < FEEDBACK_WINDOW);

/// Decisions of one turn detector that wait to be taken: one input makes four at most.
pub const VOICE_EVENTS_MAX: usize = 16;
