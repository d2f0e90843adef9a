//! Virtual time: whatever is due first happens, and the clock jumps there.
//!
//! The world owns shards and members and plays everybody between them: the network, and a server that passes
//! offers to a shard and its answers back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::hostile::{Sight, Stranger};
use super::link::{Impairment, Link};
use super::members::Members;
use super::peer::{Answer, Outbox, Peer};
pub use super::port::Cut;
use super::port::SimPort;
use super::queue::{Due, Pool, Queue};
use crate::drive::{DigestValue, Pump, RelayLanes, RelayStats, Turn, Turner};
use crate::ids::{RequestId, SessionId, ShardId};
use crate::journal::{Header, Payloads, Recorder, Retention, Sink};
use crate::limits::DATAGRAM_BYTES_MAX;
use crate::message::{CloseReason, Command, Event, Role, ShardStats};
use crate::plan::IceCredentials;
use crate::relay::Relay;
use crate::rng::Seed;
use crate::session::transport::Identity;
use crate::shard::{Shard, ShardConfig, TableSizes, Tuning};
use crate::time::{Epoch, Timestamp, earliest};
use crate::wire::{Class, classify};

/// Where the shards listen; each at a port of its own.
const SERVER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const SERVER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
const FIRST_PORT: u16 = 40_000;
/// Sessions one shard takes.
const SESSIONS: u32 = 10_000;
/// Turns at one time after which a shard that still wants one makes no progress.
const TURNS_AT_ONCE: u32 = 100_000;
/// Between an offer and its way to the shard, and between the answer and its way back, HTTP included.
pub const SIGNALLING_DELAY: Duration = Duration::from_nanos(5_000_117);

/// Of what a world is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Everything random derives from it.
    pub seed: u64,
    /// Shards.
    pub shards: u16,
    /// How datagrams are handed over.
    pub cut: Cut,
    /// A shard looks at its socket only so often; `None`: at once.
    pub nap: Option<Duration>,
}

impl Options {
    /// One shard that reads at once.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            shards: 1,
            cut: Cut::default(),
            nap: None,
        }
    }
}

/// A member of the world: one client of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberId(pub u32);

/// Who joins.
pub struct Join {
    /// The client.
    pub peer: Box<dyn Peer>,
    /// What its session is for.
    pub role: Role,
    /// Which shard takes it.
    pub shard: u16,
    /// Its way to the server.
    pub up: Vec<Impairment>,
    /// The way back.
    pub down: Vec<Impairment>,
    /// It comes over IPv6.
    pub ipv6: bool,
}

/// A client's place in the world.
pub struct Member {
    /// The client.
    pub peer: Box<dyn Peer>,
    /// What its session is for.
    pub role: Role,
    /// Which shard has it.
    pub shard: u16,
    /// Its session, once opened.
    pub session: Option<SessionId>,
    /// When it joined.
    pub joined: Timestamp,
    /// When its session had its keys.
    pub connected: Option<Timestamp>,
    /// Why its session closed, and when.
    pub closed: Option<(Timestamp, CloseReason)>,
    /// How often its address changed.
    pub rebinds: u16,
    /// RTP datagrams lost on its way to the server, and on the way back.
    pub rtp_lost_up: u64,
    /// See [`Member::rtp_lost_up`].
    pub rtp_lost_down: u64,
    /// The client is still there.
    pub is_present: bool,
    address: SocketAddr,
    up: Link,
    down: Link,
    answer: Option<Answer>,
    restarted: Option<IceCredentials>,
    armed: Option<Timestamp>,
}

impl Member {
    /// Its two links, there and back.
    #[must_use]
    pub const fn links(&self) -> (&Link, &Link) {
        (&self.up, &self.down)
    }
}

struct Host {
    pump: Pump,
    port: SimPort,
    deadline: Option<Timestamp>,
    /// Something waits for it.
    is_touched: bool,
    /// When it next looks at its socket.
    looks_at: Option<Timestamp>,
    /// Turns that it made because its deadline had come.
    timer_turns: u64,
}

