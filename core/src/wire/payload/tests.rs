use std::collections::HashMap;

use aws_lc_rs::digest::{Context, SHA256};

use crate::rng::Seed;
use crate::testing::{captures, malformed, unhex, vector};
use crate::wire::rtp::Header;

use super::reassemble::{Frame, Reassembler};
use super::vp8::{Descriptor, PictureId, Temporal};
use super::*;

const VP9: Codec = Codec::Vp9 { profile: 0 };
const H264: Codec = Codec::H264 {
    packetization_mode: 1,
    profile: 0x4200,
};
const AV1: Codec = Codec::Av1 { profile: 0 };
const VIDEO: [Codec; 4] = [Codec::Vp8, VP9, H264, AV1];

/// A captured stream: packets of one source, in order.
fn stream(path: &str, payload_type: u8) -> Option<Vec<(Header, Vec<u8>)>> {
    let mut packets = Vec::new();
    for packet in captures::udp_payloads(path)? {
        let header = Header::parse(&packet).unwrap();
        if header.payload_type == payload_type {
            packets.push((header, header.payload(&packet).unwrap().to_vec()));
        }
    }
    Some(packets)
}

fn frames(codec: Codec, packets: &[(Header, Vec<u8>)]) -> Vec<Frame> {
    let mut reassembler = Reassembler::new(codec);
    packets
        .iter()
        .filter_map(|(header, payload)| reassembler.push(header, payload))
        .collect()
}

/// What tshark says of each packet, by sequence number.
fn remarks(path: &str) -> Option<HashMap<u16, String>> {
    let text = String::from_utf8(vector(path)?).unwrap();
    let remark = |line: &str| {
        let (_, after) = line.split_once("Seq=")?;
        let (sequence, remark) = after.split_once(',')?;
        Some((sequence.parse().unwrap(), remark.to_string()))
    };
    Some(text.lines().filter_map(remark).collect())
}

#[test]
fn vp8_key_pictures_are_those_tshark_names() {
    let Some(packets) = stream("captures/vp8.pcap", 96) else {
        return;
    };
    let remarks = remarks("captures/vp8.frames.txt").unwrap();
    for (header, payload) in &packets {
        let expected = remarks[&header.sequence_number].contains("Keyframe");
        assert_eq!(
            is_keyframe(Codec::Vp8, payload),
            expected,
            "{}",
            header.sequence_number
        );
    }
    assert_eq!(packets.len(), 104);
    assert_eq!(
        packets
            .iter()
            .filter(|(_, payload)| is_keyframe(Codec::Vp8, payload))
            .count(),
        3
    );
}

#[test]
fn h264_key_pictures_are_those_tshark_names() {
    let Some(packets) = stream("captures/h264.pcap", 126) else {
        return;
    };
    let remarks = remarks("captures/h264.frames.txt").unwrap();
    let mut starts = 0;
    for (header, payload) in &packets {
        let remark = &remarks[&header.sequence_number];
        let expected = remark.contains(" SPS") || remark.contains("Start:IDR-Slice");
        assert_eq!(is_keyframe(H264, payload), expected, "{remark}");
        starts += usize::from(expected);
    }
    assert_eq!((packets.len(), starts), (298, 11));
}

/// Marks of tshark: a marker ends each of 101 pictures.
#[test]
fn vp8_pictures_are_whole_bitstreams() {
    let Some(packets) = stream("captures/vp8.pcap", 96) else {
        return;
    };
    let frames = frames(Codec::Vp8, &packets);
    let markers = packets.iter().filter(|(header, _)| header.marker).count();
    assert_eq!(frames.len(), markers);
    for frame in &frames {
        let tag = u32::from_le_bytes([frame.bytes[0], frame.bytes[1], frame.bytes[2], 0]);
        assert_eq!(frame.keyframe, tag & 1 == 0);
        let first_partition = (tag >> 5) as usize;
        assert!(
            first_partition < frame.bytes.len(),
            "the first partition fits (RFC 6386 §9.1)"
        );
        if frame.keyframe {
            assert_eq!(
                frame.bytes[3..6],
                [0x9d, 0x01, 0x2a],
                "a key picture's start code"
            );
        }
    }
}

