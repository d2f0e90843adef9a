//! Rooms whose subscribers are on other shards than their publishers.

use std::time::Duration;

use antiphon_core::bugs::Mutation;
use antiphon_core::drive::RelayStats;
use antiphon_core::ids::{ParticipantId, RoomId, ShardId};
use antiphon_core::journal::{Kept, Payloads, Player, Reader, Retention, Step, begin};
use antiphon_core::message::{Role, Target};
use antiphon_core::relay::Relay;
use antiphon_core::shard::TableSizes;
use antiphon_core::sim::link::Impairment;
use antiphon_core::sim::oracle::{Finding, Oracle, Outcome, compare_calls, compare_digests};
use antiphon_core::sim::peer::{Mischief, PeerSpec, Picture, ScriptedPeer, Speech};
use antiphon_core::sim::scenario::{Scenario, Setting};
use antiphon_core::sim::world::{Cut, Join, MemberId, Options, World};

use crate::describe;

const HOME: u16 = 0;
const ELSEWHERE: u16 = 1;
const SETTLED: Duration = Duration::from_secs(2);
/// Until sessions of clients that vanished have expired.
const EXPIRED: Duration = Duration::from_secs(35);

fn two_shards() -> World {
    World::new(Options {
        shards: 2,
        ..Options::new(1)
    })
}

fn join(world: &mut World, shard: u16, role: Role, spec: PeerSpec) -> MemberId {
    let member = world.next_member();
    let spec = PeerSpec {
        member: member.0,
        ..spec
    };
    let seed = world.seed().derive("peers", 0);
    world.join(Join {
        peer: Box::new(ScriptedPeer::new(spec, &seed)),
        role: role.on(ShardId(shard), ShardId(HOME)),
        shard,
        up: vec![Impairment::Delay(Duration::from_millis(5))],
        down: vec![Impairment::Delay(Duration::from_millis(5))],
        ipv6: false,
    })
}

fn publish(world: &mut World, participant: u32) -> MemberId {
    let role = Role::Publish {
        room: RoomId(1),
        participant: ParticipantId(participant),
    };
    let mut spec = PeerSpec::new(0);
    (spec.speech, spec.picture) = (Some(Speech::Monologue), Some(Picture::Plain));
    join(world, HOME, role, spec)
}

fn subscribe(world: &mut World, mischief: Option<Mischief>) -> MemberId {
    let role = Role::Subscribe {
        room: RoomId(1),
        target: Target::Participant(ParticipantId(1)),
    };
    let mut spec = PeerSpec::new(0);
    (spec.hears, spec.sees, spec.mischief) = (true, true, mischief);
    join(world, ELSEWHERE, role, spec)
}

fn said(world: &World, shard: u16) -> RelayStats {
    world
        .relay_stats()
        .nth(usize::from(shard))
        .expect("it is there")
}

/// Packets heard, audio and video together.
fn heard(world: &World, member: MemberId) -> u64 {
    let heard = &world.member(member).peer.report().heard;
    heard.iter().map(|heard| heard.packets).sum()
}

fn sent(world: &World, member: MemberId) -> u64 {
    world.member(member).peer.report().sent.iter().sum()
}

#[test]
fn ten_subscribers_on_another_shard_cost_one_relay_a_packet() {
    let mut world = two_shards();
    let ann = publish(&mut world, 1);
    let listeners = [(); 10].map(|()| subscribe(&mut world, None));
    world.run_for(SETTLED);
    let before = (
        said(&world, HOME).sent,
        sent(&world, ann),
        listeners.map(|it| heard(&world, it)),
    );
    world.run_for(Duration::from_secs(5));
    let packets = sent(&world, ann) - before.1;
    let relayed = said(&world, HOME).sent - before.0;
    // What was under way at either end of the five seconds: a picture or two.
    assert!(
        packets > 500 && relayed.abs_diff(packets) < 20,
        "{relayed} of {packets}"
    );
    for (listener, before) in listeners.into_iter().zip(before.2) {
        let heard = heard(&world, listener) - before;
        assert!(
            heard.abs_diff(packets) < 20,
            "{listener:?} heard {heard} of {packets}"
        );
    }
    assert_eq!(said(&world, HOME).dropped, 0);
    assert_eq!(world.findings(), [] as [String; 0]);
}

