//! Journals: a shard played again, event for event, and what came of it.

mod describe;
mod json;
mod ledger;
mod play;
mod step;
mod table;
mod window;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use antiphon_core::ids::SessionId;
use antiphon_core::journal::{Header, Reader};
use clap::Args;
use zeroize::Zeroizing;

use self::ledger::What;
use self::play::{Flow, Played, Turn, Verdict};
use self::step::Stepper;
use self::window::{Moment, Window};
use super::{Outcome, ReplayError};
use crate::limits::JOURNAL_FILE_BYTES_MAX;

/// What is for journals alone.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options for journals")]
#[group(skip)]
pub(super) struct Options {
    /// Prints nothing from before this time of the journal: seconds, or such as 1m30s
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Prints nothing from after this time of the journal
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Prints what concerns this session alone, such as 0-3-1
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// Stops after each turn with something to print: Enter goes on, a number so many turns, q ends
    #[arg(long, conflicts_with = "json")]
    step: bool,
    /// Prints each event with its time
    #[arg(long)]
    events: bool,
}

impl Options {
    /// The first of them that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let given = [
            (self.from.is_some(), "--from"),
            (self.until.is_some(), "--until"),
            (self.session.is_some(), "--session"),
            (self.step, "--step"),
            (self.events, "--events"),
        ];
        let mut given = given.into_iter();
        given.find_map(|(is_given, name)| is_given.then_some(name))
    }

    const fn window(&self) -> Window {
        Window {
            from: self.from,
            until: self.until,
            session: self.session,
        }
    }
}

/// An event to print, with its time and whose it is.
#[derive(Debug)]
struct Line {
    now: antiphon_core::time::Timestamp,
    session: Option<SessionId>,
    told: describe::Told,
}

/// Plays the journal and reports on standard output.
pub(super) fn run(path: &Path, options: &Options, as_json: bool) -> Result<Outcome, ReplayError> {
    let bytes = read(path)?;
    let (header, reader) = open(path, &bytes)?;
    let window = options.window();
    let mut stepper = options.step.then(Stepper::default);
    let mut out = io::stdout().lock();
    let mut lines = Vec::new();
    let mut failed = None;
    let on_turn = |turn: &Turn<'_>| {
        if !window.has_time(turn.now) {
            return Flow::Continue;
        }
        let shown = match &mut stepper {
            Some(stepper) => stepper.show(&mut out, turn, &window),
            None if options.events && as_json => {
                lines.extend(events(turn, &window).map(|(session, told)| Line {
                    now: turn.now,
                    session,
                    told: told.clone(),
                }));
                Ok(Flow::Continue)
            }
            None if options.events => print_events(&mut out, turn, &window),
            None => Ok(Flow::Continue),
        };
        shown.unwrap_or_else(|error| {
            failed = Some(error);
            Flow::Stop
        })
    };
    let played = play::play(&header, reader, bytes.len() as u64, on_turn)
        .map_err(|error| unusable(path, &error.to_string()))?;
    if let Some(error) = failed {
        return Err(ReplayError::Output(error));
    }
    let text = if as_json {
        json::object(&header, &played, &window, options.events.then_some(&*lines))
    } else {
        table::text(&header, &played, &window)
    };
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(ReplayError::Output)?;
    outcome(path, &header, &played)
}

fn outcome(path: &Path, header: &Header, played: &Played) -> Result<Outcome, ReplayError> {
    match played.verdict(header) {
        Verdict::Exact | Verdict::Stopped => Ok(Outcome::Agrees),
        Verdict::Differs => Ok(Outcome::Differs),
        Verdict::CutOff | Verdict::Damaged | Verdict::Lossy | Verdict::HeadersOnly => {
            Err(ReplayError::Partial {
                path: path.display().to_string(),
                why: table::why(header, played),
            })
        }
    }
}

fn print_events(out: &mut impl io::Write, turn: &Turn<'_>, window: &Window) -> io::Result<Flow> {
    for (session, told) in events(turn, window) {
        let session = session.map_or("-".to_owned(), |session| session.to_string());
        writeln!(out, "{}  {session:<9}  {}", turn.now, told.text())?;
    }
    Ok(Flow::Continue)
}

/// The events of a turn that are within the window.
fn events<'t>(
    turn: &'t Turn<'_>,
    window: &Window,
) -> impl Iterator<Item = (Option<SessionId>, &'t describe::Told)> {
    turn.passed.iter().filter_map(|passed| match &passed.what {
        What::Event(told) if window.has_session(passed.session) => Some((passed.session, told)),
        _ => None,
    })
}

/// The whole file: entries borrow from it, and finding a fault goes over it again and again.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, ReplayError> {
    let unreadable = |error| ReplayError::Unreadable {
        path: path.display().to_string(),
        error,
    };
    let file = File::open(path).map_err(unreadable)?;
    let len = file.metadata().map_err(unreadable)?.len();
    if len > JOURNAL_FILE_BYTES_MAX {
        let (len, max) = (len >> 20, JOURNAL_FILE_BYTES_MAX >> 20);
        let why = format!("it has {len} MiB, and journals are read into memory up to {max} MiB");
        return Err(unusable(path, &why));
    }
    // Of its size at once, so that no copy of the keys in it is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(len as usize + 1));
    file.take(JOURNAL_FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Ok(bytes)
}

fn open<'a>(path: &Path, bytes: &'a [u8]) -> Result<(Header, Reader<'a>), ReplayError> {
    Reader::new(bytes).map_err(|error| unusable(path, &error.to_string()))
}

fn unusable(path: &Path, why: &str) -> ReplayError {
    ReplayError::Input(format!("{}: {why}", path.display()))
}
