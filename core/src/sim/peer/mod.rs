//! The far end of a session, as a client would be.

mod alone;
mod ice;
mod media;
mod mischief;
mod scripted;

use std::net::SocketAddr;
use std::time::Duration;

pub use self::alone::Alone;
pub use self::media::{Heard, HeardPacket, HeardSource};
pub use self::mischief::Mischief;
pub use self::scripted::{PeerSpec, Picture, ScriptedPeer, Speech};

use super::queue::Pool;
use crate::ids::SessionId;
use crate::plan::{IceCredentials, LocalDescription, SessionPlan};
use crate::time::Timestamp;

/// How far what a peer hears must be as its source made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Payloads whole, and numbers at one distance from the source's.
    Everything,
    /// Payloads whole. Whom it follows changes, and may change back, so the distance may.
    Payloads,
    /// Its publisher is hostile.
    Nothing,
}

/// What a peer is told once its session is open.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its session.
    pub session: SessionId,
    /// The server's half of the description.
    pub local: LocalDescription,
    /// Where the server listens.
    pub server: SocketAddr,
}

/// A client of one session. Like a session it has one deadline, and is called with time, never asked to wait.
pub trait Peer {
    /// What it offers, as negotiated.
    fn plan(&self) -> SessionPlan;
    /// The offer was answered: it may begin.
    fn on_answer(&mut self, now: Timestamp, answer: &Answer, out: &mut Outbox<'_>);
    /// A datagram of the server came; media is opened in place.
    fn handle_datagram(&mut self, now: Timestamp, contents: &mut [u8], out: &mut Outbox<'_>);
    /// Does what is due.
    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<'_>);
    /// When [`handle_timeout`](Self::handle_timeout) is due.
    fn deadline(&self) -> Option<Timestamp>;
    /// Leaves, and says so.
    fn close(&mut self, now: Timestamp, out: &mut Outbox<'_>);
    /// Credentials for an ICE restart.
    fn restart(&mut self) -> IceCredentials;
    /// The restart was answered with these.
    fn on_restarted(&mut self, now: Timestamp, ice: &IceCredentials, out: &mut Outbox<'_>);
    /// What became of it.
    fn report(&self) -> &Report;
    /// Forgets the longest gap so far: from now on it is measured anew.
    fn measure_gaps_from(&mut self, now: Timestamp);
}

/// What became of a peer.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// When it got its keys.
    pub connected: Option<Timestamp>,
    /// When and why it ended.
    pub ended: Option<(Timestamp, Ending)>,
    /// RTP packets sent, retransmissions not counted, by section.
    pub sent: [u64; 2],
    /// Retransmissions sent.
    pub resent: u64,
    /// NACK messages and keyframe requests sent.
    pub asked: u64,
    /// When keyframe requests of the server came.
    pub keyframe_requests: Vec<(Timestamp, u32)>,
    /// Of these, those that name none of its pictures.
    pub keyframes_of_nothing: u64,
    /// What it heard, a track each.
    pub heard: Vec<Heard>,
    /// What a correct server never sends, in words; at most `FINDINGS_MAX`.
    pub findings: Vec<String>,
}

/// Findings one peer keeps: the first says it, the rest follow from it.
const FINDINGS_MAX: usize = 8;

impl Report {
    /// Notes what must not be.
    pub fn find(&mut self, finding: impl FnOnce() -> String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding());
        }
    }
}

/// Why a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It left by itself.
    Left,
    /// The server closed it.
    Closed,
    /// The handshake failed.
    Failed,
    /// Nobody answered its checks.
    Unanswered,
}

/// Where a peer puts what it sends. The world gives it source and destination.
#[derive(Debug)]
pub struct Outbox<'a> {
    pub(super) pool: &'a mut Pool,
    pub(super) sent: &'a mut Vec<u32>,
    pub(super) ends: (SocketAddr, SocketAddr),
}

impl Outbox<'_> {
    /// The peer's own address as the world sees it, and the server's.
    #[must_use]
    pub const fn ends(&self) -> (SocketAddr, SocketAddr) {
        self.ends
    }

    /// Sends what `write` makes of up to `size_max` bytes; nothing if it gives `None`.
    pub fn send_with(&mut self, size_max: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        self.sent.extend(self.pool.put(self.ends, size_max, write));
    }

    /// Sends these bytes.
    pub fn send(&mut self, contents: &[u8]) {
        self.send_with(contents.len(), |out| {
            out.copy_from_slice(contents);
            Some(contents.len())
        });
    }
}

/// How long a peer goes on without an answer to its checks (RFC 7675 §5.1).
const CONSENT: Duration = Duration::from_secs(30);
