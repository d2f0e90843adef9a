//! Less noise around a voice.

use std::fmt;

use nnnoiseless::DenoiseState;

use crate::audio::apm::Apm;
use crate::audio::chain::make_finite;
use crate::audio::{AudioFrame, FRAME_SAMPLES_MAX, Rate, Stage};

/// What full scale is to RNNoise.
const FULL_SCALE: f32 = 32_768.0;

/// How noise is suppressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suppression {
    /// RNNoise: keeps words intelligible in loud noise, and says whether there are any. 48 kHz; 47 µs a frame.
    Quality,
    /// WebRTC's suppressor, strength "high": removes as much for a quarter of the cost at 16 kHz. 16 and 48 kHz.
    Economy,
}

/// Takes noise away. For people and voice detectors; recognisers do better without.
///
/// Of stereo, the first channel counts. Resetting allocates; so does the first frame of RNNoise on each thread.
#[derive(Debug)]
pub struct Suppressor(Kind);

#[derive(Debug)]
enum Kind {
    Quality(Box<RnNoise>),
    Economy(Box<Apm>),
}

impl Suppressor {
    /// For frames of a rate that this kind has; `None` for others.
    #[must_use]
    pub fn new(suppression: Suppression, rate: Rate) -> Option<Self> {
        match suppression {
            Suppression::Quality => {
                (rate == Rate::Hz48000).then(|| Self(Kind::Quality(Box::new(RnNoise::new()))))
            }
            Suppression::Economy => Apm::suppressor(rate).map(|apm| Self(Kind::Economy(apm))),
        }
    }

    /// Probability that there was a voice in the last frame; `None`: this kind does not know.
    #[must_use]
    pub fn speech(&self) -> Option<f32> {
        match &self.0 {
            Kind::Quality(rnnoise) => Some(rnnoise.speech),
            Kind::Economy(_) => None,
        }
    }
}

impl Stage for Suppressor {
    fn process(&mut self, frame: &mut AudioFrame) {
        match &mut self.0 {
            Kind::Quality(rnnoise) => rnnoise.process(frame),
            Kind::Economy(apm) => apm.capture(frame),
        }
    }

    fn delay_samples(&self) -> u32 {
        match &self.0 {
            Kind::Quality(_) => Rate::Hz48000.frame() as u32,
            Kind::Economy(apm) => apm.suppression_delay(),
        }
    }

    fn reset(&mut self) {
        match &mut self.0 {
            Kind::Quality(rnnoise) => **rnnoise = RnNoise::new(),
            Kind::Economy(apm) => apm.reset(),
        }
    }
}

struct RnNoise {
    state: Box<DenoiseState<'static>>,
    input: [f32; FRAME_SAMPLES_MAX],
    /// Silent frames in a row, as far as they matter.
    silent: u8,
    speech: f32,
    noise: u32,
}

impl RnNoise {
    fn new() -> Self {
        Self {
            state: DenoiseState::new(),
            input: [0.0; FRAME_SAMPLES_MAX],
            silent: 0,
            speech: 0.0,
            noise: 1,
        }
    }

    fn process(&mut self, frame: &mut AudioFrame) {
        assert_eq!(frame.rate(), Rate::Hz48000, "a stage has one rate");
        self.silent = if frame.is_silent() {
            self.silent.saturating_add(1)
        } else {
            0
        };
        let samples = frame.channel_mut(0);
        make_finite(samples);
        for (input, sample) in self.input.iter_mut().zip(&*samples) {
            *input = sample * FULL_SCALE;
        }
        if self.silent > 0 {
            // Half a step of noise: on exact zeros its filters end in numbers that take five times as long.
            for input in &mut self.input {
                self.noise = self
                    .noise
                    .wrapping_mul(1_664_525)
                    .wrapping_add(1_013_904_223);
                *input = (self.noise >> 8) as f32 / (1 << 24) as f32 - 0.5;
            }
        }
        self.speech = self.state.process_frame(samples, &self.input);
        for sample in &mut *samples {
            *sample /= FULL_SCALE;
        }
        // What comes out is of the frame before, so of this noise after two.
        if self.silent > 1 {
            samples.fill(0.0);
        }
        frame.spread();
    }
}

