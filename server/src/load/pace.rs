//! When each session sends: evenly over the interval, in talk-spurts that rotate. No clock, no allocation.

use std::time::Duration;

use antiphon_core::time::Timestamp;

use super::limits::BACKLOG_MAX;

/// A session that talks so much of the time does it once in this.
const ROTATION: Duration = Duration::from_secs(15);
/// 2^32 times the golden ratio, odd: steps of it are spread evenly over the circle, however many there are.
const GOLDEN: u32 = 0x9e37_79b1;

/// Which sessions talk at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Talk {
    /// The share in 2^32 parts; the whole is 2^32.
    share: u64,
    /// How far the circle turns in an interval.
    turn: u32,
}

impl Talk {
    pub(super) fn new(percent: u32, interval: Duration) -> Self {
        let whole = 1_u64 << 32;
        let turn = interval.as_nanos() * u128::from(whole) / ROTATION.as_nanos();
        Self {
            share: whole * u64::from(percent.min(100)) / 100,
            turn: turn as u32,
        }
    }

    /// Whether a session talks in an interval.
    pub(super) fn is_on(self, session: u32, interval: u64) -> bool {
        let place = session.wrapping_mul(GOLDEN);
        let at = place.wrapping_add((interval as u32).wrapping_mul(self.turn));
        u64::from(at) < self.share
    }

    /// Whether it did not in the one before.
    pub(super) fn begins(self, session: u32, interval: u64) -> bool {
        interval == 0 || !self.is_on(session, interval - 1)
    }
}

/// A packet that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) session: u32,
    /// Counted from the start of the pacer.
    pub(super) interval: u64,
    /// When it should leave.
    pub(super) at: Timestamp,
}

/// Goes round the sessions, once an interval, each with its own moment in it.
#[derive(Debug)]
pub(super) struct Pacer {
    start: Timestamp,
    interval_nanos: u64,
    sessions: u32,
    /// The next turn.
    session: u32,
    interval: u64,
    /// Turns that were let go because they came too late.
    pub(super) skipped: u64,
}

impl Pacer {
    pub(super) fn new(start: Timestamp, interval: Duration, sessions: u32) -> Self {
        Self {
            start,
            interval_nanos: interval.as_nanos() as u64,
            sessions: sessions.max(1),
            session: 0,
            interval: 0,
            skipped: 0,
        }
    }

    /// When the next turn is.
    pub(super) fn deadline(&self) -> Timestamp {
        let begun = self.interval.saturating_mul(self.interval_nanos);
        let share = u128::from(self.interval_nanos) * u128::from(self.session);
        let within = (share / u128::from(self.sessions)) as u64;
        self.start + Duration::from_nanos(begun.saturating_add(within))
    }

    /// The turn that is due, if one is. One that is too late is skipped, with all before it.
    pub(super) fn poll(&mut self, now: Timestamp) -> Option<Due> {
        let mut at = self.deadline();
        if at > now {
            return None;
        }
        if now.since(at) > BACKLOG_MAX {
            self.skip(now);
            at = self.deadline();
        }
        let due = Due {
            session: self.session,
            interval: self.interval,
            at,
        };
        self.session += 1;
        if self.session == self.sessions {
            self.session = 0;
            self.interval += 1;
        }
        Some(due)
    }

    /// Moves on by whole intervals, so that no session loses more than another.
    fn skip(&mut self, now: Timestamp) {
        let behind = now.since(self.deadline()).as_nanos() as u64;
        let intervals = behind / self.interval_nanos;
        self.interval += intervals;
        self.skipped += intervals * u64::from(self.sessions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(20);

    #[test]
    fn everyone_has_one_turn_an_interval_evenly_spread() {
        let start = Timestamp::from_millis(1_000);
        let mut pacer = Pacer::new(start, INTERVAL, 400);
        let mut dues = Vec::new();
        let mut now = start;
        while now < start + 3 * INTERVAL {
            dues.extend(std::iter::from_fn(|| pacer.poll(now)));
            now = now + Duration::from_micros(10);
        }
        assert_eq!(dues.len(), 3 * 400);
        for (index, due) in dues.iter().enumerate() {
            assert_eq!(due.session, index as u32 % 400);
            assert_eq!(due.interval, index as u64 / 400);
            assert_eq!(
                due.at.since(start),
                Duration::from_micros(50) * index as u32
            );
        }
        assert_eq!(pacer.skipped, 0);
    }

    #[test]
    fn a_short_delay_is_caught_up_with_and_a_long_one_skipped_for_all_alike() {
        let start = Timestamp::ZERO;
        let mut pacer = Pacer::new(start, INTERVAL, 10);
        let now = start + BACKLOG_MAX;
        let caught_up = std::iter::from_fn(|| pacer.poll(now)).count();
        assert_eq!((caught_up, pacer.skipped), (101, 0));
        let now = now + Duration::from_secs(60);
        let rest = std::iter::from_fn(|| pacer.poll(now)).count() as u64;
        assert_eq!(rest + pacer.skipped, 10 * 3_000);
        assert!(rest <= 10, "less than an interval is owed: {rest}");
        assert_eq!(pacer.skipped % 10, 0);
        assert!(pacer.deadline() > now);
    }

    #[test]
    fn hours_of_the_most_sessions_do_not_wear_the_arithmetic_out() {
        let interval = Duration::from_millis(1);
        let mut pacer = Pacer::new(Timestamp::ZERO, interval, 20_000);
        let late = Timestamp::ZERO + Duration::from_secs(4_000);
        assert!(pacer.poll(late).is_some());
        assert!(late.since(pacer.deadline()) < interval);
    }

    #[test]
    fn the_share_that_talks_is_the_one_asked_for_at_any_time() {
        for percent in [0, 1, 20, 50, 99, 100] {
            let talk = Talk::new(percent, INTERVAL);
            for interval in [0, 1, 777, 100_000, u64::from(u32::MAX) + 5] {
                let on = (0..10_000).filter(|&n| talk.is_on(n, interval)).count();
                let wanted = 100 * percent as usize;
                assert!(on.abs_diff(wanted) <= 3, "{percent} %: {on} at {interval}");
            }
        }
    }

    #[test]
    fn a_session_talks_in_spurts_and_rests_and_everyone_has_a_turn() {
        let talk = Talk::new(20, INTERVAL);
        let rotation = (ROTATION.as_millis() / INTERVAL.as_millis()) as u64;
        for session in 0..200 {
            let intervals = 0..4 * rotation;
            let on = intervals.clone().filter(|&at| talk.is_on(session, at));
            let share = on.count() as f64 / (4 * rotation) as f64;
            assert!((0.195..0.205).contains(&share), "{session}: {share}");
            let begun = intervals.filter(|&at| talk.is_on(session, at) && talk.begins(session, at));
            assert!((4..=5).contains(&begun.count()), "{session}");
        }
    }
}
