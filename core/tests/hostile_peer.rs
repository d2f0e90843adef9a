//! Hostile peers: they hold the keys of a session and say what they like with them.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use antiphon_core::ids::ParticipantId;
use antiphon_core::limits::{
    RETRANSMIT_BURST, RETRANSMIT_BYTES_PER_SECOND, SESSION_SSRCS_MAX, UNANNOUNCED_SSRCS_MAX,
};
use antiphon_core::message::{DropReason, Event, Role, Target};
use antiphon_core::plan::{Codec, CodecPlan, MediaKind};
use antiphon_core::srtp::SendSource;
use antiphon_core::wire::payload::vp8::{Descriptor, PictureId};
use antiphon_core::wire::rtp::Header;

use crate::support::raw::{self, Heard, Raw, VIDEO_SSRC};
use crate::support::testing::malformed;
use crate::support::{World, publisher, subscriber, vp8};

const SECOND: Duration = Duration::from_secs(1);

fn address(number: u16) -> SocketAddr {
    ([203, 0, (number >> 8) as u8, number as u8], 6_000).into()
}

fn count(world: &World, is: impl Fn(&Event) -> bool) -> usize {
    world.events.iter().filter(|event| is(event)).count()
}

/// A publisher that holds its keys, and sends key pictures alone.
struct Sender {
    raw: Raw,
    source: SendSource,
    next: u16,
}

impl Sender {
    fn new(world: &mut World, participant: u32) -> Self {
        let role = publisher(1, participant);
        let mut raw = Raw::connect(
            world,
            address(participant as u16),
            role,
            raw::plan(true, false),
        );
        let source = raw.outbound.claim(VIDEO_SSRC).expect("the first claim");
        Self {
            raw,
            source,
            next: 0,
        }
    }

    fn send(&mut self, world: &mut World) {
        let fields = raw::fields(raw::VP8, VIDEO_SSRC, self.next);
        let picture = vp8(self.next, true, true, 7, 1_000);
        let packet = self.raw.seal(&mut self.source, &fields, &[], &picture);
        world.inject(self.raw.address, &packet);
        self.next += 1;
    }
}

/// The RTP among what was heard.
fn rtp(heard: Vec<Heard>) -> Vec<(Header, Vec<u8>)> {
    let rtp = |heard| match heard {
        Heard::Rtp(header, payload) => Some((header, payload)),
        _ => None,
    };
    heard.into_iter().filter_map(rtp).collect()
}

#[test]
fn a_flood_of_65_000_sources_leaves_the_announced_one_unharmed() {
    let mut world = World::new(41);
    let mut sender = Sender::new(&mut world, 1);
    let mut receiver = Raw::connect(
        &mut world,
        address(9),
        subscriber(1),
        raw::plan(false, true),
    );
    let mut heard = 0;
    for number in 0..65_000_u32 {
        if number.is_multiple_of(100) {
            sender.send(&mut world);
            world.run_for(Duration::from_millis(20));
        }
        // Media and retransmissions; every one claims to begin a key picture.
        let payload_type = if number.is_multiple_of(8) {
            raw::RTX
        } else {
            raw::VP8
        };
        let fields = raw::fields(payload_type, 0x5000_0000 + number, number as u16);
        let flood = vp8(number as u16, true, true, 0xee, 20);
        let packet = sender.raw.seal_first(&fields, &flood);
        world.inject(sender.raw.address, &packet);
        if number.is_multiple_of(1_000) {
            let pictures = rtp(receiver.listen(&mut world));
            assert!(
                pictures.iter().all(|(_, payload)| payload[5..] == [7; 999]),
                "the announced source alone"
            );
            heard += pictures.len();
        }
    }
    heard += rtp(receiver.listen(&mut world)).len();
    assert_eq!(heard, 650);
    assert_eq!(
        count(&world, |event| matches!(event, Event::TrackAdded { .. })),
        1
    );
    let stats = world.stats(sender.raw.session);
    assert_eq!(stats.tracks.len(), 1, "the flood made no track");
    assert!(world.shard().stats().drops[DropReason::UnknownSsrc as usize] > 50_000);
    assert_eq!(world.shard().stats().faults, 0);
}

