//! Buffers that cross the [`Port`](super::Port): received datagrams and transmits, each in one arena.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use crate::limits::{RECV_SLOT_BYTES, TRANSMIT_ARENA_BYTES_MAX, TRANSMITS_MAX};
use crate::net::{Datagram, Ecn, Path, Transmit};
use crate::time::Timestamp;

/// What the driver tells about one filled slot of a [`RecvBatch`].
#[derive(Clone, Copy, Debug)]
pub struct RecvMeta {
    /// See [`Datagram::received`].
    pub received: Timestamp,
    /// See [`Datagram::source`].
    pub source: SocketAddr,
    /// See [`Datagram::destination`].
    pub destination: SocketAddr,
    /// See [`Datagram::ecn`].
    pub ecn: Option<Ecn>,
    /// Bytes filled, at most the slot's size.
    pub len: usize,
    /// Size of each datagram in the slot but the last, when the kernel coalesced several (GRO);
    /// `len` otherwise. Zero only when `len` is zero.
    pub stride: usize,
}

impl RecvMeta {
    /// Between whom.
    pub(super) const fn path(&self) -> Path {
        Path {
            local: self.destination,
            remote: self.source,
        }
    }
}

/// A fixed set of equal slots that a driver fills with received datagrams.
#[derive(Debug)]
pub struct RecvBatch {
    storage: Box<[u8]>,
    metas: Vec<RecvMeta>,
}

impl RecvBatch {
    /// Allocates `slots` slots of [`RECV_SLOT_BYTES`].
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self {
            storage: vec![0; slots * RECV_SLOT_BYTES].into_boxed_slice(),
            metas: Vec::with_capacity(slots),
        }
    }

    /// The slots still free, in order, for the driver to receive into.
    pub fn free_slots(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.storage
            .chunks_exact_mut(RECV_SLOT_BYTES)
            .skip(self.metas.len())
    }

    /// Count of slots still free.
    #[must_use]
    pub fn free_count(&self) -> usize {
        self.storage.len() / RECV_SLOT_BYTES - self.metas.len()
    }

    /// Marks the next free slot as filled. Slots are committed in the order `free_slots` gives them.
    ///
    /// # Panics
    /// When no slot is free: a driver's bug.
    pub fn commit(&mut self, meta: RecvMeta) {
        assert!(
            self.free_count() > 0,
            "committed more slots than the batch has"
        );
        let len = meta.len.min(RECV_SLOT_BYTES);
        self.metas.push(RecvMeta { len, ..meta });
    }

    /// Whether nothing was received.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.metas.is_empty()
    }

    /// Filled slots (not datagrams: a slot may hold several).
    #[must_use]
    pub fn len(&self) -> usize {
        self.metas.len()
    }

    /// Empties the batch.
    pub fn clear(&mut self) {
        self.metas.clear();
    }

    /// The filled slots, in order of arrival.
    pub fn slots(&self) -> impl Iterator<Item = (&RecvMeta, &[u8])> {
        let slots = self.storage.chunks_exact(RECV_SLOT_BYTES);
        slots
            .zip(&self.metas)
            .map(|(slot, meta)| (meta, &slot[..meta.len]))
    }

    /// Each datagram in order of arrival, coalesced ones split again.
    pub fn datagrams(&mut self) -> impl Iterator<Item = Datagram<'_>> {
        self.datagrams_of(0..self.metas.len())
    }

    /// The same of some slots.
    pub(super) fn datagrams_of(
        &mut self,
        slots: Range<usize>,
    ) -> impl Iterator<Item = Datagram<'_>> {
        self.storage
            .chunks_exact_mut(RECV_SLOT_BYTES)
            .zip(&self.metas)
            .take(slots.end)
            .skip(slots.start)
            .flat_map(|(slot, meta)| {
                let (filled, _) = slot.split_at_mut(meta.len);
                filled
                    .chunks_mut(meta.stride.max(1))
                    .map(|contents| Datagram {
                        received: meta.received,
                        source: meta.source,
                        destination: meta.destination,
                        ecn: meta.ecn,
                        contents,
                    })
            })
    }
}

/// How a transmit may be treated when the batch is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// STUN, DTLS and RTCP: dropped only when these alone fill the batch twice over.
    Control,
    /// RTP: the oldest gives way first.
    Media,
}

/// What stands beside the bytes of one transmit.
#[derive(Clone, Copy, Debug)]
pub struct TransmitMeta {
    /// Our address to send from.
    pub source: Option<IpAddr>,
    /// Where it goes.
    pub destination: SocketAddr,
    /// Congestion capability.
    pub ecn: Option<Ecn>,
    /// What may be dropped.
    pub lane: Lane,
    /// When the datagram that caused it was received: for the forwarding-delay statistic.
    pub received: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    meta: TransmitMeta,
    start: u32,
    len: u32,
}

/// Remembers a transmit that waits, to look at once it was consumed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(Entry);

