//! What every driver must do, as test bodies over real loopback sockets. A driver's tests call each
//! with its own `spawn`.
//!
//! Bodies wait for events with a bound and never sleep. They panic to fail, as tests do.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use antiphon_core::drive::{
    Lane, Port, RecvBatch, ShardHandle, TransmitBatch, TransmitMeta, Turn, Turner,
};
use antiphon_core::ids::{RequestId, ShardId};
use antiphon_core::limits::{COMMANDS_MAX, COMMANDS_PER_TURN_MAX, RECV_SLOTS};
use antiphon_core::message::{Command, Event, ShardStats};
use antiphon_core::time::Timestamp;

use crate::{Clock, Socket};

/// Nothing a driver is asked for here takes this long, even on a loaded machine.
const BOUND: Duration = Duration::from_secs(10);
/// Datagrams the client has out at once: fewer than its receive buffer holds.
const WINDOW: u32 = 64;

/// What a body asks a driver to spawn.
#[expect(
    missing_debug_implementations,
    reason = "it holds a closure and lives for one call"
)]
pub struct Setup {
    /// The shard's number.
    pub id: ShardId,
    /// What to drive.
    pub turner: StandIn,
    /// Its socket.
    pub socket: Socket,
    /// Its clock.
    pub clock: Clock,
    /// Where its events go.
    pub emit: Box<dyn FnMut(Event) + Send>,
}

/// A driver's `spawn`, applied to a [`Setup`].
pub type Spawn = fn(Setup) -> io::Result<ShardHandle>;

/// Stands in for a shard's pump: echoes each datagram, answers [`Command::ShardStats`] with what it
/// saw, and keeps a timer if told to.
#[derive(Debug)]
pub struct StandIn {
    inbound: RecvBatch,
    outbound: TransmitBatch,
    stats: ShardStats,
    turns: u64,
    timer: Option<(Duration, Option<Timestamp>)>,
    /// Turns for which it claims to have transmits left; it tells when they are over.
    writable_turns: u64,
    panics: bool,
}

impl StandIn {
    fn new() -> Self {
        Self {
            inbound: RecvBatch::new(RECV_SLOTS),
            outbound: TransmitBatch::default(),
            stats: ShardStats::default(),
            turns: 0,
            timer: None,
            writable_turns: 0,
            panics: false,
        }
    }

    /// Returns whether commands may be left.
    fn answer_commands<P: Port>(&mut self, port: &mut P) -> bool {
        for _ in 0..COMMANDS_PER_TURN_MAX {
            match port.next_command() {
                None => return false,
                Some(Command::ShardStats { request }) => self.answer(request, port),
                Some(_) => {}
            }
        }
        true
    }

    /// The count of turns travels as `faults`, which the stand-in has no other use for.
    fn answer<P: Port>(&self, request: RequestId, port: &mut P) {
        let stats = Box::new(ShardStats {
            faults: self.turns,
            ..self.stats
        });
        port.emit(Event::ShardStats { request, stats });
    }

    /// Returns whether datagrams may be left.
    fn echo<P: Port>(&mut self, now: Timestamp, port: &mut P) -> bool {
        self.inbound.clear();
        port.recv(&mut self.inbound);
        if self.inbound.is_empty() {
            return false;
        }
        for datagram in self.inbound.datagrams() {
            assert!(datagram.received <= port.now());
            let meta = TransmitMeta {
                source: Some(datagram.destination.ip()),
                destination: datagram.source,
                ecn: datagram.ecn,
                lane: Lane::Media,
                received: Some(datagram.received.min(now)),
            };
            self.stats.datagrams_received += 1;
            self.outbound.push(meta, datagram.contents);
        }
        true
    }

    fn fire<P: Port>(&mut self, now: Timestamp, port: &mut P) -> Option<Timestamp> {
        let (period, next) = self.timer.as_mut()?;
        let due = *next.get_or_insert(now + *period);
        if now < due {
            return Some(due);
        }
        let next = *next.insert(now + *period);
        self.stats.timeouts += 1;
        self.stats.forward_delay_micros = now.since(due).as_micros() as u64;
        self.answer(RequestId(self.stats.timeouts), port);
        Some(next)
    }
}

