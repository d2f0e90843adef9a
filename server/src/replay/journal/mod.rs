//! Journals: a shard played again, event for event, and what came of it.

mod compare;
mod describe;
mod export;
mod find;
mod json;
mod ledger;
mod play;
mod step;
mod table;
mod window;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use antiphon_core::ids::SessionId;
use antiphon_core::journal::{Header, Reader, Witness, redact};
use antiphon_core::rng::Seed;
use antiphon_core::time::Timestamp;
use clap::Args;
use zeroize::Zeroizing;

use self::compare::{Comparison, Side};
use self::export::Export;
use self::ledger::What;
use self::play::{Flow, Manner, Played, Turn, Verdict};
use self::step::Stepper;
pub(super) use self::window::Window;
use super::moment::Moment;
use super::setting::{self, Setting};
use super::turns::{Calls, Shown};
use super::{Input, Outcome, ReplayError, unreadable, unwritable};
use crate::limits::JOURNAL_FILE_BYTES_MAX;
use crate::secret_file;

/// Options that take all of a journal. To narrow them silently would be to write more than was asked for.
const NOT_NARROWED: [&str; 5] = ["diff", "set", "export", "redact", "bisect"];

/// Bytes for which there is room at least when a pipe has filled what there was.
const PIPE_BYTES: usize = 1 << 20;
/// Other names of standard input.
const STANDARD_INPUT: [&str; 3] = ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];

/// What is for journals alone.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options for journals")]
#[group(skip)]
pub(super) struct Options {
    /// Prints nothing from before this time of the journal: seconds, or such as 1m30s
    #[arg(long, value_name = "TIME", conflicts_with_all = NOT_NARROWED)]
    from: Option<Moment>,
    /// Prints nothing from after this time of the journal
    #[arg(long, value_name = "TIME", conflicts_with_all = NOT_NARROWED)]
    until: Option<Moment>,
    /// Prints what concerns this session alone, such as 0-3-1
    #[arg(long, value_name = "ID", conflicts_with_all = NOT_NARROWED)]
    session: Option<SessionId>,
    /// Stops after each turn with something to print: Enter goes on, a number so many turns, q or the end of input ends
    #[arg(long, conflicts_with = "json", group = "mode")]
    step: bool,
    /// Prints each event with its time
    #[arg(long, group = "mode")]
    events: bool,
    /// Compares what comes out with what comes out of another journal
    #[arg(long, value_name = "JOURNAL", group = "mode")]
    diff: Option<PathBuf>,
    /// Writes all datagrams of the run to a new pcapng file, and the SRTP keys to FILE.keys.json
    #[arg(long, value_name = "FILE", group = "mode")]
    export: Option<PathBuf>,
    /// Writes a journal without secrets, contents, addresses and names to a new file
    #[arg(long, value_name = "FILE", conflicts_with = "json", group = "mode")]
    redact: Option<PathBuf>,
    /// Finds the shortest beginning of the journal that still faults a session, or still differs
    #[arg(long, group = "mode")]
    bisect: bool,
    /// With --bisect, writes that as a journal of its own to a new file
    #[arg(long, value_name = "FILE", requires = "bisect")]
    out: Option<PathBuf>,
    /// Plants the bug that tests plant in a server
    #[cfg(feature = "mutations")]
    #[arg(long, hide = true, env = "ANTIPHON_PLANT_FAULT")]
    plant_fault: bool,
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
            (self.diff.is_some(), "--diff"),
            (self.export.is_some(), "--export"),
            (self.redact.is_some(), "--redact"),
            (self.bisect, "--bisect"),
        ];
        let mut given = given.into_iter();
        given.find_map(|(is_given, name)| is_given.then_some(name))
    }

    /// Refuses what can only be a mistake.
    fn check(&self, path: &Path) -> Result<(), ReplayError> {
        let refused = |why: String| Err(ReplayError::Input(why));
        if let (Some(from), Some(until)) = (self.from, self.until)
            && from.0 > until.0
        {
            let (from, until) = (from.0, until.0);
            return refused(format!(
                "--from {from:?} is after --until {until:?}, so nothing lies between"
            ));
        }
        if self.step && STANDARD_INPUT.iter().any(|name| path == Path::new(name)) {
            return refused(
                "--step reads answers from standard input, so the journal cannot come from there"
                    .to_owned(),
            );
        }
        Ok(())
    }

    const fn window(&self) -> Window {
        Window {
            from: self.from,
            until: self.until,
            session: self.session,
        }
    }

    fn manner(&self) -> Manner {
        Manner {
            #[cfg(feature = "mutations")]
            plants_fault: self.plant_fault,
            ..Manner::default()
        }
    }
}

/// An event to print, with its time and whose it is.
#[derive(Debug)]
struct Line {
    at: Timestamp,
    session: Option<SessionId>,
    told: describe::Told,
}

