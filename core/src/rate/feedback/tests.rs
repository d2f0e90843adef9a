use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// A report read back: each number and, if received, its arrival in microseconds.
type Decoded = Vec<(u16, Option<u64>)>;

/// The reference decoder: follows the draft's text, shares no code with the recorder. `near_micros`
/// makes the wrapped reference time whole.
fn decode(report: &FeedbackReport<'_>, near_micros: u64) -> Decoded {
    assert!(!report.deltas.is_empty() && report.deltas.len() <= FEEDBACK_STATUSES_MAX);
    assert!(report.reference_time < 1 << 24);
    let first = report
        .deltas
        .iter()
        .flatten()
        .next()
        .expect("a report tells of an arrival");
    assert!((0..256).contains(first));

    let lap = 64_000 << 24;
    let wrapped = u64::from(report.reference_time) * 64_000;
    let laps = (near_micros + lap / 2).saturating_sub(wrapped) / lap;
    let mut micros = (laps * lap + wrapped) as i64;
    let mut sequence = report.base_sequence;
    let mut statuses = Vec::new();
    for delta in report.deltas {
        micros += i64::from(delta.unwrap_or(0)) * 250;
        statuses.push((sequence, delta.map(|_| micros as u64)));
        sequence = sequence.wrapping_add(1);
    }
    statuses
}

/// All reports due at `now`.
fn reports(recorder: &mut FeedbackRecorder, now: Timestamp) -> Vec<Decoded> {
    let mut all = Vec::new();
    while let Some(report) = recorder.poll(now) {
        all.push(decode(&report, now.as_micros()));
        assert!(all.len() <= 1_100, "one deadline yields no end of reports");
    }
    all
}

fn numbers(report: &Decoded) -> Vec<(u16, bool)> {
    report
        .iter()
        .map(|(sequence, arrival)| (*sequence, arrival.is_some()))
        .collect()
}

#[test]
fn an_idle_recorder_has_no_deadline_and_no_memory() {
    let mut recorder = FeedbackRecorder::default();
    assert_eq!(recorder.deadline(), None);
    assert_eq!(recorder.poll(at(1_000_000)), None);
    assert!(recorder.record.is_none());
}

#[test]
fn a_report_comes_100_ms_after_the_first_packet_and_then_all_is_quiet() {
    let mut recorder = FeedbackRecorder::default();
    recorder.note_received(7, at(1_000));
    recorder.note_received(9, at(1_010));
    assert_eq!(recorder.deadline(), Some(at(1_100)));
    assert_eq!(recorder.poll(at(1_099)), None);

    // 1,000 ms are 15 units of 64 ms and 40 ms, and 40 ms are 160 units of 250 µs.
    let deltas = &[Some(160), None, Some(40)][..];
    let expected = FeedbackReport {
        base_sequence: 7,
        feedback_count: 0,
        reference_time: 15,
        deltas,
    };
    assert_eq!(recorder.poll(at(1_100)), Some(expected));
    assert_eq!(recorder.poll(at(1_100)), None);
    assert_eq!(recorder.deadline(), None);
}

#[test]
fn losses_between_reports_are_told_by_the_next() {
    let mut recorder = FeedbackRecorder::default();
    recorder.note_received(65_534, at(0));
    assert_eq!(
        numbers(&reports(&mut recorder, at(100))[0]),
        [(65_534, true)]
    );
    recorder.note_received(1, at(110));
    let expected = [(65_535, false), (0, false), (1, true)];
    assert_eq!(numbers(&reports(&mut recorder, at(210))[0]), expected);
}

