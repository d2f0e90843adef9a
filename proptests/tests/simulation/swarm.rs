//! Seeds of the swarm: those of every build, and those that found something.

use std::fs;

use antiphon_core::bugs::Point;
use antiphon_core::sim::scenario::{Scenario, Setting};

use crate::describe;

/// Of 1,000, in runs with bad luck.
const BAD_LUCK: u32 = 20;

/// Runs every seed, and then says all that was found.
fn check(seeds: impl Iterator<Item = u64>, setting: Setting) -> [u64; Point::ALL.len()] {
    let (mut struck, mut found) = ([0; Point::ALL.len()], Vec::new());
    for seed in seeds {
        let scenario = Scenario::swarm(seed);
        let outcome = scenario.run(setting);
        if !outcome.findings.is_empty() {
            found.push(describe(&scenario, &outcome));
        }
        let counts = struck.iter_mut().zip(outcome.struck);
        counts.for_each(|(sum, count)| *sum += count);
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
    struck
}

#[test]
fn seeds_1_to_50_pass() {
    check(1..=50, Setting::default());
}

#[test]
fn seeds_51_to_100_pass() {
    check(51..=100, Setting::default());
}

#[test]
fn seeds_101_to_150_pass() {
    check(101..=150, Setting::default());
}

#[test]
fn seeds_151_to_200_pass() {
    check(151..=200, Setting::default());
}

#[test]
fn seeds_that_found_something_pass() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/swarm.txt");
    let text = fs::read_to_string(path).expect("the seeds are committed");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let seed = |line: &str| {
        let (seed, why) = line.split_once(' ').expect("a seed and what it found");
        assert!(!why.trim().is_empty(), "{line}: says nothing");
        seed.parse::<u64>().expect("a number")
    };
    check(lines.map(seed), Setting::default());
}

/// Bad luck changes how a run goes and nothing that an oracle may mind. Each point strikes, or it would prove nothing.
#[test]
fn bad_luck_breaks_nothing_and_strikes_everywhere() {
    let setting = Setting {
        bad_luck: BAD_LUCK,
        ..Setting::default()
    };
    let struck = check(1_001..=1_025, setting);
    for (point, count) in Point::ALL.iter().zip(struck) {
        assert!(count > 0, "{point:?} was never reached");
    }
}

/// A short phase of faults holds only what is drawn for it. Of 245 a stranger spoils a handshake.
#[test]
fn phases_of_faults_of_a_few_seconds_end_in_time() {
    let short =
        (1..=9).flat_map(|seconds| (1..=12).map(move |seed| (100 * seconds + seed, seconds)));
    let mut found = Vec::new();
    for (seed, seconds) in short.chain([(5, 5), (245, 5), (245, 14)]) {
        let named = Scenario::named("swarm", seed, Some(seconds));
        let scenario = named.expect("there is one of that name");
        let outcome = scenario.run(Setting::default());
        if !outcome.findings.is_empty() {
            found.push(format!("{seconds} s: {}", describe(&scenario, &outcome)));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}