/// A journal in memory.
struct Journal<'a> {
    path: &'a Path,
    bytes: Zeroizing<Vec<u8>>,
}

/// Does what is asked for with the journal and reports on standard output.
pub(super) fn run(
    input: Input<'_>,
    options: &Options,
    settings: &[Setting],
    shown: Shown,
) -> Result<Outcome, ReplayError> {
    let as_json = shown.as_json;
    options.check(input.path)?;
    let journal = Journal::read(input)?;
    let manner = options.manner();
    if let Some(other) = &options.diff {
        let sides =
            [journal, Journal::read(Input::open(other)?)?].map(|journal| journal.side(manner));
        compared(sides, shown)
    } else if !settings.is_empty() {
        let changed = journal.changed_side(manner, settings);
        compared([journal.side(manner), changed], shown)
    } else if let Some(to) = &options.export {
        journal.export(manner, to, as_json)
    } else if let Some(to) = &options.redact {
        print(&mut io::stdout().lock(), &journal.redact(to)?)?;
        Ok(Outcome::Agrees)
    } else if options.bisect {
        find::run(&journal, manner, options.out.as_deref(), as_json)
    } else {
        journal.report(manner, options, shown)
    }
}

fn compared(sides: [Result<Side, ReplayError>; 2], shown: Shown) -> Result<Outcome, ReplayError> {
    let [one, other] = sides;
    let comparison = Comparison {
        sides: [one?, other?],
        with_turns: shown.turns,
    };
    let outcome = match comparison.agrees() {
        true => Outcome::Agrees,
        false => Outcome::Differs,
    };
    let text = match shown.as_json {
        true => comparison.json(),
        false => comparison.text(),
    };
    print(&mut io::stdout().lock(), &text)?;
    comparison.partial().map_or(Ok(outcome), Err)
}

fn print(out: &mut impl io::Write, text: &str) -> Result<(), ReplayError> {
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(ReplayError::Output)
}

impl<'a> Journal<'a> {
    /// The whole file: entries borrow from it, and finding a fault goes over it again and again.
    fn read(input: Input<'a>) -> Result<Self, ReplayError> {
        let (path, len) = (input.path, input.len);
        let too_long = || {
            let max = JOURNAL_FILE_BYTES_MAX >> 20;
            let why = format!("journals are read whole, up to {max} MiB, and it has more");
            unusable(path, &why)
        };
        if len > JOURNAL_FILE_BYTES_MAX {
            return Err(too_long());
        }
        // Of its size at once, so that no copy of the keys in it is left behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(len as usize + 1));
        let mut reader = input.into_reader();
        loop {
            let room = bytes.capacity() - bytes.len();
            let read = reader.by_ref().take(room as u64).read_to_end(&mut bytes);
            if read.map_err(|error| unreadable(path, error))? < room {
                break;
            }
            if bytes.len() as u64 > JOURNAL_FILE_BYTES_MAX {
                return Err(too_long());
            }
            // A pipe does not say how much comes.
            let mut moved = Zeroizing::new(Vec::with_capacity(2 * bytes.len() + PIPE_BYTES));
            moved.extend_from_slice(&bytes);
            bytes = moved;
        }
        Ok(Self { path, bytes })
    }

    fn open(&self) -> Result<(Header, Reader<'_>), ReplayError> {
        Reader::new(&self.bytes).map_err(|error| unusable(self.path, &error.to_string()))
    }

    /// The same of a journal that is to be played, and not only shown.
    fn to_play(&self) -> Result<(Header, Reader<'_>), ReplayError> {
        let (header, reader) = self.open()?;
        if header.redacted {
            let why = "secrets and names were taken out, so it can be shown and not played";
            return Err(unusable(self.path, why));
        }
        Ok((header, reader))
    }

