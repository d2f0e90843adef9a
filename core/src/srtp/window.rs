//! Which packet indices of a source were seen: the sliding window of RFC 3711 §3.3.2 and the guess of §3.3.1.

use super::RTP_INDEX_END;
use crate::sequence::SequenceWindow;

/// Packets a receiver remembers per RTP source, and the indices known of it.
///
/// [`SEQUENCE_WINDOW`](crate::limits::SEQUENCE_WINDOW) wide, about as libwebrtc has it: encoders without RTX send lost
/// packets again under their old number, and at 8 Mbit/s with 300 ms of round trip that is 300 packets late. 136 bytes.
///
/// Belongs to one (source, key). Keep it as long as the key: with it goes the protection from
/// replays, and the rollover counter, without which no later packet of the source opens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayWindow(SequenceWindow);

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

    /// A window that has seen `index` alone, which is below 2^48.
    pub(crate) fn starting_at(index: u64) -> Self {
        let mut window = Self::default();
        window.note(index);
        window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
