//! When a person's turn begins and ends, and when it interrupts the agent.

use std::collections::VecDeque;

use crate::limits::VOICE_EVENTS_MAX;
use crate::voice::config::{Patience, TurnConfig};
use crate::voice::evidence::{Contour, Evidence, Melody};
use crate::voice::features::{CERTAIN, Features};
use crate::voice::interruption::{Interruption, Verdict};
use crate::voice::message::{CallTime, Eagerness, EndReason, Hint, TurnEnd, TurnId, VoiceEvent};
use crate::voice::nearness::Nearness;

/// Microseconds of one frame.
pub(super) const FRAME: u64 = 10_000;

/// Microseconds of so many milliseconds.
pub(super) const fn micros(millis: u32) -> u64 {
    millis as u64 * 1_000
}

/// What the agent does, for the detector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AgentVoice {
    /// It says nothing.
    #[default]
    Silent,
    /// It speaks.
    Speaking {
        /// Microseconds until it is done; `None`: more is to come.
        remaining: Option<u64>,
        /// The person may interrupt it.
        interruptible: bool,
    },
}

/// Decides when a person's turns begin and end, and whether a voice interrupts the agent.
///
/// `handle_*` take what happens, in the order in which it does; after each, [`poll_event`](Self::poll_event) is called
/// until it is empty. Every decision is made in [`handle_frame`](Self::handle_frame) and bears the time of the frame's
/// end, so one must come each 10 ms: [`Features::SILENCE`] where there is no sound.
///
/// Of the events hold:
/// - `Ended` and `EagerEnd` belong to the turn of the last `SpeechStarted`; a turn has one `Ended`, its last event.
/// - `EagerEnd` is followed by `Resumed` or `Ended`, and nothing else of the turn but `SpeechStarted` between them.
/// - `BargeCandidate` (the player ducks the agent by 12 dB over 20 ms) is followed by `BargeIn` (it stops it),
///   `Backchannel` (it takes the duck back), or by none of them if the agent fell silent before that was known.
/// - Times do not decrease, whatever times are given.
///
/// # Realtime safety
/// Nothing allocates after [`TurnDetector::new`]; about 2 KiB. No sequence of inputs panics.
#[derive(Debug)]
pub struct TurnDetector {
    config: TurnConfig,
    patience: Patience,
    /// End of the last frame, or a later time that was given.
    now: u64,
    /// End of the last frame.
    heard: u64,
    voice: Voice,
    contour: Contour,
    nearness: Nearness,
    phase: Phase,
    turn: Turn,
    /// Pauses within turns as a rule, in microseconds.
    habit: Option<u64>,
    /// A recogniser tells of words in this call.
    recognised: bool,
    agent: AgentVoice,
    /// When the agent began to speak, or fell silent.
    agent_since: u64,
    interruption: Interruption,
    /// The agent was interrupted and did not stop yet.
    interrupted: bool,
    /// An interruption that may prove false.
    doubt: Option<Doubt>,
    /// When somebody spoke last; `None`: it was told that nobody does.
    active: Option<u64>,
    events: VecDeque<VoiceEvent>,
}

/// Where a person's turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Speaking,
    Paused(Pause),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    /// End of the last frame with voice in it.
    since: u64,
    /// Of the time since then, what was not heard: it counts as neither.
    excused: u64,
    /// It was told that the turn is likely over.
    eager: bool,
    melody: Option<Melody>,
}

/// The turn under way, or the last one.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    id: u32,
    start: u64,
    /// Its end, once it has one.
    end: u64,
    /// Microseconds of voice.
    voice: u64,
    /// What was said of its words, and how much voice came since.
    hint: Option<(Hint, u64)>,
    /// Probability that it is complete, of [`CERTAIN`], as a model found in its last pause.
    complete: Option<u16>,
}

/// An interruption of which no word was heard yet.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    turn: u32,
    /// Microseconds of voice since it began.
    voice: u64,
}

/// Whether there is voice, frame by frame.
#[derive(Clone, Copy, Debug, Default)]
struct Voice {
    /// Between the thresholds it stays what it was.
    on: bool,
    /// One bit for each of the last frames, the youngest lowest: voice was certain.
    recent: u8,
    /// When the first frame with voice since the last pause began.
    start: u64,
    /// End of the last frame with voice.
    end: u64,
}

impl Voice {
    fn note(&mut self, start: u64, end: u64, speech: u16, config: &TurnConfig) {
        let certain = speech >= config.speech_on;
        self.recent = self.recent << 1 | u8::from(certain);
        if certain && !self.on && start.saturating_sub(self.end) >= micros(config.pause_ms) {
            self.start = start;
        }
        self.on = certain || self.on && speech > config.speech_off;
        if self.on {
            self.end = end;
        }
    }