#[test]
fn vp9_pictures_are_whole_bitstreams() {
    let Some(packets) = stream("captures/vp9.pcap", 98) else {
        return;
    };
    assert_eq!(packets.len(), 316);
    let frames = frames(VP9, &packets);
    let mut keyframes = 0;
    for frame in &frames {
        assert_eq!(frame.bytes[0] >> 6, 0b10, "a frame marker (VP9 §6.2)");
        // Profile 0: show_existing_frame, then frame_type, 0 for a key picture.
        assert_eq!(frame.keyframe, frame.bytes[0] & 0b0000_1100 == 0);
        if frame.keyframe {
            assert_eq!(
                frame.bytes[1..4],
                [0x49, 0x83, 0x42],
                "a key picture's sync code"
            );
            keyframes += 1;
        }
    }
    // Packets are missing inside all but the first 15 pictures, of one packet each, one of two and
    // one of three.
    assert_eq!((frames.len(), keyframes), (17, 1));
}

#[test]
fn h264_pictures_are_whole_byte_streams() {
    // Of 268 pictures one lost its marker and two a packet inside, one follows a gap, and one has
    // an aggregate whose lengths lie (tshark: "Bad NAL Length").
    let cases = [
        ("captures/h264.pcap", 126, 263),
        ("captures-made/h264-ipv6.pcap", 102, 90),
    ];
    for (path, payload_type, count) in cases {
        let Some(packets) = stream(path, payload_type) else {
            return;
        };
        let frames = frames(H264, &packets);
        for frame in &frames {
            let types = annex_b_types(&frame.bytes);
            assert!(
                types.iter().all(|unit| (1..=23).contains(unit)),
                "{types:?}"
            );
            assert_eq!(
                frame.keyframe,
                types.contains(&7) || types.contains(&5),
                "{types:?}"
            );
        }
        assert_eq!(frames.len(), count, "{path}");
    }
}

fn annex_b_types(bytes: &[u8]) -> Vec<u8> {
    bytes
        .windows(5)
        .filter(|window| window[..4] == [0, 0, 0, 1])
        .map(|w| w[4] & 0x1f)
        .collect()
}

#[test]
fn av1_pictures_are_whole_temporal_units() {
    let Some(packets) = stream("captures/av1.pcap", 45) else {
        return;
    };
    let frames = frames(AV1, &packets);
    let mut keyframes = 0;
    for frame in &frames {
        let types = obu_types(&frame.bytes);
        assert_eq!(
            types.contains(&1),
            frame.keyframe,
            "a sequence header: {types:?}"
        );
        // Frame, or frame header with tile groups.
        assert!(types.contains(&6) || types.contains(&3), "{types:?}");
        keyframes += usize::from(frame.keyframe);
    }
    // The capture ends inside the 45th picture.
    assert_eq!((frames.len(), keyframes), (44, 1));
}

/// Types of a chain of OBUs with sizes that ends where the bytes end.
fn obu_types(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let Some(&head) = bytes.first() {
        assert_eq!(head & 0x83, 0x02, "no forbidden bit, and a size");
        let mut at = 1 + usize::from(head >> 2 & 1);
        let (mut size, mut shift) = (0, 0);
        loop {
            let byte = bytes[at];
            size |= usize::from(byte & 0x7f) << shift;
            (at, shift) = (at + 1, shift + 7);
            if byte & 0x80 == 0 {
                break;
            }
        }
        types.push(head >> 3 & 0x0f);
        bytes = &bytes[at + size..];
    }
    types
}

