//! Worlds in simulated time: the swarm, the proofs of determinism, and what the oracles would catch.

mod browser;
mod determinism;
mod idle;
mod relay;
mod swarm;
mod traces;
mod twins;

use antiphon_core::sim::oracle::Outcome;
use antiphon_core::sim::scenario::{Scenario, Setting};

/// Runs a seed of the swarm.
fn swarm(seed: u64, setting: Setting) -> Outcome {
    Scenario::swarm(seed).run(setting)
}

/// All that is needed to see a run again.
fn describe(scenario: &Scenario, outcome: &Outcome) -> String {
    let findings = outcome
        .findings
        .iter()
        .map(|finding| format!("  {finding}\n"));
    format!("{scenario}\nfound\n{}", findings.collect::<String>())
}
