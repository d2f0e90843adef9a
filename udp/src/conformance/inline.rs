//! No driver at all: one loop over the simulator's port, in virtual time. What it does is the measure for drivers.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use antiphon_core::drive::{Full, Turn, Turner};
use antiphon_core::message::{Command, Event};
use antiphon_core::sim::queues::Queues;
use antiphon_core::time::{Epoch, Timestamp};

use super::{Plan, Rig, SHARD};

/// What a turn takes.
const TURN: Duration = Duration::from_micros(1);
/// Turns in a row that bring nothing about, before something that is waited for is taken to be lost.
const TURNS_MAX: usize = 10_000;

/// A turner that is turned when somebody waits for what it does.
#[expect(
    missing_debug_implementations,
    reason = "it holds a turner of any type"
)]
pub struct Inline {
    now: Timestamp,
    port: Queues,
    /// What was sent and not received yet.
    sent: BTreeMap<SocketAddr, VecDeque<Vec<u8>>>,
    turn: Box<Turning>,
    /// Time passes to here if nobody gives it anything to do.
    idle_until: Option<Timestamp>,
    stopped: bool,
    ended: Option<thread::Result<()>>,
}

/// A turn of the turner; the last ones when told so.
type Turning = dyn FnMut(Timestamp, &mut Queues, bool) -> Turn;

impl Rig for Inline {
    const LATENESS_MAX: Duration = Duration::ZERO;

    fn start<T: Turner + 'static>(
        plan: Plan,
        make: impl FnOnce(Epoch) -> T + Send + 'static,
    ) -> Self {
        let mut turner = make(Epoch::simulated());
        Self {
            now: Timestamp::ZERO,
            port: Queues::new(SHARD, plan.full_sends),
            sent: BTreeMap::new(),
            turn: Box::new(move |now, port, last| port.turn(now, &mut turner, last)),
            idle_until: None,
            stopped: false,
            ended: None,
        }
    }

    fn command(&mut self, command: Command) -> Result<(), Full<Command>> {
        self.port.command(command)
    }

    fn event(&mut self) -> Option<Event> {
        self.until(|rig| rig.port.poll_event())
    }

    fn send(&mut self, client: usize, contents: &[u8]) {
        self.port.deliver(self.now, address(client), contents);
    }

    fn recv(&mut self, client: usize) -> Vec<u8> {
        let datagram = self.until(|rig| rig.sent.get_mut(&address(client))?.pop_front());
        datagram.expect("the shard lives")
    }

    fn blocked(&self) -> u64 {
        self.port.blocked()
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
    fn until<V>(&mut self, mut found: impl FnMut(&mut Self) -> Option<V>) -> Option<V> {
        for _ in 0..TURNS_MAX {
            let value = found(self);
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
            && !port.has_input()
        {
            self.now = self.now.max(deadline);
        }
        let now = self.now;
        match catch_unwind(AssertUnwindSafe(|| turn(now, port, last))) {
            Err(panic) => self.ended = Some(Err(panic)),
            Ok(_) if self.stopped => self.ended = Some(Ok(())),
            Ok(Turn::Wait {
                deadline,
                writable: false,
            }) => self.idle_until = deadline,
            Ok(_) => {}
        }
        while let Some((destination, contents)) = self.port.poll_sent() {
            let queue = self.sent.entry(destination).or_default();
            queue.push_back(contents);
        }
        self.now = self.now + TURN;
    }
}

fn address(client: usize) -> SocketAddr {
    ([10, 1, 0, client as u8], 5_000).into()
}
