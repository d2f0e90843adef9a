//! The packets that wait, by sequence number, and their bytes.

use crate::limits::{JITTER_BYTES_MAX, JITTER_PACKETS_MAX};
use crate::time::Timestamp;

/// The sequence number of a free slot; no packet has it.
const FREE: u64 = u64::MAX;

/// One packet that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Extended sequence number.
    pub(super) sequence: u64,
    /// Extended timestamp.
    pub(super) timestamp: i64,
    /// When it came.
    pub(super) received: Timestamp,
    /// It begins a talk-spurt, says the sender.
    pub(super) marker: bool,
    at: u32,
    bytes: u32,
}

impl Held {
    /// A packet that is to be stored.
    pub(super) const fn new(
        sequence: u64,
        timestamp: i64,
        received: Timestamp,
        marker: bool,
    ) -> Self {
        Self {
            sequence,
            timestamp,
            received,
            marker,
            at: 0,
            bytes: 0,
        }
    }

    const fn end(&self) -> usize {
        self.at as usize + self.bytes as usize
    }
}

/// Slots by the low bits of the sequence number, and a ring of bytes in order of arrival. What is in the way of a new
/// packet, in either, makes room for it. All memory is taken when it is made.
#[derive(Debug)]
pub(super) struct PacketStore {
    sequences: Box<[u64; JITTER_PACKETS_MAX]>,
    held: Box<[Held; JITTER_PACKETS_MAX]>,
    bytes: Box<[u8]>,
    /// Where the next payload goes ...
    head: usize,
    /// ... and up to where no packet's bytes are known to be.
    clear: usize,
    count: usize,
}

impl PacketStore {
    pub(super) fn new() -> Self {
        let nothing = Held::new(FREE, 0, Timestamp::ZERO, false);
        Self {
            sequences: Box::new([FREE; JITTER_PACKETS_MAX]),
            held: Box::new([nothing; JITTER_PACKETS_MAX]),
            bytes: vec![0; JITTER_BYTES_MAX].into_boxed_slice(),
            head: 0,
            clear: JITTER_BYTES_MAX,
            count: 0,
        }
    }

    /// Packets that wait.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Takes a packet in; how many it pushed out.
    ///
    /// The payload must not be longer than the ring of bytes.
    pub(super) fn insert(&mut self, mut packet: Held, payload: &[u8]) -> usize {
        let before = self.count;
        let slot = slot(packet.sequence);
        self.free(slot);
        self.make_room(payload.len());
        packet.at = self.head as u32;
        packet.bytes = payload.len() as u32;
        self.bytes[self.head..packet.end()].copy_from_slice(payload);
        self.head = packet.end();
        self.sequences[slot] = packet.sequence;
        self.held[slot] = packet;
        self.count += 1;
        before + 1 - self.count
    }

    /// The packet with the lowest number.
    pub(super) fn first(&self) -> Option<&Held> {
        if self.count == 0 {
            return None;
        }
        let lowest = self.sequences.iter().min()?;
        Some(&self.held[slot(*lowest)])
    }

    /// The packet with the lowest number, looked for at `likely`, below which there is none.
    pub(super) fn first_from(&self, likely: u64) -> Option<&Held> {
        if self.sequences[slot(likely)] == likely {
            return Some(&self.held[slot(likely)]);
        }
        self.first()
    }

    /// The payload of a packet that waits, or that was taken last.
    pub(super) fn payload(&self, packet: &Held) -> &[u8] {
        &self.bytes[packet.at as usize..packet.end()]
    }

    /// Takes a packet out. Its payload can be read until the next is inserted.
    pub(super) fn remove(&mut self, sequence: u64) -> Option<Held> {
        let slot = slot(sequence);
        if self.sequences[slot] != sequence {
            return None;
        }
        self.free(slot);
        Some(self.held[slot])
    }

    /// Drops everything; how many.
    pub(super) fn clear(&mut self) -> usize {
        self.sequences.fill(FREE);
        self.head = 0;
        self.clear = JITTER_BYTES_MAX;
        std::mem::take(&mut self.count)
    }

    fn free(&mut self, slot: usize) {
        if self.sequences[slot] != FREE {
            self.sequences[slot] = FREE;
            self.count -= 1;
        }
    }

    /// Frees `bytes` in one piece from `head` on, which goes back to the beginning if they do not fit.
    fn make_room(&mut self, bytes: usize) {
        if self.head + bytes > JITTER_BYTES_MAX {
            self.head = 0;
            self.clear = 0;
        }
        let end = self.head + bytes;
        if end <= self.clear {
            return;
        }
        let mut clear = JITTER_BYTES_MAX;
        for slot in 0..JITTER_PACKETS_MAX {
            let (at, until) = (self.held[slot].at as usize, self.held[slot].end());
            if self.sequences[slot] == FREE || until <= self.head {
                continue;
            }
            if at < end {
                self.free(slot);
            } else {
                clear = clear.min(at);
            }
        }
        self.clear = clear;
    }
}

const fn slot(sequence: u64) -> usize {
    (sequence % JITTER_PACKETS_MAX as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rng::Seed;

    fn held(sequence: u64) -> Held {
        Held::new(sequence, 0, Timestamp::ZERO, false)
    }

    /// Against a map: whatever is still there is there whole.
    #[test]
    fn what_is_held_is_what_was_put_in() {
        let mut rng = Seed::new([5; 32]).rng();
        let mut store = PacketStore::new();
        let mut model: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut pushed_out = 0;
        for step in 0..20_000_u64 {
            let sequence = step + u64::from(rng.below(40));
            if model.contains_key(&sequence) || rng.below(3) == 0 {
                let taken = store.remove(sequence);
                let expected = model.remove(&sequence);
                assert_eq!(
                    taken.map(|taken| store.payload(&taken).to_vec()),
                    expected,
                    "{sequence}"
                );
                continue;
            }
            let mut payload = vec![0; 1 + rng.below(1_500) as usize];
            rng.fill(&mut payload);
            pushed_out += store.insert(held(sequence), &payload);
            model.insert(sequence, payload);
            model.retain(|sequence, payload| {
                let found = store.sequences[slot(*sequence)] == *sequence;
                if found {
                    assert_eq!(store.payload(&store.held[slot(*sequence)]), payload);
                }
                found
            });
            assert_eq!(store.count(), model.len());
            let first = model.keys().next().copied();
            assert_eq!(store.first().map(|held| held.sequence), first);
            for likely in first.map_or(0..0, |first| first.saturating_sub(3)..first + 1) {
                assert_eq!(store.first_from(likely).map(|held| held.sequence), first);
            }
        }
        assert!(pushed_out > 1_000, "{pushed_out}");
    }

    #[test]
    fn many_small_packets_fill_the_slots_and_few_large_ones_the_bytes() {
        for (bytes, count) in [(100, JITTER_PACKETS_MAX), (1_275, JITTER_BYTES_MAX / 1_275)] {
            let mut store = PacketStore::new();
            for sequence in 0..1_000 {
                store.insert(held(sequence), &vec![1; bytes]);
            }
            assert_eq!(store.count(), count);
            assert_eq!(
                store.first().map(|held| held.sequence),
                Some(1_000 - count as u64)
            );
            assert_eq!(store.clear(), count);
            assert_eq!(store.first(), None);
        }
    }
}