impl fmt::Debug for RnNoise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RnNoise")
            .field("speech", &self.speech)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::signal;
    use crate::audio::testing::process;

    const KINDS: [(Suppression, Rate); 3] = [
        (Suppression::Quality, Rate::Hz48000),
        (Suppression::Economy, Rate::Hz48000),
        (Suppression::Economy, Rate::Hz16000),
    ];

    fn suppressor((suppression, rate): (Suppression, Rate)) -> Suppressor {
        Suppressor::new(suppression, rate).expect("a rate that it has")
    }

    fn level_db(samples: &[f32]) -> f32 {
        20.0 * signal::rms(samples).max(1e-9).log10()
    }

    #[test]
    fn steady_noise_goes() {
        for kind in KINDS {
            let hz = kind.1.hz() as usize;
            let input = signal::noise(1, 0.05, 5 * hz);
            let output = process(&mut suppressor(kind), kind.1, &input);
            let removed = level_db(&input[4 * hz..]) - level_db(&output[4 * hz..]);
            assert!(removed > 6.0, "{kind:?}: {removed} dB");
        }
    }

    #[test]
    fn a_clean_voice_stays_and_is_delayed_as_said() {
        for kind in KINDS {
            let input = signal::voice(kind.1, 1, 4 * kind.1.hz() as usize);
            let mut suppressor = suppressor(kind);
            let output = process(&mut suppressor, kind.1, &input);
            let kept = level_db(&output) - level_db(&input);
            assert!(kept > -4.0 && kept < 2.0, "{kind:?}: {kept} dB");
            let delay = signal::lag(&input, &output, 2 * kind.1.frame());
            let said = suppressor.delay_samples() as usize;
            assert!(
                delay.abs_diff(said) <= kind.1.frame() / 20,
                "{kind:?}: {delay}, {said}"
            );
        }
    }

    #[test]
    fn silence_becomes_exact_silence_and_no_voice() {
        let kind = KINDS[0];
        let mut suppressor = suppressor(kind);
        process(&mut suppressor, kind.1, &signal::voice(kind.1, 1, 48_000));
        let output = process(&mut suppressor, kind.1, &[0.0; 48_000]);
        assert_eq!(signal::peak(&output[960..]), 0.0);
        assert!(suppressor.speech().expect("it knows") < 0.1);
        assert_eq!(
            Suppressor::new(Suppression::Economy, Rate::Hz16000).and_then(|s| s.speech()),
            None
        );
    }

    #[test]
    fn other_rates_have_none() {
        assert!(Suppressor::new(Suppression::Quality, Rate::Hz16000).is_none());
        assert!(Suppressor::new(Suppression::Economy, Rate::Hz8000).is_none());
    }

    #[test]
    fn runs_are_alike_to_the_bit_and_a_reset_forgets() {
        for kind in KINDS {
            let input = signal::voice(kind.1, 3, kind.1.hz() as usize);
            let mut suppressor = suppressor(kind);
            let first = process(&mut suppressor, kind.1, &input);
            suppressor.reset();
            assert_eq!(first, process(&mut suppressor, kind.1, &input));
        }
    }

    #[test]
    fn what_is_not_finite_leaves_nothing_behind() {
        for kind in KINDS {
            let mut suppressor = suppressor(kind);
            for bad in [f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE / 4.0] {
                let frame = vec![bad; kind.1.frame()];
                process(&mut suppressor, kind.1, &frame);
            }
            let input = signal::voice(kind.1, 3, 2 * kind.1.hz() as usize);
            let output = process(&mut suppressor, kind.1, &input);
            assert!(output.iter().all(|x| x.is_finite()));
            let half = output.len() / 2..;
            assert!(level_db(&output[half.clone()]) > level_db(&input[half]) - 6.0);
        }
    }
}