#[test]
fn many_packets_halve_the_interval_and_a_full_report_is_due_at_once() {
    let mut recorder = FeedbackRecorder::default();
    for sequence in 0..FEEDBACK_FAST_STATUSES as u16 {
        recorder.note_received(sequence, at(0));
    }
    assert_eq!(recorder.deadline(), Some(at(50)));
    for sequence in 0..FEEDBACK_STATUSES_MAX as u16 + 3 {
        recorder.note_received(sequence, at(1));
    }
    assert_eq!(recorder.deadline(), Some(at(0)));
    let lens = |reports: Vec<Decoded>| reports.iter().map(Vec::len).collect::<Vec<usize>>();
    assert_eq!(lens(reports(&mut recorder, at(1))), [FEEDBACK_STATUSES_MAX]);
    assert_eq!(lens(reports(&mut recorder, at(100))), [3]);
}

#[test]
fn a_late_packet_moves_the_base_back_to_it() {
    let mut recorder = FeedbackRecorder::default();
    for sequence in [10, 11, 13, 14] {
        recorder.note_received(sequence, at(0));
    }
    reports(&mut recorder, at(100));
    recorder.note_received(12, at(105));
    recorder.note_received(12, at(106));
    let report = &reports(&mut recorder, at(205))[0];
    assert_eq!(*report, [(12, Some(105_000)), (13, Some(0)), (14, Some(0))]);
}

#[test]
fn packets_before_the_first_are_told_if_they_are_not_too_late() {
    let late = FEEDBACK_LATE_MAX as u16;
    let mut recorder = FeedbackRecorder::default();
    recorder.note_received(3, at(0));
    recorder.note_received(3_u16.wrapping_sub(late), at(1));
    recorder.note_received(2_u16.wrapping_sub(late), at(2));
    let report = &reports(&mut recorder, at(100))[0];
    assert_eq!(report.len(), FEEDBACK_LATE_MAX + 1);
    assert_eq!(report[0], (3_u16.wrapping_sub(late), Some(1_000)));
}

#[test]
fn second_copies_change_nothing() {
    let mut recorder = FeedbackRecorder::default();
    recorder.note_received(5, at(0));
    recorder.note_received(5, at(50));
    assert_eq!(reports(&mut recorder, at(100)), [[(5, Some(0))]]);
    recorder.note_received(5, at(200));
    assert_eq!(recorder.deadline(), None);
}

#[test]
fn arrivals_too_far_apart_for_a_delta_split_the_report() {
    let mut recorder = FeedbackRecorder::default();
    recorder.note_received(1, at(0));
    recorder.note_received(2, at(8_191));
    recorder.note_received(3, at(16_383));
    recorder.note_received(5, at(10 * 365 * 86_400_000));
    let now = at(10 * 365 * 86_400_000 + 100);
    let mut split = Vec::new();
    while let Some(report) = recorder.poll(now) {
        split.push((
            report.base_sequence,
            report.feedback_count,
            report.deltas.len(),
        ));
    }
    assert_eq!(split, [(1, 0, 2), (3, 1, 2), (5, 2, 1)]);
}

#[test]
fn a_new_numbering_begins_anew_without_inventing_losses() {
    for jump in [
        FEEDBACK_WINDOW as u16 + 1,
        32_768,
        65_536_u32.wrapping_sub(5_000) as u16,
    ] {
        let mut recorder = FeedbackRecorder::default();
        recorder.note_received(100, at(0));
        reports(&mut recorder, at(100));
        recorder.note_received(100_u16.wrapping_add(jump), at(200));
        let report = &reports(&mut recorder, at(300))[0];
        assert_eq!(*report, [(100_u16.wrapping_add(jump), Some(200_000))]);
    }
}

#[test]
fn a_loss_longer_than_a_report_is_told_as_far_as_one_reaches() {
    let mut recorder = FeedbackRecorder::default();
    recorder.note_received(0, at(0));
    reports(&mut recorder, at(100));
    recorder.note_received(1_000, at(200));
    let reports = reports(&mut recorder, at(200));
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].len(), FEEDBACK_STATUSES_MAX);
    assert_eq!(reports[0].last(), Some(&(1_000, Some(200_000))));
}

