//! Turns for a person, and for a program.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::slice::Iter;

use antiphon_core::ids::SessionId;
use antiphon_core::voice::message::{CallTime, EndReason, TurnEnd, TurnId, VoiceEvent};
use serde_json::{Map, Value, json};

use super::summary::Summary;
use super::{AllHeard, Calls, HeardStream, Log};
use crate::agent::describe_voice;
use crate::limits::HEARD_STREAMS_MAX;
use crate::replay::columns::{self, line};

const HEAD: [&str; 8] = [
    "event", "why", "at s", "turn", "from s", "to s", "after ms", "sure",
];
const SIDES_HEAD: [&str; 7] = ["1", "2", "", "at s", "turn", "after ms 1", "2"];

impl Log {
    /// Events, each as the timeline of a call has it and with its name.
    fn events_json(&self) -> Value {
        let events = self.events.iter().filter_map(|event| {
            let mut value = describe_voice(*event)?;
            value["event"] = event.name().into();
            Some(value)
        });
        events.collect()
    }

    fn json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("turns".to_owned(), self.events_json());
        object.insert("turn_summary".to_owned(), Summary::of(self).json());
        object
    }

    fn write(&self, text: &mut String) {
        let rows: Vec<_> = self.events.iter().map(|event| Row::of(*event)).collect();
        let rows: Vec<_> = rows.iter().map(Row::cells).collect();
        if !rows.is_empty() {
            columns::write(text, HEAD, 2, &rows);
        }
        for words in Summary::of(self).lines() {
            line(text, &format!("  {words}"));
        }
    }
}

/// An event in a table.
struct Row {
    name: &'static str,
    at: CallTime,
    turn: Option<TurnId>,
    from: Option<CallTime>,
    to: Option<CallTime>,
    end: Option<TurnEnd>,
}

impl Row {
    fn of(event: VoiceEvent) -> Self {
        let (at, turn, from, to, end) = match event {
            VoiceEvent::SpeechStarted { at, turn, start }
            | VoiceEvent::BargeIn { at, turn, start } => (at, Some(turn), Some(start), None, None),
            VoiceEvent::SpeechEnded { at, turn, end } => (at, Some(turn), None, Some(end), None),
            VoiceEvent::EagerEnd(end) | VoiceEvent::Ended(end) => (
                end.at,
                Some(end.turn),
                Some(end.start),
                Some(end.end),
                Some(end),
            ),
            VoiceEvent::Resumed { at, turn } => (at, Some(turn), None, None, None),
            VoiceEvent::BargeCandidate { at, start } | VoiceEvent::Backchannel { at, start } => {
                (at, None, Some(start), None, None)
            }
            VoiceEvent::FalseInterruption { at } | VoiceEvent::Idle { at } => {
                (at, None, None, None, None)
            }
            _ => (CallTime::default(), None, None, None, None),
        };
        let name = event.name();
        Self {
            name,
            at,
            turn,
            from,
            to,
            end,
        }
    }

    /// How much later it was told than what it tells of happened.
    fn after(&self) -> String {
        let since = self.to.or(self.from);
        since.map_or(String::new(), |since| {
            format!("{:.0}", self.at.0.saturating_sub(since.0) as f64 / 1e3)
        })
    }

    fn turn(&self) -> String {
        self.turn.map_or(String::new(), |turn| turn.0.to_string())
    }

    fn cells(&self) -> [String; 8] {
        let or_nothing = |at: Option<CallTime>| at.map_or(String::new(), seconds);
        let why = self.end.map_or("", |end| match end.reason {
            EndReason::Evidence => "evidence",
            EndReason::Silence => "silence",
            EndReason::TooLong => "too long",
        });
        let sure = self.end.map_or(String::new(), |end| {
            format!("{:.2}", f64::from(end.probability) / 32_767.0)
        });
        [
            self.name.to_owned(),
            why.to_owned(),
            seconds(self.at),
            self.turn(),
            or_nothing(self.from),
            or_nothing(self.to),
            self.after(),
            sure,
        ]
    }
}

fn seconds(at: CallTime) -> String {
    format!("{:.3}", at.0 as f64 / 1e6)
}

/// What a stream of a capture has of turns. Of one without sound there is none, and of one too many no list.
pub(in crate::replay) fn of_stream(heard: Option<&Option<HeardStream>>) -> Map<String, Value> {
    let Some(Some(HeardStream { begins, log })) = heard else {
        let mut none = Map::new();
        let nothing = heard.map_or_else(|| json!([]), |_| Value::Null);
        none.insert("turns".to_owned(), nothing);
        return none;
    };
    let mut object = log.json();
    let begins = begins.as_nanos() as f64 / 1e6;
    object.insert("turns_begin_ms".to_owned(), begins.into());
    object
}

