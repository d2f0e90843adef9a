//! A hostile network: loss, moves and restarts, and attackers without keys. Peers are str0m's, time is virtual.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use antiphon_core::limits::{CONSENT_TIMEOUT, SESSION_PATHS_MAX, SETUP_TIMEOUT};
use antiphon_core::message::{
    CloseReason, Command, DropReason, Event, Role, SessionStats, ShardStats, Target,
};
use antiphon_core::plan::IceCredentials;
use antiphon_core::shard::TableSizes;
use antiphon_core::time::Timestamp;
use antiphon_core::wire::{Class, classify};
use str0m::media::{Direction, MediaKind};

use crate::support::raw::{self, Raw, check};
use crate::support::testing::malformed;
use crate::support::{Flying, Link, World, publisher, subscriber, vp8};

const SECOND: Duration = Duration::from_secs(1);
const FRAME: Duration = Duration::from_millis(20);
const AUDIO: [(MediaKind, Direction); 1] = [(MediaKind::Audio, Direction::SendRecv)];

fn attacker(number: u16) -> SocketAddr {
    ([203, 0, (number >> 8) as u8, number as u8], 6_000).into()
}

/// A publisher with a subscriber, both connected, after a second of audio and video.
fn call(world: &mut World) -> (usize, usize) {
    let publisher = world.publish(1, 1);
    let subscriber = world.subscribe(1, Target::Newest);
    world.connect_all();
    stream(world, publisher, 0..50);
    (publisher, subscriber)
}

/// Sends audio and video numbered from `frames`, 20 ms apart; every twenty-fifth picture is a key picture.
fn stream(world: &mut World, publisher: usize, frames: std::ops::Range<u32>) {
    let mids = world.mids(publisher);
    for frame in frames {
        let tag = frame.to_be_bytes();
        world.send(publisher, mids[0], frame * 960, false, &tag);
        let mut picture = vp8(frame as u16, frame.is_multiple_of(25), true, 7, 300);
        picture.extend_from_slice(&tag);
        world.send(publisher, mids[1], frame * 1_800, true, &picture);
        world.run_for(FRAME);
    }
}

/// The frames of [`stream`] that a subscriber heard and saw.
fn heard(world: &World, subscriber: usize) -> (Vec<u32>, Vec<u32>) {
    let mids = world.mids(subscriber);
    let numbers = |mid| {
        let tag = |payload: &Vec<u8>| payload.last_chunk().map(|tag| u32::from_be_bytes(*tag));
        let mut numbers: Vec<_> = world.peers[subscriber]
            .payloads(mid)
            .iter()
            .filter_map(tag)
            .collect();
        numbers.sort_unstable();
        numbers
    };
    (numbers(mids[0]), numbers(mids[1]))
}

fn assert_heard_all(world: &World, subscriber: usize, frames: std::ops::Range<u32>) {
    let all: Vec<u32> = frames.collect();
    let (audio, video) = heard(world, subscriber);
    assert_eq!(audio, all);
    assert_eq!(video, all);
}

/// All figures that a datagram without keys must not change.
fn figures(world: &mut World) -> (ShardStats, Vec<SessionStats>, TableSizes) {
    let stats = ShardStats {
        datagrams_received: 0,
        bytes_received: 0,
        drops: [0; DropReason::ALL.len()],
        ..world.shard().stats()
    };
    let sessions: Vec<_> = world.peers.iter().filter_map(|peer| peer.session).collect();
    let sessions = sessions.into_iter().map(|session| world.stats(session));
    (stats, sessions.collect(), world.shard().table_sizes())
}

fn drops(world: &World, reason: DropReason) -> u64 {
    world.shard().stats().drops[reason as usize]
}

fn sent_bytes(world: &World) -> u64 {
    world.sent_to.values().map(|(_, bytes)| bytes).sum()
}

