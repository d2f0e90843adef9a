//! A call from any thread that ends the shard's wait, and the nap that it ends.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// What callers hold.
#[derive(Debug)]
pub(crate) struct Wake {
    called: AtomicBool,
    /// Counts calls that no nap has seen.
    bell: OwnedFd,
    /// The task, while the executor waits.
    task: Mutex<Option<Waker>>,
}

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        Ok(Self {
            called: AtomicBool::new(false),
            bell: eventfd(0, flags)?,
            task: Mutex::default(),
        })
    }

    /// Ends the wait or nap under way, or the next. Of many calls during one turn only the first does anything.
    pub(crate) fn call(&self) {
        if self.called.swap(true, Ordering::AcqRel) {
            return;
        }
        // It fails only when 2^64 calls wait to be seen, and then the bell rings anyway.
        rustix::io::write(&self.bell, &1_u64.to_ne_bytes()).ok();
        // Taken, because the executor keeps every waker it is given until it waits again, and counts 32,767 at most.
        let task = self.task().take();
        if let Some(task) = task {
            task.wake();
        }
    }

    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shard's end of a [`Wake`].
#[derive(Debug)]
pub(crate) struct Waking(Arc<Wake>);

impl Waking {
    pub(crate) const fn new(wake: Arc<Wake>) -> Self {
        Self(wake)
    }

    /// Forgets the calls so far: what they are about will be looked at from here on.
    pub(crate) fn clear(&self) {
        self.0.called.swap(false, Ordering::AcqRel);
    }

    /// Whether it was called since it was cleared; wakes the task when it is.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut task = self.0.task();
        // Whoever calls after this look finds the waker, since it is put there under the same lock.
        if self.0.called.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        *task = Some(context.waker().clone());
        Poll::Pending
    }

    /// Blocks the thread for so long, or until a call. One call that was seen in a turn already may cut it short.
    pub(crate) fn nap(&self, longest: Duration) {
        let timeout = Timespec {
            tv_sec: longest.as_secs().cast_signed(),
            tv_nsec: longest.subsec_nanos().into(),
        };
        let mut bell = [PollFd::new(&self.0.bell, PollFlags::IN)];
        // An interrupted nap is a short one.
        if poll(&mut bell, Some(&timeout)).is_ok_and(|rung| rung > 0) {
            rustix::io::read(&self.0.bell, &mut [0; 8]).ok();
        }
    }
}

/// The waker is the executor's: nobody may keep it beyond the task.
impl Drop for Waking {
    fn drop(&mut self) {
        self.0.task().take();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake as CountWakes;

    use antiphon_udp::Clock;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl CountWakes for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn pair() -> (Arc<Wake>, Waking) {
        let wake = Arc::new(Wake::new().expect("there are descriptors"));
        (Arc::clone(&wake), Waking::new(wake))
    }

    #[test]
    fn the_first_call_of_a_turn_wakes_once_and_nobody_keeps_the_waker() {
        let wakes = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let context = Context::from_waker(&waker);
        let (wake, waking) = pair();
        let woken = || wakes.0.load(Ordering::Relaxed);

        assert!(waking.poll(&context).is_pending());
        wake.call();
        wake.call();
        assert_eq!(woken(), 1);
        assert!(waking.poll(&context).is_ready());
        waking.clear();
        wake.call();
        assert_eq!(woken(), 1, "no task waits");
        assert!(
            waking.poll(&context).is_ready(),
            "the call is kept for the next wait"
        );

        waking.clear();
        assert!(waking.poll(&context).is_pending());
        drop(waking);
        wake.call();
        assert_eq!(
            Arc::strong_count(&wakes),
            2,
            "this one and the test's waker"
        );
    }

    #[test]
    fn a_nap_lasts_its_time_and_a_call_ends_it_or_the_next() {
        const LONG: Duration = Duration::from_secs(60);
        let clock = Clock::start();
        let (wake, waking) = pair();
        let short = Duration::from_millis(2);
        let began = clock.now();
        waking.nap(short);
        assert!(clock.now().since(began) >= short);

        wake.call();
        waking.nap(LONG);
        waking.clear();
        let caller = std::thread::spawn(move || wake.call());
        waking.nap(LONG);
        caller.join().expect("it calls");
        assert!(clock.now().since(began) < LONG);
    }
}
