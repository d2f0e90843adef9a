//! Token buckets that limit requests by client address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::limits::{RATE_ADDRESSES_MAX, RATE_BURST_SECS};

/// Requests a second for each address, with a burst of [`RATE_BURST_SECS`] seconds' worth. Time is an
/// argument: any clock that only goes forward.
#[derive(Debug)]
pub struct RateLimiter {
    per_second: u32,
    buckets: BTreeMap<IpAddr, Bucket>,
    shared: Bucket,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    filled: Duration,
}

impl RateLimiter {
    /// A limiter; zero `per_second` allows everything.
    #[must_use]
    pub const fn new(per_second: u32) -> Self {
        let shared = Bucket {
            tokens: 0.0,
            filled: Duration::ZERO,
        };
        Self {
            per_second,
            buckets: BTreeMap::new(),
            shared,
        }
    }

    /// Counts a request; `false` when its address has used up its share.
    pub fn allow(&mut self, now: Duration, address: IpAddr) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let rate = f64::from(self.per_second);
        let burst = rate * f64::from(RATE_BURST_SECS);
        let key = network_of(address);
        if self.buckets.len() >= RATE_ADDRESSES_MAX && !self.buckets.contains_key(&key) {
            self.buckets
                .retain(|_, bucket| bucket.level(now, rate, burst) < burst);
        }
        let bucket = if self.buckets.len() >= RATE_ADDRESSES_MAX {
            self.buckets.get_mut(&key).unwrap_or(&mut self.shared)
        } else {
            self.buckets.entry(key).or_insert(Bucket {
                tokens: burst,
                filled: now,
            })
        };
        *bucket = Bucket {
            tokens: bucket.level(now, rate, burst),
            filled: now,
        };
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }
}

impl Bucket {
    fn level(&self, now: Duration, rate: f64, burst: f64) -> f64 {
        let passed = now.saturating_sub(self.filled).as_secs_f64();
        (self.tokens + passed * rate).min(burst)
    }
}

/// Who an address belongs to: an IPv6 client commonly owns a whole /64.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(limiter: &mut RateLimiter, now: Duration, address: &str, tries: u32) -> u32 {
        let address = address.parse().expect("an address");
        (0..tries)
            .map(|_| u32::from(limiter.allow(now, address)))
            .sum()
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds_and_other_addresses_are_untouched() {
        let mut limiter = RateLimiter::new(5);
        assert_eq!(allowed(&mut limiter, Duration::ZERO, "192.0.2.1", 100), 50);
        assert_eq!(
            allowed(&mut limiter, Duration::from_secs(2), "192.0.2.1", 100),
            10
        );
        assert_eq!(
            allowed(&mut limiter, Duration::from_secs(2), "192.0.2.2", 100),
            50
        );
        assert_eq!(
            allowed(&mut limiter, Duration::from_secs(999), "192.0.2.1", 100),
            50
        );
    }

    #[test]
    fn one_ipv6_network_and_a_mapped_address_are_one_client() {
        let mut limiter = RateLimiter::new(1);
        assert_eq!(allowed(&mut limiter, Duration::ZERO, "2001:db8::1", 10), 10);
        assert_eq!(allowed(&mut limiter, Duration::ZERO, "2001:db8::2", 10), 0);
        assert_eq!(allowed(&mut limiter, Duration::ZERO, "192.0.2.1", 10), 10);
        assert_eq!(
            allowed(&mut limiter, Duration::ZERO, "::ffff:192.0.2.1", 10),
            0
        );
    }

    #[test]
    fn more_addresses_than_the_table_holds_share_a_bucket_and_memory_stays_bounded() {
        let mut limiter = RateLimiter::new(1);
        for number in 0..RATE_ADDRESSES_MAX as u32 + 1_000 {
            limiter.allow(Duration::ZERO, IpAddr::from(number.to_be_bytes()));
        }
        assert_eq!(limiter.buckets.len(), RATE_ADDRESSES_MAX);
        assert_eq!(
            allowed(&mut limiter, Duration::from_secs(1), "255.0.0.1", 5),
            5
        );
    }

    #[test]
    fn a_rate_of_zero_allows_everything() {
        let mut limiter = RateLimiter::new(0);
        assert_eq!(
            allowed(&mut limiter, Duration::ZERO, "192.0.2.1", 10_000),
            10_000
        );
    }
}