#[test]
fn handshakes_get_through_20_percent_loss_unless_the_peer_gives_up() {
    let mut times = Vec::new();
    for seed in 0..200 {
        let mut world = World::new(seed);
        world.link = Link::lossy(200);
        world.join(&AUDIO, Role::Echo);
        let start = world.now;
        while !world.peers[0].connected && world.now.since(start) < SETUP_TIMEOUT {
            world.run_for(Duration::from_millis(10));
        }
        let failed = |event: &Event| matches!(event, Event::Closed { .. });
        assert!(
            !world.events.iter().any(failed),
            "it is never us who give up"
        );
        if world.peers[0].connected {
            times.push(world.now.since(start));
        }
    }
    times.sort_unstable();
    let (p50, p90, worst) = (times[100], times[180], times[times.len() - 1]);
    let given_up = 200 - times.len();
    eprintln!(
        "20 % loss, 5 ms each way: p50 {p50:?}, p90 {p90:?}, worst {worst:?}; {given_up} of 200 given up"
    );
    // str0m sends a flight five times with pauses of 1 to 8 s, and that our last flight is lost each time
    // happens to about one call in a hundred.
    assert!(given_up <= 10, "{given_up} of 200");
    assert!(p50 <= 2 * SECOND, "{p50:?}");
}

#[test]
fn media_is_back_within_a_second_of_the_first_check_from_a_new_port() {
    for seed in 0..5 {
        let mut world = World::new(seed);
        let (publisher, subscriber) = call(&mut world);
        let mut frame = 50;
        for moved in [publisher, subscriber] {
            let old = world.peers[moved].public;
            let new = SocketAddr::new(old.ip(), old.port() + 1);
            world.peers[moved].public = new;
            world.record = true;
            let moved_at = world.now;
            let (mut checked, mut back) = (None, None);
            while back.is_none() {
                stream(&mut world, publisher, frame..frame + 1);
                frame += 1;
                let is_check = |flying: &Flying| {
                    flying.source == new && classify(&flying.contents) == Class::Stun
                };
                if checked.is_none() && world.recorded.iter().any(is_check) {
                    checked = Some(world.now);
                }
                let last = world.peers[subscriber].arrivals.last().copied();
                back = last.filter(|last| checked.is_some_and(|checked| *last >= checked));
                assert!(
                    world.now.since(moved_at) < 20 * SECOND,
                    "it never came back"
                );
            }
            let took = back.zip(checked).map(|(back, checked)| back.since(checked));
            eprintln!(
                "seed {seed}, peer {moved}: media {:?} after the first check, {:?} after the move",
                took,
                world.now.since(moved_at)
            );
            assert!(took.is_some_and(|took| took <= SECOND), "{took:?}");
        }
    }
}

#[test]
fn an_ice_restart_loses_no_packet() {
    let mut world = World::new(21);
    let (publisher, subscriber) = call(&mut world);
    world.restart(publisher);
    stream(&mut world, publisher, 50..100);
    world.restart(subscriber);
    stream(&mut world, publisher, 100..200);
    world.run_for(SECOND);
    assert_heard_all(&world, subscriber, 0..200);
    // The restarted credentials carry consent on: far beyond the 29 s that a path lives unchecked.
    world.run_for(60 * SECOND);
    assert_eq!(world.shard().stats().sessions_connected, 2);
}

#[test]
fn media_flows_before_anything_is_nominated() {
    let mut world = World::new(22);
    let address = attacker(1);
    let mut peer = Raw::connect_nominating(
        &mut world,
        address,
        Role::Echo,
        raw::plan(true, true),
        false,
    );
    let mut source = peer
        .outbound
        .claim(raw::AUDIO_SSRC)
        .expect("the first claim");
    for number in 0..50 {
        let fields = raw::fields(raw::OPUS, raw::AUDIO_SSRC, number);
        let packet = peer.seal(&mut source, &fields, &[], b"hello");
        world.inject(address, &packet);
        world.run_for(FRAME);
    }
    let echoed = peer.listen(&mut world);
    let echoed = echoed
        .iter()
        .filter(|heard| matches!(heard, raw::Heard::Rtp(_, payload) if payload == b"hello"));
    assert_eq!(echoed.count(), 50);
}

