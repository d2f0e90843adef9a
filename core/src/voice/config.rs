//! What the turn detector is set to, each value with its reason.

mod parameter;

use serde::{Deserialize, Serialize};

pub use self::parameter::{Parameter, TurnConfigError};
use crate::voice::message::Eagerness;

/// How long a pause must be, and how sure its end, to end a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patience {
    /// No turn ends before so much silence, in milliseconds.
    pub delay_min_ms: u32,
    /// Every turn ends after so much, in milliseconds.
    pub delay_max_ms: u32,
    /// A turn of which neither pitch nor words are known ends after so much, in milliseconds; around the 800 of plain
    /// endpointers.
    pub delay_blind_ms: u32,
    /// Probability of an end that ends a turn, of 32,767.
    pub sure: u16,
}

/// What the turn detector is set to. [`TurnConfig::default`] is what was tuned; `docs/turns.md` shows what it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TurnConfig {
    /// Which of the three below rules at the beginning.
    pub eagerness: Eagerness,
    /// Quick exchanges.
    pub eager: Patience,
    /// The default.
    pub balanced: Patience,
    /// Dictation, people who think aloud.
    pub patient: Patience,

    /// Probability of speech from which a frame has voice in it, of 32,767. 0.6: earshot keeps on 12 % of what is no
    /// speech at 0.5.
    pub speech_on: u16,
    /// Probability of speech up to which it has none any more. 0.35: between the two, what was is still.
    pub speech_off: u16,
    /// Frames with voice, of the last eight, that begin a turn. 6: a click or a cough's first burst is shorter.
    pub onset_frames: u32,
    /// Frames with voice, of the last five, that go on with one. 4: who paused is likelier to speak than who did not.
    pub resume_frames: u32,
    /// Silence that is a pause, in milliseconds: stop consonants close the mouth for up to 80.
    pub pause_ms: u32,

    /// Probability of an end that is told as likely, of 32,767. 0.45: an answer begun in vain costs less than one
    /// begun late.
    pub eager_sure: u16,
    /// Silence before an end is told as likely, in milliseconds.
    pub eager_delay_ms: u32,
    /// Probability of an end below which it is likely no longer, of 32,767; well below `eager_sure`, so that it is not
    /// told and withdrawn by turns.
    pub withdraw: u16,
    /// Length of a turn whose next pause ends it, in milliseconds; twice that ends it in mid-speech (music, a fan).
    pub turn_max_ms: u32,

    /// Evidence that ducks the agent, in milliseconds of certainty. 18: about 50 ms of a clear voice. A duck in vain
    /// is a dip of 12 dB for a quarter of a second.
    pub candidate_ms: u32,
    /// Evidence that stops the agent. 62: a clear voice, at 0.45 a millisecond, confirms about 200 ms after its onset,
    /// the detector's own delay of 30 to 40 ms included.
    pub interrupt_ms: u32,
    /// Silence after which what was no interruption is a backchannel, in milliseconds.
    pub backchannel_ms: u32,
    /// Beginning of what the agent says in which an interruption takes half as much again, in milliseconds: who just
    /// finished may still breathe out.
    pub opening_ms: u32,
    /// End of what the agent says in which it takes half as much again, in milliseconds: an early answer, or assent.
    pub closing_ms: u32,
    /// Time after the agent fell silent in which its echo may still come, in milliseconds.
    pub echo_tail_ms: u32,
    /// Silence after an interruption that proves it false if no word was heard, in milliseconds.
    pub false_interruption_ms: u32,
    /// Voice that is a word where no recogniser tells, in milliseconds.
    pub word_ms: u32,
    /// Silence of both that is told, in milliseconds.
    pub idle_ms: u32,
    /// Concealed or missing sound of one pause that does not count as silence, in milliseconds: a burst of loss is no
    /// end, but a network that stays away is.
    pub excused_max_ms: u32,
}

impl TurnConfig {
    /// The patience of one eagerness.
    #[must_use]
    pub const fn patience(&self, eagerness: Eagerness) -> Patience {
        match eagerness {
            Eagerness::Eager => self.eager,
            Eagerness::Balanced => self.balanced,
            Eagerness::Patient => self.patient,
        }
    }
}

impl Default for TurnConfig {
    fn default() -> Self {
        Self {
            eagerness: Eagerness::Balanced,
            eager: Patience {
                delay_min_ms: 200,
                delay_max_ms: 1_200,
                delay_blind_ms: 600,
                sure: 19_660,
            },
            balanced: Patience {
                delay_min_ms: 300,
                delay_max_ms: 2_500,
                delay_blind_ms: 800,
                sure: 22_937,
            },
            patient: Patience {
                delay_min_ms: 500,
                delay_max_ms: 4_000,
                delay_blind_ms: 1_200,
                sure: 26_214,
            },
            speech_on: 19_660,
            speech_off: 11_468,
            onset_frames: 6,
            resume_frames: 4,
            pause_ms: 80,
            eager_sure: 14_745,
            eager_delay_ms: 160,
            withdraw: 9_830,
            turn_max_ms: 30_000,
            candidate_ms: 18,
            interrupt_ms: 62,
            backchannel_ms: 250,
            opening_ms: 300,
            closing_ms: 1_000,
            echo_tail_ms: 300,
            false_interruption_ms: 2_000,
            word_ms: 500,
            idle_ms: 15_000,
            excused_max_ms: 500,
        }
    }
}
