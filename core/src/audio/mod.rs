//! Sound: frames of 10 ms and what is done to them.

#[cfg(feature = "dsp")]
mod apm;
mod chain;
mod dynamics;
mod filter;
mod limiter;
mod mixer;
mod resample;
#[cfg(any(test, feature = "sim"))]
pub mod signal;
mod smooth;
#[cfg(feature = "dsp")]
mod suppress;
#[cfg(test)]
mod testing;

use serde::{Deserialize, Serialize};

#[cfg(feature = "dsp")]
pub use self::apm::{AutoGain, EchoCanceller, EchoFigures};
pub use self::chain::Chain;
pub use self::dynamics::{Compressor, CompressorSettings, GateSettings, NoiseGate};
pub use self::filter::{Band, Equaliser, HighPass};
pub use self::limiter::Limiter;
pub use self::mixer::{Mixer, SourceIndex, VOICES};
pub use self::resample::Resampler;
pub use self::smooth::Smoothed;
#[cfg(feature = "dsp")]
pub use self::suppress::{Suppression, Suppressor};
pub use crate::limits::FRAME_SAMPLES_MAX;

/// Samples a second and channel of what is processed. RTP clocks are another matter ([`Codec::clock_rate`]).
///
/// [`Codec::clock_rate`]: crate::plan::Codec::clock_rate
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rate {
    /// Telephony.
    Hz8000,
    /// What recognisers and voice activity detectors take.
    Hz16000,
    /// What most synthesisers give.
    Hz24000,
    /// What browsers send.
    Hz48000,
}

impl Rate {
    /// Samples a second.
    #[must_use]
    pub const fn hz(self) -> u32 {
        match self {
            Self::Hz8000 => 8_000,
            Self::Hz16000 => 16_000,
            Self::Hz24000 => 24_000,
            Self::Hz48000 => 48_000,
        }
    }

    /// The rate of so many samples a second, if it is one of ours.
    #[must_use]
    pub const fn from_hz(hz: u32) -> Option<Self> {
        match hz {
            8_000 => Some(Self::Hz8000),
            16_000 => Some(Self::Hz16000),
            24_000 => Some(Self::Hz24000),
            48_000 => Some(Self::Hz48000),
            _ => None,
        }
    }

    /// Samples of one frame: 10 ms.
    #[must_use]
    pub const fn frame(self) -> usize {
        self.hz() as usize / 100
    }
}

/// Channels of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// One.
    Mono,
    /// Left and right.
    Stereo,
}

impl Channels {
    /// How many.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::Mono => 1,
            Self::Stereo => 2,
        }
    }
}

/// 10 ms of sound: planar, ±1.0 nominal.
#[derive(Clone, Debug)]
pub struct AudioFrame {
    rate: Rate,
    channels: Channels,
    samples: [[f32; FRAME_SAMPLES_MAX]; 2],
}

impl AudioFrame {
    /// A frame of silence.
    #[must_use]
    pub const fn new(rate: Rate, channels: Channels) -> Self {
        Self {
            rate,
            channels,
            samples: [[0.0; FRAME_SAMPLES_MAX]; 2],
        }
    }

    /// Its rate.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// Its channels.
    #[must_use]
    pub const fn channels(&self) -> Channels {
        self.channels
    }

    /// The samples of one channel, 0 or 1.
    #[must_use]
    pub fn channel(&self, index: usize) -> &[f32] {
        &self.samples[index][..self.rate.frame()]
    }

    /// The same, to change.
    pub fn channel_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.samples[index][..self.rate.frame()]
    }

    /// Each channel in turn, to change.
    pub fn channels_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let frame = self.rate.frame();
        self.samples
            .iter_mut()
            .take(self.channels.count())
            .map(move |samples| &mut samples[..frame])
    }

    /// Makes the second channel, if there is one, what the first is.
    #[cfg(feature = "dsp")]
    fn spread(&mut self) {
        if self.channels == Channels::Stereo {
            self.samples[1] = self.samples[0];
        }
    }

    /// Whether every sample is exactly zero: a muted microphone, or what a gate closed.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        (0..self.channels.count()).all(|index| self.channel(index).iter().all(|x| *x == 0.0))
    }
}

/// One thing done to sound, frame by frame. Its state is sized when it is made.
///
/// # Realtime safety
/// `process` never allocates, blocks or fails, whatever the samples are: infinities and NaN included.
pub trait Stage {
    /// Processes one frame in place.
    fn process(&mut self, frame: &mut AudioFrame);

    /// By how many samples of the frame's rate it delays.
    fn delay_samples(&self) -> u32 {
        0
    }

    /// Forgets what it heard.
    fn reset(&mut self);
}

impl<A: Stage, B: Stage> Stage for (A, B) {
    fn process(&mut self, frame: &mut AudioFrame) {
        self.0.process(frame);
        self.1.process(frame);
    }

    fn delay_samples(&self) -> u32 {
        self.0.delay_samples() + self.1.delay_samples()
    }

    fn reset(&mut self) {
        self.0.reset();
        self.1.reset();
    }
}

/// `None` lets everything pass unchanged.
impl<S: Stage> Stage for Option<S> {
    fn process(&mut self, frame: &mut AudioFrame) {
        if let Some(stage) = self {
            stage.process(frame);
        }
    }

    fn delay_samples(&self) -> u32 {
        self.as_ref().map_or(0, Stage::delay_samples)
    }

    fn reset(&mut self) {
        if let Some(stage) = self {
            stage.reset();
        }
    }
}
