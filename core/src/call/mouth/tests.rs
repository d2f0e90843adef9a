use super::*;

const EPOCH: Timestamp = Timestamp::ZERO;

fn at(millis: u64) -> Timestamp {
    EPOCH + Duration::from_millis(millis)
}

fn sound(utterance: u64, millis: usize, last: bool) -> Sound {
    let rate = Rate::Hz16000;
    Sound {
        utterance: UtteranceId(utterance),
        pcm: 8_192_i16.to_le_bytes().repeat(millis * 16),
        rate,
        last,
        interruptible: true,
    }
}

/// Speaks until it pauses or `until`, waking when it wants to; when each packet was, and its samples.
fn speak(mouth: &mut Mouth, until: u64, heard: &mut VecDeque<Heard>) -> Vec<(u64, bool, Vec<f32>)> {
    let mut packets = Vec::new();
    while let Some(now) = mouth.deadline().filter(|now| *now <= at(until)) {
        if let Some(Said::Sound(spoken)) = mouth.speak(now, heard) {
            let samples = spoken.samples.to_vec();
            packets.push((spoken.due.as_millis(), spoken.begins, samples));
        }
    }
    packets
}

fn states(heard: &VecDeque<Heard>) -> Vec<(u64, u64, PlayoutState)> {
    let state = |heard: &Heard| match heard {
        Heard::Playout {
            utterance,
            played,
            state,
            ..
        } => Some((utterance.0, *played, *state)),
        _ => None,
    };
    heard.iter().filter_map(state).collect()
}

#[test]
fn what_comes_at_once_is_sent_in_real_time_from_that_moment() {
    let (mut mouth, mut heard) = (Mouth::new(EPOCH), VecDeque::new());
    mouth.say(at(7), sound(1, 50, true), &mut heard);
    assert_eq!(mouth.queued, 50_000);
    let packets = speak(&mut mouth, 1_000, &mut heard);
    let times: Vec<_> = packets
        .iter()
        .map(|(at, begins, _)| (*at, *begins))
        .collect();
    assert_eq!(times, [(7, true), (27, false), (47, false)]);
    let energy = |samples: &[f32]| samples.iter().filter(|x| **x == 0.25).count();
    assert_eq!(energy(&packets[0].2), 320);
    assert_eq!(
        (packets[2].2.len(), energy(&packets[2].2)),
        (320, 160),
        "the end is padded"
    );
    assert_eq!(
        states(&heard),
        [
            (1, 0, PlayoutState::Started),
            (1, 50_000, PlayoutState::Finished)
        ]
    );
    assert_eq!(mouth.deadline(), None);
    mouth.say(at(900), sound(2, 20, true), &mut heard);
    let packets = speak(&mut mouth, 1_000, &mut heard);
    assert!(
        packets.len() == 1 && packets[0].0 == 900 && packets[0].1,
        "{packets:?}"
    );
}

#[test]
fn a_late_program_is_told_so_and_short_pieces_are_not_kept_for_ever() {
    let (mut mouth, mut heard) = (Mouth::new(EPOCH), VecDeque::new());
    mouth.say(at(0), sound(1, 25, false), &mut heard);
    assert_eq!(speak(&mut mouth, 90, &mut heard).len(), 1);
    assert_eq!(
        states(&heard),
        [
            (1, 0, PlayoutState::Started),
            (1, 20_000, PlayoutState::Starved)
        ]
    );
    let packets = speak(&mut mouth, 1_000, &mut heard);
    assert_eq!(packets.len(), 1, "5 ms are flushed after a wait");
    assert_eq!(packets[0].0, 120);
    mouth.say(at(300), sound(1, 15, false), &mut heard);
    mouth.say(at(310), sound(1, 15, true), &mut heard);
    let packets = speak(&mut mouth, 1_000, &mut heard);
    assert_eq!(
        packets.iter().map(|it| it.0).collect::<Vec<_>>(),
        [310, 330]
    );
    assert_eq!(
        states(&heard).last(),
        Some(&(1, 55_000, PlayoutState::Finished))
    );
}

/// Else the shard would do nothing else any more.
#[test]
fn an_empty_piece_that_is_not_the_last_is_waited_for_and_over() {
    let (mut mouth, mut heard) = (Mouth::new(EPOCH), VecDeque::new());
    mouth.say(at(0), sound(1, 0, false), &mut heard);
    let due = mouth.deadline().expect("it is flushed");
    assert!(mouth.speak(due, &mut heard).is_none());
    assert_eq!(mouth.deadline(), None);
}

