//! `antiphon replay`: plays a recording again. What kind it is, its first bytes tell.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

/// The arguments of `antiphon replay`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// The recording: a packet capture (pcap or pcapng)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Prints one JSON object instead of a table
    #[arg(long)]
    json: bool,
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

/// Replays the file and reports on standard output. Anything but a whole, readable file ends in a failure.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    match kind_of(arguments) {
        Ok(Some(Kind::Capture)) => failed(arguments, "captures are not read yet"),
        Ok(None) => failed(arguments, "it is no capture (pcap, pcapng)"),
        Err(error) => failed(arguments, &error.to_string()),
    }
}

fn kind_of(arguments: &Arguments) -> io::Result<Option<Kind>> {
    let mut magic = Vec::with_capacity(4);
    File::open(&arguments.file)?
        .take(4)
        .read_to_end(&mut magic)?;
    Ok(magic.try_into().ok().and_then(Kind::of))
}

fn failed(arguments: &Arguments, error: &str) -> ExitCode {
    let file = arguments.file.display();
    // The last words; if they cannot be said, the exit code still tells.
    writeln!(io::stderr(), "antiphon replay: {file}: {error}").ok();
    ExitCode::FAILURE
}
