//! Counts what threads allocate, and of a shard's thread what it does within its turns, where the packets are, and
//! between them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use antiphon_core::drive::{Port, Turn, Turner};
use antiphon_core::time::Timestamp;

/// Threads told apart; those that come later are counted as one.
const PLACES: usize = 1_024;

/// What one thread allocated.
struct Place {
    /// Its number in the operating system.
    thread: AtomicU32,
    allocations: AtomicU64,
}

static COUNTS: [Place; PLACES] = [const {
    Place {
        thread: AtomicU32::new(0),
        allocations: AtomicU64::new(0),
    }
}; PLACES];
static TAKEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's, once it has allocated anything.
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The system's allocator, counting by thread.
#[derive(Debug)]
pub struct Counting;

fn place() -> Option<usize> {
    // A thread that ends allocates after its locals are gone.
    let found = PLACE.try_with(|place| {
        place.get().unwrap_or_else(|| {
            let taken = TAKEN.fetch_add(1, Ordering::Relaxed).min(PLACES - 1);
            // SAFETY: it takes nothing and cannot fail.
            let thread = unsafe { libc::gettid() };
            COUNTS[taken]
                .thread
                .store(thread.cast_unsigned(), Ordering::Relaxed);
            place.set(Some(taken));
            taken
        })
    });
    found.ok()
}

fn note() {
    if let Some(place) = place() {
        COUNTS[place].allocations.fetch_add(1, Ordering::Relaxed);
    }
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
    place().map_or(0, |place| COUNTS[place].allocations.load(Ordering::Relaxed))
}

/// Allocations so far of a thread by its number in the operating system, which may have ended.
#[must_use]
pub fn allocations_of(thread: u32) -> u64 {
    let places = COUNTS.iter();
    let of_thread = places.filter(|place| place.thread.load(Ordering::Relaxed) == thread);
    of_thread
        .map(|place| place.allocations.load(Ordering::Relaxed))
        .sum()
}

/// What a [`Counted`] turner's thread allocated since it was last cleared.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Within turns.
    turning: AtomicU64,
    /// Between turns.
    waiting: AtomicU64,
    /// Turns.
    turns: AtomicU64,
}

impl Counts {
    pub(super) fn clear(&self) {
        for count in self.all() {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// Within turns, between them, and turns.
    pub(super) fn read(&self) -> [u64; 3] {
        self.all().map(|count| count.load(Ordering::Relaxed))
    }

    const fn all(&self) -> [&AtomicU64; 3] {
        [&self.turning, &self.waiting, &self.turns]
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
