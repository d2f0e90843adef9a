//! The replay as a whole, over files made here: what is in them is known to the byte.

use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::net::Ecn;
use crate::rng::{Rng, Seed};
use crate::testing::vector;

const NULL: u16 = 0;
const ETHERNET: u16 = 1;
const RAW: u16 = 101;
const SLL: u16 = 113;
const SLL2: u16 = 276;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// An RTP packet of G.711, number `n` of its source.
fn rtp(n: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend_from_slice(&n.to_be_bytes());
    packet.extend_from_slice(&(u32::from(n) * 160).to_be_bytes());
    packet.extend_from_slice(&[1, 2, 3, 4]);
    packet.extend_from_slice(&[0x55; 160]);
    packet
}

fn packet(n: u16, payload: &[u8]) -> pcapng::Packet<'_> {
    pcapng::Packet {
        interface: 0,
        unix: Duration::from_millis(u64::from(n) * 20),
        source: address("192.0.2.1:5004"),
        destination: address("192.0.2.2:5006"),
        ecn: None,
        outbound: false,
        dropped_before: 0,
        payload,
    }
}

/// The IP packet of a datagram.
fn ip(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let mut blocks = Vec::new();
    pcapng::section_header(&mut blocks, "");
    pcapng::interface(&mut blocks, "");
    let packet = pcapng::Packet {
        source: address(source),
        destination: address(destination),
        ..packet(0, payload)
    };
    pcapng::packet(&mut blocks, &packet);
    let mut found = Vec::new();
    read(&blocks, |item| {
        if let Item::Frame(frame) = item {
            found = frame.bytes.to_vec();
        }
    })
    .unwrap();
    found
}

