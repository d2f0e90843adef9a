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

impl Interruption {
    /// Takes a frame in which the agent speaks. What is likely an echo does not count, nor what is not `near`.
    /// `raised`: half as much again is needed.
    pub(super) fn note(
        &mut self,
        now: u64,
        features: &Features,
        near: i64,
        quiet: u64,
        raised: bool,
        config: &TurnConfig,
    ) -> Verdict {
        if !features.concealed {
            let own = i64::from(CERTAIN - features.echo.min(CERTAIN)) * near / i64::from(CERTAIN);
            let speech = i64::from(features.speech.min(CERTAIN)) * own / i64::from(CERTAIN);
            let surplus = speech - i64::from(CERTAIN / 2);
            // Words have gaps: what speaks against it weighs half.
            let weight = if surplus > 0 { 2 } else { 1 };
            self.evidence += surplus * weight * FRAME as i64 / (2 * i64::from(CERTAIN));
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

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.start = None;
        self.evidence = 0;
        self.candidate = false;
    }
}
