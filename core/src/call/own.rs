//! The agent's own voice, as a microphone may bring it back.

use std::collections::VecDeque;

use super::mouth::Spoken;
use crate::audio::{Rate, Resampler};
use crate::voice::echo::EchoGuard;
use crate::voice::features::{ANALYSED_SAMPLES, Features};

/// Frames that were said and not yet compared with what is heard: what is heard comes in bursts at most so large.
const FRAMES_MAX: usize = 50;

/// What was said of late, and how likely a frame is its echo.
pub(super) struct OwnVoice {
    guard: EchoGuard,
    resampler: Resampler,
    frames: VecDeque<[f32; ANALYSED_SAMPLES]>,
}

impl OwnVoice {
    pub(super) fn new() -> Self {
        Self {
            guard: EchoGuard::new(),
            resampler: Resampler::new(Rate::Hz16000, Rate::Hz16000),
            frames: VecDeque::with_capacity(FRAMES_MAX),
        }
    }

    /// A packet is sent.
    pub(super) fn note_said(&mut self, spoken: &Spoken<'_>) {
        if self.resampler.source() != spoken.rate {
            // As the encoder, it is another for another rate.
            self.resampler = Resampler::new(spoken.rate, Rate::Hz16000);
        }
        for samples in spoken.samples.chunks_exact(spoken.rate.frame()) {
            let mut frame = [0.0; ANALYSED_SAMPLES];
            self.resampler.process(samples, &mut frame);
            if self.frames.len() == FRAMES_MAX {
                self.frames.pop_front();
            }
            self.frames.push_back(frame);
        }
    }

    /// Marks a frame that was heard with the likelihood of being an echo.
    pub(super) fn mark(&mut self, heard: &mut Features) {
        self.guard.handle_played(self.frames.pop_front().as_ref());
        heard.echo = self.guard.echo(heard);
    }
}
