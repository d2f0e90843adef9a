//! The turn detector's numbers by their names, for whoever tries others.

use std::fmt;

use super::{Patience, TurnConfig};
use crate::voice::features::CERTAIN;

/// Whose patience rules, whatever a call asks for. Not a number, and so not among [`Parameter::ALL`].
const PRESET: &str = "preset";
/// A time is at most a minute: more would be as good as never.
const MILLIS_MOST: u32 = 60_000;

/// A number of [`TurnConfig`].
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name. One of [`Patience`] is that of all three at once: of whichever rules.
    pub name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Milliseconds, as the name says, or frames: from the least to the most.
    Whole(u32, u32, fn(&mut TurnConfig, u32)),
    /// From 0 to 1; kept as of [`CERTAIN`].
    Probability(fn(&mut TurnConfig, u16)),
}

impl Parameter {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::millis("delay_min_ms", |it, to| it.each(|it| it.delay_min_ms = to)),
        Self::millis("delay_max_ms", |it, to| it.each(|it| it.delay_max_ms = to)),
        Self::millis("delay_blind_ms", |it, to| {
            it.each(|it| it.delay_blind_ms = to);
        }),
        Self::probability("sure", |it, to| it.each(|it| it.sure = to)),
        Self::probability("speech_on", |it, to| it.speech_on = to),
        Self::probability("speech_off", |it, to| it.speech_off = to),
        // Of the last eight frames, and of the last five.
        Self::whole("onset_frames", 1, 8, |it, to| it.onset_frames = to),
        Self::whole("resume_frames", 1, 5, |it, to| it.resume_frames = to),
        Self::millis("pause_ms", |it, to| it.pause_ms = to),
        Self::probability("eager_sure", |it, to| it.eager_sure = to),
        Self::millis("eager_delay_ms", |it, to| it.eager_delay_ms = to),
        Self::probability("withdraw", |it, to| it.withdraw = to),
        // Turns and silence last longer.
        Self::whole("turn_max_ms", 10, 600_000, |it, to| it.turn_max_ms = to),
        Self::millis("candidate_ms", |it, to| it.candidate_ms = to),
        Self::millis("interrupt_ms", |it, to| it.interrupt_ms = to),
        Self::millis("backchannel_ms", |it, to| it.backchannel_ms = to),
        Self::millis("opening_ms", |it, to| it.opening_ms = to),
        Self::millis("closing_ms", |it, to| it.closing_ms = to),
        Self::millis("echo_tail_ms", |it, to| it.echo_tail_ms = to),
        Self::millis("false_interruption_ms", |it, to| {
            it.false_interruption_ms = to;
        }),
        Self::millis("word_ms", |it, to| it.word_ms = to),
        Self::whole("idle_ms", 10, 600_000, |it, to| it.idle_ms = to),
        Self::millis("excused_max_ms", |it, to| it.excused_max_ms = to),
    ];

    const fn whole(
        name: &'static str,
        least: u32,
        most: u32,
        set: fn(&mut TurnConfig, u32),
    ) -> Self {
        let kind = Kind::Whole(least, most, set);
        Self { name, kind }
    }

    const fn millis(name: &'static str, set: fn(&mut TurnConfig, u32)) -> Self {
        Self::whole(name, 0, MILLIS_MOST, set)
    }

    const fn probability(name: &'static str, set: fn(&mut TurnConfig, u16)) -> Self {
        let kind = Kind::Probability(set);
        Self { name, kind }
    }

    fn set(&self, config: &mut TurnConfig, value: &str) -> Result<(), TurnConfigError> {
        // No sign, no exponent, no word such as "inf".
        let is_plain = value.bytes().all(|it| it.is_ascii_digit() || it == b'.');
        match self.kind {
            Kind::Whole(least, most, set) => {
                let value = value.parse().ok();
                let value = value.filter(|value| is_plain && (least..=most).contains(value));
                set(config, value.ok_or(TurnConfigError::Value(*self))?);
            }
            Kind::Probability(set) => {
                let value = value.parse().ok();
                let value = value.filter(|value: &f64| is_plain && (0.0..=1.0).contains(value));
                let value = value.ok_or(TurnConfigError::Value(*self))?;
                set(config, (value * f64::from(CERTAIN)).round() as u16);
            }
        }
        Ok(())
    }
}

/// Its name and what it takes: `pause_ms (0 to 60000)`.
impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name;
        match self.kind {
            Kind::Whole(least, most, _) => write!(f, "{name} ({least} to {most})"),
            Kind::Probability(_) => write!(f, "{name} (0 to 1)"),
        }
    }
}

/// Why numbers are refused.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum TurnConfigError {
    /// There is none of that name.
    #[error(
        "there is no such parameter of turns; there are {PRESET} (eager, balanced, patient), {}",
        names()
    )]
    Unknown,
    /// It takes other values.
    #[error("it takes {0}")]
    Value(Parameter),
    /// The preset takes other values.
    #[error("a {PRESET} is eager, balanced or patient")]
    Preset,
    /// The first must not be above the second.
    #[error("{0} is above {1}, and must not be")]
    Above(&'static str, &'static str),
}

