use crate::rng::Seed;
use crate::testing::{captures, malformed};

use super::*;

const FIELDS: HeaderFields = HeaderFields {
    payload_type: 111,
    marker: true,
    sequence_number: 0xfffe,
    timestamp: 0xdead_beef,
    ssrc: 0x0102_0304,
};

fn written(extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = [0xaa; 1_500];
    let len = write_header(&mut out, &FIELDS, extensions).unwrap();
    assert!(
        out[len..].iter().all(|&byte| byte == 0xaa),
        "nothing past the header is written"
    );
    out[..len].to_vec()
}

/// Every accessor of whatever parses.
fn walk(packet: &[u8]) {
    let Ok(header) = Header::parse(packet) else {
        return;
    };
    assert!(header.len <= packet.len());
    for (id, value) in header.extensions(packet) {
        assert_ne!(id, 0);
        assert!(header.extension(packet, id).is_some());
        assert!(value.len() <= 255);
    }
    if let Ok(payload) = header.payload(packet) {
        assert!(payload.len() <= packet.len() - header.len);
    }
}

#[test]
fn what_is_written_reads_back() {
    let sequence = 0x1234_u16.to_be_bytes();
    let long = [9; 17];
    let longest = [7; 255];
    let cases: [&[(u8, &[u8])]; 7] = [
        &[],
        &[(1, &[0x85])],
        &[(3, &sequence), (4, b"0"), (14, &long[..16])],
        // Each of these needs the two-byte form: an id, an empty value, a long value.
        &[(15, &[1]), (1, &[2])],
        &[(2, &[])],
        &[(5, &long), (6, &[1, 2, 3])],
        &[(255, &longest)],
    ];
    for extensions in cases {
        let mut packet = written(extensions);
        packet.extend(b"payload");
        let header = Header::parse(&packet).unwrap();
        assert_eq!(header.payload_type, FIELDS.payload_type);
        assert_eq!(header.marker, FIELDS.marker);
        assert_eq!(header.sequence_number, FIELDS.sequence_number);
        assert_eq!(header.timestamp, FIELDS.timestamp);
        assert_eq!(header.ssrc, FIELDS.ssrc);
        assert_eq!((header.csrc_count, header.padding), (0, false));
        assert_eq!(header.extensions(&packet).collect::<Vec<_>>(), extensions);
        assert_eq!(header.payload(&packet).unwrap(), b"payload");
        assert_eq!(header.extension(&packet, 200), None);
    }
}

/// The example of RFC 8285 §4.2, its elements padded as the RFC draws them.
#[test]
fn one_byte_elements_are_laid_out_as_in_rfc_8285() {
    let elements = [
        0x10, 0xa1, 0x21, 0xb1, 0xb2, 0, 0, 0x33, 0xc1, 0xc2, 0xc3, 0xc4,
    ];
    let mut packet = vec![0x90, 0x60, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xbe, 0xde, 0, 3];
    packet.extend(elements);
    let header = Header::parse(&packet).unwrap();
    let expected: [(u8, &[u8]); 3] = [
        (1, &[0xa1]),
        (2, &[0xb1, 0xb2]),
        (3, &[0xc1, 0xc2, 0xc3, 0xc4]),
    ];
    assert_eq!(header.extensions(&packet).collect::<Vec<_>>(), expected);
    assert_eq!(header.len, packet.len());
    assert_eq!(
        written(&[(1, &[0xa1])])[12..],
        [0xbe, 0xde, 0, 1, 0x10, 0xa1, 0, 0]
    );
}

