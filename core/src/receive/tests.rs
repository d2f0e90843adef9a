use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::sequence::extend_sequence;
use crate::testing::folder;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// A packet of a 48 kHz stream without jitter: number `n` is sent and received at 20·`n` ms.
fn packet(n: u64) -> ReceivedPacket {
    ReceivedPacket {
        received: at(20 * n),
        sequence: n,
        timestamp: (960 * n) as u32,
        clock_rate: 48_000,
        bytes: 100,
        retransmitted: false,
    }
}

fn after(numbers: impl IntoIterator<Item = u64>) -> ReceiveStatistics {
    let mut statistics = ReceiveStatistics::new(7);
    for number in numbers {
        statistics.note_received(packet(number));
    }
    statistics
}

fn block(statistics: &mut ReceiveStatistics) -> ReportBlock {
    statistics.report_block(at(0)).unwrap()
}

#[test]
fn nothing_is_reported_before_the_first_packet() {
    let mut statistics = ReceiveStatistics::new(7);
    assert_eq!(statistics.report_block(at(5)), None);
    assert_eq!(statistics.lost(), 0);
    assert_eq!(statistics.jitter(), Duration::ZERO);
    assert_eq!(statistics.bitrate(at(5)), 0);
}

#[test]
fn a_clean_stream_reports_no_loss_and_no_jitter() {
    let mut statistics = after(65_000..66_000);
    let expected = ReportBlock {
        ssrc: 7,
        highest_sequence: 65_999,
        ..ReportBlock::default()
    };
    assert_eq!(block(&mut statistics), expected);
    assert_eq!((statistics.packets(), statistics.bytes()), (1_000, 100_000));
}

#[test]
fn the_fraction_is_of_this_report_and_the_sum_of_all() {
    let mut statistics = after((0..100).filter(|n| n % 4 != 1));
    let first = block(&mut statistics);
    assert_eq!((first.fraction_lost, first.cumulative_lost), (64, 25));

    (100..200).for_each(|n| statistics.note_received(packet(n)));
    let second = block(&mut statistics);
    assert_eq!((second.fraction_lost, second.cumulative_lost), (0, 25));
    assert_eq!(block(&mut statistics).fraction_lost, 0);
}

#[test]
fn copies_make_the_loss_negative_and_the_fraction_zero() {
    let mut statistics = after([1, 2, 2, 2]);
    let report = block(&mut statistics);
    assert_eq!((report.fraction_lost, report.cumulative_lost), (0, -2));
}

#[test]
fn a_late_packet_takes_its_loss_back() {
    let mut statistics = after([1, 3]);
    assert_eq!(block(&mut statistics).cumulative_lost, 1);
    statistics.note_received(packet(2));
    let report = block(&mut statistics);
    assert_eq!(
        (
            report.fraction_lost,
            report.cumulative_lost,
            report.highest_sequence
        ),
        (0, 0, 3)
    );
}

#[test]
fn losing_all_but_one_of_many_is_a_fraction_below_one() {
    let mut statistics = after([0]);
    block(&mut statistics);
    statistics.note_received(packet(DROPOUT_MAX - 1));
    assert_eq!(block(&mut statistics).fraction_lost, 255);
}

#[test]
fn the_cumulative_loss_stays_within_24_bits() {
    let mut statistics = after((0..4_000).map(|n| n * (DROPOUT_MAX - 1)));
    assert_eq!(block(&mut statistics).cumulative_lost, 0x7f_ffff);
    assert!(statistics.lost() > 0x7f_ffff);
    let mut statistics = after([1]);
    statistics.packets = 1 << 40;
    assert_eq!(block(&mut statistics).cumulative_lost, -0x80_0000);
}

/// U4, and RFC 3550 §A.1: one stray packet moves nothing, two in sequence restart.
#[test]
fn one_stray_packet_moves_nothing_and_two_in_sequence_restart() {
    let mut statistics = after([10, 11, 10_000, 12]);
    let report = block(&mut statistics);
    assert_eq!((report.cumulative_lost, report.highest_sequence), (0, 12));

    // The packet between broke the sequence: 10,001 is a stray again, 10,002 confirms it.
    statistics.note_received(packet(10_001));
    assert_eq!(block(&mut statistics).highest_sequence, 12);
    statistics.note_received(packet(10_002));
    statistics.note_received(packet(10_004));
    let report = block(&mut statistics);
    assert_eq!(
        (report.cumulative_lost, report.highest_sequence),
        (1, 10_004)
    );
}

