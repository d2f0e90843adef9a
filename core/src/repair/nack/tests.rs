use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const ROUND_TRIP: Duration = Duration::from_millis(50);

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn asked(generator: &mut NackGenerator, now: Timestamp) -> Vec<u16> {
    let mut out = [0; NACK_MISSING_MAX];
    let count = generator.poll(now, ROUND_TRIP, &mut out);
    out[..count].to_vec()
}

/// A generator that received `numbers` at time zero.
fn after(numbers: impl IntoIterator<Item = u64>) -> NackGenerator {
    let mut generator = NackGenerator::default();
    for number in numbers {
        generator.note_received(at(0), number);
    }
    generator
}

#[test]
fn a_stream_without_loss_has_no_deadline() {
    let mut generator = after(0..70_000);
    assert_eq!(generator.deadline(), None);
    assert!(asked(&mut generator, at(10_000)).is_empty());
    assert!(!generator.needs_keyframe());
    assert_eq!(generator.missing.capacity(), 0);
}

#[test]
fn a_packet_merely_reordered_is_not_asked_for() {
    let mut generator = after([10, 12, 13]);
    assert_eq!(generator.deadline(), Some(at(10)));
    assert!(asked(&mut generator, at(9)).is_empty());
    assert_eq!(generator.note_received(at(9), 11), Arrival::New);
    assert_eq!(generator.deadline(), None);
}

#[test]
fn a_gap_is_asked_for_after_ten_milliseconds_or_three_later_packets() {
    let mut by_time = after([10, 12]);
    assert_eq!(asked(&mut by_time, at(10)), [11]);

    let mut by_count = after([10, 12, 13, 14]);
    assert_eq!(by_count.deadline(), Some(at(0)));
    assert_eq!(asked(&mut by_count, at(0)), [11]);
}

#[test]
fn a_second_gap_does_not_count_as_later_packets_of_the_first() {
    let mut generator = after([10, 12, 20]);
    assert!(asked(&mut generator, at(0)).is_empty());
    generator.note_received(at(1), 21);
    assert_eq!(asked(&mut generator, at(1)), [11]);
    generator.note_received(at(1), 22);
    assert_eq!(asked(&mut generator, at(1)), [13, 14, 15, 16, 17, 18, 19]);
}

#[test]
fn requests_are_spaced_by_the_round_trip_and_end_in_a_keyframe_request() {
    let mut generator = after([10, 12]);
    let mut requests = Vec::new();
    while let Some(deadline) = generator.deadline() {
        if !asked(&mut generator, deadline).is_empty() {
            requests.push(deadline.as_millis());
        }
    }
    let expected: Vec<u64> = (0..u64::from(NACK_TRIES_MAX))
        .map(|n| 10 + 50 * n)
        .collect();
    assert_eq!(requests, expected);
    assert!(generator.needs_keyframe());
}

#[test]
fn a_tiny_round_trip_is_floored_and_a_huge_one_asks_once() {
    for (round_trip, second) in [(Duration::ZERO, 30), (Duration::MAX, 1_000)] {
        let mut generator = after([10, 12]);
        assert_eq!(generator.poll(at(10), round_trip, &mut [0; 4]), 1);
        assert_eq!(generator.deadline(), Some(at(second)));
    }
}

#[test]
fn what_was_asked_for_is_recovered_once() {
    let mut generator = after([10, 12]);
    assert_eq!(asked(&mut generator, at(10)), [11]);
    assert_eq!(generator.note_received(at(20), 11), Arrival::Recovered);
    assert_eq!(generator.note_received(at(21), 11), Arrival::Duplicate);
    assert_eq!(generator.deadline(), None);
    assert!(!generator.needs_keyframe());
}

#[test]
fn what_was_given_up_is_still_new_when_it_comes_and_then_a_duplicate() {
    let mut generator = after([10, 12]);
    assert!(asked(&mut generator, at(1_000)).is_empty());
    assert!(generator.needs_keyframe());
    assert_eq!(generator.note_received(at(1_001), 11), Arrival::New);
    assert_eq!(generator.note_received(at(1_001), 11), Arrival::Duplicate);
}

#[test]
fn gaps_before_a_keyframe_are_asked_for_but_given_up_without_another_keyframe() {
    let mut generator = after([10, 12, 14]);
    generator.note_keyframe(14);
    assert_eq!(asked(&mut generator, at(10)), [11, 13]);
    assert!(asked(&mut generator, at(1_000)).is_empty());
    assert!(!generator.needs_keyframe());

    let mut generator = after([10, 12, 14, 16]);
    generator.note_keyframe(14);
    assert!(asked(&mut generator, at(1_000)).is_empty());
    assert!(
        generator.needs_keyframe(),
        "15 came after the keyframe began"
    );
}

#[test]
fn gaps_before_a_keyframe_make_room_for_newer_ones() {
    let full = 1 + NACK_MISSING_MAX as u64;
    let mut generator = after([0, full]);
    generator.note_keyframe(full);
    generator.note_received(at(11), full + 2);
    assert_eq!(asked(&mut generator, at(21)), [full as u16 + 1]);
    assert!(!generator.needs_keyframe());
}

#[test]
fn only_a_keyframe_after_what_was_given_up_ends_the_need() {
    let mut generator = after([10, 12, 14]);
    assert!(asked(&mut generator, at(1_000)).is_empty());
    generator.note_keyframe(12);
    assert!(generator.needs_keyframe());
    generator.note_keyframe(14);
    assert!(!generator.needs_keyframe());
}

