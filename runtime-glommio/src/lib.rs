//! Drives shards on glommio: for each, a thread of its own with an executor on io_uring, on a processor of its own.
//!
//! A driver supplies a [`Port`], a way to wait and a thread, and nothing else. This one is for many sessions: while
//! datagrams come often it naps, for at most [`Settings::max_coalesce`], and handles together what came meanwhile;
//! while they come rarely it waits for each. Nobody else runs on its executor, so a nap may block the thread, and no
//! session has a timer there.
//!
//! ```text
//! turn -> busy?  -> nap              | a command | the deadline -> turn
//!      -> quiet? -> the socket peeks | a command | the deadline -> turn
//! ```
#![forbid(unsafe_code)]

mod coalesce;
mod executor;
mod probe;
mod wake;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use antiphon_core::drive::{
    Mailbox, Port, RecvBatch, RelayLane, RelayLanes, ShardHandle, TransmitBatch, Turn, Turner,
};
use antiphon_core::ids::ShardId;
use antiphon_core::limits::COMMANDS_MAX;
use antiphon_core::message::{Command, Event};
use antiphon_core::relay::Relay;
use antiphon_core::time::Timestamp;
use antiphon_udp::{Clock, Socket};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::coalesce::Coalescer;
use crate::executor::{Alarm, Executor, Watch, yield_now};
use crate::wake::{Wake, Waking};

pub use crate::probe::{Unavailable, probe};

/// A full socket, or one that cannot be watched, is tried again after this.
const RETRY: Duration = Duration::from_millis(1);

/// What the operator may choose for a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The longest nap, which is what a datagram may wait for others. Zero: latency first, every datagram wakes.
    pub max_coalesce: Duration,
    /// The processor to stay on; `None`: wherever the system likes.
    pub cpu: Option<usize>,
}

/// The processors for this many shards, one each, the first that this thread may run on. Empty when there are fewer:
/// then none should be pinned, since two would share one while others idle.
#[must_use]
pub fn cpus_for(shards: usize) -> Vec<usize> {
    let allowed = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    let allowed = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let cpus: Vec<_> = allowed.take(shards).collect();
    if cpus.len() == shards {
        cpus
    } else {
        Vec::new()
    }
}

/// Starts a thread named `shard-N` that makes a turner and drives it over `socket` until stopped.
///
/// The shard takes its place among `relays`. `emit` is called on that thread and must not block. A panic in the
/// turner ends the thread and comes out of [`ShardHandle::join`]: a session's own panics never get this far, so the
/// process should exit.
///
/// # Errors
/// When the thread, its processor or the executor cannot be had. Ask [`probe()`] first: without io_uring
/// glommio panics, which is an error here, but not before it said so on standard error.
pub fn spawn<T: Turner + 'static>(
    id: ShardId,
    settings: Settings,
    make: impl FnOnce(&Clock) -> T + Send + 'static,
    socket: Socket,
    clock: Clock,
    relays: &RelayLanes,
    emit: impl FnMut(Event) + Send + 'static,
) -> io::Result<ShardHandle> {
    let watched = socket.duplicate()?;
    // Both handles become blocking ones; `Socket` asks the kernel not to block with every call.
    watched.set_nonblocking(false)?;
    let stop = Arc::new(AtomicBool::new(false));
    let wake = Arc::new(Wake::new()?);
    let call = {
        let wake = Arc::clone(&wake);
        move || wake.call()
    };
    let commands = Mailbox::new(COMMANDS_MAX, call.clone());
    let port = GlommioPort {
        socket,
        received: 0,
        drained: false,
        clock,
        commands: commands.clone(),
        relays: relays.open(id, call.clone()),
        emit,
    };
    let stopped = Arc::clone(&stop);
    let (starting, started) = mpsc::sync_channel(1);
    let thread = thread::Builder::new()
        .name(format!("shard-{}", id.0))
        .spawn(move || {
            let executor = match start(settings.cpu) {
                Ok(executor) => executor,
                Err(error) => return starting.send(Err(error)).unwrap_or_default(),
            };
            starting.send(Ok(())).unwrap_or_default();
            let turner = make(&clock);
            let coalescer = Coalescer::new(settings.max_coalesce, clock.now());
            executor.run(async {
                let waits = Waits {
                    watch: Watch::new(watched),
                    alarm: Alarm::new(),
                    waking: Waking::new(wake),
                    coalescer,
                };
                drive(turner, port, waits, &stopped).await;
            });
        })?;
    let silent = |_| Err(io::Error::other("glommio panicked while it started"));
    started.recv().unwrap_or_else(silent)?;
    Ok(ShardHandle::new(id, commands, stop, call, thread))
}

