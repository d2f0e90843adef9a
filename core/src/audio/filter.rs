//! Filters of second order: a high-pass, and an equaliser of five bands.

use std::f64::consts::PI;

use crate::audio::smooth::{Smoothed, sound};
use crate::audio::{AudioFrame, Rate, Stage};

/// Samples after which states are looked at: few enough that a state above 1e-20 does not fall below 1e-38 between.
const LOOKED_AT: usize = 32;

/// Coefficients of one section, its leading one made 1 (Bristow-Johnson, "Audio EQ Cookbook").
#[derive(Clone, Copy, Debug, PartialEq)]
struct Section {
    b0: f32,
    b1: f32,
    b2: f32,
    a1: f32,
    a2: f32,
}

/// What a section does about its frequency.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    HighPass,
    LowShelf(f32),
    Peak(f32),
    HighShelf(f32),
}

impl Section {
    fn new(rate: Rate, shape: Shape, hz: f32, q: f32) -> Self {
        let nyquist = f64::from(rate.hz()) / 2.0;
        // A band beyond what the rate can hold acts at its edge.
        let angle = PI * (f64::from(hz) / nyquist).min(0.95);
        let (sin, cos) = angle.sin_cos();
        let alpha = sin / (2.0 * f64::from(q));
        let amplitude = |db: f32| 10.0_f64.powf(f64::from(db) / 40.0);
        let shelf = |db: f32, sign: f64| {
            let a = amplitude(db);
            let root = 2.0 * a.sqrt() * alpha;
            let (sum, difference) = (a + 1.0, a - 1.0);
            let c = sign * cos;
            [
                a * (sum - difference * c + root),
                sign * 2.0 * a * (difference - sum * c),
                a * (sum - difference * c - root),
                sum + difference * c + root,
                sign * -2.0 * (difference + sum * c),
                sum + difference * c - root,
            ]
        };
        let [b0, b1, b2, a0, a1, a2] = match shape {
            Shape::HighPass => {
                let half = f64::midpoint(1.0, cos);
                [
                    half,
                    -2.0 * half,
                    half,
                    1.0 + alpha,
                    -2.0 * cos,
                    1.0 - alpha,
                ]
            }
            Shape::Peak(db) => {
                let a = amplitude(db);
                let (up, down) = (alpha * a, alpha / a);
                [
                    1.0 + up,
                    -2.0 * cos,
                    1.0 - up,
                    1.0 + down,
                    -2.0 * cos,
                    1.0 - down,
                ]
            }
            Shape::LowShelf(db) => shelf(db, 1.0),
            Shape::HighShelf(db) => shelf(db, -1.0),
        };
        let scaled = |coefficient: f64| (coefficient / a0) as f32;
        Self {
            b0: scaled(b0),
            b1: scaled(b1),
            b2: scaled(b2),
            a1: scaled(a1),
            a2: scaled(a2),
        }
    }
}

/// Sections in a row, each in transposed direct form II, for two channels.
#[derive(Clone, Debug)]
struct Cascade<const N: usize> {
    sections: [Section; N],
    states: [[(f32, f32); N]; 2],
}

impl<const N: usize> Cascade<N> {
    const fn new(sections: [Section; N]) -> Self {
        Self {
            sections,
            states: [[(0.0, 0.0); N]; 2],
        }
    }

    fn process(&mut self, frame: &mut AudioFrame) {
        for (channel, states) in frame.channels_mut().zip(&mut self.states) {
            for samples in channel.chunks_mut(LOOKED_AT) {
                // Sample by sample through all sections: they overlap in the processor, which passes would not.
                for sample in samples {
                    let mut x = *sample;
                    for (section, (z1, z2)) in self.sections.iter().zip(&mut *states) {
                        let y = section.b0 * x + *z1;
                        *z1 = section.b1 * x - section.a1 * y + *z2;
                        *z2 = section.b2 * x - section.a2 * y;
                        x = y;
                    }
                    *sample = x;
                }
                for (z1, z2) in &mut *states {
                    (*z1, *z2) = (sound(*z1), sound(*z2));
                }
            }
        }
    }

    const fn reset(&mut self) {
        self.states = [[(0.0, 0.0); N]; 2];
    }
}

/// Takes away what is below speech: 12 dB an octave from 80 Hz.
#[derive(Clone, Debug)]
pub struct HighPass(Cascade<1>);

impl HighPass {
    /// Hertz at which 3 dB are gone.
    pub const CORNER_HZ: f32 = 80.0;

    /// For frames of `rate`.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let butterworth = std::f32::consts::FRAC_1_SQRT_2;
        let section = Section::new(rate, Shape::HighPass, Self::CORNER_HZ, butterworth);
        Self(Cascade::new([section]))
    }
}

impl Stage for HighPass {
    fn process(&mut self, frame: &mut AudioFrame) {
        self.0.process(frame);
    }

    fn reset(&mut self) {
        self.0.reset();
    }
}

/// One band of an [`Equaliser`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    /// Its middle, or a shelf's corner: hertz.
    pub hz: f32,
    /// How much louder, decibels, -24 to 24.
    pub gain_db: f32,
    /// How narrow: 0.3 to 10.
    pub q: f32,
}