#[test]
fn nothing_crosses_for_a_room_that_nobody_elsewhere_subscribes_to() {
    let mut world = two_shards();
    let ann = publish(&mut world, 1);
    world.run_for(SETTLED);
    assert!(sent(&world, ann) > 100);
    assert_eq!(said(&world, HOME), RelayStats::default());
    // The first to come has it cross, and the last to go ends it.
    let listener = subscribe(&mut world, None);
    world.run_for(SETTLED);
    assert!(heard(&world, listener) > 100);
    world.leave(listener);
    world.run_for(Duration::from_millis(100));
    let before = said(&world, HOME);
    world.run_for(SETTLED);
    assert_eq!(said(&world, HOME), before);
    assert_eq!(
        world
            .table_sizes()
            .map(|sizes| sizes.relayed)
            .sum::<usize>(),
        0
    );
}

#[test]
fn a_publisher_leaves_and_comes_back_and_another_takes_its_place() {
    let mut world = two_shards();
    // Who subscribes first waits for somebody to publish.
    let listener = subscribe(&mut world, None);
    world.run_for(SETTLED);
    assert_eq!(heard(&world, listener), 0);
    let hears = |world: &mut World, is_heard: bool| {
        let before = heard(world, listener);
        world.run_for(SETTLED);
        let now = heard(world, listener);
        assert_eq!(now > before + 150, is_heard, "{before} and {now}");
    };
    let ann = publish(&mut world, 1);
    hears(&mut world, true);
    world.leave(ann);
    world.run_for(Duration::from_millis(100));
    hears(&mut world, false);
    let again = publish(&mut world, 1);
    hears(&mut world, true);
    // A new session of the same participant, while the old one lives.
    let replacing = publish(&mut world, 1);
    hears(&mut world, true);
    assert!(world.member(again).closed.is_some());
    world.vanish(replacing);
    world.leave(listener);
    world.run_for(EXPIRED);
    for tables in world.table_sizes() {
        assert_eq!(tables, TableSizes::default());
    }
    assert_eq!(world.findings(), [] as [String; 0]);
}

#[test]
fn a_storm_of_keyframe_requests_crosses_once_in_500_ms() {
    let mut world = two_shards();
    let ann = publish(&mut world, 1);
    for _ in 0..10 {
        subscribe(&mut world, Some(Mischief::KeyframeStorm));
    }
    world.run_for(SETTLED);
    let before = (
        said(&world, ELSEWHERE).sent,
        world.member(ann).peer.report().keyframe_requests.len(),
    );
    world.run_for(Duration::from_secs(10));
    let crossed = said(&world, ELSEWHERE).sent - before.0;
    let reached = world.member(ann).peer.report().keyframe_requests.len() - before.1;
    // All of them ask all the time, and ask again as soon as the keyframe is there.
    assert!((19..=21).contains(&crossed), "{crossed} in 20 intervals");
    assert!((19..=21).contains(&reached), "{reached} in 20 intervals");
}

/// Whether members hear something in the next two seconds.
fn hear<const N: usize>(world: &mut World, members: [MemberId; N]) -> [bool; N] {
    let before = members.map(|member| heard(world, member));
    world.run_for(SETTLED);
    let mut before = before.into_iter();
    members.map(|member| {
        before
            .next()
            .is_some_and(|before| heard(world, member) > before)
    })
}

/// Which words are lost.
type Words = fn(&Relay) -> bool;

/// A word is lost; a listener alone hears nothing for as long as nothing happens, and hears as soon as another comes.
#[test]
fn a_lost_word_heals_when_the_next_subscriber_is_opened() {
    let words: [(u16, Words); 3] = [
        (ELSEWHERE, |relay| matches!(relay, Relay::Attend { .. })),
        (ELSEWHERE, |relay| matches!(relay, Relay::Follow(_))),
        (HOME, |relay| matches!(relay, Relay::Publishers { .. })),
    ];
    for (shard, is_lost) in words {
        let mut world = two_shards();
        publish(&mut world, 1);
        world.lose_relays(shard, is_lost);
        let first = subscribe(&mut world, None);
        assert_eq!(hear(&mut world, [first]), [false], "it was not lost");
        world.lose_relays(shard, |_| false);
        assert_eq!(
            hear(&mut world, [first]),
            [false],
            "it was said by the clock"
        );
        let second = subscribe(&mut world, None);
        assert_eq!(hear(&mut world, [first, second]), [true, true]);
        // Sound and picture: a follow that is said twice counts once.
        let relayed: usize = world.table_sizes().map(|sizes| sizes.relayed).sum();
        assert_eq!(relayed, 2);
        assert_eq!(world.findings(), [] as [String; 0]);
    }
}