/// Puts this thread in its place before it allocates anything.
fn start(cpu: Option<usize>) -> io::Result<Executor> {
    if let Some(cpu) = cpu {
        let mut only = CpuSet::new();
        only.set(cpu);
        sched_setaffinity(None, &only)?;
    }
    Executor::new()
}

async fn drive<E: FnMut(Event)>(
    mut turner: impl Turner,
    mut port: GlommioPort<E>,
    mut waits: Waits,
    stopped: &AtomicBool,
) {
    while !stopped.load(Ordering::Acquire) {
        waits.waking.clear();
        let now = port.now();
        let turn = turner.turn(now, &mut port);
        waits
            .coalescer
            .note(now, std::mem::take(&mut port.received));
        match turn {
            Turn::Wait { deadline, writable } if deadline.is_none_or(|deadline| deadline > now) => {
                let due = deadline.map(|deadline| deadline.since(port.now()));
                waits.wait(due, writable).await;
            }
            // Lets the executor look at its rings between turns.
            Turn::Again | Turn::Wait { .. } => yield_now().await,
        }
    }
    turner.finish(&mut port);
    waits.watch.close(&mut waits.alarm).await;
}

/// What can end a wait.
struct Waits {
    watch: Watch,
    alarm: Alarm,
    waking: Waking,
    coalescer: Coalescer,
}

impl Waits {
    /// May also end without cause, which costs a turn that finds nothing to do. `due` is the time left until the
    /// deadline.
    async fn wait(&mut self, due: Option<Duration>, writable: bool) {
        // glommio cannot tell when a socket has room again, which is rare enough to try.
        let retry = writable.then_some(RETRY);
        let due = due.into_iter().chain(retry).min();
        if let Some(nap) = self.coalescer.nap() {
            // Nothing else runs on this executor, and its own sleep costs ten system calls.
            return self.waking.nap(due.map_or(nap, |due| due.min(nap)));
        }
        let mut alarm = due;
        if let Some(after) = alarm {
            self.alarm.set(after);
        }
        let mut watching = true;
        poll_fn(|context| {
            if self.waking.poll(context).is_ready() {
                return Poll::Ready(());
            }
            if watching {
                match self.watch.poll(context) {
                    Poll::Ready(Ok(())) => return Poll::Ready(()),
                    Poll::Ready(Err(_)) => {
                        watching = false;
                        let after = alarm.map_or(RETRY, |after| after.min(RETRY));
                        self.alarm.set(*alarm.insert(after));
                    }
                    Poll::Pending => {}
                }
            }
            match alarm {
                Some(_) => self.alarm.poll(context),
                None => Poll::Pending,
            }
        })
        .await;
    }
}

struct GlommioPort<E> {
    socket: Socket,
    /// Slots filled in this turn.
    received: usize,
    /// The last receive left slots to spare, so the next would only hear that the queue is empty. What came in
    /// between makes the wait end at once, or is there after the nap.
    drained: bool,
    clock: Clock,
    commands: Mailbox<Command>,
    relays: RelayLane,
    emit: E,
}

impl<E: FnMut(Event)> Port for GlommioPort<E> {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn recv(&mut self, batch: &mut RecvBatch) {
        if std::mem::take(&mut self.drained) {
            return;
        }
        let free = batch.free_count();
        // "Nothing there" leaves the batch empty, and the socket counts every other error.
        let filled = self.socket.recv(&self.clock, batch).unwrap_or(0);
        self.received += filled;
        self.drained = (1..free).contains(&filled);
    }

    fn next_command(&mut self) -> Option<Command> {
        self.commands.pop()
    }

    fn next_relay(&mut self) -> Option<(ShardId, Relay)> {
        self.relays.pop()
    }

    fn send(&mut self, batch: &mut TransmitBatch) {
        // What is left stays in the batch, which is all the caller needs to know.
        self.socket.send(batch);
    }

    fn relay(&mut self, to: ShardId, relay: Relay) {
        self.relays.send(to, relay);
    }

    fn emit(&mut self, event: Event) {
        (self.emit)(event);
    }
}
