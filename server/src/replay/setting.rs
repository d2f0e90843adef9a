//! `--set`: a number that decisions depend on, and another value of it.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use antiphon_core::shard::Tuning;
use antiphon_core::voice::config::TurnConfig;

use super::ReplayError;
use super::moment::{Moment, number};

/// Names of turns' parameters begin so.
const TURNS: &str = "voice.";

/// A parameter and its other value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) name: String,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    /// Of the shard.
    Time(Duration),
    /// Of turns; what it may be depends on the name.
    Turns(String),
}

/// `NAME=VALUE`. A time of the shard's may be in milliseconds too, such as `250ms`.
impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pair = text.split_once('=');
        let (name, value) = pair
            .filter(|(name, value)| !name.is_empty() && !value.is_empty())
            .ok_or_else(|| {
                format!("`{text}` is not NAME=VALUE, such as voice.sure=0.5 or report_interval=2s")
            })?;
        let value = if name.starts_with(TURNS) {
            Value::Turns(value.to_owned())
        } else {
            let millis = value.strip_suffix("ms").and_then(number);
            Value::Time(match millis {
                Some(millis) => {
                    Duration::try_from_secs_f64(millis / 1e3).map_err(|it| it.to_string())?
                }
                None => value.parse::<Moment>()?.0,
            })
        };
        let name = name.to_owned();
        Ok(Self { name, value })
    }
}

impl Setting {
    /// As it was given.
    pub(super) fn text(&self) -> String {
        match &self.value {
            Value::Time(value) => format!("{} = {value:?}", self.name),
            Value::Turns(value) => format!("{} = {value}", self.name),
        }
    }

    /// Whether it is of turns, and not of the shard.
    pub(super) const fn is_of_turns(&self) -> bool {
        matches!(self.value, Value::Turns(_))
    }

    fn apply(&self, tuning: &mut Tuning) -> Result<(), String> {
        match &self.value {
            Value::Time(value) => tuning.set(&self.name, *value).map_err(|it| it.to_string()),
            Value::Turns(value) => {
                let name = self.name.strip_prefix(TURNS).unwrap_or(&self.name);
                tuning.turns.set(name, value).map_err(|it| it.to_string())
            }
        }
    }
}

/// The numbers with others in place of some.
///
/// # Errors
/// One is given twice, is none, or takes no such value, or two do not go together.
pub(super) fn apply(settings: &[Setting], tuning: Tuning) -> Result<Tuning, ReplayError> {
    let mut changed = tuning;
    let mut names = BTreeSet::new();
    for setting in settings {
        let name = &setting.name;
        if !names.insert(name) {
            return Err(ReplayError::Input(format!("--set {name} is given twice")));
        }
        let wrong = |error| ReplayError::Input(format!("--set {name}: {error}"));
        setting.apply(&mut changed).map_err(wrong)?;
    }
    let wrong = |error| ReplayError::Input(format!("--set: {error}"));
    let checked: Result<(), _> = TurnConfig::check(&changed.turns);
    checked.map_err(wrong)?;
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_turns_begins_so_once() {
        let set = |text: &str| {
            let setting: Setting = text.parse().expect("NAME=VALUE");
            apply(&[setting], Tuning::default())
        };
        let changed = set("voice.sure=0.5").expect("there is such a one");
        assert_ne!(changed.turns, Tuning::default().turns);
        for text in ["voice.voice.sure=0.5", "voice.=0.5"] {
            set(text).expect_err(text);
        }
    }

    #[test]
    fn what_lacks_a_name_or_a_value_is_told_the_form() {
        for text in [
            "",
            "=",
            "=5",
            "voice.eager",
            "voice.sure=",
            "report_interval=",
        ] {
            let error = text.parse::<Setting>().expect_err(text);
            assert!(
                error.contains(&format!("`{text}` is not NAME=VALUE")),
                "{error}"
            );
        }
    }
}
