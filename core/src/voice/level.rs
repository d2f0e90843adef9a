//! How loud it is, and how loud when nobody speaks.

use crate::voice::features::ANALYSED_SAMPLES;
use crate::voice::pitch::Biquad;

/// Level and noise floor of one source, in 1/256 dB relative to full scale.
///
/// The floor is that of minimum statistics (Martin 2001): the least of the smoothed level over the last 1.5 s, for no
/// one speaks that long without a gap of 50 ms.
pub(super) struct Level {
    rumble: Biquad,
    /// The level, smoothed; `None` before the first frame.
    smoothed: Option<i32>,
    /// The least of each part of the window, the youngest at `part`.
    least: [i32; PARTS],
    part: usize,
    frames: u32,
}

/// Parts of the window: so many times in 1.5 s the oldest minimum is given up.
const PARTS: usize = 6;
/// Frames of one part: 250 ms.
const PART_FRAMES: u32 = 25;
/// The smoothed level is below the mean by so much in steady noise, in 1/256 dB: it is a minimum of many.
const BIAS: i32 = 3 * 128;

impl Level {
    /// Of digital silence: −120 dB, below the least step of 16-bit sound.
    pub(super) const SILENT: i16 = -120 * 256;
    /// No floor is below −75 dB: what a muted or gated microphone leaves would make every breath loud.
    pub(super) const FLOOR_LEAST: i16 = -75 * 256;

    pub(super) const fn new() -> Self {
        Self {
            rumble: Biquad::new(
                [0.975_318_4, -1.950_636_9, 0.975_318_4],
                [-1.950_027_6, 0.951_246_1],
            ),
            smoothed: None,
            least: [0; PARTS],
            part: 0,
            frames: 0,
        }
    }

    /// Level of a frame above 90 Hz, and the floor with it.
    pub(super) fn feed(&mut self, samples: &[f32; ANALYSED_SAMPLES]) -> (i16, i16) {
        let mut sum = 0.0;
        for sample in samples {
            let sample = self.rumble.step(*sample);
            sum += sample * sample;
        }
        self.rumble.settle();
        let level = decibels(sum / ANALYSED_SAMPLES as f32);
        if samples.iter().any(|sample| *sample != 0.0) {
            self.note(i32::from(level));
        }
        (level, self.floor())
    }

    pub(super) fn floor(&self) -> i16 {
        let least = self.least.iter().copied().min().unwrap_or(0) + BIAS;
        least.clamp(i32::from(Self::FLOOR_LEAST), 0) as i16
    }

    fn note(&mut self, level: i32) {
        let smoothed = self.smoothed.map_or(level, |old| old + (level - old) / 4);
        if self.smoothed.is_none() {
            self.least = [smoothed; PARTS];
        }
        self.smoothed = Some(smoothed);
        self.frames += 1;
        if self.frames == PART_FRAMES {
            self.frames = 0;
            self.part = (self.part + 1) % PARTS;
            self.least[self.part] = smoothed;
        }
        self.least[self.part] = self.least[self.part].min(smoothed);
    }
}

/// Mean square to 1/256 dB.
fn decibels(mean_square: f32) -> i16 {
    const PER_OCTAVE: f32 = 256.0 * 3.010_3;
    if mean_square <= 1e-12 {
        return Level::SILENT;
    }
    (PER_OCTAVE * log2(mean_square)) as i16
}

/// Logarithm to base 2 of a positive, normal number, within 2e-5: by the series of the inverse hyperbolic tangent, in
/// basic operations only, for those of the standard library differ by platform.
pub(super) fn log2(value: f32) -> f32 {
    let bits = value.to_bits();
    let exponent = (bits >> 23) as i32 - 127;
    let mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f80_0000);
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let square = t * t;
    let series = t * (1.0 + square * (1.0 / 3.0 + square * (0.2 + square / 7.0)));
    exponent as f32 + series * 2.0 * std::f32::consts::LOG2_E
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_those_of_the_library() {
        for value in [1e-12_f32, 0.3, 0.999, 1.0, 1.5, 1.999_9, 7.0, 60.0, 1e9] {
            assert!((log2(value) - value.log2()).abs() < 3e-5, "{value}");
        }
    }

    /// A frame of a square wave of 1 kHz: its level is its amplitude's.
    fn square(amplitude: f32) -> [f32; ANALYSED_SAMPLES] {
        std::array::from_fn(|n| if n % 16 < 8 { amplitude } else { -amplitude })
    }

    #[test]
    fn the_level_is_the_effective_value() {
        let mut level = Level::new();
        let mut last = 0;
        for _ in 0..50 {
            last = level.feed(&square(0.1)).0;
        }
        assert!((f32::from(last) / 256.0 + 20.0).abs() < 0.3, "{last}");
    }

    #[test]
    fn the_floor_falls_at_once_and_rises_within_two_seconds() {
        let mut level = Level::new();
        let mut feed = |amplitude: f32, frames: u32| {
            let mut floor = 0;
            for _ in 0..frames {
                floor = level.feed(&square(amplitude)).1;
            }
            f32::from(floor) / 256.0
        };
        assert!((feed(0.1, 100) + 18.5).abs() < 1.0);
        let quiet = feed(0.001, 30);
        assert!((quiet + 58.5).abs() < 1.0, "{quiet}");
        let still = feed(0.1, 100);
        assert!((still + 58.5).abs() < 1.0, "1 s of speech: {still}");
        assert!((feed(0.1, 80) + 18.5).abs() < 1.0);
    }
}
