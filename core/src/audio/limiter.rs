//! A ceiling that nothing passes.

use crate::audio::smooth::{factor, keep};
use crate::audio::{AudioFrame, FRAME_SAMPLES_MAX, Rate, Stage};

/// Samples of the longest look-ahead: 5 ms.
const AHEAD_SAMPLES_MAX: usize = FRAME_SAMPLES_MAX / 2;
/// Places of the rings below: a power of two above that.
const PLACES: usize = 256;
/// A gain of 1.0 in the numbers that the mean is made of: whole ones, so that it never drifts.
const UNITY: u32 = 1 << 24;
/// Loudest sample that is told from others; beyond is no sound.
const LOUDEST: f32 = 1e4;

const _: () = assert!(PLACES > AHEAD_SAMPLES_MAX && PLACES.is_power_of_two());

/// Keeps all samples within a ceiling, by a gain that starts to fall before the peak comes.
///
/// ```text
///  samples ──┬──────────── delay of `ahead` samples ────────────┬──► × ──► out
///            └─► ceiling/peak ─► least of ahead + 1 ─► release ─► mean of ahead + 1
/// ```
///
/// The mean at the moment a sample leaves is of values that all had that sample in view, so it is no more than what the
/// sample needs. While nothing is above the ceiling, it only delays.
#[derive(Clone, Debug)]
pub struct Limiter {
    ceiling: f32,
    /// Samples of delay.
    ahead: usize,
    /// Part of the way back to 1.0 that is left after a sample.
    keep: f32,
    delayed: [[f32; PLACES]; 2],
    at: usize,
    /// Of the last `ahead + 1` samples, those whose gain is below all after them: number and gain.
    least: [(u64, f32); PLACES],
    first: usize,
    waiting: usize,
    number: u64,
    /// Gain after release.
    released: f32,
    /// The last `ahead + 1` of them, and their sum.
    means: [u32; PLACES],
    sum: u64,
    /// Samples since a gain below 1.0 went into `means`: none is left in it after [`PLACES`].
    calm: usize,
}

impl Limiter {
    /// For frames of `rate`: a ceiling in decibels of full scale, at most 0; a look-ahead of 1.5 to 5 ms, given in
    /// microseconds; and the seconds in which 63 % of the gain come back.
    #[must_use]
    pub fn new(rate: Rate, ceiling_db: f32, ahead_us: u32, release: f32) -> Self {
        let ahead = rate.hz() as usize * ahead_us.clamp(1_500, 5_000) as usize / 1_000_000;
        let mut limiter = Self {
            ceiling: factor(ceiling_db.min(0.0)),
            ahead,
            keep: keep(1.0 / rate.hz() as f32, release),
            delayed: [[0.0; PLACES]; 2],
            at: 0,
            least: [(0, 1.0); PLACES],
            first: 0,
            waiting: 0,
            number: 0,
            released: 1.0,
            means: [UNITY; PLACES],
            sum: 0,
            calm: 0,
        };
        limiter.reset();
        limiter
    }

    /// A ceiling of -1 dB, 2 ms ahead, back in 60 ms: after sums.
    #[must_use]
    pub fn standard(rate: Rate) -> Self {
        Self::new(rate, -1.0, 2_000, 0.060)
    }

    /// The ceiling: a factor.
    #[must_use]
    pub const fn ceiling(&self) -> f32 {
        self.ceiling
    }

    /// The gain for a sample of this peak coming in, as of now; called once a sample.
    fn gain(&mut self, peak: f32) -> f32 {
        let wanted = if peak > self.ceiling {
            self.ceiling / peak
        } else {
            1.0
        };
        self.number += 1;
        while self.waiting > 0 && self.least[self.place(self.waiting - 1)].1 >= wanted {
            self.waiting -= 1;
        }
        self.least[self.place(self.waiting)] = (self.number, wanted);
        self.waiting += 1;
        let (number, least) = self.least[self.first];
        if number + self.ahead as u64 == self.number {
            self.first = (self.first + 1) % PLACES;
            self.waiting -= 1;
        }
        let back = 1.0 - (1.0 - self.released) * self.keep;
        // A ten-thousandth is no gain, and the way back would never end.
        let back = if back > 0.9999 { 1.0 } else { back };
        self.released = least.min(back);
        let released = (self.released * UNITY as f32) as u32;
        let oldest = self.at.wrapping_sub(self.ahead + 1) % PLACES;
        self.sum = self.sum + u64::from(released) - u64::from(self.means[oldest]);
        self.means[self.at] = released;
        self.calm = if released == UNITY { self.calm + 1 } else { 0 };
        self.sum as f32 / ((self.ahead + 1) as f32 * UNITY as f32)
    }

    const fn place(&self, waiting: usize) -> usize {
        (self.first + waiting) % PLACES
    }

    /// Takes a frame through the delay alone.
    fn delay(&mut self, frame: &mut AudioFrame) {
        let samples = frame.rate().frame();
        for (channel, delayed) in frame.channels_mut().zip(&mut self.delayed) {
            for (index, sample) in channel.iter_mut().enumerate() {
                let at = (self.at + index) % PLACES;
                delayed[at] = *sample;
                *sample = delayed[at.wrapping_sub(self.ahead) % PLACES];
            }
        }
        self.at = (self.at + samples) % PLACES;
        // As if each had been looked at: nothing that waits is less than 1.0.
        self.number += samples as u64;
        self.waiting = 0;
    }
}

