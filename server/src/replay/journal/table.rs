//! The report as a person reads it at a glance.

use antiphon_core::journal::{Difference, Differs, Header, Known, Retention};
use antiphon_core::message::Event;
use antiphon_core::time::Timestamp;

use super::describe;
use super::ledger::{SessionRow, Traffic};
use super::play::{Played, Verdict};
use super::window::Window;
use crate::replay::columns::{self, line};
use crate::replay::turns::{self, Calls};

const HEAD: [&str; 9] = [
    "session",
    "opened",
    "for",
    "ended",
    "why",
    "connected after ms",
    "received",
    "sent",
    "events",
];
/// Columns of text, which stand at the left.
const TEXT_COLUMNS: usize = 5;

/// What it shows, sessions, turns if they are wanted, totals.
pub(super) fn text(
    header: &Header,
    played: &Played,
    window: &Window,
    calls: Option<&Calls>,
) -> String {
    let mut text = String::new();
    line(&mut text, &verdict(header, played));
    text.push('\n');
    let sessions = played.ledger.sessions.iter();
    let rows: Vec<_> = sessions
        .filter(|(session, _)| window.has_session(Some(**session)))
        .map(|(session, known)| row(session.to_string(), known, header.redacted))
        .collect();
    if rows.is_empty() {
        line(&mut text, "no sessions");
    } else {
        columns::write(&mut text, HEAD, TEXT_COLUMNS, &rows);
    }
    text.push('\n');
    if let Some(calls) = calls {
        turns::write_calls(&mut text, calls);
    }
    totals(&mut text, header, played);
    text
}

/// The verdict in a sentence, and what it rests on.
fn verdict(header: &Header, played: &Played) -> String {
    let turns = played.turns;
    match played.verdict(header) {
        Verdict::Exact => {
            let digest = or_dash(played.digest);
            format!("exact: all {turns} turns came out as recorded; digest {digest}")
        }
        Verdict::FromBirth => format!(
            "from-birth: {} of {} sessions are whole, and told what they had told, in {turns} turns",
            played
                .standings
                .iter()
                .filter(|it| it.is_complete())
                .count(),
            played.standings.len(),
        ),
        Verdict::Stopped => format!("stopped after {turns} turns, which came out as recorded"),
        Verdict::Differs => {
            let difference = played.difference.as_ref();
            let difference = difference.map_or_else(String::new, first_difference);
            match other_version(header) {
                Some(version) => format!("differs: {difference}; {version}"),
                None => format!("differs: {difference}"),
            }
        }
        Verdict::Redacted => {
            format!("redacted: shown as it was recorded, {turns} turns; it cannot be played")
        }
        other => format!(
            "{}: {}; {} of {turns} turns came out as recorded",
            other.name(),
            why(header, played),
            or_dash(played.turns_agreed()),
        ),
    }
}

/// Why no more than a part can be said of the run.
pub(super) fn why(header: &Header, played: &Played) -> String {
    match (played.shortfall(header), played.lost, played.error) {
        (Some(Verdict::Redacted), ..) => {
            "secrets and names were taken out, so it can be shown and not played".to_owned()
        }
        (Some(Verdict::HeadersOnly), ..) => {
            "payloads of media were not recorded, so nothing can be opened".to_owned()
        }
        (Some(Verdict::Lossy), Some((at, _, lost)), _) => {
            let (records, bytes) = (lost.records, lost.bytes);
            format!("{records} entries ({bytes} bytes) are missing, the first after {at}")
        }
        (.., Some(error)) => error.to_string(),
        (.., None) => "the journal has no end: its writer was cut off".to_owned(),
    }
}

/// That another version recorded it, which may be why it decided otherwise; `None`: it was this one.
pub(super) fn other_version(header: &Header) -> Option<String> {
    let (recorded, here) = (&header.software, env!("CARGO_PKG_VERSION"));
    let is_other = recorded != here && !header.redacted;
    is_other.then(|| format!("version {recorded:?} recorded it, and this is {here:?}"))
}

/// How a run first differed, in words.
pub(super) fn first_difference(difference: &Difference) -> String {
    let Difference { turn, now, what } = difference;
    format!("turn {turn} at {now}: {}", differs(what))
}