#[test]
fn marks_are_reached_when_what_stood_before_them_was_sent() {
    let (mut mouth, mut heard) = (Mouth::new(EPOCH), VecDeque::new());
    mouth.mark(at(0), MarkId(1), &mut heard);
    mouth.say(at(0), sound(1, 40, false), &mut heard);
    mouth.mark(at(0), MarkId(2), &mut heard);
    mouth.say(at(0), sound(1, 40, true), &mut heard);
    mouth.mark(at(0), MarkId(3), &mut heard);
    speak(&mut mouth, 1_000, &mut heard);
    let marks: Vec<_> = heard
        .iter()
        .filter_map(|heard| match heard {
            Heard::Mark { at, mark, reached } => Some((mark.0, at.0, *reached)),
            _ => None,
        })
        .collect();
    assert_eq!(marks, [(1, 0, true), (2, 20_000, true), (3, 60_000, true)]);
}

#[test]
fn stopping_fades_within_one_packet_tells_the_place_and_drops_what_still_comes() {
    let (mut mouth, mut heard) = (Mouth::new(EPOCH), VecDeque::new());
    mouth.say(at(0), sound(1, 500, false), &mut heard);
    mouth.say(at(0), sound(2, 500, true), &mut heard);
    mouth.mark(at(0), MarkId(9), &mut heard);
    speak(&mut mouth, 95, &mut heard);
    heard.clear();
    mouth.stop(at(99), None, PlayoutState::Interrupted, &mut heard);
    assert_eq!(mouth.voice(), AgentVoice::Silent);
    assert_eq!(
        states(&heard),
        [
            (1, 100_000, PlayoutState::Interrupted),
            (2, 0, PlayoutState::Interrupted)
        ]
    );
    assert!(
        heard
            .iter()
            .any(|it| matches!(it, Heard::Mark { reached: false, .. }))
    );
    let packets = speak(&mut mouth, 1_000, &mut heard);
    assert_eq!(packets.len(), 1, "only the fading end");
    let fade = &packets[0].2;
    assert!(fade[0] == 0.25 && fade[319] < 0.001 && fade.windows(2).all(|w| w[1] <= w[0]));
    mouth.say(at(200), sound(1, 100, true), &mut heard);
    assert_eq!(mouth.deadline(), None, "the utterance was stopped");
    mouth.say(at(200), sound(3, 20, true), &mut heard);
    assert_eq!(speak(&mut mouth, 1_000, &mut heard).len(), 1);
}

#[test]
fn clearing_one_utterance_lets_the_others_go_on() {
    let (mut mouth, mut heard) = (Mouth::new(EPOCH), VecDeque::new());
    mouth.say(at(0), sound(1, 40, true), &mut heard);
    mouth.say(at(0), sound(2, 400, true), &mut heard);
    mouth.say(at(0), sound(3, 40, true), &mut heard);
    mouth.stop(
        at(0),
        Some(UtteranceId(2)),
        PlayoutState::Cleared,
        &mut heard,
    );
    assert_eq!(mouth.queued, 80_000);
    assert_eq!(speak(&mut mouth, 1_000, &mut heard).len(), 4);
    let finished = |it: &&(u64, u64, PlayoutState)| it.2 == PlayoutState::Finished;
    let told = states(&heard);
    assert_eq!(told[0], (2, 0, PlayoutState::Cleared));
    assert_eq!(told.iter().filter(finished).count(), 2);
}

#[test]
fn ducking_takes_twenty_milliseconds_and_back() {
    let (mut mouth, mut heard) = (Mouth::new(EPOCH), VecDeque::new());
    mouth.say(at(0), sound(1, 200, true), &mut heard);
    mouth.duck(true);
    let packets = speak(&mut mouth, 45, &mut heard);
    let (first, last) = (packets[0].2[0], packets[0].2[319]);
    assert!(
        first > 0.24 && (last - 0.25 * DUCKED).abs() < 0.001,
        "{first} {last}"
    );
    mouth.duck(false);
    let packets = speak(&mut mouth, 1_000, &mut heard);
    assert!((packets[0].2[319] - 0.25).abs() < 0.001);
}