    /// Frames in which voice was certain, of so many.
    const fn certain(self, of: u32) -> u32 {
        (self.recent & (0xff >> (8 - of))).count_ones()
    }
}

impl TurnDetector {
    /// One for a call that begins now, at time zero.
    #[must_use]
    pub fn new(config: TurnConfig) -> Self {
        Self {
            config,
            patience: config.patience(config.eagerness),
            now: 0,
            heard: 0,
            voice: Voice::default(),
            contour: Contour::new(),
            nearness: Nearness::default(),
            phase: Phase::Idle,
            turn: Turn::default(),
            habit: None,
            recognised: false,
            agent: AgentVoice::Silent,
            agent_since: 0,
            interruption: Interruption::default(),
            interrupted: false,
            doubt: None,
            active: Some(0),
            events: VecDeque::with_capacity(VOICE_EVENTS_MAX),
        }
    }

    /// Takes the features of the 10 ms that began at `at`.
    pub fn handle_frame(&mut self, at: CallTime, features: &Features) {
        let start = at.0.max(self.heard);
        let leap = start - self.heard;
        let end = start.saturating_add(FRAME);
        self.heard = end;
        self.now = self.now.max(end);
        // Made-up sound keeps things as they are.
        if !features.concealed {
            let speech = self.speech(features);
            self.voice.note(start, end, speech, &self.config);
            if self.voice.on && speech >= self.config.speech_on {
                self.nearness.learn(features);
            }
        }
        if self.voice.on {
            self.active = Some(end);
            if let Some(doubt) = &mut self.doubt {
                doubt.voice = doubt.voice.saturating_add(FRAME);
            }
        }
        match self.phase {
            Phase::Idle => self.on_idle(),
            Phase::Speaking => self.on_speaking(features),
            Phase::Paused(pause) => {
                let missed = leap + if features.concealed { FRAME } else { 0 };
                let excused = pause.excused.saturating_add(missed);
                let excused = excused.min(micros(self.config.excused_max_ms));
                self.on_paused(Pause { excused, ..pause }, features);
            }
        }
        self.on_agent_speaking(features);
        self.on_silence();
    }

    /// Takes what a recogniser knows. It is weighed with the next frame.
    pub fn handle_hint(&mut self, hint: Hint) {
        self.recognised = true;
        let words = hint.words > 0 && !hint.backchannel;
        if words && self.doubt.is_some_and(|doubt| doubt.turn == hint.turn.0) {
            self.doubt = None;
        }
        // A voice over the agent's is of the turn that would begin with it.
        if let Some(start) = self.interruption.candidate()
            && hint.turn.0 == self.next_turn()
        {
            if hint.backchannel {
                self.dismiss(start);
            } else if hint.words >= 2 {
                self.interruption.clear();
                self.interrupt(start);
            }
        }
        if self.phase != Phase::Idle && hint.turn.0 == self.turn.id {
            self.turn.hint = Some((hint, 0));
        }
    }

    /// Takes the probability that a turn is complete, of [`CERTAIN`], that a model found. It counts until the person
    /// speaks again.
    pub fn handle_judgement(&mut self, turn: TurnId, probability: u16) {
        if matches!(self.phase, Phase::Paused(_)) && turn.0 == self.turn.id {
            self.turn.complete = Some(probability);
        }
    }

    /// Takes what the agent does from `at` on: whenever that changes, or with each frame of its own.
    pub fn handle_playout(&mut self, at: CallTime, agent: AgentVoice) {
        self.now = self.now.max(at.0);
        let spoke = self.agent != AgentVoice::Silent;
        let speaks = agent != AgentVoice::Silent;
        self.agent = agent;
        if spoke != speaks {
            self.agent_since = self.now;
            self.interrupted = false;
        }
        if speaks {
            self.active = Some(self.now);
            if !spoke {
                self.doubt = None;
            }
        }
        let Some(start) = self.interruption.candidate() else {
            return;
        };
        match agent {
            // Nobody is interrupted any more: what began over the agent is a turn like others.
            AgentVoice::Silent => {
                self.interruption.clear();
                self.begin_or_resume(start);
            }
            AgentVoice::Speaking { interruptible, .. } if !interruptible => self.dismiss(start),
            AgentVoice::Speaking { .. } => {}
        }
    }

    /// Changes when turns end, from now on.
    pub fn set_eagerness(&mut self, eagerness: Eagerness) {
        self.patience = self.config.patience(eagerness);
    }

    /// What was decided, oldest first.
    pub fn poll_event(&mut self) -> Option<VoiceEvent> {
        self.events.pop_front()
    }

