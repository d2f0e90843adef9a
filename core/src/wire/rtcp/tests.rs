use std::iter;

use crate::rng::{Rng, Seed};
use crate::testing::{captures, malformed, unhex};
use crate::time::NtpTime;

use super::*;

const SENDER: u32 = 0xa1a2_a3a4;
const MEDIA: u32 = 0xb1b2_b3b4;

/// What `write` appended, after checking that it is refused, and nothing changed, in any less room.
fn written(write: impl Fn(&mut CompoundWriter<'_>) -> bool) -> Vec<u8> {
    let mut out = vec![0; 200_000];
    let mut writer = CompoundWriter::new(&mut out);
    assert!(writer.is_empty());
    assert!(write(&mut writer), "it fits a large buffer");
    let len = writer.len();
    assert!(len.is_multiple_of(4));
    for room in [0, len / 2, len - 4, len - 1] {
        let mut small = vec![0xaa; room];
        let mut writer = CompoundWriter::new(&mut small);
        assert!(!write(&mut writer), "{room} of {len} bytes are too few");
        assert_eq!(writer.len(), 0);
        assert!(
            small.iter().all(|&byte| byte == 0xaa),
            "the buffer is unchanged"
        );
    }
    out.truncate(len);
    out
}

/// The only packet of `datagram`.
fn only(datagram: &[u8]) -> Packet<'_> {
    let mut walk = packets(datagram);
    let packet = walk.next().expect("a packet").expect("that parses");
    assert_eq!(walk.next(), None, "and no other");
    packet
}

fn first_error(datagram: &[u8]) -> Option<ParseError> {
    packets(datagram).find_map(Result::err)
}

/// Every accessor of whatever parses; gives the count of packets.
fn walk(datagram: &[u8]) -> usize {
    let mut count = 0;
    for packet in packets(datagram).flatten() {
        count += 1;
        match packet {
            Packet::SenderReport(report) => assert!(report.blocks().count() <= COUNT_MAX),
            Packet::ReceiverReport(report) => assert!(report.blocks().count() <= COUNT_MAX),
            Packet::SourceDescription(description) => {
                assert!(description.chunks().count() <= COUNT_MAX);
            }
            Packet::Goodbye(goodbye) => assert!(goodbye.ssrcs().len() <= COUNT_MAX),
            Packet::Nack(nack) => assert!(nack.lost().count() <= datagram.len() / 4 * 17),
            Packet::FullIntraRequest(request) => {
                assert!(request.entries().count() <= datagram.len() / 8);
            }
            Packet::Remb(remb) => assert!(remb.ssrcs().len() <= 255),
            Packet::TransportFeedback(feedback) => {
                assert_eq!(
                    feedback.statuses().count(),
                    usize::from(feedback.status_count)
                );
            }
            Packet::ExtendedReport(report) => {
                for block in report.blocks() {
                    if let ExtendedBlock::ReceiverDelays(delays) = block {
                        assert!(delays.iter().count() <= datagram.len() / 12);
                    }
                }
            }
            Packet::PictureLossIndication(_) | Packet::Unknown { .. } => {}
        }
    }
    assert!(count <= datagram.len() / 4);
    count
}

fn block(ssrc: u32, cumulative_lost: i32) -> ReportBlock {
    ReportBlock {
        ssrc,
        fraction_lost: 200,
        cumulative_lost,
        highest_sequence: 0x0001_fffe,
        jitter: 77,
        last_sender_report: 0x1234_5678,
        delay_since_last: 0x8000_0000,
    }
}

const SUMMARY: SenderSummary = SenderSummary {
    ssrc: SENDER,
    ntp: NtpTime(0x0102_0304_0506_0708),
    rtp_timestamp: u32::MAX,
    packets: 5,
    bytes: 6_000,
};

