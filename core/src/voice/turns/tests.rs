//! Turns in virtual time: frames of clear voice and silence, and what follows.

use proptest::prelude::*;

use super::*;
use crate::voice::message::Ending;

/// A call: frames go in, events come out with their times in milliseconds.
struct Call {
    detector: TurnDetector,
    at: u64,
    events: Vec<VoiceEvent>,
}

/// A clear voice, at 150 Hz.
const VOICE: Features = Features {
    speech: 31_000,
    level: -25 * 256,
    floor: -60 * 256,
    pitch: 4_688,
    echo: 0,
    concealed: false,
};
/// A quiet room.
const ROOM: Features = Features {
    speech: 600,
    level: -60 * 256,
    ..Features::SILENCE
};
/// A voice without melody, as a whisper has it.
const WHISPER: Features = Features { pitch: 0, ..VOICE };

const SPEAKS: AgentVoice = AgentVoice::Speaking {
    remaining: None,
    interruptible: true,
};

impl Call {
    fn new() -> Self {
        Self::with(TurnConfig::default())
    }

    fn with(config: TurnConfig) -> Self {
        Self {
            detector: TurnDetector::new(config),
            at: 0,
            events: Vec::new(),
        }
    }

    fn hear(&mut self, features: Features, millis: u64) -> &mut Self {
        for _ in 0..millis / 10 {
            self.detector.handle_frame(CallTime(self.at), &features);
            self.at += FRAME;
            self.drain();
        }
        self
    }

    /// Voice whose pitch falls by four semitones at its end.
    fn statement(&mut self, millis: u64) -> &mut Self {
        self.hear(VOICE, millis - 200);
        for step in 0..20 {
            let pitch = VOICE.pitch - 20 * step;
            self.hear(Features { pitch, ..VOICE }, 10);
        }
        self
    }

    fn agent(&mut self, agent: AgentVoice) -> &mut Self {
        self.detector.handle_playout(CallTime(self.at), agent);
        self.drain();
        self
    }

    fn hint(&mut self, turn: u32, words: u16, ending: Ending) -> &mut Self {
        self.detector.handle_hint(Hint {
            turn: TurnId(turn),
            words,
            backchannel: false,
            ending,
            complete: None,
        });
        self.drain();
        self
    }

    fn drain(&mut self) {
        self.events
            .extend(std::iter::from_fn(|| self.detector.poll_event()));
    }

    /// The events so far: a name and a time in milliseconds each.
    fn told(&mut self) -> Vec<(&'static str, u64)> {
        self.events.drain(..).map(told).collect()
    }
}

fn told(event: VoiceEvent) -> (&'static str, u64) {
    let (name, at) = match event {
        VoiceEvent::SpeechStarted { at, .. } => ("started", at),
        VoiceEvent::SpeechEnded { at, .. } => ("paused", at),
        VoiceEvent::EagerEnd(end) => ("eager", end.at),
        VoiceEvent::Resumed { at, .. } => ("resumed", at),
        VoiceEvent::Ended(end) => ("ended", end.at),
        VoiceEvent::BargeCandidate { at, .. } => ("candidate", at),
        VoiceEvent::BargeIn { at, .. } => ("interrupted", at),
        VoiceEvent::Backchannel { at, .. } => ("backchannel", at),
        VoiceEvent::FalseInterruption { at } => ("false", at),
        VoiceEvent::Idle { at } => ("idle", at),
    };
    (name, at.0 / 1_000)
}

#[test]
fn a_click_begins_no_turn() {
    let mut call = Call::new();
    call.hear(ROOM, 500).hear(VOICE, 50).hear(ROOM, 500);
    assert_eq!(call.told(), []);
}

#[test]
fn a_statement_ends_soon_after_its_fall() {
    let mut call = Call::new();
    call.hear(ROOM, 500).statement(1_000).hear(ROOM, 1_000);
    let told = call.told();
    let names: Vec<_> = told.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["started", "paused", "eager", "ended"]);
    assert_eq!(told[0].1, 560);
    assert_eq!(told[1].1, 1_580);
    let delay = told[3].1 - 1_500;
    assert!((300..450).contains(&delay), "{delay} ms");
}

#[test]
fn a_level_voice_is_waited_for_and_goes_on_with_the_same_turn() {
    let mut call = Call::new();
    call.hear(ROOM, 500).hear(VOICE, 1_000).hear(ROOM, 700);
    call.hear(VOICE, 500);
    let started = |event: &VoiceEvent| match event {
        VoiceEvent::SpeechStarted { turn, start, .. } => Some((turn.0, start.0 / 1_000)),
        _ => None,
    };
    let starts: Vec<_> = call.events.iter().filter_map(started).collect();
    assert_eq!(starts, [(1, 500), (1, 2_200)]);
    assert!(!call.told().iter().any(|(name, _)| *name == "ended"));
}

