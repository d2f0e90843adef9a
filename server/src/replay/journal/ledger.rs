//! Whose is what passes, and how much of it there was.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use antiphon_core::drive::{RecvMeta, TransmitMeta};
use antiphon_core::ids::{RequestId, SessionId};
use antiphon_core::journal::Witness;
use antiphon_core::message::{CloseReason, Command, Event, Role};
use antiphon_core::net::Path;
use antiphon_core::shard::Shard;
use antiphon_core::time::Timestamp;

use super::describe::{self, Told};

/// Something that passed in a turn.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) at: Timestamp,
    /// Whose; `None`: nobody's, or not known.
    pub(super) session: Option<SessionId>,
    pub(super) what: What,
}

impl Passed {
    /// Whether it is a datagram of SRTP or SRTCP.
    pub(super) fn is_media(&self) -> bool {
        match &self.what {
            What::Received(flew) | What::Sent(flew) => matches!(flew.class, "RTP" | "RTCP"),
            What::Command(_) | What::Event(_) => false,
        }
    }
}

#[derive(Debug)]
pub(super) enum What {
    Command(String),
    Received(Flew),
    Sent(Flew),
    Event(Told),
}

/// A datagram that passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flew {
    pub(super) path: Path,
    pub(super) class: &'static str,
    pub(super) len: usize,
}

impl Flew {
    fn new(path: Path, contents: &[u8], len: usize) -> Self {
        Self {
            path,
            class: describe::class(contents),
            len,
        }
    }
}

/// What is known of one session.
#[derive(Clone, Debug, Default)]
pub(super) struct SessionRow {
    pub(super) role: Option<Role>,
    pub(super) opened: Option<Timestamp>,
    pub(super) connected: Option<Timestamp>,
    pub(super) closed: Option<(Timestamp, CloseReason)>,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) events: u64,
}

/// Datagrams and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
}

/// Books of a run. What a turn brings is noted as it passes, and settled when the turn is over: whose a datagram is,
/// the shard's table of proved paths says, or said last.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) sessions: BTreeMap<SessionId, SessionRow>,
    pub(super) received: Traffic,
    pub(super) sent: Traffic,
    /// Events by kind.
    pub(super) events: BTreeMap<&'static str, u64>,
    /// Of these, those that the run did not tell.
    pub(super) made_up: u64,
    /// Of the turn under way.
    passed: Vec<Passed>,
    requests: BTreeMap<RequestId, Request>,
    owners: BTreeMap<Path, SessionId>,
    local_port: u16,
}

#[derive(Debug)]
struct Request {
    session: Option<SessionId>,
    role: Option<Role>,
}

impl Ledger {
    /// Settles what passed since the last call and shows it; it is forgotten with the next turn.
    pub(super) fn settle(&mut self, shard: Option<&Shard>) -> &[Passed] {
        for passed in &mut self.passed {
            match &passed.what {
                What::Received(Flew { path, len, .. }) => {
                    passed.session = owner(&mut self.owners, shard, *path);
                    self.received.note(*len);
                    if let Some(session) = passed.session {
                        self.sessions.entry(session).or_default().received += 1;
                    }
                }
                What::Sent(Flew { path, len, .. }) => {
                    passed.session = owner(&mut self.owners, shard, *path);
                    self.sent.note(*len);
                    if let Some(session) = passed.session {
                        self.sessions.entry(session).or_default().sent += 1;
                    }
                }
                What::Event(told) => {
                    *self.events.entry(told.kind).or_default() += 1;
                    if let Some(session) = passed.session {
                        self.sessions.entry(session).or_default().events += 1;
                    }
                }
                What::Command(_) => {}
            }
        }
        &self.passed
    }

    /// A turn begins.
    pub(super) fn clear(&mut self) {
        self.passed.clear();
    }

    fn note_flight(&mut self, at: Timestamp, flew: Flew, wrap: fn(Flew) -> What) {
        self.passed.push(Passed {
            at,
            session: None,
            what: wrap(flew),
        });
    }
}

/// A path goes to another session at most once in many turns, so that the table is asked each time and the memory
/// serves only when the session has ended.
fn owner(
    owners: &mut BTreeMap<Path, SessionId>,
    shard: Option<&Shard>,
    path: Path,
) -> Option<SessionId> {
    match shard.and_then(|shard| shard.owner_of(path)) {
        Some(session) => {
            owners.insert(path, session);
            Some(session)
        }
        None => owners.get(&path).copied(),
    }
}

impl Traffic {
    const fn note(&mut self, len: usize) {
        self.datagrams += 1;
        self.bytes += len as u64;
    }
}

impl Witness for Ledger {
    fn on_command(&mut self, at: Timestamp, command: &Command) {
        let (text, session, request) = describe::command(command);
        if let Some(request) = request {
            let role = match command {
                Command::Open { role, .. } => Some(*role),
                _ => None,
            };
            self.requests.insert(request, Request { session, role });
        }
        self.passed.push(Passed {
            at,
            session,
            what: What::Command(text),
        });
    }

    fn on_received(&mut self, at: Timestamp, meta: &RecvMeta, contents: &[u8]) {
        self.local_port = meta.destination.port();
        let path = Path {
            local: meta.destination,
            remote: meta.source,
        };
        // A datagram of which only the header is shown has its length beside it.
        if contents.len() < meta.len {
            let flew = Flew::new(path, contents, meta.len);
            return self.note_flight(at, flew, What::Received);
        }
        for datagram in contents.chunks(meta.stride.max(1)) {
            let flew = Flew::new(path, datagram, datagram.len());
            self.note_flight(at, flew, What::Received);
        }
    }

    fn on_event(&mut self, at: Timestamp, event: &Event) {
        let request = event
            .request()
            .and_then(|request| self.requests.remove(&request));
        let asked = request.as_ref().and_then(|request| request.session);
        let session = event.session().or(asked);
        let mut told = describe::event(event);
        if let Some(session) = session {
            let row = self.sessions.entry(session).or_default();
            match event {
                Event::Opened { .. } => {
                    row.opened = Some(at);
                    row.role = request.and_then(|request| request.role);
                    told.what = row.role.map(describe::role).unwrap_or_default();
                }
                Event::Connected { .. } => row.connected = Some(at),
                Event::Closed { reason, .. } => row.closed = Some((at, *reason)),
                _ => {}
            }
        }
        self.passed.push(Passed {
            at,
            session,
            what: What::Event(told),
        });
    }

    fn on_made_up(&mut self, at: Timestamp, event: &Event) {
        self.on_event(at, event);
        self.made_up += 1;
        if let Some(What::Event(told)) = self.passed.last_mut().map(|passed| &mut passed.what) {
            told.is_made_up = true;
        }
    }

    fn on_transmit(&mut self, at: Timestamp, meta: &TransmitMeta, contents: &[u8]) {
        let path = Path {
            local: local(meta, self.local_port),
            remote: meta.destination,
        };
        let flew = Flew::new(path, contents, contents.len());
        self.note_flight(at, flew, What::Sent);
    }
}

/// Our end of a transmit: the shard has one socket, whose port the datagrams that came have told.
pub(super) fn local(meta: &TransmitMeta, port: u16) -> SocketAddr {
    let any = match meta.destination {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(meta.source.unwrap_or(any), port)
}
