use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::limits::SEQUENCE_WINDOW;

const CLOCK_RATE: u32 = 90_000;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn plain(sequence: u64, timestamp: u32) -> Source {
    Source {
        sequence,
        timestamp,
        picture: None,
    }
}

fn pictured(sequence: u64, picture_id: u16, tl0picidx: u8) -> Source {
    Source {
        sequence,
        timestamp: 0,
        picture: Some(Vp8Picture {
            picture_id,
            tl0picidx,
        }),
    }
}

fn rewriter() -> Rewriter {
    Rewriter::new(CLOCK_RATE, 1_000, 5_000)
}

fn numbers(rewritten: Option<Rewritten>) -> (u64, u32) {
    let rewritten = rewritten.expect("the packet is to be sent");
    (rewritten.sequence, rewritten.timestamp)
}

#[test]
fn the_first_packet_gets_the_first_numbers() {
    let mut rewriter = rewriter();
    assert_eq!(
        numbers(rewriter.rewrite(at(0), plain(70_000, 9))),
        (1_000, 5_000)
    );
    assert_eq!(
        numbers(rewriter.rewrite(at(0), plain(70_001, 3_009))),
        (1_001, 8_000)
    );
}

#[test]
fn loss_and_reordering_within_a_source_are_preserved() {
    let mut rewriter = rewriter();
    let sent: Vec<u64> = [500, 503, 501, 504]
        .map(|sequence| numbers(rewriter.rewrite(at(0), plain(sequence, 0))).0)
        .to_vec();
    assert_eq!(sent, [1_000, 1_003, 1_001, 1_004]);
}

#[test]
fn a_packet_is_sent_once_and_none_from_before_the_switch_point() {
    let mut rewriter = rewriter();
    assert!(rewriter.rewrite(at(0), plain(500, 0)).is_some());
    assert_eq!(rewriter.rewrite(at(0), plain(500, 0)), None);
    assert_eq!(rewriter.rewrite(at(0), plain(499, 0)), None);

    rewriter.switch();
    assert_eq!(numbers(rewriter.rewrite(at(0), plain(80, 0))).0, 1_001);
    assert_eq!(rewriter.rewrite(at(0), plain(79, 0)), None);
}

#[test]
fn a_packet_too_late_to_know_is_not_sent() {
    let mut rewriter = rewriter();
    for sequence in [0, 1_500] {
        assert!(rewriter.rewrite(at(0), plain(sequence, 0)).is_some());
    }
    assert_eq!(
        rewriter.rewrite(at(0), plain(1_500 - SEQUENCE_WINDOW as u64, 0)),
        None
    );
    assert!(
        rewriter
            .rewrite(at(0), plain(1_501 - SEQUENCE_WINDOW as u64, 0))
            .is_some()
    );
}

#[test]
fn a_switch_moves_media_time_on_by_the_time_passed_but_at_least_a_step() {
    for (passed_ms, step) in [(0, 1_800), (20, 1_800), (33, 2_970), (10_000, 900_000)] {
        let mut rewriter = rewriter();
        rewriter.rewrite(at(7), plain(1, 4_000_000_000)).unwrap();
        rewriter.switch();
        let switched = rewriter.rewrite(at(7 + passed_ms), plain(9, 77));
        assert_eq!(numbers(switched), (1_001, 5_000 + step));
        let next = rewriter.rewrite(at(7 + passed_ms), plain(10, 77 + 3_000));
        assert_eq!(numbers(next), (1_002, 8_000 + step));
    }
}

#[test]
fn a_switch_counts_from_the_newest_packet_not_from_a_late_one() {
    let mut rewriter = rewriter();
    rewriter.rewrite(at(0), plain(1, 0)).unwrap();
    rewriter.rewrite(at(100), plain(3, 9_000)).unwrap();
    rewriter.rewrite(at(150), plain(2, 4_500)).unwrap();
    rewriter.switch();
    assert_eq!(
        numbers(rewriter.rewrite(at(200), plain(1, 0))),
        (1_003, 5_000 + 18_000)
    );
}

/// A key is held for two seconds while sound goes on, or in its place: each packet of it says when it was pressed.
#[test]
fn a_switch_counts_from_the_latest_media_time_not_from_when_a_key_was_pressed() {
    for sound in [true, false] {
        for start in [0, u32::MAX - 90_000] {
            let mut rewriter = rewriter();
            let mut sequence = 1;
            let mut latest = 0;
            let mut pass = |rewriter: &mut Rewriter, millis: u64, timestamp: u32| {
                let sent = rewriter.rewrite(at(millis), plain(sequence, timestamp));
                sequence += 1;
                numbers(sent).1
            };
            for millis in (0..=2_000).step_by(20) {
                let elapsed = 90 * millis as u32;
                if sound || millis == 0 {
                    latest = pass(&mut rewriter, millis, start.wrapping_add(elapsed));
                }
                if millis > 0 {
                    pass(&mut rewriter, millis, start.wrapping_add(1_800));
                }
            }
            assert_eq!(rewriter.timestamp_at(at(2_000)), Some(5_000 + 180_000));
            rewriter.switch();
            let (_, switched) = numbers(rewriter.rewrite(at(2_020), plain(1, 7)));
            assert_eq!(switched, 5_000 + 2_020 * 90, "sound: {sound}, from {start}");
            assert!(is_later(switched, latest));
        }
    }
}

