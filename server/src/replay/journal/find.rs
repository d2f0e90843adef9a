//! `--bisect`: the shortest beginning of a journal that still faults a session, or still differs.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use antiphon_core::journal::{Found, Header, LastInput, Reader, Shown, bisect};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::describe;
use super::json::seconds;
use super::play::{Flow, Manner, Played, Turn, Verdict};
use super::{Journal, print, table, unusable};
use crate::replay::{Outcome, ReplayError, unwritable};
use crate::secret_file;

/// What a search found, and the words of the panic that made the fault.
struct Told {
    found: Found,
    panic: Option<String>,
}

/// Searches the journal and tells what was found; writes the prefix to `out`.
pub(super) fn run(
    journal: &Journal<'_>,
    manner: Manner,
    out: Option<&Path>,
    as_json: bool,
) -> Result<Outcome, ReplayError> {
    let (header, reader) = journal.to_play()?;
    let words = Arc::<Mutex<Option<String>>>::default();
    let heard = Arc::clone(&words);
    // The same panic comes with each try, and it is told once.
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        *heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic.to_string());
    }));
    let searched = search(journal, &header, reader, manner);
    std::panic::set_hook(before);
    let (played, found) = searched?;
    let mut stdout = io::stdout().lock();
    let Some(mut found) = found else {
        let text = if as_json {
            format!("{:#}\n", json!({"kind": "bisect", "found": Value::Null}))
        } else {
            "no session faults, and nothing differs\n".to_owned()
        };
        print(&mut stdout, &text)?;
        return journal
            .partial(&header, &played)
            .map_or(Ok(Outcome::Agrees), Err);
    };
    let prefix = std::mem::take(&mut found.prefix);
    if let Some(out) = out {
        secret_file::write(out, &prefix).map_err(|error| unwritable(out, error))?;
    }
    let panic = words.lock().unwrap_or_else(PoisonError::into_inner).take();
    let told = Told { found, panic };
    let text = if as_json {
        told.json(prefix.len())
    } else {
        told.text(prefix.len(), journal.bytes.len(), out)
    };
    print(&mut stdout, &text)?;
    Ok(Outcome::Differs)
}

/// Plays the journal and, if that shows a fault or a difference that is no hole in the recording, searches for it.
fn search(
    journal: &Journal<'_>,
    header: &Header,
    reader: Reader<'_>,
    manner: Manner,
) -> Result<(Played, Option<Found>), ReplayError> {
    let go_on = |_: &Turn<'_>| Flow::Continue;
    let played = journal.play((header, reader), manner, &mut (), go_on)?;
    if played.faults.is_empty() && played.verdict(header) != Verdict::Differs {
        return Ok((played, None));
    }
    let found = bisect(&journal.bytes, |player| manner.prepare(player))
        .map_err(|error| unusable(journal.path, &error.to_string()))?;
    Ok((played, found))
}

impl Told {
    fn text(&self, prefix: usize, whole: usize, out: Option<&Path>) -> String {
        let Found {
            shown,
            turn,
            now,
            inputs: (least, all),
            input,
            plays,
            ..
        } = &self.found;
        let mut text = match shown {
            Shown::Fault(session) => format!("session {session} faults in turn {turn} at {now}\n"),
            Shown::Difference(difference) => {
                format!("differs: {}\n", table::first_difference(difference))
            }
        };
        if let Some(panic) = &self.panic {
            text.push_str("  panic   ");
            text.push_str(&panic.replace('\n', "\n          "));
            text.push('\n');
        }
        let input = match input {
            LastInput::Timer => "a timer".to_owned(),
            LastInput::Command => "a command".to_owned(),
            LastInput::Relay(from) => format!("what shard {} said", from.0),
            LastInput::Datagram {
                source,
                len,
                header,
            } => {
                let class = describe::class(header);
                let header = HEXLOWER.encode(header);
                format!("{class} of {len} bytes from {source}, its header {header}")
            }
        };
        let written = writeln!(
            text,
            "  by      {input}: the last of {least} inputs, of the {all} of its turn\n  \
             prefix  {prefix} of {whole} bytes, after {plays} plays"
        );
        written.expect("a string takes what is written to it");
        if let Some(out) = out {
            writeln!(text, "  written to {}", out.display())
                .expect("a string takes what is written to it");
        }
        text
    }

    fn json(&self, prefix: usize) -> String {
        let found = &self.found;
        let (session, difference) = match &found.shown {
            Shown::Fault(session) => (Some(session.to_string()), None),
            Shown::Difference(difference) => (None, Some(table::differs(&difference.what))),
        };
        let input = match &found.input {
            LastInput::Timer => json!({"kind": "timer"}),
            LastInput::Command => json!({"kind": "command"}),
            LastInput::Relay(from) => json!({"kind": "relay", "shard": from.0}),
            LastInput::Datagram {
                source,
                len,
                header,
            } => json!({
                "kind": describe::class(header),
                "source": source.to_string(),
                "bytes": len,
                "header": HEXLOWER.encode(header),
            }),
        };
        let (least, all) = found.inputs;
        let object = json!({
            "kind": "bisect",
            "found": {
                "fault": session,
                "difference": difference,
                "turn": found.turn,
                "at": seconds(found.now),
                "input": input,
                "inputs": least,
                "inputs_of_turn": all,
                "panic": self.panic,
                "plays": found.plays,
                "prefix_bytes": prefix,
            },
        });
        format!("{object:#}\n")
    }
}
