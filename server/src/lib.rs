//! Antiphon's control plane: HTTP, WHIP, WHEP, rooms, tokens and metrics, over shards that do the media.
//!
//! Everything runs on one thread of tokio; shards have threads of their own and are reached through
//! mailboxes. Nothing here sees a media packet; of calls with agents, the sound passes through.
#![forbid(unsafe_code)]

pub mod agent;
pub mod api;
pub mod app;
pub mod auth;
pub mod candidates;
pub mod capture;
pub mod cli;
pub mod config;
pub mod control;
pub mod cors;
pub mod crowd;
pub mod events;
pub mod extract;
pub mod http;
pub mod journal;
pub mod limits;
pub mod load;
pub mod log;
pub mod metrics;
#[cfg(feature = "onnx")]
pub mod model;
pub mod negotiate;
mod page;
pub mod place;
pub mod problem;
mod process;
mod progress;
pub mod rate;
pub mod replay;
pub mod resource;
pub mod rooms;
mod secret_file;
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

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::info;

use crate::cli::Tool;
use crate::config::{Config, ConfigError, LogFormat};
use crate::journal::JournalHandle;
use crate::server::{Server, ServerError};

/// A write beyond the limit on the size of files, as Linux numbers it on what we run on (MIPS and PA-RISC differ).
const SIGXFSZ: i32 = 25;

/// The program: runs the tool it is asked for; by default reads the configuration, serves, and stops on SIGTERM,
/// SIGINT or SIGHUP.
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
        let asks = survive_signals().map_err(ServerError::Runtime)?;
        let format = config.log_format;
        let shards = shards::start(&config)?;
        let server = Server::bind(config, shards).await?;
        // Who has read the banner may stop us.
        let stop = stop_signal().map_err(ServerError::Runtime)?;
        dump_when_asked(asks, server.journal());
        announce(format, server.banner());
        server.run(stop).await
    });
    // A media thread that hangs must not keep the process.
    runtime.shutdown_background();
    ended
}

/// Completes at the first SIGTERM, SIGINT or SIGHUP; a second one ends the process at once. A hang-up drains
/// like the others, as there is nothing to read anew; one that is ignored (`nohup`) stays so.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut kinds = vec![SignalKind::terminate(), SignalKind::interrupt()];
    if !ignores_hang_up() {
        kinds.push(SignalKind::hangup());
    }
    let (sender, mut stops) = mpsc::channel(2);
    for kind in kinds {
        let mut signals = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() && sender.send(()).await.is_ok() {}
        });
    }
    Ok(async move {
        stops.recv().await;
        tokio::spawn(async move {
            stops.recv().await;
            std::process::exit(1);
        });
    })
}

/// From now on neither SIGUSR1, with which whoever runs many servers asks for journals, nor a limit on the size of
/// files ends the process and its calls; a write beyond the limit fails, as on a full disk. Gives each SIGUSR1.
fn survive_signals() -> std::io::Result<Signal> {
    // A handler that is there once stays.
    drop(signal(SignalKind::from_raw(SIGXFSZ))?);
    signal(SignalKind::user_defined1())
}

/// Writes what the journal's rings hold at each SIGUSR1.
fn dump_when_asked(mut asks: Signal, journal: Option<JournalHandle>) {
    tokio::spawn(async move {
        while asks.recv().await.is_some() {
            match &journal {
                Some(journal) => journal.dump(),
                None => info!(
                    "SIGUSR1 asks for the last of a journal, and there is none: see --journal"
                ),
            }
        }
    });
}

/// Whether whoever started us wants hang-ups ignored: the lowest bit of the mask that the kernel shows.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 != 0))
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