/// Transmits in the order they will be sent, their bytes in one arena, written once.
#[derive(Debug, Default)]
pub struct TransmitBatch {
    /// As long as it ever was: bytes beyond `used` are left from before, so that nothing is zeroed twice.
    arena: Vec<u8>,
    used: usize,
    entries: VecDeque<Entry>,
    consumed: Vec<Timestamp>,
    dropped: u64,
}

impl TransmitBatch {
    /// Reserves `size_max` bytes, lets `write` fill them and say how many it used, and queues them.
    /// `None` from `write` queues nothing. Returns whether a transmit was queued.
    ///
    /// Allocates only while the arena grows to its high-water mark.
    pub fn push_with(
        &mut self,
        meta: TransmitMeta,
        size_max: usize,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        if !self.make_room(meta.lane, size_max) {
            return false;
        }
        let (start, end) = (self.used, self.used + size_max);
        if end > self.arena.len() {
            self.grow(end);
        }
        let len = write(&mut self.arena[start..end])
            .unwrap_or(0)
            .min(size_max);
        self.used += len;
        if len == 0 {
            return false;
        }
        self.entries.push_back(Entry {
            meta,
            start: start as u32,
            len: len as u32,
        });
        true
    }

    /// Queues a copy of `contents`.
    pub fn push(&mut self, meta: TransmitMeta, contents: &[u8]) -> bool {
        self.push_with(meta, contents.len(), |out| {
            out.copy_from_slice(contents);
            Some(contents.len())
        })
    }

