//! What RTCP is for: repair in both directions, round trips, clocks, rates, keyframes, and who speaks.

mod support;

use std::time::{Duration, UNIX_EPOCH};

use antiphon_core::ids::ParticipantId;
use antiphon_core::message::{Event, Target};
use antiphon_core::time::NtpTime;
use antiphon_core::wire::rtcp::{ExtendedBlock, Packet, ReceiverDelay, packets};
use str0m::bwe::Bitrate;
use str0m::media::{Direction, MediaKind, Mid};
use str0m::rtp::RtpPacket;

use crate::support::raw::{self, Heard, Raw};
use crate::support::{Link, World, publisher, subscriber, vp8};

const FRAME: Duration = Duration::from_millis(20);
const SECTIONS: [MediaKind; 2] = [MediaKind::Audio, MediaKind::Video];

/// Sends `count` pictures of two packets each, numbered from `first`, 20 ms apart.
fn send_video(world: &mut World, publisher: usize, mid: Mid, first: u16, count: u16) {
    for picture in first..first + count {
        let time = u32::from(picture) * 1_800;
        let start = vp8(picture, picture == first, true, picture as u8, 600);
        let end = vp8(picture, true, false, picture as u8, 300);
        world.send(publisher, mid, time, false, &start);
        world.send(publisher, mid, time, true, &end);
        world.run_for(FRAME);
    }
}

fn video_without_gaps(world: &World, subscriber: usize) -> usize {
    let mid = world.mids(subscriber)[1];
    let mut numbers: Vec<u64> = world.peers[subscriber]
        .packets_of(mid)
        .map(|packet| *packet.seq_no)
        .collect();
    numbers.sort_unstable();
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{numbers:?}"
    );
    numbers.len()
}

/// A publisher and two subscribers, and the publisher's video section.
fn room(world: &mut World) -> (usize, Mid, [usize; 2]) {
    let publisher = world.publish(1, 1);
    let subscribers = [(); 2].map(|()| world.subscribe(1, Target::Newest));
    world.connect_all();
    let mid = world.mids(publisher)[1];
    world.peers[publisher].always_answer_nacks(mid);
    send_video(world, publisher, mid, 0, 5);
    (publisher, mid, subscribers)
}

#[test]
fn a_lossy_publisher_is_repaired_once_for_all_its_subscribers() {
    let mut world = World::new(61);
    let (publisher, mid, subscribers) = room(&mut world);
    world.peers[publisher].up = Some(Link::lossy(100));
    send_video(&mut world, publisher, mid, 5, 300);
    world.peers[publisher].up = None;
    send_video(&mut world, publisher, mid, 305, 50);
    for subscriber in subscribers {
        assert_eq!(video_without_gaps(&world, subscriber), 710);
    }
    let session = world.peers[publisher].session.expect("it was opened");
    let stats = world.stats(session);
    let track = &stats.tracks[0];
    assert!(
        track.lost > 30 && track.retransmissions >= track.lost as u64,
        "{track:?}"
    );
    assert!(track.nacks > 20, "{track:?}");
}

#[test]
fn a_lossy_subscriber_is_repaired_from_our_cache_alone() {
    let mut world = World::new(62);
    let (publisher, mid, subscribers) = room(&mut world);
    world.peers[subscribers[0]].down = Some(Link::lossy(100));
    send_video(&mut world, publisher, mid, 5, 300);
    world.peers[subscribers[0]].down = None;
    send_video(&mut world, publisher, mid, 305, 50);
    for subscriber in subscribers {
        assert_eq!(video_without_gaps(&world, subscriber), 710);
    }
    let retransmissions = subscribers.map(|subscriber| {
        let session = world.peers[subscriber].session.expect("it was opened");
        world
            .stats(session)
            .tracks
            .iter()
            .map(|track| track.retransmissions)
            .sum::<u64>()
    });
    assert!(retransmissions[0] > 30, "{retransmissions:?}");
    assert_eq!(retransmissions[1], 0, "who lost nothing gets nothing twice");
    let session = world.peers[publisher].session.expect("it was opened");
    assert_eq!(
        world.stats(session).tracks[0].nacks,
        0,
        "the publisher is not bothered"
    );
}

