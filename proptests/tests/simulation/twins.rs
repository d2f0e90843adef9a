//! Each oracle's negative twin: a line of the product gone wrong, and who noticed.

use std::time::Duration;

use antiphon_core::bugs::Mutation;
use antiphon_core::sim::churn::Churn;
use antiphon_core::sim::link::{GilbertElliott, Impairment};
use antiphon_core::sim::oracle::{Oracle, compare_calls, compare_digests};
use antiphon_core::sim::peer::{Picture, Speech};
use antiphon_core::sim::scenario::{Scenario, Setting};
use antiphon_core::sim::world::Cut;

use crate::determinism::digest_elsewhere;
use crate::swarm;

/// Seeds in which a mutation must show itself at least once.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=40;

/// A mutation by the name that its `Debug` shows.
pub(crate) fn by_name(name: &str) -> Option<Mutation> {
    (name == "AmbientRandomness").then_some(Mutation::AmbientRandomness)
}

fn with(mutation: Mutation) -> Setting {
    Setting {
        mutation: Some(mutation),
        ..Setting::default()
    }
}

/// Some seed shows it, and the oracle named is the one that notices there.
fn notices(oracle: Oracle, mutation: Mutation) {
    let noticed = SEEDS
        .clone()
        .find(|seed| !swarm(*seed, with(mutation)).passes(oracle));
    let seed = noticed.unwrap_or_else(|| panic!("{oracle:?} did not notice {mutation:?}"));
    assert!(
        swarm(seed, Setting::default()).passes(oracle),
        "seed {seed} is sound without it"
    );
}

#[test]
fn the_leak_oracle_notices_paths_that_stay() {
    notices(Oracle::Leak, Mutation::KeepPaths);
}

#[test]
fn the_outcome_oracle_notices_a_wrong_publisher() {
    notices(Oracle::Outcome, Mutation::FollowAnyone);
}

#[test]
fn the_outcome_oracle_notices_a_wrong_number() {
    notices(Oracle::Outcome, Mutation::MisnumberRetransmissions);
}

#[test]
fn the_threshold_oracle_notices_a_swallowed_datagram() {
    notices(Oracle::Threshold, Mutation::SwallowDatagrams);
}

/// A room of four who show themselves, over ways that lose one packet of twenty.
#[test]
fn the_threshold_oracle_notices_that_nothing_is_repaired() {
    let mut scenario = Scenario::rooms(1, 1, Speech::Spurts, Some(Picture::Plain));
    for call in &mut scenario.calls {
        let loss = Impairment::Loss(GilbertElliott::even(50));
        call.up.push(loss.clone());
        call.down.push(loss);
    }
    let broken = scenario.run(with(Mutation::NeverRetransmit));
    assert!(!broken.passes(Oracle::Threshold));
    assert_eq!(scenario.run(Setting::default()).findings, []);
}

#[test]
fn churn_notices_what_sessions_leave_behind() {
    let churn = |mutation| {
        let mut churn = Churn::new(4, Duration::from_secs(8));
        churn.mutation = mutation;
        churn.run(|_| ()).findings
    };
    assert_eq!(churn(None), []);
    let findings = churn(Some(Mutation::KeepPaths));
    let leaks = findings
        .iter()
        .any(|finding| finding.oracle == Oracle::Leak);
    assert!(leaks, "{findings:?}");
}

#[test]
fn the_threshold_oracle_notices_a_flood_of_keyframe_requests() {
    notices(Oracle::Threshold, Mutation::PassAllKeyframeRequests);
}

#[test]
fn the_liveness_oracle_notices_a_picture_that_never_starts() {
    notices(Oracle::Liveness, Mutation::NeverAskForKeyframes);
}

#[test]
fn the_liveness_oracle_notices_a_peer_that_moved_and_was_left_behind() {
    notices(Oracle::Liveness, Mutation::IgnoreNewPaths);
}

#[test]
fn the_differential_oracle_notices_that_a_turn_counts() {
    let mutation = Mutation::OneEventATurn;
    let run = |seed, per_turn| {
        let cut = Cut {
            per_turn,
            coalesced: false,
        };
        swarm(
            seed,
            Setting {
                cut,
                ..with(mutation)
            },
        )
        .digest
    };
    let differs =
        |seed: &u64| compare_digests("1 and 64 a turn", run(*seed, 1), run(*seed, 64)).is_some();
    assert!(SEEDS.clone().any(|seed| differs(&seed)), "no seed differs");
}

#[test]
fn the_differential_oracle_notices_that_a_shard_is_worse() {
    let comparable = SEEDS
        .map(Scenario::swarm)
        .filter(Scenario::is_the_same_on_any_shard);
    let differs = |mut scenario: Scenario| {
        scenario.nap = None;
        let on = |shards| {
            let shards = Some(shards);
            scenario.run(Setting {
                shards,
                ..with(Mutation::FirstShardIsBetter)
            })
        };
        let (one, three) = (on(1), on(3));
        compare_calls("1 and 3 shards", &one, &three)
            .next()
            .is_some()
    };
    assert!(comparable.into_iter().any(differs), "no seed differs");
}

#[test]
fn two_processes_differ_when_something_ambient_is_in_it() {
    let here = swarm(7, with(Mutation::AmbientRandomness)).digest;
    assert_ne!(here, digest_elsewhere(7, "AmbientRandomness"));
}
