//! How long things took, counted.

use serde::{Deserialize, Serialize};

/// Upper bounds, in microseconds, of the buckets of [`Delays`] but the last, which is open.
pub type Bounds = [u64; 15];

/// Delays in buckets, each count by itself and not added to the next, and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delays {
    /// How many were within each bound and not the one before; the last: beyond all.
    pub counts: [u64; 16],
    /// Their sum in microseconds.
    pub micros: u64,
}

impl Delays {
    /// Counts `times` delays of so many microseconds.
    pub fn note(&mut self, bounds: &Bounds, micros: u64, times: u64) {
        let bucket = bounds.partition_point(|bound| *bound < micros);
        self.counts[bucket] += times;
        self.micros = self.micros.saturating_add(micros.saturating_mul(times));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_counts_in_the_first_bucket_that_holds_it() {
        let bounds: Bounds = std::array::from_fn(|index| 10 * (index as u64 + 1));
        let mut delays = Delays::default();
        for micros in [0, 10, 11, 150, 151] {
            delays.note(&bounds, micros, 2);
        }
        let mut counts = [0; 16];
        (counts[0], counts[1], counts[14], counts[15]) = (4, 2, 2, 2);
        assert_eq!(delays.counts, counts);
        assert_eq!(delays.micros, 2 * 322);
    }
}