/// SHA-256 over timestamp, length and bytes of each picture, as a second reassembler computed it,
/// written apart from this one in another language.
#[test]
fn pictures_are_those_of_an_independent_reassembler() {
    let cases = [
        (
            ("captures/vp8.pcap", 96, Codec::Vp8),
            "16fcff1ec6ff8058d9bb42ad4f622f1308df10a9c4437d505ee79b8ee5aa6963",
        ),
        (
            ("captures/vp9.pcap", 98, VP9),
            "16e7a080a10c152ce048eb5d1eb1ed07365932b1d9856be2b1625ad9978e412c",
        ),
        (
            ("captures/h264.pcap", 126, H264),
            "b3bb10341c52e8471f08f555c3aee3e6221e2dafe346e512e2fe103189356cc7",
        ),
        (
            ("captures-made/h264-ipv6.pcap", 102, H264),
            "f049c0fb8940d8c2af3934d96661d720e1e5f40e7aa7b9d78fcefbdfea8586cb",
        ),
        (
            ("captures/av1.pcap", 45, AV1),
            "bdc93a2b7d09f85ad8e1419e24589551679b9576c8796ed30b7c2b9ef1878b38",
        ),
    ];
    for ((path, payload_type, codec), expected) in cases {
        let Some(packets) = stream(path, payload_type) else {
            return;
        };
        let mut digest = Context::new(&SHA256);
        for frame in frames(codec, &packets) {
            digest.update(&frame.timestamp.to_be_bytes());
            digest.update(&(frame.bytes.len() as u32).to_be_bytes());
            digest.update(&frame.bytes);
        }
        assert_eq!(digest.finish().as_ref(), unhex(expected), "{path}");
    }
}

#[test]
fn a_picture_that_misses_a_packet_is_left_out_and_no_other() {
    let cases = [
        ("captures/vp8.pcap", 96, Codec::Vp8),
        ("captures/av1.pcap", 45, AV1),
        ("captures-made/h264-ipv6.pcap", 102, H264),
    ];
    for (path, payload_type, codec) in cases {
        let Some(packets) = stream(path, payload_type) else {
            return;
        };
        let whole = frames(codec, &packets);
        for missing in 1..packets.len().min(60) {
            let mut packets = packets.clone();
            let (lost, _) = packets.remove(missing);
            let rest = frames(codec, &packets);
            assert!(
                rest.iter().all(|frame| whole.contains(frame)),
                "{path}: nothing is invented"
            );
            assert!(
                rest.iter().all(|frame| frame.timestamp != lost.timestamp),
                "{path}"
            );
            // A gap may also cost the picture after it, where only the gap could tell its start.
            assert!(
                rest.len() + 2 >= whole.len(),
                "{path}: {missing} cost too much"
            );
        }
    }
}

#[test]
fn h264_key_pictures_start_in_each_packetisation() {
    let starts: [&[u8]; 6] = [
        &[0x67, 0x42],
        &[0x65, 0x88],
        &[0x18, 0, 2, 0x67, 0x42, 0, 1, 0x68],
        &[0x18, 0, 1, 0x68, 0, 2, 0x65, 0x88],
        &[0x7c, 0x85, 0x88],
        &[0x7c, 0x87, 0x42],
    ];
    for payload in starts {
        assert!(is_keyframe(H264, payload), "{payload:02x?}");
    }
    let others: [&[u8]; 12] = [
        &[],
        &[0x61, 0x88],
        &[0x68, 0xce],
        // A slice of an IDR picture, and not its first: first_mb_in_slice is above 0.
        &[0x65, 0x48],
        &[0x65],
        &[0x7c, 0x85, 0x48],
        // Fragments that start none, and end one.
        &[0x7c, 0x05, 0x88],
        &[0x7c, 0x45, 0x88],
        &[0x7c],
        &[0x18],
        // Aggregates whose lengths lie.
        &[0x18, 0, 9, 0x67, 0x42],
        &[0x18, 0, 0, 0, 1, 0x61],
    ];
    for payload in others {
        assert!(!is_keyframe(H264, payload), "{payload:02x?}");
    }
}

