//! What every port and its driver must do, as test bodies over any [`Rig`]: a turner, a port, a way to wait, and the
//! far ends of everything the port leads to.
//!
//! A driver's tests name its [`Driver`] to [`conformance_tests`](crate::conformance_tests); what drives shards in
//! another way, a simulator say, implements [`Rig`] and names it to [`rig_tests`](crate::rig_tests). Bodies wait with
//! a bound and never sleep. They panic to fail, as tests do.

#[expect(unsafe_code, reason = "an allocator that counts")]
mod counting;
mod forwarding;
mod inline;
mod relays;
mod shard;
mod sockets;
mod stand_in;

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use antiphon_core::drive::{Full, Turner};
use antiphon_core::ids::{RequestId, ShardId};
use antiphon_core::limits::COMMANDS_MAX;
use antiphon_core::message::{Command, Event, ShardStats};
use antiphon_core::time::Epoch;

use self::counting::{Counted, Counts, allocations};
use crate::Clock;

pub use self::counting::{Counting, allocations_of};
pub use self::forwarding::forwarding_allocates_nothing;
pub use self::inline::Inline;
pub use self::relays::a_relay_wakes_the_other_shard;
pub use self::shard::a_shard_does_on_a_driver_what_it_does_inline;
pub use self::sockets::{Driver, Sockets};
pub use self::stand_in::StandIn;

/// The number of every shard here.
const SHARD: ShardId = ShardId(7);
/// Datagrams a client has out at once: fewer than its receive buffer holds.
const WINDOW: u32 = 64;

/// What to make for a turner.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// The send calls, counted from 0 and in order, that find the socket full.
    pub full_sends: &'static [u64],
}

/// A turner that is driven over a port. Dropped or joined, it ends.
pub trait Rig: Sized {
    /// A quarter of the deadlines at least are kept within this, on a machine that is busy with something else now
    /// and then: a coarser timer keeps none.
    const LATENESS_MAX: Duration;

    /// Why there can be none on this machine.
    #[must_use]
    fn missing() -> Option<String> {
        None
    }

    /// Makes a turner and drives it as shard 7.
    fn start<T: Turner + 'static>(
        plan: Plan,
        make: impl FnOnce(Epoch) -> T + Send + 'static,
    ) -> Self;

    /// Puts a command into the lane.
    ///
    /// # Errors
    /// [`Full`] with the command.
    fn command(&mut self, command: Command) -> Result<(), Full<Command>>;

    /// Waits for the next event; `None` when there will be none, as the shard has ended. Panics when it takes too long.
    fn event(&mut self) -> Option<Event>;

    /// Sends a datagram to the shard from an address of its own for each client.
    fn send(&mut self, client: usize, contents: &[u8]);

    /// Waits for a datagram from the shard to a client. Panics when it takes too long.
    fn recv(&mut self, client: usize) -> Vec<u8>;

    /// Send calls that found the socket full.
    fn blocked(&self) -> u64;

    /// Asks the shard to stop.
    fn stop(&mut self);

    /// Waits until it has, and gives everything back.
    ///
    /// # Errors
    /// The payload of the turner's panic.
    fn join(self) -> thread::Result<()>;
}

fn ask<R: Rig>(rig: &mut R, number: u64) -> Result<(), Full<Command>> {
    let request = RequestId(number);
    rig.command(Command::ShardStats { request })
}

/// The next event, which must answer `number`.
fn answer<R: Rig>(rig: &mut R, number: u64) -> ShardStats {
    match rig.event() {
        Some(Event::ShardStats { request, stats }) => {
            assert_eq!(request, RequestId(number), "events come in order");
            *stats
        }
        other => panic!("no answer to {number}: {other:?}"),
    }
}

fn question<R: Rig>(rig: &mut R, number: u64) -> ShardStats {
    ask(rig, number).expect("the command lane has room");
    answer(rig, number)
}

fn end<R: Rig>(mut rig: R) {
    rig.stop();
    rig.join().expect("the shard ends without a panic");
}

/// A client's half of an echo: sends numbered datagrams, a window of them at a time, and checks that each comes back
/// once and unchanged.
struct Exchange {
    sent: u32,
    seen: Vec<bool>,
}

impl Exchange {
    fn new(count: u32) -> Self {
        Self {
            sent: 0,
            seen: vec![false; count as usize],
        }
    }

    /// Sends the next, and takes one that came back once there is a window of them out; whether there is more to do.
    fn step<R: Rig>(&mut self, rig: &mut R) -> bool {
        let count = self.seen.len() as u32;
        if self.sent < count {
            let mut contents = [0xa5; 160];
            contents[..4].copy_from_slice(&self.sent.to_be_bytes());
            rig.send(0, &contents);
        }
        if self.sent >= WINDOW {
            let contents = rig.recv(0);
            let (number, body) = contents.split_first_chunk().expect("four bytes at least");
            assert!(body.len() == 156 && body.iter().all(|byte| *byte == 0xa5));
            let seen = &mut self.seen[u32::from_be_bytes(*number) as usize];
            assert!(!std::mem::replace(seen, true), "an echo came twice");
        }
        self.sent += 1;
        self.sent < count + WINDOW
    }