impl Turner for StandIn {
    fn turn<P: Port>(&mut self, now: Timestamp, port: &mut P) -> Turn {
        assert!(!self.panics, "the stand-in was told to panic");
        self.turns += 1;
        let commands_left = self.answer_commands(port);
        let datagrams_left = self.echo(now, port);
        let deadline = self.fire(now, port);
        port.send(&mut self.outbound);
        self.stats.datagrams_sent += self.outbound.drain_consumed().count() as u64;
        if self.turns == self.writable_turns {
            self.answer(RequestId(self.turns), port);
        }
        if commands_left || datagrams_left {
            return Turn::Again;
        }
        Turn::Wait {
            deadline,
            writable: self.turns < self.writable_turns || !self.outbound.is_empty(),
        }
    }
}

/// A driven stand-in and the two ends a test holds of it.
struct Driven {
    shard: ShardHandle,
    events: Receiver<Event>,
    address: SocketAddr,
}

impl Driven {
    fn new(spawn: Spawn, turner: StandIn) -> Self {
        let bind_to = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let socket = Socket::bind(bind_to, crate::RECV_BUFFER_BYTES_WANTED)
            .expect("loopback has free ports");
        let address = socket.local_addr();
        let (sender, events) = mpsc::channel();
        let emit = Box::new(move |event| {
            // The test may be over, and its receiver gone, while the shard still runs.
            drop(sender.send(event));
        });
        let (id, clock) = (ShardId(7), Clock::start());
        let shard = spawn(Setup {
            id,
            turner,
            socket,
            clock,
            emit,
        })
        .expect("the driver starts");
        assert_eq!(shard.id(), id);
        Self {
            shard,
            events,
            address,
        }
    }

    fn ask(&self, number: u64) {
        let command = Command::ShardStats {
            request: RequestId(number),
        };
        self.shard
            .try_send(command)
            .expect("the command lane has room");
    }

    /// The next event, which must answer `number`.
    fn answer(&self, number: u64) -> ShardStats {
        match self.events.recv_timeout(BOUND) {
            Ok(Event::ShardStats { request, stats }) => {
                assert_eq!(request, RequestId(number), "events come in order");
                *stats
            }
            other => panic!("no answer to {number}: {other:?}"),
        }
    }

    fn stop(self) {
        self.shard.stop();
        self.shard.join().expect("the shard ends without a panic");
    }
}

/// The main promise: under load, every datagram comes back to its sender, unchanged.
pub fn ten_thousand_datagrams_come_back(spawn: Spawn) {
    let driven = Driven::new(spawn, StandIn::new());
    exchange(&driven, 10_000);
    driven.stop();
}

/// Shards of one process neither hold each other up nor take each other's wakes.
pub fn shards_run_side_by_side(spawn: Spawn) {
    let shards = [(); 4].map(|()| Driven::new(spawn, StandIn::new()));
    std::thread::scope(|scope| {
        for driven in shards {
            scope.spawn(move || {
                exchange(&driven, 1_000);
                driven.stop();
            });
        }
    });
}

/// Sends `count` datagrams, a window of them at a time, and checks that each comes back once.
fn exchange(driven: &Driven, count: u32) {
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    client
        .set_read_timeout(Some(BOUND))
        .expect("the bound is not zero");
    let mut seen = vec![false; count as usize];
    let mut bytes = [0; 256];
    for number in 0..count + WINDOW {
        if number < count {
            let mut contents = [0xa5; 160];
            contents[..4].copy_from_slice(&number.to_be_bytes());
            client
                .send_to(&contents, driven.address)
                .expect("loopback takes a datagram");
        }
        if number >= WINDOW {
            let (len, source) = client.recv_from(&mut bytes).expect("an echo comes in time");
            let (head, body) = bytes[..len]
                .split_first_chunk()
                .expect("four bytes at least");
            assert!(body.len() == 156 && body.iter().all(|byte| *byte == 0xa5));
            assert_eq!(source, driven.address);
            let seen = &mut seen[u32::from_be_bytes(*head) as usize];
            assert!(!std::mem::replace(seen, true), "an echo came twice");
        }
    }
    driven.ask(1);
    let stats = driven.answer(1);
    let both = (stats.datagrams_received, stats.datagrams_sent);
    assert_eq!(both, (count.into(), count.into()));
}

/// An idle driver waits for the command lane too, and for nothing more often than needed.
pub fn an_idle_driver_wakes_for_each_command_and_does_not_spin(spawn: Spawn) {
    const ROUNDS: u64 = 200;
    let driven = Driven::new(spawn, StandIn::new());
    let mut turns = 0;
    for number in 0..ROUNDS {
        driven.ask(number);
        turns = driven.answer(number).faults;
    }
    // A turn for each command, and one more after those that a spurious wake follows.
    assert!(
        turns <= ROUNDS * 3 + 10,
        "{turns} turns for {ROUNDS} commands"
    );
    driven.stop();
}