#[test]
fn a_lost_follow_heals_when_somebody_else_begins_to_publish() {
    let mut world = two_shards();
    publish(&mut world, 1);
    world.lose_relays(ELSEWHERE, |relay| matches!(relay, Relay::Follow(_)));
    let listener = subscribe(&mut world, None);
    assert_eq!(hear(&mut world, [listener]), [false]);
    world.lose_relays(ELSEWHERE, |_| false);
    publish(&mut world, 2);
    assert_eq!(hear(&mut world, [listener]), [true]);
}

/// Nobody is left, and the home does not know: packets cross, until what comes of one says so; and then lists do.
#[test]
fn a_lost_goodbye_heals_with_the_next_packet_and_the_next_list() {
    let mut world = two_shards();
    let ann = publish(&mut world, 1);
    let listener = subscribe(&mut world, None);
    world.run_for(SETTLED);
    world.lose_relays(ELSEWHERE, |_| true);
    world.leave(listener);
    world.run_for(SETTLED);
    let relayed = |world: &World| world.table_sizes().map(|it| it.relayed).sum::<usize>();
    assert_eq!(relayed(&world), 2, "it was not lost");
    world.lose_relays(ELSEWHERE, |_| false);
    world.run_for(Duration::from_secs(1));
    assert_eq!(relayed(&world), 0);
    // The room is there, as far as its home knows, and goes with the list that says who is left.
    world.leave(ann);
    world.run_for(EXPIRED);
    for tables in world.table_sizes() {
        assert_eq!(tables, TableSizes::default());
    }
    assert_eq!(world.findings(), [] as [String; 0]);
}

/// Rooms on three shards and subscribers spread over them; and the same on one shard.
fn spread(shards: u16) -> Setting {
    Setting {
        shards: Some(shards),
        is_spread: true,
        ..Setting::default()
    }
}

/// Whether what a call hears does not depend on where it is. It may where pictures are lost: each shard gathers the
/// requests for keyframes for itself, so one may be asked for up to 500 ms later, and what is sent again may change
/// places with what is sent in the same nanosecond. And a stand-in does not hear a publisher's goodbyes.
fn is_the_same_wherever(scenario: &Scenario) -> bool {
    let goodbyes =
        |call: &antiphon_core::sim::scenario::Call| call.spec.mischief == Some(Mischief::Goodbyes);
    let has_pictures = scenario
        .calls
        .iter()
        .any(|call| call.spec.picture.is_some());
    let loses = |way: &Impairment| {
        matches!(
            way,
            Impairment::Loss(_) | Impairment::Blackout(..) | Impairment::Reorder { .. }
        )
    };
    let mut ways = scenario
        .calls
        .iter()
        .flat_map(|call| call.up.iter().chain(&call.down));
    scenario.is_the_same_on_any_shard()
        && !scenario.calls.iter().any(goodbyes)
        && !(has_pictures && ways.any(loses))
}

fn comparable(from: u64) -> impl Iterator<Item = Scenario> {
    let scenarios = (from..).map(Scenario::swarm).filter(is_the_same_wherever);
    scenarios.map(|mut scenario| {
        scenario.nap = None;
        scenario
    })
}

fn compare(scenario: &Scenario, mutation: Option<Mutation>) -> (Outcome, Vec<Finding>) {
    let on = |shards| {
        scenario.run(Setting {
            mutation,
            ..spread(shards)
        })
    };
    let (one, three) = (on(1), on(3));
    let found = compare_calls("1 and 3 shards", &one, &three).collect();
    (three, found)
}