#[test]
fn vp9_key_pictures_start_at_the_lowest_spatial_layer() {
    let bare = |first: u8| is_keyframe(VP9, &[first, 0x82]);
    assert!(bare(0x08), "B set, P clear, no layers");
    assert!(!bare(0x48), "predicted");
    assert!(!bare(0x04), "not the start of a frame");
    // I with 15 bits, L: spatial layers 0 and 1, TL0PICIDX.
    assert!(is_keyframe(VP9, &[0xa8, 0x81, 0x02, 0x00, 0x07, 0x82]));
    assert!(!is_keyframe(VP9, &[0xa8, 0x81, 0x02, 0x03, 0x07, 0x82]));
    assert!(
        !is_keyframe(VP9, &[0xa8, 0x81, 0x02]),
        "cut inside the descriptor"
    );
    assert!(!is_keyframe(VP9, &[]));
}

#[test]
fn a_vp9_descriptor_is_read_to_its_end() {
    // I (7 bits), P, L, F, B, V: two references, two spatial layers with sizes, a group of one.
    let payload = [
        0xfa, 0x11, 0x6b, 0x03, 0x04, 0x38, 1, 2, 3, 4, 5, 6, 7, 8, 1, 0x08, 9, 10, 0x82, 0x49,
    ];
    let descriptor = vp9::Descriptor::parse(&payload).unwrap();
    let layer = vp9::Layer {
        temporal: 3,
        switching_up: false,
        spatial: 5,
        inter_layer_dependency: true,
    };
    let expected = vp9::Descriptor {
        picture_id: Some(0x11),
        inter_picture_predicted: true,
        layer: Some(layer),
        tl0_picture_index: None,
        frame_start: true,
        frame_end: false,
        not_reference_for_spatial: false,
        len: 18,
    };
    assert_eq!(descriptor, expected);
    for len in 0..18 {
        assert!(
            vp9::Descriptor::parse(&payload[..len]).is_err(),
            "{len} bytes"
        );
    }
    let endless = [0x50, 3, 5, 7, 9];
    assert!(
        vp9::Descriptor::parse(&endless).is_err(),
        "three references at most"
    );
}

#[test]
fn av1_key_pictures_have_the_new_sequence_bit() {
    assert!(is_keyframe(AV1, &[0x18, 0x0a]));
    assert!(!is_keyframe(AV1, &[0xd0, 0x0a]));
    assert!(!is_keyframe(AV1, &[]));
}

#[test]
fn audio_has_no_key_pictures() {
    for codec in [Codec::Opus, Codec::Pcmu, Codec::Pcma] {
        assert!(!is_keyframe(codec, &[0x10, 0, 0x08]));
    }
}

#[test]
fn every_vp8_descriptor_reads_back() {
    let picture_ids = [
        None,
        Some(PictureId::Bits7(0x7f)),
        Some(PictureId::Bits15(0)),
        Some(PictureId::Bits15(0x7fff)),
    ];
    let temporals = [
        None,
        Some(Temporal {
            layer: 3,
            sync: true,
        }),
        Some(Temporal {
            layer: 0,
            sync: false,
        }),
    ];
    let mut lens = [0; vp8::DESCRIPTOR_BYTES_MAX + 1];
    for picture_id in picture_ids {
        for tl0_picture_index in [None, Some(255)] {
            for temporal in temporals {
                for key_index in [None, Some(31)] {
                    let descriptor = Descriptor {
                        non_reference: true,
                        partition_start: tl0_picture_index.is_none(),
                        partition: 5,
                        extended: true,
                        picture_id,
                        tl0_picture_index,
                        temporal,
                        key_index,
                    };
                    lens[descriptor_reads_back(descriptor)] += 1;
                }
            }
        }
    }
    descriptor_reads_back(Descriptor::default());
    assert_eq!(
        lens,
        [0, 0, 1, 7, 13, 17, 10].map(|count: i32| count),
        "each length was tried"
    );
}

