//! The drivers' clock: the only place that reads the time of the operating system.

use std::time::{Duration, Instant, SystemTime};

use antiphon_core::time::{Epoch, Timestamp};

/// A kernel stamp older than this is the work of a stepped wall clock, not of a full queue.
const STAMP_AGE_MAX: Duration = Duration::from_secs(10);

/// Tells the time since an [`Epoch`]. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Epoch,
}

impl Clock {
    /// A clock whose timestamp zero is this moment.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where monotonic time enters"
    )]
    pub fn start() -> Self {
        Self {
            epoch: Epoch::new(Instant::now(), unix_now()),
        }
    }

    /// The time since the epoch. Monotonic.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where monotonic time enters"
    )]
    pub fn now(&self) -> Timestamp {
        self.epoch.timestamp(Instant::now())
    }

    /// What ties this clock to `Instant` and to wall time.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// Wall time since 1970, the clock of the kernel's receive stamps.
pub(crate) fn unix_now() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

/// When a datagram stamped `stamp` (wall time) arrived, if it is `now` and the wall clock reads
/// `unix_now`. Never later than `now`; `now` itself when the wall clock was stepped in between.
pub(crate) fn received(stamp: Option<Duration>, now: Timestamp, unix_now: Duration) -> Timestamp {
    match stamp.and_then(|stamp| unix_now.checked_sub(stamp)) {
        Some(age) if age <= STAMP_AGE_MAX => now.before(age),
        _ => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_becomes_an_age_and_never_lies_in_the_future() {
        let now = Timestamp::from_millis(60_000);
        let unix = Duration::from_secs(1_700_000_000);
        let stamped = |stamp| received(Some(stamp), now, unix);
        assert_eq!(
            stamped(unix - Duration::from_millis(7)),
            Timestamp::from_millis(59_993)
        );
        assert_eq!(stamped(unix), now);
        assert_eq!(
            stamped(unix + Duration::from_secs(1)),
            now,
            "wall clock stepped back"
        );
        assert_eq!(
            stamped(unix - Duration::from_secs(3_600)),
            now,
            "wall clock stepped on"
        );
        assert_eq!(received(None, now, unix), now);
    }

    #[test]
    fn a_clock_starts_at_zero_and_its_copies_agree() {
        let clock = Clock::start();
        let copy = clock;
        let (first, second) = (clock.now(), copy.now());
        assert!(first <= second);
        assert!(second.since(Timestamp::ZERO) < Duration::from_secs(60));
    }
}
