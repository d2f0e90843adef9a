//! Drives sessions on one thread, or on several that share them out: receives, answers, sends what is due, and naps.
//!
//! ```text
//! main ── Order ──▶ Engine ──▶ Outcomes
//!                     │ × threads
//!        Pacer ───────┼──── Call (ICE, DTLS, SRTP) × sessions
//!                     │
//!                  Sockets
//! ```

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use antiphon_core::drive::{Lane, RecvBatch};
use antiphon_core::limits::{DTLS_REASSEMBLY_BYTES_MAX, RECV_SLOTS};
use antiphon_core::net::Datagram;
use antiphon_core::rng::{Rng, Seed};
use antiphon_core::time::Timestamp;
use antiphon_core::wire::{Class, classify};
use antiphon_udp::Clock;
use tokio::sync::oneshot;

use super::Ending;
use super::call::{Agreed, Call, Turn};
use super::description::Role;
use super::figures::Spread;
use super::handshake::{Credentials, Room};
use super::limits::{LISTEN_ON, RETURN_MAX, SHARDS_MAX};
use super::media::{Moment, OVERHEAD_BYTES};
use super::pace::{Due, Pacer, Talk};
use super::sockets::{Bell, Place, Sockets};
use super::stamp::{GREETING, PAYLOAD_BYTES_MAX, Stamp};

/// Units of Opus' RTP clock in a millisecond.
const CLOCK_PER_MS: u64 = 48;
/// Packets sent before the sockets are asked for what came.
const SENDS_EACH_TURN_MAX: usize = 256;
/// Fillings of the receive batch before packets are sent.
const BATCHES_EACH_TURN_MAX: usize = 8;
/// Sends that are due within this go together: a wake-up costs more than they do. The round trip is measured from the
/// stamp on, so it does not count.
const NAP_MIN: Duration = Duration::from_micros(150);
/// While packets may come: a receive buffer of 4 MiB holds 40 ms of 250,000 a second.
const NAP_MAX: Duration = Duration::from_millis(2);
/// Of the packets that a subscriber receives, one in so many is opened and its stamp read.
const SAMPLE: u64 = 32;

/// A session that was answered.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) session: u32,
    pub(super) agreed: Agreed,
    /// When its POST began.
    pub(super) posted: Timestamp,
    /// When the answer had been read.
    pub(super) answered: Timestamp,
}

/// What the engine is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Connect this session.
    Join(Box<Join>),
    /// Send from now on no greetings any more.
    Hush,
    /// Send media between these times, and count.
    Talk { from: Timestamp, until: Timestamp },
    /// Once this session is connected, send nothing more in it; and once what it sent is back, or [`RETURN_MAX`]
    /// later, forget it. What it came to is kept. `gone` is dropped then.
    Leave {
        session: u32,
        gone: oneshot::Sender<()>,
    },
}

/// What sessions send, and when.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    pub(super) sessions: u32,
    /// Threads that share them.
    pub(super) threads: u32,
    pub(super) interval: Duration,
    pub(super) talk: Talk,
    pub(super) contents: Contents,
}

/// What packets hold.
#[derive(Clone, Debug)]
pub(super) enum Contents {
    /// A stamp, in so many bytes; what comes back tells the round trip.
    Stamps(usize),
    /// These payloads over and over, each session somewhere else in them; whatever comes back counts.
    Speech(Arc<[Arc<[u8]>]>),
}

/// What one session came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub(super) role: Role,
    /// When its POST began.
    pub(super) posted: Timestamp,
    /// When the answer had been read.
    pub(super) answered: Timestamp,
    /// When ICE and DTLS were done.
    pub(super) secured: Option<Timestamp>,
    /// When the kernel had its first authentic packet; of a publisher, when it could send.
    pub(super) connected: Option<Timestamp>,
    /// Packets sent in the media phase.
    pub(super) sent: u64,
    /// Packets received of those.
    pub(super) received: u64,
    /// It ended before it was told to.
    pub(super) ended: Option<Ending>,
    /// Which of [`Outcomes::shards`] has it, once that answered.
    pub(super) shard: Option<usize>,
}

