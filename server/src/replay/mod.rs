//! `antiphon replay`: plays a recording again. What kind it is, its first bytes tell.

mod capture;
mod columns;
mod confirmed;
mod journal;
mod json;
mod keys;
mod moment;
mod setting;
mod table;
mod turns;
mod warnings;
mod wav;

use std::fs::File;
use std::io::{self, Cursor, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use antiphon_core::journal::MAGIC;
use clap::Args;

use self::setting::Setting;
use self::turns::Shown;
use crate::progress::Progress;

/// Of a replay that differs from the run.
const EXIT_DIFFERS: u8 = 1;
/// Of a recording that cannot be read, or not to its end, and of arguments that are wrong.
pub(crate) const EXIT_FAILED: u8 = 2;
/// Whoever read what we said reads no more: as if the signal of that had ended us.
pub(crate) const EXIT_UNHEARD: u8 = 128 + 13;

/// Bytes of a file from which one waits: half a second's work.
const WAITED_BYTES_MIN: u64 = 64 << 20;

/// The arguments of `antiphon replay`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "A journal enters at the height of the socket: the shard it was recorded from is played again, event \
                        for event (docs/journal.md). Captures enter at the height of their packets: RTP is counted, \
                        and SRTP opened first where there are keys (docs/replay.md).\n\n\
                        Exit code: 0 if it was read to its end and a journal came out as recorded, 1 if a journal \
                        came out otherwise, 2 if not all of it could be read."
)]
pub struct Arguments {
    /// The recording: a journal of `antiphon serve --journal`, or a packet capture (pcap or pcapng)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Prints one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Prints when turns began and ended, and why: of a capture those that a call with an agent would have told of each
    /// stream of sound, of a journal those of its calls with agents
    #[arg(long, conflicts_with_all = ["step", "events", "export", "redact", "bisect"])]
    turns: bool,
    /// Decides by another number, again for each. Of turns: voice.preset=eager, voice.pause_ms=120 and so on. A journal
    /// is compared with the run as it was recorded; there are numbers of the shard too, such as
    /// keyframe_request_interval=250ms (see docs/replay.md and docs/journal.md)
    #[arg(long, value_name = "NAME=VALUE", group = "mode")]
    set: Vec<Setting>,
    #[command(flatten)]
    journal: journal::Options,
    #[command(flatten)]
    capture: capture::Options,
}

/// What a recording is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A packet capture, classic or ng.
    Capture,
    /// A journal of a shard.
    Journal,
}

impl Kind {
    /// The kind of file that begins with `first`; `None`: none we know.
    fn of(first: &[u8]) -> Option<Self> {
        if first.starts_with(&MAGIC) {
            return Some(Self::Journal);
        }
        match u32::from_be_bytes(*first.first_chunk()?) {
            // pcapng's section header reads the same in both byte orders; classic pcap has micro- and
            // nanoseconds in both, and a form with longer record headers.
            0x0a0d_0d0a | 0xa1b2_c3d4 | 0xd4c3_b2a1 | 0xa1b2_3c4d | 0x4d3c_b2a1 | 0x34cd_b2a1 => {
                Some(Self::Capture)
            }
            _ => None,
        }
    }
}

/// What a replay came to that was not in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing is known to differ.
    Agrees,
    /// A journal came out otherwise than it was recorded.
    Differs,
}

/// Why a replay failed, or ended early.
#[derive(Debug, thiserror::Error)]
enum ReplayError {
    /// A file that was named cannot be read.
    #[error("{path}: {error}")]
    Unreadable { path: String, error: io::Error },
    /// A file cannot be made.
    #[error("{path}: {error}{advice}")]
    Unwritable {
        path: String,
        error: io::Error,
        advice: &'static str,
    },
    /// A file or argument that was named says something wrong.
    #[error("{0}")]
    Input(String),
    /// The recording is none.
    #[error("{0}: this is neither a journal nor a capture (pcap, pcapng)")]
    UnknownKind(String),
    /// The recording is broken; what could be read was reported.
    #[error("{path}: {error}; the report covers what was read before")]
    Broken {
        path: String,
        error: antiphon_core::replay::CaptureError,
    },
    /// A journal does not hold the whole run; what could be played was reported.
    #[error("{path}: {why}; the report covers what could be played")]
    Partial { path: String, why: String },
    /// An option is for the other kind of recording.
    #[error("{option} is for {wanted}, and {path} is {found}")]
    OtherKind {
        option: &'static str,
        wanted: &'static str,
        path: String,
        found: &'static str,
    },
    /// Standard output is closed.
    #[error("the report cannot be written: {0}")]
    Output(io::Error),
}