#[test]
fn forged_packets_change_nothing_and_reach_nobody() {
    let mut world = World::new(23);
    world.record = true;
    let (publisher, subscriber) = call(&mut world);
    let recorded = std::mem::take(&mut world.recorded);
    world.record = false;
    world.run_for(SECOND);
    let (before, sent) = (figures(&mut world), world.sent_to.clone());
    let mut forged = 0;
    for (number, flying) in recorded.iter().enumerate() {
        let class = classify(&flying.contents);
        if class == Class::Dtls {
            continue;
        }
        // One bit each, a different one each time; and a number far ahead, to push the rollover counter.
        // FINGERPRINT, the last 8 bytes of STUN, is no proof of anything.
        let protected = flying.contents.len() - if class == Class::Stun { 8 } else { 0 };
        let mut copy = flying.contents.clone();
        let bit = number * 37 % (protected * 8);
        copy[bit / 8] ^= 1 << (bit % 8);
        let mut ahead = flying.contents.clone();
        match class {
            Class::Rtp => ahead[2] ^= 0x80,
            _ => ahead[protected - 1] ^= 0xff,
        }
        let random: Vec<u8> = flying
            .contents
            .iter()
            .map(|byte| byte.wrapping_mul(31))
            .collect();
        for bytes in [
            &copy,
            &ahead,
            &random,
            &flying.contents[..flying.contents.len() / 2].to_vec(),
        ] {
            world.inject(flying.source, bytes);
            world.inject(attacker(number as u16), bytes);
            forged += 2;
        }
    }
    assert!(forged > 500);
    assert_eq!(figures(&mut world), before);
    assert_eq!(world.sent_to, sent, "nobody was answered");
    stream(&mut world, publisher, 50..100);
    assert_heard_all(&world, subscriber, 0..100);
}

#[test]
fn a_call_replayed_forwards_and_backwards_changes_nothing() {
    let mut world = World::new(24);
    world.record = true;
    let (publisher, subscriber) = call(&mut world);
    let recorded = std::mem::take(&mut world.recorded);
    world.record = false;
    world.run_for(SECOND);
    let before = figures(&mut world);
    let sent = sent_bytes(&world);
    for flying in recorded.iter().chain(recorded.iter().rev()) {
        if matches!(classify(&flying.contents), Class::Rtp | Class::Rtcp) {
            world.inject(flying.source, &flying.contents);
        }
    }
    assert_eq!(figures(&mut world), before);
    assert_eq!(sent_bytes(&world), sent);
    // From elsewhere, even genuine media and handshakes are a stranger's.
    for flying in &recorded {
        if classify(&flying.contents) != Class::Stun {
            world.inject(attacker(1), &flying.contents);
        }
    }
    assert_eq!(figures(&mut world), before);
    assert_eq!(world.sent_to.get(&attacker(1)), None);
    // Handshakes and checks from their own addresses: the call goes on.
    for flying in &recorded {
        world.inject(flying.source, &flying.contents);
    }
    let faults = world.shard().stats().faults;
    assert_eq!(faults, 0);
    stream(&mut world, publisher, 50..100);
    assert_heard_all(&world, subscriber, 0..100);
    assert_eq!(world.shard().stats().sessions_connected, 2);
}

