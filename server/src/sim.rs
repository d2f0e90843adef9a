//! `antiphon sim`: runs one world in simulated time and says what came of it.
//!
//! No socket is opened and no server runs: the shards of the simulated world lie in this process and are driven as
//! fast as they go. `churn` is no scenario with a plan for each call, so it has a report of its own.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use antiphon_core::sim::churn::{Churn, ChurnOutcome, JOINS_A_SECOND, Standing};
use antiphon_core::sim::oracle::{Finding, Oracle, Outcome};
use antiphon_core::sim::scenario::{AFTERWARDS, Scenario, Setting};
use antiphon_udp::Clock;
use clap::Args;
use serde_json::{Value, json};

use crate::process::Process;
use crate::progress::Progress;
use crate::replay::{EXIT_FAILED, EXIT_UNHEARD};

/// What to run.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Everything random is drawn from it: the same seed is the same run
    #[arg(long, value_name = "N")]
    seed: u64,
    /// Which kind of world; churn has 50 clients a second come, talk and go, and says what that leaves behind
    #[arg(long, value_name = "NAME", default_value = "swarm", value_parser = NAMES)]
    scenario: String,
    /// Seconds before faults end and everybody must recover, or of churn [default: 15, of churn 140]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A day of simulated time.
const SECONDS_MAX: u64 = 86_400;
const CHURN: &str = "churn";
/// Every scenario, and churn.
const NAMES: [&str; 1 + Scenario::NAMES.len()] = {
    let [swarm, rooms, video] = Scenario::NAMES;
    [swarm, rooms, video, CHURN]
};
/// Of churn, if not said otherwise: the least whose first quarter is as long as consent lasts.
const CHURN_LASTS: Duration = Duration::from_secs(4 * AFTERWARDS.as_secs());