/// A full lane of commands, more than one turn takes, is answered to the last and in order.
pub fn a_burst_of_commands_is_answered_in_order(spawn: Spawn) {
    let driven = Driven::new(spawn, StandIn::new());
    for round in 0..4 {
        let numbers = (0..COMMANDS_MAX as u64 / 2).map(|number| round * 10_000 + number);
        numbers.clone().for_each(|number| driven.ask(number));
        for number in numbers {
            driven.answer(number);
        }
    }
    driven.stop();
}

/// A deadline wakes an idle driver: never early, and not much late.
pub fn deadlines_are_kept(spawn: Spawn) {
    const TICKS: u64 = 15;
    let period = Duration::from_millis(20);
    let timer = Some((period, None));
    let driven = Driven::new(
        spawn,
        StandIn {
            timer,
            ..StandIn::new()
        },
    );
    let ticks: Vec<_> = (1..=TICKS).map(|number| driven.answer(number)).collect();
    let mut lateness: Vec<_> = ticks
        .iter()
        .map(|stats| stats.forward_delay_micros)
        .collect();
    lateness.sort_unstable();
    // The median, because this machine may be busy with something else now and then.
    let median = Duration::from_micros(lateness[lateness.len() / 2]);
    assert!(
        median < period / 2,
        "half of the deadlines were missed by {median:?} or more"
    );
    let turns = ticks.last().expect("there are ticks").faults;
    assert!(
        turns <= TICKS * 3 + 10,
        "{turns} turns for {TICKS} deadlines"
    );
    driven.stop();
}

/// While transmits wait, the driver wakes when the socket can take them; here it always can.
pub fn a_writable_socket_wakes_a_driver_that_has_transmits_left(spawn: Spawn) {
    let turner = StandIn {
        writable_turns: 50,
        ..StandIn::new()
    };
    let driven = Driven::new(spawn, turner);
    // Nobody sends it anything: only the room in its socket can make it turn.
    driven.answer(50);
    driven.stop();
}

/// What was queued before the stop is still done; then the thread ends.
pub fn a_stopped_driver_finishes_its_commands_and_ends(spawn: Spawn) {
    let driven = Driven::new(spawn, StandIn::new());
    let count = COMMANDS_MAX as u64 / 2;
    (0..count).for_each(|number| driven.ask(number));
    driven.shard.stop();
    for number in 0..count {
        driven.answer(number);
    }
    assert!(
        driven.events.recv_timeout(BOUND).is_err(),
        "the emitter is dropped with the shard"
    );
    driven.shard.join().expect("the shard ends without a panic");
    // The port is free again.
    drop(Socket::bind(driven.address, 0).expect("the socket was closed"));
}

/// A shard's own panic is not swallowed: the server sees it and exits.
pub fn a_panic_comes_out_of_join(spawn: Spawn) {
    let driven = Driven::new(
        spawn,
        StandIn {
            panics: true,
            ..StandIn::new()
        },
    );
    // The emitter goes with the thread's stack.
    assert!(driven.events.recv_timeout(BOUND).is_err());
    assert!(driven.shard.join().is_err());
}

/// Defines a test for each body, for a driver's own `spawn`; or for those bodies that are named, for a
/// [`Spawn`](crate::conformance::Spawn).
#[macro_export]
macro_rules! conformance_tests {
    ($spawn:path) => {
        const SPAWN: $crate::conformance::Spawn = |setup| {
            let turner = setup.turner;
            $spawn(setup.id, move |_| turner, setup.socket, setup.clock, setup.emit)
        };

        $crate::conformance_tests!(SPAWN:
            ten_thousand_datagrams_come_back,
            shards_run_side_by_side,
            an_idle_driver_wakes_for_each_command_and_does_not_spin,
            a_burst_of_commands_is_answered_in_order,
            deadlines_are_kept,
            a_writable_socket_wakes_a_driver_that_has_transmits_left,
            a_stopped_driver_finishes_its_commands_and_ends,
            a_panic_comes_out_of_join,
        );
    };
    ($spawn:path: $($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                $crate::conformance::$name($spawn);
            }
        )+
    };
}