#[test]
fn strangers_get_no_answer_and_are_counted() {
    let mut world = World::new(25);
    let (publisher, subscriber) = call(&mut world);
    let before = figures(&mut world);
    let unknown = drops(&world, DropReason::UnknownSource);
    for number in 0..200 {
        let source = attacker(number);
        // RTP, RTCP, a DTLS ClientHello and an alert.
        let mut hello = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 42, 1, 0, 0, 30];
        hello.resize(55, 0);
        world.inject(
            source,
            &[0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4],
        );
        world.inject(
            source,
            &[0x80, 200, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4],
        );
        world.inject(source, &hello);
        world.inject(
            source,
            &[21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 40],
        );
        assert_eq!(world.sent_to.get(&source), None);
    }
    assert_eq!(drops(&world, DropReason::UnknownSource), unknown + 800);
    assert_eq!(figures(&mut world), before);
    stream(&mut world, publisher, 50..75);
    assert_heard_all(&world, subscriber, 0..75);
}

#[test]
fn a_flood_of_hellos_does_not_disturb_a_handshake() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let peer = world.join(&AUDIO, Role::Echo);
        let mut hello = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 42, 1, 0, 0, 30];
        hello.resize(55, 0);
        // 1,000 a second from the peer's own host and from elsewhere.
        for _ in 0..500 {
            let spoofed = SocketAddr::new(world.peers[peer].public.ip(), 9);
            world.inject(spoofed, &hello);
            world.inject(attacker(3), &hello);
            world.run_for(Duration::from_millis(2));
            assert_eq!(world.sent_to.get(&spoofed), None);
        }
        assert!(world.peers[peer].connected, "seed {seed}");
    }
}

#[test]
fn a_flood_of_checks_grows_no_table_and_gets_no_answer() {
    let mut world = World::new(26);
    let (publisher, subscriber) = call(&mut world);
    let victim = Raw::connect(&mut world, attacker(9), Role::Echo, raw::plan(true, true));
    let before = (figures(&mut world), sent_bytes(&world));
    let unknown = IceCredentials {
        ufrag: "abcdefghijklmnop".into(),
        password: "not-the-password-at-all".into(),
    };
    let wrong_key = IceCredentials {
        password: "not-the-password-at-all".into(),
        ufrag: victim.local.ice.ufrag.clone(),
    };
    for sources in [1, 200] {
        for number in 0..2_000 {
            let source = attacker(1_000 + number % sources);
            world.inject(source, &check(&unknown, &victim.remote, true));
            world.inject(source, &check(&wrong_key, &victim.remote, true));
        }
    }
    assert_eq!((figures(&mut world), sent_bytes(&world)), before);
    assert_eq!(drops(&world, DropReason::UnknownUfrag), 4_000);
    assert_eq!(drops(&world, DropReason::UnauthenticatedStun), 4_000);
    stream(&mut world, publisher, 50..75);
    assert_heard_all(&world, subscriber, 0..75);
}

#[test]
fn a_genuine_check_tampered_with_is_refused_without_an_answer() {
    let mut world = World::new(27);
    let peer = Raw::connect(&mut world, attacker(9), Role::Echo, raw::plan(true, true));
    let genuine = check(&peer.local.ice, &peer.remote, true);
    let (tables, sent) = (world.shard().table_sizes(), sent_bytes(&world));
    // FINGERPRINT is the last 8 bytes and not covered by the integrity check; all before is.
    for place in 0..genuine.len() - 8 {
        for bit in 0..8 {
            let mut copy = genuine.clone();
            copy[place] ^= 1 << bit;
            world.inject(attacker(1), &copy);
        }
        world.inject(attacker(1), &genuine[..place]);
    }
    assert_eq!(world.sent_to.get(&attacker(1)), None);
    assert_eq!(
        (world.shard().table_sizes(), sent_bytes(&world)),
        (tables, sent)
    );
    assert_eq!(world.shard().stats().faults, 0);
}

#[test]
fn addresses_named_in_an_offer_are_never_sent_to() {
    let mut world = World::new(28);
    let victims: Vec<SocketAddr> = (1..=20)
        .map(|number| ([192, 0, 2, number], 53).into())
        .collect();
    let named = victims.clone();
    let peer = world.join_naming(&AUDIO, Role::Echo, &named);
    world.connect_all();
    let mids = world.mids(peer);
    for frame in 0..100 {
        world.send(peer, mids[0], frame * 960, false, &[1; 50]);
        world.run_for(FRAME);
    }
    assert_eq!(world.peers[peer].payloads(mids[0]).len(), 100);
    assert!(
        victims
            .iter()
            .all(|victim| !world.sent_to.contains_key(victim))
    );
}