/// So long that media time seems to have gone back, by the shorter way round.
#[test]
fn a_source_that_begins_counts_whatever_came_before() {
    let mut rewriter = rewriter();
    rewriter.rewrite(at(0), plain(1, 0)).unwrap();
    rewriter.switch();
    let long = 8 * 3_600_000;
    rewriter.rewrite(at(long), plain(1, 0)).unwrap();
    rewriter.rewrite(at(long), plain(2, 900)).unwrap();
    let expected = (5_000 + 90 * long + 900) as u32;
    assert_eq!(rewriter.timestamp_at(at(long)), Some(expected));
}

#[test]
fn ten_years_between_sources_wrap_media_time_at_once() {
    let mut rewriter = rewriter();
    rewriter.rewrite(at(0), plain(1, 0)).unwrap();
    rewriter.switch();
    let decade_ms = 10 * 365 * 86_400_000_u64;
    let (_, timestamp) = numbers(rewriter.rewrite(at(decade_ms), plain(1, 0)));
    assert_eq!(timestamp, (decade_ms * 90 + 5_000) as u32);
    assert!(
        rewriter
            .timestamp_at(Timestamp::from_nanos(u64::MAX))
            .is_some()
    );
}

#[test]
fn picture_numbers_continue_across_switches_and_wraps() {
    let mut rewriter = rewriter();
    let mut picture = |sequence, source: (u16, u8), switch: bool| {
        if switch {
            rewriter.switch();
        }
        let sent = rewriter
            .rewrite(at(0), pictured(sequence, source.0, source.1))
            .unwrap();
        let sent = sent.picture.unwrap();
        (sent.picture_id, sent.tl0picidx)
    };
    assert_eq!(picture(1, (0x7ffe, 254), false), (0x7ffe, 254));
    assert_eq!(picture(2, (0x7fff, 255), false), (0x7fff, 255));
    assert_eq!(picture(1, (400, 40), true), (0, 0));
    assert_eq!(picture(4, (402, 41), false), (2, 1));
    assert_eq!(picture(3, (401, 40), false), (1, 0));
    assert_eq!(picture(9, (5, 200), true), (3, 2));
}

#[test]
fn pictures_continue_after_a_source_that_had_none() {
    let mut rewriter = rewriter();
    rewriter.rewrite(at(0), pictured(1, 10, 20)).unwrap();
    rewriter.switch();
    assert_eq!(rewriter.rewrite(at(0), plain(1, 0)).unwrap().picture, None);
    rewriter.switch();
    let continued = rewriter
        .rewrite(at(0), pictured(1, 99, 99))
        .unwrap()
        .picture;
    assert_eq!(
        continued,
        Some(Vp8Picture {
            picture_id: 11,
            tl0picidx: 21
        })
    );
}

#[test]
fn a_nack_finds_the_current_source_and_only_what_it_reached() {
    let mut rewriter = rewriter();
    assert_eq!(rewriter.source_of(1_000), None);
    rewriter.rewrite(at(0), plain(500, 0)).unwrap();
    rewriter.rewrite(at(0), plain(502, 0)).unwrap();
    assert_eq!(rewriter.source_of(1_001), Some(501));
    rewriter.switch();
    assert_eq!(rewriter.source_of(1_001), None);
    rewriter.rewrite(at(0), plain(65_535, 0)).unwrap();
    rewriter.rewrite(at(0), plain(65_537, 0)).unwrap();
    assert_eq!(rewriter.source_of(1_002), None);
    assert_eq!(rewriter.source_of(1_003), Some(65_535));
    assert_eq!(rewriter.source_of(1_005), Some(65_537));
    assert_eq!(rewriter.source_of(1_006), None);
    assert_eq!(rewriter.source_of(60_000), None);
}

#[test]
fn a_packet_made_again_has_the_numbers_it_had() {
    let mut rewriter = rewriter();
    assert_eq!(rewriter.numbers_of(pictured(5, 7, 9)), None);
    let first = rewriter.rewrite(at(0), pictured(5, 7, 9));
    rewriter.rewrite(at(40), pictured(6, 8, 10)).unwrap();
    assert_eq!(rewriter.numbers_of(pictured(5, 7, 9)), first);
    assert_eq!(rewriter.numbers_of(pictured(4, 6, 8)), None);
}

