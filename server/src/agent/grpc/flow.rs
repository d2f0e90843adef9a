//! How far a program is ahead of what has been played.

use std::time::Duration;

/// Estimates the sound that waits to be played: told now and then by the shard, less what has passed since, and more
/// what was said since. Times are since any one beginning.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    queued: Duration,
    at: Duration,
}

impl Ahead {
    /// Sound that waits.
    pub(super) fn queued(&self, now: Duration) -> Duration {
        self.queued.saturating_sub(now.saturating_sub(self.at))
    }

    /// More was said.
    pub(super) fn say(&mut self, now: Duration, length: Duration) {
        self.queued = self.queued(now).saturating_add(length);
        self.at = now;
    }

    /// The shard told how much waits.
    pub(super) fn note(&mut self, now: Duration, queued: Duration) {
        (self.queued, self.at) = (queued, now);
    }
}

/// A bucket of messages that fills with time.
#[derive(Debug)]
pub(super) struct Bucket {
    each_second: u32,
    burst: u32,
    /// Messages, in units of a nanosecond's fill.
    left: u64,
    at: Duration,
}

impl Bucket {
    pub(super) fn new(each_second: u32, burst: u32) -> Self {
        Self {
            each_second,
            burst,
            left: u64::from(burst) * 1_000_000_000,
            at: Duration::ZERO,
        }
    }

    /// Takes one; `false` when there is none.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let passed = u64::try_from(now.saturating_sub(self.at).as_nanos()).unwrap_or(u64::MAX);
        let filled = passed.saturating_mul(self.each_second.into());
        self.left = self
            .left
            .saturating_add(filled)
            .min(u64::from(self.burst) * 1_000_000_000);
        self.at = now;
        match self.left.checked_sub(1_000_000_000) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_waits_runs_down_with_time_and_the_shards_word_counts() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.queued(ms(500)), ms(0));
        ahead.say(ms(1_000), ms(300));
        ahead.say(ms(1_100), ms(300));
        assert_eq!(ahead.queued(ms(1_100)), ms(500));
        assert_eq!(ahead.queued(ms(1_400)), ms(200));
        assert_eq!(ahead.queued(ms(2_000)), ms(0));
        ahead.say(ms(3_000), ms(100));
        assert_eq!(
            ahead.queued(ms(3_000)),
            ms(100),
            "time without sound gives nothing"
        );
        ahead.note(ms(3_010), ms(0));
        assert_eq!(
            ahead.queued(ms(3_010)),
            ms(0),
            "an interruption empties the queue"
        );
    }

    #[test]
    fn a_flood_is_told_from_a_burst() {
        let mut bucket = Bucket::new(100, 5);
        assert!((0..5).all(|_| bucket.take(ms(0))) && !bucket.take(ms(0)));
        assert!(!bucket.take(ms(9)) && bucket.take(ms(10)));
        assert!((0..5).all(|_| bucket.take(ms(10_000))) && !bucket.take(ms(10_000)));
    }
}
