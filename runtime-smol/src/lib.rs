//! Drives shards on smol: for each, a thread of its own that blocks on one future.
//!
//! A driver supplies a [`Port`], a way to wait and a thread, and nothing else. All threads share
//! async-io's one reactor; whichever waits polls it for all of them.
#![forbid(unsafe_code)]

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use antiphon_core::drive::{
    Mailbox, Port, RecvBatch, RelayLane, RelayLanes, ShardHandle, TransmitBatch, Turn, Turner,
};
use antiphon_core::ids::ShardId;
use antiphon_core::limits::COMMANDS_MAX;
use antiphon_core::message::{Command, Event};
use antiphon_core::relay::Relay;
use antiphon_core::time::Timestamp;
use antiphon_udp::{Clock, Socket};
use smol::channel::{self, Receiver};
use smol::future::{self, FutureExt};
use smol::{Async, Timer};

/// Starts a thread named `shard-N` that makes a turner and drives it over `socket` until stopped.
///
/// The shard takes its place among `relays`. `emit` is called on that thread and must not block. A panic in the
/// turner ends the thread and comes out of [`ShardHandle::join`]: a session's own panics never get this far, so the
/// process should exit.
///
/// # Errors
/// When the readiness registration or the thread cannot be had: out of descriptors or threads.
pub fn spawn<T: Turner + 'static>(
    id: ShardId,
    make: impl FnOnce(&Clock) -> T + Send + 'static,
    socket: Socket,
    clock: Clock,
    relays: &RelayLanes,
    emit: impl FnMut(Event) + Send + 'static,
) -> io::Result<ShardHandle> {
    let readiness = Async::new(socket.duplicate()?)?;
    let stop = Arc::new(AtomicBool::new(false));
    let (waker, woken) = channel::bounded(1);
    let wake = move || {
        // Full: another wake is pending, and one is enough.
        waker.try_send(()).ok();
    };
    let commands = Mailbox::new(COMMANDS_MAX, wake.clone());
    let mut port = SmolPort {
        socket,
        readiness,
        drained: false,
        clock,
        commands: commands.clone(),
        relays: relays.open(id, wake.clone()),
        emit,
    };
    let stopped = Arc::clone(&stop);
    let thread = thread::Builder::new()
        .name(format!("shard-{}", id.0))
        .spawn(move || {
            let turner = make(&clock);
            smol::block_on(drive(turner, &mut port, &stopped, &woken));
        })?;
    Ok(ShardHandle::new(id, commands, stop, wake, thread))
}

async fn drive<E: FnMut(Event)>(
    mut turner: impl Turner,
    port: &mut SmolPort<E>,
    stopped: &AtomicBool,
    woken: &Receiver<()>,
) {
    let mut alarm = Alarm::new();
    while !stopped.load(Ordering::Acquire) {
        let now = port.now();
        match turner.turn(now, port) {
            Turn::Wait { deadline, writable } if deadline.is_none_or(|deadline| deadline > now) => {
                alarm.set(deadline, &port.clock);
                port.wait(&mut alarm, writable, woken).await;
            }
            // Lets the reactor look at its sockets between turns.
            Turn::Again | Turn::Wait { .. } => future::yield_now().await,
        }
    }
    turner.finish(port);
}

/// One timer, kept from wait to wait: the reactor's books are only touched when the deadline is another.
struct Alarm {
    timer: Timer,
    deadline: Option<Timestamp>,
}

impl Alarm {
    fn new() -> Self {
        Self {
            timer: Timer::never(),
            deadline: None,
        }
    }

    fn set(&mut self, deadline: Option<Timestamp>, clock: &Clock) {
        if self.deadline == deadline {
            return;
        }
        self.deadline = deadline;
        match deadline {
            Some(deadline) => self.timer.set_at(clock.epoch().instant(deadline)),
            None => self.timer = Timer::never(),
        }
    }

    async fn ring(&mut self) {
        (&mut self.timer).await;
        self.deadline = None;
    }
}

struct SmolPort<E> {
    socket: Socket,
    /// The same socket, known to the reactor.
    readiness: Async<UdpSocket>,
    /// The last receive left slots to spare, so the next would only hear that the queue is empty. What
    /// came in between makes the wait end at once.
    drained: bool,
    clock: Clock,
    commands: Mailbox<Command>,
    relays: RelayLane,
    emit: E,
}

impl<E> SmolPort<E> {
    /// Any of these may also end without cause, which costs a turn that finds nothing to do.
    async fn wait(&self, alarm: &mut Alarm, writable: bool, woken: &Receiver<()>) {
        let readable = async { drop(self.readiness.readable().await) };
        let writable = async {
            if writable {
                drop(self.readiness.writable().await);
            } else {
                future::pending::<()>().await;
            }
        };
        let command = async {
            woken.recv().await.ok();
        };
        readable.or(writable).or(command).or(alarm.ring()).await;
    }
}

impl<E: FnMut(Event)> Port for SmolPort<E> {
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