fn names() -> String {
    Parameter::ALL.map(|it| it.to_string()).join(", ")
}

impl TurnConfig {
    /// Changes a number by its name, or with `preset` whose patience rules: of what is not set that of `eager`,
    /// `balanced` or `patient`, whatever eagerness a call asks for. In which order makes no difference.
    ///
    /// # Errors
    /// There is none of that name, or it takes no such value; nothing is changed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), TurnConfigError> {
        if name == PRESET {
            let patience = match value {
                "eager" => self.eager,
                "balanced" => self.balanced,
                "patient" => self.patient,
                _ => return Err(TurnConfigError::Preset),
            };
            self.each(|it| *it = patience);
            return Ok(());
        }
        let parameter = Parameter::ALL.iter().find(|it| it.name == name);
        parameter.ok_or(TurnConfigError::Unknown)?.set(self, value)
    }

    /// Whether its numbers go together.
    ///
    /// # Errors
    /// Which two do not.
    pub fn check(&self) -> Result<(), TurnConfigError> {
        for patience in [self.eager, self.balanced, self.patient] {
            if patience.delay_min_ms > patience.delay_max_ms {
                return Err(TurnConfigError::Above("delay_min_ms", "delay_max_ms"));
            }
        }
        if self.speech_off > self.speech_on {
            return Err(TurnConfigError::Above("speech_off", "speech_on"));
        }
        if self.withdraw > self.eager_sure {
            return Err(TurnConfigError::Above("withdraw", "eager_sure"));
        }
        if self.candidate_ms > self.interrupt_ms {
            return Err(TurnConfigError::Above("candidate_ms", "interrupt_ms"));
        }
        Ok(())
    }

    fn each(&mut self, set: impl Fn(&mut Patience)) {
        for patience in [&mut self.eager, &mut self.balanced, &mut self.patient] {
            set(patience);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_set_by_its_name_and_each_within_its_range() {
        for parameter in Parameter::ALL {
            let (least, most, beyond) = match parameter.kind {
                Kind::Whole(least, most, _) => (least, most.to_string(), (most + 1).to_string()),
                Kind::Probability(_) => (0, "1.0".to_owned(), "1.01".to_owned()),
            };
            let [mut one, mut other] = [TurnConfig::default(); 2];
            let name = parameter.name;
            one.set(name, &least.to_string()).expect("the least");
            other.set(name, &most).expect("the most");
            assert_ne!(one, other, "{name}");
            let before = other;
            for wrong in [&beyond, "-1", "1e0", "", "inf", "nan", "x", "4294967296"] {
                let error = other.set(name, wrong).expect_err(wrong).to_string();
                assert!(error.contains(name), "{wrong}: {error}");
            }
            assert_eq!(other, before);
            // Every field is somebody's: this one alone changed.
            let changed = serde_json::to_value(one).expect("it is written");
            let default = serde_json::to_value(TurnConfig::default()).expect("it is written");
            let differ = |key: &&String| changed[key.as_str()] != default[key.as_str()];
            let keys = changed.as_object().expect("fields").keys();
            assert!(keys.filter(differ).count() >= 1, "{name}");
        }
        let error = TurnConfig::default().set("warp", "1").expect_err("none");
        assert!(error.to_string().contains("pause_ms (0 to 60000)"));
        assert!(error.to_string().contains("sure (0 to 1)"));
    }

    #[test]
    fn a_preset_rules_whatever_is_asked_for_and_other_numbers_stay() {
        let default = TurnConfig::default();
        let all = |config: TurnConfig| [config.eager, config.balanced, config.patient];
        let (mut one, mut other) = (default, default);
        one.set("preset", "eager").expect("a preset");
        assert_eq!(all(one), [default.eager; 3]);
        one.set("delay_min_ms", "77").expect("in range");
        other.set("delay_min_ms", "77").expect("in range");
        other.set("preset", "eager").expect("a preset");
        assert_eq!(one, other);
        assert_eq!(all(one).map(|it| it.delay_min_ms), [77; 3]);
        assert!(one.set("preset", "hasty").is_err());
    }

    #[test]
    fn numbers_that_contradict_each_other_are_refused() {
        let defaults = TurnConfig::default().check();
        defaults.expect("the defaults go together");
        for (name, value) in [
            ("delay_min_ms", "1201"),
            ("delay_max_ms", "299"),
            ("speech_off", "0.7"),
            ("speech_on", "0.3"),
            ("withdraw", "0.5"),
            ("eager_sure", "0.2"),
            ("candidate_ms", "63"),
            ("interrupt_ms", "17"),
        ] {
            let mut config = TurnConfig::default();
            config.set(name, value).expect("in range");
            let error = config.check().expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