#[test]
fn the_report_carries_the_low_32_bits_of_the_highest_number() {
    let mut statistics = after([0x1_ffff_fffe, 0x2_0000_0001]);
    let report = block(&mut statistics);
    assert_eq!((report.highest_sequence, report.cumulative_lost), (1, 2));
}

#[test]
fn the_last_sender_report_is_echoed_with_its_age() {
    let mut statistics = after([1]);
    statistics.note_sender_report(at(1_000), NtpTime(0x1122_3344_5566_7788));
    let report = statistics.report_block(at(2_500)).unwrap();
    assert_eq!(report.last_sender_report, 0x3344_5566);
    assert_eq!(report.delay_since_last, 3 << 15);
    let decade = statistics.report_block(at(10 * 365 * 86_400_000)).unwrap();
    assert_eq!(decade.delay_since_last, u32::MAX);
    let backwards = statistics.report_block(at(0)).unwrap();
    assert_eq!(backwards.delay_since_last, 0);
}

#[test]
fn jitter_rises_by_a_sixteenth_of_a_late_packet() {
    let mut statistics = after([1, 2]);
    statistics.note_received(ReceivedPacket {
        received: at(70),
        ..packet(3)
    });
    // 10 ms at 48 kHz are 480 units.
    assert_eq!(block(&mut statistics).jitter, 30);
    assert_eq!(statistics.jitter(), Duration::from_micros(625));
}

#[test]
fn retransmissions_clock_changes_and_new_timelines_are_not_jitter() {
    let mut statistics = after(0..10);
    let late = packet(10);
    statistics.note_received(ReceivedPacket {
        received: at(900),
        retransmitted: true,
        ..late
    });
    assert_eq!(block(&mut statistics).jitter, 0);

    statistics.note_received(ReceivedPacket {
        timestamp: 77 << 20,
        ..packet(11)
    });
    assert_eq!(block(&mut statistics).jitter, 0);

    statistics.note_received(ReceivedPacket {
        timestamp: 77 << 20,
        ..packet(12)
    });
    assert_ne!(block(&mut statistics).jitter, 0);
    statistics.note_received(ReceivedPacket {
        clock_rate: 8_000,
        ..packet(13)
    });
    assert_eq!(block(&mut statistics).jitter, 0);
}

#[test]
fn the_bitrate_is_that_of_the_last_full_second() {
    let mut rate = RateMeter::default();
    rate.note(at(0), 1_000);
    assert_eq!(rate.bitrate(at(999)), 0);
    assert_eq!(rate.bitrate(at(1_000)), 8_000);
    rate.note(at(1_500), 10);
    assert_eq!(rate.bitrate(at(1_999)), 8_000);
    assert_eq!(rate.bitrate(at(2_000)), 80);
    assert_eq!(rate.bitrate(at(3_000)), 0);
    rate.note(at(10 * 365 * 86_400_000), 1);
    assert_eq!(rate.bitrate(at(10 * 365 * 86_400_000)), 0);
}

proptest! {
    #[test]
    fn no_input_panics_and_loss_is_what_a_count_says(
        packets in prop::collection::vec(any::<(u64, u16, u32, bool)>(), 1..200),
        clock_rate in prop_oneof![Just(0), Just(8_000), Just(90_000), Just(u32::MAX)],
    ) {
        let mut statistics = ReceiveStatistics::new(1);
        let mut sequence = 1_u64 << 20;
        let (lowest, mut highest, mut count) = (sequence, sequence, 0);
        for (nanos, step, timestamp, retransmitted) in packets {
            if count > 0 {
                sequence = highest + u64::from(step % 2_999);
            }
            highest = highest.max(sequence);
            count += 1;
            let received = Timestamp::from_nanos(nanos);
            statistics.note_received(ReceivedPacket {
                received, sequence, timestamp, clock_rate, bytes: 1, retransmitted,
            });
            let block = statistics.report_block(received).unwrap();
            prop_assert_eq!(i64::from(block.cumulative_lost), (highest - lowest + 1) as i64 - count);
            prop_assert!(statistics.jitter() <= TRANSIT_STEP_MAX);
            prop_assert!(statistics.bitrate(received) <= 8 * count as u64);
        }
    }

    #[test]
    fn any_sequence_of_numbers_is_counted_without_panic(numbers in prop::collection::vec(any::<u64>(), 1..50)) {
        let mut statistics = ReceiveStatistics::new(7);
        for number in numbers.iter().map(|n| n >> 40).chain(numbers.iter().copied()) {
            statistics.note_received(ReceivedPacket { sequence: number, ..packet(0) });
            block(&mut statistics);
        }
    }
}