#[test]
fn reports_read_back() {
    for count in [0, 1, 2, 31] {
        let blocks: Vec<_> = (0..count)
            .map(|index| block(index, 1 - index as i32))
            .collect();
        let datagram = written(|writer| writer.sender_report(&SUMMARY, &blocks));
        let Packet::SenderReport(report) = only(&datagram) else {
            panic!("a sender report")
        };
        assert_eq!(report.sender, SUMMARY);
        assert_eq!(report.blocks().collect::<Vec<_>>(), blocks);

        let datagram = written(|writer| writer.receiver_report(SENDER, &blocks));
        let Packet::ReceiverReport(report) = only(&datagram) else {
            panic!("a receiver report")
        };
        assert_eq!(report.sender_ssrc, SENDER);
        assert_eq!(report.blocks().collect::<Vec<_>>(), blocks);
    }
    let mut out = [0; 4_000];
    let mut writer = CompoundWriter::new(&mut out);
    assert!(
        !writer.receiver_report(SENDER, &[block(1, 0); 32]),
        "the count has five bits"
    );
    assert_eq!(writer.len(), 0);
}

#[test]
fn cumulative_loss_is_cut_to_24_bits_and_keeps_its_sign() {
    let cases = [(-1, -1), (0x7f_ffff, 0x7f_ffff), (-0x80_0000, -0x80_0000)];
    let cut = [
        (i32::MAX, 0x7f_ffff),
        (i32::MIN, -0x80_0000),
        (0x80_0000, 0x7f_ffff),
    ];
    for (lost, expected) in cases.into_iter().chain(cut) {
        let datagram = written(|writer| writer.receiver_report(SENDER, &[block(1, lost)]));
        let Packet::ReceiverReport(report) = only(&datagram) else {
            panic!("a receiver report")
        };
        assert_eq!(report.blocks().next().unwrap().cumulative_lost, expected);
    }
}

#[test]
fn descriptions_read_back_at_each_length_of_name() {
    for len in (0..=9).chain([255]) {
        let cname = vec![b'x'; len];
        let datagram = written(|writer| writer.source_description(SENDER, &cname));
        assert_eq!(*datagram.last().unwrap(), 0, "a zero ends the items");
        let Packet::SourceDescription(description) = only(&datagram) else {
            panic!("an SDES")
        };
        let chunk = SourceDescriptionChunk {
            ssrc: SENDER,
            cname: Some(&cname),
        };
        assert_eq!(description.chunks().collect::<Vec<_>>(), [chunk]);
    }
    assert!(!CompoundWriter::new(&mut [0; 400]).source_description(SENDER, &[b'x'; 256]));
}

#[test]
fn goodbyes_read_back() {
    for count in [0, 1, 31] {
        let ssrcs: Vec<u32> = (0..count).map(|index| SENDER + index).collect();
        let datagram = written(|writer| writer.goodbye(&ssrcs));
        let Packet::Goodbye(goodbye) = only(&datagram) else {
            panic!("a goodbye")
        };
        assert_eq!(goodbye.ssrcs().collect::<Vec<_>>(), ssrcs);
        assert_eq!(goodbye.reason, None);
    }
    assert!(!CompoundWriter::new(&mut [0; 400]).goodbye(&[0; 32]));
}

#[test]
fn a_reason_to_leave_must_fit() {
    let datagram = unhex("81cb0003123456780461616161000000");
    let Packet::Goodbye(goodbye) = only(&datagram) else {
        panic!("a goodbye")
    };
    assert_eq!(goodbye.reason, Some(&b"aaaa"[..]));
    let over = unhex("81cb0003123456780861616161000000");
    assert_eq!(first_error(&over), Some(ParseError::Truncated));
}

#[test]
fn lost_packets_read_back_and_pack() {
    let cases: [(&[u16], usize); 7] = [
        (&[7], 1),
        (&[0xfffe, 0xffff, 0, 1, 14], 1),
        (&[10, 26], 1),
        (&[10, 27], 2),
        (&[100, 99], 2),
        (&[0, 0x8000], 2),
        (&(100..134).collect::<Vec<_>>(), 2),
    ];
    for (lost, items) in cases {
        let datagram = written(|writer| writer.nack(SENDER, MEDIA, lost));
        assert_eq!(datagram.len(), 12 + items * 4, "{lost:?}");
        let Packet::Nack(nack) = only(&datagram) else {
            panic!("a NACK")
        };
        assert_eq!((nack.sender_ssrc, nack.media_ssrc), (SENDER, MEDIA));
        assert_eq!(nack.lost().collect::<Vec<_>>(), lost);
    }
    let datagram = written(|writer| writer.nack(SENDER, MEDIA, &[5, 5, 6, 5]));
    let Packet::Nack(nack) = only(&datagram) else {
        panic!("a NACK")
    };
    assert_eq!(
        nack.lost().collect::<Vec<_>>(),
        [5, 6],
        "a repeat in reach of its number is dropped"
    );
}