    /// Probability of speech by the person: none of somebody further off, less what is likely the agent's echo.
    fn speech(&mut self, features: &Features) -> u16 {
        if !self.nearness.near(features) {
            return 0;
        }
        let speech = features.speech.min(CERTAIN);
        let tail = micros(self.config.echo_tail_ms);
        if self.agent == AgentVoice::Silent && self.now.saturating_sub(self.agent_since) > tail {
            return speech;
        }
        let own = u32::from(CERTAIN - features.echo.min(CERTAIN));
        (u32::from(speech) * own / u32::from(CERTAIN)) as u16
    }

    /// Whether a voice must first prove that it interrupts, or cannot.
    fn guarded(&self) -> bool {
        self.agent != AgentVoice::Silent
    }

    fn on_idle(&mut self) {
        if !self.guarded() && self.voice.certain(8) >= self.config.onset_frames {
            self.begin_or_resume(self.voice.start);
        }
    }

    fn on_speaking(&mut self, features: &Features) {
        if self.voice.on {
            self.contour.note(features);
            self.turn.voice = self.turn.voice.saturating_add(FRAME);
            if let Some((_, since)) = &mut self.turn.hint {
                *since = since.saturating_add(FRAME);
            }
        }
        let quiet = self.heard.saturating_sub(self.voice.end);
        if !self.voice.on && quiet >= micros(self.config.pause_ms) {
            self.emit(VoiceEvent::SpeechEnded {
                at: CallTime(self.now),
                turn: TurnId(self.turn.id),
                end: CallTime(self.voice.end),
            });
            let pause = Pause {
                since: self.voice.end,
                excused: 0,
                eager: false,
                melody: self.contour.melody(),
            };
            self.on_paused(pause, features);
        } else if self.length() >= 2 * micros(self.config.turn_max_ms) {
            self.end(self.voice.end, CERTAIN, EndReason::TooLong);
        }
    }

    fn on_paused(&mut self, mut pause: Pause, features: &Features) {
        self.phase = Phase::Paused(pause);
        let resumed = self.voice.certain(5) >= self.config.resume_frames;
        if resumed && !features.concealed && !self.guarded() {
            self.begin_or_resume(self.voice.start);
            return;
        }
        let silence = self
            .heard
            .saturating_sub(pause.since)
            .saturating_sub(pause.excused);
        let evidence = self.evidence(silence, &pause);
        let probability = evidence.probability();
        let end = |reason| (pause.since, probability, reason);
        let ended = if self.length() >= micros(self.config.turn_max_ms) {
            Some(end(EndReason::TooLong))
        } else if silence >= micros(self.patience.delay_max_ms)
            || !evidence.sighted() && silence >= micros(self.patience.delay_blind_ms)
        {
            Some(end(EndReason::Silence))
        } else if evidence.sighted()
            && silence >= micros(self.patience.delay_min_ms)
            && probability >= self.patience.sure
            && !self.voice.on
        {
            Some(end(EndReason::Evidence))
        } else {
            None
        };
        if let Some((end, probability, reason)) = ended {
            self.end(end, probability, reason);
        } else if pause.eager && probability < self.config.withdraw {
            pause.eager = false;
            self.phase = Phase::Paused(pause);
            self.emit(VoiceEvent::Resumed {
                at: CallTime(self.now),
                turn: TurnId(self.turn.id),
            });
        } else if !pause.eager
            && evidence.sighted()
            && probability >= self.config.eager_sure
            && silence >= micros(self.config.eager_delay_ms)
        {
            pause.eager = true;
            self.phase = Phase::Paused(pause);
            let end = self.turn_end(pause.since, probability, EndReason::Evidence);
            self.emit(VoiceEvent::EagerEnd(end));
        }
    }

    fn on_agent_speaking(&mut self, features: &Features) {
        let AgentVoice::Speaking {
            remaining,
            interruptible: true,
        } = self.agent
        else {
            return;
        };
        if self.interrupted {
            return;
        }
        let opening = self.now.saturating_sub(self.agent_since) < micros(self.config.opening_ms);
        let closing = remaining.is_some_and(|left| left < micros(self.config.closing_ms));
        let quiet = self.heard.saturating_sub(self.voice.end);
        let raised = opening || closing;
        let near = self.nearness.gain(features);
        let verdict =
            self.interruption
                .note(self.heard, features, near, quiet, raised, &self.config);
        let at = CallTime(self.now);
        match verdict {
            Verdict::Open => {}
            Verdict::Candidate { start } => {
                let start = CallTime(start);
                self.emit(VoiceEvent::BargeCandidate { at, start });
            }
            Verdict::Confirmed { start } => self.interrupt(start),
            Verdict::Dismissed { start } => self.dismiss(start),
        }
    }

