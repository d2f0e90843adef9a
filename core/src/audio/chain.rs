//! The beginning and end of a chain of stages.

use crate::audio::{AudioFrame, Stage};

/// Loudest sample that a chain takes: 18 dB over full scale is a fault, not sound.
const LOUDEST: f32 = 8.0;

/// Makes samples finite: what is not a number is silence, what is too loud is cut off.
pub(super) fn make_finite(samples: &mut [f32]) {
    for sample in samples {
        *sample = if sample.is_nan() {
            0.0
        } else {
            sample.clamp(-LOUDEST, LOUDEST)
        };
    }
}

/// Stages that run on finite sound only, and not at all on silence that lasts.
///
/// A muted microphone gives frames of exact zeros. What costs 100 µs for speech would cost as much or, for the small
/// numbers that recursive filters then end in, five times that: here it costs a look at the frame.
#[derive(Clone, Debug)]
pub struct Chain<S> {
    stages: S,
    hangover: u32,
    /// Silent frames in a row, up to `hangover`.
    quiet: u32,
    faults: u64,
}

impl<S: Stage> Chain<S> {
    /// Silent frames after which stages rest, if their delay is shorter: 100 ms.
    pub const HANGOVER: u32 = 10;

    /// Stages that run until [`Self::HANGOVER`] frames were silent.
    #[must_use]
    pub const fn new(stages: S) -> Self {
        Self {
            stages,
            hangover: Self::HANGOVER,
            quiet: 0,
            faults: 0,
        }
    }

    /// The stages.
    #[must_use]
    pub const fn stages(&self) -> &S {
        &self.stages
    }

    /// The same, to set.
    pub const fn stages_mut(&mut self) -> &mut S {
        &mut self.stages
    }

    /// Whether the next silent frame would be left as it is.
    #[must_use]
    pub const fn is_resting(&self) -> bool {
        self.quiet >= self.hangover
    }

    /// Frames that a stage made infinite, or no numbers: each a fault of ours.
    #[must_use]
    pub const fn faults(&self) -> u64 {
        self.faults
    }
}

impl<S: Stage> Stage for Chain<S> {
    fn process(&mut self, frame: &mut AudioFrame) {
        if frame.is_silent() {
            if self.is_resting() {
                return;
            }
            self.quiet += 1;
        } else {
            self.quiet = 0;
            frame.channels_mut().for_each(make_finite);
        }
        self.stages.process(frame);
        // A sum tells at once: one that is not finite makes it so.
        let sums = frame
            .channels_mut()
            .map(|channel| channel.iter().sum::<f32>());
        if !sums.sum::<f32>().is_finite() {
            self.faults += 1;
            self.stages.reset();
            frame.channels_mut().for_each(|channel| channel.fill(0.0));
        }
    }

    fn delay_samples(&self) -> u32 {
        self.stages.delay_samples()
    }

    fn reset(&mut self) {
        self.quiet = 0;
        self.stages.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::testing::process;
    use crate::audio::{HighPass, Limiter, Rate, signal};

    /// Counts its frames, and fails at the loudest.
    #[derive(Default)]
    struct Counting {
        frames: u32,
        resets: u32,
    }

    impl Stage for Counting {
        fn process(&mut self, frame: &mut AudioFrame) {
            self.frames += 1;
            let first = &mut frame.channel_mut(0)[0];
            if *first == 1.0 {
                *first = f32::NAN;
            }
            assert!(first.abs() <= LOUDEST || first.is_nan());
        }

        fn reset(&mut self) {
            self.resets += 1;
        }
    }

    #[test]
    fn stages_rest_when_silence_lasts_and_wake_at_once() {
        let mut chain = Chain::new(Counting::default());
        process(&mut chain, Rate::Hz16000, &[0.1; 160]);
        process(&mut chain, Rate::Hz16000, &[0.0; 16_000]);
        assert_eq!(chain.stages().frames, 11);
        assert!(chain.is_resting());
        process(&mut chain, Rate::Hz16000, &[0.1; 320]);
        assert_eq!(chain.stages().frames, 13);
    }

    #[test]
    fn nothing_goes_in_or_comes_out_that_is_not_finite() {
        let mut chain = Chain::new(Counting::default());
        let output = process(&mut chain, Rate::Hz16000, &[f32::NAN; 160]);
        assert_eq!(output, [0.0; 160]);
        process(&mut chain, Rate::Hz16000, &[f32::INFINITY; 160]);
        assert_eq!(chain.faults(), 0);
        let output = process(&mut chain, Rate::Hz16000, &[1.0; 160]);
        assert_eq!(output, [0.0; 160]);
        assert_eq!((chain.faults(), chain.stages().resets), (1, 1));
    }

    #[test]
    fn the_end_of_sound_comes_out_before_the_rest() {
        let rate = Rate::Hz48000;
        let stages = (HighPass::new(rate), Limiter::standard(rate));
        let mut chain = Chain::new(stages);
        assert_eq!(chain.delay_samples(), 96);
        let mut input = signal::voice(rate, 1, 48_000);
        input.iter_mut().for_each(|x| *x *= 0.5);
        input.resize(96_000, 0.0);
        let output = process(&mut chain, rate, &input);
        assert_eq!(signal::peak(&output[60_000..]), 0.0);
        let (before, after) = (signal::rms(&input), signal::rms(&output));
        assert!((0.8..1.01).contains(&(after / before)), "{after}, {before}");
    }
}