#[test]
fn the_queue_is_bounded_in_time_and_pieces() {
    let (mut mouth, mut heard) = (Mouth::new(EPOCH), VecDeque::new());
    mouth.say(at(0), sound(1, 59_990, false), &mut heard);
    mouth.say(at(0), sound(1, 30, false), &mut heard);
    assert_eq!(mouth.queued, 60_000_000);
    assert!(
        matches!(
            heard.pop_back(),
            Some(Heard::Overflow {
                dropped: 20_000,
                ..
            })
        ),
        "what does not fit is told"
    );
    let mut mouth = Mouth::new(EPOCH);
    for _ in 0..=PLAYOUT_ITEMS_MAX {
        mouth.say(at(0), sound(1, 0, false), &mut heard);
    }
    assert_eq!(mouth.queue.len(), PLAYOUT_ITEMS_MAX);
    mouth.mark(at(0), MarkId(1), &mut heard);
    assert!(matches!(
        heard.pop_back(),
        Some(Heard::Mark { reached: false, .. })
    ));
}

#[test]
fn a_thread_that_stalled_does_not_catch_up() {
    let (mut mouth, mut heard) = (Mouth::new(EPOCH), VecDeque::new());
    mouth.say(at(0), sound(1, 1_000, true), &mut heard);
    speak(&mut mouth, 0, &mut heard);
    let spoken = mouth.speak(at(500), &mut heard).expect("it is due");
    assert_eq!(spoken.due(), at(500));
    assert_eq!(mouth.deadline(), Some(at(520)));
}

#[test]
fn keys_wait_for_what_is_said_before_and_no_interruption_stops_them() {
    let (mut mouth, mut heard) = (Mouth::new(EPOCH), VecDeque::new());
    mouth.say(at(0), sound(1, 5, false), &mut heard);
    mouth.dial(at(0), "5x#", &mut heard);
    mouth.mark(at(0), MarkId(3), &mut heard);
    mouth.say(at(0), sound(2, 20, true), &mut heard);
    mouth.dial(at(0), "", &mut heard);
    let mut said = Vec::new();
    while let Some(now) = mouth.deadline().filter(|now| *now <= at(1_000)) {
        let key = |key: Pressed| (key.report(8_000), key.begins);
        said.extend(mouth.speak(now, &mut heard).map(|said| {
            let due = said.due().as_millis();
            match said {
                Said::Sound(_) => (due, None),
                Said::Key(pressed) => (due, Some(key(pressed))),
            }
        }));
        if now == at(40) {
            mouth.stop(now, None, PlayoutState::Interrupted, &mut heard);
            assert_eq!(mouth.voice(), AgentVoice::Silent);
        }
    }
    let mut expected = vec![(0, None)];
    for (began, event) in [(20, 5), (180, 11)] {
        for packet in 0..7_u16 {
            let report = Report {
                event,
                end: packet >= 4,
                duration: 160 * (packet + 1).min(5),
            };
            let due = began + 20 * u64::from(packet);
            expected.push((due, Some((report, packet == 0))));
        }
    }
    assert_eq!(said, expected);
    let marks = heard.iter().filter(|it| matches!(it, Heard::Mark { .. }));
    assert_eq!(marks.count(), 1);
    mouth.dial(at(900), "1", &mut heard);
    assert_eq!(mouth.deadline(), Some(at(900)));
}

fn left_out(heard: Heard) -> Option<u32> {
    match heard {
        Heard::KeysLeftOut { keys, .. } => Some(keys),
        _ => None,
    }
}

/// Speaks until it pauses; the keys that were pressed.
fn press_all(mouth: &mut Mouth, heard: &mut VecDeque<Heard>) -> usize {
    let mut pressed = 0;
    while let Some(now) = mouth.deadline() {
        if let Some(Said::Key(key)) = mouth.speak(now, heard) {
            pressed += usize::from(key.begins);
        }
    }
    pressed
}