    fn run<R: Rig>(count: u32, rig: &mut R) {
        let mut exchange = Self::new(count);
        while exchange.step(rig) {}
    }
}

/// The main promise: under load, and with a socket that is full now and then, every datagram comes back to its sender,
/// unchanged.
pub fn ten_thousand_datagrams_come_back<R: Rig>() {
    const COUNT: u32 = 10_000;
    let plan = Plan {
        full_sends: &[0, 20, 21, 22, 60],
    };
    let mut rig = R::start(plan, |_| StandIn::new());
    Exchange::run(COUNT, &mut rig);
    let stats = question(&mut rig, 1);
    let both = (stats.datagrams_received, stats.datagrams_sent);
    assert_eq!(both, (COUNT.into(), COUNT.into()));
    assert_eq!(rig.blocked(), plan.full_sends.len() as u64);
    end(rig);
}

/// Shards of one process neither hold each other up nor take each other's wakes.
pub fn shards_run_side_by_side<R: Rig>() {
    let mut rigs = [(); 4].map(|()| R::start(Plan::default(), |_| StandIn::new()));
    let mut exchanges = [(); 4].map(|()| Exchange::new(1_000));
    loop {
        let both = rigs.iter_mut().zip(&mut exchanges);
        let more: Vec<_> = both.map(|(rig, exchange)| exchange.step(rig)).collect();
        if more.iter().all(|more| !more) {
            break;
        }
    }
    for mut rig in rigs {
        assert_eq!(question(&mut rig, 1).datagrams_sent, 1_000);
        end(rig);
    }
}

/// An idle driver waits for the command lane too, and for nothing more often than needed.
pub fn an_idle_driver_wakes_for_each_command_and_does_not_spin<R: Rig>() {
    const ROUNDS: u64 = 200;
    let mut rig = R::start(Plan::default(), |_| StandIn::new());
    let mut turns = 0;
    for number in 0..ROUNDS {
        turns = question(&mut rig, number).faults;
    }
    // A turn for each command, and one more after those that a spurious wake follows.
    assert!(
        turns <= ROUNDS * 3 + 10,
        "{turns} turns for {ROUNDS} commands"
    );
    end(rig);
}

/// More commands than one turn takes are answered to the last and in order.
pub fn a_burst_of_commands_is_answered_in_order<R: Rig>() {
    let mut rig = R::start(Plan::default(), |_| StandIn::new());
    for round in 0..4 {
        let numbers = (0..COMMANDS_MAX as u64 / 2).map(|number| round * 10_000 + number);
        for number in numbers.clone() {
            ask(&mut rig, number).expect("the command lane has room");
        }
        for number in numbers {
            answer(&mut rig, number);
        }
    }
    end(rig);
}

/// A full lane gives the next command back, and those it took are all answered once the shard gets to them.
pub fn a_full_lane_gives_the_command_back_and_loses_none<R: Rig>() {
    let (hold, held) = mpsc::channel();
    let mut rig = R::start(Plan::default(), |_| StandIn::held(held));
    let count = COMMANDS_MAX as u64;
    for number in 0..count {
        ask(&mut rig, number).expect("the lane has room");
    }
    let Err(Full(Command::ShardStats { request })) = ask(&mut rig, count) else {
        panic!("a full lane took a command");
    };
    assert_eq!(request, RequestId(count));
    drop(hold);
    for number in 0..count {
        answer(&mut rig, number);
    }
    question(&mut rig, count);
    end(rig);
}

/// A deadline wakes an idle driver: never early, and little late.
pub fn deadlines_are_kept<R: Rig>() {
    const TICKS: u64 = 40;
    let mut rig = R::start(Plan::default(), |_| {
        StandIn::ticking(Duration::from_millis(10))
    });
    let ticks: Vec<_> = (1..=TICKS).map(|number| answer(&mut rig, number)).collect();
    let mut lateness: Vec<_> = ticks
        .iter()
        .map(|stats| Duration::from_micros(stats.forward_delay.micros))
        .collect();
    lateness.sort_unstable();
    println!(
        "lateness by quarters: {:?}",
        [0, 10, 20, 30, 39].map(|at| lateness[at])
    );
    let quarter = lateness[lateness.len() / 4];
    assert!(
        quarter <= R::LATENESS_MAX,
        "three of four deadlines were missed by {quarter:?} or more"
    );
    let turns = ticks.last().expect("there are ticks").faults;
    assert!(
        turns <= TICKS * 3 + 10,
        "{turns} turns for {TICKS} deadlines"
    );
    end(rig);
}

/// While transmits wait, the driver wakes when the socket can take them; here it always can.
pub fn a_writable_socket_wakes_a_driver_that_has_transmits_left<R: Rig>() {
    let mut rig = R::start(Plan::default(), |_| StandIn::writable(50));
    // Nobody sends it anything: only the room in its socket can make it turn.
    answer(&mut rig, 50);
    end(rig);
}

