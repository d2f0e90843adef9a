//! Probability of speech: the network of earshot, fed from frames of 10 ms.

use crate::voice::features::ANALYSED_SAMPLES;

/// Samples that earshot takes at once: 16 ms at 16 kHz.
const HOP: usize = 256;

/// earshot and the samples that wait for its next hop. Its answer is held until then.
pub(super) struct Vad {
    detector: Box<earshot::Detector>,
    waiting: [f32; HOP],
    filled: usize,
    score: f32,
}

impl Vad {
    pub(super) fn new() -> Self {
        Self {
            detector: Box::new(earshot::Detector::const_default()),
            waiting: [0.0; HOP],
            filled: 0,
            score: 0.0,
        }
    }

    /// The latest probability with these samples; they must be within ±1.
    pub(super) fn feed(&mut self, samples: &[f32; ANALYSED_SAMPLES]) -> f32 {
        let fits = (HOP - self.filled).min(ANALYSED_SAMPLES);
        let (now, later) = samples.split_at(fits);
        self.waiting[self.filled..self.filled + fits].copy_from_slice(now);
        self.filled += fits;
        if self.filled == HOP {
            self.score = self.detector.predict_f32(&self.waiting);
            self.waiting[..later.len()].copy_from_slice(later);
            self.filled = later.len();
        }
        self.score
    }

    pub(super) fn reset(&mut self) {
        self.detector.reset();
        self.filled = 0;
        self.score = 0.0;
    }
}
