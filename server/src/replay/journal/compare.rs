//! Two replays side by side: of two journals, or of one by other numbers.

use std::collections::BTreeSet;

use antiphon_core::ids::SessionId;
use antiphon_core::time::Timestamp;
use serde_json::{Value, json};

use super::describe::Told;
use super::json::seconds;
use super::ledger::{SessionRow, What};
use super::play::{Flow, Played, Turn, Verdict};
use crate::replay::ReplayError;
use crate::replay::columns::{self, line};
use crate::replay::turns::{self, Calls};

/// One of the two.
pub(super) struct Side {
    pub(super) name: String,
    /// What its own replay showed.
    pub(super) verdict: Verdict,
    /// Why it is no more than a part of the run.
    pub(super) partial: Option<ReplayError>,
    pub(super) played: Played,
    pub(super) events: Vec<Event>,
    pub(super) calls: Calls,
}

/// An event of one of them.
#[derive(Debug)]
pub(super) struct Event {
    at: Timestamp,
    session: Option<SessionId>,
    told: Told,
}

impl Event {
    /// Whether another run of the same call tells the same, whenever it does.
    fn agrees(&self, other: &Self) -> bool {
        let (one, other_told) = (&self.told, &other.told);
        self.session == other.session && one.kind == other_told.kind && one.what == other_told.what
    }

    fn text(&self) -> String {
        let session = self
            .session
            .map_or("-".to_owned(), |session| session.to_string());
        format!("{}  {session}  {}", self.at, self.told.text())
    }
}

/// Keeps the events of a turn.
pub(super) fn keep(events: &mut Vec<Event>, turn: &Turn<'_>) -> Flow {
    for passed in turn.passed {
        if let What::Event(told) = &passed.what {
            events.push(Event {
                at: passed.at,
                session: passed.session,
                told: told.clone(),
            });
        }
    }
    Flow::Continue
}

/// Two replays.
pub(super) struct Comparison {
    pub(super) sides: [Side; 2],
    /// Turns are wanted too.
    pub(super) with_turns: bool,
}

impl Comparison {
    /// Whether they told the same, and sent as much to each session.
    pub(super) fn agrees(&self) -> bool {
        let mut sessions = self.sessions().into_iter();
        self.first().is_none() && sessions.all(|session| !self.differs_in(session))
    }

    /// Why one of them is no more than a part, so that neither likeness nor difference says anything of what is
    /// missing.
    pub(super) fn partial(self) -> Option<ReplayError> {
        self.sides.into_iter().find_map(|side| side.partial)
    }

    /// The number of the first event that differs, from 1.
    fn first(&self) -> Option<usize> {
        let [one, other] = self.sides.each_ref().map(|side| &side.events);
        let agreeing = one
            .iter()
            .zip(other)
            .take_while(|(one, other)| one.agrees(other));
        let agreeing = agreeing.count();
        (agreeing < one.len().max(other.len())).then_some(agreeing + 1)
    }

    fn sessions(&self) -> BTreeSet<SessionId> {
        let sides = self.sides.iter();
        sides
            .flat_map(|side| side.played.ledger.sessions.keys().copied())
            .collect()
    }

    /// `None`: it is not there.
    fn rows(&self, session: SessionId) -> [Option<&SessionRow>; 2] {
        let sides = self.sides.each_ref();
        sides.map(|side| side.played.ledger.sessions.get(&session))
    }

    fn differs_in(&self, session: SessionId) -> bool {
        let figures = |row: Option<&SessionRow>| {
            let row = row?;
            let reason = row.closed.map(|(_, reason)| reason);
            Some((row.events, row.received, row.sent, reason))
        };
        let [one, other] = self.rows(session);
        figures(one) != figures(other)
    }