/// What was queued before the stop is still done; then it ends.
pub fn a_stopped_driver_finishes_its_commands_and_ends<R: Rig>() {
    let mut rig = R::start(Plan::default(), |_| StandIn::new());
    let count = COMMANDS_MAX as u64 / 2;
    for number in 0..count {
        ask(&mut rig, number).expect("the lane has room");
    }
    rig.stop();
    for number in 0..count {
        answer(&mut rig, number);
    }
    assert!(rig.event().is_none(), "the lane ends with the shard");
    rig.join().expect("the shard ends without a panic");
}

/// A driver that waits ends as well.
pub fn an_idle_driver_ends_when_stopped<R: Rig>() {
    for _ in 0..20 {
        let mut rig = R::start(Plan::default(), |_| StandIn::new());
        question(&mut rig, 1);
        end(rig);
    }
}

/// A shard's own panic is not swallowed: the server sees it and exits.
pub fn a_panic_comes_out_of_join<R: Rig>() {
    let mut rig = R::start(Plan::default(), |_| StandIn::panicking());
    assert!(rig.event().is_none(), "the lane ends with the shard");
    assert!(rig.join().is_err());
}

/// A turn allocates nothing, however many datagrams it carries, and waiting for the next no more than the runtime must.
pub fn a_datagram_allocates_nothing<D: Driver>() {
    let before = allocations();
    drop(Box::new(before));
    assert_ne!(allocations(), before, "the program's allocator counts");

    let counts = Arc::new(Counts::default());
    let made = Arc::clone(&counts);
    let make = |_| Counted::new(StandIn::new(), made);
    let mut rig = Sockets::<D>::start(Plan::default(), make);
    Exchange::run(2_000, &mut rig);
    counts.clear();
    Exchange::run(5_000, &mut rig);
    let [turning, waiting, turns] = counts.read();
    println!("{turning} allocations in {turns} turns, {waiting} between them, for 5,000 datagrams");
    assert_eq!(turning, 0);
    assert!(waiting <= turns * D::ALLOCATIONS_A_WAIT_MAX);
    end(rig);
}

/// A command waits for nothing: a quarter of them at least are answered within 2 ms, while datagrams come and go.
pub fn a_command_beside_datagrams_is_answered_promptly<D: Driver>() {
    const PROMPT: Duration = Duration::from_millis(2);
    let mut rig = Sockets::<D>::start(Plan::default(), |_| StandIn::new());
    let clock = Clock::start();
    let mut took: Vec<_> = (0..100)
        .map(|number| {
            rig.send(0, b"a datagram");
            let asked = clock.now();
            question(&mut rig, number);
            let answered = clock.now();
            rig.recv(0);
            answered.since(asked)
        })
        .collect();
    took.sort_unstable();
    println!(
        "commands by quarters: {:?}",
        [0, 25, 50, 75, 99].map(|at| took[at])
    );
    let quarter = took[took.len() / 4];
    assert!(
        quarter <= PROMPT,
        "three of four commands took {quarter:?} or more"
    );
    end(rig);
}

/// Defines a test for each body that any [`Rig`] must pass.
#[macro_export]
macro_rules! rig_tests {
    ($rig:ty) => {
        $crate::conformance_bodies!($rig:
            ten_thousand_datagrams_come_back,
            shards_run_side_by_side,
            an_idle_driver_wakes_for_each_command_and_does_not_spin,
            a_burst_of_commands_is_answered_in_order,
            a_full_lane_gives_the_command_back_and_loses_none,
            deadlines_are_kept,
            a_writable_socket_wakes_a_driver_that_has_transmits_left,
            a_stopped_driver_finishes_its_commands_and_ends,
            an_idle_driver_ends_when_stopped,
            a_panic_comes_out_of_join,
            a_shard_does_on_a_driver_what_it_does_inline,
        );
    };
}

/// Defines a test for each body that a [`Driver`] must pass, those of any rig included, and the allocator that counts.
/// Once in a program, in its root.
#[macro_export]
macro_rules! conformance_tests {
    ($driver:ty) => {
        #[global_allocator]
        static COUNTING: $crate::conformance::Counting = $crate::conformance::Counting;

        $crate::rig_tests!($crate::conformance::Sockets<$driver>);
        $crate::conformance_bodies!($driver:
            a_datagram_allocates_nothing,
            forwarding_allocates_nothing,
            a_command_beside_datagrams_is_answered_promptly,
            a_relay_wakes_the_other_shard,
        );
    };
}

/// Defines a test for each body named, of the type given.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_bodies {
    ($of:ty: $($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                match <$of>::missing() {
                    Some(why) => eprintln!("SKIPPED: {why}"),
                    None => $crate::conformance::$name::<$of>(),
                }
            }
        )+
    };
}

#[cfg(test)]
mod tests {
    use super::{Inline, Rig};

    crate::rig_tests!(Inline);
}
