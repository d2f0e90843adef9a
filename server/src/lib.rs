//! Antiphon's control plane: HTTP, WHIP, WHEP, rooms, tokens and metrics, over shards that do the media.
//!
//! Everything runs on one thread of tokio; shards have threads of their own and are reached through
//! mailboxes. Nothing here sees a media packet.
#![forbid(unsafe_code)]

pub mod api;
pub mod app;
pub mod auth;
pub mod candidates;
pub mod cli;
pub mod config;
pub mod control;
pub mod cors;
pub mod crowd;
pub mod events;
pub mod http;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod negotiate;
mod page;
pub mod place;
pub mod problem;
pub mod rate;
pub mod resource;
pub mod rooms;
pub mod server;
pub mod sessions;
pub mod shards;
pub mod sim;
pub mod sse;
pub mod stall;
pub mod tls;
pub mod wall;
pub mod whip;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::cli::Tool;
use crate::config::{Config, ConfigError, LogFormat};
use crate::server::{Server, ServerError};

/// The program: runs the tool it is asked for; by default reads the configuration, serves, and stops on SIGTERM
/// or SIGINT.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match Tool::parse(&arguments) {
        Ok(Some(tool)) => tool.run(),
        Ok(None) => serve(arguments),
        Err(usage) => usage.exit(),
    }
}

fn serve(arguments: Vec<OsString>) -> ExitCode {
    let config = match Config::load(arguments) {
        Ok(config) => config,
        // Help and version go to standard output with exit code 0, mistakes to standard error with 2.
        Err(ConfigError::Usage(usage)) => usage.exit(),
        Err(error) => return failed(&error),
    };
    log::start(config.log_format);
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Starts shards and server and serves until a signal.
///
/// # Errors
/// [`ServerError`], naming what to change.
pub fn run(config: Config) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServerError::Runtime)?;
    let ended = runtime.block_on(async {
        let format = config.log_format;
        let shards = shards::start(&config)?;
        let server = Server::bind(config, shards).await?;
        announce(format, server.banner());
        server
            .run(stop_signal().map_err(ServerError::Runtime)?)
            .await
    });
    // A media thread that hangs must not keep the process.
    runtime.shutdown_background();
    ended
}

/// Completes at the first SIGTERM or SIGINT; a second one ends the process at once.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(1);
        });
    })
}

fn announce(format: LogFormat, lines: &[String]) {
    match format {
        LogFormat::Json => lines.iter().for_each(|line| info!("{line}")),
        LogFormat::Text => {
            let text = lines.join("\n");
            // Nobody may be reading: that is no reason to stop.
            writeln!(std::io::stdout(), "{text}").ok();
        }
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    // The last words; if they cannot be said, the exit code still tells.
    writeln!(std::io::stderr(), "antiphon: {error}").ok();
    ExitCode::FAILURE
}
