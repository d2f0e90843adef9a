//! Many durations in little memory: quantiles within 1.6 %, the greatest exactly.

use std::time::Duration;

use serde_json::{Value, json};

/// Buckets of one octave: each is a 64th of it wide.
const STEPS_BITS: u32 = 6;
const STEPS: usize = 1 << STEPS_BITS;
/// Octaves of nanoseconds up to 2^40, which is 18 minutes; what is longer counts as that.
const OCTAVES: usize = 40 - STEPS_BITS as usize;

/// Durations, counted by size.
#[derive(Clone, Debug)]
pub(super) struct Spread {
    buckets: Box<[u64]>,
    count: u64,
    longest: Duration,
}

impl Default for Spread {
    fn default() -> Self {
        Self {
            buckets: vec![0; STEPS * (OCTAVES + 1)].into_boxed_slice(),
            count: 0,
            longest: Duration::ZERO,
        }
    }
}

impl FromIterator<Duration> for Spread {
    fn from_iter<T: IntoIterator<Item = Duration>>(durations: T) -> Self {
        let mut spread = Self::default();
        durations
            .into_iter()
            .for_each(|duration| spread.note(duration));
        spread
    }
}

impl Spread {
    /// Counts one. Does not allocate.
    pub(super) fn note(&mut self, duration: Duration) {
        let bucket = bucket(duration.as_nanos() as u64).min(self.buckets.len() - 1);
        self.buckets[bucket] += 1;
        self.count += 1;
        self.longest = self.longest.max(duration);
    }

    /// Counts what another has counted.
    pub(super) fn add(&mut self, other: &Self) {
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
        self.count += other.count;
        self.longest = self.longest.max(other.longest);
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// The least value that `share` of all do not exceed, rounded up by at most a 64th; `None` of none.
    pub(super) fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = ((share * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut below = 0;
        let found = self.buckets.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        Some(Duration::from_nanos(last_of(found)).min(self.longest))
    }

    /// Count, median, 99th percentile and the longest in milliseconds; `null` of none.
    pub(super) fn millis(&self) -> Value {
        let at = |share| self.quantile(share).map(millis);
        let longest = (self.count > 0).then(|| millis(self.longest));
        json!({ "count": self.count, "p50": at(0.5), "p99": at(0.99), "max": longest })
    }
}

/// Rounded to the microsecond.
pub(super) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Up to 64 ns each nanosecond has a bucket; from there each octave has 64.
fn bucket(nanos: u64) -> usize {
    let octave = (nanos | (STEPS as u64 - 1)).ilog2() + 1 - STEPS_BITS;
    let step = (nanos >> octave.saturating_sub(1)) as usize;
    // From the first octave on, `step` counts from 64 to 127.
    octave.saturating_sub(1) as usize * STEPS + step
}

/// The greatest duration of a bucket, in nanoseconds.
fn last_of(bucket: usize) -> u64 {
    let octave = (bucket / STEPS).saturating_sub(1);
    let step = (bucket - octave * STEPS) as u64;
    ((step + 1) << octave) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_in_its_bucket_and_buckets_are_narrow() {
        let edges = (1..38).flat_map(|bit| [(1 << bit) - 1, 1 << bit, 3 << bit]);
        for nanos in (0..5_000).chain(edges) {
            let bucket = bucket(nanos);
            let greatest = last_of(bucket);
            assert!(greatest >= nanos, "{nanos}");
            assert!(greatest - nanos <= nanos / 64, "{nanos}: {greatest}");
            assert!(bucket == 0 || last_of(bucket - 1) < nanos, "{nanos}");
        }
    }

    #[test]
    fn quantiles_are_those_of_a_sorted_list_within_a_64th() {
        let spread: Spread = (1..=1_000).rev().map(Duration::from_micros).collect();
        for (share, truth) in [(0.0, 1), (0.5, 500), (0.99, 990), (1.0, 1_000)] {
            let found = spread.quantile(share).unwrap().as_nanos() as f64 / 1e3;
            let truth = f64::from(truth);
            assert!(
                found >= truth && found <= truth * 65.0 / 64.0,
                "{share}: {found}"
            );
        }
        assert_eq!(spread.millis()["max"], 1.0);
        assert_eq!(spread.count(), 1_000);
        let (mut low, high): (Spread, Spread) = (
            (1..=300).map(Duration::from_micros).collect(),
            (301..=1_000).map(Duration::from_micros).collect(),
        );
        low.add(&high);
        assert_eq!(low.millis(), spread.millis());
        let long: Spread = [Duration::from_secs(9_999)].into_iter().collect();
        assert!(long.quantile(0.5).is_some());
        assert_eq!(Spread::default().quantile(0.5), None);
        assert_eq!(Spread::default().millis()["p99"], Value::Null);
    }
}