    fn kinds(&self) -> BTreeSet<&'static str> {
        let sides = self.sides.iter();
        sides
            .flat_map(|side| side.played.ledger.events.keys().copied())
            .collect()
    }

    fn count(&self, kind: &str) -> [u64; 2] {
        let of = |side: &Side| side.played.ledger.events.get(kind).copied().unwrap_or(0);
        self.sides.each_ref().map(of)
    }

    /// For a person.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (side, number) in self.sides.iter().zip(1..) {
            let (name, verdict) = (&side.name, side.verdict.name());
            line(&mut text, &format!("{number}: {name} ({verdict})"));
        }
        text.push('\n');
        match self.first() {
            None => line(&mut text, "they tell the same events"),
            Some(number) => {
                line(
                    &mut text,
                    &format!("the first event that differs is number {number}"),
                );
                for (side, name) in self.sides.iter().zip(["1", "2"]) {
                    let event = side.events.get(number - 1);
                    let event = event.map_or("no more events".to_owned(), Event::text);
                    line(&mut text, &format!("  {name}: {event}"));
                }
            }
        }
        text.push('\n');
        let kinds = self.kinds().into_iter().map(|kind| {
            let [one, other] = self.count(kind);
            [
                kind.to_owned(),
                one.to_string(),
                other.to_string(),
                mark(one != other),
            ]
        });
        let kinds: Vec<_> = kinds.collect();
        columns::write(&mut text, ["events", "1", "2", ""], 1, &kinds);
        text.push('\n');
        let sessions: Vec<_> = self.sessions().into_iter().map(|it| self.row(it)).collect();
        let head = [
            "session", "ended 1", "ended 2", "events 1", "2", "sent 1", "2", "",
        ];
        columns::write(&mut text, head, 3, &sessions);
        if self.with_turns {
            turns::write_sides(&mut text, self.calls());
        }
        text
    }

    fn row(&self, session: SessionId) -> [String; 8] {
        let [one, other] = self.rows(session);
        let ended = |row: Option<&SessionRow>| match row.map(|row| row.closed) {
            Some(Some((at, reason))) => format!("{at} {}", reason.name()),
            Some(None) => "still open".to_owned(),
            None => "-".to_owned(),
        };
        let count = |row: Option<&SessionRow>, of: fn(&SessionRow) -> u64| {
            row.map_or("-".to_owned(), |row| of(row).to_string())
        };
        [
            session.to_string(),
            ended(one),
            ended(other),
            count(one, |row| row.events),
            count(other, |row| row.events),
            count(one, |row| row.sent),
            count(other, |row| row.sent),
            mark(self.differs_in(session)),
        ]
    }

    /// For a program.
    pub(super) fn json(&self) -> String {
        let both =
            |of: &dyn Fn(&Side) -> Value| -> Vec<Value> { self.sides.iter().map(of).collect() };
        let event = |event: &Event| {
            json!({
                "at": seconds(event.at),
                "session": event.session.map(|session| session.to_string()),
                "event": event.told.kind,
                "what": event.told.what,
            })
        };
        let first = self.first().map(|number| {
            let events = both(&|side| side.events.get(number - 1).map(event).into());
            json!({"number": number, "events": events})
        });
        let kinds = self.kinds().into_iter();
        let kinds: serde_json::Map<_, _> = kinds
            .map(|kind| (kind.to_owned(), json!(self.count(kind))))
            .collect();
        let sessions = self.sessions().into_iter().map(|session| {
            let rows = self.rows(session);
            let both = |of: fn(&SessionRow) -> Value| rows.map(|row| row.map(of));
            json!({
                "session": session.to_string(),
                "events": both(|row| row.events.into()),
                "received": both(|row| row.received.into()),
                "sent": both(|row| row.sent.into()),
                "closed": both(|row| row.closed.map(|(at, _)| seconds(at)).into()),
                "reason": both(|row| row.closed.map(|(_, reason)| reason.name()).into()),
                "differs": self.differs_in(session),
            })
        });
        let mut object = json!({
            "kind": "comparison",
            "agrees": self.agrees(),
            "names": both(&|side| side.name.clone().into()),
            "verdicts": both(&|side| side.verdict.name().into()),
            "first_difference": first,
            "events": kinds,
            "sessions": sessions.collect::<Vec<_>>(),
        });
        if self.with_turns {
            object["turns"] = turns::of_sides(self.calls());
        }
        format!("{object:#}\n")
    }

    fn calls(&self) -> [&Calls; 2] {
        self.sides.each_ref().map(|side| &side.calls)
    }
}

fn mark(differs: bool) -> String {
    if differs { "!" } else { "" }.to_owned()
}
