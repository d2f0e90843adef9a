//! Counts what a shard's thread allocates: within its turns, where the packets are, and between them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use antiphon_core::drive::{Port, Turn, Turner};
use antiphon_core::time::Timestamp;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting by thread.
#[derive(Debug)]
pub struct Counting;

fn note() {
    // A thread that ends allocates after its locals are gone.
    let _counted = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Allocations of this thread so far; always zero where [`Counting`] is not the program's allocator.
pub(super) fn allocations() -> u64 {
    ALLOCATIONS.get()
}

/// What a [`Counted`] turner's thread allocated since it was last cleared.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Within turns.
    pub(super) turning: AtomicU64,
    /// Between turns.
    pub(super) waiting: AtomicU64,
    /// Turns.
    pub(super) turns: AtomicU64,
}

impl Counts {
    pub(super) fn clear(&self) {
        for count in [&self.turning, &self.waiting, &self.turns] {
            count.store(0, Ordering::Relaxed);
        }
    }
}

/// A turner whose turns are counted.
pub(super) struct Counted<T> {
    turner: T,
    counts: Arc<Counts>,
    at_end: Option<u64>,
}

impl<T> Counted<T> {
    pub(super) const fn new(turner: T, counts: Arc<Counts>) -> Self {
        Self {
            turner,
            counts,
            at_end: None,
        }
    }
}

impl<T: Turner> Turner for Counted<T> {
    fn turn<P: Port>(&mut self, now: Timestamp, port: &mut P) -> Turn {
        let before = allocations();
        let waiting = before - self.at_end.unwrap_or(before);
        let turn = self.turner.turn(now, port);
        let after = allocations();
        self.at_end = Some(after);
        self.counts.waiting.fetch_add(waiting, Ordering::Relaxed);
        self.counts
            .turning
            .fetch_add(after - before, Ordering::Relaxed);
        self.counts.turns.fetch_add(1, Ordering::Relaxed);
        turn
    }
}