/// The bar of a file of so many bytes.
fn progress(len: u64) -> Progress {
    Progress::new(len, len >= WAITED_BYTES_MIN)
}

/// What stands behind the bar.
fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn unwritable(path: &Path, error: io::Error) -> ReplayError {
    let advice = match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound => {
            "; it must be a new file in a folder that is there"
        }
        _ => "",
    };
    let path = path.display().to_string();
    ReplayError::Unwritable {
        path,
        error,
        advice,
    }
}

/// Replays the file and reports on standard output. Anything but a whole, readable file ends in a failure.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    match replay(arguments) {
        Ok(Outcome::Agrees) => ExitCode::SUCCESS,
        Ok(Outcome::Differs) => ExitCode::from(EXIT_DIFFERS),
        Err(ReplayError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::from(EXIT_UNHEARD)
        }
        Err(error) => {
            // The last words; if they cannot be said, the exit code still tells.
            writeln!(io::stderr(), "antiphon replay: {error}").ok();
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn replay(arguments: &Arguments) -> Result<Outcome, ReplayError> {
    let (path, journal, capture) = (&arguments.file, &arguments.journal, &arguments.capture);
    let other_kind = |option, wanted, found| ReplayError::OtherKind {
        option,
        wanted,
        path: path.display().to_string(),
        found,
    };
    let shown = Shown {
        turns: arguments.turns,
        as_json: arguments.json,
    };
    let input = Input::open(path)?;
    match Kind::of(&input.first) {
        Some(Kind::Capture) => match journal.given().or_else(|| arguments.for_journals()) {
            Some(option) => Err(other_kind(option, "journals", "a capture")),
            None => capture::run(input, capture, &arguments.set, shown).map(|()| Outcome::Agrees),
        },
        Some(Kind::Journal) => match capture.given() {
            Some(option) => Err(other_kind(option, "captures", "a journal")),
            None => journal::run(input, journal, &arguments.set, shown),
        },
        None => {
            let unknown = ReplayError::UnknownKind(path.display().to_string());
            if arguments.json {
                capture::run_on_nothing(&unknown.to_string())?;
            }
            Err(unknown)
        }
    }
}

impl Arguments {
    /// What is for both kinds, and was given in a way that is for journals alone.
    fn for_journals(&self) -> Option<&'static str> {
        let is_of_shard = !self.set.iter().all(Setting::is_of_turns);
        is_of_shard.then_some("--set of anything but voice.NAME")
    }
}

/// A recording whose first bytes were read. It is opened once, as a pipe gives everything once.
struct Input<'a> {
    path: &'a Path,
    first: Vec<u8>,
    rest: File,
    /// Bytes of a file; 0 of a pipe.
    len: u64,
}

impl<'a> Input<'a> {
    fn open(path: &'a Path) -> Result<Self, ReplayError> {
        let unreadable = |error| unreadable(path, error);
        let rest = File::open(path).map_err(unreadable)?;
        let len = rest.metadata().map_err(unreadable)?.len();
        let mut first = Vec::with_capacity(MAGIC.len());
        let read = (&rest).take(MAGIC.len() as u64).read_to_end(&mut first);
        read.map_err(unreadable)?;
        Ok(Self {
            path,
            first,
            rest,
            len,
        })
    }

    /// All of it.
    fn into_reader(self) -> impl Read {
        Cursor::new(self.first).chain(self.rest)
    }
}

fn unreadable(path: &Path, error: io::Error) -> ReplayError {
    let path = path.display().to_string();
    ReplayError::Unreadable { path, error }
}
