//! What calls cost in which nobody says anything: their sessions must hardly ever be what wakes a shard.

use std::time::Duration;

use antiphon_core::message::Role;
use antiphon_core::rng::Seed;
use antiphon_core::sim::link::Impairment;
use antiphon_core::sim::peer::{PeerSpec, ScriptedPeer, Speech};
use antiphon_core::sim::world::{Join, MemberId, Options, World};

/// Wakes by timer a second that one idle session may cost.
const WAKES_MAX: f64 = 0.2;
/// Consent lasts 29 s.
const EXPIRY: Duration = Duration::from_secs(35);

/// A shard with so many calls in progress, whose microphones are all off.
fn muted(sessions: u32) -> World {
    let mut world = World::new(Options::new(5));
    let seed = Seed::new([5; 32]);
    for number in 0..sessions {
        let mut spec = PeerSpec::new(number);
        (spec.speech, spec.hears) = (Some(Speech::Muted), true);
        let way = || vec![Impairment::Delay(Duration::from_millis(20))];
        world.join(Join {
            peer: Box::new(ScriptedPeer::new(spec, &seed)),
            role: Role::Echo,
            shard: 0,
            up: way(),
            down: way(),
            ipv6: false,
        });
        // They came one after another, as calls do.
        world.run_for(Duration::from_millis(7));
    }
    world.run_for(Duration::from_secs(2));
    assert_eq!(connected(&world), sessions);
    world
}

fn connected(world: &World) -> u32 {
    world.stats().map(|stats| stats.sessions_connected).sum()
}

/// Wakes of the shard by timer while `duration` passes.
fn wakes_in(world: &mut World, duration: Duration) -> u64 {
    let before: u64 = world.timer_turns().sum();
    world.run_for(duration);
    world.timer_turns().sum::<u64>() - before
}

/// Their peers ask for consent every 2.5 s, as browsers do, and send reports.
#[test]
fn idle_sessions_whose_peers_check_them_hardly_wake_their_shard() {
    for (sessions, minutes) in [(1, 10), (2, 10), (20, 5), (1_000, 5)] {
        let mut world = muted(sessions);
        let duration = Duration::from_secs(60 * minutes);
        let wakes = wakes_in(&mut world, duration);
        let rate = wakes as f64 / duration.as_secs_f64();
        println!(
            "{sessions} idle sessions: {wakes} wakes by timer in {minutes} min, {rate:.4} a second in all"
        );
        assert_eq!(connected(&world), sessions, "nobody was lost");
        // Of all of them together, not of each.
        assert!(rate <= WAKES_MAX, "{rate} wakes a second");
    }
}

/// Their peers have gone without a word: each session wakes the shard when its consent ends, and no more.
#[test]
fn sessions_whose_peers_are_gone_wake_their_shard_once_each() {
    for sessions in [1, 20, 1_000] {
        let mut world = muted(sessions);
        (0..sessions).for_each(|number| world.vanish(MemberId(number)));
        let wakes = wakes_in(&mut world, EXPIRY);
        let rate = wakes as f64 / EXPIRY.as_secs_f64() / f64::from(sessions);
        println!(
            "{sessions} abandoned sessions: {wakes} wakes by timer until all had ended, {rate:.4} a second each"
        );
        assert_eq!(connected(&world), 0, "consent ends");
        assert!(
            (1..=u64::from(sessions) + 2).contains(&wakes),
            "{wakes} wakes"
        );
        assert!(rate <= WAKES_MAX, "{rate} wakes a second each");
    }
}

/// What would be found if they did: each turn that a deadline asks for is counted.
#[test]
fn a_session_in_its_handshake_does_wake_its_shard() {
    let mut world = muted(1);
    let mut spec = PeerSpec::new(1);
    (spec.speech, spec.passive) = (Some(Speech::Muted), true);
    let lost = vec![Impairment::Blackout(world.now(), world.now() + EXPIRY)];
    world.join(Join {
        peer: Box::new(ScriptedPeer::new(spec, &Seed::new([5; 32]))),
        role: Role::Echo,
        shard: 0,
        up: vec![Impairment::Delay(Duration::from_millis(20))],
        down: lost,
        ipv6: false,
    });
    let wakes = wakes_in(&mut world, Duration::from_secs(10));
    assert!(wakes >= 3, "it sends its flight again: {wakes} wakes");
}