#[test]
fn a_room_spread_over_three_shards_sounds_as_on_one() {
    let mut relayed = 0;
    for scenario in comparable(401).take(12) {
        let (three, found) = compare(&scenario, None);
        assert!(
            found.is_empty(),
            "{}{found:#?}",
            describe(&scenario, &three)
        );
        assert_eq!(three.findings, [], "{}", describe(&scenario, &three));
        relayed += three.relayed;
    }
    assert!(relayed > 10_000, "{relayed}: too few to prove anything");
}

/// With pictures over clean ways, which the swarm seldom draws.
#[test]
fn rooms_of_pictures_spread_over_three_shards_look_as_on_one() {
    let scenario = Scenario::rooms(3, 3, Speech::Spurts, Some(Picture::Plain));
    let (three, found) = compare(&scenario, None);
    assert_eq!(found, []);
    assert_eq!(three.findings, []);
    assert!(three.relayed > 20_000, "{}", three.relayed);
}

#[test]
fn the_differential_oracle_notices_that_relays_are_lost() {
    let noticed = comparable(401).take(12).any(|scenario| {
        let (_, found) = compare(&scenario, Some(Mutation::LoseRelays));
        !found.is_empty()
    });
    assert!(noticed, "no seed differs");
}

/// Everything that may go wrong, which the other oracles judge.
#[test]
fn seeds_421_to_460_pass_spread_over_shards() {
    let mut found = Vec::new();
    for seed in 421..=460 {
        let scenario = Scenario::swarm(seed);
        let outcome = scenario.run(spread(3));
        if !outcome.findings.is_empty() {
            found.push(describe(&scenario, &outcome));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Budgets spent early, requests lost, sockets full: on all shards at once.
#[test]
fn bad_luck_breaks_nothing_that_crosses() {
    for seed in 1_026..=1_035 {
        let scenario = Scenario::swarm(seed);
        let outcome = scenario.run(Setting {
            bad_luck: 20,
            ..spread(3)
        });
        assert_eq!(outcome.findings, [], "{}", describe(&scenario, &outcome));
    }
}

#[test]
fn the_threshold_oracle_notices_that_relays_are_lost() {
    let noticed = (421..=460).any(|seed| {
        let setting = Setting {
            mutation: Some(Mutation::LoseRelays),
            ..spread(3)
        };
        !Scenario::swarm(seed).run(setting).passes(Oracle::Threshold)
    });
    assert!(noticed, "no seed shows it");
}

#[test]
fn the_cut_into_turns_changes_nothing_that_crosses() {
    for seed in 441..=446 {
        let run = |per_turn, coalesced| {
            let cut = Cut {
                per_turn,
                coalesced,
            };
            Scenario::swarm(seed)
                .run(Setting { cut, ..spread(3) })
                .digest
        };
        let first = run(1, false);
        for (per_turn, coalesced) in [(2, false), (64, false), (64, true)] {
            let what = format!("seed {seed}, {per_turn} a turn");
            assert_eq!(
                compare_digests(&what, first, run(per_turn, coalesced)),
                None
            );
        }
    }
}

#[test]
fn the_journal_of_a_shard_among_others_replays_to_the_same_bytes() {
    for shard in [HOME, ELSEWHERE] {
        let mut world = two_shards();
        let kept = Kept::default();
        let whole = Retention::Whole { budget: u64::MAX };
        let header = world.record(shard, Payloads::Full, whole, Box::new(kept.clone()));
        let mut journal = begin(header);
        let ann = publish(&mut world, 1);
        let listeners = [(); 3].map(|()| subscribe(&mut world, None));
        world.run_for(Duration::from_secs(3));
        world.leave(ann);
        world.leave(listeners[0]);
        publish(&mut world, 1);
        world.run_for(SETTLED);
        assert!(said(&world, HOME).sent > 300);
        drop(world);
        journal.append(&mut kept.into_bytes());
        let (header, reader) = Reader::new(&journal).expect("it begins well");
        let mut player = Player::new(&header, reader).expect("it is of a shard");
        let mut turns = 0;
        while let Some(step) = player.step(&mut ()) {
            turns += u64::from(matches!(step.expect("it reads"), Step::Turn { .. }));
        }
        assert!(turns > 300, "{turns}");
        assert_eq!(player.difference(), None, "shard {shard}");
    }
}
