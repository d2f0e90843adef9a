//! Every limit of the control plane, with its unit and its reason.

use std::time::Duration;

use antiphon_core::limits::{JOURNAL_RECORD_BYTES_MAX, RECV_SLOT_BYTES, SDP_BYTES_MAX};

// --- HTTP connections ---

/// Connections served at one time; more wait in the kernel's queue.
pub const HTTP_CONNECTIONS_MAX: usize = 4_096;
/// Of these, for one client network: an office behind one address fits, and 16 of them to the full house.
pub const HTTP_CONNECTIONS_EACH_MAX: usize = 256;
/// Bytes of a request's head: cookies and tokens fit, a bomb does not.
pub const HTTP_HEAD_BYTES_MAX: usize = 32 << 10;
/// Header lines of a request: a browser sends about 20.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Bytes of a request's body: the largest offer.
pub const HTTP_BODY_BYTES_MAX: usize = SDP_BYTES_MAX;
/// Bytes of a too large body that are read and thrown away, so that the sender reads its 413 rather
/// than a reset.
pub const HTTP_DISCARD_BYTES_MAX: usize = 4 << 20;
/// A connection that has not sent a whole request head within this is cut.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that has not sent a whole body within this is answered 408 and cut.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that takes nothing of its answer for this long is cut.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// A TLS handshake takes no longer.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Failed accepts are logged no more often than this.
pub const ACCEPT_WARNING_PAUSE: Duration = Duration::from_secs(10);
/// Pause after a failed accept (no file descriptors left), so that the loop does not spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for answers under way once everything else has ended.
pub const CONNECTIONS_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

// --- Placement ---

/// Sessions that the home of a room may have beyond twice as many as the quietest shard before its subscribers go
/// there: below, what a relayed packet costs both shards is not won back.
pub const HOME_SESSIONS: u32 = 64;

// --- Rate limit ---

/// Addresses whose requests are counted apart; those beyond share one bucket.
pub const RATE_ADDRESSES_MAX: usize = 16_384;
/// Reading requests that make a shard work (statistics, metrics) may come this many times as often as
/// those that change something: a page polls them for each of its sessions.
pub const RATE_READS_FACTOR: u32 = 10;
/// The burst a client may send at once is this many seconds of its rate.
pub const RATE_BURST_SECS: u32 = 10;

// --- Sessions and rooms ---

/// Bytes of a room's or a participant's name.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of a description that are read at once, on the thread that serves HTTP: browsers' offers have 2 to 9 kB and
/// take 0.1 ms. A longer one goes to a thread of its own, which costs two wake-ups.
pub const SDP_READ_AT_ONCE_BYTES_MAX: usize = 12 << 10;
/// Offers parsed at one time away from it; more wait their turn. Parsing is processor work.
pub const NEGOTIATIONS_MAX: usize = 4;
/// A shard answers a command within this, else the caller gets a 503.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
/// A shard answers a scrape within this, else its figures are left out.
pub const SCRAPE_TIMEOUT: Duration = Duration::from_secs(1);
/// Streams of room events open at one time: a part of [`HTTP_CONNECTIONS_MAX`].
pub const EVENT_STREAMS_MAX: usize = 1_024;
/// Of these, for one client network.
pub const EVENT_STREAMS_EACH_MAX: usize = 64;
/// Room events a slow listener may lag behind before it gets the whole room again.
pub const EVENT_BACKLOG_MAX: usize = 256;
/// A comment goes down a silent event stream this often, so that a dead listener is noticed.
pub const EVENT_STREAM_KEEPALIVE: Duration = Duration::from_secs(15);
/// While a shard's lane is full, the drain tries again this often.
pub const DRAIN_RETRY: Duration = Duration::from_millis(5);
/// Media threads that were told to stop have ended within this, else the process ends without them.
pub const SHARDS_STOP_TIMEOUT: Duration = Duration::from_secs(1);

// --- Calls with agents ---

