//! Log lines, on standard error: for people, or one JSON object each.
//!
//! Tokens, keys, ICE passwords and descriptions are never logged. What peers send shows in no line
//! above `debug`.

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// What is logged when `RUST_LOG` does not say.
const LEVEL: &str = "info";
/// The STUN library, by its name in the log: it warns of what strangers send, and a peer must not fill
/// the log.
const STUN: &str = "is";

/// Starts logging. `RUST_LOG` overrides the level (`info`). Only the first call of a process counts.
pub fn start(format: LogFormat) {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let filter = EnvFilter::try_new(directives(&asked));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(directives("")));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    // Another subscriber is installed already: in tests.
    started.ok();
}

/// What was asked for, with the STUN library kept quiet unless it was asked for by name.
fn directives(asked: &str) -> String {
    let asked = if asked.trim().is_empty() {
        LEVEL
    } else {
        asked
    };
    let target = |directive: &str| directive.split(['=', '[', ':']).next() == Some(STUN);
    if asked.split(',').any(target) {
        asked.to_owned()
    } else {
        format!("{asked},{STUN}=error")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stun_library_stays_quiet_unless_asked_for_by_name() {
        let table = [
            ("", "info,is=error"),
            ("debug", "debug,is=error"),
            ("antiphon_server=trace", "antiphon_server=trace,is=error"),
            ("info,this=debug", "info,this=debug,is=error"),
            ("info,is=trace", "info,is=trace"),
            ("is::agent=debug", "is::agent=debug"),
        ];
        for (asked, used) in table {
            assert_eq!(directives(asked), used);
            assert!(EnvFilter::try_new(used).is_ok(), "{used}");
        }
    }
}