    fn play(
        &self,
        (header, reader): (&Header, Reader<'_>),
        manner: Manner,
        witness: &mut impl Witness,
        on_turn: impl FnMut(&Turn<'_>) -> Flow,
    ) -> Result<Played, ReplayError> {
        let len = self.bytes.len() as u64;
        play::play(header, reader, len, manner, witness, on_turn)
            .map_err(|error| unusable(self.path, &error.to_string()))
    }

    fn side(&self, manner: Manner) -> Result<Side, ReplayError> {
        let (header, reader) = self.to_play()?;
        self.play_side(self.path.display().to_string(), &header, reader, manner)
    }

    /// The same by other numbers.
    fn changed_side(&self, manner: Manner, settings: &[Setting]) -> Result<Side, ReplayError> {
        let (mut header, reader) = self.to_play()?;
        header.tuning = setting::apply(settings, header.tuning)?;
        let names: Vec<_> = settings.iter().map(Setting::text).collect();
        let manner = Manner {
            on_its_own_time: true,
            ..manner
        };
        self.play_side(names.join(", "), &header, reader, manner)
    }

    fn play_side(
        &self,
        name: String,
        header: &Header,
        reader: Reader<'_>,
        manner: Manner,
    ) -> Result<Side, ReplayError> {
        let (mut events, mut calls) = (Vec::new(), Calls::default());
        let keep = |turn: &Turn<'_>| compare::keep(&mut events, turn);
        let played = self.play((header, reader), manner, &mut calls, keep)?;
        Ok(Side {
            name,
            verdict: played.verdict(header),
            partial: self.partial(header, &played),
            played,
            events,
            calls,
        })
    }

    fn export(&self, manner: Manner, to: &Path, as_json: bool) -> Result<Outcome, ReplayError> {
        let (header, reader) = self.to_play()?;
        if header.payloads == antiphon_core::journal::Payloads::Headers {
            let why = "payloads of media were not recorded, so there is nothing to export";
            return Err(unusable(self.path, why));
        }
        let mut export = Export::start(to, &header)?;
        let go_on = |_: &Turn<'_>| Flow::Continue;
        let played = self.play((&header, reader), manner, &mut export, go_on)?;
        let datagrams = export.datagrams;
        let keys = export.finish()?;
        let window = Window::default();
        let mut text = if as_json {
            json::object(&header, &played, &window, None, None)
        } else {
            table::text(&header, &played, &window, None)
        };
        if !as_json {
            text.push_str(&format!("{datagrams} datagrams in {}\n", to.display()));
            if let Some(keys) = keys {
                let (to, keys) = (to.display(), keys.display());
                text.push_str(&format!(
                    "open it with: antiphon replay {to} --keys {keys}\n"
                ));
            }
        }
        print(&mut io::stdout().lock(), &text)?;
        self.outcome(&header, &played)
    }

    fn redact(&self, to: &Path) -> Result<String, ReplayError> {
        let mut salt = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(&mut *salt)
            .map_err(|_| ReplayError::Input("the system gives no random numbers".to_owned()))?;
        let redacted = redact(&self.bytes, &Seed::new(*salt));
        let (bytes, error) = redacted.map_err(|error| unusable(self.path, &error.to_string()))?;
        secret_file::write(to, &bytes).map_err(|error| unwritable(to, error))?;
        match error {
            Some(error) => Err(ReplayError::Partial {
                path: self.path.display().to_string(),
                why: error.to_string(),
            }),
            None => Ok(format!("{} bytes in {}\n", bytes.len(), to.display())),
        }
    }

    fn report(
        &self,
        manner: Manner,
        options: &Options,
        shown: Shown,
    ) -> Result<Outcome, ReplayError> {
        let as_json = shown.as_json;
        let (header, reader) = self.open()?;
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
                    lines.extend(events(turn, &window));
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
        let mut calls = Calls::within(window);
        let played = self.play((&header, reader), manner, &mut calls, on_turn)?;
        if let Some(error) = failed {
            return Err(ReplayError::Output(error));
        }
        window
            .check(&played)
            .map_err(|why| unusable(self.path, &why))?;
        let calls = shown.turns.then_some(&calls);
        let text = if as_json {
            let lines = options.events.then_some(&*lines);
            json::object(&header, &played, &window, lines, calls)
        } else {
            table::text(&header, &played, &window, calls)
        };
        print(&mut out, &text)?;
        self.outcome(&header, &played)
    }

    fn outcome(&self, header: &Header, played: &Played) -> Result<Outcome, ReplayError> {
        if played.verdict(header) == Verdict::Differs {
            return Ok(Outcome::Differs);
        }
        self.partial(header, played)
            .map_or(Ok(Outcome::Agrees), Err)
    }

    /// Why the journal tells no more than a part of the run; `None`: it tells all.
    fn partial(&self, header: &Header, played: &Played) -> Option<ReplayError> {
        played.shortfall(header)?;
        Some(ReplayError::Partial {
            path: self.path.display().to_string(),
            why: table::why(header, played),
        })
    }
}

fn print_events(out: &mut impl io::Write, turn: &Turn<'_>, window: &Window) -> io::Result<Flow> {
    for Line { at, session, told } in events(turn, window) {
        let session = session.map_or("-".to_owned(), |session| session.to_string());
        writeln!(out, "{at}  {session:<9}  {}", told.text())?;
    }
    Ok(Flow::Continue)
}

/// The events of a turn that are within the window.
fn events<'t>(turn: &'t Turn<'_>, window: &Window) -> impl Iterator<Item = Line> + use<'t> {
    let window = *window;
    turn.passed
        .iter()
        .filter_map(move |passed| match &passed.what {
            What::Event(told) if window.has_session(passed.session) => Some(Line {
                at: passed.at,
                session: passed.session,
                told: told.clone(),
            }),
            _ => None,
        })
}

fn unusable(path: &Path, why: &str) -> ReplayError {
    ReplayError::Input(format!("{}: {why}", path.display()))
}
