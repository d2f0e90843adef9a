use std::collections::BTreeSet;

use super::*;
use crate::rng::Seed;
use crate::wire::rtp::{FIXED_HEADER_BYTES, HeaderFields, write_header};

const MILLI: u64 = 1_000_000;

fn flow() -> Flow {
    Flow {
        source: "192.0.2.1:5004".parse().unwrap(),
        destination: "192.0.2.2:5004".parse().unwrap(),
    }
}

fn seen(sequence: u16, timestamp: u32, payload_type: u8, stamp: u64) -> Seen {
    let fields = HeaderFields {
        payload_type,
        marker: false,
        sequence_number: sequence,
        timestamp,
        ssrc: 7,
    };
    let mut packet = [0; FIXED_HEADER_BYTES];
    write_header(&mut packet, &fields, &[]).unwrap();
    Seen {
        header: Header::parse(&packet).unwrap(),
        bytes: 172,
        truncated: false,
        opened: false,
        stamp,
    }
}

/// Packets of G.711, 20 ms each, as (number, arrival in ms).
fn replayed(packets: impl IntoIterator<Item = (u64, u64)>) -> StreamReport {
    let mut streams = Streams::default();
    for (number, millis) in packets {
        let timestamp = (number * 160) as u32;
        let seen = seen(number as u16, timestamp, 0, millis * MILLI);
        streams.note(flow(), &seen, &Codecs::default(), Arrivals::Capture);
    }
    let (mut reports, alone) = streams.into_reports(|_| true);
    assert_eq!(alone, 0);
    reports.pop().expect("one source")
}

fn in_time(numbers: impl IntoIterator<Item = u64>) -> StreamReport {
    replayed(numbers.into_iter().zip((0..).step_by(20)))
}

/// Whatever is lost, doubled or shuffled within the window, over any number of wraps: a set of what came says the same.
#[test]
fn the_counts_are_those_of_a_set_of_all_numbers() {
    let mut rng = Seed::new([8; 32]).rng();
    for round in 0..12 {
        let first = 65_000 + u64::from(rng.below(1_000));
        let reach = [1, 30, 90, 900][round % 4];
        let mut sent: Vec<(u64, u64)> = Vec::new();
        let count = if round == 3 { 2 * 65_536 } else { 5_000 };
        for number in first..first + count {
            let copies = match rng.below(20) {
                0 => 0,
                1 => 2,
                _ => 1,
            };
            // In order at first: of what precedes the first packet nobody can tell how much there was.
            let reach = if number < first + 1_000 { 1 } else { reach };
            for _ in 0..copies {
                sent.push((number + u64::from(rng.below(reach)), number));
            }
        }
        sent.sort_unstable();
        let numbers: Vec<u64> = sent.into_iter().map(|(_, number)| number).collect();
        let report = in_time(numbers.iter().copied());

        let (mut set, mut late, mut copies) = (BTreeSet::new(), 0, 0);
        for number in &numbers {
            let is_behind = set.last().is_some_and(|last| number < last);
            if set.insert(*number) {
                late += u64::from(is_behind);
            } else {
                copies += 1;
            }
        }
        let (lowest, highest) = (*set.first().unwrap(), *set.last().unwrap());
        let unique = set.len() as u64;
        assert_eq!(
            (report.packets, report.unique),
            (numbers.len() as u64, unique)
        );
        assert_eq!((report.duplicates, report.late), (copies, late));
        assert_eq!(report.missing, highest - lowest + 1 - unique);
        assert_eq!(report.expected, highest - numbers[0] + 1);
        let lost = (highest - numbers[0] + 1) as i64 - numbers.len() as i64;
        assert_eq!(report.lost, lost);
        assert_eq!(report.highest_sequence, highest as u16);
        assert_eq!(report.cycles, highest / 65_536 - numbers[0] / 65_536);
        assert_eq!((report.restarts, report.strays), (0, 0));
    }
}

#[test]
fn a_stray_number_moves_nothing_and_two_in_a_row_are_a_new_beginning() {
    let with = |strays: &[u64]| {
        in_time(
            (1_000..1_100)
                .chain(strays.iter().copied())
                .chain(1_100..1_200),
        )
    };
    let plain = with(&[]);
    for stray in [1_100 + 3_100, 1_100 + 40_000, 500] {
        let report = with(&[stray]);
        assert_eq!(report.strays, 1, "{stray}");
        assert_eq!(report.packets, plain.packets + 1);
        assert_eq!(
            (
                report.unique,
                report.missing,
                report.lost,
                report.highest_sequence
            ),
            (plain.unique, 0, 0, plain.highest_sequence),
            "{stray}"
        );
    }
    let report = in_time((1_000..1_100).chain(30_000..30_050));
    assert_eq!((report.restarts, report.strays), (1, 0));
    assert_eq!((report.unique, report.missing, report.lost), (150, 0, 0));
    assert_eq!(report.highest_sequence, 30_049);
}