#[test]
fn as_many_as_allowed_are_asked_for_and_one_more_clears_all() {
    let full = 1 + NACK_MISSING_MAX as u64;
    let mut generator = after([0, full]);
    assert_eq!(asked(&mut generator, at(10)).len(), NACK_MISSING_MAX);
    assert!(!generator.needs_keyframe());

    generator.note_received(at(11), full + 2);
    assert_eq!(generator.deadline(), None);
    assert!(generator.needs_keyframe());
    generator.note_keyframe(full + 2);
    assert!(!generator.needs_keyframe());
}

#[test]
fn a_short_buffer_leaves_the_rest_due() {
    let mut generator = after([0, 10]);
    let mut out = [0; 4];
    let mut numbers = Vec::new();
    while generator
        .deadline()
        .is_some_and(|deadline| deadline <= at(10))
    {
        let count = generator.poll(at(10), ROUND_TRIP, &mut out);
        numbers.extend_from_slice(&out[..count]);
    }
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(generator.poll(at(10), ROUND_TRIP, &mut []), 0);
}

#[test]
fn ten_years_pass_in_one_poll() {
    let mut generator = after([0, 200]);
    assert!(asked(&mut generator, at(10 * 365 * 86_400_000)).is_empty());
    assert_eq!(generator.deadline(), None);
    assert!(generator.needs_keyframe());
}

#[test]
fn a_retransmission_is_extended_across_the_wrap() {
    assert_eq!(NackGenerator::default().extend(7), None);
    let generator = after([0x1_fffe, 0x2_0001]);
    assert_eq!(generator.extend(0xffff), Some(0x1_ffff));
    assert_eq!(after([3]).extend(0xffff), None);
}

#[test]
fn the_largest_jump_there_is_costs_nothing() {
    let mut generator = after([0, (1 << 63) - 2, (1 << 63) - 1]);
    assert!(generator.needs_keyframe());
    assert_eq!(generator.note_received(at(1), 5), Arrival::Duplicate);
    assert_eq!(generator.deadline(), None);
}

#[derive(Clone, Debug)]
enum Step {
    Receive(i64),
    Keyframe(i64),
    Poll,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => (-20_i64..12).prop_map(Step::Receive),
        1 => (-2_000_i64..400).prop_map(Step::Receive),
        1 => (-30_i64..3).prop_map(Step::Keyframe),
        6 => Just(Step::Poll),
        6 => (0_u64..40).prop_map(Step::Wait),
        1 => (0_u64..2_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// N1 and N2: never what was received, never within the reorder window, never more than ten
    /// times, never closer than the round trip; and no number is new twice.
    #[test]
    fn requests_obey_n1_and_n2(steps in steps(), start in 0_u64..1 << 40, round_trip_ms in 0_u64..200) {
        let round_trip = Duration::from_millis(round_trip_ms);
        let mut generator = NackGenerator::default();
        let (mut now_ms, mut highest) = (0, start + 10_000);
        generator.note_received(at(0), highest);
        let mut received = BTreeSet::from([highest]);
        // By number: when it was first passed, and by how many.
        let mut passed: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let mut requests: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Wait(millis) => now_ms += millis,
                Step::Keyframe(offset) => generator.note_keyframe(highest.saturating_add_signed(offset)),
                Step::Receive(offset) => {
                    let sequence = highest.saturating_add_signed(offset);
                    let arrival = generator.note_received(at(now_ms), sequence);
                    if arrival != Arrival::Duplicate {
                        prop_assert!(received.insert(sequence));
                        let asked = requests.contains_key(&sequence);
                        prop_assert!(asked || arrival == Arrival::New);
                    }
                    if sequence > highest {
                        for number in highest.max(sequence.saturating_sub(500))..sequence {
                            passed.entry(number).or_insert((now_ms, 0));
                        }
                        passed.iter_mut().for_each(|(_, (_, later))| *later += 1);
                        highest = sequence;
                    }
                }
                Step::Poll => {
                    let mut out = [0; 32];
                    let count = generator.poll(at(now_ms), round_trip, &mut out);
                    for number in &out[..count] {
                        let sequence = extend_sequence(highest, *number).unwrap();
                        prop_assert!(!received.contains(&sequence));
                        let (since, later) = passed[&sequence];
                        prop_assert!(now_ms - since >= 10 || later >= 3);
                        let times = requests.entry(sequence).or_default();
                        prop_assert!(times.last().is_none_or(|last| now_ms - last >= round_trip_ms.max(20)));
                        times.push(now_ms);
                        prop_assert!(times.len() <= usize::from(NACK_TRIES_MAX));
                    }
                    let due = generator.deadline().is_some_and(|deadline| deadline <= at(now_ms));
                    prop_assert!(count == out.len() || !due, "a poll that wrote less than a buffer left work due");
                }
            }
            prop_assert!(generator.missing.len() <= NACK_MISSING_MAX);
        }
    }

    /// Loss below the limits is repaired in full when requests are answered.
    #[test]
    fn answered_requests_leave_nothing_missing(lost in prop::collection::btree_set(1_u64..400, 0..120)) {
        let mut generator = NackGenerator::default();
        let mut recovered = BTreeSet::new();
        for sequence in (0..=400).filter(|sequence| !lost.contains(sequence)) {
            generator.note_received(at(sequence), sequence);
            for number in asked(&mut generator, at(sequence)) {
                prop_assert_eq!(generator.note_received(at(sequence), u64::from(number)), Arrival::Recovered);
                recovered.insert(u64::from(number));
            }
        }
        for number in asked(&mut generator, at(500)) {
            generator.note_received(at(500), u64::from(number));
            recovered.insert(u64::from(number));
        }
        prop_assert_eq!(recovered, lost);
        prop_assert_eq!(generator.deadline(), None);
        prop_assert!(!generator.needs_keyframe());
    }
}
