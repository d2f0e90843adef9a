//! Each video codec through the shard: what comes out of a lossy call is what went in, byte for byte.
//!
//! The pictures are captures of others' encoders where the folder of test data is there, and made-up ones
//! always. A publisher's numbers wrap, it leaves, another session of the same participant goes on with other
//! numbers, and our own numbers wrap. 5 % of all datagrams are lost meanwhile, on every link.

mod support;

use std::time::Duration;

use antiphon_core::ids::ParticipantId;
use antiphon_core::ids::RoomId;
use antiphon_core::message::{Role, Target};
use antiphon_core::plan::Codec;
use antiphon_core::wire::payload::vp8::Descriptor;
use str0m::RtcConfig;
use str0m::media::{Direction, MediaKind, Mid};

use crate::support::media::{Clip, Vp8Numbers, captured, pictures, synthetic};
use crate::support::{Link, World, publisher};

const VP9: Codec = Codec::Vp9 { profile: 0 };
const H264: Codec = Codec::H264 {
    packetization_mode: 1,
    profile: 0x4200,
};
const AV1: Codec = Codec::Av1 { profile: 0 };

const PICTURE: Duration = Duration::from_millis(33);
const LOSSY: Link = Link::lossy(50);
/// Pictures of each of the three lossy stretches.
const PICTURES: usize = 150;

/// What a publisher sent: number, time, marker, payload.
type Sent = Vec<(u64, u32, bool, Vec<u8>)>;

struct Publisher {
    number: usize,
    mid: Mid,
    sent: Sent,
    next: u64,
    time: u32,
    numbers: Option<Vp8Numbers>,
}

impl Publisher {
    fn join(world: &mut World, codec: Codec, sequence: u64, time: u32) -> Self {
        let sections = [(MediaKind::Video, Direction::SendOnly)];
        let number = world.join_with(
            &sections,
            publisher(1, 1),
            |config| only(config, codec),
            &[],
        );
        world.connect_all();
        let mid = world.mids(number)[0];
        world.peers[number].set_next_sequence(mid, sequence);
        world.peers[number].always_answer_nacks(mid);
        Self {
            number,
            mid,
            sent: Vec::new(),
            next: sequence,
            time,
            numbers: (codec == Codec::Vp8).then_some(Vp8Numbers {
                picture_id: sequence as u16,
                tl0_picture_index: sequence as u8,
            }),
        }
    }

    /// Sends pictures, and lets `pause` pass after each.
    fn send(&mut self, world: &mut World, clip: &mut Clip, count: usize, pause: Duration) {
        for _ in 0..count {
            let mut packets = clip.next_picture();
            if let Some(numbers) = &mut self.numbers {
                numbers.number(&mut packets);
            }
            for packet in packets {
                let time = self.time.wrapping_add(packet.time);
                world.send(self.number, self.mid, time, packet.marker, &packet.payload);
                self.sent
                    .push((self.next, time, packet.marker, packet.payload));
                self.next += 1;
            }
            world.run_for(pause);
        }
    }

    /// Sends with loss, then a little without, so that the end of it can be missed and asked for.
    fn send_lossy(&mut self, world: &mut World, clip: &mut Clip) {
        // Nobody can miss the very first packet of a source.
        self.send(world, clip, 1, PICTURE);
        world.link = LOSSY;
        self.send(world, clip, PICTURES, PICTURE);
        world.link = Link::lossy(0);
        self.send(world, clip, 30, PICTURE);
    }
}

fn only(config: RtcConfig, codec: Codec) -> RtcConfig {
    let config = config.clear_codecs();
    match codec {
        Codec::Vp8 => config.enable_vp8(true),
        Codec::Vp9 { .. } => config.enable_vp9(true),
        Codec::H264 { .. } => config.enable_h264(true),
        _ => config.enable_av1(true),
    }
}

fn borrowed(sent: &Sent) -> impl Iterator<Item = (u64, u32, bool, &[u8])> {
    sent.iter()
        .map(|(sequence, time, marker, payload)| (*sequence, *time, *marker, &payload[..]))
}

/// All that a subscriber received, by number.
fn received(world: &World, subscriber: usize) -> Sent {
    let mut received: Sent = world.peers[subscriber]
        .packets
        .iter()
        .map(|packet| {
            let header = &packet.header;
            (
                *packet.seq_no,
                header.timestamp,
                header.marker,
                packet.payload.to_vec(),
            )
        })
        .collect();
    received.sort_by_key(|(sequence, ..)| *sequence);
    received
}

