//! Echo cancellation and automatic gain: WebRTC's AEC3 and AGC2, by `sonora`, which is named here only.
//!
//! It chooses its instructions by what the processor has, so that another kind of processor may give other last bits;
//! on one machine, the same frames give the same.

use std::fmt;

use sonora::config::{
    AdaptiveDigital, EchoCanceller as EchoConfig, GainController2, MaxProcessingRate,
    NoiseSuppression, NoiseSuppressionLevel, Pipeline,
};
use sonora::{AudioProcessing, Config, StreamConfig};

use crate::audio::chain::make_finite;
use crate::audio::{AudioFrame, FRAME_SAMPLES_MAX, Rate, Stage};

/// What one of them is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Purpose {
    Suppress,
    CancelEcho,
    Gain { initial_db: f32 },
}

impl Purpose {
    fn build(self, rate: Rate) -> AudioProcessing {
        let mut config = Config {
            pipeline: Pipeline {
                maximum_internal_processing_rate: MaxProcessingRate::Rate48kHz,
                multi_channel_render: false,
                multi_channel_capture: false,
                ..Pipeline::default()
            },
            ..Config::default()
        };
        match self {
            Self::Suppress => {
                config.noise_suppression = Some(NoiseSuppression {
                    level: NoiseSuppressionLevel::High,
                    ..NoiseSuppression::default()
                });
            }
            Self::CancelEcho => config.echo_canceller = Some(EchoConfig::default()),
            Self::Gain { initial_db } => {
                config.gain_controller2 = Some(GainController2 {
                    adaptive_digital: Some(AdaptiveDigital {
                        initial_gain_db: initial_db,
                        ..AdaptiveDigital::default()
                    }),
                    ..GainController2::default()
                });
            }
        }
        let format = StreamConfig::new(rate.hz(), 1);
        AudioProcessing::builder()
            .config(config)
            .capture_config(format)
            .render_config(format)
            .echo_detector(self == Self::CancelEcho)
            .build()
    }
}

/// A piece of WebRTC's audio processing module.
pub(super) struct Apm {
    purpose: Purpose,
    rate: Rate,
    processing: AudioProcessing,
    input: [f32; FRAME_SAMPLES_MAX],
}

impl Apm {
    fn new(purpose: Purpose, rate: Rate) -> Option<Box<Self>> {
        matches!(rate, Rate::Hz16000 | Rate::Hz48000).then(|| {
            Box::new(Self {
                purpose,
                rate,
                processing: purpose.build(rate),
                input: [0.0; FRAME_SAMPLES_MAX],
            })
        })
    }

    pub(super) fn suppressor(rate: Rate) -> Option<Box<Self>> {
        Self::new(Purpose::Suppress, rate)
    }

    /// What goes in: finite, one channel.
    fn take(&mut self, frame: &AudioFrame) {
        assert_eq!(frame.rate(), self.rate, "a stage has one rate");
        let input = &mut self.input[..self.rate.frame()];
        input.copy_from_slice(frame.channel(0));
        make_finite(input);
    }

    pub(super) fn capture(&mut self, frame: &mut AudioFrame) {
        self.take(frame);
        let input = &self.input[..self.rate.frame()];
        self.processing
            .process_capture_f32(&[input], &mut [frame.channel_mut(0)])
            .expect("the format that it was made for");
        frame.spread();
    }

    fn render(&mut self, frame: &AudioFrame) {
        self.take(frame);
        let mut unused = [0.0; FRAME_SAMPLES_MAX];
        let length = self.rate.frame();
        self.processing
            .process_render_f32(&[&self.input[..length]], &mut [&mut unused[..length]])
            .expect("the format that it was made for");
    }

    /// Samples by which noise suppression delays: its sections overlap by 6 ms, and splitting into bands adds to that.
    pub(super) fn suppression_delay(&self) -> u32 {
        match self.rate {
            Rate::Hz48000 => 48 * 7,
            _ => 16 * 6,
        }
    }