/// One of the server's UDP addresses, and so one of its shards.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    /// `None`: the rest of more than a server of shards has.
    pub(super) address: Option<SocketAddr>,
    /// From a stamp to the kernel's receive stamp, in the media phase.
    pub(super) round_trips: Spread,
}

/// What all sessions came to.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// By number; `None` of those that were not answered.
    pub(super) calls: Vec<Option<Outcome>>,
    /// Those that left for others to come in their places.
    pub(super) left: Vec<Outcome>,
    /// Where sessions found the server, in the order in which it was found there.
    pub(super) shards: Vec<Shard>,
    /// How late packets were sent: the generator's own fault.
    pub(super) lateness: Spread,
    /// Sent more than an interval late.
    pub(super) late: u64,
    /// Not sent, because they would have been far too late.
    pub(super) skipped: u64,
    /// Packets with another session's stamp, or with none.
    pub(super) misdelivered: u64,
    /// Packets that are not authentic, or came twice.
    pub(super) refused: u64,
    /// Packets that were opened to see.
    pub(super) opened: u64,
    /// Datagrams lost at our own sockets.
    pub(super) socket_losses: u64,
}

impl Outcomes {
    /// All sessions, those that left included.
    pub(super) fn all(&self) -> impl Iterator<Item = &Outcome> {
        self.calls.iter().flatten().chain(&self.left)
    }

    /// Round trips to all shards.
    pub(super) fn round_trips(&self) -> Spread {
        let mut all = Spread::default();
        for shard in &self.shards {
            all.add(&shard.round_trips);
        }
        all
    }

    /// The place of a shard's address among all.
    fn shard_at(&mut self, address: Option<SocketAddr>) -> usize {
        let find = |address| {
            self.shards
                .iter()
                .position(|shard| shard.address == address)
        };
        if let Some(found) = find(address) {
            return found;
        }
        if address.is_some() && self.shards.len() >= SHARDS_MAX {
            return self.shard_at(None);
        }
        self.shards.push(Shard {
            address,
            round_trips: Spread::default(),
        });
        self.shards.len() - 1
    }

    /// Takes in what another thread's sessions came to; `share` says which they are.
    fn add(&mut self, mut other: Self, share: Share) {
        let mut places = Vec::with_capacity(other.shards.len());
        for shard in &other.shards {
            let place = self.shard_at(shard.address);
            self.shards[place].round_trips.add(&shard.round_trips);
            places.push(place);
        }
        let outcomes = other.calls.iter_mut().flatten().chain(&mut other.left);
        for outcome in outcomes {
            outcome.shard = outcome.shard.map(|shard| places[shard]);
        }
        for (place, outcome) in (0..).zip(other.calls) {
            self.calls[share.session(place) as usize] = outcome;
        }
        self.left.append(&mut other.left);
        self.lateness.add(&other.lateness);
        self.late += other.late;
        self.skipped += other.skipped;
        self.misdelivered += other.misdelivered;
        self.refused += other.refused;
        self.opened += other.opened;
        self.socket_losses += other.socket_losses;
    }
}

/// Which sessions a thread has: every n-th of n threads.
#[derive(Clone, Copy, Debug)]
struct Share {
    thread: u32,
    threads: u32,
}

impl Share {
    /// Which of so many threads has a session.
    const fn holder(session: u32, threads: usize) -> usize {
        session as usize % threads
    }

    /// How many of so many it has.
    const fn of(self, sessions: u32) -> u32 {
        (sessions + self.threads - 1 - self.thread) / self.threads
    }

    /// The number of the session in a place of its own.
    const fn session(self, place: u32) -> u32 {
        place * self.threads + self.thread
    }

    /// The place of a session that it has.
    const fn place(self, session: u32) -> usize {
        (session / self.threads) as usize
    }
}

/// Counts to read while the engine runs.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Sessions that are connected.
    pub(super) connected: AtomicU64,
    /// Sessions that ended before they were connected.
    pub(super) failed: AtomicU64,
    /// Packets sent in the media phase.
    pub(super) sent: AtomicU64,
    /// Packets received in it.
    pub(super) received: AtomicU64,
}

