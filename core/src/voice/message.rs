//! What crosses between a call and the program that answers it: all that was heard, all that is to be said.

use serde::{Deserialize, Serialize};

use crate::audio::Rate;

/// Microseconds on a call's one clock, which starts when the session is opened.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct CallTime(pub u64);

/// A turn of the person's, numbered from 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TurnId(pub u32);

/// Something the agent says, numbered by the agent.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct UtteranceId(pub u64);

/// A place in what the agent says, numbered by the agent.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct MarkId(pub u64);

/// How soon a pause is taken for the end of a turn.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Eagerness {
    /// Soon: quick exchanges, at the price of cutting people off now and then.
    Eager,
    /// Between the two.
    #[default]
    Balanced,
    /// Late: dictation, people who think aloud.
    Patient,
}

/// How well what an agent says is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpokenQuality {
    /// [`EncoderSettings::STANDARD`](crate::codec::EncoderSettings::STANDARD): mends what is lost.
    #[default]
    Standard,
    /// [`EncoderSettings::ECONOMY`](crate::codec::EncoderSettings::ECONOMY): a third of the processor, more bits.
    Economy,
}

/// What a call with an agent is opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPlan {
    /// When turns end.
    pub eagerness: Eagerness,
    /// Rate of the sound that the agent hears.
    pub rate: Rate,
    /// Milliseconds of sound in one [`Heard::Audio`]: 20 to 100, a multiple of 10.
    pub batch_millis: u8,
    /// Noise is suppressed in what the agent hears. Recognisers do better without.
    pub denoise: bool,
}

impl Default for AgentPlan {
    fn default() -> Self {
        Self {
            eagerness: Eagerness::default(),
            rate: Rate::Hz16000,
            batch_millis: 20,
            denoise: false,
        }
    }
}

/// What an agent asks of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AgentAsk {
    /// Says something: it is queued behind what is being said, and played in real time.
    Say {
        /// Which utterance it belongs to. One that was cleared is dropped.
        utterance: UtteranceId,
        /// Samples, 16 bits, little-endian, one channel. May be empty.
        #[serde(with = "serde_bytes")]
        pcm: Vec<u8>,
        /// Their rate.
        rate: Rate,
        /// Nothing more of this utterance comes.
        last: bool,
        /// The person may interrupt it.
        interruptible: bool,
    },
    /// Tell when what was queued so far has been played: [`Heard::Mark`].
    Mark {
        /// Which one.
        mark: MarkId,
    },
    /// Stops saying an utterance, or all (`None`), and drops what is queued of it. Answered by
    /// [`Heard::Playout`] with the exact place it got to. `None` drops keys
    /// that were not begun as well.
    Clear {
        /// Which.
        utterance: Option<UtteranceId>,
    },
    /// What a recogniser makes of the words so far.
    Hint(Hint),
    /// Changes when turns end, from now on.
    Eagerness(Eagerness),
    /// Presses keys (RFC 4733), behind what is queued to be said: 100 ms each, and 60 ms between them. No interruption
    /// stops them; a [`Self::Clear`] of all drops those that were not begun. Nothing happens if the call has no
    /// telephone events.
    Dtmf {
        /// `0`-`9`, `*`, `#`, `A`-`D`; others are left out, and so are those with which more than
        /// [`DIALLED_KEYS_MAX`](crate::limits::DIALLED_KEYS_MAX) would wait, of which [`Heard::KeysLeftOut`] tells.
        digits: String,
    },
    /// What a model outside of the core makes of the sound.
    Judgement(Judgement),
    /// Changes how what it says is encoded, from now on.
    Quality(SpokenQuality),
}

impl AgentAsk {
    /// Snake-case name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Say { .. } => "say",
            Self::Mark { .. } => "mark",
            Self::Clear { .. } => "clear",
            Self::Hint(_) => "hint",
            Self::Eagerness(_) => "eagerness",
            Self::Dtmf { .. } => "dtmf",
            Self::Judgement(_) => "judgement",
            Self::Quality(_) => "quality",
        }
    }
}

/// What a recogniser knows of the person's words, for the turn detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// Which turn the words belong to; a hint for another turn than the one under way is ignored.
    pub turn: TurnId,
    /// Words so far that are no backchannel ("uh huh", "right").
    pub words: u16,
    /// All words so far are backchannels.
    pub backchannel: bool,
    /// How the words end.
    pub ending: Ending,
    /// Probability that the turn is complete, of 32,767, if a model says so.
    pub complete: Option<u16>,
}

/// What a model makes of the sound that the person made. Models take time, so it comes later than the sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Judgement {
    /// Probability of speech, of 32,767.
    Speech {
        /// In the sound up to here. Of what is older than 150 ms nobody asks any more.
        at: CallTime,
        /// How likely.
        probability: u16,
    },
    /// Probability that a turn is complete, of 32,767. A [`Hint`]'s own goes before it.
    Complete {
        /// Which; one for another turn than that under way is ignored.
        turn: TurnId,
        /// How likely.
        probability: u16,
    },
}

/// How words end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// Nothing is known.
    #[default]
    Unknown,
    /// A full stop.
    Period,
    /// A question mark.
    Question,
    /// A comma.
    Comma,
    /// A conjunction or preposition: "and", "because", "to".
    Conjunction,
    /// "Um", "er".
    Filler,
    /// Digits, of which more may come.
    Digits,
}

