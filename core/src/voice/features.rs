//! From sound to what the turn detector decides on: 10 ms in, a few integers out.
//!
//! ```text
//!  160 samples -> guard -+-> earshot (16 ms) --------------+
//!  (16 kHz)              |                                 +-> fusion -> speech
//!                        +-> high-pass -> level -> floor --+
//!                        +-> band-pass -> correlation -----------------> pitch
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::audio::Rate;
use crate::voice::level::{Level, log2};
use crate::voice::pitch::Pitch;
use crate::voice::vad::Vad;

/// Samples that [`Analyser::analyse`] takes: 10 ms at 16 kHz.
pub const ANALYSED_SAMPLES: usize = Rate::Hz16000.frame();

/// Certainty, in the unit of [`Features`]' probabilities.
pub const CERTAIN: u16 = 32_767;

/// What 10 ms of sound are to the [`TurnDetector`](crate::voice::turns::TurnDetector). Integers all, so that the same
/// trace is the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// Probability of speech, of [`CERTAIN`].
    pub speech: u16,
    /// Level in 1/256 dB relative to full scale; digital silence is [`Features::SILENCE`]'s.
    pub level: i16,
    /// Level of what is heard when nobody speaks, tracked, in the same unit.
    pub floor: i16,
    /// Pitch in cents above 10 Hz (70 Hz: 3,369; 600 Hz: 7,088); 0 where there is no voice.
    pub pitch: u16,
    /// Likelihood that it is the agent's own voice coming back, of [`CERTAIN`].
    pub echo: u16,
    /// It was made up to fill a gap, and proves neither speech nor silence.
    pub concealed: bool,
}

impl Features {
    /// Digital silence; also what to give where nothing came.
    pub const SILENCE: Self = Self {
        speech: 0,
        level: Level::SILENT,
        floor: Level::FLOOR_LEAST,
        pitch: 0,
        echo: 0,
        concealed: false,
    };

    /// Whether vocal folds vibrate in it.
    #[must_use]
    pub const fn voiced(&self) -> bool {
        self.pitch != 0
    }
}

/// What others know of the same 10 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Side {
    /// Probability of speech by the noise suppressor, 0 to 1, if it runs.
    pub denoiser: Option<f32>,
    /// Probability of speech by a model outside of the core, 0 to 1, if one runs.
    pub model: Option<f32>,
    /// Likelihood of echo, 0 to 1, if somebody knows.
    pub echo: Option<f32>,
    /// The samples were made up to fill a gap.
    pub concealed: bool,
}

/// Turns the sound of one person into [`Features`]. About 10 KiB.
///
/// # Realtime safety
/// Nothing allocates after [`Analyser::new`], no sample (NaN and infinities included) harms it, and digital silence
/// costs next to nothing. All arithmetic is IEEE 754's basic operations in a fixed order, or earshot's on a portable
/// mathematical library: the same samples give the same features on every platform.
pub struct Analyser {
    vad: Vad,
    level: Level,
    pitch: Pitch,
    /// Frames of digital silence in a row.
    zeros: u32,
}

impl Analyser {
    /// Frames of digital silence after which nothing remembers sound: earshot's window of 48 ms and two more frames of
    /// 16 ms are the longest.
    const SETTLED: u32 = 10;

    /// One that heard nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            vad: Vad::new(),
            level: Level::new(),
            pitch: Pitch::new(),
            zeros: Self::SETTLED,
        }
    }

    /// Analyses 10 ms of 16 kHz, ±1.0 nominal.
    pub fn analyse(&mut self, samples: &[f32; ANALYSED_SAMPLES], side: &Side) -> Features {
        if samples.iter().all(|sample| *sample == 0.0) {
            self.zeros = self.zeros.saturating_add(1);
        } else {
            self.zeros = 0;
        }
        if self.zeros > Self::SETTLED {
            return self.silence(side);
        }
        let mut guarded = [0.0; ANALYSED_SAMPLES];
        for (to, from) in guarded.iter_mut().zip(samples) {
            *to = if from.is_nan() {
                0.0
            } else {
                from.clamp(-1.0, 1.0)
            };
        }
        let score = self.vad.feed(&guarded);
        let (level, floor) = self.level.feed(&guarded);
        let pitch = self.pitch.feed(&guarded);
        if self.zeros > 0 {
            return self.silence(side);
        }
        let above = i32::from(level) - i32::from(floor);
        let speech = fuse(score, side.denoiser.map(unit), loudness(above));
        // An operator who gives a model believes it as much as all else together.
        let speech = match side.model {
            Some(model) => f32::midpoint(speech, unit(model)),
            None => speech,
        };
        Features {
            speech: q15(speech),
            level,
            floor,
            pitch: if above > VOICED_ABOVE_FLOOR {
                cents(pitch)
            } else {
                0
            },
            echo: q15(unit(side.echo.unwrap_or(0.0))),
            concealed: side.concealed,
        }
    }

    /// Forgets what it heard.
    pub fn reset(&mut self) {
        self.vad.reset();
        self.level = Level::new();
        self.pitch = Pitch::new();
        self.zeros = Self::SETTLED;
    }

    fn silence(&self, side: &Side) -> Features {
        Features {
            floor: self.level.floor(),
            concealed: side.concealed,
            ..Features::SILENCE
        }
    }
}

impl Default for Analyser {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Analyser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Analyser").finish_non_exhaustive()
    }
}

/// Pitch is not looked for in sound that is less than this above the floor, in 1/256 dB: it would be the noise's.
const VOICED_ABOVE_FLOOR: i32 = 3 * 256;

/// Weights of earshot, the denoiser and loudness. Where no denoiser runs the others share its part.
const WEIGHTS: [f32; 3] = [0.5, 0.3, 0.2];

fn fuse(score: f32, denoiser: Option<f32>, loudness: f32) -> f32 {
    let [w_score, w_denoiser, w_loudness] = WEIGHTS;
    let known = w_score * score + w_loudness * loudness;
    match denoiser {
        Some(denoiser) => known + w_denoiser * denoiser,
        None => known / (w_score + w_loudness),
    }
}

/// How likely sound so far above the floor (1/256 dB) is a near voice: even odds at 9 dB, none at 3, all at 15.
fn loudness(above: i32) -> f32 {
    ((above - 3 * 256) as f32 / (12.0 * 256.0)).clamp(0.0, 1.0)
}

/// Within 0 to 1, whatever it was.
fn unit(value: f32) -> f32 {
    if value.is_nan() {
        0.0
    } else {
        value.clamp(0.0, 1.0)
    }
}

fn q15(value: f32) -> u16 {
    (unit(value) * f32::from(CERTAIN) + 0.5) as u16
}

fn cents(hertz: Option<f32>) -> u16 {
    hertz.map_or(0, |hertz| (1_200.0 * log2(hertz / 10.0) + 0.5) as u16)
}

#[cfg(test)]
mod tests;