#[test]
fn without_melody_and_words_a_turn_ends_after_800_ms() {
    let mut call = Call::new();
    call.hear(ROOM, 500).hear(WHISPER, 1_000).hear(ROOM, 1_000);
    assert_eq!(
        call.told(),
        [("started", 560), ("paused", 1_580), ("ended", 2_300)]
    );
}

#[test]
fn every_eagerness_has_its_cap() {
    for (eagerness, cap) in [
        (Eagerness::Eager, 1_200),
        (Eagerness::Balanced, 2_500),
        (Eagerness::Patient, 4_000),
    ] {
        let mut call = Call::new();
        call.detector.set_eagerness(eagerness);
        call.hear(ROOM, 500).hear(WHISPER, 1_000);
        call.hint(1, 3, Ending::Filler).hear(ROOM, 5_000);
        let (name, at) = call.told().pop().expect("an end");
        assert_eq!(name, "ended");
        assert!(at <= 1_500 + cap, "{eagerness:?}: {at} ms");
        assert!(at > 1_500 + cap / 3, "{eagerness:?}: {at} ms");
    }
}

#[test]
fn a_full_stop_ends_and_a_filler_holds() {
    let end = |ending| {
        let mut call = Call::new();
        call.hear(ROOM, 500).hear(WHISPER, 1_000);
        call.hint(1, 3, ending).hear(ROOM, 3_000);
        call.told().pop().expect("an end").1 - 1_500
    };
    assert_eq!(end(Ending::Period), 300);
    assert!(end(Ending::Filler) > 1_500);
}

#[test]
fn a_models_judgement_ends_or_holds_the_pause_it_is_of() {
    let end = |turn, probability| {
        let mut call = Call::new();
        call.hear(ROOM, 500).hear(WHISPER, 1_000).hear(ROOM, 150);
        call.detector.handle_judgement(TurnId(turn), probability);
        call.hear(ROOM, 3_000);
        call.told().pop().expect("an end").1 - 1_500
    };
    let alone = end(7, CERTAIN);
    assert_eq!(end(7, 0), alone, "of another turn");
    assert!(end(1, CERTAIN) < alone && alone < end(1, 0));

    let mut call = Call::new();
    call.hear(ROOM, 500).hear(WHISPER, 500);
    call.detector.handle_judgement(TurnId(1), CERTAIN);
    call.hear(WHISPER, 500).hear(ROOM, 3_000);
    let ended = call.told().pop().expect("an end").1;
    assert_eq!(ended - 1_500, alone, "nobody had paused");
}

#[test]
fn a_likely_end_is_withdrawn_when_the_person_or_the_words_go_on() {
    let mut call = Call::new();
    call.hear(ROOM, 500).statement(1_000).hear(ROOM, 220);
    call.hear(VOICE, 500);
    let names: Vec<_> = call.told().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["started", "paused", "eager", "resumed", "started"]);

    call.statement(1_000)
        .hear(ROOM, 220)
        .hint(1, 5, Ending::Filler);
    call.hear(ROOM, 30);
    let names: Vec<_> = call.told().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["paused", "eager", "resumed"]);
}

#[test]
fn hints_of_other_turns_are_ignored() {
    let mut call = Call::new();
    call.hear(ROOM, 500).hear(WHISPER, 1_000);
    call.hint(2, 3, Ending::Period)
        .hint(0, 3, Ending::Period)
        .hear(ROOM, 1_000);
    assert_eq!(call.told().last(), Some(&("ended", 2_300)));
}

#[test]
fn a_long_turn_ends_at_its_next_pause_or_in_the_middle() {
    let mut call = Call::new();
    call.hear(VOICE, 31_000).hear(ROOM, 200).hear(VOICE, 200);
    let told = call.told();
    assert_eq!(&told[1..3], [("paused", 31_080), ("ended", 31_080)]);
    assert_eq!(told[3].0, "started");

    let mut call = Call::new();
    call.hear(VOICE, 61_000);
    let told = call.told();
    assert_eq!(told[1], ("ended", 60_000));
    assert_eq!(told[2], ("started", 60_060));
}

