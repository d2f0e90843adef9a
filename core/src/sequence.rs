//! Sequence numbers: 16 bits made whole again, and a window of those already seen.

use crate::limits::SEQUENCE_WINDOW;

/// The whole number nearest to `near` whose low 16 bits are `sequence`; at most 2^15 away.
///
/// `None`: it would lie before zero, that is before the stream began (or beyond 2^64).
#[must_use]
pub(crate) fn extend_sequence(near: u64, sequence: u16) -> Option<u64> {
    let distance = sequence.wrapping_sub(near as u16) as i16;
    near.checked_add_signed(i64::from(distance))
}

/// Which of the last [`SEQUENCE_WINDOW`] numbers of a stream were seen.
pub(crate) type SequenceWindow = IndexWindow<{ SEQUENCE_WINDOW / 64 + 1 }>;

/// The highest index seen and which of those before it: a ring of bits, one word more than the
/// window is wide, so that moving forward clears words and never shifts (RFC 6479). Indices stay
/// below 2^63. Fixed size, no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexWindow<const WORDS: usize> {
    /// One more than the highest index seen; 0 before the first.
    next: u64,
    bits: [u64; WORDS],
}

impl<const WORDS: usize> IndexWindow<WORDS> {
    /// How far below the highest index an index is still told apart.
    pub(crate) const WIDTH: u64 = (WORDS as u64 - 1) * 64;

    pub(crate) const fn highest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// The index nearest to the highest that ends in `sequence_number` (RFC 3711 §3.3.1): the
    /// rollover counter stays or moves by one. The first packet sets it to 0. Negative for a packet
    /// before the first rollover counter, and beyond 48 bits after the last.
    pub(crate) fn extend(&self, sequence_number: u16) -> i64 {
        const HALF: i64 = 1 << 15;
        let sequence = i64::from(sequence_number);
        let Some(highest) = self.highest() else {
            return sequence;
        };
        let highest = highest as i64;
        let last = highest & 0xffff;
        let same_rollover = highest - last + sequence;
        if last < HALF && sequence - last > HALF {
            same_rollover - 0x1_0000
        } else if last >= HALF && last - HALF > sequence {
            same_rollover + 0x1_0000
        } else {
            same_rollover
        }
    }

    /// Whether `index` was surely not seen: it lies in the window or ahead of it, unmarked.
    pub(crate) fn is_fresh(&self, index: u64) -> bool {
        match self.highest() {
            Some(highest) if index <= highest => {
                highest - index < Self::WIDTH && self.bits[Self::word(index)] & bit(index) == 0
            }
            _ => true,
        }
    }

    /// Marks a fresh index as seen.
    pub(crate) fn note(&mut self, index: u64) {
        debug_assert!(self.is_fresh(index));
        if index >= self.next {
            if let Some(highest) = self.highest() {
                let (old, new) = (highest / 64, index / 64);
                for word in old + 1..=new.min(old + WORDS as u64) {
                    self.bits[(word % WORDS as u64) as usize] = 0;
                }
            }
            self.next = index + 1;
        }
        self.bits[Self::word(index)] |= bit(index);
    }

    const fn word(index: u64) -> usize {
        (index / 64 % WORDS as u64) as usize
    }
}

impl<const WORDS: usize> Default for IndexWindow<WORDS> {
    fn default() -> Self {
        Self {
            next: 0,
            bits: [0; WORDS],
        }
    }
}

const fn bit(index: u64) -> u64 {
    1 << (index % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::rng::Seed;

    #[test]
    fn extension_crosses_wraps_both_ways_and_stops_at_the_ends() {
        assert_eq!(extend_sequence(0x1_ffff, 0), Some(0x2_0000));
        assert_eq!(extend_sequence(0x2_0000, 0xffff), Some(0x1_ffff));
        assert_eq!(extend_sequence(5, 0xffff), None);
        assert_eq!(extend_sequence(u64::MAX, 5), None);
    }

    #[test]
    fn the_window_agrees_with_a_set_of_everything_seen() {
        let mut rng = Seed::new([3; 32]).rng();
        let mut window = IndexWindow::<3>::default();
        let mut seen = BTreeSet::new();
        let mut centre = 0_u64;
        for _ in 0..50_000 {
            centre += match rng.below(200) {
                0 => u64::from(rng.below(1_000)),
                1..=100 => 1,
                _ => 0,
            };
            let index = (centre + u64::from(rng.below(12))).saturating_sub(rng.below(160).into());
            let highest = seen.last().copied();
            let old = highest.is_some_and(|h: u64| index + IndexWindow::<3>::WIDTH <= h);
            assert_eq!(
                window.is_fresh(index),
                !old && !seen.contains(&index),
                "index {index}"
            );
            if window.is_fresh(index) {
                window.note(index);
                seen.insert(index);
            }
            assert_eq!(window.highest(), seen.last().copied());
        }
        assert!(seen.len() > 10_000, "the walk must move: {}", seen.len());
    }

    #[test]
    fn the_edge_of_the_window_is_exact() {
        let width = SequenceWindow::WIDTH;
        assert_eq!(width, SEQUENCE_WINDOW as u64);
        for highest in [5_000, 5_055, 5_056, 5_119, 5_120] {
            let mut window = SequenceWindow::default();
            window.note(highest);
            assert!(window.is_fresh(highest - width + 1));
            assert!(!window.is_fresh(highest - width));
            window.note(highest - width + 1);
            assert!(!window.is_fresh(highest - width + 1));
            assert!(window.is_fresh(highest - width + 2));
        }
    }

    #[test]
    fn a_long_jump_forgets_everything_before_it() {
        for jump in [63, 64, 65, 128, 192, 256, 257, 1 << 40] {
            let mut window = IndexWindow::<3>::default();
            (0..64).for_each(|index| window.note(index));
            window.note(63 + jump);
            for index in 64..63 + jump.min(300) {
                let inside = 63 + jump - index < IndexWindow::<3>::WIDTH;
                assert_eq!(window.is_fresh(index), inside, "index {index} after {jump}");
            }
        }
    }

    proptest! {
        #[test]
        fn extension_keeps_the_low_bits_and_stays_near(near in 1_u64 << 15..1 << 48, sequence: u16) {
            let whole = extend_sequence(near, sequence).unwrap();
            prop_assert_eq!(whole as u16, sequence);
            prop_assert!(whole.abs_diff(near) <= 1 << 15);
        }

        /// U3: a stream shuffled within a thousand comes back in order, across any number of wraps.
        #[test]
        fn a_shuffled_stream_is_extended_to_its_true_numbers(
            start in 0_u64..1 << 40,
            keys in prop::collection::vec(0_u64..1_000, 1..400),
            stride in 1_u64..700,
        ) {
            let mut sent: Vec<(u64, u64)> = keys
                .iter()
                .zip(0..)
                .map(|(key, index)| (index * stride + key, start + index * stride))
                .collect();
            sent.sort_unstable();
            let mut highest = sent[0].1;
            for (_, truth) in sent {
                let whole = extend_sequence(highest, truth as u16).unwrap();
                prop_assert_eq!(whole, truth);
                highest = highest.max(whole);
            }
        }
    }
}