impl Stage for Limiter {
    fn process(&mut self, frame: &mut AudioFrame) {
        let mut loudest = 0.0_f32;
        for channel in frame.channels_mut() {
            for sample in channel {
                // Of NaN it makes the one, of infinities the other.
                *sample = if sample.is_nan() {
                    0.0
                } else {
                    sample.clamp(-LOUDEST, LOUDEST)
                };
                loudest = loudest.max(sample.abs());
            }
        }
        if loudest <= self.ceiling && self.calm >= PLACES {
            self.delay(frame);
            return;
        }
        let channels = frame.channels().count();
        for index in 0..frame.rate().frame() {
            let peaks = (0..channels).map(|channel| frame.channel(channel)[index].abs());
            let gain = self.gain(peaks.fold(0.0, f32::max));
            let out = self.at.wrapping_sub(self.ahead) % PLACES;
            for channel in 0..channels {
                let sample = &mut frame.channel_mut(channel)[index];
                self.delayed[channel][self.at] = *sample;
                // The gain suffices; what rounding adds is cut off.
                *sample = (self.delayed[channel][out] * gain).clamp(-self.ceiling, self.ceiling);
            }
            self.at = (self.at + 1) % PLACES;
        }
    }

    fn delay_samples(&self) -> u32 {
        self.ahead as u32
    }

    fn reset(&mut self) {
        self.delayed = [[0.0; PLACES]; 2];
        self.at = 0;
        self.first = 0;
        self.waiting = 0;
        self.number = 0;
        self.released = 1.0;
        self.means = [UNITY; PLACES];
        self.sum = (self.ahead as u64 + 1) * u64::from(UNITY);
        self.calm = PLACES;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audio::testing::process;
    use crate::audio::{Channels, signal};

    #[test]
    fn what_is_below_the_ceiling_is_only_delayed() {
        for rate in [Rate::Hz8000, Rate::Hz16000, Rate::Hz48000] {
            let mut limiter = Limiter::standard(rate);
            let input = signal::noise(1, 0.88, rate.frame() * 10);
            let output = process(&mut limiter, rate, &input);
            let delay = limiter.delay_samples() as usize;
            assert_eq!(delay, rate.hz() as usize / 500);
            assert_eq!(output[delay..], input[..input.len() - delay]);
        }
    }

    #[test]
    fn after_a_peak_the_gain_comes_back() {
        let rate = Rate::Hz48000;
        let mut limiter = Limiter::standard(rate);
        let mut input = signal::tone(rate, 1_000.0, 0.5, 48_000);
        input[4_800] = 4.0;
        let output = process(&mut limiter, rate, &input);
        let level = |at: usize| signal::peak(&output[at..at + 96]) / 0.5;
        assert!(
            (level(4_600) - 1.0).abs() < 1e-6,
            "nothing falls before the look-ahead"
        );
        assert!(level(4_850 + 96) < 0.5 && level(4_850 + 96) > 0.2);
        assert!(
            (level(4_800 + 2_880) - 0.72).abs() < 0.03,
            "{}",
            level(4_800 + 2_880)
        );
        assert!((level(47_000) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_peak_bends_the_sound_and_does_not_clip_it() {
        // A loud tone comes out as a tone: its third harmonic is 40 dB down, where clipping makes it 15 dB.
        let rate = Rate::Hz48000;
        let mut limiter = Limiter::standard(rate);
        let output = process(
            &mut limiter,
            rate,
            &signal::tone(rate, 1_000.0, 2.0, 48_000),
        );
        let settled = &output[24_000..];
        let rest = signal::rms(&signal::without_tone(settled, rate, 1_000.0));
        assert!(20.0 * (rest / signal::rms(settled)).log10() < -40.0);
        assert!((signal::peak(settled) / limiter.ceiling() - 1.0).abs() < 0.01);
    }

    proptest! {
        #[test]
        fn nothing_passes_the_ceiling(
            seed in any::<u64>(),
            gains in prop::collection::vec(
                prop_oneof![0.0..1.0_f32, 0.0..30.0_f32, Just(f32::INFINITY), Just(f32::NAN)],
                1..40,
            ),
            ahead_us in 0..10_000_u32,
            ceiling_db in -20.0..3.0_f32,
            rate in prop::sample::select(vec![Rate::Hz8000, Rate::Hz16000, Rate::Hz24000, Rate::Hz48000]),
            stereo in any::<bool>(),
        ) {
            let channels = if stereo { Channels::Stereo } else { Channels::Mono };
            let mut limiter = Limiter::new(rate, ceiling_db, ahead_us, 0.02);
            let noise = signal::noise(seed, 1.0, FRAME_SAMPLES_MAX);
            for gain in gains {
                let mut frame = AudioFrame::new(rate, channels);
                for channel in frame.channels_mut() {
                    for (sample, noise) in channel.iter_mut().zip(&noise) {
                        *sample = gain * noise;
                    }
                }
                limiter.process(&mut frame);
                for index in 0..channels.count() {
                    let ceiling = limiter.ceiling();
                    prop_assert!(frame.channel(index).iter().all(|x| x.abs() <= ceiling));
                }
            }
        }

        /// The gain alone suffices, but for rounding: what is cut off afterwards is nothing.
        #[test]
        fn the_gain_is_low_enough_before_the_peak_leaves(
            peaks in prop::collection::vec(prop_oneof![4 => 0.0..0.9_f32, 1 => 0.0..50.0_f32], 1..2_000),
        ) {
            let mut limiter = Limiter::standard(Rate::Hz16000);
            let mut gains = Vec::new();
            for peak in &peaks {
                gains.push(limiter.gain(*peak));
                limiter.at = (limiter.at + 1) % PLACES;
            }
            for (gain, peak) in gains[limiter.ahead.min(gains.len())..].iter().zip(&peaks) {
                prop_assert!(gain * peak <= limiter.ceiling() * 1.000_01);
            }
        }
    }
}
