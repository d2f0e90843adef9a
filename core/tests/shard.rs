//! The shard in memory, against str0m peers in virtual time.

mod support;

use std::time::Duration;

use antiphon_core::ids::{ParticipantId, RoomId};
use antiphon_core::message::{CloseReason, Command, Event, Role, Target};
use antiphon_core::shard::TableSizes;
use str0m::media::{Direction, MediaKind};

use crate::support::World;

const SECOND: Duration = Duration::from_secs(1);

fn echo(world: &mut World) -> usize {
    let peer = world.join(
        &[
            (MediaKind::Audio, Direction::SendRecv),
            (MediaKind::Video, Direction::SendRecv),
        ],
        Role::Echo,
    );
    world.connect_all();
    peer
}

#[test]
fn an_echo_returns_every_packet_under_our_own_numbers() {
    let mut world = World::new(1);
    let peer = echo(&mut world);
    let mids = world.mids(peer);
    for number in 0..100_u32 {
        let payload = [number as u8; 80];
        world.send(peer, mids[0], number * 960, false, &payload);
        world.run_for(Duration::from_millis(20));
    }
    let payloads = world.peers[peer].payloads(mids[0]);
    assert_eq!(payloads.len(), 100);
    assert!(
        payloads
            .iter()
            .enumerate()
            .all(|(number, payload)| payload == &[number as u8; 80])
    );
}

#[test]
fn a_session_that_ends_leaves_every_table_empty() {
    let mut world = World::new(2);
    let peer = echo(&mut world);
    let session = world.peers[peer].session.expect("it was opened");
    assert_ne!(world.shard().table_sizes(), TableSizes::default());
    world.command(Command::Close {
        session,
        reason: CloseReason::Requested,
    });
    assert_eq!(world.shard().table_sizes(), TableSizes::default());
    world.run_for(SECOND);
    assert!(world.peers[peer].closed, "close_notify reached the peer");
    let closed = |event: &&Event| {
        matches!(
            event,
            Event::Closed {
                reason: CloseReason::Requested,
                ..
            }
        )
    };
    assert_eq!(world.events.iter().filter(closed).count(), 1);
}

#[test]
fn a_session_that_never_connects_is_reaped_within_30_s() {
    let mut world = World::new(3);
    let peer = world.join(&[(MediaKind::Audio, Direction::SendRecv)], Role::Echo);
    world.peers[peer].closed = true;
    world.run_for(30 * SECOND);
    assert_eq!(world.shard().table_sizes(), TableSizes::default());
    assert!(matches!(
        world.events.last(),
        Some(Event::Closed {
            reason: CloseReason::SetupTimeout,
            ..
        })
    ));
}

#[test]
fn a_peer_that_falls_silent_is_gone_within_30_s() {
    let mut world = World::new(4);
    let peer = echo(&mut world);
    world.run_for(10 * SECOND);
    world.peers[peer].closed = true;
    world.run_for(30 * SECOND);
    assert_eq!(world.shard().table_sizes(), TableSizes::default());
    assert!(matches!(
        world.events.last(),
        Some(Event::Closed {
            reason: CloseReason::ConsentExpired,
            ..
        })
    ));
}

#[test]
fn a_room_carries_audio_and_video_from_its_publisher_to_its_subscribers() {
    let mut world = World::new(5);
    let publisher = world.publish(1, 1);
    world.connect_all();
    let first = world.subscribe(1, Target::Newest);
    let second = world.subscribe(1, Target::Participant(ParticipantId(1)));
    world.connect_all();
    let mids = world.mids(publisher);
    for number in 0..50_u32 {
        world.send(publisher, mids[0], number * 960, false, &[number as u8; 40]);
        let frame = support::vp8(number as u16, number == 0, true, number as u8, 200);
        world.send(publisher, mids[1], number * 3_000, true, &frame);
        world.run_for(Duration::from_millis(20));
    }
    for subscriber in [first, second] {
        let mids = world.mids(subscriber);
        assert_eq!(world.peers[subscriber].payloads(mids[0]).len(), 50);
        assert_eq!(world.peers[subscriber].payloads(mids[1]).len(), 50);
    }
}

#[test]
fn a_late_subscriber_gets_its_first_picture_from_a_keyframe_it_made_us_ask_for() {
    let mut world = World::new(6);
    let publisher = world.publish(1, 1);
    world.connect_all();
    let mids = world.mids(publisher);
    let mut picture = 0;
    let mut stream = |world: &mut World, frames: usize, keyframe_first: bool| {
        for frame in 0..frames {
            let keyframe = keyframe_first && frame == 0;
            let payload = support::vp8(picture, keyframe, true, 7, 100);
            world.send(
                publisher,
                mids[1],
                u32::from(picture) * 3_000,
                true,
                &payload,
            );
            picture += 1;
            world.run_for(Duration::from_millis(33));
        }
    };
    stream(&mut world, 10, true);
    let before = world.peers[publisher].keyframe_requests.len();
    let late = world.subscribe(1, Target::Newest);
    world.connect_all();
    stream(&mut world, 3, false);
    assert!(world.peers[publisher].keyframe_requests.len() > before);
    let mids_of_late = world.mids(late);
    assert_eq!(
        world.peers[late].payloads(mids_of_late[1]).len(),
        0,
        "nothing but a keyframe starts it"
    );
    stream(&mut world, 3, true);
    assert_eq!(world.peers[late].payloads(mids_of_late[1]).len(), 3);
}

#[test]
fn a_subscriber_survives_its_publisher_leaving_and_coming_back() {
    let mut world = World::new(7);
    let subscriber = {
        let subscriber = world.subscribe(1, Target::Participant(ParticipantId(1)));
        world.connect_all();
        subscriber
    };
    let audio = world.mids(subscriber)[0];
    for round in 1..=3 {
        let publisher = world.publish(1, 1);
        world.connect_all();
        let mids = world.mids(publisher);
        for number in 0..20_u32 {
            world.send(publisher, mids[0], number * 960, false, &[round; 30]);
            world.run_for(Duration::from_millis(20));
        }
        let heard = world.peers[subscriber]
            .payloads(audio)
            .iter()
            .filter(|p| p[0] == round)
            .count();
        assert_eq!(heard, 20, "round {round}");
        let session = world.peers[publisher].session.expect("it was opened");
        world.command(Command::Close {
            session,
            reason: CloseReason::Requested,
        });
        world.run_for(SECOND);
    }
    // One continuous stream: every number once, in order.
    let sequence: Vec<u64> = world.peers[subscriber]
        .packets
        .iter()
        .map(|p| *p.seq_no)
        .collect();
    assert!(
        sequence.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{sequence:?}"
    );
}

#[test]
fn a_new_session_of_a_participant_replaces_the_old() {
    let mut world = World::new(8);
    let old = world.publish(1, 1);
    world.connect_all();
    let _new = world.publish(1, 1);
    world.connect_all();
    world.run_for(SECOND);
    assert!(world.peers[old].closed);
    let replaced = |event: &Event| {
        matches!(
            event,
            Event::Closed {
                reason: CloseReason::Replaced,
                ..
            }
        )
    };
    assert!(world.events.iter().any(replaced));
    let _room = RoomId(1);
}