/// Events of one call that wait for its program: 2.5 s of sound in pieces of 20 ms.
pub const CALL_HEARD_MAX: usize = 128;
/// Places of these that sound leaves to what may not be lost: a call decides less than ten times a second, and tells
/// of ten keys a second, of 16 at once.
pub const CALL_HEARD_KEPT: usize = 32;
/// While a shard's lane is full, what a program asks for is tried again this often ...
pub const ASK_RETRY: Duration = Duration::from_millis(5);
/// ... and no longer than this.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of sound in one ask: a second at 48 kHz. A program may send more at once; it is cut.
pub const SAY_BYTES_MAX: usize = 96_000;
/// Of a longer turn the parrot says the beginning.
pub const PARROT_TURN_MAX: Duration = Duration::from_secs(30);
// --- Programs over gRPC ---

/// Programs' connections at one time.
pub const GRPC_CONNECTIONS_MAX: usize = 256;
/// Of these, for one network of programs.
pub const GRPC_CONNECTIONS_EACH_MAX: usize = 64;
/// Calls and waiting programs of one connection.
pub const GRPC_STREAMS_MAX: u32 = 128;
/// Bytes that a program may send of one call before they are read: 8 s at 16 kHz. Less would slow a burst down.
pub const GRPC_WINDOW_BYTES: u32 = 256 << 10;
/// Bytes of a stream's header: a token and to spare.
pub const GRPC_HEAD_BYTES_MAX: u32 = 16 << 10;
/// A program's connection that is silent is asked whether it lives this often ...
pub const GRPC_KEEPALIVE: Duration = Duration::from_secs(10);
/// ... and has this long to say so.
pub const GRPC_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of one message of a program: 2.7 s at 48 kHz.
pub const PROGRAM_MESSAGE_BYTES_MAX: usize = 256 << 10;
/// Messages that a program may send of one call, in the long run: 20 times what sound in pieces of 20 ms takes.
pub const PROGRAM_MESSAGES_EACH_SECOND: u32 = 1_000;
/// Messages that it may send at once: a minute of sound in pieces of 20 ms, and to spare.
pub const PROGRAM_MESSAGES_BURST: u32 = 5_000;
/// Messages that wait for a program's stream beside what HTTP/2 holds.
pub const PROGRAM_OUTGOING_MAX: usize = 8;
/// Sound that a program may be ahead of what has been played; beyond it is not read.
pub const SAY_AHEAD_MAX: Duration = Duration::from_secs(20);
/// Bytes of a recogniser's text: a turn of a few minutes.
pub const HINT_TEXT_BYTES_MAX: usize = 4 << 10;
/// A call whose program has gone waits this long for it to come back.
pub const PROGRAM_GRACE: Duration = Duration::from_secs(5);
/// A stream that lasted this long shows that its program works: when it breaks, that time begins anew.
pub const PROGRAM_PROVEN: Duration = Duration::from_secs(1);
/// A program that does not take a message for this long has stalled, though its queue may have room.
pub const PROGRAM_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// A call whose program has stalled so often ends.
pub const PROGRAM_STALLS_MAX: u32 = 3;
/// Of the grace, the time that the program has for itself before others of its name are asked.
pub const PROGRAM_REJOIN: Duration = Duration::from_secs(1);
/// Decisions kept for a program that is gone: more than a call makes in that time.
pub const PROGRAM_MISSED_MAX: usize = 64;
/// A program that is dialled answers the connection within this.
pub const PROGRAM_DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two tries to reach a program.
pub const PROGRAM_DIAL_PAUSE: Duration = Duration::from_millis(200);
/// Names of programs.
pub const PROGRAM_NAMES_MAX: usize = 64;
/// Programs that wait under one name, and calls that one of them is offered before it takes the first.
pub const PROGRAM_WAITING_MAX: usize = 64;

// --- Timelines of calls ---

/// Pieces of sound and pauses that wait for networks: at 50 calls what comes in a quarter of a second.
#[cfg(feature = "onnx")]
pub const MODEL_JOBS_MAX: usize = 640;