#[test]
fn reports_tell_both_ends_the_round_trip_and_the_loss() {
    let mut world = World::new(63);
    let sections = SECTIONS.map(|kind| (kind, Direction::SendOnly));
    let every_second =
        |config: str0m::RtcConfig| config.set_stats_interval(Some(Duration::from_secs(1)));
    let publisher = world.join_with(&sections, publisher(1, 1), every_second, &[]);
    let subscriber = world.subscribe(1, Target::Newest);
    world.connect_all();
    let slow = Link {
        delay: Duration::from_millis(40),
        loss_permille: 0,
    };
    for peer in [publisher, subscriber] {
        (world.peers[peer].up, world.peers[peer].down) = (Some(slow), Some(slow));
    }
    let mid = world.mids(publisher)[1];
    send_video(&mut world, publisher, mid, 0, 500);
    let near = |rtt: Duration| rtt.abs_diff(Duration::from_millis(80)) < Duration::from_millis(3);
    let told: Vec<_> = world.peers[publisher]
        .egress
        .iter()
        .filter(|stats| stats.mid == mid)
        .collect();
    let rtts: Vec<Duration> = told.iter().filter_map(|stats| stats.rtt).collect();
    assert!(rtts.len() >= 5, "{rtts:?}");
    assert!(rtts.iter().all(|rtt| near(*rtt)), "{rtts:?}");
    assert!(
        told.iter()
            .filter_map(|stats| stats.loss)
            .all(|loss| loss == 0.0)
    );
    let session = world.peers[subscriber].session.expect("it was opened");
    let ours = world
        .stats(session)
        .round_trip
        .expect("the subscriber reports");
    assert!(near(ours), "{ours:?}");
    let session = world.peers[publisher].session.expect("it was opened");
    let ours = world.stats(session).round_trip;
    assert!(ours.is_some_and(near), "of who only publishes: {ours:?}");

    world.peers[publisher].up = Some(Link {
        loss_permille: 200,
        ..slow
    });
    send_video(&mut world, publisher, mid, 500, 500);
    let loss = world.peers[publisher]
        .egress
        .iter()
        .rev()
        .filter(|stats| stats.mid == mid)
        .find_map(|stats| stats.loss);
    assert!(
        loss.is_some_and(|loss| (0.1..0.3).contains(&loss)),
        "{loss:?}"
    );
}

#[test]
fn who_only_publishes_is_asked_for_the_round_trip_and_believed_within_reason() {
    let mut world = World::new(68);
    let address = ([203, 0, 113, 1], 6_000).into();
    let mut peer = Raw::connect(&mut world, address, publisher(1, 1), raw::plan(true, false));
    let mut source = peer.outbound.claim(raw::AUDIO_SSRC).expect("once");
    for number in 0..60 {
        let fields = raw::fields(raw::OPUS, raw::AUDIO_SSRC, number);
        let packet = peer.seal(&mut source, &fields, &[], b"hello");
        world.inject(address, &packet);
        world.run_for(FRAME);
    }
    let asked = reference_times(&peer.listen(&mut world));
    assert_eq!(asked.len(), 2, "one with each report");
    let (ssrc, ntp) = asked[1];
    let answer =
        |world: &mut World, peer: &mut Raw, of, last_receiver_report, delay_millis: u32| {
            let delay = ReceiverDelay {
                ssrc: of,
                last_receiver_report,
                delay_since_last: (delay_millis << 16) / 1_000,
            };
            let sealed = peer.seal_rtcp(|writer| assert!(writer.receiver_delays(1, &[delay])));
            world.inject(address, &sealed);
            world.stats(peer.session).round_trip
        };
    // The report left with the packet of one second; now it is 1.2 s.
    let lies = [
        (ssrc, 0),
        (ssrc ^ 1, ntp.middle()),
        (ssrc, ntp.middle() + (9 << 16)),
    ];
    for (of, last) in lies {
        assert_eq!(answer(&mut world, &mut peer, of, last, 170), None);
    }
    let round_trip = answer(&mut world, &mut peer, ssrc, ntp.middle(), 170);
    let near = |round_trip: Duration| round_trip.abs_diff(Duration::from_millis(30)) < FRAME / 20;
    assert!(round_trip.is_some_and(near), "{round_trip:?}");
}

/// Who asked for a round trip, and when by our clock.
fn reference_times(heard: &[Heard]) -> Vec<(u32, NtpTime)> {
    let mut found = Vec::new();
    for heard in heard {
        let Heard::Rtcp(bytes) = heard else { continue };
        for packet in packets(bytes) {
            let Packet::ExtendedReport(report) = packet.expect("we write well") else {
                continue;
            };
            for block in report.blocks() {
                let ExtendedBlock::ReceiverReferenceTime(ntp) = block else {
                    panic!("we write no other: {block:?}");
                };
                found.push((report.sender_ssrc, ntp));
            }
        }
    }
    found
}

/// The wall time of a packet by the last sender report before it.
fn wall_time(packet: &RtpPacket, rate: f64) -> Option<f64> {
    let info = packet.last_sender_info.as_ref()?;
    let base = info
        .ntp_time
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs_f64();
    let since = packet
        .header
        .timestamp
        .wrapping_sub(info.rtp_time.numer() as u32) as i32;
    Some(base + f64::from(since) / rate)
}

