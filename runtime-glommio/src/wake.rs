//! A call from any thread that ends the shard's wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What callers hold.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    called: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake {
    /// Ends the wait under way, or the next. Of many calls during one turn only the first does anything, so that
    /// no more than one waker a turn waits for the executor to look at it.
    pub(crate) fn call(&self) {
        if self.called.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(task) = self.task().as_ref() {
            task.wake_by_ref();
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
        if !task
            .as_ref()
            .is_some_and(|task| task.will_wake(context.waker()))
        {
            *task = Some(context.waker().clone());
        }
        Poll::Pending
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

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl CountWakes for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_first_call_of_a_turn_wakes_once_and_nobody_keeps_the_waker() {
        let wakes = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let context = Context::from_waker(&waker);
        let wake = Arc::new(Wake::default());
        let waking = Waking::new(Arc::clone(&wake));
        let woken = || wakes.0.load(Ordering::Relaxed);

        assert!(waking.poll(&context).is_pending());
        wake.call();
        wake.call();
        assert_eq!(woken(), 1);
        assert!(waking.poll(&context).is_ready());
        waking.clear();
        assert!(waking.poll(&context).is_pending());

        waking.clear();
        wake.call();
        assert_eq!(woken(), 2, "a call between turns is kept for the next wait");
        assert!(waking.poll(&context).is_ready());

        drop(waking);
        wake.call();
        assert_eq!(
            Arc::strong_count(&wakes),
            2,
            "this one and the test's waker"
        );
    }
}