#[test]
fn a_jump_no_receiver_would_ask_for_is_closed_up() {
    let mut rewriter = rewriter();
    rewriter.rewrite(at(0), plain(10, 0)).unwrap();
    let kept = rewriter.rewrite(at(0), plain(10 + DROPOUT_MAX, 0));
    assert_eq!(numbers(kept).0, 1_000 + DROPOUT_MAX);
    let closed = rewriter.rewrite(at(0), plain(11 + 2 * DROPOUT_MAX, 0));
    assert_eq!(numbers(closed).0, 1_001 + DROPOUT_MAX);
    assert_eq!(rewriter.rewrite(at(0), plain(12 + DROPOUT_MAX, 0)), None);
    let last = rewriter.rewrite(at(0), plain(u64::MAX, 0));
    assert_eq!(numbers(last).0, 1_002 + DROPOUT_MAX);
}

#[derive(Clone, Debug)]
enum Step {
    Packet {
        offset: i64,
        timestamp: u32,
        picture: Option<(u16, u8)>,
    },
    Switch {
        sequence: u64,
    },
    Wait {
        millis: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let offset = prop_oneof![20 => -6_i64..8, 2 => -1_500_i64..1_500, 1 => -9_000_i64..70_000];
    let picture = prop::option::of(any::<(u16, u8)>());
    let step = prop_oneof![
        20 => (offset, any::<u32>(), picture)
            .prop_map(|(offset, timestamp, picture)| Step::Packet { offset, timestamp, picture }),
        1 => (0_u64..1 << 47).prop_map(|sequence| Step::Switch { sequence }),
        2 => (0_u64..5_000).prop_map(|millis| Step::Wait { millis }),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    /// Nonce safety: over switches, wraps, loss, disorder, copies and jumps no outgoing number is
    /// given out twice; within a source packets keep their distances; NACKs lead back.
    #[test]
    fn no_two_packets_share_an_outgoing_number(steps in steps(), first in 0_u16..1 << 15) {
        let mut rewriter = Rewriter::new(CLOCK_RATE, first, 0);
        let mut given: BTreeMap<u64, (u32, u64)> = BTreeMap::new();
        let (mut source, mut highest, mut now_ms) = (0, 1_u64 << 32, 0);
        let mut switched = false;
        for step in steps {
            match step {
                Step::Wait { millis } => now_ms += millis,
                Step::Switch { sequence } => {
                    rewriter.switch();
                    source += 1;
                    highest = sequence;
                    switched = true;
                }
                Step::Packet { offset, timestamp, picture } => {
                    let sequence = highest.saturating_add_signed(offset);
                    let picture = picture.map(|(picture_id, tl0picidx)| Vp8Picture { picture_id, tl0picidx });
                    let packet = Source { sequence, timestamp, picture };
                    let newest = given.last_key_value().map(|(newest, _)| *newest);
                    let Some(sent) = rewriter.rewrite(at(now_ms), packet) else {
                        prop_assert!(newest.is_some() && !switched, "the first of a source is sent");
                        continue;
                    };
                    highest = highest.max(sequence);
                    prop_assert!(given.insert(sent.sequence, (source, sequence)).is_none());
                    prop_assert_eq!(rewriter.source_of(sent.sequence as u16), Some(sequence));
                    prop_assert_eq!(rewriter.numbers_of(packet), Some(sent));
                    prop_assert_eq!(sent.picture.is_some(), picture.is_some());
                    prop_assert!(sent.picture.is_none_or(|picture| picture.picture_id < 1 << 15));
                    match newest {
                        None => prop_assert_eq!(sent.sequence, u64::from(first)),
                        Some(newest) if switched => prop_assert_eq!(sent.sequence, newest + 1),
                        // A receiver's guess of the rollover counter holds.
                        Some(newest) => prop_assert!(sent.sequence <= newest + DROPOUT_MAX),
                    }
                    switched = false;
                }
            }
        }
    }

    /// A clean source stays as it is, shifted, whatever its numbers, across any number of wraps.
    #[test]
    fn a_source_is_shifted_and_nothing_else(
        start in 0_u64..1 << 47,
        timestamp: u32,
        packets in prop::collection::vec((1_u64..900, any::<u32>()), 1..200),
    ) {
        let mut rewriter = rewriter();
        rewriter.rewrite(at(0), plain(start, timestamp)).unwrap();
        let mut sequence = start;
        for (step, later) in packets {
            sequence += step;
            let sent = rewriter.rewrite(at(0), plain(sequence, timestamp.wrapping_add(later)));
            prop_assert_eq!(numbers(sent), (1_000 + sequence - start, 5_000_u32.wrapping_add(later)));
        }
    }
}
