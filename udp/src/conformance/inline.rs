//! No driver at all: one loop over queues, in virtual time. What it does is the measure for drivers.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use antiphon_core::drive::{Full, Mailbox, Port, RecvBatch, RecvMeta, TransmitBatch, Turn, Turner};
use antiphon_core::limits::COMMANDS_MAX;
use antiphon_core::message::{Command, Event};
use antiphon_core::time::{Epoch, Timestamp};

use super::{Plan, Rig};

/// What a turn takes.
const TURN: Duration = Duration::from_micros(1);
/// Turns in a row that bring nothing about, before something that is waited for is taken to be lost.
const TURNS_MAX: usize = 10_000;
const SERVER: ([u8; 4], u16) = ([10, 0, 0, 1], 40_000);

/// A turner that is turned when somebody waits for what it does.
#[expect(
    missing_debug_implementations,
    reason = "it holds a turner of any type"
)]
pub struct Inline {
    port: Queues,
    turn: Box<Turning>,
    /// Time passes to here if nobody gives it anything to do.
    idle_until: Option<Timestamp>,
    stopped: bool,
    ended: Option<thread::Result<()>>,
}

/// A turn of the turner; the last ones when told so.
type Turning = dyn FnMut(&mut Queues, bool) -> Turn;

struct Queues {
    now: Timestamp,
    commands: Mailbox<Command>,
    events: VecDeque<Event>,
    inbound: VecDeque<(SocketAddr, Vec<u8>)>,
    outbound: BTreeMap<SocketAddr, VecDeque<Vec<u8>>>,
    sends: u64,
    full_sends: &'static [u64],
    blocked: u64,
}

impl Rig for Inline {
    const LATENESS_MAX: Duration = Duration::ZERO;

    fn start<T: Turner + 'static>(
        plan: Plan,
        make: impl FnOnce(Epoch) -> T + Send + 'static,
    ) -> Self {
        let mut turner = make(Epoch::simulated());
        Self {
            port: Queues {
                now: Timestamp::ZERO,
                commands: Mailbox::new(COMMANDS_MAX, || ()),
                events: VecDeque::new(),
                inbound: VecDeque::new(),
                outbound: BTreeMap::new(),
                sends: 0,
                full_sends: plan.full_sends,
                blocked: 0,
            },
            turn: Box::new(move |port, last| {
                if last {
                    turner.finish(port);
                }
                turner.turn(port.now, port)
            }),
            idle_until: None,
            stopped: false,
            ended: None,
        }
    }

    fn command(&mut self, command: Command) -> Result<(), Full<Command>> {
        self.port.commands.try_push(command)
    }

    fn event(&mut self) -> Option<Event> {
        self.until(|port| port.events.pop_front())
    }

    fn send(&mut self, client: usize, contents: &[u8]) {
        self.port
            .inbound
            .push_back((address(client), contents.to_vec()));
    }

    fn recv(&mut self, client: usize) -> Vec<u8> {
        let datagram = self.until(|port| port.outbound.get_mut(&address(client))?.pop_front());
        datagram.expect("the shard lives")
    }

    fn blocked(&self) -> u64 {
        self.port.blocked
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    fn join(mut self) -> thread::Result<()> {
        self.stopped = true;
        self.step();
        self.ended.expect("a stopped shard ends with its next turn")
    }
}

impl Inline {
    /// Turns until `found` finds something; `None` when the shard has ended without.
    fn until<V>(&mut self, mut found: impl FnMut(&mut Queues) -> Option<V>) -> Option<V> {
        for _ in 0..TURNS_MAX {
            let value = found(&mut self.port);
            if value.is_some() || self.ended.is_some() {
                return value;
            }
            self.step();
        }
        panic!("it does not come");
    }

    fn step(&mut self) {
        if self.ended.is_some() {
            return;
        }
        let (turn, port, last) = (&mut self.turn, &mut self.port, self.stopped);
        if let Some(deadline) = self.idle_until.take()
            && port.inbound.is_empty()
            && port.commands.is_empty()
        {
            port.now = port.now.max(deadline);
        }
        match catch_unwind(AssertUnwindSafe(|| turn(port, last))) {
            Err(panic) => self.ended = Some(Err(panic)),
            Ok(_) if self.stopped => self.ended = Some(Ok(())),
            Ok(Turn::Wait {
                deadline,
                writable: false,
            }) => self.idle_until = deadline,
            Ok(_) => {}
        }
        port.now = port.now + TURN;
    }
}

impl Port for Queues {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn recv(&mut self, batch: &mut RecvBatch) {
        let count = batch.free_count().min(self.inbound.len());
        let mut arrived = self.inbound.drain(..count);
        for _ in 0..count {
            let (source, contents) = arrived.next().expect("there are as many");
            let slot = batch.free_slots().next().expect("as many are free");
            slot[..contents.len()].copy_from_slice(&contents);
            batch.commit(RecvMeta {
                received: self.now,
                source,
                destination: SERVER.into(),
                ecn: None,
                len: contents.len(),
                stride: contents.len(),
            });
        }
    }

    fn next_command(&mut self) -> Option<Command> {
        self.commands.pop()
    }

    fn send(&mut self, batch: &mut TransmitBatch) {
        if batch.is_empty() {
            return;
        }
        self.sends += 1;
        if self.full_sends.contains(&(self.sends - 1)) {
            self.blocked += 1;
            return;
        }
        for (meta, contents) in batch.iter() {
            let queue = self.outbound.entry(meta.destination).or_default();
            queue.push_back(contents.to_vec());
        }
        batch.consume(batch.len());
    }

    fn emit(&mut self, event: Event) {
        self.events.push_back(event);
    }
}

fn address(client: usize) -> SocketAddr {
    ([10, 1, 0, client as u8], 5_000).into()
}
