//! Whether who speaks while the agent does wants to interrupt it.

use crate::voice::config::TurnConfig;
use crate::voice::features::{CERTAIN, Features};
use crate::voice::turns::{FRAME, micros};

/// Evidence that somebody interrupts, gathered frame by frame.
#[derive(Debug, Default)]
pub(super) struct Interruption {
    /// When the voice began; `None` while there is none.
    start: Option<u64>,
    /// Microseconds of certainty.
    evidence: i64,
    /// The agent is ducked for it.
    candidate: bool,
    /// The level of the person's own voice, in 1/256 dB; `None` before the first turn.
    own_level: Option<i32>,
}

/// What one frame made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing new.
    Open,
    /// It may be one, of a voice that began then.
    Candidate { start: u64 },
    /// It is one.
    Confirmed { start: u64 },
    /// It was none.
    Dismissed { start: u64 },
}

/// A voice so far below the person's own is not weighed less: people speak up and down, in 1/256 dB.
const LEVEL_FULL: i32 = 10 * 256;
/// A voice so far below it does not count: what is left of an echo, or somebody further off.
const LEVEL_NONE: i32 = 25 * 256;

impl Interruption {
    /// Takes a frame in which the agent speaks. `raised`: half as much again is needed.
    pub(super) fn note(
        &mut self,
        now: u64,
        features: &Features,
        quiet: u64,
        raised: bool,
        config: &TurnConfig,
    ) -> Verdict {
        if !features.concealed {
            let speech = i64::from(features.speech.min(CERTAIN)) * self.gain(features);
            let surplus = speech / i64::from(CERTAIN) - i64::from(CERTAIN / 2);
            self.evidence += surplus * FRAME as i64 / i64::from(CERTAIN);
            if surplus > 0 {
                self.start.get_or_insert(now.saturating_sub(FRAME));
            }
        }
        // Beyond what confirms there is nothing to remember.
        self.evidence = self
            .evidence
            .clamp(0, 2 * micros(config.interrupt_ms) as i64);
        let Some(start) = self.start else {
            return Verdict::Open;
        };
        let needed = |millis: u32| micros(millis) as i64 * if raised { 3 } else { 2 } / 2;
        if self.evidence >= needed(config.interrupt_ms) {
            self.clear();
            return Verdict::Confirmed { start };
        }
        if !self.candidate && self.evidence >= needed(config.candidate_ms) {
            self.candidate = true;
            return Verdict::Candidate { start };
        }
        if self.candidate && quiet >= micros(config.backchannel_ms) && self.evidence == 0 {
            self.clear();
            return Verdict::Dismissed { start };
        }
        if !self.candidate && self.evidence == 0 {
            self.start = None;
        }
        Verdict::Open
    }

    /// The start of the voice for which the agent is ducked, if it is.
    pub(super) fn candidate(&self) -> Option<u64> {
        self.start.filter(|_| self.candidate)
    }

    /// Learns the level of the person's own voice.
    pub(super) fn note_own(&mut self, features: &Features) {
        let level = i32::from(features.level);
        self.own_level = Some(self.own_level.map_or(level, |old| old + (level - old) / 32));
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.start = None;
        self.evidence = 0;
        self.candidate = false;
    }

    /// How much a frame counts, of [`CERTAIN`]: not what is likely an echo, nor what is much fainter than the person.
    fn gain(&self, features: &Features) -> i64 {
        let echo = i64::from(CERTAIN - features.echo.min(CERTAIN));
        let below = self
            .own_level
            .map_or(0, |own| own - i32::from(features.level));
        let level = (LEVEL_NONE - below).clamp(0, LEVEL_NONE - LEVEL_FULL);
        echo * i64::from(level) / i64::from(LEVEL_NONE - LEVEL_FULL)
    }
}