#[test]
fn no_flood_of_sources_makes_the_packets_of_an_old_one_new_again() {
    let mut world = World::new(49);
    let sender = Sender::new(&mut world, 1);
    let mut receiver = Raw::connect(
        &mut world,
        address(9),
        subscriber(1),
        raw::plan(false, true),
    );
    // Each falls silent, so that the next may feed the track: all would get a place, if there were one.
    let send = |world: &mut World, receiver: &Raw, packet: &[u8]| {
        world.inject(sender.raw.address, packet);
        world.run_for(SECOND);
        for peer in [receiver, &sender.raw] {
            peer.check_from(world, peer.address, true);
        }
    };
    let first_packet = |number: u32| {
        let fields = raw::fields(raw::VP8, 0x5000_0000 + number, 9);
        sender.raw.seal_first(&fields, &vp8(9, true, true, 8, 100))
    };
    let first_packets: Vec<_> = (0..100_u32).map(first_packet).collect();
    for packet in &first_packets {
        send(&mut world, &receiver, packet);
    }
    let heard = rtp(receiver.listen(&mut world)).len();
    assert_eq!(heard, UNANNOUNCED_SSRCS_MAX, "no place is given up");
    let replayed = world.shard().stats().drops[DropReason::Replayed as usize];
    for packet in &first_packets {
        send(&mut world, &receiver, packet);
    }
    assert_eq!(rtp(receiver.listen(&mut world)).len(), 0);
    let replayed = world.shard().stats().drops[DropReason::Replayed as usize] - replayed;
    assert_eq!(replayed, UNANNOUNCED_SSRCS_MAX as u64);
}

#[test]
fn an_announced_source_finds_a_place_however_many_came_before_it() {
    let mut world = World::new(50);
    let mut sender = Sender::new(&mut world, 1);
    for number in 0..SESSION_SSRCS_MAX as u32 {
        let fields = raw::fields(raw::RTX, 0x5000_0000 + number, 9);
        let packet = sender.raw.seal_first(&fields, &[0, 9, 1, 2, 3]);
        world.inject(sender.raw.address, &packet);
    }
    let refused = world.shard().stats().drops[DropReason::UnknownSsrc as usize];
    assert_eq!(refused, (SESSION_SSRCS_MAX - UNANNOUNCED_SSRCS_MAX) as u64);
    sender.send(&mut world);
    assert_eq!(world.stats(sender.raw.session).tracks[0].packets, 1);
}

#[test]
fn another_source_takes_over_when_the_first_falls_silent() {
    let mut world = World::new(42);
    let mut sender = Sender::new(&mut world, 1);
    let mut receiver = Raw::connect(
        &mut world,
        address(9),
        subscriber(1),
        raw::plan(false, true),
    );
    for _ in 0..10 {
        sender.send(&mut world);
        world.run_for(Duration::from_millis(20));
    }
    let mut other = sender.raw.outbound.claim(77).expect("the first claim");
    for number in 0..100_u16 {
        let fields = raw::fields(raw::VP8, 77, 40_000 + number);
        let packet = sender
            .raw
            .seal(&mut other, &fields, &[], &vp8(number, true, true, 8, 100));
        world.inject(sender.raw.address, &packet);
        world.run_for(Duration::from_millis(20));
    }
    let received = rtp(receiver.listen(&mut world));
    let sequence: Vec<u16> = received
        .iter()
        .map(|(header, _)| header.sequence_number)
        .collect();
    assert!(
        (80..90).contains(&sequence.len()),
        "500 ms of the other are missing: {}",
        sequence.len()
    );
    assert!(
        sequence.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "one stream without a gap"
    );
}