/// A gateway that begins its numbers anew while its media goes on; not 1,000 copies.
#[test]
fn low_numbers_with_new_timestamps_are_a_new_beginning_and_with_old_ones_copies() {
    let mut streams = Streams::default();
    let mut note = |sequence: u64, timestamp: u64| {
        let seen = seen(sequence as u16, timestamp as u32, 0, timestamp * MILLI / 8);
        streams.note(flow(), &seen, &Codecs::default(), Arrivals::Capture);
    };
    (0..1_000).for_each(|number| note(number, number * 160));
    (0..500).for_each(|number| note(number, (1_000 + number) * 160));
    let report = streams.into_reports(|_| true).0.pop().unwrap();
    assert_eq!((report.restarts, report.duplicates), (1, 0));
    assert_eq!((report.unique, report.missing, report.lost), (1_500, 0, 0));

    let doubled = in_time((0..1_000).chain(0..1_000));
    assert_eq!((doubled.restarts, doubled.duplicates), (0, 1_000));
    assert_eq!((doubled.unique, doubled.lost), (1_000, -1_000));
}

/// By hand: transit differences of 0, 80, 80 and 0 units give 0, 5, 9.6875 and 9.08203125 (RFC 3550 §A.8).
#[test]
fn jitter_follows_the_formula() {
    let report = replayed([(0, 0), (1, 20), (2, 50), (3, 60), (4, 80)]);
    assert_eq!(report.jitter, Some(9.082_031_25));
    assert_eq!(report.clock_rate, Some(8_000));
    assert_eq!(report.duration, Some(Duration::from_millis(80)));
    assert_eq!(report.bitrate, Some(172 * 5 * 8 * 1_000 / 80));
}

#[test]
fn other_clocks_have_no_part_in_jitter_and_none_at_all_gives_none() {
    let mut codecs = Codecs::default();
    codecs.add_map("96=opus/48000").unwrap();
    let of = |packets: &[(u16, u32, u8)]| {
        let mut streams = Streams::default();
        for ((number, timestamp, payload_type), stamp) in packets.iter().zip((0..).step_by(20)) {
            let seen = seen(*number, *timestamp, *payload_type, stamp * MILLI);
            streams.note(flow(), &seen, &codecs, Arrivals::Capture);
        }
        streams.into_reports(|_| true).0.pop().unwrap()
    };
    let mixed = of(&[
        (0, 0, 96),
        (1, 960, 96),
        (2, 99_999, 100),
        (3, 7, 13),
        (4, 3_840, 96),
    ]);
    assert_eq!((mixed.clock_rate, mixed.jitter), (Some(48_000), Some(0.0)));
    let unknown = of(&[(0, 0, 100), (1, 960, 100)]);
    assert_eq!(
        (unknown.clock_rate, unknown.jitter, unknown.talk_spurts),
        (None, None, None)
    );
    let video = of(&[(0, 0, 34), (1, 3_000, 34)]);
    assert_eq!(video.talk_spurts, None, "pictures do not talk");
}

#[test]
fn media_time_brings_packets_when_they_are_due_and_late_ones_at_once() {
    let mut streams = Streams::default();
    for number in [0, 1, 3, 2, 4] {
        // All stamped alike.
        let seen = seen(number, u32::from(number) * 160, 0, 77 * MILLI);
        streams.note(flow(), &seen, &Codecs::default(), Arrivals::Media);
    }
    let report = streams.into_reports(|_| true).0.pop().unwrap();
    assert_eq!(report.duration, Some(Duration::from_millis(80)));
    // The late one came 20 ms after its time: 160 units there, and back.
    assert_eq!(report.jitter, Some(10.0 + (160.0 - 10.0) / 16.0));
}

#[test]
fn a_clock_that_goes_back_gives_no_negative_time() {
    let report = replayed([(0, 5_000), (1, 5_020), (2, 40), (3, 60)]);
    assert_eq!(report.duration, Some(Duration::from_millis(20)));
    assert!(
        report.jitter > Some(1_000.0),
        "and it shows: {:?}",
        report.jitter
    );
}

