//! What the server holds of a running shard.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::drive::{Full, Mailbox};
use crate::ids::ShardId;
use crate::message::Command;

/// A running shard: its command lane, its stop flag and its thread. Made by a driver's `spawn`.
///
/// Dropping the handle detaches the thread, which then runs on.
pub struct ShardHandle {
    id: ShardId,
    commands: Mailbox<Command>,
    stop: Arc<AtomicBool>,
    wake: Box<dyn Fn() + Send + Sync>,
    thread: JoinHandle<()>,
}

impl ShardHandle {
    /// Ties together what a driver made: `wake` ends the driver's wait, and `thread` ends soon after
    /// `stop` was set and `wake` called.
    pub fn new(
        id: ShardId,
        commands: Mailbox<Command>,
        stop: Arc<AtomicBool>,
        wake: impl Fn() + Send + Sync + 'static,
        thread: JoinHandle<()>,
    ) -> Self {
        Self { id, commands, stop, wake: Box::new(wake), thread }
    }

    /// Which shard.
    #[must_use]
    pub const fn id(&self) -> ShardId {
        self.id
    }

    /// Queues a command and wakes the shard. Never blocks.
    ///
    /// # Errors
    /// [`Full`] with the command when the lane is full: the caller answers 503.
    pub fn try_send(&self, command: Command) -> Result<(), Full<Command>> {
        self.commands.try_push(command)
    }

    /// The command lane, to clone for those who only send.
    #[must_use]
    pub const fn commands(&self) -> &Mailbox<Command> {
        &self.commands
    }

    /// Asks the shard to stop after the commands queued so far. Returns at once; see [`join`](Self::join).
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        (self.wake)();
    }

    /// Whether the shard's thread has ended, by [`stop`](Self::stop) or by a panic.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the thread to end.
    ///
    /// # Errors
    /// The payload of the shard's panic. A session's panic never gets here: this is a broken shard,
    /// and the process should exit.
    pub fn join(self) -> std::thread::Result<()> {
        self.thread.join()
    }
}

impl fmt::Debug for ShardHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardHandle").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::ids::RequestId;

    #[test]
    fn commands_and_the_stop_flag_reach_the_thread_each_with_a_wake() {
        let (waker, wakes) = mpsc::channel();
        let stop_waker = waker.clone();
        let commands = Mailbox::new(1, move || waker.send("command").unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (commands, stop) = (commands.clone(), Arc::clone(&stop));
            move || {
                assert_eq!(wakes.recv(), Ok("command"));
                assert_eq!(wakes.recv(), Ok("stop"));
                assert!(stop.load(Ordering::Acquire));
                assert!(matches!(commands.pop(), Some(Command::ShardStats { .. })));
            }
        });
        let wake = move || stop_waker.send("stop").unwrap();
        let shard = ShardHandle::new(ShardId(3), commands, stop, wake, thread);
        let ask = |number| shard.try_send(Command::ShardStats { request: RequestId(number) });
        assert!(ask(1).is_ok());
        assert!(ask(2).is_err(), "the lane of one command is full");
        shard.stop();
        assert_eq!(shard.id(), ShardId(3));
        shard.join().expect("the thread saw what was sent");
    }
}