/// What each stream of a capture has of turns.
pub(in crate::replay) fn write_streams(text: &mut String, all: &AllHeard) {
    if all.is_empty() {
        line(
            text,
            "no turns: no stream of PCMU, PCMA or Opus in the clear (see --map and --keys)\n",
        );
    }
    for ((flow, ssrc), heard) in all {
        let Some(HeardStream { begins, log }) = heard else {
            continue;
        };
        let (source, destination) = (flow.source, flow.destination);
        line(
            text,
            &format!("Turns of {ssrc:08x}, {source} to {destination}, which begins at {begins}"),
        );
        log.write(text);
        text.push('\n');
    }
    let beyond = all.values().filter(|heard| heard.is_none()).count();
    if beyond > 0 {
        line(
            text,
            &format!("  ! {beyond} more streams were not heard: {HEARD_STREAMS_MAX} is the most\n"),
        );
    }
}

/// What a session of a journal has of turns.
pub(in crate::replay) fn of_call(calls: &Calls, session: SessionId) -> Map<String, Value> {
    let log = calls.logs.get(&session);
    log.map_or_else(|| Log::default().json(), Log::json)
}

/// What each call of a journal has of turns.
pub(in crate::replay) fn write_calls(text: &mut String, calls: &Calls) {
    if calls.logs.is_empty() {
        line(text, "no turns: no call with an agent\n");
    }
    for (session, log) in &calls.logs {
        line(text, &format!("Turns of session {session}"));
        log.write(text);
        text.push('\n');
    }
}

/// Both replays' turns, session for session.
pub(in crate::replay) fn of_sides(sides: [&Calls; 2]) -> Value {
    let sessions = sessions(sides).into_iter().map(|session| {
        let both = sides.map(|calls| Value::Object(of_call(calls, session)));
        json!({"session": session.to_string(), "sides": both})
    });
    sessions.collect()
}

/// Both replays' turns side by side: what both decided at the same time stands in one row.
pub(in crate::replay) fn write_sides(text: &mut String, sides: [&Calls; 2]) {
    for session in sessions(sides) {
        let nothing = Log::default();
        let logs = sides.map(|calls| calls.logs.get(&session).unwrap_or(&nothing));
        line(text, &format!("\nTurns of session {session}"));
        let rows = side_by_side(logs.map(|log| log.events.iter().peekable()));
        columns::write(text, SIDES_HEAD, 3, &rows);
        for (log, number) in logs.into_iter().zip(1..) {
            for words in Summary::of(log).lines() {
                line(text, &format!("  {number}: {words}"));
            }
        }
    }
}

fn sessions(sides: [&Calls; 2]) -> BTreeSet<SessionId> {
    let sides = sides.iter();
    sides.flat_map(|calls| calls.logs.keys().copied()).collect()
}

fn side_by_side(mut sides: [Peekable<Iter<'_, VoiceEvent>>; 2]) -> Vec<[String; 7]> {
    let mut rows = Vec::new();
    loop {
        let [one, other] = sides.each_mut().map(|side| side.peek().copied());
        let [one_at, other_at] = [one, other].map(|event| event.map(|event| Row::of(*event).at));
        let (takes_one, takes_other) = match (one_at, other_at) {
            (None, None) => return rows,
            (Some(_), None) => (true, false),
            (None, Some(_)) => (false, true),
            (Some(_), Some(_)) if one == other => (true, true),
            (Some(one_at), Some(other_at)) => (one_at <= other_at, one_at > other_at),
        };
        let [one, other] = [(0, takes_one), (1, takes_other)].map(|(side, takes)| {
            let event = if takes { sides[side].next() } else { None };
            event.map(|event| Row::of(*event))
        });
        let name = |row: &Option<Row>| {
            row.as_ref()
                .map_or(String::new(), |row| row.name.to_owned())
        };
        let after = |row: &Option<Row>| row.as_ref().map_or(String::new(), Row::after);
        let mark = if takes_one && takes_other { "" } else { "!" };
        let known = one.as_ref().or(other.as_ref());
        rows.push([
            name(&one),
            name(&other),
            mark.to_owned(),
            known.map_or(String::new(), |row| seconds(row.at)),
            known.map_or(String::new(), Row::turn),
            after(&one),
            after(&other),
        ]);
    }
}