#[test]
fn no_more_keys_wait_than_a_number_has_however_often_they_are_asked_for() {
    let (mut mouth, mut heard) = (Mouth::new(EPOCH), VecDeque::new());
    for _ in 0..PLAYOUT_ITEMS_MAX {
        mouth.dial(at(0), &"7".repeat(DIALLED_KEYS_MAX - 1), &mut heard);
    }
    assert_eq!(mouth.queue.len(), 2);
    assert_eq!(mouth.keys, DIALLED_KEYS_MAX);
    // Of each ask it is told how many were left out; of the second all but one.
    let all = DIALLED_KEYS_MAX as u32 - 1;
    let told: Vec<_> = heard.drain(..).filter_map(left_out).collect();
    assert_eq!(told.len(), PLAYOUT_ITEMS_MAX - 1);
    assert_eq!((told[0], told[1]), (all - 1, all));
    // One that is begun waits no longer.
    mouth.speak(at(0), &mut heard).expect("it is due");
    mouth.dial(at(0), "12", &mut heard);
    assert_eq!(mouth.keys, DIALLED_KEYS_MAX);
    assert_eq!(heard.pop_back().and_then(left_out), Some(1));
    assert_eq!(press_all(&mut mouth, &mut heard), DIALLED_KEYS_MAX);
    assert_eq!(mouth.keys, 0);
}

#[test]
fn clearing_everything_drops_keys_that_have_not_begun() {
    let (mut mouth, mut heard) = (Mouth::new(EPOCH), VecDeque::new());
    mouth.dial(at(0), "123", &mut heard);
    mouth.speak(at(0), &mut heard).expect("it is due");
    let state = PlayoutState::Cleared;
    mouth.stop(at(10), Some(UtteranceId(1)), state, &mut heard);
    assert_eq!(mouth.keys, 2, "one utterance is none of theirs");
    mouth.stop(at(10), None, PlayoutState::Interrupted, &mut heard);
    assert_eq!(mouth.keys, 2);
    mouth.stop(at(10), None, state, &mut heard);
    assert_eq!((mouth.keys, mouth.queue.len()), (0, 0));
    let mut last = None;
    while let Some(now) = mouth.deadline() {
        if let Some(Said::Key(key)) = mouth.speak(now, &mut heard) {
            assert!(!key.begins);
            last = Some(key.report(8_000).end);
        }
    }
    assert_eq!(last, Some(true), "the one that is pressed is let go");
    mouth.dial(at(900), &"1".repeat(DIALLED_KEYS_MAX), &mut heard);
    assert_eq!(press_all(&mut mouth, &mut heard), DIALLED_KEYS_MAX);
}

#[test]
fn who_only_presses_keys_is_silent_from_the_first_to_behind_the_last() {
    let (mut mouth, mut heard) = (Mouth::new(EPOCH), VecDeque::new());
    mouth.dial(at(0), "0049", &mut heard);
    mouth.mark(at(0), MarkId(1), &mut heard);
    mouth.dial(at(0), "30 1234#", &mut heard);
    let (mut now, mut packets) = (0, 0);
    while mouth.deadline().is_some() {
        assert_eq!(mouth.voice(), AgentVoice::Silent, "at {now} ms");
        packets += usize::from(mouth.speak(at(now), &mut heard).is_some());
        assert_eq!(mouth.voice(), AgentVoice::Silent, "behind {now} ms");
        now += 10;
    }
    assert_eq!((packets, now), (11 * 7, 11 * 160 + 10));
    // Sound before keys and behind them is a voice, until it ends.
    mouth.say(at(3_000), sound(1, 40, true), &mut heard);
    mouth.dial(at(3_000), "5", &mut heard);
    mouth.say(at(3_000), sound(2, 20, true), &mut heard);
    let mut voiced = Vec::new();
    for millis in (3_000..3_300).step_by(20) {
        mouth.speak(at(millis), &mut heard);
        if mouth.voice() != AgentVoice::Silent {
            voiced.push(millis);
        }
    }
    assert_eq!(voiced, [3_000, 3_020, 3_180, 3_200]);
}

/// A remainder of a high rate may be more than a whole packet of a lower one.
#[test]
fn what_is_said_at_another_rate_begins_another_packet() {
    let (mut mouth, mut heard) = (Mouth::new(EPOCH), VecDeque::new());
    for (utterance, rate, samples) in [(1, Rate::Hz24000, 470), (2, Rate::Hz8000, 320)] {
        let said = Sound {
            rate,
            pcm: 1_i16.to_le_bytes().repeat(samples),
            ..sound(utterance, 0, true)
        };
        mouth.say(at(0), said, &mut heard);
    }
    let packets = speak(&mut mouth, 1_000, &mut heard);
    let lengths: Vec<_> = packets
        .iter()
        .map(|(_, _, samples)| samples.len())
        .collect();
    assert_eq!(lengths, [480, 160, 160]);
}
