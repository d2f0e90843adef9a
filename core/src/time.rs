//! The shard's clock, the epoch that ties it to the outside, and NTP time.
//!
//! Three clocks, never mixed: *now* ([`Timestamp`], drives state), *media time* (RTP units, plain
//! `u32` beside a clock rate) and *wall time* ([`NtpTime`], only ever derived from [`Epoch`]).

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Add;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Nanoseconds since the shard's epoch, plus one. Comparable only within one shard.
///
/// `Option<Timestamp>` is eight bytes. Arithmetic saturates: no peer can make time overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(NonZeroU64);

impl Timestamp {
    /// The epoch itself.
    pub const ZERO: Self = Self(NonZeroU64::MIN);

    /// The time `nanos` nanoseconds after the epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        match NonZeroU64::new(nanos.saturating_add(1)) {
            Some(value) => Self(value),
            None => Self::ZERO,
        }
    }

    /// The time `millis` milliseconds after the epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self::from_nanos(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// Whole microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.as_nanos() / 1_000
    }

    /// Whole milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.as_nanos() / 1_000_000
    }

    /// Whole seconds since the epoch.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.as_nanos() / 1_000_000_000
    }

    /// Time passed since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// `self` moved back by `by`, not before the epoch.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self::from_nanos(self.as_nanos().saturating_sub(nanos(by)))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }
}

/// `h:mm:ss.micros`, as log lines show it.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.as_micros();
        let seconds = micros / 1_000_000;
        write!(
            f,
            "{}:{:02}:{:02}.{:06}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            micros % 1_000_000
        )
    }
}

/// The earlier of two deadlines; `None`: there is none.
pub(crate) fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Where a [`Timestamp`] meets `Instant` (ICE, DTLS) and wall time (NTP). Captured once, by the driver.
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    instant: Instant,
    unix: Duration,
}

impl Epoch {
    /// Ties timestamp zero to `instant`, at which the wall clock read `unix` since 1970.
    #[must_use]
    pub const fn new(instant: Instant, unix: Duration) -> Self {
        Self { instant, unix }
    }

    /// The epoch of a run that is replayed or simulated, whose timestamp zero is `unix` after 1970. There is no
    /// `Instant` but the one of now, so it counts from there; nothing shows it.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant cannot be made otherwise"
    )]
    pub fn replayed(unix: Duration) -> Self {
        Self::new(Instant::now(), unix)
    }

    /// An epoch for tests and simulated time. The wall clock of timestamp zero is 2027-01-15 08:00 UTC, always.
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub fn simulated() -> Self {
        Self::replayed(Duration::from_secs(1_800_000_000))
    }

    /// The `Instant` of a timestamp, for the ICE and DTLS crates.
    #[must_use]
    pub fn instant(&self, at: Timestamp) -> Instant {
        self.instant + Duration::from_nanos(at.as_nanos())
    }

    /// The timestamp of an `Instant` that the ICE and DTLS crates, or a driver's clock, gave; the epoch if earlier.
    #[must_use]
    pub fn timestamp(&self, instant: Instant) -> Timestamp {
        Timestamp::from_nanos(nanos(instant.saturating_duration_since(self.instant)))
    }

    /// Wall time of a timestamp, as sender reports carry it.
    #[must_use]
    pub fn ntp(&self, at: Timestamp) -> NtpTime {
        NtpTime::from_unix(self.unix(at))
    }

    /// Wall time of a timestamp, since 1970.
    #[must_use]
    pub fn unix(&self, at: Timestamp) -> Duration {
        self.unix
            .saturating_add(Duration::from_nanos(at.as_nanos()))
    }
}

/// An NTP timestamp in 32.32 fixed point, seconds since 1900 (RFC 3550 §4).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// Seconds from 1900 to 1970.
    const UNIX_OFFSET_SECS: u64 = 2_208_988_800;

    /// NTP time of a duration since 1970; wraps in 2036 as the format does.
    #[must_use]
    pub fn from_unix(unix: Duration) -> Self {
        let secs = unix.as_secs().wrapping_add(Self::UNIX_OFFSET_SECS) & 0xffff_ffff;
        let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
        Self(secs << 32 | fraction)
    }

    /// The middle 32 bits, as reports carry them (16.16 seconds).
    #[must_use]
    pub const fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_optional_timestamp_is_eight_bytes() {
        assert_eq!(size_of::<Option<Timestamp>>(), 8);
    }

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let end = Timestamp::from_nanos(u64::MAX);
        assert_eq!(end + Duration::MAX, end);
        assert_eq!(Timestamp::ZERO.before(Duration::MAX), Timestamp::ZERO);
        assert_eq!(Timestamp::ZERO.since(end), Duration::ZERO);
    }

    #[test]
    fn display_shows_hours_minutes_seconds_and_micros() {
        let at = Timestamp::from_nanos((3_600 + 62) * 1_000_000_000 + 5_000);
        assert_eq!(at.to_string(), "1:01:02.000005");
    }

    /// A journal may say of any time that its run began then.
    #[test]
    fn wall_time_saturates() {
        let epoch = Epoch::replayed(Duration::MAX);
        let at = Timestamp::from_millis(1);
        assert_eq!(epoch.unix(at), Duration::MAX);
        let _wrapped = epoch.ntp(at);
    }

    /// 2004-01-01 is a published NTP constant: 3,281,904,000 s after 1900.
    #[test]
    fn ntp_counts_from_1900() {
        let ntp = NtpTime::from_unix(Duration::new(1_072_915_200, 500_000_000));
        assert_eq!(ntp.0 >> 32, 3_281_904_000);
        assert_eq!(ntp.0 as u32, 0x8000_0000);
        assert_eq!(
            ntp.middle(),
            ((3_281_904_000_u64 & 0xffff) << 16) as u32 | 0x8000
        );
    }
}