/// Bytes of why a program cost a call that are logged and told: what it says itself may be long.
pub const FATE_DETAIL_BYTES_MAX: usize = 256;
/// Frames of a call's timeline that a slow listener may lag behind before it loses some: 5 s of levels.
pub const VOICE_BACKLOG_MAX: usize = 64;
/// Between two levels of a call's timeline: smooth to the eye.
pub const LEVEL_INTERVAL: Duration = Duration::from_millis(100);

// --- Tokens ---

/// Characters of a token: 32 random ones cannot be guessed.
pub const TOKEN_BYTES_MIN: usize = 32;
/// Tokens in a token file: each request is compared with all of them.
pub const TOKENS_MAX: usize = 1_024;

// --- Capture ---

/// Bytes of datagrams that go from a shard to the capture's writer at a time: a full receive batch, and more.
pub const CAPTURE_CHUNK_BYTES: usize = 256 << 10;
/// Datagrams of them: of the smallest that are common.
pub const CAPTURE_CHUNK_DATAGRAMS: usize = 2_048;
/// Of these, under way for one shard; 4 MiB are 0.1 s of 300 Mbit/s that the disk may hang.
pub const CAPTURE_CHUNKS: usize = 16;
/// Secrets under way.
pub const CAPTURE_SECRETS_MAX: usize = 4_096;
/// A capture is closed within this when the server stops.
pub const CAPTURE_STOP_TIMEOUT: Duration = Duration::from_secs(5);

// --- Journal ---

/// Chunks under way to the journal's writer for one shard; of a busy one each has `JOURNAL_CHUNK_BYTES`, so that
/// 8 MiB are 0.2 s of 300 Mbit/s that the disk may hang.
pub const JOURNAL_CHUNKS: usize = 32;
/// Files of one run that faults have written: with the default ring 1 GiB.
pub const JOURNAL_FAULT_DUMPS_MAX: u32 = 16;
/// A fault so soon after another has no file of its own: it would hold much the same.
pub const JOURNAL_FAULT_DUMPS_PAUSE: Duration = Duration::from_secs(10);
/// Bytes of a journal's last entry, and to spare.
pub const JOURNAL_END_BYTES: usize = 16;
/// A journal is closed within this when the server stops.
pub const JOURNAL_STOP_TIMEOUT: Duration = Duration::from_secs(5);

// --- Announced addresses ---

/// Addresses announced as candidates: a machine with more (container bridges) must name its own.
pub const ANNOUNCED_ADDRESSES_MAX: usize = 32;

const _: () = assert!(
    EVENT_STREAMS_MAX * 2 <= HTTP_CONNECTIONS_MAX,
    "streams leave room for requests"
);
const _: () = assert!(CALL_HEARD_KEPT < CALL_HEARD_MAX);
const _: () =
    assert!(SAY_BYTES_MAX.is_multiple_of(2) && 2 * SAY_BYTES_MAX <= JOURNAL_RECORD_BYTES_MAX);
const _: () = assert!(HTTP_DISCARD_BYTES_MAX > HTTP_BODY_BYTES_MAX);
const _: () = assert!(CAPTURE_CHUNK_BYTES >= RECV_SLOT_BYTES, "any datagram fits");
const _: () = assert!(HTTP_HEAD_BYTES_MAX >= 8192, "hyper's own minimum");

// --- Replay ---

/// Bytes of a journal that is replayed: it lies in memory whole, as its entries are borrowed from it.
pub const JOURNAL_FILE_BYTES_MAX: u64 = 4 << 30;

// --- Sound of a capture ---

/// Streams of one replay whose turns are heard: each has a decoder and analyser of about 100 KiB.
pub const HEARD_STREAMS_MAX: usize = 512;

/// WAV files of one replay: each is open until the end, and a process may have 1,024.
pub const WAV_FILES_MAX: usize = 512;
/// Bytes of samples in all of them together: what one such file can say that it has. 12 hours of Opus.
pub const WAV_BYTES_MAX: u64 = u32::MAX as u64 - 44;