#[test]
fn a_storm_of_nacks_is_answered_within_its_budget() {
    let mut world = World::new(43);
    let mut sender = Sender::new(&mut world, 1);
    let mut receiver = Raw::connect(
        &mut world,
        address(9),
        subscriber(1),
        raw::plan(false, true),
    );
    for _ in 0..500 {
        sender.send(&mut world);
        world.run_for(Duration::from_millis(2));
    }
    let ssrc = receiver.local.sources[1].expect("we send video").ssrc;
    let heard = rtp(receiver.listen(&mut world));
    let heard: Vec<u16> = heard.iter().map(|(it, _)| it.sequence_number).collect();
    let before = world.sent_to[&receiver.address].1;
    // What it has, and all 65,536 numbers, 20 times in a second, with all masks full.
    for _ in 0..20 {
        let all =
            (0..16_u16).map(|chunk| (0..4_096).map(|number| chunk * 4_096 + number).collect());
        for lost in [heard.clone()].into_iter().chain(all) {
            let nack = receiver.seal_rtcp(|writer| {
                assert!(writer.nack(1, ssrc, &lost));
            });
            world.inject(receiver.address, &nack);
        }
        world.run_for(Duration::from_millis(50));
    }
    let stats = world.shard().stats();
    assert!(
        stats.retransmissions_sent > 50,
        "it does answer: {}",
        stats.retransmissions_sent
    );
    let bytes = world.sent_to[&receiver.address].1 - before;
    let budget =
        RETRANSMIT_BYTES_PER_SECOND * (1_000 + RETRANSMIT_BURST.as_millis() as u64) / 1_000;
    assert!(bytes <= budget + 10_000, "{bytes} of {budget}");
    // Numbers of nobody's stream are nobody's loss.
    let nack = receiver.seal_rtcp(|writer| {
        assert!(writer.nack(1, 0xdead_beef, &[1, 2, 3]));
    });
    world.inject(receiver.address, &nack);
    assert_eq!(
        world.shard().stats().retransmissions_sent,
        stats.retransmissions_sent
    );
}

/// To look for a packet is work, found or not: the budget is asked before.
#[test]
fn numbers_asked_for_in_vain_are_paid_for_as_well() {
    let mut world = World::new(51);
    let mut sender = Sender::new(&mut world, 1);
    let mut receiver = Raw::connect(
        &mut world,
        address(9),
        subscriber(1),
        raw::plan(false, true),
    );
    for _ in 0..20 {
        sender.send(&mut world);
        world.run_for(Duration::from_millis(20));
    }
    let ssrc = receiver.local.sources[1].expect("we send video").ssrc;
    let last = rtp(receiver.listen(&mut world)).pop().expect("20 of them");
    let number = last.0.sequence_number;
    let mut ask = |world: &mut World, lost: &[u16]| {
        let nack = receiver.seal_rtcp(|writer| assert!(writer.nack(1, ssrc, lost)));
        world.inject(receiver.address, &nack);
        world.shard().stats().retransmissions_sent
    };
    let never_sent: Vec<u16> = (0..2_000)
        .map(|ahead| number.wrapping_add(2_000 + ahead))
        .collect();
    for _ in 0..4 {
        assert_eq!(ask(&mut world, &never_sent), 0);
    }
    assert_eq!(ask(&mut world, &[number]), 0, "the budget is spent");
    world.run_for(Duration::from_millis(10));
    assert_eq!(ask(&mut world, &[number]), 1, "and there again soon");
}

#[test]
fn a_retransmission_asked_for_across_a_switch_is_never_of_the_other_source() {
    let mut world = World::new(44);
    let mut first = Sender::new(&mut world, 1);
    let mut receiver = Raw::connect(
        &mut world,
        address(9),
        subscriber(1),
        raw::plan(false, true),
    );
    for _ in 0..20 {
        first.send(&mut world);
        world.run_for(Duration::from_millis(20));
    }
    let ssrc = receiver.local.sources[1].expect("we send video").ssrc;
    let received = rtp(receiver.listen(&mut world));
    let numbers: Vec<u16> = received
        .iter()
        .map(|(header, _)| header.sequence_number)
        .collect();
    assert_eq!(numbers.len(), 20);
    // The next publisher numbers its packets alike, but has sent no key picture yet.
    let mut second = Sender::new(&mut world, 2);
    for number in 0..20 {
        let fields = raw::fields(raw::VP8, VIDEO_SSRC, number);
        let picture = vp8(number, false, true, 9, 100);
        let packet = second.raw.seal(&mut second.source, &fields, &[], &picture);
        world.inject(second.raw.address, &packet);
        world.run_for(Duration::from_millis(20));
    }
    let nack = receiver.seal_rtcp(|writer| {
        assert!(writer.nack(1, ssrc, &numbers));
    });
    world.inject(receiver.address, &nack);
    let wrong = rtp(receiver.listen(&mut world)).len();
    assert_eq!(
        wrong, 0,
        "nothing of the second source stands in for the first's"
    );
}

