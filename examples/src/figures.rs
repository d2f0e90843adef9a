//! Percentiles, and a pause.

use std::fs;
use std::thread;
use std::time::Duration;

use antiphon_udp::Clock;
use serde_json::{Value, json};

/// Durations to summarise.
#[derive(Clone, Debug, Default)]
pub struct Spread {
    sorted: Vec<Duration>,
}

impl FromIterator<Duration> for Spread {
    fn from_iter<T: IntoIterator<Item = Duration>>(durations: T) -> Self {
        let mut sorted: Vec<_> = durations.into_iter().collect();
        sorted.sort_unstable();
        Self { sorted }
    }
}

impl Spread {
    /// The smallest value that `share` of all values do not exceed; zero when there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = (share * self.sorted.len() as f64).ceil() as usize;
        let last = self.sorted.len().saturating_sub(1);
        let found = self.sorted.get(rank.saturating_sub(1).min(last));
        found.copied().unwrap_or_default()
    }

    /// Median, 99th percentile and maximum in milliseconds.
    #[must_use]
    pub fn millis(&self) -> Value {
        let at = |share| (self.quantile(share).as_secs_f64() * 1e6).round() / 1e3;
        json!({ "count": self.sorted.len(), "p50": at(0.5), "p99": at(0.99), "max": at(1.0) })
    }
}

/// Does nothing for a while: what is measured runs elsewhere.
pub fn pause(clock: &Clock, duration: Duration) {
    let end = clock.now() + duration;
    loop {
        let left = end.since(clock.now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

/// `value` as lines for people, one for each key.
#[must_use]
pub fn lines(value: &Value) -> String {
    let object = value.as_object().into_iter().flatten();
    let line = |(key, value): (&String, &Value)| {
        let text = match value {
            Value::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| format!("{name} {value}"));
                fields.collect::<Vec<_>>().join("  ")
            }
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        format!("{key:<28} {text}\n")
    };
    object.map(line).collect()
}

/// The machine's load over the last minute, as `/proc/loadavg` has it.
#[must_use]
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let spread: Spread = (1..=100).rev().map(Duration::from_millis).collect();
        let at = |share| spread.quantile(share).as_millis();
        assert_eq!((at(0.0), at(0.5), at(0.99), at(1.0)), (1, 50, 99, 100));
        assert_eq!(Spread::default().quantile(0.5), Duration::ZERO);
        assert_eq!(spread.millis()["max"], 100.0);
        assert!(load_average().parse::<f64>().is_ok());
    }
}