fn descriptor_reads_back(descriptor: Descriptor) -> usize {
    let mut out = [0xaa; 10];
    let len = descriptor.write(&mut out).unwrap();
    assert_eq!(len, descriptor.len());
    assert!(out[len..].iter().all(|&byte| byte == 0xaa));
    assert_eq!(Descriptor::parse(&out), Ok(descriptor));
    for short in 0..len {
        assert!(Descriptor::parse(&out[..short]).is_err());
        assert_eq!(descriptor.write(&mut [0; 10][..short]), None);
    }
    len
}

#[test]
fn captured_vp8_descriptors_are_rewritten_byte_for_byte() {
    let Some(packets) = stream("captures/vp8.pcap", 96) else {
        return;
    };
    for (_, payload) in &packets {
        let mut descriptor = Descriptor::parse(payload).unwrap();
        let mut out = [0; vp8::DESCRIPTOR_BYTES_MAX];
        let len = descriptor.write(&mut out).unwrap();
        assert_eq!(out[..len], payload[..len]);

        let id = descriptor
            .picture_id
            .expect("Chromium numbers its pictures");
        descriptor.picture_id = Some(id.with_value(id.value().wrapping_add(1_000)));
        assert_eq!(
            descriptor.write(&mut out),
            Some(len),
            "a new number keeps the length"
        );
    }
}

#[test]
fn a_picture_id_keeps_its_width() {
    assert_eq!(PictureId::Bits7(127).with_value(128), PictureId::Bits7(0));
    assert_eq!(
        PictureId::Bits15(127).with_value(128),
        PictureId::Bits15(128)
    );
    assert_eq!(
        PictureId::Bits15(0).with_value(0x8000),
        PictureId::Bits15(0)
    );
    assert_eq!(
        (PictureId::Bits7(3).max(), PictureId::Bits15(3).max()),
        (0x7f, 0x7fff)
    );
}

/// RFC 7741 §4.2: key picture with a 15-bit id and no other extension.
#[test]
fn a_vp8_packet_starts_a_key_picture_only_at_the_first_partition() {
    let payload = |first: u8, tag: u8| [first | 0x80, 0x80, 0x91, 0x23, tag];
    assert!(is_keyframe(Codec::Vp8, &payload(0x10, 0x50)));
    assert!(!is_keyframe(Codec::Vp8, &payload(0x10, 0x51)), "predicted");
    assert!(
        !is_keyframe(Codec::Vp8, &payload(0x11, 0x50)),
        "another partition"
    );
    assert!(
        !is_keyframe(Codec::Vp8, &payload(0x00, 0x50)),
        "not the start"
    );
    assert!(
        !is_keyframe(Codec::Vp8, &payload(0x10, 0x50)[..4]),
        "no bitstream"
    );
    assert_eq!(
        Descriptor::parse(&payload(0x10, 0)).unwrap().picture_id,
        Some(PictureId::Bits15(0x1123))
    );
}

#[test]
fn hostile_payloads_are_survived() {
    let mut inputs = Vec::new();
    for path in [
        "malformed/h264.jsonl",
        "malformed/any.jsonl",
        "malformed/rtp.jsonl.gz",
    ] {
        let Some(more) = malformed(path) else { return };
        inputs.extend(more);
    }
    let mut rng = Seed::new([4; 32]).rng();
    for _ in 0..5_000 {
        let mut payload = vec![0; rng.below(48) as usize];
        rng.fill(&mut payload);
        inputs.push(payload);
    }
    let mut starts = 0;
    for codec in VIDEO {
        let mut reassembler = Reassembler::new(codec);
        for (index, payload) in inputs.iter().enumerate() {
            starts += usize::from(is_keyframe(codec, payload));
            let packet = [
                0x80,
                (index as u8 & 1) << 7,
                0,
                index as u8,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
            ];
            let header = Header::parse(&packet).unwrap();
            if let Some(frame) = reassembler.push(&header, payload) {
                assert!(frame.bytes.len() <= inputs.iter().map(Vec::len).sum::<usize>() * 5);
            }
        }
    }
    assert!(
        (100..15_000).contains(&starts),
        "some bytes look like key pictures: {starts}"
    );
}