    /// What follows from nobody speaking.
    fn on_silence(&mut self) {
        let quiet = self.heard.saturating_sub(self.voice.end);
        if let Some(doubt) = self.doubt
            && quiet >= micros(self.config.false_interruption_ms)
        {
            self.doubt = None;
            if self.recognised || doubt.voice < micros(self.config.word_ms) {
                let at = CallTime(self.now);
                self.emit(VoiceEvent::FalseInterruption { at });
            }
        }
        if self.guarded() || self.phase != Phase::Idle {
            self.active = Some(self.now);
        } else if let Some(active) = self.active
            && self.now.saturating_sub(active) >= micros(self.config.idle_ms)
        {
            self.active = None;
            let at = CallTime(self.now);
            self.emit(VoiceEvent::Idle { at });
        }
    }

    /// The person speaks, from `start` on.
    fn begin_or_resume(&mut self, mut start: u64) {
        let turn = TurnId(self.next_turn());
        let at = CallTime(self.now);
        match self.phase {
            Phase::Idle => {
                // A turn that was cut off for its length left its voice behind.
                start = start.max(self.turn.end);
                self.turn = Turn {
                    id: turn.0,
                    start,
                    end: start,
                    voice: self.heard.saturating_sub(start),
                    hint: None,
                    complete: None,
                };
            }
            Phase::Speaking => return,
            Phase::Paused(pause) => {
                if pause.eager {
                    self.emit(VoiceEvent::Resumed { at, turn });
                }
                // What was said of the words before this stretch says nothing of its end.
                (self.turn.hint, self.turn.complete) = (None, None);
                let length = start.saturating_sub(pause.since).min(micros(HABIT_MS));
                let habit = self.habit.unwrap_or(length);
                self.habit = Some((habit * 3 + length) / 4);
            }
        }
        self.phase = Phase::Speaking;
        let start = CallTime(start);
        self.emit(VoiceEvent::SpeechStarted { at, turn, start });
    }

    /// The agent is interrupted by a voice that began at `start`.
    fn interrupt(&mut self, start: u64) {
        self.begin_or_resume(start);
        self.interrupted = true;
        self.doubt = Some(Doubt {
            turn: self.turn.id,
            voice: self.heard.saturating_sub(start),
        });
        self.emit(VoiceEvent::BargeIn {
            at: CallTime(self.now),
            start: CallTime(start),
            turn: TurnId(self.turn.id),
        });
    }

    fn dismiss(&mut self, start: u64) {
        self.interruption.clear();
        self.emit(VoiceEvent::Backchannel {
            at: CallTime(self.now),
            start: CallTime(start),
        });
    }

    fn end(&mut self, end: u64, probability: u16, reason: EndReason) {
        let end = self.turn_end(end, probability, reason);
        self.phase = Phase::Idle;
        self.turn.end = end.end.0;
        self.voice.recent = 0;
        self.emit(VoiceEvent::Ended(end));
    }

    fn turn_end(&self, end: u64, probability: u16, reason: EndReason) -> TurnEnd {
        TurnEnd {
            at: CallTime(self.now),
            turn: TurnId(self.turn.id),
            start: CallTime(self.turn.start),
            end: CallTime(end.max(self.turn.start)),
            probability,
            reason,
        }
    }

    fn evidence(&self, silence: u64, pause: &Pause) -> Evidence {
        let fresh = |(hint, since): (Hint, u64)| (since < HINT_FRESH).then_some(hint);
        Evidence {
            silence,
            voice: self.turn.voice,
            habit: self.habit,
            melody: pause.melody,
            hint: self.turn.hint.and_then(fresh),
            complete: self.turn.complete,
        }
    }

    /// Length of the turn under way, in microseconds.
    fn length(&self) -> u64 {
        self.heard.saturating_sub(self.turn.start)
    }

    /// The turn under way, or the one that would begin now.
    fn next_turn(&self) -> u32 {
        match self.phase {
            Phase::Idle => self.turn.id.saturating_add(1),
            Phase::Speaking | Phase::Paused(_) => self.turn.id,
        }
    }

    fn emit(&mut self, event: VoiceEvent) {
        // Who polls after each input never meets this; who does not loses what is oldest.
        if self.events.len() == VOICE_EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// Voice after which words that were told say nothing of the next pause: recognisers lag by less.
const HINT_FRESH: u64 = 500_000;
/// A pause within a turn counts for so much of the person's habit at most, in milliseconds.
const HABIT_MS: u32 = 3_000;

#[cfg(test)]
mod tests;
