//! All that is taken from glommio: an executor, an alarm, and word that a socket is readable. Whoever moves to
//! another release or a successor looks here and at `Cargo.toml`.
//!
//! glommio's socket never carries a datagram: its `send_to` under back-pressure sends one byte and reports success
//! (0.9.0, and the successors too). It only peeks, which leaves every datagram where it is.

use std::future::{Future, poll_fn};
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use glommio::timer::Timer;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

/// Memory for files, of which we open none: glommio's minimum instead of its 10 MiB, which would not even fit into
/// the usual locked-memory limit.
const IO_MEMORY_BYTES: usize = 64 << 10;
/// Entries of each of its three rings. We have at most one operation and one timeout under way.
const RING_DEPTH: usize = 32;
/// Long enough for an operation to be taken back.
const CANCEL_TIME: Duration = Duration::from_millis(1);

/// One thread's executor.
pub(crate) struct Executor(LocalExecutor);

impl Executor {
    /// Sets up the rings, for the thread that calls. Panics or ends the process where io_uring is refused or too
    /// old, so ask [`probe`](crate::probe()) first.
    pub(crate) fn new() -> io::Result<Self> {
        let builder = LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(IO_MEMORY_BYTES)
            .ring_depth(RING_DEPTH);
        Ok(Self(builder.make()?))
    }

    /// Runs `future` to its end. A panic in it comes through.
    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        self.0.run(future)
    }
}

/// Lets the executor look at its rings.
pub(crate) async fn yield_now() {
    glommio::executor().yield_now().await;
}

/// One timer, used over and over.
pub(crate) struct Alarm(Timer);

impl Alarm {
    /// Within [`Executor::run`].
    pub(crate) fn new() -> Self {
        Self(Timer::new(Duration::ZERO))
    }

    /// From now on it rings `after` this moment, and not when it was set to before.
    pub(crate) fn set(&mut self, after: Duration) {
        self.0.reset(after);
    }

    /// Whether it has rung; wakes the task when it does.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context).map(drop)
    }
}

/// Tells when a datagram can be received.
pub(crate) struct Watch {
    socket: Rc<glommio::net::UdpSocket>,
    /// The one peek under way. It outlives a wait that something else ended: taking it back costs as much as
    /// another, and its end at most one turn that finds nothing.
    peek: Option<Pin<Box<dyn Future<Output = io::Result<()>>>>>,
}

impl Watch {
    /// Watches a blocking socket, within [`Executor::run`]. For a nonblocking one io_uring would answer "nothing
    /// there" at once.
    pub(crate) fn new(socket: UdpSocket) -> Self {
        let socket = glommio_socket2::Socket::from(socket);
        Self {
            socket: Rc::new(socket.into()),
            peek: None,
        }
    }

    /// Whether there was a datagram at some time since the last answer; wakes the task when one comes.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let peek = self.peek.get_or_insert_with(|| {
            let socket = Rc::clone(&self.socket);
            Box::pin(async move {
                socket.peek_from(&mut [0]).await?;
                Ok(())
            })
        });
        let answer = peek.as_mut().poll(context);
        if answer.is_ready() {
            self.peek = None;
        }
        answer
    }

    /// Takes back the peek under way, so that the socket is closed with its last owner: a ring that holds it is
    /// taken apart by the kernel some time after its end, and the port would stay taken.
    pub(crate) async fn close(self, alarm: &mut Alarm) {
        if self.peek.is_some() {
            drop(self);
            // The executor tells the kernel before it sleeps.
            alarm.set(CANCEL_TIME);
            poll_fn(|context| alarm.poll(context)).await;
        }
    }
}