#[test]
fn loss_is_no_pause_unless_it_lasts() {
    let lost = Features {
        concealed: true,
        ..Features::SILENCE
    };
    let mut call = Call::new();
    call.hear(ROOM, 500)
        .hear(WHISPER, 1_000)
        .hear(ROOM, 100)
        .hear(lost, 400)
        .hear(ROOM, 1_000);
    assert_eq!(call.told().last(), Some(&("ended", 2_700)));

    let mut call = Call::new();
    call.hear(ROOM, 500)
        .hear(WHISPER, 1_000)
        .hear(ROOM, 100)
        .hear(lost, 3_000);
    assert_eq!(call.told().last(), Some(&("ended", 2_800)));
}

#[test]
fn a_clear_voice_ducks_the_agent_and_stops_it() {
    let mut call = Call::new();
    call.hear(ROOM, 500).agent(SPEAKS).hear(ROOM, 1_000);
    call.hear(VOICE, 400).agent(AgentVoice::Silent);
    let told = call.told();
    let names: Vec<_> = told.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["candidate", "started", "interrupted"]);
    assert!(told[0].1 - 1_500 <= 60, "{told:?}");
    assert!((120..=180).contains(&(told[2].1 - 1_500)), "{told:?}");
}

#[test]
fn an_echo_and_a_faint_voice_do_not_interrupt() {
    let echo = Features {
        echo: 28_000,
        ..VOICE
    };
    let mut call = Call::new();
    call.agent(SPEAKS).hear(ROOM, 1_000).hear(echo, 3_000);
    assert_eq!(call.told(), []);

    let faint = Features {
        level: -55 * 256,
        ..VOICE
    };
    let mut call = Call::new();
    call.hear(VOICE, 2_000).hear(ROOM, 3_000);
    call.told();
    call.agent(SPEAKS).hear(ROOM, 1_000).hear(faint, 3_000);
    assert_eq!(call.told(), []);
}

#[test]
fn what_stops_soon_was_a_backchannel() {
    let mut call = Call::new();
    call.agent(SPEAKS)
        .hear(ROOM, 1_000)
        .hear(VOICE, 100)
        .hear(ROOM, 500);
    let names: Vec<_> = call.told().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["candidate", "backchannel"]);
}

#[test]
fn words_decide_at_once() {
    let mut call = Call::new();
    call.agent(SPEAKS)
        .hear(ROOM, 1_000)
        .hear(VOICE, 70)
        .hint(1, 2, Ending::Unknown);
    let names: Vec<_> = call.told().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["candidate", "started", "interrupted"]);
}

#[test]
fn what_may_not_be_interrupted_is_not() {
    let mut call = Call::new();
    let speaks = AgentVoice::Speaking {
        remaining: None,
        interruptible: false,
    };
    call.agent(speaks).hear(VOICE, 2_000);
    assert_eq!(call.told(), []);
    call.agent(AgentVoice::Silent).hear(VOICE, 100);
    assert_eq!(call.told(), [("started", 2_010)]);
}

#[test]
fn an_agent_that_falls_silent_leaves_the_turn_to_the_person() {
    let mut call = Call::new();
    call.agent(SPEAKS).hear(ROOM, 1_000).hear(VOICE, 100);
    call.agent(AgentVoice::Silent).hear(VOICE, 500);
    let names: Vec<_> = call.told().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["candidate", "started"]);
}

#[test]
fn an_interruption_without_words_was_false() {
    let mut call = Call::new();
    call.agent(SPEAKS).hear(ROOM, 1_000).hear(VOICE, 220);
    call.agent(AgentVoice::Silent).hear(ROOM, 3_000);
    assert_eq!(call.told().last().map(|told| told.0), Some("false"));

    let mut call = Call::new();
    call.agent(SPEAKS).hear(ROOM, 1_000).hear(VOICE, 900);
    call.agent(AgentVoice::Silent).hear(ROOM, 3_000);
    assert!(call.told().iter().all(|told| told.0 != "false"));
}

#[test]
fn silence_of_both_is_told_once() {
    let mut call = Call::new();
    call.hear(ROOM, 40_000);
    assert_eq!(call.told(), [("idle", 15_000)]);
    call.hear(WHISPER, 500).hear(ROOM, 20_000);
    assert_eq!(call.told().last(), Some(&("idle", 56_290)));
}

#[test]
fn preset_numbers_hang_together() {
    let config = TurnConfig::default();
    let all = [config.eager, config.balanced, config.patient];
    assert!(all.windows(2).all(|two| two[0].sure < two[1].sure));
    assert!(
        all.windows(2)
            .all(|two| two[0].delay_min_ms < two[1].delay_min_ms)
    );
    assert!(all.iter().all(|one| one.delay_min_ms < one.delay_max_ms));
    assert!(all.iter().all(|one| one.sure > config.eager_sure));
    assert!(config.withdraw < config.eager_sure && config.speech_off < config.speech_on);
}