#[test]
fn audio_and_video_of_a_publisher_line_up_at_a_subscriber() {
    let mut world = World::new(64);
    let (mut frame, mut worst) = (0_u32, 0_f64);
    let subscriber = world.subscribe(1, Target::Participant(ParticipantId(1)));
    // Twice, so that the clocks of the next session of the participant line up as well.
    for offset in [0x1234_5678_u32, 0xffff_ff00] {
        let publisher = world.publish(1, 1);
        world.connect_all();
        let mids = world.mids(publisher);
        world.peers[subscriber].packets.clear();
        for _ in 0..500 {
            let tag = frame.to_be_bytes();
            let mut picture = vp8(frame as u16, frame.is_multiple_of(50), true, 7, 100);
            picture.extend_from_slice(&tag);
            world.send(
                publisher,
                mids[0],
                offset.wrapping_add(frame * 960),
                false,
                &tag,
            );
            world.send(
                publisher,
                mids[1],
                offset.wrapping_mul(3).wrapping_add(frame * 1_800),
                true,
                &picture,
            );
            world.run_for(FRAME);
            frame += 1;
        }
        let ours = world.mids(subscriber);
        // Two seconds for the first report of each track to be heard and passed on.
        let times = |mid, rate| -> Vec<Option<f64>> {
            world.peers[subscriber]
                .packets_of(mid)
                .skip(150)
                .map(|packet| wall_time(packet, rate))
                .collect()
        };
        let (audio, video) = (times(ours[0], 48_000.0), times(ours[1], 90_000.0));
        assert!(
            audio.len() >= 340 && audio.len() == video.len(),
            "{} {}",
            audio.len(),
            video.len()
        );
        for (audio, video) in audio.iter().zip(&video) {
            let (audio, video) = audio.zip(*video).expect("both tracks were reported");
            worst = worst.max((audio - video).abs());
        }
        world.close(publisher);
        world.run_for(Duration::from_secs(1));
    }
    eprintln!(
        "audio and video differ by at most {:.3} ms",
        worst * 1_000.0
    );
    assert!(worst < 0.001, "{worst} s");
}

#[test]
fn transport_wide_feedback_lets_a_publishers_estimate_rise() {
    let mut world = World::new(65);
    let sections = SECTIONS.map(|kind| (kind, Direction::SendOnly));
    let estimating = |config: str0m::RtcConfig| config.enable_bwe(Some(Bitrate::kbps(300)));
    let publisher = world.join_with(&sections, publisher(1, 1), estimating, &[]);
    world.connect_all();
    let mid = world.mids(publisher)[1];
    let mut bwe = world.peers[publisher].rtc.bwe();
    bwe.set_bitrate(Bitrate::kbps(360), Bitrate::mbps(3));
    send_video(&mut world, publisher, mid, 0, 750);
    let estimates = &world.peers[publisher].estimates;
    let (first, last) = (estimates.first().copied(), estimates.last().copied());
    eprintln!("{} estimates, {first:?} to {last:?} bit/s", estimates.len());
    assert!(last.is_some_and(|last| last > 600_000), "{last:?}");
}

#[test]
fn keyframe_requests_of_many_subscribers_are_one_upstream() {
    let mut world = World::new(66);
    let publisher = world.publish(1, 1);
    world.connect_all();
    let mid = world.mids(publisher)[1];
    send_video(&mut world, publisher, mid, 0, 50);
    let asked = world.peers[publisher].keyframe_requests.len();
    let late: Vec<_> = (0..10)
        .map(|_| world.join(&[(MediaKind::Video, Direction::RecvOnly)], subscriber(1)))
        .collect();
    for _ in 0..25 {
        for peer in &late {
            let mid = world.mids(*peer)[0];
            if world.peers[*peer].connected {
                world.request_keyframe(*peer, mid);
            }
        }
        world.run_for(FRAME);
    }
    assert!(late.iter().all(|peer| world.peers[*peer].connected));
    let requests = world.peers[publisher].keyframe_requests.len() - asked;
    assert!((1..=2).contains(&requests), "{requests} in 500 ms");
}

#[test]
fn the_loudest_of_three_is_the_active_speaker() {
    let mut world = World::new(67);
    let peers: Vec<_> = (1..=3)
        .map(|participant| world.publish(1, participant))
        .collect();
    world.connect_all();
    let talk = |world: &mut World, loud: Option<usize>| {
        world.events.clear();
        for _ in 0..100 {
            for (place, peer) in peers.iter().enumerate() {
                let mid = world.mids(*peer)[0];
                let level = if loud == Some(place) { -25 } else { -80 };
                let now = world.now.as_millis() as u32;
                world.send_as_loud(*peer, mid, now * 48, false, &[1; 40], level);
            }
            world.run_for(FRAME);
        }
        let speaker = |event: &Event| match event {
            Event::ActiveSpeaker { participant, .. } => Some(*participant),
            _ => None,
        };
        world.events.iter().filter_map(speaker).collect::<Vec<_>>()
    };
    assert_eq!(talk(&mut world, None), []);
    assert_eq!(talk(&mut world, Some(1)), [Some(ParticipantId(2))]);
    assert_eq!(talk(&mut world, Some(2)), [Some(ParticipantId(3))]);
    assert_eq!(talk(&mut world, None), [None]);
}