/// The peer holds the credentials and can put the victim's address on its checks and its media.
#[test]
fn a_victim_that_a_peer_nominates_gets_few_checks_and_no_media() {
    let mut world = World::new(35);
    let mut peer = Raw::connect(&mut world, attacker(9), Role::Echo, raw::plan(true, true));
    let victim = attacker(10);
    world.taps.insert(victim, Vec::new());
    let mut source = peer
        .outbound
        .claim(raw::AUDIO_SSRC)
        .expect("the first claim");
    let mut bytes_in = 0;
    for number in 0..500_u16 {
        bytes_in += peer.check_from(&mut world, victim, true) as u64;
        let fields = raw::fields(raw::OPUS, raw::AUDIO_SSRC, number);
        let packet = peer.seal(&mut source, &fields, &[], &[1; 1_000]);
        let from = [peer.address, victim][usize::from(number) % 2];
        world.inject(from, &packet);
        world.run_for(Duration::from_millis(10));
    }
    let to_victim = &world.taps[&victim];
    let checks = to_victim.iter().filter(|bytes| bytes.starts_with(&[0, 1]));
    assert!((24..=26).contains(&checks.count()), "5 a second");
    assert!(to_victim.iter().all(|bytes| classify(bytes) == Class::Stun));
    assert!(world.sent_to[&victim].1 <= bytes_in);
    let echoed = peer.listen(&mut world);
    let echoed = echoed
        .iter()
        .filter(|heard| matches!(heard, raw::Heard::Rtp(..)));
    assert_eq!(echoed.count(), 500, "all media went where the peer is");
    // It does not lose the session by it; and were it there, it would be followed.
    world.run_for(SECOND);
    peer.check_from(&mut world, victim, true);
    assert!(peer.answer_checks(&mut world, victim) > 0);
    let fields = raw::fields(raw::OPUS, raw::AUDIO_SSRC, 500);
    let packet = peer.seal(&mut source, &fields, &[], &[1; 1_000]);
    world.inject(victim, &packet);
    assert_eq!(rtp_to(&mut world, victim), 1);
}

/// The RTP that came to a tapped address since it was looked at last.
fn rtp_to(world: &mut World, address: SocketAddr) -> usize {
    let sent = std::mem::take(world.taps.get_mut(&address).expect("it is tapped"));
    let rtp = sent.iter().filter(|bytes| classify(bytes) == Class::Rtp);
    rtp.count()
}

/// Consent is of the path in use (RFC 7675 §5.1), so media that moves us to a path checked earlier brings its end
/// forward: the timer is kept with every packet, sound included.
#[test]
fn media_that_moves_to_a_path_checked_long_ago_ends_consent_when_that_path_says() {
    let mut world = World::new(36);
    let start = world.now;
    let mut peer = Raw::connect(&mut world, attacker(9), Role::Echo, raw::plan(true, true));
    let mut source = peer
        .outbound
        .claim(raw::AUDIO_SSRC)
        .expect("the first claim");
    let (first, second) = (peer.address, attacker(10));
    world.taps.insert(second, Vec::new());
    let mut number = 0;
    let mut speak = |world: &mut World, from| {
        let fields = raw::fields(raw::OPUS, raw::AUDIO_SSRC, number);
        number += 1;
        let packet = peer.seal(&mut source, &fields, &[], b"hello");
        world.inject(from, &packet);
        rtp_to(world, from)
    };
    world.run_for(SECOND);
    peer.check_from(&mut world, second, true);
    assert_eq!(peer.answer_checks(&mut world, second), 1);
    let checked = world.now;
    assert_eq!(speak(&mut world, second), 1, "it moved");
    // Back to the first, which is checked later; then media alone moves to the second again.
    world.run_for(14 * SECOND);
    peer.check_from(&mut world, first, true);
    assert_eq!(speak(&mut world, first), 1, "and back");
    world.run_for(5 * SECOND);
    let later = start + 15 * SECOND + CONSENT_TIMEOUT;
    assert_eq!(world.shard().deadline(), Some(later));
    assert_eq!(speak(&mut world, second), 1);
    assert_eq!(world.shard().deadline(), Some(checked + CONSENT_TIMEOUT));
    let ended = |world: &World| {
        let expired = |event: &Event| {
            let reason = CloseReason::ConsentExpired;
            matches!(event, Event::Closed { reason: other, .. } if *other == reason)
        };
        world.events.iter().any(expired)
    };
    world.run_for(CONSENT_TIMEOUT - 19 * SECOND - Duration::from_millis(1));
    assert!(!ended(&world));
    world.run_for(Duration::from_millis(1));
    assert!(ended(&world));
}

