//! `antiphon sim`: runs one world in simulated time and says what came of it.
//!
//! No socket is opened and no server runs: the shards of the simulated world lie in this process and are driven as
//! fast as they go.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use antiphon_core::sim::oracle::{Oracle, Outcome};
use antiphon_core::sim::scenario::{Scenario, Setting};
use antiphon_udp::Clock;
use clap::Args;
use serde_json::{Value, json};

/// What to run.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Everything random is drawn from it: the same seed is the same run
    #[arg(long, value_name = "N")]
    seed: u64,
    /// Which kind of world
    #[arg(long, value_name = "NAME", default_value = "swarm", value_parser = Scenario::NAMES)]
    scenario: String,
    /// Seconds before faults end and everybody must recover [default: 15]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A day of simulated time.
const SECONDS_MAX: u64 = 86_400;

/// Runs a world; fails when an oracle found something.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
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
    // Nobody may be reading: the exit code tells too.
    std::io::stdout().write_all(text.as_bytes()).ok();
    if outcome.findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
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