/// Shards, members, strangers, and one clock.
pub struct World {
    options: Options,
    seed: Seed,
    now: Timestamp,
    queue: Queue,
    pool: Pool,
    hosts: Vec<Host>,
    relays: RelayLanes,
    members: Members,
    strangers: Vec<Stranger>,
    sight: Option<Sight>,
    /// Sockets take nothing until then.
    clogged_until: Option<Timestamp>,
    /// Reused between calls.
    sent: Vec<u32>,
    findings: Vec<String>,
    steps: u64,
}

impl World {
    /// A world with shards and nobody else.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&options.seed.to_be_bytes());
        let seed = Seed::new(bytes);
        let identity = Arc::new(Identity::scripted(&seed.derive("identity", 0)));
        let config = Arc::new(ShardConfig {
            identity,
            sessions_max: SESSIONS,
            tuning: Tuning::default(),
        });
        Self::with_config(options, &config, Epoch::simulated())
    }

    /// The same with a configuration and an epoch of one's own: for peers that want real DTLS.
    #[must_use]
    pub fn with_config(options: Options, config: &Arc<ShardConfig>, epoch: Epoch) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&options.seed.to_be_bytes());
        let seed = Seed::new(bytes);
        let relays = RelayLanes::among(options.shards);
        let host = |number: u16| {
            let shard_seed = seed.derive("shard", number.into());
            let shard = Shard::new(ShardId(number), Arc::clone(config), epoch, shard_seed);
            Host {
                pump: Pump::new(shard.expect("a valid configuration")).with_digest(),
                port: SimPort::new(
                    options.cut,
                    FIRST_PORT + number,
                    relays.open(ShardId(number), || ()),
                ),
                deadline: None,
                is_touched: false,
                looks_at: None,
                timer_turns: 0,
            }
        };
        Self {
            hosts: (0..options.shards).map(host).collect(),
            relays,
            options,
            now: Timestamp::from_millis(1),
            queue: Queue::default(),
            pool: Pool::default(),
            members: Members::default(),
            strangers: Vec::new(),
            sight: None,
            clogged_until: None,
            sent: Vec::new(),
            findings: Vec::new(),
            steps: 0,
            seed,
        }
    }

    /// The time.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Shards.
    #[must_use]
    pub fn shards(&self) -> u32 {
        self.hosts.len() as u32
    }

    /// The root of its randomness.
    #[must_use]
    pub const fn seed(&self) -> &Seed {
        &self.seed
    }

    /// Everybody who joined, by number; of a world that [let go](Self::release) of some, those who came after them.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        self.members.as_slice()
    }

    /// Lets go of the first members as long as each is gone for good: its session closed so long ago that nothing of
    /// it is under way any more. They may not be spoken of from then on.
    pub fn release(&mut self, after: Duration) -> impl Iterator<Item = Member> {
        let now = self.now;
        self.members.release(move |member| {
            let closed = member.closed.is_some_and(|(at, _)| now.since(at) >= after);
            closed && !member.is_present
        })
    }

    /// One of them.
    #[must_use]
    pub fn member(&self, id: MemberId) -> &Member {
        &self.members[id.0]
    }

    /// One of them, to change its peer.
    pub fn member_mut(&mut self, id: MemberId) -> &mut Member {
        &mut self.members[id.0]
    }

    /// The number the next to join will have.
    #[must_use]
    pub fn next_member(&self) -> MemberId {
        MemberId(self.members.next())
    }

    /// What no correct server does, as the world saw it.
    #[must_use]
    pub fn findings(&self) -> &[String] {
        &self.findings
    }

    /// Figures of each shard.
    pub fn stats(&self) -> impl Iterator<Item = ShardStats> {
        self.hosts.iter().map(|host| host.pump.shard().stats())
    }

    /// What each shard has said to the others.
    pub fn relay_stats(&self) -> impl Iterator<Item = RelayStats> {
        (0..self.options.shards).map(|number| self.relays.stats(ShardId(number)))
    }

    /// From now on what a shard says to the others is lost where this holds, as in a lane that is full.
    pub fn lose_relays(&mut self, shard: u16, loses: fn(&Relay) -> bool) {
        self.hosts[usize::from(shard)].port.loses = loses;
    }

    /// Says something to a shard in another's name, to be heard as time goes on.
    pub fn relay(&mut self, from: u16, to: u16, relay: Relay) {
        let lane = &self.hosts[usize::from(from)].port.relays;
        lane.send(ShardId(to), relay);
    }

    /// Table sizes of each shard.
    pub fn table_sizes(&self) -> impl Iterator<Item = TableSizes> {
        self.hosts
            .iter()
            .map(|host| host.pump.shard().table_sizes())
    }

    /// When each shard wants to be woken.
    pub fn deadlines(&self) -> impl Iterator<Item = Option<Timestamp>> {
        self.hosts.iter().map(|host| host.pump.shard().deadline())
    }

    /// How often each shard was woken because its deadline had come, and nothing before it.
    pub fn timer_turns(&self) -> impl Iterator<Item = u64> {
        self.hosts.iter().map(|host| host.timer_turns)
    }

    /// The bugs of each shard, to plant some.
    #[cfg(feature = "mutations")]
    pub fn bugs_mut(&mut self) -> impl Iterator<Item = &mut crate::bugs::Bugs> {
        self.hosts.iter_mut().map(|host| host.pump.bugs_mut())
    }

    /// Records a shard, of which nothing has happened yet, for a sink that keeps all or the end of it; gives the header
    /// of its journal.
    pub fn record(
        &mut self,
        shard: u16,
        payloads: Payloads,
        retention: Retention,
        sink: Box<dyn Sink>,
    ) -> Header {
        let pump = &mut self.hosts[usize::from(shard)].pump;
        let recorder = Recorder::new(sink, payloads);
        pump.record(match retention {
            Retention::Whole { .. } => recorder,
            Retention::Ring { .. } => recorder.with_births(),
        });
        Header::new(pump.shard(), "simulation", payloads, retention)
    }

    /// Hash of all that the shards put out, each output with its time.
    #[must_use]
    pub fn digest(&self) -> DigestValue {
        let digests = self.hosts.iter().filter_map(|host| host.pump.digest());
        DigestValue::of_all(digests.map(crate::drive::Digest::value))
    }

    /// Events of the world so far: datagrams that arrived, and calls of members for their timers.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// A client makes its offer now.
    pub fn join(&mut self, join: Join) -> MemberId {
        let id = self.next_member();
        let number = u64::from(id.0);
        let link = |impairments, label| Link::new(impairments, &self.seed.derive(label, number));
        let member = Member {
            up: link(join.up, "up"),
            down: link(join.down, "down"),
            peer: join.peer,
            role: join.role,
            shard: join.shard,
            session: None,
            joined: self.now,
            connected: None,
            closed: None,
            rebinds: 0,
            rtp_lost_up: 0,
            rtp_lost_down: 0,
            is_present: true,
            address: address(id, 0, join.ipv6),
            answer: None,
            restarted: None,
            armed: None,
        };
        self.members.push(member);
        self.queue
            .push(self.now + SIGNALLING_DELAY, Due::Offer(id.0));
        id
    }

    /// A stranger appears.
    pub fn add_stranger(&mut self, stranger: Stranger) {
        self.sight.get_or_insert_default();
        let place = self.strangers.len() as u32;
        self.queue.push(stranger.next, Due::Stranger(place));
        self.strangers.push(stranger);
    }

    /// Strangers stop, links do nothing but take their time, sockets take what there is.
    pub fn heal(&mut self) {
        self.strangers.clear();
        self.sight = None;
        self.clogged_until = None;
        for member in self.members.iter_mut() {
            member.up.heal();
            member.down.heal();
        }
    }

    /// The sockets of all shards take nothing until then.
    pub fn clog_until(&mut self, until: Timestamp) {
        self.clogged_until = Some(until);
    }

    /// A client leaves and says so to its session.
    pub fn leave(&mut self, id: MemberId) {
        self.with_peer(id.0, |peer, now, out| peer.close(now, out));
        self.members[id.0].is_present = false;
    }

    /// A client is gone without a word.
    pub fn vanish(&mut self, id: MemberId) {
        self.members[id.0].is_present = false;
    }

    /// The server closes a client's session, as a DELETE does.
    pub fn close(&mut self, id: MemberId) {
        let member = &self.members[id.0];
        if let (Some(session), None) = (member.session, member.closed) {
            let reason = CloseReason::Requested;
            self.command(member.shard, Command::Close { session, reason });
        }
    }

    /// The server says something to a shard.
    pub fn command(&mut self, shard: u16, command: Command) {
        let host = &mut self.hosts[usize::from(shard)];
        host.port.commands.push_back(command);
        host.is_touched = true;
    }

    /// A client's NAT gives it another address; what is sent to the old one is lost.
    pub fn rebind(&mut self, id: MemberId) {
        let member = &mut self.members[id.0];
        member.rebinds += 1;
        member.address = address(id, member.rebinds, member.address.is_ipv6());
    }

    /// A client restarts ICE.
    pub fn restart(&mut self, id: MemberId) {
        let member = &mut self.members[id.0];
        if member.session.is_some() && member.closed.is_none() && member.restarted.is_none() {
            member.restarted = Some(member.peer.restart());
            self.queue
                .push(self.now + SIGNALLING_DELAY, Due::Offer(id.0));
        }
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    /// Lets time pass until `end`.
    pub fn run_until(&mut self, end: Timestamp) {
        let mut stalled = 0;
        loop {
            self.turn_touched();
            let Some(next) = self.next().filter(|next| *next <= end) else {
                break;
            };
            stalled = if next > self.now { 0 } else { stalled + 1 };
            if stalled == TURNS_AT_ONCE {
                self.findings
                    .push(format!("{}: time stands still", self.now));
                return;
            }
            self.now = next.max(self.now);
            self.step();
        }
        self.now = end.max(self.now);
    }

    /// What is due first, if anything is.
    fn next(&self) -> Option<Timestamp> {
        let mut next = self.queue.next();
        for host in &self.hosts {
            next = earliest(next, earliest(host.deadline, host.looks_at));
        }
        earliest(next, self.clogged_until)
    }

    /// Everything that is due now. Shards turn once all of it lies in their queues.
    fn step(&mut self) {
        if self.clogged_until.is_some_and(|until| until <= self.now) {
            self.clogged_until = None;
            self.hosts
                .iter_mut()
                .for_each(|host| host.is_touched = true);
        }
        // A timer that is due fires before what arrives at the same time, however that is cut into turns.
        for host in 0..self.hosts.len() {
            if self.hosts[host]
                .deadline
                .is_some_and(|deadline| deadline <= self.now)
            {
                self.hosts[host].timer_turns += 1;
                self.turn(host, 0);
            }
        }
        while let Some(due) = self.queue.pop_due(self.now) {
            self.steps += 1;
            match due {
                Due::Arrival(place) => self.arrive(place),
                Due::Member(number) => self.wake(number),
                Due::Stranger(place) => self.let_stranger_act(place),
                Due::Offer(number) => self.pass_offer(number),
                Due::Answer(number) => self.pass_answer(number),
            }
        }
        for host in &mut self.hosts {
            if host.looks_at.is_some_and(|at| at <= self.now) {
                host.looks_at = None;
                host.is_touched = true;
            }
        }
    }

    /// Lets shards turn until none has anything to do, as what one says to another takes no time.
    fn turn_touched(&mut self) {
        for _ in 0..TURNS_AT_ONCE {
            let mut touched = false;
            for host in 0..self.hosts.len() {
                let Host {
                    is_touched, port, ..
                } = &mut self.hosts[host];
                if std::mem::take(is_touched) || !port.relays.is_empty() {
                    touched = true;
                    self.turn(host, self.options.cut.per_turn);
                }
            }
            if !touched {
                return;
            }
        }
        self.findings
            .push(format!("{}: shards talk without end", self.now));
    }

    /// Turns a shard's pump until it waits and nothing is left of what arrived; `per_turn` of zero leaves that.
    fn turn(&mut self, number: usize, per_turn: usize) {
        let mut turns = 0;
        loop {
            let host = &mut self.hosts[number];
            host.port.now = self.now;
            host.port.left = per_turn;
            host.port.clogged = self.clogged_until.is_some();
            std::mem::swap(&mut host.port.pool, &mut self.pool);
            let turn = host.pump.turn(self.now, &mut host.port);
            std::mem::swap(&mut host.port.pool, &mut self.pool);
            self.collect(number);
            let host = &mut self.hosts[number];
            turns += 1;
            if turns == TURNS_AT_ONCE {
                self.findings
                    .push(format!("{}: shard {number} turns without end", self.now));
                return;
            }
            if let Turn::Wait { deadline, writable } = turn {
                host.deadline = deadline;
                let has_room = writable && !host.port.clogged;
                if !has_room && (per_turn == 0 || host.port.inbound.is_empty()) {
                    return;
                }
            }
        }
    }

    /// Passes on what a turn put out.
    fn collect(&mut self, number: usize) {
        while let Some(place) = self.hosts[number].port.outbound.pop_front() {
            self.depart(place);
        }
        while let Some(event) = self.hosts[number].port.events.pop_front() {
            self.on_event(event);
        }
    }

    /// A datagram of a shard is on its way.
    fn depart(&mut self, place: u32) {
        let flying = self.pool.at(place);
        let (destination, bytes) = (flying.destination, flying.contents.len());
        if bytes == 0 || bytes > DATAGRAM_BYTES_MAX {
            self.findings.push(format!(
                "{}: a datagram of {bytes} bytes was sent",
                self.now
            ));
        }
        let is_rtp = classify(&flying.contents) == Class::Rtp;
        let owner = owner(destination).and_then(|id| self.members.get_mut(id.0));
        let Some(member) = owner else {
            let finding = format!(
                "{}: a datagram went to {destination}, who proved nothing",
                self.now
            );
            self.findings.push(finding);
            self.pool.free(place);
            return;
        };
        let arrivals = member.down.pass(self.now, bytes);
        let is_there = member.address == destination && member.is_present;
        if arrivals.iter().next().is_none() || !is_there {
            member.rtp_lost_down += u64::from(is_rtp);
        }
        if !is_there {
            self.pool.free(place);
            return;
        }
        self.schedule(place, arrivals);
    }

    fn schedule(&mut self, place: u32, arrivals: super::link::Arrivals) {
        let mut places = Some(place);
        for at in arrivals.iter() {
            let place = places.take().unwrap_or_else(|| self.pool.duplicate(place));
            self.queue.push(at, Due::Arrival(place));
        }
        // It was lost.
        if let Some(place) = places {
            self.pool.free(place);
        }
    }

    fn arrive(&mut self, place: u32) {
        let destination = self.pool.at(place).destination;
        if let Some(number) = host_of(destination) {
            self.pool.at_mut(place).received = self.now;
            let flying = self.pool.at(place);
            if let Some(sight) = &mut self.sight {
                sight.note(flying.source, flying.destination, &flying.contents);
            }
            let host = &mut self.hosts[number];
            host.port.inbound.push_back(place);
            match self.options.nap {
                None => host.is_touched = true,
                Some(nap) => {
                    let nap = nap.as_nanos() as u64;
                    let look = self.now.as_nanos().next_multiple_of(nap);
                    host.looks_at.get_or_insert(Timestamp::from_nanos(look));
                }
            }
            return;
        }
        let found = owner(destination).map(|id| id.0);
        let member = found.and_then(|number| self.members.get(number));
        let is_there =
            member.is_some_and(|member| member.address == destination && member.is_present);
        if let (Some(number), true) = (found, is_there) {
            let mut contents = std::mem::take(&mut self.pool.at_mut(place).contents);
            self.with_peer(number, |peer, now, out| {
                peer.handle_datagram(now, &mut contents, out);
            });
            self.pool.at_mut(place).contents = contents;
        } else if let Some(member) = found.and_then(|number| self.members.get_mut(number)) {
            let is_rtp = classify(&self.pool.at(place).contents) == Class::Rtp;
            member.rtp_lost_down += u64::from(is_rtp);
        }
        self.pool.free(place);
    }

    fn wake(&mut self, number: u32) {
        let Some(member) = self.members.get_mut(number) else {
            // It was let go of.
            return;
        };
        if member.armed.is_some_and(|armed| armed > self.now) {
            // Another wish came first; that one's turn comes.
            return;
        }
        member.armed = None;
        let due = member
            .peer
            .deadline()
            .is_some_and(|deadline| deadline <= self.now);
        if due {
            self.with_peer(number, |peer, now, out| peer.handle_timeout(now, out));
        } else {
            self.arm(number);
        }
    }

    /// Calls a peer, passes on what it sends, and keeps its deadline.
    fn with_peer(
        &mut self,
        number: u32,
        call: impl FnOnce(&mut dyn Peer, Timestamp, &mut Outbox<'_>),
    ) {
        let member = &mut self.members[number];
        if !member.is_present {
            return;
        }
        let server = match member.address {
            SocketAddr::V4(_) => SERVER_V4,
            SocketAddr::V6(_) => SERVER_V6,
        };
        let ends = (
            member.address,
            SocketAddr::new(server, FIRST_PORT + member.shard),
        );
        let mut sent = std::mem::take(&mut self.sent);
        let mut out = Outbox {
            pool: &mut self.pool,
            sent: &mut sent,
            ends,
        };
        call(&mut *member.peer, self.now, &mut out);
        for place in sent.drain(..) {
            let flying = self.pool.at(place);
            let is_rtp = classify(&flying.contents) == Class::Rtp;
            let member = &mut self.members[number];
            let arrivals = member.up.pass(self.now, flying.contents.len());
            member.rtp_lost_up += u64::from(is_rtp && arrivals.iter().next().is_none());
            self.schedule(place, arrivals);
        }
        self.sent = sent;
        self.arm(number);
    }

    fn arm(&mut self, number: u32) {
        let member = &mut self.members[number];
        let Some(deadline) = member.peer.deadline().filter(|_| member.is_present) else {
            return;
        };
        if member.armed.is_none_or(|armed| deadline < armed) {
            let deadline = deadline.max(self.now);
            member.armed = Some(deadline);
            self.queue.push(deadline, Due::Member(number));
        }
    }

    fn let_stranger_act(&mut self, place: u32) {
        let Some(sight) = &self.sight else { return };
        let Some(stranger) = self.strangers.get_mut(place as usize) else {
            return;
        };
        let server = SocketAddr::new(SERVER_V4, FIRST_PORT);
        if let Some(made) = stranger.act(self.now, server, sight) {
            let len = made.contents.len();
            let put = self.pool.put((made.source, made.destination), len, |out| {
                out.copy_from_slice(&made.contents);
                Some(len)
            });
            // It is closer to the server than anybody.
            let at = self.now + Duration::from_micros(100);
            let arrival = put.expect("it was written");
            self.queue.push(at, Due::Arrival(arrival));
        }
        self.queue.push(stranger.next, Due::Stranger(place));
    }

    fn pass_offer(&mut self, number: u32) {
        let member = &self.members[number];
        let (shard, request) = (member.shard, RequestId(number.into()));
        let command = match (member.session, &member.restarted) {
            (Some(session), Some(ice)) => Command::Restart {
                request,
                session,
                remote_ice: ice.clone(),
            },
            _ => Command::Open {
                request,
                plan: Box::new(member.peer.plan()),
                role: member.role,
            },
        };
        self.command(shard, command);
    }

    fn pass_answer(&mut self, number: u32) {
        let member = &mut self.members[number];
        if let Some(answer) = member.answer.take() {
            self.with_peer(number, |peer, now, out| peer.on_answer(now, &answer, out));
        } else if let Some(ice) = member.restarted.take() {
            self.with_peer(number, |peer, now, out| peer.on_restarted(now, &ice, out));
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Opened {
                request,
                session,
                local,
            } => {
                let member = &mut self.members[request.0 as u32];
                let server = match member.address {
                    SocketAddr::V4(_) => SERVER_V4,
                    SocketAddr::V6(_) => SERVER_V6,
                };
                member.session = Some(session);
                member.answer = Some(Answer {
                    session,
                    local: *local,
                    server: SocketAddr::new(server, FIRST_PORT + member.shard),
                });
                self.answer(request);
            }
            Event::Restarted { request, ice } => {
                self.members[request.0 as u32].restarted = Some(ice);
                self.answer(request);
            }
            Event::Rejected { request, .. } => self.members[request.0 as u32].restarted = None,
            Event::Connected { session, .. } => {
                let members = &mut self.members.iter_mut();
                if let Some(member) = members.rfind(|member| member.session == Some(session)) {
                    member.connected = Some(self.now);
                }
            }
            Event::Closed { session, reason } => {
                let now = self.now;
                let found = self
                    .members
                    .iter_mut()
                    .rfind(|member| member.session == Some(session));
                match found {
                    Some(member) if member.closed.is_none() => member.closed = Some((now, reason)),
                    _ => self
                        .findings
                        .push(format!("{now}: {session} closed and was not open")),
                }
                if reason == CloseReason::Fault {
                    self.findings.push(format!("{now}: {session} panicked"));
                }
            }
            _ => {}
        }
    }

    fn answer(&mut self, request: RequestId) {
        let at = self.now + SIGNALLING_DELAY;
        self.queue.push(at, Due::Answer(request.0 as u32));
    }
}

/// Where a member lives after so many rebindings: whose an address is can be read off it.
fn address(id: MemberId, rebinds: u16, ipv6: bool) -> SocketAddr {
    let number = id.0;
    let ip = if ipv6 {
        IpAddr::V6(Ipv6Addr::new(
            0xfd01,
            0,
            0,
            0,
            0,
            0,
            (number >> 16) as u16,
            number as u16,
        ))
    } else {
        let [_, a, b, c] = number.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(100, a, b, c))
    };
    SocketAddr::new(ip, 5_000 + rebinds)
}

fn owner(address: SocketAddr) -> Option<MemberId> {
    match address.ip() {
        IpAddr::V4(ip) => {
            let [first, a, b, c] = ip.octets();
            (first == 100).then(|| MemberId(u32::from_be_bytes([0, a, b, c])))
        }
        IpAddr::V6(ip) => {
            let [first, .., high, low] = ip.segments();
            (first == 0xfd01).then(|| MemberId(u32::from(high) << 16 | u32::from(low)))
        }
    }
}

/// Which shard listens at an address.
fn host_of(address: SocketAddr) -> Option<usize> {
    let is_server = address.ip() == SERVER_V4 || address.ip() == SERVER_V6;
    is_server.then(|| usize::from(address.port() - FIRST_PORT))
}