/// The features of 30 s of a dialogue that espeak-ng spoke (`turn_bench --trace`).
fn trace() -> Vec<Features> {
    let line = |line: &str| {
        let mut numbers = line.split(' ').map(str::parse::<i32>);
        let mut next = || {
            numbers
                .next()
                .expect("four numbers a line")
                .expect("a number")
        };
        Features {
            speech: next() as u16,
            level: next() as i16,
            floor: next() as i16,
            pitch: next() as u16,
            ..Features::SILENCE
        }
    };
    include_str!("trace.txt").lines().map(line).collect()
}

/// What is decided on it while the agent says nothing.
const UNDISTURBED: &str = "\
    started 1570, paused 2770, eager 3240, resumed 3430, started 3430, paused 4820, eager 4910, ended \
    5050, started 10260, paused 11220, started 11380, paused 11710, started 11810, paused 12270, started \
    12740, paused 13690, started 14080, paused 14620, eager 14700, ended 14840, started 20180, paused \
    20780, started 20900, paused 22170, eager 22250, ended 22390, started 27730, paused 29320, eager \
    29910";

/// And if the agent speaks from 10 to 12 s.
const INTERRUPTED: &str = "\
    started 1570, paused 2770, eager 3240, resumed 3430, started 3430, paused 4820, eager 4910, ended \
    5050, candidate 10350, started 10640, interrupted 10640, paused 11220, eager 11870, resumed 12010, \
    started 12010, paused 12270, started 12740, paused 13690, eager 14030, resumed 14080, started 14080, \
    paused 14620, eager 14710, ended 14840, started 20180, paused 20780, started 20900, paused 22170, \
    eager 22250, ended 22390, started 27730, paused 29320, eager 29930";