#[test]
fn a_retransmission_is_what_was_sent_whichever_of_the_agreed_codecs_it_is_of() {
    let mut world = World::new(48);
    let mut plan = raw::plan(true, true);
    let vp8_plan = plan.media[1].codecs[0];
    let vp9_plan = CodecPlan {
        payload_type: 98,
        codec: Codec::Vp9 { profile: 0 },
        rtx_payload_type: Some(99),
        ..vp8_plan
    };
    plan.media[1].codecs.insert(0, vp9_plan);
    let mut peer = Raw::connect(&mut world, address(1), Role::Echo, plan);
    // The second source goes on with the picture numbers of the first, so they are not its own.
    for (ssrc, picture_id) in [(VIDEO_SSRC, 7_000), (77, 20_000)] {
        let mut source = peer.outbound.claim(ssrc).expect("the first claim");
        world.run_for(SECOND);
        peer.listen(&mut world);
        for number in 0..10 {
            let fields = raw::fields(raw::VP8, ssrc, number);
            let picture = vp8(picture_id + number, true, true, 7, 100);
            let packet = peer.seal(&mut source, &fields, &[], &picture);
            world.inject(peer.address, &packet);
            world.run_for(Duration::from_millis(20));
        }
    }
    let sent = rtp(peer.listen(&mut world));
    assert_eq!(sent.len(), 10);
    let first = Descriptor::parse(&sent[0].1).expect("a VP8 payload");
    assert_eq!(first.picture_id, Some(PictureId::Bits15(7_010)));
    let numbers: Vec<u16> = sent
        .iter()
        .map(|(header, _)| header.sequence_number)
        .collect();
    let ssrc = peer.local.sources[1].expect("we send video").ssrc;
    let nack = peer.seal_rtcp(|writer| {
        assert!(writer.nack(1, ssrc, &numbers));
    });
    world.inject(peer.address, &nack);
    let again = rtp(peer.listen(&mut world));
    assert_eq!(again.len(), 10);
    for ((header, payload), (_, repaired)) in sent.iter().zip(&again) {
        assert_eq!(repaired[..2], header.sequence_number.to_be_bytes());
        assert_eq!(repaired[2..], payload[..]);
    }
}

#[test]
fn a_storm_of_keyframe_requests_goes_upstream_once_in_500_ms() {
    let mut world = World::new(45);
    let publisher = world.publish(1, 1);
    world.connect_all();
    let mids = world.mids(publisher);
    let mut receivers: Vec<_> = (0..5)
        .map(|number| {
            Raw::connect(
                &mut world,
                address(10 + number),
                subscriber(1),
                raw::plan(false, true),
            )
        })
        .collect();
    for step in 0..3_000_u32 {
        for receiver in &mut receivers {
            let ssrc = receiver.local.sources[1].expect("we send video").ssrc;
            let pli = receiver.seal_rtcp(|writer| {
                assert!(writer.picture_loss_indication(1, ssrc));
            });
            world.inject(receiver.address, &pli);
        }
        if step.is_multiple_of(33) {
            let picture = vp8((step / 33) as u16, step == 0, true, 7, 100);
            world.send(publisher, mids[1], step * 90, true, &picture);
        }
        world.run_for(Duration::from_millis(1));
    }
    let requests: Vec<_> = world.peers[publisher]
        .keyframe_requests
        .iter()
        .map(|(at, _)| *at)
        .collect();
    assert!((5..=7).contains(&requests.len()), "{requests:?}");
    let spaced = |pair: &[antiphon_core::time::Timestamp]| {
        pair[1].since(pair[0]) >= Duration::from_millis(499)
    };
    assert!(requests.windows(2).all(spaced), "{requests:?}");
}

