//! The one object that crosses threads: a bounded queue with a hook that wakes the other side.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The mailbox had no room; the value comes back.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// A bounded multi-producer queue. Clones share it. Never blocks beyond the lock, held for a push or a pop.
pub struct Mailbox<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    queue: Mutex<VecDeque<T>>,
    capacity: usize,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl<T> Mailbox<T> {
    /// A mailbox of `capacity` values; `wake` runs after each push into an empty queue, outside the lock.
    pub fn new(capacity: usize, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let queue = Mutex::new(VecDeque::with_capacity(capacity.min(1024)));
        Self {
            shared: Arc::new(Shared {
                queue,
                capacity,
                wake: Box::new(wake),
            }),
        }
    }

    /// Queues a value, or gives it back when the mailbox is full.
    ///
    /// # Errors
    /// [`Full`] with the value.
    pub fn try_push(&self, value: T) -> Result<(), Full<T>> {
        self.try_push_below(self.shared.capacity, value)
    }

    /// Queues a value, or gives it back when `most` wait, however many the mailbox holds: for what may not take the
    /// last room.
    ///
    /// # Errors
    /// [`Full`] with the value.
    pub fn try_push_below(&self, most: usize, value: T) -> Result<(), Full<T>> {
        let was_empty = {
            let mut queue = self.lock();
            if queue.len() >= most.min(self.shared.capacity) {
                return Err(Full(value));
            }
            queue.push_back(value);
            queue.len() == 1
        };
        if was_empty {
            (self.shared.wake)();
        }
        Ok(())
    }

    /// Takes the oldest value.
    #[must_use]
    pub fn pop(&self) -> Option<T> {
        self.lock().pop_front()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// A panic elsewhere cannot leave the queue half-changed: pushes and pops are single calls.
    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.shared
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("capacity", &self.shared.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn wakes_once_for_each_run_of_pushes_and_gives_back_what_does_not_fit() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let mailbox = Mailbox::new(2, move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(mailbox.try_push(1), Ok(()));
        assert_eq!(mailbox.try_push(2), Ok(()));
        assert_eq!(mailbox.try_push(3), Err(Full(3)));
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        assert_eq!(
            (mailbox.pop(), mailbox.pop(), mailbox.pop()),
            (Some(1), Some(2), None)
        );
        assert_eq!(mailbox.try_push(4), Ok(()));
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn values_from_many_threads_all_arrive() {
        let mailbox = Mailbox::new(4_000, || ());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let mailbox = mailbox.clone();
                scope.spawn(move || {
                    for number in 0..1_000 {
                        mailbox
                            .try_push((thread, number))
                            .expect("there is room for all");
                    }
                });
            }
        });
        let mut next = [0; 4];
        while let Some((thread, number)) = mailbox.pop() {
            assert_eq!(
                number, next[thread],
                "one producer's values keep their order"
            );
            next[thread] += 1;
        }
        assert_eq!(next, [1_000; 4]);
    }
}