/// Runs a call with three lossy stretches and compares every picture.
fn assert_survives(codec: Codec, seed: u8, clip: impl Fn() -> Clip) {
    let mut world = World::new(seed);
    let target = Target::Participant(ParticipantId(1));
    let role = Role::Subscribe {
        room: RoomId(1),
        target,
    };
    let sections = [(MediaKind::Video, Direction::RecvOnly)];
    let subscriber = world.join_with(&sections, role, |config| only(config, codec), &[]);
    world.connect_all();

    let mut first = Publisher::join(&mut world, codec, 65_450, 0xffff_0000);
    first.send_lossy(&mut world, &mut clip());
    world.run_for(Duration::from_secs(1));
    world.close(first.number);
    world.run_for(Duration::from_secs(1));

    let mut second = Publisher::join(&mut world, codec, 20_000, 77);
    let mut pictures_of_second = clip();
    second.send_lossy(&mut world, &mut pictures_of_second);
    world.run_for(Duration::from_secs(1));
    let last = received(&world, subscriber)
        .last()
        .expect("something came")
        .0;
    let mut filler = synthetic(codec, 300, 12);
    // Up to just before our own numbers wrap: a filling picture has 4 packets at most.
    let wrap = second.next + (65_536 - last % 65_536) - 100;
    second.time = second.time.wrapping_add(0x1000_0000);
    while second.next < wrap - 4 {
        second.send(&mut world, &mut filler, 1, Duration::from_millis(2));
    }
    second.time = second.time.wrapping_add(0x1000_0000);
    second.send_lossy(&mut world, &mut pictures_of_second);
    world.run_for(Duration::from_secs(1));

    let got = received(&world, subscriber);
    assert!(
        got[0].0 < 32_768 && got.last().expect("not empty").0 > 65_536,
        "our numbers wrapped"
    );
    let twice = got.windows(2).filter(|pair| pair[0].0 == pair[1].0).count();
    assert_eq!(twice, 0, "no packet came twice");
    let mut sent = pictures(codec, borrowed(&first.sent));
    sent.extend(pictures(codec, borrowed(&second.sent)));
    let got_pictures = pictures(codec, borrowed(&got));
    assert!(sent.len() >= 300);
    let differs = sent
        .iter()
        .zip(&got_pictures)
        .position(|(a, b)| a.bytes != b.bytes);
    assert_eq!((differs, got_pictures.len()), (None, sent.len()));
    if codec == Codec::Vp8 {
        assert_pictures_are_numbered_without_a_break(&got);
    }
    let session = world.peers[subscriber].session.expect("it was opened");
    let stats = world.stats(session);
    assert!(
        stats.tracks[0].retransmissions > 5,
        "the subscriber's losses were repaired"
    );
    let session = world.peers[second.number].session.expect("it was opened");
    let stats = world.stats(session);
    assert!(
        stats.tracks[0].retransmissions > 5,
        "the publisher's losses were repaired"
    );
    assert_eq!(world.shard().stats().faults, 0);
}

/// RFC 7741 §4.2: the picture id grows by one a picture, TL0PICIDX by one a picture of layer 0.
fn assert_pictures_are_numbered_without_a_break(got: &Sent) {
    let descriptors = got
        .iter()
        .map(|(.., payload)| Descriptor::parse(payload).expect("a VP8 payload"));
    let starts: Vec<_> = descriptors
        .filter(|descriptor| descriptor.partition_start && descriptor.partition == 0)
        .collect();
    for pair in starts.windows(2) {
        let ids = [0, 1].map(|place| pair[place].picture_id.expect("the clips have ids").value());
        assert_eq!(ids[1], (ids[0] + 1) & 0x7fff, "{pair:?}");
        let base = pair[1].temporal.is_none_or(|temporal| temporal.layer == 0);
        let indices = [0, 1].map(|place| {
            pair[place]
                .tl0_picture_index
                .expect("the clips have indices")
        });
        assert_eq!(
            indices[1],
            indices[0].wrapping_add(u8::from(base)),
            "{pair:?}"
        );
    }
}

fn assert_captured_survives(codec: Codec, seed: u8, path: &str, payload_type: u8) {
    if captured(path, payload_type).is_some() {
        assert_survives(codec, seed, || {
            captured(path, payload_type).expect("it was there")
        });
    }
}

fn made_up(codec: Codec) -> Clip {
    synthetic(codec, 90, 1_000)
}

#[test]
fn made_up_vp8_survives_loss_a_switch_and_both_wraps() {
    assert_survives(Codec::Vp8, 11, || made_up(Codec::Vp8));
}

#[test]
fn made_up_vp9_survives_loss_a_switch_and_both_wraps() {
    assert_survives(VP9, 12, || made_up(VP9));
}

#[test]
fn made_up_h264_survives_loss_a_switch_and_both_wraps() {
    assert_survives(H264, 13, || made_up(H264));
}

#[test]
fn made_up_av1_survives_loss_a_switch_and_both_wraps() {
    assert_survives(AV1, 14, || made_up(AV1));
}

#[test]
fn captured_vp8_survives_loss_a_switch_and_both_wraps() {
    assert_captured_survives(Codec::Vp8, 15, "captures/vp8.pcap", 96);
}

#[test]
fn captured_vp9_survives_loss_a_switch_and_both_wraps() {
    assert_captured_survives(VP9, 16, "captures/vp9.pcap", 98);
}

#[test]
fn captured_h264_survives_loss_a_switch_and_both_wraps() {
    assert_captured_survives(H264, 17, "captures/h264.pcap", 126);
}

#[test]
fn captured_av1_survives_loss_a_switch_and_both_wraps() {
    assert_captured_survives(AV1, 18, "captures/av1.pcap", 45);
}