#[test]
fn answers_are_no_larger_than_checks_and_media_follows_nominations_only() {
    let mut world = World::new(29);
    let mut peer = Raw::connect(&mut world, attacker(9), Role::Echo, raw::plan(true, true));
    let mut source = peer
        .outbound
        .claim(raw::AUDIO_SSRC)
        .expect("the first claim");
    let mut bytes_in = [0_u64; 200];
    for number in 0..200_u16 {
        let victim = attacker(1_000 + number);
        bytes_in[usize::from(number)] += peer.check_from(&mut world, victim, false) as u64;
        let fields = raw::fields(raw::OPUS, raw::AUDIO_SSRC, number);
        let packet = peer.seal(&mut source, &fields, &[], &[1; 100]);
        world.inject(peer.address, &packet);
        world.run_for(Duration::from_millis(5));
    }
    for (number, bytes_in) in bytes_in.into_iter().enumerate() {
        let (datagrams, bytes_out) = world.sent_to[&attacker(1_000 + number as u16)];
        assert_eq!(datagrams, 1, "the answer alone");
        assert!(bytes_out <= bytes_in, "{bytes_out} out, {bytes_in} in");
    }
    assert!(world.shard().table_sizes().paths <= SESSION_PATHS_MAX);
}

#[test]
fn garbage_from_anyone_panics_nothing_and_gets_no_answer() {
    let files = ["any", "h264", "rtcp", "rtp", "sctp", "srtp", "stun"];
    let mut world = World::new(30);
    let (publisher, subscriber) = call(&mut world);
    let proved = [
        world.peers[publisher].public,
        world.peers[subscriber].public,
    ];
    let mut inputs = made_up_garbage(&mut world);
    for file in files {
        let path = if file == "rtp" {
            "malformed/rtp.jsonl.gz".into()
        } else {
            format!("malformed/{file}.jsonl")
        };
        inputs.extend(malformed(&path).into_iter().flatten());
    }
    let (before, sent) = (figures(&mut world), world.sent_to.clone());
    for input in &inputs {
        for source in [proved[0], proved[1], attacker(1)] {
            world.inject(source, input);
        }
    }
    assert_eq!(figures(&mut world), before);
    assert_eq!(world.sent_to, sent);
    stream(&mut world, publisher, 50..75);
    assert_heard_all(&world, subscriber, 0..75);
}

fn made_up_garbage(world: &mut World) -> Vec<Vec<u8>> {
    let mut inputs = vec![Vec::new()];
    for length in 1..=300 {
        let mut bytes = vec![0; length];
        world.rng.fill(&mut bytes);
        for first in [0, 1, 20, 22, 23, 63, 64, 128, 144, 191, 255] {
            bytes[0] = first;
            inputs.push(bytes.clone());
        }
    }
    inputs
}

