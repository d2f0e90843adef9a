//! The same seed gives the same run: again, in another process, however it is cut, and on however many shards.

use std::process::Command;

use antiphon_core::drive::DigestValue;
use antiphon_core::sim::oracle::{compare_calls, compare_digests};
use antiphon_core::sim::scenario::{Scenario, Setting};
use antiphon_core::sim::world::Cut;

use crate::{describe, swarm};

const CUTS: [Cut; 4] = [
    Cut {
        per_turn: 1,
        coalesced: false,
    },
    Cut {
        per_turn: 2,
        coalesced: false,
    },
    Cut {
        per_turn: 64,
        coalesced: false,
    },
    Cut {
        per_turn: 64,
        coalesced: true,
    },
];

/// Tells a child of [`digest_elsewhere`] what to run.
const CHILD: &str = "ANTIPHON_SIM_CHILD";

/// The digest of a seed as another process makes it.
pub(crate) fn digest_elsewhere(seed: u64, mutation: &str) -> DigestValue {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .args([
            "--exact",
            "determinism::a_child_prints_its_digest",
            "--nocapture",
        ])
        .env(CHILD, format!("{seed} {mutation}"))
        .output()
        .expect("this program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let digest = text.lines().find_map(|line| line.strip_prefix("digest "));
    digest
        .and_then(|digest| digest.parse().ok())
        .unwrap_or_else(|| panic!("no digest in\n{text}"))
}

/// No test of its own: what [`digest_elsewhere`] starts.
#[test]
fn a_child_prints_its_digest() {
    let Ok(wanted) = std::env::var(CHILD) else {
        return;
    };
    let (seed, mutation) = wanted.split_once(' ').expect("a seed and a mutation");
    let setting = Setting {
        mutation: crate::twins::by_name(mutation),
        ..Setting::default()
    };
    let outcome = swarm(seed.parse().expect("a number"), setting);
    println!("\ndigest {}", outcome.digest);
}

#[test]
fn two_processes_give_one_digest() {
    for seed in [7, 8] {
        let here = swarm(seed, Setting::default()).digest;
        let again = swarm(seed, Setting::default()).digest;
        let elsewhere = digest_elsewhere(seed, "none");
        assert_eq!((here, again), (again, elsewhere), "seed {seed}");
    }
}

#[test]
fn another_seed_is_another_run() {
    let digests: Vec<_> = (1..=10)
        .map(|seed| swarm(seed, Setting::default()).digest)
        .collect();
    for (place, digest) in digests.iter().enumerate() {
        assert!(!digests[..place].contains(digest), "seed {}", place + 1);
    }
}

#[test]
fn the_cut_into_turns_changes_nothing() {
    for seed in 201..=212 {
        let runs = CUTS.map(|cut| {
            let setting = Setting {
                cut,
                ..Setting::default()
            };
            swarm(seed, setting).digest
        });
        for (run, cut) in runs.iter().zip(CUTS) {
            let what = format!("seed {seed}, {cut:?}");
            assert_eq!(compare_digests(&what, runs[0], *run), None);
        }
    }
}

/// Without naps, as what wakes a shard for one room wakes it for another.
#[test]
fn the_count_of_shards_changes_nothing_that_a_call_hears() {
    let comparable = (301..)
        .map(Scenario::swarm)
        .filter(Scenario::is_the_same_on_any_shard);
    for mut scenario in comparable.take(12) {
        scenario.nap = None;
        let on = |shards| {
            let shards = Some(shards);
            scenario.run(Setting {
                shards,
                ..Setting::default()
            })
        };
        let (one, three) = (on(1), on(3));
        let found: Vec<_> = compare_calls("1 and 3 shards", &one, &three).collect();
        assert!(found.is_empty(), "{}{found:#?}", describe(&scenario, &one));
    }
}
