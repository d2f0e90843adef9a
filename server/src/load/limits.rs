//! Every limit of the load generator, with its unit and its reason.

use std::time::Duration;

/// Sessions of one run: twice what the densest server we know carries on a core.
pub const SESSIONS_MAX: u32 = 20_000;
/// Packets a second of one session: one a millisecond.
pub const PPS_MAX: u32 = 1_000;
/// Length of the media phase: an hour, in seconds.
pub const SECONDS_MAX: u64 = 3_600;
/// POSTs a second; beyond, they are all due at once anyway.
pub const RATE_MAX: f64 = 100_000.0;
/// Threads that make packets: more than machines of servers have processors to spare.
pub const THREADS_MAX: u32 = 64;
/// Sessions a second that leave and come anew: what each came to is kept, 100 MB after an hour.
pub const CHURN_MAX: u32 = 200;
/// Bytes of a token: what fits a header line of any server.
pub(super) const TOKEN_BYTES_MAX: usize = 4_096;

/// POSTs under way at one time: a server that takes 100 ms for each still answers 640 a second.
pub(super) const POSTERS_MAX: usize = 64;
/// A request is answered within this, or has failed.
pub(super) const HTTP_TIMEOUT: Duration = Duration::from_secs(10);
/// All DELETEs together take no longer; a server that was left forgets its peers by itself.
pub(super) const DELETES_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer: as long as the longest offer we take ourselves.
pub(super) const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Reasons of failure told apart; the rest are counted together.
pub(super) const REASONS_MAX: usize = 16;
/// Bytes shown of what a server says: one line.
pub(super) const REASON_BYTES_MAX: usize = 160;

/// Candidates of an answer that are tried; servers give one or two an interface.
pub(super) const CANDIDATES_MAX: usize = 8;
/// From the answer to the first packet back. Agents speak only after a turn of the caller's, which takes up to 8 s.
pub(super) const SETUP_TIMEOUT: Duration = Duration::from_secs(15);
/// Sources of media of one session that are followed: one a track, and a few that replace it.
pub(super) const SOURCES_MAX: usize = 4;
/// UDP addresses of a server that are told apart, as shards; the rest are counted together. 18 KiB each.
pub(super) const SHARDS_MAX: usize = 64;
/// A sender that fell further behind skips what it owes: sent late in a heap it would measure nothing.
pub(super) const BACKLOG_MAX: Duration = Duration::from_millis(200);
/// What a session sent that leaves is awaited for this long, and is lost if it is not back then: far more than any way
/// on which its figures would be of use.
pub(super) const RETURN_MAX: Duration = Duration::from_secs(1);
/// After the media phase, churn that is still on its way out or in is awaited for this long.
pub(super) const CHURN_TIMEOUT: Duration = Duration::from_secs(5);
/// After the last packet was sent, replies are awaited for this long.
pub(super) const LISTEN_ON: Duration = Duration::from_millis(500);