    /// Transmits waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Transmits dropped for want of room since the start.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The transmits that wait, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (TransmitMeta, &[u8])> {
        self.entries
            .iter()
            .map(|entry| (entry.meta, self.bytes(entry)))
    }

    /// The oldest transmit.
    #[must_use]
    pub fn first(&self) -> Option<Transmit<'_>> {
        let entry = self.entries.front()?;
        Some(Transmit {
            source: entry.meta.source,
            destination: entry.meta.destination,
            ecn: entry.meta.ecn,
            contents: self.bytes(entry),
        })
    }

    /// Forgets the oldest `count` transmits: they were sent, or refused for good.
    ///
    /// Their receive times are kept for [`drain_consumed`](Self::drain_consumed).
    pub fn consume(&mut self, count: usize) {
        for entry in self.entries.drain(..count.min(self.entries.len())) {
            // A caller that never drains must not grow it for ever.
            if let Some(received) = entry.meta.received
                && self.consumed.len() < TRANSMITS_MAX
            {
                self.consumed.push(received);
            }
        }
        if self.entries.is_empty() {
            self.used = 0;
        }
    }

    /// Takes the receive times of consumed media, at most [`TRANSMITS_MAX`] since the last call. The
    /// pump calls it right after a send, with the clock read again, for the forwarding delay.
    pub fn drain_consumed(&mut self) -> impl Iterator<Item = Timestamp> {
        self.consumed.drain(..)
    }

    /// A mark on each transmit that waits, oldest first.
    pub(super) fn marks(&self) -> impl Iterator<Item = Mark> {
        self.entries.iter().copied().map(Mark)
    }

    /// A transmit that waited when it was marked. Its bytes lie where they lay until the next is pushed.
    pub(super) fn consumed(&self, mark: &Mark) -> (TransmitMeta, &[u8]) {
        (mark.0.meta, self.bytes(&mark.0))
    }

    fn bytes(&self, entry: &Entry) -> &[u8] {
        &self.arena[entry.start as usize..(entry.start + entry.len) as usize]
    }

    #[inline]
    fn make_room(&mut self, lane: Lane, size: usize) -> bool {
        self.has_room(size, 1) || self.free_room(lane, size)
    }

    /// The oldest media gives way first. Control may take as much again, since each of its datagrams matters;
    /// beyond that it is dropped too, and its sender asks again.
    #[cold]
    fn free_room(&mut self, lane: Lane, size: usize) -> bool {
        self.drop_media(0);
        if self.has_room(size, 1) {
            return true;
        }
        let media = self
            .entries
            .iter()
            .filter(|entry| entry.meta.lane == Lane::Media);
        // Halving keeps the copying amortised: each byte is moved at most once a fill.
        let count = media.count();
        if count > 0 {
            self.drop_media(count.div_ceil(2));
        }
        let fits = self.has_room(size, if lane == Lane::Control { 2 } else { 1 });
        self.dropped += u64::from(!fits);
        fits
    }

    fn has_room(&self, size: usize, share: usize) -> bool {
        self.entries.len() < share * TRANSMITS_MAX
            && self.used + size <= share * TRANSMIT_ARENA_BYTES_MAX
    }

    /// Doubles, as a vector does, so that growing is amortised too.
    #[cold]
    fn grow(&mut self, end: usize) {
        let doubled = (2 * self.arena.len()).min(2 * TRANSMIT_ARENA_BYTES_MAX);
        self.arena.resize(end.max(doubled), 0);
    }

    /// Drops the oldest `count` of media, and moves what stays to the front of the arena. Does nothing if
    /// there is nothing to drop and less than half of the used bytes were consumed.
    #[cold]
    fn drop_media(&mut self, mut count: usize) {
        let consumed = self.entries.front().map_or(0, |entry| entry.start as usize);
        if count == 0 && 2 * consumed < self.used {
            return;
        }
        let (mut used, dropped) = (0, count);
        let arena = &mut self.arena;
        self.entries.retain_mut(|entry| {
            if entry.meta.lane == Lane::Media && count > 0 {
                count -= 1;
                return false;
            }
            let start = entry.start as usize;
            // Entries lie in order, so nothing still needed is overwritten.
            arena.copy_within(start..start + entry.len as usize, used);
            entry.start = used as u32;
            used += entry.len as usize;
            true
        });
        self.used = used;
        self.dropped += (dropped - count) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 40_000);

    fn meta(lane: Lane) -> TransmitMeta {
        TransmitMeta {
            source: None,
            destination: ADDRESS,
            ecn: None,
            lane,
            received: None,
        }
    }

    #[test]
    fn coalesced_datagrams_are_split_again() {
        let mut batch = RecvBatch::new(2);
        for (slot, byte) in batch.free_slots().zip(1..) {
            slot[..25].fill(byte);
        }
        let filled = |len, stride| RecvMeta {
            received: Timestamp::ZERO,
            source: ADDRESS,
            destination: ADDRESS,
            ecn: None,
            len,
            stride,
        };
        batch.commit(filled(25, 10));
        batch.commit(filled(3, 3));
        let seen: Vec<_> = batch
            .datagrams()
            .map(|d| (d.contents[0], d.contents.len()))
            .collect();
        assert_eq!(seen, [(1, 10), (1, 10), (1, 5), (2, 3)]);
    }

    #[test]
    fn a_full_batch_drops_the_oldest_media_and_never_control() {
        let mut batch = TransmitBatch::default();
        assert!(batch.push(meta(Lane::Control), b"first"));
        for number in 0..TRANSMITS_MAX as u32 {
            batch.push(meta(Lane::Media), &number.to_be_bytes());
        }
        assert!(batch.push(meta(Lane::Control), b"last"));
        let contents: Vec<_> = batch.iter().map(|(_, bytes)| bytes.to_vec()).collect();
        assert_eq!(contents.first().unwrap(), b"first");
        assert_eq!(contents.last().unwrap(), b"last");
        let expected = (TRANSMITS_MAX as u64 - 1).div_ceil(2);
        assert_eq!(batch.dropped(), expected);
        assert_eq!(
            contents[1],
            (expected as u32).to_be_bytes(),
            "the newest media is kept"
        );
    }

    #[test]
    fn control_alone_is_bounded_too() {
        let mut batch = TransmitBatch::default();
        let pushed = (0..3 * TRANSMITS_MAX).filter(|_| batch.push(meta(Lane::Control), b"check"));
        assert_eq!(pushed.count(), 2 * TRANSMITS_MAX);
        assert_eq!(batch.dropped(), TRANSMITS_MAX as u64);
    }

    #[test]
    fn a_backlog_that_never_empties_keeps_its_media_and_its_size() {
        let mut batch = TransmitBatch::default();
        for number in 0..100_000_u32 {
            batch.push(meta(Lane::Media), &[number as u8; 1_200]);
            if batch.len() > 10 {
                batch.consume(1);
            }
        }
        assert_eq!(batch.dropped(), 0);
        assert_eq!(
            batch.first().unwrap().contents,
            [(100_000_u32 - 10) as u8; 1_200]
        );
    }

    #[test]
    fn a_consumed_batch_reuses_its_arena() {
        let mut batch = TransmitBatch::default();
        batch.push(meta(Lane::Media), &[1; 100]);
        batch.push(meta(Lane::Media), &[2; 100]);
        batch.consume(1);
        assert_eq!(batch.first().unwrap().contents, [2; 100]);
        batch.consume(5);
        assert!(batch.is_empty());
        assert_eq!(batch.used, 0);
    }

    #[test]
    fn receive_times_of_consumed_media_are_drained_once() {
        let mut batch = TransmitBatch::default();
        let media = |millis| TransmitMeta {
            received: Some(Timestamp::from_millis(millis)),
            ..meta(Lane::Media)
        };
        batch.push(media(1), b"one");
        batch.push(meta(Lane::Control), b"control");
        batch.push(media(2), b"two");
        batch.consume(2);
        assert_eq!(
            batch.drain_consumed().collect::<Vec<_>>(),
            [Timestamp::from_millis(1)]
        );
        batch.consume(1);
        assert_eq!(
            batch.drain_consumed().collect::<Vec<_>>(),
            [Timestamp::from_millis(2)]
        );
        assert_eq!(batch.drain_consumed().count(), 0);
    }

    #[test]
    fn a_writer_that_declines_queues_nothing() {
        let mut batch = TransmitBatch::default();
        assert!(!batch.push_with(meta(Lane::Media), 10, |_| None));
        assert!(batch.is_empty());
        assert_eq!(batch.used, 0);
    }
}
