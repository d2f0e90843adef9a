//! Sequence numbers: 16 bits made whole again, and a window of those already seen.

use crate::limits::SEQUENCE_WINDOW;

/// The whole number nearest to `near` whose low 16 bits are `sequence`; at most 2^15 away.
///
/// `None`: it would lie before zero, that is before the stream began (or beyond 2^64).
#[must_use]
pub fn extend_sequence(near: u64, sequence: u16) -> Option<u64> {
    let distance = sequence.wrapping_sub(near as u16) as i16;
    near.checked_add_signed(i64::from(distance))
}

/// Which of the last [`SEQUENCE_WINDOW`] whole numbers were seen. Fixed size, no allocation.
#[derive(Clone, Debug, Default)]
pub(crate) struct SequenceWindow {
    highest: Option<u64>,
    seen: [u64; SEQUENCE_WINDOW / 64],
}

impl SequenceWindow {
    /// Enters a number. `false`: it was seen before, or is too old to know, which counts as seen:
    /// no number is ever accepted twice.
    pub(crate) fn insert(&mut self, sequence: u64) -> bool {
        match self.highest {
            Some(highest) if sequence <= highest => {
                if highest - sequence >= SEQUENCE_WINDOW as u64 {
                    return false;
                }
            }
            Some(highest) => self.advance(highest, sequence),
            None => self.highest = Some(sequence),
        }
        let (word, bit) = Self::place(sequence);
        let fresh = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        fresh
    }

    /// The highest number seen; `None` before the first.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.highest
    }

    fn advance(&mut self, highest: u64, sequence: u64) {
        if sequence - highest >= SEQUENCE_WINDOW as u64 {
            self.seen = [0; SEQUENCE_WINDOW / 64];
        } else {
            for passed in highest + 1..=sequence {
                let (word, bit) = Self::place(passed);
                self.seen[word] &= !bit;
            }
        }
        self.highest = Some(sequence);
    }

    fn place(sequence: u64) -> (usize, u64) {
        let slot = (sequence % SEQUENCE_WINDOW as u64) as usize;
        (slot / 64, 1 << (slot % 64))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn extension_crosses_wraps_both_ways_and_stops_at_the_ends() {
        assert_eq!(extend_sequence(0x1_ffff, 0), Some(0x2_0000));
        assert_eq!(extend_sequence(0x2_0000, 0xffff), Some(0x1_ffff));
        assert_eq!(extend_sequence(5, 0xffff), None);
        assert_eq!(extend_sequence(u64::MAX, 5), None);
    }

    #[test]
    fn the_last_number_there_is_needs_no_next() {
        let mut window = SequenceWindow::default();
        assert!(window.insert(u64::MAX - 1));
        assert!(window.insert(u64::MAX));
        assert!(!window.insert(u64::MAX));
        assert!(!window.insert(0));
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

        #[test]
        fn the_window_agrees_with_a_set(
            steps in prop::collection::vec(prop_oneof![
                8 => -40_i64..60,
                2 => -1_200_i64..1_200,
                1 => -100_000_i64..100_000,
            ], 1..300),
        ) {
            let mut window = SequenceWindow::default();
            let mut model = BTreeSet::new();
            let mut highest = 1_u64 << 20;
            for step in steps {
                let sequence = highest.saturating_add_signed(step);
                highest = model.last().map_or(sequence, |last: &u64| sequence.max(*last));
                let young = highest - sequence < SEQUENCE_WINDOW as u64;
                let fresh = young && model.insert(sequence);
                prop_assert_eq!(window.insert(sequence), fresh);
                prop_assert_eq!(window.highest(), Some(highest));
            }
        }
    }
}
