//! `antiphon replay`: plays a recording again. What kind it is, its first bytes tell.

mod capture;
mod json;
mod keys;
mod progress;
mod table;
mod warnings;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use antiphon_core::replay::Pace;

/// The arguments of `antiphon replay`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Captures enter at the height of their packets: RTP is counted, and SRTP opened first \
                        where there are keys. See docs/replay.md."
)]
pub struct Arguments {
    /// The recording: a packet capture (pcap or pcapng)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// SRTP master keys (JSON; see docs/replay.md)
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// TLS key log with the secrets of DTLS handshakes in the capture (SSLKEYLOGFILE)
    #[arg(long, value_name = "FILE")]
    keylog: Option<PathBuf>,
    /// Key of an `a=crypto` line (RFC 4568), again for each
    #[arg(long, value_name = "LINE")]
    sdes: Vec<String>,
    /// Session description whose payload types and `a=crypto` keys are those of the capture, again for each
    #[arg(long, value_name = "FILE")]
    sdp: Vec<PathBuf>,
    /// What a payload type means, such as 96=vp8/90000, again for each
    #[arg(long, value_name = "PT=CODEC/CLOCK")]
    map: Vec<String>,
    /// Which clock tells when packets arrive
    #[arg(long, value_enum, default_value_t)]
    pace: PaceChoice,
    /// Prints one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Which clock tells when packets arrive, and so what jitter, bitrate and durations are measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum PaceChoice {
    /// The capture's stamps
    #[default]
    Capture,
    /// Media time, for captures whose stamps are worthless
    Rtp,
    /// All at once: nothing is measured by time
    Asap,
}

impl From<PaceChoice> for Pace {
    fn from(choice: PaceChoice) -> Self {
        match choice {
            PaceChoice::Capture => Self::Capture,
            PaceChoice::Rtp => Self::Rtp,
            PaceChoice::Asap => Self::Asap,
        }
    }
}

/// What a recording is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A packet capture, classic or ng.
    Capture,
}

impl Kind {
    /// The kind of file that begins with `magic`; `None`: none we know.
    const fn of(magic: [u8; 4]) -> Option<Self> {
        match u32::from_be_bytes(magic) {
            // pcapng's section header reads the same in both byte orders; classic pcap has micro- and
            // nanoseconds in both, and a form with longer record headers.
            0x0a0d_0d0a | 0xa1b2_c3d4 | 0xd4c3_b2a1 | 0xa1b2_3c4d | 0x4d3c_b2a1 | 0x34cd_b2a1 => {
                Some(Self::Capture)
            }
            _ => None,
        }
    }
}

/// Why a replay failed, or ended early.
#[derive(Debug, thiserror::Error)]
enum ReplayError {
    /// A file that was named cannot be read.
    #[error("{path}: {error}")]
    Unreadable { path: String, error: io::Error },
    /// A file or argument that was named says something wrong.
    #[error("{0}")]
    Input(String),
    /// The recording is none.
    #[error("{0}: this is no capture (pcap, pcapng)")]
    UnknownKind(String),
    /// The recording is broken; what could be read was reported.
    #[error("{path}: {error}; the report covers what was read before")]
    Broken {
        path: String,
        error: antiphon_core::replay::CaptureError,
    },
    /// Standard output is closed.
    #[error("the report cannot be written: {0}")]
    Output(io::Error),
}

/// Replays the file and reports on standard output. Anything but a whole, readable file ends in a failure.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let result = kind_of(arguments).and_then(|kind| match kind {
        Kind::Capture => capture::run(arguments),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The last words; if they cannot be said, the exit code still tells.
            writeln!(io::stderr(), "antiphon replay: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

fn kind_of(arguments: &Arguments) -> Result<Kind, ReplayError> {
    let path = || arguments.file.display().to_string();
    let mut magic = Vec::with_capacity(4);
    File::open(&arguments.file)
        .and_then(|file| file.take(4).read_to_end(&mut magic))
        .map_err(|error| ReplayError::Unreadable {
            path: path(),
            error,
        })?;
    let magic = magic.try_into().ok();
    magic
        .and_then(Kind::of)
        .ok_or_else(|| ReplayError::UnknownKind(path()))
}