#[test]
fn requests_for_key_pictures_read_back() {
    let datagram = written(|writer| writer.picture_loss_indication(SENDER, MEDIA));
    let expected = PictureLossIndication {
        sender_ssrc: SENDER,
        media_ssrc: MEDIA,
    };
    assert_eq!(only(&datagram), Packet::PictureLossIndication(expected));

    let entry = FullIntraEntry {
        media_ssrc: MEDIA,
        sequence_number: 255,
    };
    let datagram = written(|writer| writer.full_intra_request(SENDER, entry));
    let Packet::FullIntraRequest(request) = only(&datagram) else {
        panic!("a FIR")
    };
    assert_eq!(request.sender_ssrc, SENDER);
    assert_eq!(request.entries().collect::<Vec<_>>(), [entry]);
}

#[test]
fn delays_read_back() {
    let delay = |ssrc| ReceiverDelay {
        ssrc,
        last_receiver_report: 8,
        delay_since_last: 9,
    };
    let delays = [delay(1), delay(2)];
    let datagram = written(|writer| writer.receiver_delays(SENDER, &delays));
    let Packet::ExtendedReport(report) = only(&datagram) else {
        panic!("an XR")
    };
    assert_eq!(report.sender_ssrc, SENDER);
    let blocks: Vec<_> = report.blocks().collect();
    let [ExtendedBlock::ReceiverDelays(read)] = &blocks[..] else {
        panic!("{blocks:?}")
    };
    assert_eq!(read.iter().collect::<Vec<_>>(), delays);
}

