//! Which packet indices were seen: the sliding window of RFC 3711 §3.3.2 and the guess of §3.3.1.

use super::RTP_INDEX_END;

/// Packets a receiver remembers per RTP source, and the indices known of it.
///
/// 1,024 wide, as libwebrtc has it: encoders without RTX send lost packets again under their old
/// number, and at 8 Mbit/s with 300 ms of round trip that is 300 packets late. 144 bytes.
///
/// Belongs to one (source, key). Keep it as long as the key: with it goes the protection from
/// replays, and the rollover counter, without which no later packet of the source opens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayWindow(IndexWindow<17>);

impl ReplayWindow {
    /// The highest index received (rollover counter × 65,536 + sequence number), `None` before the
    /// first packet. As an extended sequence number it counts from the rollover counter 0.
    #[must_use]
    pub const fn highest(&self) -> Option<u64> {
        self.0.highest()
    }

    /// The index a packet must have, or `None` if it was received already, is too old to tell, or
    /// lies beyond the last index there is.
    pub(super) fn fresh_index(&self, sequence_number: u16) -> Option<u64> {
        let index = u64::try_from(self.0.extend(sequence_number)).ok()?;
        (index < RTP_INDEX_END && self.0.is_fresh(index)).then_some(index)
    }

    /// Records an authenticated packet.
    pub(super) fn note(&mut self, index: u64) {
        self.0.note(index);
    }

    /// A window that has seen `index` alone.
    #[cfg(test)]
    pub(super) fn starting_at(index: u64) -> Self {
        let mut window = Self::default();
        window.note(index);
        window
    }
}

/// The highest index seen and which of those before it: a ring of bits, one word more than the
/// window is wide, so that moving forward clears words and never shifts (RFC 6479).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IndexWindow<const WORDS: usize> {
    /// One more than the highest index seen; 0 before the first.
    next: u64,
    bits: [u64; WORDS],
}

impl<const WORDS: usize> IndexWindow<WORDS> {
    /// How far below the highest index an index is still told apart.
    pub(super) const WIDTH: u64 = (WORDS as u64 - 1) * 64;

    pub(super) const fn highest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// The index nearest to the highest that ends in `sequence_number` (RFC 3711 §3.3.1): the
    /// rollover counter stays or moves by one. The first packet sets it to 0. Negative for a packet
    /// before the first rollover counter, and beyond 48 bits after the last.
    pub(super) fn extend(&self, sequence_number: u16) -> i64 {
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
    pub(super) fn is_fresh(&self, index: u64) -> bool {
        match self.highest() {
            Some(highest) if index <= highest => {
                highest - index < Self::WIDTH && self.bits[Self::word(index)] & bit(index) == 0
            }
            _ => true,
        }
    }

    /// Marks a fresh index as seen.
    pub(super) fn note(&mut self, index: u64) {
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

    use super::*;
    use crate::rng::Seed;

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
        let width = IndexWindow::<17>::WIDTH;
        assert_eq!(width, 1_024);
        for highest in [5_000, 5_055, 5_056, 5_119, 5_120] {
            let mut window = IndexWindow::<17>::default();
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
        for jump in [63, 64, 65, 128, 192, 193, 1 << 40] {
            let mut window = IndexWindow::<3>::default();
            (0..64).for_each(|index| window.note(index));
            window.note(63 + jump);
            for index in 64..63 + jump.min(300) {
                let inside = 63 + jump - index < IndexWindow::<3>::WIDTH;
                assert_eq!(window.is_fresh(index), inside, "index {index} after {jump}");
            }
        }
    }

    /// The pseudo code of RFC 3711 appendix A, with its own names.
    fn rfc_3711_guess(s_l: i64, roc: i64, seq: i64) -> i64 {
        let v = if s_l < 32_768 {
            if seq - s_l > 32_768 { roc - 1 } else { roc }
        } else if s_l - 32_768 > seq {
            roc + 1
        } else {
            roc
        };
        v * 65_536 + seq
    }

    #[test]
    fn the_guess_is_that_of_the_rfc_and_never_moves_more_than_half_a_cycle() {
        let edges = [0_u16, 1, 2, 32_766, 32_767, 32_768, 32_769, 65_534, 65_535];
        for roc in [0_u64, 1, 7, 0xffff_ffff] {
            for last in edges {
                let highest = roc << 16 | u64::from(last);
                let window = ReplayWindow::starting_at(highest);
                for sequence in edges {
                    let guess = window.0.extend(sequence);
                    assert_eq!(
                        guess,
                        rfc_3711_guess(last.into(), roc as i64, sequence.into())
                    );
                    assert_eq!(guess as u16, sequence);
                    assert!((guess - highest as i64).abs() <= 32_768);
                }
            }
        }
    }

    #[test]
    fn there_is_nothing_before_the_first_index_and_nothing_after_the_last() {
        assert_eq!(ReplayWindow::default().fresh_index(65_535), Some(65_535));
        assert_eq!(ReplayWindow::starting_at(3).fresh_index(65_535), None);
        let end = ReplayWindow::starting_at(RTP_INDEX_END - 2);
        assert_eq!(end.fresh_index(65_535), Some(RTP_INDEX_END - 1));
        assert_eq!(end.fresh_index(0), None);
    }
}