/// A change of any constant shows here: say why in its commit, with the tables of `docs/turns.md` before and after.
#[test]
fn a_recorded_dialogue_is_decided_as_ever() {
    let decided = |speaks: std::ops::Range<usize>| {
        let mut call = Call::new();
        for (number, frame) in trace().into_iter().enumerate() {
            let agent = if speaks.contains(&number) {
                SPEAKS
            } else {
                AgentVoice::Silent
            };
            call.agent(agent).hear(frame, 10);
        }
        let told = call
            .told()
            .into_iter()
            .map(|(name, at)| format!("{name} {at}"));
        told.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(decided(0..0), UNDISTURBED);
    assert_eq!(decided(1_000..1_200), INTERRUPTED);
}

/// One input of a hostile caller.
#[derive(Clone, Debug)]
enum Input {
    Frame(u64, Features),
    Hint(Hint),
    Judgement(TurnId, u16),
    Playout(u64, AgentVoice),
    Eagerness(Eagerness),
}

fn frames() -> impl Strategy<Value = Features> {
    let wild = (
        any::<u16>(),
        any::<i16>(),
        any::<i16>(),
        any::<u16>(),
        any::<u16>(),
        any::<bool>(),
    );
    let wild = wild.prop_map(|(speech, level, floor, pitch, echo, concealed)| Features {
        speech,
        level,
        floor,
        pitch,
        echo,
        concealed,
    });
    prop_oneof![wild, Just(VOICE), Just(ROOM), Just(WHISPER)]
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let leap = prop_oneof![20 => Just(FRAME), 2 => 0..3_000_000_u64, 1 => any::<u64>()];
    let run = (leap, frames(), 1..40_usize)
        .prop_map(|(leap, frame, count)| vec![Input::Frame(leap, frame); count]);
    let ending = prop_oneof![
        Just(Ending::Unknown),
        Just(Ending::Period),
        Just(Ending::Filler)
    ];
    let hint = (
        0..4_u32,
        any::<u16>(),
        any::<bool>(),
        ending,
        any::<Option<u16>>(),
    );
    let hint = hint.prop_map(|(turn, words, backchannel, ending, complete)| {
        vec![Input::Hint(Hint {
            turn: TurnId(turn),
            words,
            backchannel,
            ending,
            complete,
        })]
    });
    let agent = (any::<Option<u64>>(), any::<bool>()).prop_map(|(remaining, interruptible)| {
        AgentVoice::Speaking {
            remaining,
            interruptible,
        }
    });
    let agent = prop_oneof![Just(AgentVoice::Silent), Just(SPEAKS), agent];
    let playout =
        (0..50_000_u64, agent).prop_map(|(leap, agent)| vec![Input::Playout(leap, agent)]);
    let eagerness = prop_oneof![Just(Eagerness::Eager), Just(Eagerness::Patient)];
    let eagerness = eagerness.prop_map(|eagerness| vec![Input::Eagerness(eagerness)]);
    let judgement = (0..4_u32, any::<u16>())
        .prop_map(|(turn, probability)| vec![Input::Judgement(TurnId(turn), probability)]);
    let step = prop_oneof![8 => run, 2 => hint, 1 => judgement, 2 => playout, 1 => eagerness];
    proptest::collection::vec(step, 0..60).prop_map(|steps| steps.concat())
}

/// The events, and how many there were each time the agent fell silent.
fn play(inputs: &[Input]) -> (Vec<VoiceEvent>, Vec<usize>) {
    let mut call = Call::new();
    let mut silences = Vec::new();
    for input in inputs {
        match input {
            Input::Frame(leap, frame) => {
                // A clock that goes back is one of the inputs: the sum wraps.
                call.at = call.at.wrapping_add(*leap);
                call.detector.handle_frame(CallTime(call.at), frame);
            }
            Input::Hint(hint) => call.detector.handle_hint(*hint),
            Input::Judgement(turn, probability) => {
                call.detector.handle_judgement(*turn, *probability);
            }
            Input::Playout(leap, agent) => {
                let at = CallTime(call.at.wrapping_add(*leap));
                call.detector.handle_playout(at, *agent);
            }
            Input::Eagerness(eagerness) => call.detector.set_eagerness(*eagerness),
        }
        assert!(call.detector.events.len() < VOICE_EVENTS_MAX);
        call.drain();
        if matches!(input, Input::Playout(_, AgentVoice::Silent)) {
            silences.push(call.events.len());
        }
    }
    (call.events, silences)
}

/// What the documentation of [`TurnDetector`] says of events, as a machine of its own.
fn check(events: &[VoiceEvent], silences: &[usize]) {
    let mut last = 0;
    let mut turn = None;
    let mut done = 0;
    let mut eager = false;
    let mut candidate = false;
    for (number, event) in events.iter().enumerate() {
        candidate &= !silences.contains(&number);
        let at = match event {
            VoiceEvent::EagerEnd(end) | VoiceEvent::Ended(end) => end.at,
            VoiceEvent::SpeechStarted { at, .. }
            | VoiceEvent::SpeechEnded { at, .. }
            | VoiceEvent::Resumed { at, .. }
            | VoiceEvent::BargeCandidate { at, .. }
            | VoiceEvent::BargeIn { at, .. }
            | VoiceEvent::Backchannel { at, .. }
            | VoiceEvent::FalseInterruption { at }
            | VoiceEvent::Idle { at } => *at,
        };
        assert!(at.0 >= last, "{event:?} after {last}");
        last = at.0;
        match event {
            VoiceEvent::SpeechStarted {
                turn: id,
                start,
                at,
            } => {
                assert!(id.0 > done && turn.is_none_or(|turn| turn == *id) && start <= at);
                assert!(!eager, "Resumed comes first");
                turn = Some(*id);
            }
            VoiceEvent::SpeechEnded { turn: id, .. } => assert_eq!(turn, Some(*id)),
            VoiceEvent::EagerEnd(end) => {
                assert_eq!(turn, Some(end.turn));
                assert!(!eager && end.start <= end.end && end.end <= end.at);
                eager = true;
            }
            VoiceEvent::Resumed { turn: id, .. } => {
                assert!(eager && turn == Some(*id));
                eager = false;
            }
            VoiceEvent::Ended(end) => {
                assert_eq!(turn, Some(end.turn));
                assert!(end.start <= end.end && end.end <= end.at);
                (turn, done, eager) = (None, end.turn.0, false);
            }
            VoiceEvent::BargeCandidate { .. } => {
                assert!(!candidate);
                candidate = true;
            }
            VoiceEvent::BargeIn { turn: id, .. } => {
                assert_eq!(turn, Some(*id));
                candidate = false;
            }
            VoiceEvent::Backchannel { .. } => {
                assert!(candidate);
                candidate = false;
            }
            VoiceEvent::FalseInterruption { .. } | VoiceEvent::Idle { .. } => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_input_panics_and_events_hang_together(inputs in inputs()) {
        let (events, silences) = play(&inputs);
        check(&events, &silences);
        prop_assert_eq!(events, play(&inputs).0);
    }
}