#[test]
fn ten_thousand_sessions_come_and_go_and_leave_nothing() {
    let mut world = World::new(31);
    let mut slots = 0;
    for number in 0..10_000_u32 {
        let role = match number % 3 {
            0 => Role::Echo,
            1 => publisher(number, number),
            _ => subscriber(number - 1),
        };
        let (session, local) = world
            .open(raw::plan(true, true), role)
            .expect("there is room");
        if number.is_multiple_of(100) {
            let remote = raw::plan(true, true).remote_ice.clone();
            world.inject(attacker(1), &check(&local.ice, &remote, true));
        }
        slots = slots.max(session.key.index);
        world.command(Command::Close {
            session,
            reason: CloseReason::Requested,
        });
        world.events.clear();
    }
    assert_eq!(world.shard().table_sizes(), TableSizes::default());
    assert_eq!(slots, 0, "the one slot was used again and again");
    for number in 0..50 {
        let raw = Raw::connect(
            &mut world,
            attacker(number),
            Role::Echo,
            raw::plan(true, true),
        );
        world.command(Command::Close {
            session: raw.session,
            reason: CloseReason::Requested,
        });
    }
    assert_eq!(world.shard().table_sizes(), TableSizes::default());
    assert_eq!(world.shard().stats().sessions_connected, 0);
}

#[test]
fn a_panic_in_a_session_ends_that_session_alone() {
    let mut world = World::new(32);
    let (publisher, subscriber) = call(&mut world);
    let other = world.subscribe(1, Target::Newest);
    world.connect_all();
    stream(&mut world, publisher, 50..75);
    let doomed = world.peers[other].session.expect("it was opened");
    world.pump.shard_mut().inject_fault(doomed);
    stream(&mut world, publisher, 75..100);
    assert_heard_all(&world, subscriber, 0..100);
    let faulted = |event: &&Event| match event {
        Event::Closed { session, reason } => *session == doomed && *reason == CloseReason::Fault,
        _ => false,
    };
    assert_eq!(world.events.iter().filter(faulted).count(), 1);
    assert_eq!(
        (world.shard().stats().faults, world.shard().stats().sessions),
        (1, 2)
    );

    let doomed = world.peers[publisher].session.expect("it was opened");
    world.pump.shard_mut().inject_fault(doomed);
    stream(&mut world, publisher, 100..101);
    assert_eq!(
        (world.shard().stats().faults, world.shard().stats().sessions),
        (2, 1)
    );
    let next = world.publish(1, 2);
    world.connect_all();
    stream(&mut world, next, 125..150);
    let (audio, _) = heard(&world, subscriber);
    assert!(
        (125..150).all(|frame| audio.contains(&frame)),
        "the subscriber follows the next publisher"
    );
}

#[test]
fn time_that_goes_backwards_stands_still() {
    let mut world = World::new(33);
    let (publisher, subscriber) = call(&mut world);
    let now = world.now;
    world.pump.shard_mut().handle_timeout(Timestamp::ZERO);
    world.now = Timestamp::from_millis(5);
    world.inject(attacker(1), &[1, 2, 3]);
    world.now = now;
    stream(&mut world, publisher, 50..75);
    assert_heard_all(&world, subscriber, 0..75);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the jump must cost little real time"
)]
fn ten_years_pass_in_under_100_ms() {
    let mut world = World::new(34);
    call(&mut world);
    let peers: Vec<_> = (0..100)
        .map(|number| {
            Raw::connect(
                &mut world,
                attacker(number),
                Role::Echo,
                raw::plan(true, true),
            )
        })
        .collect();
    assert_eq!(peers.len(), 100);
    let started = std::time::Instant::now();
    let shard = world.pump.shard_mut();
    shard.handle_timeout(world.now + Duration::from_secs(10 * 365 * 86_400));
    let took = started.elapsed();
    eprintln!("ten years took {took:?}");
    assert!(took < Duration::from_millis(100), "{took:?}");
    assert_eq!(world.shard().table_sizes(), TableSizes::default());
}
