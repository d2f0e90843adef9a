//! How fast simulated time passes: session-seconds a second of wall time, on one core.
//!
//! `cargo bench --workspace --bench simulation [-- --check]`. A session is one peer connection: in a room of four,
//! four publish and twelve follow. `--check` fails below the rate that is promised.
#![expect(clippy::disallowed_methods, reason = "it measures wall time")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use antiphon_core::sim::peer::{Picture, Speech};
use antiphon_core::sim::scenario::{Scenario, Setting};

/// Session-seconds a second that rooms of four with audio must reach.
const LEAST: f64 = 3_000.0;
/// Of simulated time with everybody there.
const TALK: Duration = Duration::from_secs(20);
/// Best of so many, as another process may take the core meanwhile.
const ROUNDS: usize = 3;

fn main() -> ExitCode {
    let check = std::env::args().any(|argument| argument == "--check");
    let rooms = |speech, picture| move |seed| Scenario::rooms(seed, 4, speech, picture);
    let talks = measure("audio rooms of 4, talk-spurts", rooms(Speech::Spurts, None));
    let speaks = measure(
        "audio rooms of 4, never silent",
        rooms(Speech::Monologue, None),
    );
    measure(
        "audio and video rooms of 4",
        rooms(Speech::Spurts, Some(Picture::Plain)),
    );
    measure("swarm", Scenario::swarm);
    if check && (talks < LEAST || speaks < LEAST) {
        eprintln!("fewer than {LEAST} session-seconds a second");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Prints and gives session-seconds a second, the best of some rounds.
fn measure(name: &str, scenario: impl Fn(u64) -> Scenario) -> f64 {
    let mut best = 0.0_f64;
    let mut line = String::new();
    for round in 0..ROUNDS {
        let mut scenario = scenario(1 + round as u64);
        scenario.safety = TALK;
        let started = Instant::now();
        let outcome = scenario.run(Setting::default());
        let wall = started.elapsed().as_secs_f64();
        assert!(outcome.findings.is_empty(), "{:?}", outcome.findings);
        let rate = outcome.session_time.as_secs_f64() / wall;
        if rate > best {
            best = rate;
            let datagrams = (outcome.stats.received + outcome.stats.sent) as f64;
            line = format!(
                "{name:<32}{rate:>10.0} session-s/s{:>10.0} s/s{:>8.0} ns a datagram",
                outcome.simulated.as_secs_f64() / wall,
                wall * 1e9 / datagrams
            );
        }
    }
    println!("{line}");
    best
}