/// Runs a world; fails when an oracle found something.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let (text, findings) = if arguments.scenario == CHURN {
        churn(arguments)
    } else {
        scenario(arguments)
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(EXIT_UNHEARD),
        Err(error) => {
            // The last words; if they cannot be said, the exit code still tells.
            writeln!(
                io::stderr(),
                "antiphon sim: the report cannot be written: {error}"
            )
            .ok();
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn scenario(arguments: &Arguments) -> (String, Vec<Finding>) {
    let named = Scenario::named(&arguments.scenario, arguments.seed, arguments.seconds);
    let scenario = named.expect("the parser takes no other name");
    // The only real time here: how fast it went.
    let clock = Clock::start();
    let started = clock.now();
    let outcome = scenario.run(Setting::default());
    let wall = clock.now().since(started);
    let text = if arguments.json {
        format!("{}\n", as_json(&scenario, &outcome, wall))
    } else {
        as_text(&scenario, &outcome, wall)
    };
    (text, outcome.findings)
}

/// Where churn stood at some second, with what this process had resident.
#[derive(Clone, Copy)]
struct Mark {
    name: &'static str,
    standing: Standing,
    resident_bytes: u64,
}

fn churn(arguments: &Arguments) -> (String, Vec<Finding>) {
    let lasts = arguments.seconds.map_or(CHURN_LASTS, Duration::from_secs);
    let churn = Churn::new(arguments.seed, lasts);
    let (clock, own) = (Clock::start(), Process::new(std::process::id()));
    let mut bar = Progress::new(lasts.as_secs(), true);
    let mut marks: Vec<Mark> = Vec::new();
    let mark = |name, standing| Mark {
        name,
        standing,
        resident_bytes: own.resident_bytes(),
    };
    let started = clock.now();
    let outcome = churn.run(|standing| {
        let second = standing.at.as_secs();
        bar.note(second, || {
            format!("{second} s, {} sessions", standing.opened)
        });
        // After that long as many lie about as ever will, of those that went without a word; in a shorter churn their
        // number still grows.
        let start = AFTERWARDS.as_secs().min(lasts.as_secs() / 4).max(1);
        for (at, name) in [
            (start, "start"),
            ((lasts.as_secs() / 2).max(1), "middle"),
            (lasts.as_secs(), "end"),
        ] {
            if second == at {
                marks.push(mark(name, *standing));
            }
        }
    });
    marks.push(mark("after", outcome.end));
    let wall = clock.now().since(started);
    let text = if arguments.json {
        format!("{}\n", churn_as_json(&churn, &outcome, &marks, wall))
    } else {
        churn_as_text(&churn, &outcome, &marks, wall)
    };
    (text, outcome.findings)
}

fn churn_as_text(churn: &Churn, outcome: &ChurnOutcome, marks: &[Mark], wall: Duration) -> String {
    let mut lines = vec![format!(
        "churn of seed {}: {JOINS_A_SECOND} clients a second for {} s, {} shards",
        churn.seed,
        churn.lasts.as_secs(),
        churn.shards
    )];
    for Mark {
        name,
        standing,
        resident_bytes,
    } in marks
    {
        let tables = standing.tables;
        lines.push(format!(
            "{name:<13} {:>5} s: {:>6.1} MiB resident, {} sessions of {} so far, {} paths, {} rooms, {} timers, \
             {} stand-ins",
            standing.at.as_secs(),
            *resident_bytes as f64 / f64::from(1 << 20),
            tables.sessions,
            standing.opened,
            tables.paths,
            tables.rooms,
            tables.timers,
            tables.stand_ins
        ));
    }
    let findings = outcome.findings.iter();
    lines.extend(findings.map(|finding| format!("  {finding}")));
    lines.push(format!(
        "found         {} findings, {} faults",
        outcome.findings.len(),
        outcome.end.faults
    ));
    lines.push(format!("digest        {}", outcome.digest));
    lines.push(format!(
        "datagrams     {} received, {} refused, {} sent; {} sessions connected, {} packets heard",
        outcome.stats.received,
        outcome.stats.refused,
        outcome.stats.sent,
        outcome.connected,
        outcome.packets_heard
    ));
    lines.push(format!(
        "speed         {:.0} s a second",
        rate(outcome.end.at, wall)
    ));
    lines.join("\n") + "\n"
}

fn churn_as_json(churn: &Churn, outcome: &ChurnOutcome, marks: &[Mark], wall: Duration) -> Value {
    let mark = |mark: &Mark| {
        let Standing {
            at, opened, tables, ..
        } = mark.standing;
        json!({
            "name": mark.name,
            "seconds": at.as_secs_f64(),
            "resident_kib": mark.resident_bytes >> 10,
            "sessions_opened": opened,
            "sessions": tables.sessions,
            "paths": tables.paths,
            "rooms": tables.rooms,
            "timers": tables.timers,
            "stand_ins": tables.stand_ins,
            "relayed": tables.relayed,
        })
    };
    let findings = outcome.findings.iter();
    let findings: Vec<_> = findings
        .map(|finding| json!({"oracle": finding.oracle.name(), "what": finding.what}))
        .collect();
    json!({
        "scenario": CHURN,
        "seed": churn.seed,
        "joins_a_second": JOINS_A_SECOND,
        "seconds": churn.lasts.as_secs(),
        "shards": churn.shards,
        "marks": marks.iter().map(mark).collect::<Vec<_>>(),
        "findings": findings,
        "faults": outcome.end.faults,
        "digest": outcome.digest.to_string(),
        "connected": outcome.connected,
        "packets_heard": outcome.packets_heard,
        "datagrams": {
            "received": outcome.stats.received,
            "refused": outcome.stats.refused,
            "sent": outcome.stats.sent,
        },
        "wall_seconds": wall.as_secs_f64(),
        "simulated_seconds_per_second": rate(outcome.end.at, wall),
    })
}

/// Seconds of one kind a second of wall time.
fn rate(time: Duration, wall: Duration) -> f64 {
    time.as_secs_f64() / wall.as_secs_f64().max(1e-9)
}

fn as_text(scenario: &Scenario, outcome: &Outcome, wall: Duration) -> String {
    let mut lines = vec![scenario.to_string()];
    // Others than these two need another run to compare with.
    for oracle in Oracle::ALL {
        let word = match (oracle, outcome.passes(oracle)) {
            (Oracle::Differential, _) => "needs two runs to compare",
            (_, true) => "holds",
            (_, false) => "BROKEN",
        };
        lines.push(format!("{:<13} {word}", oracle.name()));
    }
    lines.extend(
        outcome
            .findings
            .iter()
            .map(|finding| format!("  {finding}")),
    );
    let stats = &outcome.stats;
    lines.push(format!("digest        {}", outcome.digest));
    lines.push(format!(
        "datagrams     {} received, {} refused, {} sent; {} packets heard",
        stats.received, stats.refused, stats.sent, outcome.packets_heard
    ));
    lines.push(format!(
        "simulated     {:.1} s and {:.0} session-seconds of {} sessions in {:.3} s",
        outcome.simulated.as_secs_f64(),
        outcome.session_time.as_secs_f64(),
        outcome.sessions,
        wall.as_secs_f64()
    ));
    lines.push(format!(
        "speed         {:.0} s and {:.0} session-seconds a second",
        rate(outcome.simulated, wall),
        rate(outcome.session_time, wall)
    ));
    lines.join("\n") + "\n"
}

fn as_json(scenario: &Scenario, outcome: &Outcome, wall: Duration) -> Value {
    let draws = scenario.draws.iter();
    let draws: Vec<_> = draws
        .map(|draw| json!({"name": draw.name, "value": draw.value}))
        .collect();
    let findings = outcome.findings.iter();
    let findings: Vec<_> = findings
        .map(|finding| json!({"oracle": finding.oracle.name(), "what": finding.what}))
        .collect();
    let judged = Oracle::ALL
        .into_iter()
        .filter(|oracle| *oracle != Oracle::Differential);
    let oracles: serde_json::Map<_, _> = judged
        .map(|oracle| (oracle.name().to_owned(), outcome.passes(oracle).into()))
        .collect();
    let stats = &outcome.stats;
    json!({
        "scenario": scenario.name,
        "seed": scenario.seed,
        "seconds": scenario.safety.as_secs(),
        "draws": draws,
        "oracles": oracles,
        "findings": findings,
        "digest": outcome.digest.to_string(),
        "datagrams": {
            "received": stats.received,
            "refused": stats.refused,
            "sent": stats.sent,
        },
        "packets_heard": outcome.packets_heard,
        "sessions": outcome.sessions,
        "simulated_seconds": outcome.simulated.as_secs_f64(),
        "session_seconds": outcome.session_time.as_secs_f64(),
        "wall_seconds": wall.as_secs_f64(),
        "simulated_seconds_per_second": rate(outcome.simulated, wall),
        "session_seconds_per_second": rate(outcome.session_time, wall),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_says_its_own_name_and_for_how_long_things_went_wrong() {
        for (name, seconds, lasts) in [("video", Some(2), 2), ("rooms", None, 15)] {
            let scenario = Scenario::named(name, 1, seconds).expect("there is such a one");
            let outcome = scenario.run(Setting::default());
            let json = as_json(&scenario, &outcome, Duration::from_secs(1));
            assert_eq!(
                (&json["scenario"], &json["seconds"]),
                (&name.into(), &lasts.into())
            );
            let text = as_text(&scenario, &outcome, Duration::from_secs(1));
            assert!(text.starts_with(&format!("{name} of seed 1\n")), "{text}");
        }
    }

    #[test]
    fn churn_says_what_it_found_and_where_it_stood_and_that_nothing_is_left() {
        let arguments = |json| Arguments {
            seed: 3,
            scenario: CHURN.to_owned(),
            seconds: Some(4),
            json,
        };
        let (text, findings) = churn(&arguments(true));
        assert_eq!(findings, [], "{text}");
        let json: Value = serde_json::from_str(&text).expect("one object");
        let marks = json["marks"].as_array().expect("a list");
        let names: Vec<_> = marks.iter().map(|mark| mark["name"].as_str()).collect();
        assert_eq!(
            names,
            ["start", "middle", "end", "after"].map(Some),
            "{json}"
        );
        assert!(
            marks
                .iter()
                .all(|mark| mark["resident_kib"].as_u64() > Some(1_000))
        );
        let (end, after) = (&marks[2], &marks[3]);
        let opened = 4 * u64::from(JOINS_A_SECOND);
        assert_eq!(after["sessions_opened"], opened, "{json}");
        assert!(json["connected"].as_u64() > Some(opened / 2), "{json}");
        for table in [
            "sessions",
            "paths",
            "rooms",
            "timers",
            "stand_ins",
            "relayed",
        ] {
            assert_eq!(after[table], 0, "{table}");
        }
        assert!(end["sessions"].as_u64() > Some(opened / 4), "{json}");
        // As short as can be, all three are the same second.
        let (text, _) = churn(&Arguments {
            seconds: Some(1),
            ..arguments(true)
        });
        let json: Value = serde_json::from_str(&text).expect("one object");
        let marks = json["marks"].as_array().expect("a list");
        let seconds = marks.iter().filter_map(|mark| mark["seconds"].as_f64());
        let seconds: Vec<_> = seconds.map(|seconds| seconds as u64).collect();
        assert_eq!(seconds[..3], [1; 3], "{json}");
        let (text, _) = churn(&arguments(false));
        assert!(text.contains("0 findings, 0 faults"), "{text}");
    }
}