#[test]
fn a_reference_time_is_written_as_rfc_3611_section_4_4_has_it() {
    let ntp = NtpTime(0x0102_0304_0506_0708);
    let datagram = written(|writer| writer.receiver_reference_time(SENDER, ntp));
    let mut expected = vec![0x80, 207, 0, 4];
    expected.extend(SENDER.to_be_bytes());
    expected.extend([4, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(datagram, expected);
    let Packet::ExtendedReport(report) = only(&datagram) else {
        panic!("an XR")
    };
    let blocks: Vec<_> = report.blocks().collect();
    assert_eq!(blocks, [ExtendedBlock::ReceiverReferenceTime(ntp)]);
}

#[test]
fn nothing_to_say_writes_nothing() {
    let mut writer = CompoundWriter::new(&mut []);
    assert!(writer.nack(SENDER, MEDIA, &[]));
    assert!(writer.transport_feedback(SENDER, MEDIA, 0, 0, 0, &[]));
    assert!(writer.receiver_delays(SENDER, &[]));
    assert!(writer.is_empty());
}

fn feedback_reads_back(base: u16, reference_time_64ms: i32, deltas: &[Option<i16>]) -> usize {
    let datagram = written(|writer| {
        writer.transport_feedback(SENDER, MEDIA, base, 200, reference_time_64ms, deltas)
    });
    let Packet::TransportFeedback(feedback) = only(&datagram) else {
        panic!("a feedback")
    };
    assert_eq!((feedback.sender_ssrc, feedback.media_ssrc), (SENDER, MEDIA));
    assert_eq!(
        (feedback.base_sequence, feedback.feedback_count),
        (base, 200)
    );
    assert_eq!(feedback.reference_time_64ms, reference_time_64ms);
    let sequences = (0..).map(|index: usize| base.wrapping_add(index as u16));
    let expected: Vec<_> = sequences.zip(deltas.iter().copied()).collect();
    assert_eq!(feedback.statuses().len(), expected.len());
    assert_eq!(feedback.statuses().collect::<Vec<_>>(), expected);
    datagram.len()
}

#[test]
fn transport_feedback_reads_back() {
    let lost = None;
    let (small, large) = (Some(255), Some(256));
    let early = Some(-1);
    let cases: [&[Option<i16>]; 9] = [
        &[small],
        &[lost],
        &[early],
        &[
            Some(0),
            large,
            Some(i16::MIN),
            Some(i16::MAX),
            lost,
            lost,
            small,
            early,
        ],
        &[small; 8_191],
        &[lost; 65_535],
        &[large; 8_192],
        &[
            small, lost, small, lost, small, lost, small, lost, small, lost, small, lost, small,
            lost, large,
        ],
        &[
            lost, lost, lost, lost, lost, lost, lost, lost, large, small, lost,
        ],
    ];
    for deltas in cases {
        feedback_reads_back(0xfff0, -1, deltas);
    }
    for reference_time in [0, 0x7f_ffff, -0x80_0000] {
        feedback_reads_back(0, reference_time, &[small]);
    }
    let too_many = vec![lost; 65_536];
    assert!(!CompoundWriter::new(&mut [0; 2_000]).transport_feedback(1, 2, 0, 0, 0, &too_many));
}

#[test]
fn transport_feedback_uses_the_chunk_that_is_shortest() {
    // Header and fixed part: 20 bytes; then chunks, deltas, and zeroes up to a word.
    assert_eq!(feedback_reads_back(0, 0, &[None; 8_191]), 24, "one run");
    assert_eq!(feedback_reads_back(0, 0, &[None; 8_192]), 24, "two runs");
    let alternating: Vec<_> = iter::repeat_n([None, Some(1)], 14).flatten().collect();
    assert_eq!(
        feedback_reads_back(0, 0, &alternating),
        20 + 4 + 14 + 2,
        "two vectors of 14"
    );
    let mixed: Vec<_> = iter::repeat_n([None, Some(300)], 7).flatten().collect();
    assert_eq!(
        feedback_reads_back(0, 0, &mixed),
        20 + 4 + 14 + 2,
        "two vectors of 7"
    );
}

#[test]
fn random_transport_feedback_reads_back() {
    let mut rng = Seed::new([5; 32]).rng();
    for _ in 0..300 {
        let mut deltas = Vec::new();
        for _ in 0..=rng.below(8) {
            let run = 1 + rng.below(30) as usize;
            let kind = rng.below(4);
            deltas.extend(iter::repeat_with(|| random_delta(&mut rng, kind)).take(run));
        }
        feedback_reads_back(rng.u32() as u16, 1, &deltas);
    }
}

fn random_delta(rng: &mut Rng, kind: u32) -> Option<i16> {
    match kind {
        0 => None,
        1 => Some(rng.below(256) as i16),
        2 => Some(rng.u32() as i16),
        _ => (rng.below(2) == 0).then(|| rng.below(400) as i16),
    }
}

#[test]
fn a_transport_feedback_that_lies_is_refused() {
    let feedback = |count: u16, rest: &[u8]| {
        let mut datagram = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 9];
        datagram.extend(count.to_be_bytes());
        datagram.extend([0, 0, 0, 0]);
        datagram.extend(rest);
        datagram[3] = (datagram.len() / 4 - 1) as u8;
        datagram
    };
    assert_eq!(
        first_error(&feedback(0, &[0x20, 1, 0, 0])),
        Some(ParseError::Reserved)
    );
    // Three small deltas announced, two there.
    assert_eq!(
        first_error(&feedback(3, &[0x20, 3, 0, 0])),
        Some(ParseError::Truncated)
    );
    // No chunk for the rest of the count; runs of nothing do not count.
    assert_eq!(
        first_error(&feedback(3, &[0, 1, 0, 1])),
        Some(ParseError::Truncated)
    );
    assert_eq!(
        first_error(&feedback(1, &[0, 0, 0, 0])),
        Some(ParseError::Truncated)
    );
    // The reserved symbol, in a run and in a vector.
    assert_eq!(
        first_error(&feedback(1, &[0x60, 1, 0, 0])),
        Some(ParseError::Reserved)
    );
    assert_eq!(
        first_error(&feedback(3, &[0xc3, 0, 0, 0])),
        Some(ParseError::Reserved)
    );
    // The same vector is sound when the count ends before it.
    assert_eq!(walk(&feedback(2, &[0xc3, 0, 0, 0])), 1);
    // A run longer than the count is cut, and an empty run is skipped.
    let datagram = feedback(2, &[0x20, 0, 0x3f, 0xff, 7, 8, 0, 0]);
    let Packet::TransportFeedback(read) = only(&datagram) else {
        panic!("a feedback")
    };
    assert_eq!(
        read.statuses().collect::<Vec<_>>(),
        [(9, Some(7)), (10, Some(8))]
    );
}

#[test]
fn a_compound_is_walked_in_order() {
    let mut out = [0; 500];
    let mut writer = CompoundWriter::new(&mut out);
    assert!(writer.sender_report(&SUMMARY, &[block(MEDIA, 3)]));
    assert!(writer.source_description(SENDER, b"name"));
    assert!(writer.nack(SENDER, MEDIA, &[1, 2]));
    assert!(writer.picture_loss_indication(SENDER, MEDIA));
    let len = writer.len();
    let types: Vec<_> = packets(&out[..len]).map(Result::unwrap).collect();
    assert!(matches!(
        types[..],
        [
            Packet::SenderReport(_),
            Packet::SourceDescription(_),
            Packet::Nack(_),
            Packet::PictureLossIndication(_)
        ]
    ));
    let boundaries = [0, 52, 68, 84];
    for cut in 0..len {
        let (whole, errors): (Vec<_>, Vec<_>) = packets(&out[..cut]).partition(Result::is_ok);
        assert!(whole.len() < types.len(), "{cut} bytes hold fewer packets");
        assert_eq!(
            errors.len(),
            usize::from(!boundaries.contains(&cut)),
            "{cut} bytes"
        );
    }
}

#[test]
fn a_bad_packet_is_an_error_and_the_walk_goes_on() {
    // A receiver report that promises a block it does not have, then a sound PLI.
    let mut datagram = unhex("81c9000112345678");
    datagram.extend(written(|writer| {
        writer.picture_loss_indication(SENDER, MEDIA)
    }));
    let mut walk = packets(&datagram);
    assert_eq!(walk.next(), Some(Err(ParseError::Truncated)));
    assert!(matches!(
        walk.next(),
        Some(Ok(Packet::PictureLossIndication(_)))
    ));
    assert_eq!(walk.next(), None);
}

#[test]
fn an_error_of_framing_ends_the_walk() {
    let good = written(|writer| writer.picture_loss_indication(SENDER, MEDIA));
    let cases = [
        ("40c90000", ParseError::Version),
        ("80c9ffff", ParseError::Length),
        ("80c9", ParseError::Truncated),
        // Padding without a body, of zero, and of more than the body.
        ("a0c90000", ParseError::Padding),
        ("a0c9000100000000", ParseError::Padding),
        ("a0c9000100000005", ParseError::Padding),
    ];
    for (bad, error) in cases {
        let mut datagram = unhex(bad);
        datagram.extend(&good);
        if bad.len() >= 8 {
            assert_eq!(
                packets(&datagram).collect::<Vec<_>>(),
                [Err(error)],
                "{bad}"
            );
        }
        assert_eq!(
            packets(&unhex(bad)).collect::<Vec<_>>(),
            [Err(error)],
            "{bad}"
        );
    }
}

#[test]
fn padding_is_removed_wherever_it_stands() {
    // Padding of one byte, as libwebrtc flags the end of a transport feedback's deltas.
    let datagram = unhex("afcd00050000000100000002000900010000000020010701");
    let mut compound = datagram.clone();
    compound.extend(written(|writer| {
        writer.picture_loss_indication(SENDER, MEDIA)
    }));
    assert_eq!(walk(&compound), 2);
    let Packet::TransportFeedback(read) = only(&datagram) else {
        panic!("a feedback")
    };
    assert_eq!(read.statuses().collect::<Vec<_>>(), [(9, Some(7))]);
}

// Messages of libwebrtc's corpus and of aiortc's tests, read by hand.

#[test]
fn feedback_of_others_reads_as_they_meant_it() {
    let remb = unhex("8fce0007123456780000000052454d420307fb93234567892345678a2345678b");
    let Packet::Remb(remb) = only(&remb) else {
        panic!("a REMB")
    };
    assert_eq!(
        (remb.sender_ssrc, remb.bitrate),
        (0x1234_5678, 0x3_fb93 << 1)
    );
    assert_eq!(
        remb.ssrcs().collect::<Vec<_>>(),
        [0x2345_6789, 0x2345_678a, 0x2345_678b]
    );

    let feedback = unhex("8fcd000716ca50ceae6572570a74000a053f58bb200ae0000400000000001400");
    let Packet::TransportFeedback(feedback) = only(&feedback) else {
        panic!("a feedback")
    };
    assert_eq!(
        (feedback.base_sequence, feedback.status_count),
        (0x0a74, 10)
    );
    assert_eq!(
        (feedback.reference_time_64ms, feedback.feedback_count),
        (0x05_3f58, 0xbb)
    );
    let deltas: Vec<_> = feedback
        .statuses()
        .map(|(_, delta)| delta.unwrap())
        .collect();
    assert_eq!(deltas, [0xe0, 0, 4, 0, 0, 0, 0, 0, 0x14, 0]);

    let request = unhex("84ce00061234567800000000234567890d0000002345678a0e000000");
    let Packet::FullIntraRequest(request) = only(&request) else {
        panic!("a FIR")
    };
    let entry = |media_ssrc, sequence_number| FullIntraEntry {
        media_ssrc,
        sequence_number,
    };
    let expected = [entry(0x2345_6789, 13), entry(0x2345_678a, 14)];
    assert_eq!(request.entries().collect::<Vec<_>>(), expected);
}

#[test]
fn reports_of_others_read_as_they_meant_them() {
    let compound = unhex(
        "80c900011ca5737981ca00061ca5737901106a316f6b526c6534675345494d774d4f000081cb00011ca57379",
    );
    let read: Vec<_> = packets(&compound).map(Result::unwrap).collect();
    let [
        _,
        Packet::SourceDescription(description),
        Packet::Goodbye(goodbye),
    ] = &read[..]
    else {
        panic!("{read:?}")
    };
    assert_eq!(
        description.chunks().next().unwrap().cname,
        Some(&b"j1okRle4gSEIMwMO"[..])
    );
    assert_eq!(goodbye.ssrcs().collect::<Vec<_>>(), [0x1ca5_7379]);

    let report = unhex("80cf0003000000010404000200112233445566778899aabb");
    assert_eq!(
        first_error(&report),
        Some(ParseError::Truncated),
        "a block over the end"
    );
    let report = unhex("80cf00060000000104000002001122334455667709000001ffffffff");
    let Packet::ExtendedReport(report) = only(&report) else {
        panic!("an XR")
    };
    let expected = [
        ExtendedBlock::ReceiverReferenceTime(NtpTime(0x0011_2233_4455_6677)),
        ExtendedBlock::Unknown { block_type: 9 },
    ];
    assert_eq!(report.blocks().collect::<Vec<_>>(), expected);
}

#[test]
fn a_bitrate_beyond_64_bits_saturates() {
    let datagram = unhex("8fce0004000000010000000052454d4200ffffff");
    let Packet::Remb(remb) = only(&datagram) else {
        panic!("a REMB")
    };
    assert_eq!(remb.bitrate, u64::MAX);
}

#[test]
fn a_description_that_runs_over_its_end_is_refused() {
    // No zero ends the items; an item runs over the end; a chunk is missing.
    for bad in [
        "81ca0003123456780203616263010164",
        "81ca0003123456780202616201016403",
        "82ca0003123456780101610000000000",
        "81ca000112345678",
    ] {
        assert_eq!(
            first_error(&unhex(bad)),
            Some(ParseError::Truncated),
            "{bad}"
        );
    }
}

#[test]
fn malformed_datagrams_are_survived() {
    let mut parsed = 0;
    for path in [
        "malformed/rtcp.jsonl",
        "malformed/any.jsonl",
        "malformed/srtp.jsonl",
    ] {
        let Some(inputs) = malformed(path) else {
            return;
        };
        parsed += inputs.iter().map(|input| walk(input)).sum::<usize>();
    }
    assert!(parsed > 20, "some are sound: {parsed}");
}

#[test]
fn a_captured_compound_is_read_whole() {
    let path = "captures/rtcp_multiple_pkts_in_the_same_datagram.pcap";
    let Some(payloads) = captures::udp_payloads(path) else {
        return;
    };
    for payload in &payloads {
        let compound: Vec<_> = packets(payload).map(Result::unwrap).collect();
        assert_eq!(compound.len(), 2);
        let Packet::SourceDescription(description) = &compound[1] else {
            panic!("an SDES")
        };
        let chunks: Vec<_> = description.chunks().collect();
        let expected = match chunks[0].ssrc {
            0x5d93_1534 => &b"5d931534"[..],
            _ => b"1932db4",
        };
        assert_eq!((chunks.len(), chunks[0].cname), (1, Some(expected)));
    }
    let Packet::SenderReport(report) = packets(&payloads[2]).next().unwrap().unwrap() else {
        panic!("a sender report")
    };
    let sender = SenderSummary {
        ssrc: 0x5d93_1534,
        ntp: NtpTime(0xdd3a_c174_5280_8c82),
        rtp_timestamp: 64_160,
        packets: 401,
        bytes: 64_160,
    };
    assert_eq!(report.sender, sender);
    let Packet::ReceiverReport(report) = packets(&payloads[3]).next().unwrap().unwrap() else {
        panic!("a receiver report")
    };
    let block = report.blocks().next().unwrap();
    assert_eq!(
        (block.ssrc, block.fraction_lost, block.cumulative_lost),
        (0x5d93_1534, 0, 1)
    );
    assert_eq!((block.highest_sequence, block.jitter), (0xbf8b, 6));
    assert_eq!(
        (block.last_sender_report, block.delay_since_last),
        (0xc170_4d61, 0x0004_051c)
    );
}

#[test]
fn every_truncation_and_many_mutations_of_valid_compounds_are_survived() {
    let mut rng = Seed::new([9; 32]).rng();
    let valid = valid_compounds();
    let mut parsed = 0;
    for compound in &valid {
        for len in 0..compound.len() {
            walk(&compound[..len]);
        }
        for _ in 0..2_000 {
            let mut mutated = compound.clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(mutated.len() as u32) as usize;
                mutated[at] = rng.u32() as u8;
            }
            parsed += walk(&mutated);
        }
    }
    assert!(parsed > 1_000, "{parsed}");
}