/// What differed, in words: then, and now.
pub(super) fn differs(what: &Differs) -> String {
    match what {
        Differs::Event { recorded, replayed } => {
            let (recorded, replayed) = (event(recorded.as_deref()), event(replayed.as_deref()));
            if recorded == replayed {
                return format!(
                    "{recorded} says something else than recorded: credentials, sources, times or figures"
                );
            }
            format!("recorded {recorded}, replayed {replayed}")
        }
        Differs::Sends { recorded, replayed } => match recorded {
            Some(count) => format!("recorded a send of {count} datagrams, replayed {replayed}"),
            None => format!("recorded no send, replayed one of {replayed} datagrams"),
        },
        Differs::Deadline { recorded, replayed } => format!(
            "recorded a deadline of {}, replayed {}",
            time(*recorded),
            time(*replayed)
        ),
        Differs::Handshakes => "a handshake was called less often than recorded".to_owned(),
        Differs::Bytes => "the datagrams sent are others, or went elsewhere".to_owned(),
    }
}

fn event(event: Option<&Event>) -> String {
    let Some(event) = event else {
        return "no event".to_owned();
    };
    let told = describe::event(event).text();
    match event.session() {
        Some(session) => format!("the event \"{told}\" of {session}"),
        None => format!("the event \"{told}\""),
    }
}

fn time(at: Option<Timestamp>) -> String {
    at.map_or("none".to_owned(), |at| at.to_string())
}

fn or_dash(figure: Option<impl ToString>) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string())
}

fn row(session: String, known: &SessionRow, redacted: bool) -> [String; 9] {
    let dash = || "-".to_owned();
    // Whose a datagram is, only a shard knows.
    let counted = |count: u64| or_dash(Some(count).filter(|_| !redacted));
    let setup = known.opened.zip(known.connected);
    let setup = setup.map(|(opened, connected)| connected.since(opened).as_secs_f64() * 1e3);
    [
        session,
        known.opened.map_or_else(dash, |at| at.to_string()),
        known.role.map_or_else(dash, describe::role),
        known.closed.map_or_else(dash, |(at, _)| at.to_string()),
        known.closed.map_or_else(
            || "still open".to_owned(),
            |(_, reason)| reason.name().to_owned(),
        ),
        setup.map_or_else(dash, |ms| format!("{ms:.1}")),
        counted(known.received),
        counted(known.sent),
        known.events.to_string(),
    ]
}

fn totals(text: &mut String, header: &Header, played: &Played) {
    let kept = match header.retention {
        Retention::Whole { .. } => "whole",
        Retention::Ring { .. } => "ring",
    };
    let shard = header.shard.0;
    let by = match header.redacted {
        true => String::new(),
        false => format!(", by {:?}", header.software),
    };
    let span = match (played.span, played.duration()) {
        (Some((first, last)), Some(duration)) => {
            let seconds = duration.as_secs_f64();
            format!("{first} to {last} ({seconds:.3} s)")
        }
        _ => "without a turn".to_owned(),
    };
    line(text, &format!("Journal {span}, shard {shard}, {kept}{by}"));
    let Traffic { datagrams, bytes } = played.ledger.received;
    let sent = played.ledger.sent;
    let sent_bytes = or_dash(Some(sent.bytes).filter(|_| !header.redacted));
    line(
        text,
        &format!(
            "Datagrams {datagrams} in ({bytes} bytes), {} out ({sent_bytes} bytes)",
            sent.datagrams
        ),
    );
    let events: u64 = played.ledger.events.values().sum();
    let kinds = played.ledger.events.iter();
    let kinds: Vec<_> = kinds
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    line(
        text,
        format!("Events {events}: {}", kinds.join(", ")).trim_end_matches(": "),
    );
    if let Some(speed) = played.speed() {
        let wall = played.wall.as_secs_f64();
        line(
            text,
            &format!("Played in {wall:.3} s: {speed:.0} s of journal a second"),
        );
    }
    if played.ledger.made_up > 0 {
        let count = played.ledger.made_up;
        line(
            text,
            &format!(
                "  ! {count} of the events were made up: of sessions that are not there whole"
            ),
        );
    }
    for fault in &played.faults {
        let (turn, now, session) = (fault.turn, fault.now, fault.session);
        line(
            text,
            &format!("  ! session {session} faulted in turn {turn} at {now}"),
        );
    }
    for standing in played.standings.iter().filter(|it| !it.is_complete()) {
        let known = known(standing.known);
        line(
            text,
            &format!("  ! of session {} {known}", standing.session),
        );
    }
}

/// How much of a session a ring has, as the end of a sentence.
pub(super) fn known(known: Known) -> String {
    match known {
        Known::Whole => "all is there".to_owned(),
        Known::FromBirth(at) => format!("nothing from before {at} is there"),
        Known::LostAt(at) => format!("something is missing after {at}"),
        Known::Nothing => "neither the beginning nor how it stood is there".to_owned(),
    }
}