/// Where orders are given, from any thread.
#[derive(Clone, Debug)]
pub(super) struct Desk(Vec<(Sender<Order>, Bell)>);

impl Desk {
    /// Gives an order to whose it is. To a thread that has panicked it is in vain: [`Engine::finish`] tells.
    pub(super) fn order(&self, order: Order) {
        let session = match &order {
            Order::Join(join) => join.session,
            Order::Leave { session, .. } => *session,
            Order::Hush => return self.tell_all(|| Order::Hush),
            Order::Talk { from, until } => {
                let (from, until) = (*from, *until);
                return self.tell_all(|| Order::Talk { from, until });
            }
        };
        self.tell(Share::holder(session, self.0.len()), order);
    }

    fn tell_all(&self, order: impl Fn() -> Order) {
        (0..self.0.len()).for_each(|thread| self.tell(thread, order()));
    }

    fn tell(&self, thread: usize, order: Order) {
        let (orders, bell) = &self.0[thread];
        orders.send(order).ok();
        bell.ring();
    }
}

/// A running engine. It ends when there is no desk any more.
pub(super) struct Engine {
    pub(super) desk: Desk,
    pub(super) progress: Arc<Progress>,
    /// Where each session calls from.
    pub(super) addresses: Vec<SocketAddr>,
    threads: Vec<(Share, JoinHandle<Outcomes>)>,
}

impl Engine {
    /// Opens the sockets and starts the threads.
    ///
    /// # Errors
    /// When either cannot be had.
    pub(super) fn start(
        clock: Clock,
        place: Place,
        pace: &Pace,
        credentials: &Credentials,
        seed: &Seed,
    ) -> io::Result<Self> {
        let any = SocketAddr::from(([0; 4], 0));
        let mut engine = Self {
            desk: Desk(Vec::new()),
            progress: Arc::new(Progress::default()),
            addresses: vec![any; pace.sessions as usize],
            threads: Vec::new(),
        };
        let threads = pace.threads.min(pace.sessions);
        for thread in 0..threads {
            let share = Share { thread, threads };
            let count = share.of(pace.sessions);
            let sockets = Sockets::open(place, count)?;
            for (place, address) in (0..).zip(sockets.addresses(count)) {
                engine.addresses[share.session(place) as usize] = address;
            }
            let (orders, ordered) = channel();
            engine.desk.0.push((orders, sockets.bell()));
            let chances = seed.derive("thread", thread.into()).rng();
            let run = Run::new(
                (clock, Arc::clone(&engine.progress)),
                share,
                pace.clone(),
                credentials.clone(),
                chances,
                sockets,
            );
            let named = thread::Builder::new().name(format!("load-{thread}"));
            let handle = named.spawn(move || run.until_left(&ordered))?;
            engine.threads.push((share, handle));
        }
        Ok(engine)
    }

    /// Whether a thread has ended by itself, which only a bug makes it do.
    pub(super) fn has_ended(&self) -> bool {
        self.threads.iter().any(|(_, thread)| thread.is_finished())
    }

    /// Stops sending, waits for what is under way, and ends; all other desks must be gone. `None`: one had panicked.
    pub(super) fn finish(self) -> Option<Outcomes> {
        let mut all = Outcomes {
            calls: vec![None; self.addresses.len()],
            ..Outcomes::default()
        };
        for (orders, bell) in self.desk.0 {
            drop(orders);
            bell.ring();
        }
        let ended = self
            .threads
            .into_iter()
            .map(|(share, thread)| (share, thread.join()));
        // All of them, before one that panicked is told of.
        for (share, outcomes) in ended.collect::<Vec<_>>() {
            all.add(outcomes.ok()?, share);
        }
        Some(all)
    }
}

/// A session that was told to leave.
struct Leaving {
    /// Its place.
    session: usize,
    /// Known once it rests.
    until: Option<Timestamp>,
    /// Dropped along with this, which is what whoever waits is told by.
    _gone: oneshot::Sender<()>,
}

