//! A replay that waits for whoever watches it, beside a debugger.

use std::io::{self, BufRead as _, Read as _, Write};

use antiphon_core::ids::SessionId;

use super::ledger::{Flew, What};
use super::play::{Flow, Turn};
use super::window::Window;

/// Bytes of an answer; more are another one.
const ANSWER_BYTES: u64 = 256;

/// Shows turns and waits.
#[derive(Debug, Default)]
pub(super) struct Stepper {
    /// Turns to show before the next stop.
    ahead: u64,
}

impl Stepper {
    /// Shows what of a turn is within the window; waits, if anything is.
    pub(super) fn show(
        &mut self,
        out: &mut impl Write,
        turn: &Turn<'_>,
        window: &Window,
    ) -> io::Result<Flow> {
        let mut is_empty = true;
        for passed in turn.passed {
            if !window.has_session(passed.session) {
                continue;
            }
            if std::mem::take(&mut is_empty) {
                writeln!(out, "turn {} at {}", turn.number, turn.now)?;
            }
            writeln!(out, "  {}", line(passed.session, &passed.what))?;
        }
        if is_empty {
            return Ok(Flow::Continue);
        }
        self.ahead = self.ahead.saturating_sub(1);
        if self.ahead > 0 {
            return Ok(Flow::Continue);
        }
        self.ask(out)
    }

    /// Whoever does not answer any more wants no more.
    fn ask(&mut self, out: &mut impl Write) -> io::Result<Flow> {
        loop {
            write!(out, "[Enter, number, q] ")?;
            out.flush()?;
            let mut answer = Vec::new();
            let mut input = io::stdin().lock().take(ANSWER_BYTES);
            if input.read_until(b'\n', &mut answer).unwrap_or(0) == 0 {
                writeln!(out)?;
                return Ok(Flow::Stop);
            }
            let answer = String::from_utf8_lossy(&answer);
            match answer.trim() {
                "" => return Ok(Flow::Continue),
                "q" => return Ok(Flow::Stop),
                number => match number.parse() {
                    Ok(ahead) => {
                        self.ahead = ahead;
                        return Ok(Flow::Continue);
                    }
                    Err(_) => writeln!(
                        out,
                        "Enter goes on to the next turn, a number (such as 5) shows so many, q ends"
                    )?,
                },
            }
        }
    }
}

fn line(session: Option<SessionId>, what: &What) -> String {
    let session = session.map_or("-".to_owned(), |session| session.to_string());
    match what {
        What::Command(text) => format!("command   {session:<9}  {text}"),
        What::Event(told) => format!("event     {session:<9}  {}", told.text()),
        What::Received(flew) => format!("received  {session:<9}  {}", datagram(flew, "from")),
        What::Sent(flew) => format!("sent      {session:<9}  {}", datagram(flew, "to")),
    }
}

fn datagram(flew: &Flew, preposition: &str) -> String {
    let Flew { path, class, len } = flew;
    format!("{class} of {len} bytes {preposition} {}", path.remote)
}
