//! Asking for what is missing.
//!
//! ```text
//! note_received ─► gap? ─► missing ──10 ms, or 3 later packets──► asked ◄─┐ every round trip,
//!                            │                                      │ └───┘ at most 10 times
//!                            └── arrives ──► New        arrives ──► Recovered
//!                                  1 s old, or asked in vain, or too many ──► needs_keyframe
//! ```

use std::time::Duration;

use crate::limits::{
    NACK_AGE_MAX, NACK_INTERVAL_MIN, NACK_MISSING_MAX, NACK_REORDER_DELAY, NACK_REORDER_PACKETS,
    NACK_TRIES_MAX,
};
use crate::sequence::{SequenceWindow, extend_sequence};
use crate::time::Timestamp;

/// What a packet was to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Seen for the first time, in order or a little late.
    New,
    /// Seen for the first time, after it was asked for.
    Recovered,
    /// Seen before, or older than can be known: must not be forwarded.
    Duplicate,
}

/// Finds the gaps of one incoming stream and says when to ask for what.
///
/// Every number is reported [`Arrival::New`] or [`Arrival::Recovered`] at most once, so packets and
/// their retransmissions may both be noted here. Inputs: `note_*`. Output: `poll` whenever
/// `deadline` has passed. With nothing missing there is no deadline. Allocates when something is
/// missing, at most [`NACK_MISSING_MAX`] entries of 40 bytes, kept for the next loss.
#[derive(Debug, Default)]
pub struct NackGenerator {
    seen: SequenceWindow,
    /// Ascending by number, hence by `revealed`.
    missing: Vec<Missing>,
    /// Packets that raised the highest number.
    advances: u64,
    /// Where the newest keyframe began.
    keyframe: Option<u64>,
    /// A keyframe that begins here or later makes up for what was given up. `None`: nothing was.
    keyframe_from: Option<u64>,
}

#[derive(Debug)]
struct Missing {
    sequence: u64,
    /// `advances` when the gap showed.
    revealed: u64,
    /// When to give up.
    expires: Timestamp,
    /// When to ask, or ask again, or give up; not after `expires`.
    due: Timestamp,
    tries: u8,
}

impl NackGenerator {
    /// Takes note of a packet by its extended sequence number, below 2^63, retransmitted or not.
    pub fn note_received(&mut self, now: Timestamp, sequence: u64) -> Arrival {
        let highest = self.seen.highest();
        if !self.seen.is_fresh(sequence) {
            return Arrival::Duplicate;
        }
        self.seen.note(sequence);
        match highest {
            Some(highest) if sequence > highest => {
                self.on_advance(now, highest, sequence);
                Arrival::New
            }
            _ => self.on_late(sequence),
        }
    }

    /// A keyframe begins at `sequence`. What is missing before it is still asked for, as the pictures
    /// before it have yet to be shown, but to give it up calls for no other keyframe.
    pub fn note_keyframe(&mut self, sequence: u64) {
        self.keyframe = self.keyframe.max(Some(sequence));
        if self.keyframe_from.is_some_and(|from| sequence >= from) {
            self.keyframe_from = None;
        }
    }

    /// Writes the numbers to ask for now, ascending, and returns how many; gives up what is too old.
    ///
    /// If `out` is full, more may be due: poll again. `round_trip` spaces the requests; zero if unknown.
    pub fn poll(&mut self, now: Timestamp, round_trip: Duration, out: &mut [u16]) -> usize {
        let again = now + round_trip.max(NACK_INTERVAL_MIN);
        let (keyframe, keyframe_from) = (self.keyframe, &mut self.keyframe_from);
        let mut count = 0;
        self.missing.retain_mut(|missing| {
            if missing.due > now {
                return true;
            }
            if missing.expires <= now || missing.tries >= NACK_TRIES_MAX {
                if keyframe.is_none_or(|keyframe| keyframe <= missing.sequence) {
                    *keyframe_from = (*keyframe_from).max(Some(missing.sequence.saturating_add(1)));
                }
                return false;
            }
            if let Some(slot) = out.get_mut(count) {
                *slot = missing.sequence as u16;
                count += 1;
                missing.tries += 1;
                missing.due = again.min(missing.expires);
            }
            true
        });
        count
    }

    /// When to poll next; `None` while nothing is missing. May be in the past: poll now.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.missing.iter().map(|missing| missing.due).min()
    }

    /// Something was given up and no keyframe has begun since. Stays true until one does: ask again
    /// while packets arrive, as often as keyframe requests are allowed.
    #[must_use]
    pub fn needs_keyframe(&self) -> bool {
        self.keyframe_from.is_some()
    }

    /// The extended number of a retransmission's original; `None` before the first packet, or if it
    /// would precede the stream.
    #[must_use]
    pub fn extend(&self, sequence: u16) -> Option<u64> {
        extend_sequence(self.seen.highest()?, sequence)
    }

    fn on_advance(&mut self, now: Timestamp, highest: u64, sequence: u64) {
        self.advances += 1;
        let gap = sequence - highest - 1;
        if gap > self.room() {
            self.drop_before_keyframe();
        }
        if gap > self.room() {
            self.missing.clear();
            self.keyframe_from = Some(sequence);
            return;
        }
        for missing in highest + 1..sequence {
            self.missing.push(Missing {
                sequence: missing,
                revealed: self.advances,
                expires: now + NACK_AGE_MAX,
                due: now + NACK_REORDER_DELAY,
                tries: 0,
            });
        }
        self.hurry(now);
    }

    fn room(&self) -> u64 {
        (NACK_MISSING_MAX - self.missing.len()) as u64
    }

    fn drop_before_keyframe(&mut self) {
        let older = self
            .missing
            .partition_point(|missing| Some(missing.sequence) < self.keyframe);
        self.missing.drain(..older);
    }

    /// Makes due what enough later packets have passed.
    fn hurry(&mut self, now: Timestamp) {
        for missing in self.missing.iter_mut().rev() {
            // The packet that showed the gap is the first of the later ones.
            let later = self.advances - missing.revealed + 1;
            if later > NACK_REORDER_PACKETS {
                break;
            }
            if later == NACK_REORDER_PACKETS && missing.tries == 0 {
                missing.due = missing.due.min(now);
            }
        }
    }

    fn on_late(&mut self, sequence: u64) -> Arrival {
        match self
            .missing
            .binary_search_by_key(&sequence, |missing| missing.sequence)
        {
            Ok(index) if self.missing.remove(index).tries > 0 => Arrival::Recovered,
            // The first packet of all, one that overtook none we missed, or one given up.
            _ => Arrival::New,
        }
    }
}

#[cfg(test)]
mod tests;
