//! Times as people write them.

use std::str::FromStr;
use std::time::Duration;

/// A time of the journal: so long after the shard began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(pub(super) Duration);

/// `90`, `12.5`, `1m30s`, `2h`, or as times are printed: `0:01:30.5`.
impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seconds = if text.contains(':') {
            of_colons(text)
        } else {
            of_units(text)
        };
        seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map(Self)
            .ok_or_else(|| "a time is seconds (12.5), or such as 1m30s or 0:01:30.5".to_owned())
    }
}

/// `hours:minutes:seconds`, of which only seconds have parts.
fn of_colons(text: &str) -> Option<f64> {
    let parts: Vec<_> = text.split(':').collect();
    let (last, before) = parts.split_last()?;
    if before.len() > 2 {
        return None;
    }
    let mut seconds = 0.0;
    for (place, part) in before.iter().enumerate() {
        let part: u32 = part.parse().ok().filter(|_| is_plain(part))?;
        if place > 0 && part >= 60 {
            return None;
        }
        seconds = seconds * 60.0 + f64::from(part);
    }
    let last = number(last).filter(|last| *last < 60.0)?;
    Some(seconds * 60.0 + last)
}

/// Hours, minutes, seconds, each once and in this order; what has no unit at the end is seconds.
fn of_units(text: &str) -> Option<f64> {
    let (mut seconds, mut rest) = (0.0, text);
    for (unit, factor) in [('h', 3_600.0), ('m', 60.0), ('s', 1.0)] {
        if let Some((value, after)) = rest.split_once(unit) {
            seconds += number(value)? * factor;
            rest = after;
            if unit == 's' || rest.is_empty() {
                return Some(seconds).filter(|_| rest.is_empty());
            }
        }
    }
    Some(seconds + number(rest)?)
}

/// A number with no sign, no exponent, no word such as "inf".
pub(super) fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|_| is_plain(text))
}

fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, ms) in [
            ("90", 90_000),
            ("12.5", 12_500),
            ("1m30s", 90_000),
            ("1m30", 90_000),
            ("2h1s", 7_201_000),
            ("0:01:30.5", 90_500),
            ("0", 0),
        ] {
            assert_eq!(
                text.parse(),
                Ok(Moment(Duration::from_millis(ms))),
                "{text}"
            );
        }
        for wrong in [
            "",
            "x",
            "-1",
            "1e3",
            "inf",
            "1x",
            "s",
            "1::2",
            "1:60",
            "1:60:00",
            "0.5:30",
            "1:2:3:4",
            "1m1m",
            "1s1m",
            "30s5",
            "1m1h",
            ".",
            "9".repeat(400).as_str(),
        ] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
    }
}