fn valid_compounds() -> Vec<Vec<u8>> {
    let entry = FullIntraEntry {
        media_ssrc: MEDIA,
        sequence_number: 1,
    };
    let delay = ReceiverDelay {
        ssrc: 1,
        last_receiver_report: 2,
        delay_since_last: 3,
    };
    let deltas = [
        Some(1),
        None,
        Some(-1),
        Some(9),
        Some(9),
        None,
        None,
        Some(300),
    ];
    vec![
        written(|writer| writer.sender_report(&SUMMARY, &[block(1, 2)])),
        written(|writer| writer.receiver_report(SENDER, &[block(1, 2), block(3, 4)])),
        written(|writer| writer.source_description(SENDER, b"name")),
        written(|writer| writer.goodbye(&[1, 2])),
        written(|writer| writer.nack(SENDER, MEDIA, &[1, 2, 500])),
        written(|writer| writer.full_intra_request(SENDER, entry)),
        written(|writer| writer.transport_feedback(SENDER, MEDIA, 1, 2, 3, &deltas)),
        written(|writer| writer.receiver_delays(SENDER, &[delay])),
        written(|writer| writer.receiver_reference_time(SENDER, NtpTime(7))),
        unhex("8fce0007123456780000000052454d420307fb93234567892345678a2345678b"),
    ]
}