    pub(super) fn reset(&mut self) {
        self.processing = self.purpose.build(self.rate);
    }
}

impl fmt::Debug for Apm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Apm")
            .field("purpose", &self.purpose)
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

/// What is known of an echo.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EchoFigures {
    /// How much softer the echo is than what was played: decibels.
    pub return_loss_db: Option<f32>,
    /// How much of it is taken away: decibels.
    pub enhancement_db: Option<f32>,
    /// How much later it comes: milliseconds.
    pub delay_ms: Option<u32>,
    /// Probability that echo is left.
    pub residual_likelihood: Option<f32>,
}

/// Takes what was played out of what the microphone hears: for devices that do not do it themselves.
///
/// Takes the low end below about 100 Hz with it. Of stereo, the first channel counts. Resetting allocates.
///
/// # Realtime safety
/// Unlike other stages it allocates, and frees again: up to 44 times a frame, inside `sonora` 0.2.
#[derive(Debug)]
pub struct EchoCanceller(Box<Apm>);

impl EchoCanceller {
    /// For frames of 16 or 48 kHz; `None` for others.
    #[must_use]
    pub fn new(rate: Rate) -> Option<Self> {
        Apm::new(Purpose::CancelEcho, rate).map(Self)
    }

    /// What is played, of the same rate: one frame before each that is processed, as it leaves.
    pub fn render(&mut self, frame: &AudioFrame) {
        self.0.render(frame);
    }

    /// What is known of the echo. The first likelihood takes some seconds.
    #[must_use]
    pub fn figures(&self) -> EchoFigures {
        let statistics = self.0.processing.statistics();
        let single = |value: Option<f64>| value.map(|value| value as f32);
        EchoFigures {
            return_loss_db: single(statistics.echo_return_loss),
            enhancement_db: single(statistics.echo_return_loss_enhancement),
            delay_ms: statistics
                .delay_ms
                .and_then(|delay| u32::try_from(delay).ok()),
            residual_likelihood: single(statistics.residual_echo_likelihood),
        }
    }
}

impl Stage for EchoCanceller {
    fn process(&mut self, frame: &mut AudioFrame) {
        self.0.capture(frame);
    }

    fn delay_samples(&self) -> u32 {
        // 8 ms, as measured at both rates.
        self.0.rate.hz() / 125
    }

    fn reset(&mut self) {
        self.0.reset();
    }
}

/// Brings speech to one loudness, by at most 6 dB a second.
///
/// Of stereo, the first channel counts. Resetting allocates.
///
/// # Realtime safety
/// Unlike other stages it allocates, and frees again: up to 15 times a frame, inside `sonora` 0.2.
#[derive(Debug)]
pub struct AutoGain(Box<Apm>);

impl AutoGain {
    /// For frames of 16 or 48 kHz; `None` for others. Starts at 0 to 6 dB: more would make the first second loud.
    #[must_use]
    pub fn new(rate: Rate, initial_db: f32) -> Option<Self> {
        let initial_db = if initial_db.is_nan() {
            0.0
        } else {
            initial_db.clamp(0.0, 6.0)
        };
        Apm::new(Purpose::Gain { initial_db }, rate).map(Self)
    }
}

impl Stage for AutoGain {
    fn process(&mut self, frame: &mut AudioFrame) {
        self.0.capture(frame);
    }

    fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::testing::process;
    use crate::audio::{Channels, signal};

    fn frame_of(rate: Rate, samples: &[f32]) -> AudioFrame {
        let mut frame = AudioFrame::new(rate, Channels::Mono);
        frame.channel_mut(0).copy_from_slice(samples);
        frame
    }

