//! How late packets come, and the delay that makes up for it.

use std::time::Duration;

use super::Config;
use crate::limits::JITTER_DELAY_MAX;

/// Width of a class of lateness, in microseconds.
const CLASS_MICROS: i64 = 5_000;
/// Classes: up to 500 ms; whatever is later falls into the last.
const CLASSES: usize = 100;
/// All weights together.
const WHOLE: u32 = 1 << 30;
/// What an older interval counts in each newer one, of [`WHOLE`]: .983, so that half a minute is remembered.
const FORGET: u32 = (WHOLE as u64 * 983 / 1_000) as u32;
/// Of the lateness of the packets of such an interval the largest counts: the jitter of a path has a length of its
/// own, and a packet in 25 must not pass as the usual case.
const INTERVAL_MICROS: i64 = 500_000;
/// Intervals in which the fastest packet is looked for: 2 s.
const INTERVALS: usize = 4;

/// The distribution of lateness against the fastest packet of the last seconds. Constant memory.
///
/// Times are in microseconds; an *offset* is the time of arrival less the media time, so only differences between
/// offsets mean anything.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// The lowest offset of each interval, the one under way in front.
    lowest: [i64; INTERVALS],
    /// The highest offset of the interval under way.
    highest: i64,
    /// When it began; `None` before the first packet.
    opened: Option<i64>,
    packets: u32,
    weights: [u32; CLASSES],
    /// Intervals counted, as long as that matters.
    intervals: u32,
    required: i64,
    target: i64,
}

impl Arrivals {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            lowest: [i64::MAX; INTERVALS],
            highest: i64::MIN,
            opened: None,
            packets: 0,
            weights: [0; CLASSES],
            intervals: 0,
            required: micros(config.delay_start),
            target: micros(config.delay_start),
        }
    }

    /// Takes note of a packet's arrival.
    pub(super) fn note(&mut self, config: &Config, now: i64, offset: i64) {
        let opened = *self.opened.get_or_insert(now);
        // An interval of a slow sender, or one with a pause in it, is longer: it needs packets to compare.
        if now - opened >= INTERVAL_MICROS && self.packets >= 2 {
            self.close(config);
            self.opened = Some(now);
        }
        self.lowest[0] = self.lowest[0].min(offset);
        self.highest = self.highest.max(offset);
        self.packets += 1;
    }

    /// The offset of the fastest packet of late; `None` before the first packet.
    pub(super) fn fastest(&self) -> Option<i64> {
        let lowest = self.lowest.iter().copied().min()?;
        (lowest != i64::MAX).then_some(lowest)
    }

    /// The delay to aim at, over the fastest packet.
    pub(super) const fn target(&self) -> i64 {
        self.target
    }

    /// The same without the configured limits.
    pub(super) const fn required(&self) -> i64 {
        self.required
    }

    /// The path or the sender's clock is another: offsets begin anew, while what is known of jitter stays.
    pub(super) fn restart(&mut self) {
        self.lowest = [i64::MAX; INTERVALS];
        self.highest = i64::MIN;
        self.opened = None;
        self.packets = 0;
    }

    fn close(&mut self, config: &Config) {
        // Against this interval and the one before: a path that has become slower as a whole is late for a second, not
        // for as long as its fastest packet is remembered.
        let fastest = self.lowest[0].min(self.lowest[1]);
        if fastest != i64::MAX {
            self.count(self.highest.saturating_sub(fastest));
            self.required = self.quantile(config.quantile);
            self.target = self
                .required
                .max(micros(config.delay_min))
                .min(micros(config.delay_max.min(JITTER_DELAY_MAX)));
        }
        self.lowest.rotate_right(1);
        self.lowest[0] = i64::MAX;
        self.highest = i64::MIN;
        self.packets = 0;
    }

    /// Adds one interval's lateness. At first each counts the same, so that a handful is enough to go by.
    fn count(&mut self, lateness: i64) {
        self.intervals = self.intervals.saturating_add(1);
        let beginning = u64::from(WHOLE) * u64::from(self.intervals - 1);
        let forget = u64::from(FORGET).min(beginning / u64::from(self.intervals));
        let mut left = WHOLE;
        for weight in &mut self.weights {
            *weight = (u64::from(*weight) * forget / u64::from(WHOLE)) as u32;
            left -= *weight;
        }
        let class = (lateness.max(0) / CLASS_MICROS) as usize;
        self.weights[class.min(CLASSES - 1)] += left;
    }

    /// The upper end of the class below which so many of a thousand intervals lie.
    fn quantile(&self, per_mille: u16) -> i64 {
        let beyond_max = u64::from(WHOLE) * u64::from(1_000 - per_mille.min(1_000)) / 1_000;
        let mut beyond = 0;
        for class in (0..CLASSES).rev() {
            beyond += u64::from(self.weights[class]);
            if beyond > beyond_max {
                return (class as i64 + 1) * CLASS_MICROS;
            }
        }
        0
    }
}

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(config: &Config, lateness: impl Fn(i64) -> i64) -> Arrivals {
        let mut arrivals = Arrivals::new(config);
        for packet in 0..1_500 {
            let late = lateness(packet);
            arrivals.note(config, packet * 20_000 + late, 7_000_000 + late);
        }
        arrivals
    }

    #[test]
    fn without_jitter_the_target_is_its_minimum() {
        for config in [Config::AGENT, Config::HUMAN] {
            let arrivals = fed(&config, |_| 0);
            assert_eq!(arrivals.target(), micros(config.delay_min));
            assert_eq!(arrivals.fastest(), Some(7_000_000));
        }
    }

    #[test]
    fn the_target_covers_the_usual_peak_and_not_the_rare_one() {
        // A peak of 90 ms each half second, and one of 300 ms each half minute.
        let late = |packet| match packet {
            _ if packet % 1_500 == 700 => 300_000,
            _ if packet % 20 == 0 => 90_000,
            _ => 0,
        };
        assert_eq!(fed(&Config::AGENT, late).target(), 95_000);
        assert_eq!(fed(&Config::HUMAN, late).target(), 95_000);
    }

    #[test]
    fn the_quantile_tells_the_presets_apart() {
        // One interval in twenty has a peak of 90 ms.
        let late = |packet| if packet % 500 == 17 { 120_000 } else { 30_000 };
        assert!(fed(&Config::AGENT, late).target() < 40_000);
        assert_eq!(fed(&Config::HUMAN, late).target(), 95_000);
    }

    #[test]
    fn the_target_stays_within_its_limits_whatever_comes() {
        for late in [i64::MAX / 4, 1_000_000, -1_000_000, i64::MIN / 4] {
            let arrivals = fed(
                &Config::AGENT,
                |packet| if packet % 7 == 3 { late } else { 0 },
            );
            let target = arrivals.target();
            assert!(target >= micros(Config::AGENT.delay_min));
            assert!(target <= micros(Config::AGENT.delay_max));
        }
    }

    #[test]
    fn a_slower_path_is_the_usual_one_after_two_seconds() {
        let arrivals = fed(
            &Config::HUMAN,
            |packet| if packet < 1_000 { 0 } else { 80_000 },
        );
        assert_eq!(arrivals.fastest(), Some(7_080_000));
    }
}
