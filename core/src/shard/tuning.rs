//! What a shard decides by, where other numbers would do as well: a replay may try them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{CONSENT_TIMEOUT, KEYFRAME_REQUEST_INTERVAL, REPORT_INTERVAL, SETUP_TIMEOUT};
use crate::voice::config::TurnConfig;

/// Numbers that decisions depend on. The default is that of [`limits`](crate::limits), or of what they are of, each
/// with its reason there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// Keyframe requests upstream per source are at least this far apart.
    pub keyframe_request_interval: Duration,
    /// Between reports of a session whose media flows.
    pub report_interval: Duration,
    /// Without an authenticated check for this long, consent is gone.
    pub consent_timeout: Duration,
    /// A session that never connected is reaped after this.
    pub setup_timeout: Duration,
    /// When turns end and who interrupts, in calls with agents. No server has another than the default, so that a
    /// journal does not say it.
    #[serde(skip)]
    pub turns: TurnConfig,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            keyframe_request_interval: KEYFRAME_REQUEST_INTERVAL,
            report_interval: REPORT_INTERVAL,
            consent_timeout: CONSENT_TIMEOUT,
            setup_timeout: SETUP_TIMEOUT,
            turns: TurnConfig::default(),
        }
    }
}

/// There is no such number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no parameter {0}; there are {names}", names = Tuning::NAMES.join(", "))]
pub struct TuningError(String);

impl Tuning {
    /// Of the parameters.
    pub const NAMES: [&'static str; 4] = [
        "keyframe_request_interval",
        "report_interval",
        "consent_timeout",
        "setup_timeout",
    ];

    /// Changes one by its name. Those of [`Self::turns`] have names of their own.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn set(&mut self, name: &str, value: Duration) -> Result<(), TuningError> {
        let parameter = match name {
            "keyframe_request_interval" => &mut self.keyframe_request_interval,
            "report_interval" => &mut self.report_interval,
            "consent_timeout" => &mut self.consent_timeout,
            "setup_timeout" => &mut self.setup_timeout,
            _ => return Err(TuningError(name.to_owned())),
        };
        *parameter = value;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_set_by_its_name_and_no_other() {
        let mut tuning = Tuning::default();
        for (name, millis) in Tuning::NAMES.into_iter().zip(1..) {
            let before = tuning;
            tuning
                .set(name, Duration::from_millis(millis))
                .expect("it is named");
            assert_ne!(tuning, before, "{name}");
        }
        let error = tuning
            .set("warp", Duration::ZERO)
            .expect_err("there is none");
        assert!(error.to_string().contains("consent_timeout"), "{error}");
    }
}