/// The example of RFC 8285 §4.3.
#[test]
fn two_byte_elements_are_laid_out_as_in_rfc_8285() {
    let elements = [1, 0, 2, 1, 0xb1, 0, 3, 4, 0xc1, 0xc2, 0xc3, 0xc4];
    for profile in [0x10, 0x1f] {
        let mut packet = vec![
            0x90,
            0x60,
            0,
            1,
            0,
            0,
            0,
            2,
            0,
            0,
            0,
            3,
            0x10,
            profile & 0x0f,
            0,
            3,
        ];
        packet.extend(elements);
        let header = Header::parse(&packet).unwrap();
        let expected: [(u8, &[u8]); 3] = [(1, &[]), (2, &[0xb1]), (3, &[0xc1, 0xc2, 0xc3, 0xc4])];
        assert_eq!(header.extensions(&packet).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn broken_elements_end_the_walk_and_not_the_packet() {
    let cases: [(u16, [u8; 4], usize); 5] = [
        // An element that runs over the end of the block.
        (0xbede, [0x10, 1, 0x2f, 2], 1),
        // Identifier 15 hides what follows.
        (0xbede, [0x10, 1, 0xf0, 0x20], 1),
        (0x1000, [1, 0, 2, 200], 1),
        // An identifier without room for its length.
        (0x1000, [1, 1, 5, 2], 1),
        // A profile of someone else.
        (0x1234, [0x10, 1, 0x10, 1], 0),
    ];
    for (profile, elements, count) in cases {
        let mut packet = vec![0x90, 0x60, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.extend(profile.to_be_bytes());
        packet.extend([0, 1]);
        packet.extend(elements);
        packet.push(42);
        let header = Header::parse(&packet).unwrap();
        assert_eq!(
            header.extensions(&packet).count(),
            count,
            "{profile:04x} {elements:02x?}"
        );
        assert_eq!(header.payload(&packet), Ok(&[42][..]));
    }
}

#[test]
fn a_header_that_ends_early_or_is_not_version_2_is_refused() {
    let mut packet = vec![0x92, 0x60, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
    packet.extend([0; 8]);
    packet.extend([0xbe, 0xde, 0, 1, 0x10, 0xa1, 0, 0]);
    let header = Header::parse(&packet).unwrap();
    assert_eq!((header.csrc_count, header.len), (2, 28));
    assert_eq!(header.extension(&packet, 1), Some(&[0xa1][..]));
    for len in 0..packet.len() {
        assert_eq!(
            Header::parse(&packet[..len]),
            Err(ParseError::Truncated),
            "{len} bytes"
        );
    }
    for first in [0x00, 0x40, 0xc0] {
        packet[0] = first;
        assert_eq!(Header::parse(&packet), Err(ParseError::Version));
    }
    let mut sources = [0; 12 + 15 * 4];
    sources[0] = 0x8f;
    assert_eq!(Header::parse(&sources).unwrap().len, sources.len());
    assert_eq!(Header::parse(&sources[..71]), Err(ParseError::Truncated));
}

#[test]
fn padding_is_removed_and_a_wrong_count_is_an_error() {
    let payload_of = |payload: &[u8]| {
        let mut packet = written(&[]);
        packet[0] |= 0x20;
        packet.extend(payload);
        let header = Header::parse(&packet).unwrap();
        header.payload(&packet).map(<[u8]>::to_vec)
    };
    assert_eq!(payload_of(&[1, 2, 0, 2]), Ok(vec![1, 2]));
    assert_eq!(payload_of(&[1, 2, 1]), Ok(vec![1, 2]));
    assert_eq!(
        payload_of(&[0, 0, 3]),
        Ok(vec![]),
        "a packet may be only padding"
    );
    assert_eq!(payload_of(&[0, 0, 4]), Err(ParseError::Padding));
    assert_eq!(payload_of(&[1, 2, 0]), Err(ParseError::Padding));
    assert_eq!(payload_of(&[]), Err(ParseError::Padding));
}

#[test]
fn a_header_that_cannot_be_written_leaves_the_buffer_alone() {
    let value = [0; 256];
    let too_long: &[(u8, &[u8])] = &[(1, &value)];
    let no_id: &[(u8, &[u8])] = &[(0, &value[..1])];
    let fits: &[(u8, &[u8])] = &[(1, &value[..2])];
    for (room, extensions) in [(400, too_long), (400, no_id), (19, fits), (11, &[][..])] {
        let mut out = vec![0xaa; room];
        assert_eq!(write_header(&mut out, &FIELDS, extensions), None);
        assert!(out.iter().all(|&byte| byte == 0xaa));
    }
    assert_eq!(write_header(&mut [0; 20], &FIELDS, fits), Some(20));
    assert_eq!(write_header(&mut [0; 12], &FIELDS, &[]), Some(12));
    let many = vec![(1_u8, &value[..255]); 1_100];
    assert_eq!(
        write_header(&mut vec![0; 400_000], &FIELDS, &many),
        None,
        "length has 16 bits"
    );
}

#[test]
fn typed_values_read_as_their_formats_say() {
    let level = AudioLevel::from_extension(&[0xff]).unwrap();
    assert_eq!(
        level,
        AudioLevel {
            level_dbov: 127,
            voice: true
        }
    );
    assert_eq!(level.to_extension(), [0xff]);
    let level = AudioLevel::from_extension(&[0x05, 0]).unwrap();
    assert_eq!(
        level,
        AudioLevel {
            level_dbov: 5,
            voice: false
        }
    );
    assert_eq!(level.to_extension(), [5]);
    assert_eq!(AudioLevel::from_extension(&[]), None);
    assert_eq!(transport_sequence(&[0x12, 0x34]), Some(0x1234));
    assert_eq!(transport_sequence(&[0x12]), None);
    assert_eq!(transport_sequence(&[0x12, 0x34, 0]), None);
    assert_eq!(abs_send_time(&[1, 2, 3]), Some(0x01_0203));
    assert_eq!(abs_send_time(&[1, 2]), None);
    assert_eq!(abs_send_time(&[1, 2, 3, 4]), None);
}

/// Counts and SSRCs of the captures' own README.
#[test]
fn captured_packets_parse() {
    let cases = [
        ("captures/vp8.pcap", 0xeedf_3944, 104),
        ("captures/vp9.pcap", 0x22d8_0f08, 316),
        ("captures/h264.pcap", 0x6a5c_c848, 298),
        ("captures/av1.pcap", 0xd465_ac89, 201),
        ("captures/g711a.pcap", 0xdee0_ee8f, 236),
        ("captures-made/h264-ipv6.pcap", 0x0000_0d05, 278),
    ];
    for (path, ssrc, count) in cases {
        let Some(payloads) = captures::udp_payloads(path) else {
            return;
        };
        let headers: Vec<_> = payloads
            .iter()
            .map(|packet| Header::parse(packet).expect(path))
            .collect();
        assert_eq!(
            headers.iter().filter(|header| header.ssrc == ssrc).count(),
            count,
            "{path}"
        );
        payloads.iter().for_each(|packet| walk(packet));
    }
}

#[test]
fn hostile_bytes_parse_or_are_refused() {
    for path in [
        "malformed/rtp.jsonl.gz",
        "malformed/any.jsonl",
        "malformed/srtp.jsonl",
    ] {
        let Some(inputs) = malformed(path) else {
            return;
        };
        inputs.iter().for_each(|input| walk(input));
    }
    let mut rng = Seed::new([3; 32]).rng();
    let mut parsed = 0;
    for _ in 0..20_000 {
        let mut packet = [0; 64];
        rng.fill(&mut packet);
        packet[0] = packet[0] & 0x3f | 0x80;
        if rng.u32() & 1 == 0 {
            packet[0] &= 0xf0;
            packet[12..16].copy_from_slice(&[0xbe, 0xde, 0, 4]);
        }
        let packet = &packet[..rng.below(65) as usize];
        walk(packet);
        parsed += usize::from(Header::parse(packet).is_ok());
    }
    assert!(
        parsed > 1_000,
        "the bytes are not all refused at once: {parsed}"
    );
}
