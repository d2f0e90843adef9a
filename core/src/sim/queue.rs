//! What happens next: datagrams under way, and wishes to be woken, by time and then by order of their making.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use crate::time::Timestamp;

/// Something that happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The datagram in this place of the pool arrives.
    Arrival(u32),
    /// This member may have something to do.
    Member(u32),
    /// This stranger may have something to do.
    Stranger(u32),
    /// This member's offer, or its restart, reaches the server.
    Offer(u32),
    /// The server's answer reaches this member.
    Answer(u32),
}

/// Dues in order. Two of one time keep the order in which they were pushed.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<(Timestamp, u64, Due)>>,
    pushed: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at: Timestamp, due: Due) {
        self.pushed += 1;
        self.heap.push(Reverse((at, self.pushed, due)));
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next if it is due at `now` or before.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<Due> {
        if self.next().is_none_or(|at| at > now) {
            return None;
        }
        self.heap.pop().map(|Reverse((.., due))| due)
    }
}

/// A datagram under way.
#[derive(Clone, Debug)]
pub(super) struct Flying {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    /// When it reached the receiver's socket; a server that naps reads it later.
    pub(super) received: Timestamp,
    pub(super) contents: Vec<u8>,
}

/// Datagrams by place. Places and their buffers are used again, so a world in its stride allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Pool {
    places: Vec<Flying>,
    free: Vec<u32>,
}

impl Pool {
    /// A place for a datagram of up to `size_max` bytes, which `write` fills; `None` if it writes nothing.
    pub(super) fn put(
        &mut self,
        (source, destination): (SocketAddr, SocketAddr),
        size_max: usize,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Option<u32> {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Flying {
                source,
                destination,
                received: Timestamp::ZERO,
                contents: Vec::new(),
            });
            (self.places.len() - 1) as u32
        });
        let flying = &mut self.places[place as usize];
        (flying.source, flying.destination) = (source, destination);
        if flying.contents.len() < size_max {
            flying.contents.resize(size_max, 0);
        }
        let len = write(&mut flying.contents[..size_max]);
        if let Some(len) = len {
            flying.contents.truncate(len);
            return Some(place);
        }
        self.free.push(place);
        None
    }

    /// A second place with the same datagram.
    pub(super) fn duplicate(&mut self, place: u32) -> u32 {
        let Flying {
            source,
            destination,
            contents,
            ..
        } = self.places[place as usize].clone();
        self.put((source, destination), contents.len(), |out| {
            out.copy_from_slice(&contents);
            Some(contents.len())
        })
        .expect("it was written")
    }

    pub(super) fn at(&self, place: u32) -> &Flying {
        &self.places[place as usize]
    }

    pub(super) fn at_mut(&mut self, place: u32) -> &mut Flying {
        &mut self.places[place as usize]
    }

    /// Gives a place back.
    pub(super) fn free(&mut self, place: u32) {
        self.free.push(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dues_come_by_time_and_then_in_order() {
        let mut queue = Queue::default();
        let at = Timestamp::from_millis;
        queue.push(at(2), Due::Member(1));
        queue.push(at(1), Due::Member(9));
        queue.push(at(1), Due::Arrival(3));
        assert_eq!(queue.pop_due(at(0)), None);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop_due(at(2))).collect();
        assert_eq!(order, [Due::Member(9), Due::Arrival(3), Due::Member(1)]);
    }

    #[test]
    fn places_are_used_again_and_keep_no_bytes_of_before() {
        let mut pool = Pool::default();
        let address = SocketAddr::from(([10, 0, 0, 1], 1));
        let mut put = |bytes: &[u8]| {
            let place = pool.put((address, address), 8, |out| {
                out[..bytes.len()].copy_from_slice(bytes);
                Some(bytes.len())
            });
            let place = place.unwrap();
            assert_eq!(pool.at(place).contents, bytes);
            pool.free(place);
            place
        };
        assert_eq!(put(b"abcdef"), put(b"xy"));
        assert_eq!(pool.places.len(), pool.free.len());
    }
}