struct Run {
    clock: Clock,
    share: Share,
    /// Its own sessions.
    sessions: u32,
    pace: Pace,
    credentials: Credentials,
    rng: Rng,
    room: Box<Room>,
    payload: [u8; PAYLOAD_BYTES_MAX],
    sockets: Sockets,
    calls: Vec<Option<Call>>,
    /// When each call wants to be looked at, media apart.
    due: BTreeSet<(Timestamp, u32)>,
    joining: u32,
    leaving: Vec<Leaving>,
    pacer: Option<Pacer>,
    /// The media phase.
    phase: Option<(Timestamp, Timestamp)>,
    outcomes: Outcomes,
    /// Since progress was last told.
    sent: u64,
    received: u64,
    progress: Arc<Progress>,
}

impl Run {
    fn new(
        (clock, progress): (Clock, Arc<Progress>),
        share: Share,
        pace: Pace,
        credentials: Credentials,
        rng: Rng,
        sockets: Sockets,
    ) -> Self {
        let sessions = share.of(pace.sessions);
        // A person talks before an agent says anything, so speech begins with the connection.
        let speech = matches!(pace.contents, Contents::Speech(_));
        let pacer = speech.then(|| Pacer::new(clock.now(), pace.interval, sessions));
        Self {
            clock,
            share,
            sessions,
            pace,
            credentials,
            rng,
            room: Box::new([0; DTLS_REASSEMBLY_BYTES_MAX]),
            payload: [0; PAYLOAD_BYTES_MAX],
            sockets,
            calls: (0..sessions).map(|_| None).collect(),
            due: BTreeSet::new(),
            joining: 0,
            leaving: Vec::new(),
            pacer,
            phase: None,
            outcomes: Outcomes {
                calls: vec![None; sessions as usize],
                ..Outcomes::default()
            },
            sent: 0,
            received: 0,
            progress,
        }
    }

    fn until_left(mut self, orders: &Receiver<Order>) -> Outcomes {
        let mut batch = RecvBatch::new(RECV_SLOTS);
        let mut listen_until = None;
        loop {
            match orders.try_recv() {
                Ok(order) => {
                    self.follow(order);
                    continue;
                }
                Err(TryRecvError::Disconnected) if listen_until.is_none() => {
                    self.end_pacing();
                    listen_until = Some(self.clock.now() + LISTEN_ON);
                }
                Err(_) => {}
            }
            let more = self.receive(&mut batch);
            self.serve();
            self.let_leave();
            let more = self.send_due() || more;
            self.sockets.flush();
            self.publish();
            let now = self.clock.now();
            if listen_until.is_some_and(|until| until <= now) {
                break;
            }
            if !more {
                self.wait(now, listen_until);
            }
        }
        self.outcomes.socket_losses = self.sockets.losses();
        self.outcomes
    }

    fn follow(&mut self, order: Order) {
        match order {
            Order::Join(join) => self.admit(*join),
            // Entries of `due` that are too early are harmless.
            Order::Hush => self
                .calls
                .iter_mut()
                .flatten()
                .for_each(Call::end_greetings),
            Order::Talk { from, until } => {
                // Who speaks already goes on.
                let pace = &self.pace;
                let pacer = || Pacer::new(from, pace.interval, self.sessions);
                self.pacer.get_or_insert_with(pacer);
                self.phase = Some((from, until));
            }
            Order::Leave { session, gone } => self.leaving.push(Leaving {
                session: self.share.place(session),
                until: None,
                _gone: gone,
            }),
        }
    }

    /// Forgets who was told to leave and has nothing more to wait for.
    fn let_leave(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut leaving = std::mem::take(&mut self.leaving);
        leaving.retain_mut(|leaving| {
            let is_staying = self.is_staying(now, leaving);
            if !is_staying {
                self.retire(leaving.session);
            }
            is_staying
        });
        self.leaving = leaving;
    }

    /// Whether it is to be kept for now. From its connection on it sends nothing more.
    fn is_staying(&mut self, now: Timestamp, leaving: &mut Leaving) -> bool {
        let call = &mut self.calls[leaving.session];
        let (Some(call), Some(outcome)) = (call, &self.outcomes.calls[leaving.session]) else {
            return false;
        };
        if call.is_joining() {
            return true;
        }
        call.rest();
        let until = *leaving.until.get_or_insert(now + RETURN_MAX);
        outcome.received < outcome.sent && now < until
    }