/// The RTP packets of one UDP flow in an Ethernet/IPv4 capture: arrival, sequence, timestamp.
fn rtp_packets(capture: &[u8], port: u16) -> Vec<(Timestamp, u16, u32)> {
    let word = |at: usize| u32::from_le_bytes(capture[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(
        (word(0), word(20)),
        (0xa1b2_c3d4, 1),
        "a little-endian Ethernet capture"
    );
    let (mut packets, mut at) = (Vec::new(), 24);
    while at < capture.len() {
        let received = word(at) * 1_000_000 + word(at + 4);
        let frame = &capture[at + 16..at + 16 + word(at + 8)];
        at += 16 + frame.len();
        let short = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let udp = short(12) == 0x0800 && frame[23] == 17 && short(36) == port;
        if udp && frame[42] >> 6 == 2 && !(192..224).contains(&frame[43]) {
            let timestamp = u32::from(short(46)) << 16 | u32::from(short(48));
            packets.push((
                Timestamp::from_nanos(received as u64 * 1_000),
                short(44),
                timestamp,
            ));
        }
    }
    packets
}

/// Loss and jitter of real captures against an independent count (`truth.json`).
#[test]
fn captures_give_the_loss_and_jitter_of_the_independent_count() {
    let Some(folder) = folder() else { return };
    for (group, name) in [
        ("captures", "g711a.pcap"),
        ("captures", "h264.pcap"),
        ("captures", "vp8.pcap"),
        ("captures", "vp9.pcap"),
        ("captures-made", "opus-inbandfec-rtcp.pcap"),
        ("captures-made", "opus-loss-dup-reorder.pcap"),
    ] {
        check_capture(&folder.join(group), name);
    }
}

fn check_capture(folder: &Path, name: &str) {
    let text = std::fs::read(folder.join("truth.json")).unwrap();
    let truth: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let truth = &truth[name]["rtp_streams"][0];
    let port = truth["dst"]
        .as_str()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let capture = std::fs::read(folder.join(name)).unwrap();

    let mut statistics = ReceiveStatistics::new(0);
    let mut highest = 1 << 16;
    for (received, sequence, timestamp) in rtp_packets(&capture, port) {
        let sequence = extend_sequence(highest, sequence).unwrap();
        highest = if statistics.packets() == 0 {
            sequence
        } else {
            highest.max(sequence)
        };
        let clock_rate = truth["clock"].as_u64().unwrap() as u32;
        let (bytes, retransmitted) = (1, false);
        statistics.note_received(ReceivedPacket {
            received,
            sequence,
            timestamp,
            clock_rate,
            bytes,
            retransmitted,
        });
    }
    let report = block(&mut statistics);
    assert_eq!(
        statistics.packets(),
        truth["packets"].as_u64().unwrap(),
        "{name}"
    );
    assert_eq!(
        Some(i64::from(report.cumulative_lost)),
        truth["cumulative_lost_rfc3550"].as_i64(),
        "{name}"
    );
    assert_eq!(
        Some(report.highest_sequence as u64 & 0xffff),
        truth["highest_seq"].as_u64(),
        "{name}"
    );
    let jitter = truth["jitter_ts_units"].as_f64().unwrap();
    // Integer arithmetic rounds each step; the count behind the truth does not.
    assert!(
        (f64::from(report.jitter) - jitter).abs() <= 2.0 + jitter / 100.0,
        "{name}: {} {jitter}",
        report.jitter
    );
}
