//! The report as one JSON object; its keys are described in `docs/journal.md`.

use antiphon_core::journal::{EndReason, Header, Known, Payloads, Retention};
use antiphon_core::time::Timestamp;
use serde_json::{Map, Value, json};

use super::ledger::{SessionRow, Traffic};
use super::play::{Played, Verdict};
use super::window::Window;
use super::{Line, describe, table};
use crate::replay::turns::{self, Calls};

/// The object and a line feed; with the events, and with turns, if they are wanted.
pub(super) fn object(
    header: &Header,
    played: &Played,
    window: &Window,
    lines: Option<&[Line]>,
    calls: Option<&Calls>,
) -> String {
    let sessions = played.ledger.sessions.iter();
    let sessions: Vec<_> = sessions
        .filter(|(session, _)| window.has_session(Some(**session)))
        .map(|(id, known)| {
            let mut object = session(&id.to_string(), known, header.redacted);
            if let (Some(calls), Some(object)) = (calls, object.as_object_mut()) {
                object.extend(turns::of_call(calls, *id));
            }
            object
        })
        .collect();
    let mut object = json!({
        "kind": "journal",
        "verdict": played.verdict(header).name(),
        "why": why(header, played),
        "journal": journal(header, played),
        "turns": played.turns,
        "turns_agreed": played.turns_agreed(),
        "digest": played.digest.map(|digest| digest.to_string()),
        "difference": difference(played),
        "error": played.error.map(|error| error.to_string()),
        "lost": lost(played),
        "sessions": sessions,
        "standings": standings(played),
        "faults": faults(played),
        "received": traffic(played.ledger.received, false),
        "sent": traffic(played.ledger.sent, header.redacted),
        "events": played.ledger.events,
        "made_up": played.ledger.made_up,
        "wall_seconds": played.wall.as_secs_f64(),
        "journal_seconds_per_second": played.speed(),
    });
    if let (Some(lines), Some(object)) = (lines, object.as_object_mut()) {
        object.insert("timeline".to_owned(), lines.iter().map(event).collect());
    }
    format!("{object:#}\n")
}

fn why(header: &Header, played: &Played) -> Value {
    match played.verdict(header) {
        Verdict::Exact | Verdict::FromBirth | Verdict::Stopped => Value::Null,
        Verdict::Differs => table::other_version(header).into(),
        _ => table::why(header, played).into(),
    }
}

/// Seconds since the shard began, to the nanosecond.
pub(super) fn seconds(at: Timestamp) -> f64 {
    at.since(Timestamp::ZERO).as_secs_f64()
}

fn journal(header: &Header, played: &Played) -> Value {
    let (first, last) = played.span.unzip();
    let retention = match header.retention {
        Retention::Whole { .. } => "whole",
        Retention::Ring { .. } => "ring",
    };
    let payloads = match header.payloads {
        Payloads::Full => "full",
        Payloads::Headers => "headers",
    };
    let end = played.end.map(|end| match end {
        EndReason::Stopped => "stopped",
        EndReason::BudgetSpent => "budget-spent",
        EndReason::Fault => "fault",
        EndReason::Asked => "asked",
        _ => "other",
    });
    json!({
        "software": Some(&header.software).filter(|_| !header.redacted),
        "shard": header.shard.0,
        "unix_seconds": Some(header.unix.as_secs_f64()).filter(|_| !header.redacted),
        "retention": retention,
        "payloads": payloads,
        "first": first.map(seconds),
        "last": last.map(seconds),
        "seconds": played.duration().map(|duration| duration.as_secs_f64()),
        "end": end,
    })
}

fn difference(played: &Played) -> Value {
    let Some(difference) = &played.difference else {
        return Value::Null;
    };
    json!({
        "turn": difference.turn,
        "at": seconds(difference.now),
        "what": table::differs(&difference.what),
    })
}

fn lost(played: &Played) -> Value {
    let Some((at, _, lost)) = played.lost else {
        return Value::Null;
    };
    json!({"after": seconds(at), "entries": lost.records, "bytes": lost.bytes})
}

fn session(id: &str, known: &SessionRow, redacted: bool) -> Value {
    // Whose a datagram is, only a shard knows.
    let counted = |count: u64| Some(count).filter(|_| !redacted);
    json!({
        "session": id,
        "role": known.role.map(describe::role),
        "opened": known.opened.map(seconds),
        "connected": known.connected.map(seconds),
        "closed": known.closed.map(|(at, _)| seconds(at)),
        "reason": known.closed.map(|(_, reason)| reason.name()),
        "received": counted(known.received),
        "sent": counted(known.sent),
        "events": known.events,
    })
}

fn standings(played: &Played) -> Vec<Value> {
    let standings = played.standings.iter();
    let standings = standings.map(|standing| {
        let (known, since) = match standing.known {
            Known::Whole => ("whole", None),
            Known::FromBirth(at) => ("from-birth", Some(seconds(at))),
            Known::LostAt(at) => ("lost", Some(seconds(at))),
            Known::Nothing => ("nothing", None),
        };
        json!({"session": standing.session.to_string(), "known": known, "at": since})
    });
    standings.collect()
}

fn faults(played: &Played) -> Vec<Value> {
    let faults = played.faults.iter();
    let faults = faults.map(|fault| {
        json!({
            "turn": fault.turn,
            "at": seconds(fault.now),
            "session": fault.session.to_string(),
        })
    });
    faults.collect()
}

/// Of what was only shown, lengths of what was sent are not known.
fn traffic(traffic: Traffic, only_counted: bool) -> Value {
    let bytes = Some(traffic.bytes).filter(|_| !only_counted);
    json!({"datagrams": traffic.datagrams, "bytes": bytes})
}

fn event(line: &Line) -> Value {
    let mut object = Map::new();
    object.insert("at".to_owned(), seconds(line.at).into());
    let session = line.session.map(|session| session.to_string());
    object.insert("session".to_owned(), session.into());
    object.insert("event".to_owned(), line.told.kind.into());
    object.insert("what".to_owned(), line.told.what.clone().into());
    object.insert("measured".to_owned(), line.told.measured.clone().into());
    object.insert("made_up".to_owned(), line.told.is_made_up.into());
    object.into()
}