/// What an agent is told of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Heard {
    /// Sound of the person's. May be lost when the program does not keep up; `at` then leaps.
    Audio {
        /// When its first sample was.
        at: CallTime,
        /// Samples, 16 bits, little-endian, one channel, at the plan's rate.
        #[serde(with = "serde_bytes")]
        pcm: Vec<u8>,
        /// Probability of speech in it, of 255.
        speech: u8,
        /// It was made up to fill a gap, in part or whole.
        concealed: bool,
    },
    /// What the turn detector decided.
    Voice(VoiceEvent),
    /// How far an utterance has been played: when it starts, ends, is ducked, cleared or interrupted.
    Playout {
        /// When.
        at: CallTime,
        /// Which.
        utterance: UtteranceId,
        /// Microseconds of it that were sent.
        played: u64,
        /// Microseconds of sound that are queued, all utterances together.
        queued: u64,
        /// What became of it.
        state: PlayoutState,
    },
    /// A mark was reached, or cleared before it was.
    Mark {
        /// When.
        at: CallTime,
        /// Which.
        mark: MarkId,
        /// What stood before it was played to its end.
        reached: bool,
    },
    /// A key was pressed and let go (RFC 4733): `0`-`9`, `*`, `#`, `A`-`D`. Of more than
    /// [`HEARD_KEYS_MAX`](crate::limits::HEARD_KEYS_MAX) at once, or than one each
    /// [`HEARD_KEYS_INTERVAL`](crate::limits::HEARD_KEYS_INTERVAL), the rest is not told.
    Dtmf {
        /// When it began.
        at: CallTime,
        /// Which.
        digit: char,
        /// Microseconds that it was held, as far as that came.
        duration: u64,
    },
    /// More was said than the queue holds; what came last was dropped.
    Overflow {
        /// When.
        at: CallTime,
        /// Of which utterance.
        utterance: UtteranceId,
        /// Microseconds dropped.
        dropped: u64,
    },
    /// More keys were to be pressed than may wait; the last of them are left out.
    KeysLeftOut {
        /// When.
        at: CallTime,
        /// How many.
        keys: u32,
    },
}

impl Heard {
    /// Snake-case name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Audio { .. } => "audio",
            Self::Voice(event) => event.name(),
            Self::Playout { .. } => "playout",
            Self::Mark { .. } => "mark",
            Self::Dtmf { .. } => "dtmf",
            Self::Overflow { .. } => "overflow",
            Self::KeysLeftOut { .. } => "keys_left_out",
        }
    }
}

impl VoiceEvent {
    /// Snake-case name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SpeechStarted { .. } => "speech_started",
            Self::SpeechEnded { .. } => "speech_ended",
            Self::EagerEnd(_) => "eager_end",
            Self::Resumed { .. } => "resumed",
            Self::Ended(_) => "ended",
            Self::BargeCandidate { .. } => "barge_candidate",
            Self::BargeIn { .. } => "barge_in",
            Self::Backchannel { .. } => "backchannel",
            Self::FalseInterruption { .. } => "false_interruption",
            Self::Idle { .. } => "idle",
        }
    }
}

/// What became of an utterance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlayoutState {
    /// Its first sample is on its way.
    Started,
    /// It has nothing to play and did not end: the program is late.
    Starved,
    /// It was played to its end.
    Finished,
    /// The agent cleared it.
    Cleared,
    /// The person interrupted it.
    Interrupted,
}

/// What the turn detector decided. `at` is the end of the frame that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum VoiceEvent {
    /// The person began to speak: at `start`, which is known at `at`.
    SpeechStarted {
        /// When it was decided.
        at: CallTime,
        /// Of the turn under way, or the one that begins.
        turn: TurnId,
        /// When speech began.
        start: CallTime,
    },
    /// The person paused.
    SpeechEnded {
        /// When it was decided.
        at: CallTime,
        /// Of which turn.
        turn: TurnId,
        /// The last frame with voice in it.
        end: CallTime,
    },
    /// The turn is likely over: a program may begin to answer, and must be ready to withdraw.
    EagerEnd(TurnEnd),
    /// It was not: the person goes on.
    Resumed {
        /// When it was decided.
        at: CallTime,
        /// Which turn goes on.
        turn: TurnId,
    },
    /// The turn is over.
    Ended(TurnEnd),
    /// Somebody speaks while the agent does: the agent is ducked until it is known what it is.
    BargeCandidate {
        /// When it was decided.
        at: CallTime,
        /// When the voice began.
        start: CallTime,
    },
    /// It was an interruption: the agent was stopped.
    BargeIn {
        /// When it was decided.
        at: CallTime,
        /// When the voice began.
        start: CallTime,
        /// The person's turn that begins with it.
        turn: TurnId,
    },
    /// It was "uh huh", or noise: the agent is no longer ducked.
    Backchannel {
        /// When it was decided.
        at: CallTime,
        /// When the voice began.
        start: CallTime,
    },
    /// The agent was stopped for nothing: no word followed. It may go on from where it was.
    FalseInterruption {
        /// When it was decided.
        at: CallTime,
    },
    /// Neither spoke for long.
    Idle {
        /// When it was decided.
        at: CallTime,
    },
}

/// The end of a turn, likely or certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnEnd {
    /// When it was decided.
    pub at: CallTime,
    /// Which turn.
    pub turn: TurnId,
    /// When its speech began.
    pub start: CallTime,
    /// The last frame with voice in it; what comes after is the delay of the decision.
    pub end: CallTime,
    /// Probability that it is over, of 32,767.
    pub probability: u16,
    /// What decided.
    pub reason: EndReason,
}

/// What decided that a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndReason {
    /// All evidence together.
    Evidence,
    /// The pause was as long as pauses within turns may be.
    Silence,
    /// The turn was as long as turns may be.
    TooLong,
}