    /// Plays for so many seconds; what is left, over the last second, of an echo that comes `delay_ms` later and 10 dB
    /// softer.
    fn enhancement_db(rate: Rate, delay_ms: usize, seconds: usize) -> (f32, EchoFigures) {
        let hz = rate.hz() as usize;
        let far = signal::voice(rate, 1, seconds * hz);
        let delay = delay_ms * hz / 1_000;
        let echo: Vec<f32> = std::iter::repeat_n(0.0, delay)
            .chain(far.iter().map(|x| x * 0.3))
            .take(far.len())
            .collect();
        let mut canceller = EchoCanceller::new(rate).expect("a rate that it has");
        let mut left = Vec::new();
        for (far, near) in far.chunks(rate.frame()).zip(echo.chunks(rate.frame())) {
            canceller.render(&frame_of(rate, far));
            let mut near = frame_of(rate, near);
            canceller.process(&mut near);
            left.extend_from_slice(near.channel(0));
        }
        let last = left.len() - hz..;
        let ratio = signal::rms(&echo[last.clone()]) / signal::rms(&left[last]).max(1e-6);
        (20.0 * ratio.log10(), canceller.figures())
    }

    #[test]
    fn an_echo_is_cancelled_and_its_delay_found() {
        for (rate, delay_ms) in [(Rate::Hz16000, 80), (Rate::Hz48000, 40)] {
            let (enhancement, figures) = enhancement_db(rate, delay_ms, 8);
            assert!(enhancement > 20.0, "{rate:?}: {enhancement} dB");
            let found = figures.delay_ms.expect("a delay") as usize;
            assert!(found.abs_diff(delay_ms) < 16, "{found} for {delay_ms}");
        }
    }

    #[test]
    fn without_anything_played_the_voice_passes() {
        let rate = Rate::Hz16000;
        let mut canceller = EchoCanceller::new(rate).expect("a rate that it has");
        let input = signal::voice(rate, 2, 64_000);
        let mut output = Vec::new();
        for samples in input.chunks(rate.frame()) {
            canceller.render(&AudioFrame::new(rate, Channels::Mono));
            let mut frame = frame_of(rate, samples);
            canceller.process(&mut frame);
            output.extend_from_slice(frame.channel(0));
        }
        let delay = signal::lag(&input, &output, 2 * rate.frame());
        assert!(
            delay.abs_diff(canceller.delay_samples() as usize) <= 16,
            "{delay}"
        );
        let level = 20.0 * (signal::rms(&output) / signal::rms(&input)).log10();
        assert!(level.abs() < 2.0, "{level} dB");
    }

    #[test]
    fn a_soft_voice_becomes_louder_and_not_at_once() {
        for rate in [Rate::Hz16000, Rate::Hz48000] {
            let mut gain = AutoGain::new(rate, 0.0).expect("a rate that it has");
            let input: Vec<f32> = signal::voice(rate, 1, 10 * rate.hz() as usize)
                .iter()
                .map(|x| x * 0.1)
                .collect();
            let output = process(&mut gain, rate, &input);
            let gain = |second: usize| {
                let part = second * rate.hz() as usize..(second + 1) * rate.hz() as usize;
                20.0 * (signal::rms(&output[part.clone()]) / signal::rms(&input[part])).log10()
            };
            assert!(gain(0) < 6.0, "{rate:?}: {} dB", gain(0));
            assert!(gain(9) > 2.0, "{rate:?}: {} dB", gain(9));
        }
    }

    #[test]
    fn other_rates_have_none() {
        assert!(EchoCanceller::new(Rate::Hz8000).is_none());
        assert!(AutoGain::new(Rate::Hz24000, 0.0).is_none());
    }

    #[test]
    fn runs_are_alike_to_the_bit_and_a_reset_forgets() {
        let rate = Rate::Hz16000;
        let input = signal::voice(rate, 3, 16_000);
        let mut stages = (
            EchoCanceller::new(rate).expect("a rate that it has"),
            AutoGain::new(rate, 3.0).expect("a rate that it has"),
        );
        let first = process(&mut stages, rate, &input);
        stages.reset();
        assert_eq!(first, process(&mut stages, rate, &input));
    }
}
