//! What one subscriber may make us send again.

use std::time::Duration;

use crate::limits::{
    CACHE_PACKETS_MAX, NACK_INTERVAL_MIN, RETRANSMIT_ASK_BYTES, RETRANSMIT_BURST,
    RETRANSMIT_BYTES_PER_SECOND, RETRANSMIT_TRIES_MAX,
};
use crate::time::Timestamp;

/// Bounds the answers to one subscriber's NACKs, whatever it asks: bytes a second, and resends of
/// one number in a round trip. A NACK of 20 bytes names 17 packets of 1,200, so an unbounded answer
/// amplifies a thousandfold. Bounds the looking for answers with it: each number asked for costs a little.
#[derive(Debug, Default)]
pub struct RetransmitBudget {
    /// When the bucket is full again, had it been spent as far as it was. `None`: it is full.
    full_at: Option<Timestamp>,
    /// The last resend of each number, at the number modulo the length: what can be found in a
    /// cache at one time spans no more. Empty until the first.
    resent: Vec<Resent>,
}

/// Packed: a subscriber on a lossy path holds [`CACHE_PACKETS_MAX`] of these.
#[derive(Clone, Copy, Debug, Default)]
struct Resent {
    /// Low bits of the time in microseconds; wraps after 71 minutes, which may delay one resend.
    at_micros: u32,
    sequence: u16,
    used: bool,
}

impl RetransmitBudget {
    /// Whether to look for one packet that is asked for; a yes is booked. After a no, look for no more.
    #[must_use]
    pub fn allow_ask(&mut self, now: Timestamp) -> bool {
        self.spend(now, RETRANSMIT_ASK_BYTES)
    }

    /// Whether packet `sequence` (as sent) of `bytes` may be sent again now. A yes is booked.
    ///
    /// Allocates 8 KiB at the first yes.
    #[must_use]
    pub fn allow(
        &mut self,
        now: Timestamp,
        round_trip: Duration,
        sequence: u16,
        bytes: usize,
    ) -> bool {
        let slot = usize::from(sequence) % CACHE_PACKETS_MAX;
        if let Some(resent) = self.resent.get(slot)
            && resent.used
            && resent.sequence == sequence
        {
            let passed = (now.as_micros() as u32).wrapping_sub(resent.at_micros);
            if Duration::from_micros(u64::from(passed)) < spacing(round_trip) {
                return false;
            }
        }
        if !self.spend(now, bytes) {
            return false;
        }
        if self.resent.is_empty() {
            self.resent = vec![Resent::default(); CACHE_PACKETS_MAX];
        }
        self.resent[slot] = Resent {
            at_micros: now.as_micros() as u32,
            sequence,
            used: true,
        };
        true
    }

    fn spend(&mut self, now: Timestamp, bytes: usize) -> bool {
        let start = self.full_at.map_or(now, |full_at| full_at.max(now));
        let cost = (bytes as u64).saturating_mul(1_000_000_000) / RETRANSMIT_BYTES_PER_SECOND;
        let full_at = start + Duration::from_nanos(cost);
        let allowed = full_at <= now + RETRANSMIT_BURST;
        if allowed {
            self.full_at = Some(full_at);
        }
        allowed
    }
}

/// Spacing, rather than a count, holds in every window of a round trip, wherever it begins.
fn spacing(round_trip: Duration) -> Duration {
    let floored = round_trip.max(NACK_INTERVAL_MIN);
    floored / RETRANSMIT_TRIES_MAX + Duration::from_micros(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(60);

    #[test]
    fn the_first_resend_is_immediate_and_the_next_is_spaced() {
        let mut budget = RetransmitBudget::default();
        let at = Timestamp::from_millis;
        assert!(budget.allow(at(0), ROUND_TRIP, 0, 1_200));
        assert!(!budget.allow(at(0), ROUND_TRIP, 0, 1_200));
        assert!(budget.allow(at(0), ROUND_TRIP, 1, 1_200));
        assert!(!budget.allow(at(20), ROUND_TRIP, 0, 1_200));
        assert!(budget.allow(at(21), ROUND_TRIP, 0, 1_200));
    }

    #[test]
    fn a_long_silence_fills_the_bucket_once_and_at_once() {
        let mut budget = RetransmitBudget::default();
        let decade = Timestamp::from_millis(10 * 365 * 86_400_000);
        let burst = |budget: &mut RetransmitBudget, now| {
            (0..10_000)
                .filter(|n| budget.allow(now, ROUND_TRIP, *n, 1_000))
                .count()
        };
        assert_eq!(burst(&mut budget, Timestamp::ZERO), 250);
        assert_eq!(burst(&mut budget, decade), 250);
    }

    #[test]
    fn absurd_sizes_and_round_trips_are_refused_without_overflow() {
        let mut budget = RetransmitBudget::default();
        assert!(!budget.allow(Timestamp::ZERO, Duration::MAX, 1, usize::MAX));
        assert!(budget.allow(Timestamp::ZERO, Duration::MAX, 1, 1));
        assert!(!budget.allow(Timestamp::from_millis(60_000), Duration::MAX, 1, 1));
    }

    /// 20 Mbit/s of NACKs name 2 million numbers a second, and none need ever have been sent.
    #[test]
    fn numbers_asked_for_are_looked_for_within_the_budget_too() {
        let mut budget = RetransmitBudget::default();
        let start = Timestamp::from_millis(5_000);
        assert!(budget.allow(start, ROUND_TRIP, 7, 1_200));
        let looked_for = (0..2_000_000_u64)
            .filter(|number| budget.allow_ask(start + Duration::from_nanos(number * 500)))
            .count();
        assert!((14_900..=15_000).contains(&looked_for), "{looked_for}");
        let end = start + Duration::from_secs(1);
        assert!(!budget.allow(end, ROUND_TRIP, 8, 1_200), "from one bucket");
        assert!(budget.allow(end + Duration::from_millis(3), ROUND_TRIP, 8, 1_200));
    }

    proptest! {
        /// N3: whatever is asked, every span of time stays within rate and burst, and no number goes
        /// out more than three times in a round trip.
        #[test]
        fn no_request_pattern_exceeds_the_budget(
            asks in prop::collection::vec((0_u64..8_000, 0_u16..40, 1_usize..1_500), 1..250),
            round_trip_ms in 0_u64..300,
        ) {
            let round_trip = Duration::from_millis(round_trip_ms);
            let mut budget = RetransmitBudget::default();
            let mut micros = 0;
            let mut sent: Vec<(u64, u16, usize)> = Vec::new();
            for (wait, sequence, bytes) in asks {
                micros += wait;
                let now = Timestamp::from_nanos(micros * 1_000);
                if budget.allow(now, round_trip, sequence, bytes) {
                    sent.push((micros, sequence, bytes));
                }
            }
            prop_assert!(!sent.is_empty());
            for (index, (from, number, _)) in sent.iter().enumerate() {
                let mut total = 0;
                let mut resends = 0;
                for (at, other, bytes) in &sent[index..] {
                    total += *bytes as u64;
                    let allowed = RETRANSMIT_BYTES_PER_SECOND * (at - from + 500_000) / 1_000_000;
                    // One byte a packet: the cost of each is rounded down to a nanosecond.
                    prop_assert!(total <= allowed + 2);
                    resends += u32::from(other == number && at - from < round_trip_ms.max(20) * 1_000);
                }
                prop_assert!(resends <= RETRANSMIT_TRIES_MAX);
            }
        }
    }
}