fn read(file: &[u8], mut take: impl FnMut(Item<'_>)) -> Result<u64, CaptureError> {
    let mut reader = CaptureReader::new(file)?;
    while reader.step(&mut take)? {}
    Ok(reader.frames())
}

fn replay(file: &[u8], settings: Settings) -> (Report, Result<u64, CaptureError>) {
    let mut replay = Replay::new(settings);
    let ended = read(file, |item| replay.handle(item));
    (replay.finish(), ended)
}

fn of_frames(link: u16, frames: &[Vec<u8>]) -> Report {
    let mut replay = Replay::new(Settings::default());
    for (frame, stamp) in frames.iter().zip((0..).step_by(20_000_000)) {
        replay.handle(Item::Frame(Frame {
            stamp,
            link,
            bytes: frame,
            wire_len: frame.len(),
            dropped_before: 0,
        }));
    }
    replay.finish()
}

/// A classic file in either byte order: frames of `(sec, fraction, bytes)`.
fn classic(magic: u32, big_endian: bool, link: u32, frames: &[(u32, u32, &[u8])]) -> Vec<u8> {
    let word = |value: u32| {
        if big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let version = if big_endian {
        [0, 2, 0, 4]
    } else {
        [2, 0, 4, 0]
    };
    let mut file = [
        word(magic),
        version,
        word(0),
        word(0),
        word(65_535),
        word(link),
    ]
    .concat();
    for (seconds, fraction, bytes) in frames {
        let len = bytes.len() as u32;
        file.extend([word(*seconds), word(*fraction), word(len), word(len)].concat());
        file.extend_from_slice(bytes);
    }
    file
}

#[test]
fn a_written_capture_reads_back_to_the_byte_with_right_checksums() {
    for (source, destination) in [
        ("192.0.2.1:5004", "192.0.2.2:5006"),
        ("[2001:db8::1]:5004", "[::1]:5006"),
    ] {
        for len in [0, 1, 2, 3, 172, 65_507] {
            let payload: Vec<u8> = (0..len).map(|i: u32| (i * 31) as u8).collect();
            let frame = ip(source, destination, &payload);
            let found = layers::ip_packet(RAW, &frame, frame.len()).unwrap();
            let udp = layers::udp(
                found.source,
                found.destination,
                found.payload,
                found.wire_len,
            );
            let udp = udp.unwrap();
            assert_eq!(
                (udp.source, udp.destination),
                (address(source), address(destination))
            );
            assert_eq!(udp.payload, payload);
            assert!(!udp.truncated && found.fragment.is_none());
            assert_checksums(&frame);
        }
    }
}

/// RFC 1071 in words of its own: all that is covered, with its checksum, sums up to all ones.
fn assert_checksums(frame: &[u8]) {
    let sum = |bytes: &[u8]| {
        let words = bytes
            .chunks(2)
            .map(|pair| u32::from(pair[0]) * 256 + u32::from(*pair.get(1).unwrap_or(&0)));
        words.fold(0_u32, |sum, word| {
            let sum = sum + word;
            if sum > 0xffff { sum - 0xffff } else { sum }
        })
    };
    let (addresses, udp) = if frame[0] >> 4 == 4 {
        assert_eq!(sum(&frame[..20]), 0xffff, "IPv4 header");
        (&frame[12..20], &frame[20..])
    } else {
        (&frame[8..40], &frame[40..])
    };
    let mut pseudo = addresses.to_vec();
    pseudo.extend_from_slice(&(udp.len() as u32).to_be_bytes());
    pseudo.extend_from_slice(&[0, 0, 0, 17]);
    pseudo.extend_from_slice(udp);
    assert_eq!(sum(&pseudo), 0xffff, "UDP");
    assert_ne!(udp[6..8], [0, 0], "there is one");
}

#[test]
fn drops_marks_and_secrets_of_a_written_capture_are_read() {
    let mut file = Vec::new();
    pcapng::section_header(&mut file, "Antiphon");
    pcapng::interface(&mut file, "shard-0");
    let line = b"CLIENT_RANDOM 00 11\n";
    pcapng::key_log(&mut file, line);
    let payload = rtp(1);
    let marked = pcapng::Packet {
        ecn: Some(Ecn::Ce),
        dropped_before: 3,
        ..packet(1, &payload)
    };
    pcapng::packet(&mut file, &marked);
    pcapng::statistics(&mut file, 0, Duration::from_secs(9), 6, 5);
    let (mut log, mut dropped, mut bits) = (Vec::new(), 0, 0);
    read(&file, |item| match item {
        Item::KeyLog(lines) => log.extend_from_slice(lines),
        Item::Frame(frame) => {
            dropped += frame.dropped_before;
            bits = frame.bytes[1];
            assert_eq!(frame.stamp, 20_000_000);
        }
        Item::Dropped(count) => dropped += count,
        Item::Unusable => panic!("everything is usable"),
    })
    .unwrap();
    assert_eq!(log, line);
    assert_eq!(dropped, 5, "three before the packet and two after it");
    assert_eq!(Ecn::from_bits(bits), Some(Ecn::Ce));
}

#[test]
fn classic_files_of_every_form_have_their_link_type_and_stamps() {
    let frame: &[u8] = &[1, 2, 3];
    for (magic, nanos) in [(0xa1b2_c3d4, 5_000), (0xa1b2_3c4d, 5)] {
        for big_endian in [false, true] {
            // The upper bits tell of a frame check sequence.
            let file = classic(magic, big_endian, 0x5400_0065, &[(7, 5, frame)]);
            let mut seen = Vec::new();
            let frames = read(&file, |item| {
                if let Item::Frame(frame) = item {
                    seen.push((
                        frame.stamp,
                        frame.link,
                        frame.bytes.to_vec(),
                        frame.wire_len,
                    ));
                }
            });
            assert_eq!(frames, Ok(1));
            assert_eq!(seen, [(7_000_000_000 + nanos, RAW, frame.to_vec(), 3)]);
        }
    }
}

/// A block of pcapng in either byte order.
fn block(big_endian: bool, kind: u32, body: &[u8]) -> Vec<u8> {
    let word = |value: u32| {
        if big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let len = word(body.len() as u32 + 12);
    [&word(kind), &len, body, &len].concat()
}

/// An interface of Ethernet with a resolution and an offset, and a packet on it.
fn section(big_endian: bool, resolution: u8, offset: i64, ticks: u64) -> Vec<u8> {
    let half = |value: u16| {
        if big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let word = |value: u32| {
        if big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let long = |value: i64| {
        if big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let mut header = [
        word(0x1a2b_3c4d).to_vec(),
        half(1).to_vec(),
        half(0).to_vec(),
    ]
    .concat();
    header.extend_from_slice(&[0xff; 8]);
    let interface = [
        half(ETHERNET).to_vec(),
        half(0).to_vec(),
        word(0).to_vec(),
        [half(9), half(1)].concat(),
        vec![resolution, 0, 0, 0],
        [half(14), half(8)].concat(),
        long(offset).to_vec(),
        word(0).to_vec(),
    ]
    .concat();
    let mut packet = [0, (ticks >> 32) as u32, ticks as u32, 3, 9]
        .map(word)
        .concat();
    packet.extend_from_slice(&[1, 2, 3, 0]);
    [
        block(big_endian, 0x0a0d_0d0a, &header),
        // Of nobody's kind, and a comment of a vendor.
        block(big_endian, 0x0bad_beef, &[1; 8]),
        block(big_endian, 0x0bad, &[2; 8]),
        block(big_endian, 1, &interface),
        block(big_endian, 6, &packet),
    ]
    .concat()
}

#[test]
fn sections_of_pcapng_keep_their_byte_order_resolution_and_offset() {
    let mut file = section(true, 6, 0, 1_500_000);
    file.extend(section(false, 9, 100, 1));
    file.extend(section(true, 0x80 | 10, -1, 2_560));
    // Nothing before 1970, and no number too large.
    file.extend(section(false, 0, i64::MIN, u64::MAX));
    file.extend(section(false, 0, i64::MAX, u64::MAX));
    file.extend(section(false, 255, 0, u64::MAX));
    let mut stamps = Vec::new();
    let frames = read(&file, |item| {
        if let Item::Frame(frame) = item {
            assert_eq!(
                (frame.link, frame.bytes, frame.wire_len),
                (ETHERNET, &[1, 2, 3][..], 9)
            );
            stamps.push(frame.stamp);
        }
    });
    assert_eq!(frames, Ok(6));
    assert_eq!(stamps[..3], [1_500_000_000, 100_000_000_001, 1_500_000_000]);
    assert_eq!((stamps[4], stamps.len()), (u64::MAX, 6));
}

/// As pipes do.
#[test]
fn a_capture_that_comes_in_bits_is_read_as_one_that_is_there() {
    struct Bits<'b>(&'b [u8]);
    impl std::io::Read for Bits<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let len = out.len().min(3);
            std::io::Read::read(&mut self.0, &mut out[..len])
        }
    }
    let file = everything();
    let frames = read(&file, |_| {}).unwrap();
    let mut reader = CaptureReader::new(Bits(&file)).unwrap();
    while reader.step(&mut |_: Item<'_>| {}).unwrap() {}
    assert_eq!(reader.frames(), frames);
}

/// What a [`MediaSink`] was given: number, arrival in milliseconds, first byte.
#[derive(Default)]
struct Taken(Vec<(u64, Option<u64>, u8)>);

impl MediaSink for Taken {
    fn take(&mut self, packet: &MediaPacket<'_>) {
        let arrived = packet.arrived.map(|at| at.as_micros() / 1_000);
        let first = packet.payload.first().copied().unwrap_or_default();
        self.0.push((packet.sequence, arrived, first));
    }
}

#[test]
fn media_is_handed_on_once_and_in_the_clear() {
    let taken = |before: &[u8], pace| {
        let mut file = Vec::new();
        pcapng::section_header(&mut file, "");
        pcapng::interface(&mut file, "");
        if !before.is_empty() {
            pcapng::packet(&mut file, &packet(0, before));
        }
        // One comes twice, one late, one padded, one of nowhere.
        for (at, number) in [
            (1, 65_534),
            (2, 65_535),
            (3, 65_535),
            (4, 1),
            (5, 0),
            (6, 30_000),
        ] {
            pcapng::packet(&mut file, &packet(at, &rtp(number)));
        }
        let mut padded = rtp(2);
        padded[0] |= 0x20;
        padded.truncate(12);
        padded.extend_from_slice(&[7, 0, 2]);
        pcapng::packet(&mut file, &packet(7, &padded));
        let mut replay = Replay::new(Settings {
            pace,
            ..Settings::default()
        });
        let mut taken = Taken::default();
        read(&file, |item| replay.handle_to(item, &mut taken)).unwrap();
        taken.0
    };
    let lap = 1 << 16;
    let first = lap + 65_534;
    let expected = [
        (first, Some(20), 0x55),
        (first + 1, Some(40), 0x55),
        (first + 3, Some(80), 0x55),
        (first + 2, Some(100), 0x55),
        (first + 4, Some(140), 7),
    ];
    assert_eq!(taken(&[], Pace::Capture), expected);
    let at_no_time = taken(&[], Pace::Asap);
    assert!(at_no_time.iter().all(|(_, arrived, _)| arrived.is_none()));
}

#[test]
fn what_is_no_capture_or_claims_too_much_ends_with_its_reason() {
    assert_eq!(read(&[], |_| ()), Err(CaptureError::Empty));
    assert_eq!(
        read(b"GIF89a and more of it", |_| ()),
        Err(CaptureError::UnknownFormat)
    );
    let mut file = classic(0xa1b2_c3d4, false, 101, &[(1, 1, &[0x45])]);
    let good = file.len();
    file.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    file.resize(file.len() + 100, 0);
    assert_eq!(
        read(&file, |_| ()),
        Err(CaptureError::TooLong { frames: 1 })
    );
    assert_eq!(read(&file[..good], |_| ()), Ok(1));
    assert_eq!(
        read(&file[..good + 7], |_| ()),
        Err(CaptureError::Truncated { frames: 1 })
    );
    assert_eq!(
        read(&file[..10], |_| ()),
        Err(CaptureError::Truncated { frames: 0 })
    );
    let mut blocks = Vec::new();
    pcapng::section_header(&mut blocks, "");
    let at = blocks.len() as u64;
    blocks.extend([6_u32, 4, 0, 0].iter().flat_map(|word| word.to_le_bytes()));
    blocks.resize(blocks.len() + 64, 0);
    assert_eq!(
        read(&blocks, |_| ()),
        Err(CaptureError::Corrupt { at, frames: 0 })
    );
}

/// The frame of an IP packet over each link type.
fn framed(link: u16, ip: &[u8]) -> Vec<u8> {
    let protocol: [u8; 2] = if ip[0] >> 4 == 4 {
        [8, 0]
    } else {
        [0x86, 0xdd]
    };
    let mut frame = match link {
        NULL => vec![if ip[0] >> 4 == 4 { 2 } else { 30 }, 0, 0, 0],
        ETHERNET => [&[2; 12][..], &protocol].concat(),
        SLL => [&[0; 14][..], &protocol].concat(),
        SLL2 => [&protocol[..], &[0; 18]].concat(),
        _ => Vec::new(),
    };
    frame.extend_from_slice(ip);
    frame
}

#[test]
fn every_link_type_and_stacked_tags_lead_to_the_same_packets() {
    for (source, destination) in [
        ("192.0.2.1:5004", "192.0.2.2:5006"),
        ("[2001:db8::1]:5004", "[2001:db8::2]:5006"),
    ] {
        let packets: Vec<_> = (0..5).map(|n| ip(source, destination, &rtp(n))).collect();
        for link in [NULL, ETHERNET, RAW, SLL, SLL2, 12, 14, 108, 228, 229] {
            let link_as = if link == 108 { NULL } else { link };
            let frames: Vec<_> = packets.iter().map(|ip| framed(link_as, ip)).collect();
            let report = of_frames(link, &frames);
            assert_eq!(report.streams[0].unique, 5, "link type {link}");
            assert_eq!(report.streams[0].flow.source, address(source));
            assert!(report.totals.skipped.is_empty());
        }
        let tagged = |tags: &[[u8; 4]]| {
            let frame = |ip: &Vec<u8>| {
                let mut frame = framed(ETHERNET, ip);
                frame.splice(12..12, tags.concat());
                // Padding behind a packet is not part of it.
                frame.resize(frame.len() + 6, 0xee);
                frame
            };
            let frames: Vec<_> = packets.iter().map(frame).collect();
            of_frames(ETHERNET, &frames)
        };
        let (inner, outer) = ([0x81, 0, 0, 5], [0x88, 0xa8, 0, 6]);
        assert_eq!(tagged(&[inner]).streams[0].bytes, 5 * 172);
        assert_eq!(tagged(&[outer, inner]).streams[0].unique, 5);
        assert_eq!(tagged(&[outer; 9]).totals.skipped[&Skip::NotIp], 5);
    }
    let frames = [framed(RAW, &ip("192.0.2.1:1", "192.0.2.2:2", b"x"))];
    assert_eq!(of_frames(147, &frames).totals.skipped[&Skip::LinkType], 1);
}

#[test]
fn ipv6_extension_headers_are_stepped_over() {
    let plain = ip("[2001:db8::1]:5004", "[2001:db8::2]:5006", &rtp(1));
    let with = |first: u8, headers: &[u8]| {
        let mut packet = plain.clone();
        packet.splice(40..40, headers.iter().copied());
        packet[6] = first;
        let len = (packet.len() - 40) as u16;
        packet[4..6].copy_from_slice(&len.to_be_bytes());
        of_frames(RAW, &[packet]).totals
    };
    let options = |next: u8| [&[next, 1][..], &[0; 14]].concat();
    let authentication = [&[17, 4][..], &[0; 22]].concat();
    assert_eq!(with(0, &options(17)).udp, 1);
    assert_eq!(
        with(0, &[options(60), options(43), options(17)].concat()).udp,
        1
    );
    assert_eq!(with(51, &authentication).udp, 1);
    // An atomic fragment.
    assert_eq!(with(44, &[17, 0, 0, 0, 0, 0, 0, 9]).udp, 1);
    assert_eq!(with(0, &options(6)).skipped[&Skip::Tcp], 1);
    assert_eq!(with(59, &[]).skipped[&Skip::OtherTransport], 1);
    // Longer than the packet.
    assert_eq!(with(0, &[17, 200]).skipped[&Skip::MalformedIp], 1);
}

/// IPv4 pieces of a packet, each of `len` payload bytes; `len` a multiple of 8.
fn pieces(packet: &[u8], id: u16, len: usize) -> Vec<Vec<u8>> {
    let (header, payload) = packet.split_at(20);
    let count = payload.chunks(len).count();
    let piece = |(number, chunk): (usize, &[u8])| {
        let mut piece = [header, chunk].concat();
        let total = piece.len() as u16;
        let more = if number + 1 < count { 0x2000 } else { 0 };
        let placed = (number * len / 8) as u16 | more;
        piece[2..4].copy_from_slice(&total.to_be_bytes());
        piece[4..6].copy_from_slice(&id.to_be_bytes());
        piece[6..8].copy_from_slice(&placed.to_be_bytes());
        piece
    };
    payload.chunks(len).enumerate().map(piece).collect()
}

#[test]
fn fragments_make_their_datagrams_in_any_order_and_lonely_ones_are_counted() {
    let mut frames = Vec::new();
    for n in 0..10 {
        let mut parts = pieces(&ip("192.0.2.1:5004", "192.0.2.2:5006", &rtp(n)), n, 64);
        assert_eq!(parts.len(), 3);
        if n % 2 == 1 {
            parts.reverse();
        }
        if n == 9 {
            parts.pop();
        }
        frames.extend(parts);
    }
    let report = of_frames(RAW, &frames);
    assert_eq!(report.streams[0].unique, 9);
    assert_eq!(
        (report.totals.fragments, report.totals.reassembled),
        (29, 9)
    );
    assert_eq!(report.totals.skipped[&Skip::FragmentAlone], 2);
    let cut = frames[0][..40].to_vec();
    let mut replay = Replay::new(Settings::default());
    replay.handle(Item::Frame(Frame {
        stamp: 0,
        link: RAW,
        bytes: &cut,
        wire_len: frames[0].len(),
        dropped_before: 0,
    }));
    assert_eq!(replay.finish().totals.skipped[&Skip::FragmentCut], 1);
}

#[test]
fn datagrams_are_sorted_by_their_first_bytes_and_all_others_counted() {
    let stun = [&[0, 1, 0, 0][..], &STUN_COOKIE, &[7; 12]].concat();
    let contents: [&[u8]; 9] = [
        &stun,
        &[0, 1, 0, 0, 1, 2, 3, 4],
        &[22, 0xfe, 0xfd],
        &rtp(1),
        &[0x80, 200, 0, 1, 1, 2, 3, 4],
        &[0x40, 0, 0, 0],
        &[0x80, 0, 1],
        b"INVITE sip:",
        &[],
    ];
    let frames = contents.map(|bytes| ip("192.0.2.1:5004", "192.0.2.2:5006", bytes));
    let totals = of_frames(RAW, &frames).totals;
    assert_eq!((totals.frames, totals.udp), (9, 9));
    assert_eq!(
        (totals.stun, totals.dtls, totals.rtp, totals.rtcp),
        (1, 1, 1, 1)
    );
    assert_eq!((totals.turn_channel, totals.other_udp), (2, 3));
}

/// One packet of a source is one if the flow is a call's, and a chance if it stands alone.
#[test]
fn a_single_packet_counts_beside_other_signs_of_a_call() {
    let alone = [ip("192.0.2.1:5004", "192.0.2.2:5006", &rtp(1))];
    let report = of_frames(RAW, &alone);
    assert!(report.streams.is_empty());
    assert_eq!(report.totals.skipped[&Skip::RtpAlone], 1);
    // A report the other way, 8 bytes long as it says.
    let report_of_other = ip(
        "192.0.2.2:5006",
        "192.0.2.1:5004",
        &[0x80, 201, 0, 1, 1, 2, 3, 4],
    );
    let report = of_frames(RAW, &[alone[0].clone(), report_of_other]);
    assert_eq!(report.streams.len(), 1);
}

#[test]
fn simulated_time_never_goes_back() {
    let mut replay = Replay::new(Settings::default());
    for stamp in [
        5_000_000_000,
        6_000_000_000,
        1_000_000_000,
        6_500_000_000,
        0,
    ] {
        replay.handle(Item::Frame(Frame {
            stamp,
            link: RAW,
            bytes: &[],
            wire_len: 0,
            dropped_before: 0,
        }));
    }
    let totals = replay.finish().totals;
    assert_eq!(totals.duration, Duration::from_millis(1_500));
    assert_eq!(
        (totals.stamps_back, totals.stamp_back_max),
        (2, Duration::from_millis(6_500))
    );
}

/// A capture with everything in it.
fn everything() -> Vec<u8> {
    let mut file = Vec::new();
    pcapng::section_header(&mut file, "a test");
    pcapng::interface(&mut file, "one");
    pcapng::key_log(&mut file, b"CLIENT_RANDOM 00 11\n");
    for n in 0..20 {
        let payload = rtp(n);
        pcapng::packet(&mut file, &packet(n, &payload));
        pcapng::packet(&mut file, &packet(n, &[0x80, 201, 0, 1, 1, 2, 3, 4]));
        pcapng::packet(
            &mut file,
            &packet(n, &[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1]),
        );
    }
    pcapng::statistics(&mut file, 0, Duration::from_secs(1), 20, 0);
    file
}

fn spoilt(file: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut file = file.to_vec();
    for _ in 0..=rng.below(6) {
        let at = rng.below(file.len() as u32) as usize;
        match rng.below(4) {
            0 => file[at] ^= 1 << rng.below(8),
            1 => file[at] = [0, 0xff, 0x7f, 0x80][rng.below(4) as usize],
            2 => file.truncate(at.max(1)),
            _ => drop(file.drain(at..(at + 1 + rng.below(9) as usize).min(file.len()))),
        }
        if file.is_empty() {
            file.push(0);
        }
    }
    file
}

/// Whatever is in a file: no panic, a bounded report, the same twice.
#[test]
fn spoilt_files_end_in_a_report_and_the_same_one_twice() {
    let mut rng = Seed::new([4; 32]).rng();
    let payload = rtp(1);
    let frame = framed(ETHERNET, &ip("192.0.2.1:5004", "192.0.2.2:5006", &payload));
    let parts = pieces(&ip("192.0.2.1:5004", "192.0.2.2:5006", &payload), 1, 64);
    let parts: Vec<_> = parts.iter().map(|part| framed(ETHERNET, part)).collect();
    let frames: Vec<(u32, u32, &[u8])> = parts
        .iter()
        .chain([&frame, &frame])
        .map(|frame| (1, 2, &frame[..]))
        .collect();
    let seeds = [
        everything(),
        classic(0xa1b2_c3d4, true, 1, &frames),
        classic(0xa1b2_3c4d, false, 1, &frames),
        section(true, 6, 0, 7),
    ];
    let (mut whole, mut ended_early) = (0, 0);
    for round in 0..4_000 {
        let file = spoilt(&seeds[round % seeds.len()], &mut rng);
        let (report, ended) = replay(&file, Settings::default());
        assert!(report.totals.udp <= report.totals.frames);
        assert!(report.totals.frames <= file.len() as u64 / 16);
        assert_eq!(replay(&file, Settings::default()), (report, ended));
        if ended.is_ok() {
            whole += 1;
        } else {
            ended_early += 1;
        }
    }
    assert!(
        whole > 200 && ended_early > 200,
        "{whole} whole, {ended_early} not"
    );
}

/// The master keys that two calls were sealed with, beside those their handshakes and key logs give.
#[test]
fn exported_keys_are_those_the_calls_used() {
    for (call, opened) in [("webrtc-gcm128", 335), ("webrtc-aescm80", 336)] {
        let file = |ending: &str| vector(&format!("captures-made/{call}.{ending}"));
        let (Some(capture), Some(log)) = (file("pcap"), file("keylog")) else {
            return;
        };
        let mut settings = Settings::default();
        assert_eq!(settings.key_log.add(&log), 2, "one line twice");
        let (report, ended) = replay(&capture, settings);
        assert!(ended.is_ok());
        let srtp = report.totals.srtp;
        assert_eq!(srtp.rtp_opened + srtp.rtcp_opened, opened);
        assert_eq!(
            (srtp.keys, srtp.handshakes, srtp.secrets_missing),
            (2, 1, 0)
        );
        assert_eq!((srtp.refused, srtp.unkeyed, srtp.replayed), (0, 0, 0));

        // Without the secret, and with one that comes after the call in the file's own block.
        let (report, _) = replay(&capture, Settings::default());
        assert_eq!(report.totals.srtp.secrets_missing, 1);
        assert_eq!(report.totals.srtp.keys, 0);
    }
}

/// A secret in the file opens what follows it, wherever the handshake was.
#[test]
fn secrets_of_the_file_itself_are_used() {
    let path = "captures-made/webrtc-gcm128";
    let (Some(capture), Some(log)) = (
        vector(&format!("{path}.pcap")),
        vector(&format!("{path}.keylog")),
    ) else {
        return;
    };
    for secrets_after in [0, 12, 100] {
        let mut replay = Replay::new(Settings::default());
        let mut number = 0;
        read(&capture, |item| {
            if number == secrets_after {
                replay.handle(Item::KeyLog(&log));
            }
            number += 1;
            replay.handle(item);
        })
        .unwrap();
        let srtp = replay.finish().totals.srtp;
        let opened = srtp.rtp_opened + srtp.rtcp_opened;
        if secrets_after <= 12 {
            assert_eq!(opened, 335, "secrets after {secrets_after} frames");
        } else {
            assert!((200..335).contains(&opened), "{opened}");
        }
    }
}

#[test]
fn key_logs_are_read_line_by_line_and_other_lines_passed_over() {
    let (random, secret) = ("ab".repeat(32), "CD".repeat(48));
    let text = format!(
        "# a comment\r\nCLIENT_RANDOM {random} {secret}\r\nEXPORTER_SECRET {random} {secret}\n\
         CLIENT_RANDOM {random}\nCLIENT_RANDOM {random} {secret}00\nCLIENT_RANDOM zz {secret}\n\n"
    );
    let mut log = KeyLog::default();
    assert_eq!(log.add(text.as_bytes()), 1);
    assert_eq!(format!("{log:?}"), "KeyLog(1 secrets)", "and shows none");
}