#[test]
fn talk_spurts_begin_at_markers_and_after_silence() {
    let packet = |number: u16, media_ms: u32, marker: bool| {
        let mut seen = seen(number, media_ms * 8, 0, u64::from(media_ms) * MILLI);
        seen.header.marker = marker;
        seen
    };
    let spurts = |packets: &[(u16, u32, bool)]| {
        let mut streams = Streams::default();
        for (number, media_ms, marker) in packets {
            let seen = packet(*number, *media_ms, *marker);
            streams.note(flow(), &seen, &Codecs::default(), Arrivals::Capture);
        }
        streams.into_reports(|_| true).0.pop().unwrap().talk_spurts
    };
    assert_eq!(
        spurts(&[(0, 0, true), (1, 20, false), (2, 40, false)]),
        Some(1)
    );
    let after_silence = [
        (0, 0, false),
        (1, 20, false),
        (2, 1_000, false),
        (3, 1_020, false),
    ];
    assert_eq!(spurts(&after_silence), Some(2));
    let marked = [
        (0, 0, false),
        (1, 20, false),
        (2, 100, true),
        (3, 120, false),
    ];
    assert_eq!(spurts(&marked), Some(2));
    // A marker on each packet of sound that never stops says nothing, nor does one where packets were lost.
    let always: Vec<_> = (0..200_u16)
        .map(|at| (at, u32::from(at) * 20, true))
        .collect();
    assert_eq!(spurts(&always), Some(1));
    let lossy = always.iter().filter(|(at, ..)| at % 10 < 6).copied();
    assert_eq!(spurts(&lossy.collect::<Vec<_>>()), Some(1));
    let paused = always
        .iter()
        .map(|(at, time, marker)| (*at, time + u32::from(at / 50) * 40, *marker));
    assert_eq!(spurts(&paused.collect::<Vec<_>>()), Some(4));
    // Comfort noise every 400 ms is silence; 50 lost packets are not.
    let noise = [
        (0, 0, false),
        (1, 20, false),
        (2, 420, false),
        (3, 820, false),
    ];
    assert_eq!(spurts(&noise), Some(1));
    assert_eq!(
        spurts(&[
            (0, 0, false),
            (1, 20, false),
            (52, 1_040, false),
            (53, 1_060, false)
        ]),
        Some(1)
    );
}

/// Two queries of DNS with the same flags differ in what would be their payload type.
#[test]
fn what_only_looks_like_rtp_is_counted_and_not_reported() {
    let mut streams = Streams::default();
    for (sequence, payload_type) in [(0x0100, 1), (0x0103, 99), (0x0100, 50)] {
        let seen = seen(sequence, 0x0001_0000, payload_type, 0);
        let noted = streams.note(flow(), &seen, &Codecs::default(), Arrivals::Capture);
        let unconfirmed = matches!(
            noted,
            Noted::Counted {
                is_confirmed: false,
                given_up: 0,
                ..
            }
        );
        assert!(unconfirmed, "{noted:?}");
    }
    let (reports, alone) = streams.into_reports(|_| false);
    assert_eq!((reports, alone), (Vec::new(), 3));
}

#[test]
fn sources_beyond_the_limit_drive_out_unconfirmed_ones_alone() {
    let mut streams = Streams::default();
    let mut note = |ssrc: u32, sequence: u16| {
        let mut seen = seen(sequence, 0, 0, 0);
        seen.header.ssrc = ssrc;
        streams.note(flow(), &seen, &Codecs::default(), Arrivals::Capture)
    };
    let all = REPLAY_STREAMS_MAX as u32;
    for ssrc in 0..all {
        note(ssrc, 1);
    }
    for ssrc in 0..all - 1 {
        note(ssrc, 2);
    }
    let noted = note(all, 1);
    let given_up = matches!(
        noted,
        Noted::Counted {
            is_confirmed: false,
            given_up: 1,
            ..
        }
    );
    assert!(given_up, "the last one, of a single packet: {noted:?}");
    assert!(matches!(
        note(all, 2),
        Noted::Counted {
            is_confirmed: true,
            ..
        }
    ));
    assert_eq!(note(all + 1, 1), Noted::Beyond);
    let (reports, alone) = streams.into_reports(|_| false);
    assert_eq!((reports.len(), alone), (REPLAY_STREAMS_MAX, 0));
}