#[test]
fn a_goodbye_ends_ones_own_track_and_nobody_elses() {
    let mut world = World::new(46);
    let publisher = world.publish(1, 1);
    world.connect_all();
    let mid = world.mids(publisher)[1];
    world.send(publisher, mid, 0, true, &vp8(0, true, true, 7, 100));
    world.run_for(SECOND);
    let foreign = world.peers[publisher].ssrc(mid);
    let mut sender = Sender::new(&mut world, 2);
    sender.send(&mut world);
    world.run_for(SECOND);
    let removed = |event: &Event| matches!(event, Event::TrackRemoved { .. });
    let bye = sender.raw.seal_rtcp(|writer| {
        assert!(writer.goodbye(&[foreign, 0, u32::MAX]));
    });
    world.inject(sender.raw.address, &bye);
    assert_eq!(count(&world, removed), 0);
    for _ in 0..3 {
        let bye = sender.raw.seal_rtcp(|writer| {
            assert!(writer.goodbye(&[VIDEO_SSRC]));
        });
        world.inject(sender.raw.address, &bye);
    }
    assert_eq!(count(&world, removed), 1, "its own, once");
    world.run_for(SECOND);
    sender.send(&mut world);
    let added = |event: &Event| matches!(event, Event::TrackAdded { kind, .. } if *kind == MediaKind::Video);
    assert_eq!(count(&world, added), 3, "and back");
}

#[test]
fn packets_and_byes_in_turn_make_no_flood_of_events() {
    let mut world = World::new(48);
    let mut sender = Sender::new(&mut world, 2);
    let before = world.events.len();
    for _ in 0..500 {
        sender.send(&mut world);
        let bye = sender.raw.seal_rtcp(|writer| {
            assert!(writer.goodbye(&[VIDEO_SSRC]));
        });
        world.inject(sender.raw.address, &bye);
        world.run_for(Duration::from_millis(4));
    }
    assert!(
        world.events.len() - before <= 4,
        "in 2 s: {:?}",
        &world.events[before..]
    );
}

#[test]
fn lies_and_garbage_under_the_right_key_panic_nothing_and_harm_no_other() {
    let mut world = World::new(47);
    let subscription = world.subscribe(1, Target::Participant(ParticipantId(1)));
    let publisher = world.publish(1, 1);
    world.connect_all();
    let mid = world.mids(publisher)[0];
    let mut hostile = Sender::new(&mut world, 2);
    let mut inputs: Vec<Vec<u8>> = Vec::new();
    for path in [
        "malformed/rtcp.jsonl",
        "malformed/rtp.jsonl.gz",
        "malformed/any.jsonl",
        "malformed/h264.jsonl",
    ] {
        inputs.extend(malformed(path).into_iter().flatten());
    }
    for length in 8..400 {
        for packet_type in 192..=223 {
            let mut bytes = vec![0; length];
            world.rng.fill(&mut bytes);
            bytes[0] = 0x80 | bytes[0] & 0x3f;
            bytes[1] = packet_type;
            // Sometimes a true length, so that the inside is reached.
            if bytes[7].is_multiple_of(2) {
                bytes[2..4].copy_from_slice(&((length / 4 - 1) as u16).to_be_bytes());
            }
            inputs.push(bytes);
        }
    }
    for (number, input) in inputs
        .iter()
        .enumerate()
        .filter(|(_, input)| input.len() >= 8)
    {
        let mut rtcp = input.clone();
        rtcp[0] = 0x80 | rtcp[0] & 0x3f;
        rtcp[1] = 192 + rtcp[1] % 32;
        // Of few senders, as more than the limit are refused unread.
        rtcp[4..8].copy_from_slice(&(number as u32 % 4).to_be_bytes());
        let sealed = hostile.raw.seal_rtcp_bytes(&rtcp);
        world.inject(hostile.raw.address, &sealed);
        let fields = raw::fields(
            if number % 2 == 0 { raw::VP8 } else { raw::RTX },
            VIDEO_SSRC,
            hostile.next,
        );
        let sealed = hostile.raw.seal(&mut hostile.source, &fields, &[], input);
        world.inject(hostile.raw.address, &sealed);
        hostile.next = hostile.next.wrapping_add(1 + number as u16 % 7);
        if number % 50 == 0 {
            let frame = number as u32 / 50;
            world.send(publisher, mid, frame * 960, false, &frame.to_be_bytes());
            world.run_for(Duration::from_millis(20));
        }
    }
    assert_eq!(world.shard().stats().faults, 0);
    let audio = world.mids(subscription)[0];
    let heard = world.peers[subscription].payloads(audio).len();
    let most = inputs
        .iter()
        .enumerate()
        .filter(|(number, input)| number % 50 == 0 && input.len() >= 8)
        .count();
    assert_eq!(heard, most);
}
