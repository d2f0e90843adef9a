//! Drives shards on tokio: for each, a thread of its own with a current-thread runtime.
//!
//! A driver supplies a [`Port`], a way to wait and a thread, and nothing else. This one puts latency
//! first: it takes whatever is there at once and never waits for more to come. tokio's timers have a
//! grain of 1 ms, so a deadline is kept up to about 2 ms late, and never early.
#![forbid(unsafe_code)]

use std::io;
use std::net::UdpSocket;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::time::Sleep;

/// A full socket is tried again after this when it cannot be watched.
const ROOM_RETRY: Duration = Duration::from_millis(1);

/// Starts a thread named `shard-N` that makes a turner and drives it over `socket` until stopped.
///
/// The shard takes its place among `relays`. `emit` is called on that thread and must not block. A panic in the
/// turner ends the thread and comes out of [`ShardHandle::join`]: a session's own panics never get this far, so the
/// process should exit.
///
/// # Errors
/// When the runtime, the readiness registration or the thread cannot be had: out of descriptors or
/// threads.
pub fn spawn<T: Turner + 'static>(
    id: ShardId,
    make: impl FnOnce(&Clock) -> T + Send + 'static,
    socket: Socket,
    clock: Clock,
    relays: &RelayLanes,
    emit: impl FnMut(Event) + Send + 'static,
) -> io::Result<ShardHandle> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let readiness = {
        let _context = runtime.enter();
        watch(&socket, Interest::READABLE)?
    };
    let stop = Arc::new(AtomicBool::new(false));
    let woken = Arc::new(Notify::new());
    let wake = {
        let woken = Arc::clone(&woken);
        move || woken.notify_one()
    };
    let commands = Mailbox::new(COMMANDS_MAX, wake.clone());
    let port = TokioPort {
        socket,
        readiness,
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
            runtime.block_on(drive(turner, port, &stopped, &woken));
        })?;
    Ok(ShardHandle::new(id, commands, stop, wake, thread))
}

/// Registers a second handle of the socket with the runtime, for one kind of readiness only.
#[expect(
    deprecated,
    reason = "its successor cannot be called safely, for the sake of types that close their descriptor early"
)]
fn watch(socket: &Socket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(socket.duplicate()?, interest)
}

async fn drive<E: FnMut(Event)>(
    mut turner: impl Turner,
    mut port: TokioPort<E>,
    stopped: &AtomicBool,
    woken: &Notify,
) {
    let timer = tokio::time::sleep(Duration::ZERO);
    let mut timer = pin!(timer);
    while !stopped.load(Ordering::Acquire) {
        let now = port.now();
        match turner.turn(now, &mut port) {
            Turn::Wait { deadline, writable } if deadline.is_none_or(|deadline| deadline > now) => {
                port.wait(deadline, writable, woken, timer.as_mut()).await;
            }
            // Lets the runtime look at its sockets between turns.
            Turn::Again | Turn::Wait { .. } => tokio::task::yield_now().await,
        }
    }
    turner.finish(&mut port);
}

struct TokioPort<E> {
    socket: Socket,
    /// The same socket, known to the runtime for reading only: asked about room to send as well, epoll
    /// would wake us for every datagram that has left. Its `try_io` skips the system call while the
    /// socket is known to be not ready, and clears readiness on `WouldBlock` only.
    readiness: AsyncFd<UdpSocket>,
    clock: Clock,
    commands: Mailbox<Command>,
    relays: RelayLane,
    emit: E,
}

impl<E> TokioPort<E> {
    /// Any of these may also end without cause, which costs a turn that finds nothing to do.
    async fn wait(
        &self,
        deadline: Option<Timestamp>,
        writable: bool,
        woken: &Notify,
        mut timer: Pin<&mut Sleep>,
    ) {
        if let Some(deadline) = deadline {
            let deadline = self.clock.epoch().instant(deadline).into();
            if timer.deadline() != deadline || timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
        }
        tokio::select! {
            // Whichever it was, the turn that follows looks at everything.
            biased;
            _ = self.readiness.readable() => {}
            () = self.room(), if writable => {}
            () = woken.notified() => {}
            () = timer, if deadline.is_some() => {}
        }
    }

    /// Waits until a full socket has room again, which is rare enough to register for each time.
    async fn room(&self) {
        match watch(&self.socket, Interest::WRITABLE) {
            Ok(watched) => drop(watched.writable().await),
            // No file descriptor left: trying again later does as well.
            Err(_) => tokio::time::sleep(ROOM_RETRY).await,
        }
    }
}

impl<E: FnMut(Event)> Port for TokioPort<E> {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn recv(&mut self, batch: &mut RecvBatch) {
        let Self {
            socket,
            readiness,
            clock,
            ..
        } = self;
        // "Nothing there" leaves the batch empty, and the socket counts every other error.
        readiness
            .try_io(Interest::READABLE, |_| {
                let free = batch.free_count();
                if socket.recv(clock, batch)? == free {
                    return Ok(());
                }
                // Slots to spare: the queue is empty, and another call to hear so is saved. What comes
                // from here on is a new edge, which epoll tells.
                Err(io::ErrorKind::WouldBlock.into())
            })
            .ok();
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