/// Five bands: a low shelf, three peaks, a high shelf. Gains glide to new values within 50 ms.
#[derive(Clone, Debug)]
pub struct Equaliser {
    rate: Rate,
    bands: [Band; 5],
    gains: [Smoothed; 5],
    cascade: Cascade<5>,
}

impl Equaliser {
    /// For frames of `rate`.
    #[must_use]
    pub fn new(rate: Rate, bands: [Band; 5]) -> Self {
        let bands = bands.map(Self::allowed);
        let gains = bands.map(|band| Smoothed::new(band.gain_db, 0.010, 0.015));
        let sections = std::array::from_fn(|index| Self::section(rate, index, bands[index]));
        Self {
            rate,
            bands,
            gains,
            cascade: Cascade::new(sections),
        }
    }

    /// Makes a band louder or softer, from 0 to 4; others do not exist and are ignored.
    pub fn set_gain(&mut self, band: usize, gain_db: f32) {
        if let Some(gain) = self.gains.get_mut(band) {
            gain.set(gain_db.clamp(-24.0, 24.0));
        }
    }

    const fn allowed(band: Band) -> Band {
        Band {
            hz: band.hz.clamp(20.0, 20_000.0),
            gain_db: band.gain_db.clamp(-24.0, 24.0),
            q: band.q.clamp(0.3, 10.0),
        }
    }

    fn section(rate: Rate, index: usize, band: Band) -> Section {
        let shape = match index {
            0 => Shape::LowShelf(band.gain_db),
            4 => Shape::HighShelf(band.gain_db),
            _ => Shape::Peak(band.gain_db),
        };
        Section::new(rate, shape, band.hz, band.q)
    }
}

impl Stage for Equaliser {
    fn process(&mut self, frame: &mut AudioFrame) {
        for (index, gain) in self.gains.iter_mut().enumerate() {
            if !gain.is_settled() {
                self.bands[index].gain_db = gain.step();
                self.cascade.sections[index] = Self::section(self.rate, index, self.bands[index]);
            }
        }
        self.cascade.process(frame);
    }

    fn reset(&mut self) {
        self.cascade.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::testing::{gain_db, process};
    use crate::audio::{Channels, signal};

    fn flat() -> [Band; 5] {
        [100.0, 300.0, 1_000.0, 3_000.0, 6_000.0].map(|hz| Band {
            hz,
            gain_db: 0.0,
            q: 0.7,
        })
    }

    #[test]
    fn the_high_pass_takes_what_is_below_speech() {
        for rate in [Rate::Hz8000, Rate::Hz16000, Rate::Hz48000] {
            let gain = |hz| gain_db(&mut HighPass::new(rate), rate, hz);
            assert!((gain(80.0) + 3.0).abs() < 0.2, "{}", gain(80.0));
            assert!((gain(40.0) + 12.3).abs() < 0.4, "{}", gain(40.0));
            assert!(gain(20.0) < -23.0);
            assert!(gain(250.0).abs() < 0.2 && gain(3_000.0).abs() < 0.05);
        }
    }

    #[test]
    fn bands_have_the_gain_that_is_asked_for() {
        for (band, hz) in [
            (0, 20.0),
            (1, 300.0),
            (2, 1_000.0),
            (3, 3_000.0),
            (4, 20_000.0),
        ] {
            for wanted in [-12.0, 6.0] {
                let mut bands = flat();
                bands[band].gain_db = wanted;
                let gain = gain_db(&mut Equaliser::new(Rate::Hz48000, bands), Rate::Hz48000, hz);
                assert!((gain - wanted).abs() < 0.6, "{band}: {gain}, {wanted}");
            }
        }
        let gain = gain_db(
            &mut Equaliser::new(Rate::Hz48000, flat()),
            Rate::Hz48000,
            777.0,
        );
        assert!(gain.abs() < 0.01);
    }

    #[test]
    fn a_gain_glides() {
        let mut equaliser = Equaliser::new(Rate::Hz48000, flat());
        equaliser.set_gain(2, 12.0);
        equaliser.set_gain(7, 12.0);
        let input = signal::tone(Rate::Hz48000, 1_000.0, 0.1, 48_000);
        let output = process(&mut equaliser, Rate::Hz48000, &input);
        let level = |ms: usize| signal::rms(&output[48 * ms..48 * (ms + 10)]) / signal::rms(&input);
        assert!(level(0) < 2.0 && level(20) > 2.5);
        assert!((level(100) - 3.98).abs() < 0.1, "{}", level(100));
    }

    #[test]
    fn what_is_not_finite_is_gone_with_the_frame() {
        let mut equaliser = Equaliser::new(Rate::Hz48000, flat());
        let mut frame = AudioFrame::new(Rate::Hz48000, Channels::Stereo);
        frame.channel_mut(0)[3] = f32::NAN;
        frame.channel_mut(1)[400] = f32::INFINITY;
        equaliser.process(&mut frame);
        let mut frame = AudioFrame::new(Rate::Hz48000, Channels::Stereo);
        equaliser.process(&mut frame);
        assert!(frame.is_silent());
    }
}
