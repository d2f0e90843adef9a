//! Log lines, on standard error: for people, or one JSON object each.
//!
//! Tokens, keys, ICE passwords and descriptions are never logged. What peers send shows in no line
//! above `debug`.

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Starts logging. `RUST_LOG` overrides the level (`info`). Only the first call of a process counts.
pub fn start(format: LogFormat) {
    // The STUN library warns of what strangers send; a peer must not fill the log.
    let quiet = || EnvFilter::new("info,is=error");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| quiet());
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
