//! Packets kept for a while, once for all subscribers.

use std::collections::VecDeque;

use crate::limits::{CACHE_AGE_MAX, CACHE_BYTES_MAX, CACHE_PACKETS_MAX, DATAGRAM_BYTES_MAX};
use crate::time::Timestamp;

/// First size of the arena: a second of a small picture.
const ARENA_BYTES_MIN: usize = 16 << 10;

/// What of a packet's header a subscriber's copy is made from; all in the source's own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedHeader {
    /// Marker bit.
    pub marker: bool,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Video orientation extension, if the packet carried it.
    pub video_orientation: Option<u8>,
}

/// The recent packets of one video source, in the clear, by extended sequence number.
///
/// Holds at most [`CACHE_BYTES_MAX`] of payload and [`CACHE_PACKETS_MAX`] packets; none older than
/// [`CACHE_AGE_MAX`] is found. Memory follows the largest second seen and stays: nothing is allocated
/// before the first packet, nor per packet later.
///
/// Payloads lie in one ring of bytes. Positions in it only ever grow; a byte's place is its position
/// modulo the ring's size. Sizes are powers of two, so that doubling the ring keeps every payload in
/// one piece.
#[derive(Debug, Default)]
pub struct PacketCache {
    arena: Vec<u8>,
    /// Position of the next payload, before it is moved so as not to straddle the end.
    head: u64,
    /// In order of insertion.
    entries: VecDeque<Entry>,
    /// Insertion number of the first entry; wraps.
    first: u32,
    /// Insertion number of a sequence number, at that modulo the length. An entry no longer there,
    /// or of another sequence number, is told by looking.
    by_sequence: Vec<u32>,
}

#[derive(Debug)]
struct Entry {
    sequence: u64,
    inserted: Timestamp,
    position: u64,
    len: u32,
    header: CachedHeader,
}

impl PacketCache {
    /// Keeps a packet. Does nothing if its number is held already, is too far behind the newest, or
    /// its payload is larger than a datagram of ours could carry.
    pub fn insert(&mut self, now: Timestamp, sequence: u64, header: CachedHeader, payload: &[u8]) {
        if payload.len() > DATAGRAM_BYTES_MAX {
            return;
        }
        self.drop_aged(now);
        let slot = (sequence % CACHE_PACKETS_MAX as u64) as usize;
        if self
            .entry_in(slot)
            .is_some_and(|held| held.sequence >= sequence)
        {
            return;
        }
        if self.entries.len() == CACHE_PACKETS_MAX {
            self.drop_oldest();
        }
        let position = self.make_room(now, payload.len());
        let place = self.place(position);
        self.arena[place..place + payload.len()].copy_from_slice(payload);
        self.head = position + payload.len() as u64;
        if self.by_sequence.is_empty() {
            self.by_sequence = vec![0; CACHE_PACKETS_MAX];
        }
        self.by_sequence[slot] = self.first.wrapping_add(self.entries.len() as u32);
        let len = payload.len() as u32;
        self.entries.push_back(Entry {
            sequence,
            inserted: now,
            position,
            len,
            header,
        });
    }

    /// The packet of that number; `None` if it was never kept, or is too old or overwritten.
    #[must_use]
    pub fn find(&self, now: Timestamp, sequence: u64) -> Option<(&CachedHeader, &[u8])> {
        let entry = self.entry_in((sequence % CACHE_PACKETS_MAX as u64) as usize)?;
        if entry.sequence != sequence || is_aged(entry, now) {
            return None;
        }
        let place = self.place(entry.position);
        Some((
            &entry.header,
            &self.arena[place..place + entry.len as usize],
        ))
    }

    /// Heap bytes held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.arena.capacity()
            + self.entries.capacity() * size_of::<Entry>()
            + self.by_sequence.capacity() * size_of::<u32>()
    }

    fn entry_in(&self, slot: usize) -> Option<&Entry> {
        let insertion = *self.by_sequence.get(slot)?;
        let entry = self
            .entries
            .get(insertion.wrapping_sub(self.first) as usize)?;
        // A stale slot may name a later insertion by accident.
        (entry.sequence % CACHE_PACKETS_MAX as u64 == slot as u64).then_some(entry)
    }

    /// The position for `len` bytes. Grows the arena rather than lose a packet that is still young;
    /// at the largest size the oldest go.
    fn make_room(&mut self, now: Timestamp, len: usize) -> u64 {
        if self.arena.is_empty() {
            self.arena = vec![0; ARENA_BYTES_MIN];
        }
        loop {
            let size = self.arena.len() as u64;
            let left = size - self.head % size;
            let position = if (len as u64) > left {
                self.head + left
            } else {
                self.head
            };
            let end = position + len as u64;
            match self.entries.front() {
                Some(oldest) if end > oldest.position + size => {
                    if self.arena.len() < CACHE_BYTES_MAX && !is_aged(oldest, now) {
                        self.grow();
                    } else {
                        self.drop_oldest();
                    }
                }
                _ => return position,
            }
        }
    }

    /// Doubles the arena. The bytes of the last lap move to their place modulo the new size; the
    /// ring's end is crossed at most once, so there are two runs.
    fn grow(&mut self) {
        let size = self.arena.len();
        let mut arena = vec![0; size * 2];
        let turn = (self.head % size as u64) as usize;
        let lap = self.head - turn as u64;
        let place = (lap % arena.len() as u64) as usize;
        arena[place..place + turn].copy_from_slice(&self.arena[..turn]);
        // The lap before: in the other half, whether it exists yet or not.
        let before = size - place;
        arena[before + turn..before + size].copy_from_slice(&self.arena[turn..]);
        self.arena = arena;
    }

    fn drop_aged(&mut self, now: Timestamp) {
        while self
            .entries
            .front()
            .is_some_and(|oldest| is_aged(oldest, now))
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if self.entries.pop_front().is_some() {
            self.first = self.first.wrapping_add(1);
        }
    }

    fn place(&self, position: u64) -> usize {
        (position % self.arena.len() as u64) as usize
    }
}

fn is_aged(entry: &Entry, now: Timestamp) -> bool {
    now.since(entry.inserted) > CACHE_AGE_MAX
}

#[cfg(test)]
mod tests;
