//! Whether to wait for the next datagram or to nap while several gather.
//!
//! A wake-up costs more than anything done in it: about ten system calls when the executor waits for readiness, two
//! for a batch of datagrams, one for a nap.

use std::time::Duration;

use antiphon_core::time::Timestamp;

/// Datagrams a nap is meant to gather: more of them made the rest no cheaper.
const GATHERED: f64 = 24.0;
/// Datagrams that must be expected in a nap: for fewer, waiting for each is quicker and hardly dearer. With 2, a
/// shard at 3,000 datagrams a second took 1.7 times tokio's processor time.
const EXPECTED_MIN: f64 = 1.0;
/// The shortest nap: below it the lateness of waking (30 to 90 µs) rules.
const NAP_MIN: Duration = Duration::from_micros(200);
/// How far back the rate looks.
const MEMORY: Duration = Duration::from_millis(4);

/// Watches the rate at which datagrams come.
#[derive(Debug)]
pub(crate) struct Coalescer {
    nap_max: Duration,
    /// Datagrams a second, smoothed.
    rate: f64,
    noted: Timestamp,
}

impl Coalescer {
    /// Naps no longer than `nap_max`; never when that is zero.
    pub(crate) const fn new(nap_max: Duration, now: Timestamp) -> Self {
        Self {
            nap_max,
            rate: 0.0,
            noted: now,
        }
    }

    /// Notes that `received` datagrams came since the last call.
    pub(crate) fn note(&mut self, now: Timestamp, received: usize) {
        let passed = now.since(self.noted);
        if passed.is_zero() {
            return;
        }
        self.noted = now;
        let weight = (passed.as_secs_f64() / MEMORY.as_secs_f64()).min(1.0);
        self.rate += weight * (received as f64 / passed.as_secs_f64() - self.rate);
    }

    /// How long to nap; `None`: wait for the next datagram.
    pub(crate) fn nap(&self) -> Option<Duration> {
        let wanted = GATHERED / self.rate.max(1.0);
        let nap = Duration::from_secs_f64(wanted)
            .max(NAP_MIN)
            .min(self.nap_max);
        (self.rate * nap.as_secs_f64() >= EXPECTED_MIN).then_some(nap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_micros(500);

    /// What it says after a second of `rate` datagrams a second, looked at every `step`.
    fn after_a_second(nap_max: Duration, rate: u64, step: Duration) -> Option<Duration> {
        let mut now = Timestamp::ZERO;
        let mut coalescer = Coalescer::new(nap_max, now);
        let (mut passed, mut received) = (Duration::ZERO, 0);
        while passed < Duration::from_secs(1) {
            (now, passed) = (now + step, passed + step);
            let due = (rate as f64 * passed.as_secs_f64()) as u64;
            coalescer.note(now, (due - received) as usize);
            received = due;
        }
        coalescer.nap()
    }

    #[test]
    fn it_naps_from_one_datagram_a_nap_on_and_the_shorter_the_more_come() {
        let step = Duration::from_micros(250);
        let nap = |rate| after_a_second(MAX, rate, step);
        assert_eq!(nap(0), None);
        assert_eq!(nap(1_500), None);
        assert_eq!(nap(3_000), Some(MAX));
        assert_eq!(nap(8_000), Some(MAX));
        let micros = nap(80_000).expect("it is busy").as_micros();
        assert!((290..310).contains(&micros), "24 in {micros} µs");
        assert_eq!(nap(500_000), Some(NAP_MIN));
    }

    #[test]
    fn no_nap_is_longer_than_allowed_and_none_is_taken_when_none_is_allowed() {
        let step = Duration::from_micros(100);
        for rate in [0, 1_000, 100_000, 1_000_000] {
            assert_eq!(after_a_second(Duration::ZERO, rate, step), None);
            let short = Duration::from_micros(50);
            assert!(after_a_second(short, rate, step).is_none_or(|nap| nap <= short));
        }
    }

    #[test]
    fn a_short_burst_after_silence_does_not_make_it_nap() {
        let mut now = Timestamp::from_millis(1);
        let mut coalescer = Coalescer::new(MAX, now);
        for _ in 0..30 {
            // A picture of six packets, each its own wake-up, every 33 ms.
            now = now + Duration::from_millis(33);
            coalescer.note(now, 1);
            for _ in 0..5 {
                now = now + Duration::from_micros(30);
                coalescer.note(now, 1);
                assert_eq!(coalescer.nap(), None);
            }
        }
    }

    #[test]
    fn it_stops_napping_soon_after_the_datagrams_stop() {
        let mut now = Timestamp::ZERO;
        let mut coalescer = Coalescer::new(MAX, now);
        for _ in 0..100 {
            now = now + MAX;
            coalescer.note(now, 20);
        }
        let mut naps = 0;
        while let Some(nap) = coalescer.nap() {
            now = now + nap;
            coalescer.note(now, 0);
            naps += 1;
        }
        assert!((2..=30).contains(&naps), "{naps} naps of at most {MAX:?}");
    }
}