#[test]
fn the_feedback_count_wraps() {
    let mut recorder = FeedbackRecorder {
        feedback_count: 255,
        ..FeedbackRecorder::default()
    };
    recorder.note_received(0, at(0));
    assert_eq!(recorder.poll(at(100)).unwrap().feedback_count, 255);
    recorder.note_received(1, at(100));
    assert_eq!(recorder.poll(at(200)).unwrap().feedback_count, 0);
}

proptest! {
    /// Every packet of a lossy, reordered stream is told once its report is due, with its arrival to
    /// 250 µs, across wraps of the numbers and of the reference time; and nothing else is told.
    #[test]
    fn arrivals_are_recovered_within_250_micros(
        first: u16,
        // Around a wrap of the reference time, which is every 12 days and 10 hours.
        start_ms in (64_u64 << 24) - 3_000..(64 << 24) + 500,
        packets in prop::collection::vec((0_u64..12_000, 0_u64..90_000, prop::bool::weighted(0.85)), 1..600),
    ) {
        let mut sent_micros = start_ms * 1_000;
        let mut arrivals: Vec<(u64, u16)> = Vec::new();
        for (index, (gap, delay, arrives)) in packets.into_iter().enumerate() {
            sent_micros += gap;
            if arrives {
                // Most are in order; some are up to 90 ms late.
                let delay = if delay < 75_000 { 0 } else { delay };
                arrivals.push((sent_micros + delay, first.wrapping_add(index as u16)));
            }
        }
        arrivals.sort_unstable();
        let truth: BTreeMap<u16, u64> = arrivals.iter().map(|(micros, sequence)| (*sequence, *micros)).collect();

        let mut recorder = FeedbackRecorder::default();
        let mut told: BTreeMap<u16, u64> = BTreeMap::new();
        let mut take = |recorder: &mut FeedbackRecorder, now: Timestamp| {
            for (sequence, arrival) in reports(recorder, now).into_iter().flatten() {
                match arrival {
                    Some(micros) => {
                        let error = truth[&sequence].checked_sub(micros);
                        assert!(error.is_some_and(|error| error < 250), "{sequence}: {error:?}");
                        told.insert(sequence, micros);
                    }
                    None => assert!(!told.contains_key(&sequence), "{sequence} was told as received"),
                }
            }
        };
        for (micros, sequence) in &arrivals {
            let now = Timestamp::from_nanos(micros * 1_000);
            take(&mut recorder, now);
            recorder.note_received(*sequence, now);
            prop_assert!(recorder.deadline().is_some());
        }
        take(&mut recorder, Timestamp::from_nanos(sent_micros * 1_000) + Duration::from_secs(1));
        prop_assert_eq!(recorder.deadline(), None);
        prop_assert_eq!(told.keys().collect::<Vec<_>>(), truth.keys().collect::<Vec<_>>());
    }

    /// Any numbers at any times: no panic, every poll ends, every report stays within its bounds.
    #[test]
    fn hostile_numbers_and_times_stay_within_bounds(
        packets in prop::collection::vec((any::<u16>(), any::<u64>(), -3_000_i32..3_000, 0..3), 1..300),
    ) {
        let mut recorder = FeedbackRecorder::default();
        let mut sequence = 0_u16;
        for (anywhere, nanos, step, kind) in packets {
            sequence = if kind == 0 { anywhere } else { sequence.wrapping_add_signed((step / 8) as i16) };
            recorder.note_received(sequence, Timestamp::from_nanos(nanos));
            if kind == 2 {
                let mut count = 0;
                while let Some(report) = recorder.poll(Timestamp::from_nanos(u64::MAX)) {
                    prop_assert!(report.deltas.len() <= FEEDBACK_STATUSES_MAX);
                    prop_assert!(report.deltas.iter().flatten().next().is_some());
                    count += 1;
                }
                prop_assert!(count <= FEEDBACK_WINDOW);
                prop_assert_eq!(recorder.deadline(), None);
            }
        }
    }
}