    /// Frees the place of a session; what it came to is kept.
    fn retire(&mut self, session: usize) {
        self.forget(session);
        let outcome = self.outcomes.calls[session].take();
        self.outcomes.left.extend(outcome);
    }

    fn admit(&mut self, join: Join) {
        let (now, session) = (self.clock.now(), self.share.place(join.session));
        let outcome = Outcome {
            role: join.agreed.role,
            posted: join.posted,
            answered: join.answered,
            secured: None,
            connected: None,
            sent: 0,
            received: 0,
            ended: None,
            shard: None,
        };
        // Nobody is there, unless it was called over a live one.
        self.retire(session);
        self.outcomes.calls[session] = Some(outcome);
        let call = Call::new(now, join.agreed, self.rng.u64());
        self.due.insert((call.deadline(), session as u32));
        self.calls[session] = Some(call);
        self.joining += 1;
    }

    /// Takes a session off all books but that of outcomes.
    fn forget(&mut self, session: usize) {
        if let Some(call) = self.calls[session].take() {
            self.due.remove(&(call.deadline(), session as u32));
            if call.is_joining() {
                self.joining -= 1;
                self.progress.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// While sessions join every datagram is waited for; later only what is due to be sent.
    fn wait(&self, now: Timestamp, until: Option<Timestamp>) {
        let due = self.due.first().map(|(at, _)| *at);
        let pacer = self.pacer.as_ref().map(Pacer::deadline);
        let longest = if self.joining > 0 {
            Duration::MAX
        } else {
            NAP_MAX
        };
        let leaving = self.leaving.iter().filter_map(|leaving| leaving.until);
        let next = due
            .into_iter()
            .chain(pacer)
            .chain(until)
            .chain(leaving)
            .min();
        let left = next.map_or(NAP_MAX, |next| next.since(now));
        self.sockets
            .wait(left.clamp(NAP_MIN, longest), self.joining > 0);
    }

    /// Takes what has come; whether there is more.
    fn receive(&mut self, batch: &mut RecvBatch) -> bool {
        self.sockets.look();
        let mut index = 0;
        while let Some(socket) = self.sockets.ready(index) {
            index += 1;
            let mut rounds = 0;
            while self.sockets.recv(socket, &self.clock, batch) {
                let is_full = batch.free_count() == 0;
                let now = self.clock.now();
                for datagram in batch.datagrams() {
                    self.handle(now, socket, datagram);
                }
                batch.clear();
                rounds += 1;
                if !is_full {
                    break;
                }
                if rounds == BATCHES_EACH_TURN_MAX {
                    return true;
                }
            }
        }
        false
    }

    fn handle(&mut self, now: Timestamp, socket: usize, datagram: Datagram<'_>) {
        let session = self.sockets.session_of(socket, datagram.destination.ip());
        let class = classify(datagram.contents);
        match class {
            Class::Rtp => self.take_media(session, datagram),
            Class::Stun | Class::Dtls => {
                let (source, contents) = (datagram.source, &*datagram.contents);
                self.drive(now, session, |call, turn| match class {
                    Class::Stun => call.handle_stun(turn, source, contents),
                    _ => call.handle_dtls(turn, source, contents),
                });
            }
            // Reports are for who looks after a call's quality; a load has none.
            Class::Rtcp | Class::Unknown => {}
        }
    }

    /// Does what calls are due to do, media apart.
    fn serve(&mut self) {
        loop {
            let now = self.clock.now();
            match self.due.first() {
                Some(&(at, session)) if at <= now => {
                    self.due.pop_first();
                    self.drive(now, session as usize, Call::handle_timeout);
                    self.greet(now, session as usize);
                }
                _ => return,
            }
        }
    }

    /// Calls into a session and takes down what came of it.
    fn drive(
        &mut self,
        now: Timestamp,
        session: usize,
        act: impl FnOnce(&mut Call, &mut Turn<'_>) -> Result<(), Ending>,
    ) {
        let Some(Some(call)) = self.calls.get_mut(session) else {
            return;
        };
        let before = call.deadline();
        let was_secured = call.media.is_some();
        let sockets = &mut self.sockets;
        let mut send = |destination: SocketAddr, contents: &[u8]| {
            sockets.push(session, destination, Lane::Control, contents.len(), |out| {
                out.copy_from_slice(contents);
                Some(contents.len())
            });
        };
        let mut turn = Turn {
            now,
            epoch: self.clock.epoch(),
            credentials: &self.credentials,
            rng: &mut self.rng,
            room: &mut self.room,
            send: &mut send,
        };
        let result = act(call, &mut turn);
        self.due.remove(&(before, session as u32));
        match result {
            Ok(()) => {
                self.due.insert((call.deadline(), session as u32));
                if call.media.is_some() && !was_secured {
                    self.note_secured(session, now);
                }
            }
            // The server may end what we were about to.
            Err(Ending::Closed) if call.is_resting() => self.forget(session),
            Err(ending) => self.end(session, ending),
        }
    }

    fn note_secured(&mut self, session: usize, now: Timestamp) {
        let server = self.calls[session].as_ref().and_then(Call::destination);
        let shard = server.map(|server| self.outcomes.shard_at(Some(server)));
        if let Some(outcome) = &mut self.outcomes.calls[session] {
            outcome.secured = Some(now);
            outcome.shard = shard;
            if outcome.role == Role::Publish {
                self.note_connected(session, now);
            }
        }
    }

    /// The first authentic packet came, at `received`.
    fn note_connected(&mut self, session: usize, received: Timestamp) {
        let (Some(call), Some(outcome)) =
            (&mut self.calls[session], &mut self.outcomes.calls[session])
        else {
            return;
        };
        self.due.remove(&(call.deadline(), session as u32));
        call.note_connected();
        self.due.insert((call.deadline(), session as u32));
        outcome.connected = Some(received);
        self.joining -= 1;
        self.progress.connected.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&mut self, session: usize, ending: Ending) {
        self.forget(session);
        if let Some(outcome) = &mut self.outcomes.calls[session] {
            outcome.ended = Some(ending);
        }
    }

    /// Sends a first packet, if one is due.
    fn greet(&mut self, now: Timestamp, session: usize) {
        let Some(call) = &mut self.calls[session] else {
            return;
        };
        let before = call.deadline();
        if call.takes_greeting(now) {
            self.due.remove(&(before, session as u32));
            self.due.insert((call.deadline(), session as u32));
            let moment = Moment {
                timestamp: media_time(now),
                marker: true,
            };
            self.send(session, moment, GREETING);
        }
    }

    /// Sends what is due; whether more is.
    fn send_due(&mut self) -> bool {
        for _ in 0..SENDS_EACH_TURN_MAX {
            let now = self.clock.now();
            let Some(due) = self.pacer.as_mut().and_then(|pacer| pacer.poll(now)) else {
                return false;
            };
            if self.phase.is_some_and(|(_, until)| due.at >= until) {
                self.end_pacing();
                return false;
            }
            self.talk(now, due);
        }
        true
    }

    fn end_pacing(&mut self) {
        let pacer = self.pacer.take();
        self.outcomes.skipped += pacer.map_or(0, |pacer| pacer.skipped);
    }

    /// Sends a session's packet, if it is its time to talk.
    fn talk(&mut self, now: Timestamp, due: Due) {
        let talk = self.pace.talk;
        // What is sent before the other side is known to listen may be lost by no fault of its own. An agent only says
        // anything once it has heard something.
        let listens =
            |call: &Call| !call.is_joining() || matches!(self.pace.contents, Contents::Speech(_));
        let sends = |call: &Call| {
            call.role() != Role::Subscribe
                && call.media.is_some()
                && !call.is_resting()
                && listens(call)
        };
        let session = due.session as usize;
        let number = self.share.session(due.session);
        if !talk.is_on(number, due.interval) || !self.calls[session].as_ref().is_some_and(sends) {
            return;
        }
        let moment = Moment {
            timestamp: media_time(due.at),
            marker: talk.begins(number, due.interval),
        };
        if !self.send(session, moment, due.interval as u32 % GREETING) || self.phase.is_none() {
            return;
        }
        let late = now.since(due.at);
        self.outcomes.lateness.note(late);
        self.outcomes.late += u64::from(late > self.pace.interval);
        if let Some(outcome) = &mut self.outcomes.calls[session] {
            outcome.sent += 1;
            self.sent += 1;
        }
    }

    /// Seals and queues one packet.
    fn send(&mut self, session: usize, moment: Moment, number: u32) -> bool {
        let Some(call) = &mut self.calls[session] else {
            return false;
        };
        let Some((destination, media)) = call.destination().zip(call.media.as_mut()) else {
            return false;
        };
        let payload = match &self.pace.contents {
            Contents::Stamps(bytes) => {
                let stamp = Stamp {
                    session: self.share.session(session as u32),
                    packet: number,
                    sent: self.clock.now(),
                };
                stamp.write(&mut self.payload[..*bytes]);
                &self.payload[..*bytes]
            }
            Contents::Speech(payloads) => {
                // No two sessions say the same at one time.
                &*payloads[(number as usize + 37 * session) % payloads.len()]
            }
        };
        let size_max = payload.len() + OVERHEAD_BYTES;
        let seal = |out: &mut [u8]| media.seal(moment, payload, out);
        self.sockets
            .push(session, destination, Lane::Media, size_max, seal)
    }

    fn take_media(&mut self, session: usize, datagram: Datagram<'_>) {
        let Some(Some(call)) = self.calls.get_mut(session) else {
            return;
        };
        let role = call.role();
        let Some(media) = &mut call.media else {
            return;
        };
        let Some(outcome) = &mut self.outcomes.calls[session] else {
            return;
        };
        let own = self.share.session(session as u32);
        let is_first = outcome.connected.is_none();
        let mut is_greeting = false;
        let is_sampled = role != Role::Subscribe || outcome.received.is_multiple_of(SAMPLE);
        if is_first || is_sampled {
            let Some(payload) = media.open(datagram.contents) else {
                self.outcomes.refused += 1;
                return;
            };
            self.outcomes.opened += 1;
            let stamp = Stamp::read(payload);
            let is_expected = match (&self.pace.contents, role, stamp) {
                (Contents::Speech(_), ..) => true,
                (Contents::Stamps(_), Role::Subscribe, stamp) => stamp.is_some(),
                (Contents::Stamps(_), _, stamp) => stamp.is_some_and(|stamp| stamp.session == own),
            };
            if !is_expected {
                self.outcomes.misdelivered += 1;
                return;
            }
            is_greeting = stamp.is_some_and(|stamp| stamp.packet == GREETING);
            // What was sent before the media phase does not belong to it.
            if let (Some(stamp), Some((from, _)), Some(shard)) = (stamp, self.phase, outcome.shard)
                && stamp.sent >= from
                && !is_greeting
            {
                self.outcomes.shards[shard]
                    .round_trips
                    .note(datagram.received.since(stamp.sent));
            }
        } else if !media.knows(datagram.contents) {
            self.outcomes.refused += 1;
            return;
        }
        if self
            .phase
            .is_some_and(|(from, _)| datagram.received >= from && !is_greeting)
        {
            outcome.received += 1;
            self.received += 1;
        }
        if is_first {
            self.note_connected(session, datagram.received);
        }
    }

    fn publish(&mut self) {
        for (count, all) in [
            (&mut self.sent, &self.progress.sent),
            (&mut self.received, &self.progress.received),
        ] {
            let count = std::mem::take(count);
            if count > 0 {
                all.fetch_add(count, Ordering::Relaxed);
            }
        }
    }
}

/// In units of Opus' RTP clock: from packet to packet of a session it grows by exactly an interval.
fn media_time(at: Timestamp) -> u32 {
    (u128::from(at.as_nanos()) * u128::from(CLOCK_PER_MS) / 1_000_000) as u32
}
