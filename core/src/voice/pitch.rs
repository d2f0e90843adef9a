//! The pitch of a voice, 70 to 600 Hz.
//!
//! Band-passed to that range first: plain correlation leapt by octaves on a final /s/. What is left is kept at 4 kHz
//! and correlated with itself, normalised, over 32 ms.

use crate::voice::features::ANALYSED_SAMPLES;

/// Samples at 16 kHz for one that is kept: 4 kHz, where the low-pass leaves −60 dB.
const DECIMATION: usize = 4;
const KEPT_HERTZ: f32 = 4_000.0;
/// Samples kept of each frame.
const KEPT: usize = ANALYSED_SAMPLES / DECIMATION;
/// Samples correlated: 32 ms hold two periods of 70 Hz.
const WINDOW: usize = 128;
/// Periods looked for, in kept samples: 600 to 70 Hz, and one on each side to see that it is a peak.
const LAGS: std::ops::Range<usize> = 6..59;
const HISTORY: usize = WINDOW + LAGS.end;
/// Correlation from which sound is a voice: noise through the band-pass stays below it.
const VOICED: f32 = 0.6;
/// Of several periods that fit, the shortest is the voice's if it fits so well, in parts of the best: the others are
/// its multiples.
const AS_GOOD: f32 = 0.87;
/// Mean square below which nothing is correlated: −90 dB.
const AUDIBLE: f32 = 1e-9;

/// Tracks the pitch of one source.
pub(super) struct Pitch {
    high_pass: Biquad,
    low_pass: [Biquad; 2],
    history: [f32; HISTORY],
}

impl Pitch {
    pub(super) const fn new() -> Self {
        Self {
            high_pass: Biquad::new(
                [0.980_750_1, -1.961_5, 0.980_750_1],
                [-1.961_129_5, 0.961_870_7],
            ),
            low_pass: [
                Biquad::new(
                    [0.011_364_086, 0.022_728_172, 0.011_364_086],
                    [-1.599_719_7, 0.645_176],
                ),
                Biquad::new(
                    [0.012_682_078, 0.025_364_155, 0.012_682_078],
                    [-1.785_253, 0.835_981_4],
                ),
            ],
            history: [0.0; HISTORY],
        }
    }

    /// The pitch with these samples in Hz, if they are a voice's.
    pub(super) fn feed(&mut self, samples: &[f32; ANALYSED_SAMPLES]) -> Option<f32> {
        self.history.copy_within(KEPT.., 0);
        for (n, sample) in samples.iter().enumerate() {
            let mut sample = self.high_pass.step(*sample);
            for stage in &mut self.low_pass {
                sample = stage.step(sample);
            }
            if n % DECIMATION == DECIMATION - 1 {
                self.history[HISTORY - KEPT + n / DECIMATION] = sample;
            }
        }
        self.high_pass.settle();
        self.low_pass.iter_mut().for_each(Biquad::settle);
        self.period().map(|period| KEPT_HERTZ / period)
    }

    /// The period in kept samples.
    fn period(&self) -> Option<f32> {
        let now = &self.history[LAGS.end..];
        let energy = product(now, now);
        if energy < AUDIBLE * WINDOW as f32 {
            return None;
        }
        let mut fits = [0.0; LAGS.end];
        for lag in LAGS {
            let before = &self.history[LAGS.end - lag..][..WINDOW];
            let energies = energy * product(before, before).max(AUDIBLE);
            fits[lag] = product(now, before) / energies.sqrt();
        }
        let inner = LAGS.start + 1..LAGS.end - 1;
        let peaks = inner.filter(|lag| fits[*lag] >= fits[lag - 1] && fits[*lag] > fits[lag + 1]);
        let best = peaks.clone().map(|lag| fits[lag]).fold(0.0, f32::max);
        if best < VOICED {
            return None;
        }
        let lag = peaks.clone().find(|lag| fits[*lag] >= AS_GOOD * best)?;
        let (left, middle, right) = (fits[lag - 1], fits[lag], fits[lag + 1]);
        // The parabola through three points has its top within half a sample of the middle one.
        let bend = left - 2.0 * middle + right;
        let shift = if bend < 0.0 {
            0.5 * (left - right) / bend
        } else {
            0.0
        };
        Some(lag as f32 + shift.clamp(-0.5, 0.5))
    }
}

/// Sum of products in eight lanes: a fixed order that a compiler can still put side by side.
fn product(left: &[f32], right: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    for (left, right) in left.chunks_exact(8).zip(right.chunks_exact(8)) {
        for (lane, (left, right)) in lanes.iter_mut().zip(left.iter().zip(right)) {
            *lane += left * right;
        }
    }
    lanes.iter().sum()
}

/// A second-order filter, transposed direct form II. Coefficients are Butterworth's at 16 kHz by the bilinear
/// transform.
#[derive(Clone, Copy)]
pub(super) struct Biquad {
    forward: [f32; 3],
    back: [f32; 2],
    state: [f32; 2],
}

impl Biquad {
    pub(super) const fn new(forward: [f32; 3], back: [f32; 2]) -> Self {
        Self {
            forward,
            back,
            state: [0.0; 2],
        }
    }

    pub(super) fn step(&mut self, input: f32) -> f32 {
        let output = self.forward[0] * input + self.state[0];
        self.state[0] = self.forward[1] * input - self.back[0] * output + self.state[1];
        self.state[1] = self.forward[2] * input - self.back[1] * output;
        output
    }

    /// Drops what is too small to hear: denormal numbers cost a hundred times as much.
    pub(super) fn settle(&mut self) {
        for value in &mut self.state {
            if value.abs() < 1e-20 {
                *value = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use super::*;

    /// 300 ms of a voice-like sound: ten harmonics of `hertz`, the second as loud as the first three times over.
    fn voice(hertz: f32, pitch: &mut Pitch) -> Option<f32> {
        let mut last = None;
        for frame in 0..30 {
            let samples = std::array::from_fn(|n| {
                let time = (frame * ANALYSED_SAMPLES + n) as f32 / 16_000.0;
                let harmonic = |k: u16| {
                    let gain = if k == 2 { 0.1 } else { 0.033 };
                    gain * (TAU * hertz * f32::from(k) * time).sin()
                };
                (1..=10).map(harmonic).sum()
            });
            last = pitch.feed(&samples);
        }
        last
    }

    #[test]
    fn voices_of_all_heights_are_tracked_within_a_third_of_a_semitone() {
        for hertz in [75.0_f32, 100.0, 123.0, 180.0, 220.0, 310.0, 440.0, 550.0] {
            let found = voice(hertz, &mut Pitch::new()).expect("a voice");
            let cents = 1_200.0 * (found / hertz).log2();
            assert!(cents.abs() < 33.0, "{hertz} Hz: {found} Hz, {cents} cents");
        }
    }

    #[test]
    fn noise_and_silence_have_no_pitch() {
        let mut state = 1_u32;
        let mut pitch = Pitch::new();
        let mut pitched = 0;
        for _ in 0..200 {
            let samples = std::array::from_fn(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            });
            pitched += u32::from(pitch.feed(&samples).is_some());
        }
        assert!(pitched < 30, "{pitched} of 200 frames of white noise");
        let mut pitch = Pitch::new();
        assert_eq!(pitch.feed(&[0.0; ANALYSED_SAMPLES]), None);
    }
}
