//! Signals to test with, and how to measure what became of them. Nothing of a call.

use std::f32::consts::PI;

use crate::audio::Rate;

/// A sine from phase 0: `hz`, and its peak.
#[must_use]
pub fn tone(rate: Rate, hz: f32, peak: f32, samples: usize) -> Vec<f32> {
    let step = f64::from(hz) / f64::from(rate.hz());
    (0..samples)
        .map(|index| {
            let turns = step * index as f64;
            peak * (2.0 * std::f64::consts::PI * turns.fract()).sin() as f32
        })
        .collect()
}

/// White noise between `-peak` and `peak`; the same for the same seed.
#[must_use]
pub fn noise(seed: u64, peak: f32, samples: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..samples)
        .map(|_| {
            // xorshift64* by Marsaglia and Vigna; 24 bits are what an f32 holds.
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            let bits = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40;
            peak * (bits as f32 / (1 << 23) as f32 - 1.0)
        })
        .collect()
}

/// Something like speech: pulses of a falling and rising pitch through three formants, in syllables of 250 ms with
/// true silence between each four. Peaks at up to 1.0.
#[must_use]
pub fn voice(rate: Rate, seed: u64, samples: usize) -> Vec<f32> {
    let hz = rate.hz() as f32;
    let breath = noise(seed, 0.02, samples);
    let mut formants = [(700.0, 110.0), (1_220.0, 120.0), (2_600.0, 160.0)]
        .map(|(centre, width)| Resonator::new(hz, centre, width));
    let mut phase = 0.0_f32;
    (0..samples)
        .map(|index| {
            let seconds = index as f32 / hz;
            let syllable = (seconds / 0.25) as u32;
            let within = (seconds / 0.25).fract();
            let pitch = 110.0 + 25.0 * (2.0 * PI * 0.7 * seconds).sin();
            phase += pitch / hz;
            let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
            phase = phase.fract();
            if syllable % 5 == 4 {
                return 0.0;
            }
            let loudness = (PI * within).sin();
            let source = (pulse + breath[index]) * loudness;
            let sum: f32 = formants.iter_mut().map(|f| f.next(source)).sum();
            sum.clamp(-1.0, 1.0)
        })
        .collect()
}

struct Resonator {
    gain: f32,
    a1: f32,
    a2: f32,
    y1: f32,
    y2: f32,
}

impl Resonator {
    fn new(rate_hz: f32, centre_hz: f32, width_hz: f32) -> Self {
        let radius = (-PI * width_hz / rate_hz).exp();
        Self {
            gain: 0.25,
            a1: 2.0 * radius * (2.0 * PI * centre_hz / rate_hz).cos(),
            a2: -radius * radius,
            y1: 0.0,
            y2: 0.0,
        }
    }

    fn next(&mut self, x: f32) -> f32 {
        let y = self.gain * x + self.a1 * self.y1 + self.a2 * self.y2;
        self.y2 = self.y1;
        self.y1 = y;
        y
    }
}

/// The root of the mean of squares.
#[must_use]
pub fn rms(samples: &[f32]) -> f32 {
    let sum: f64 = samples.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    (sum / samples.len().max(1) as f64).sqrt() as f32
}

/// The largest absolute value.
#[must_use]
pub fn peak(samples: &[f32]) -> f32 {
    samples.iter().fold(0.0, |peak, x| peak.max(x.abs()))
}

/// Decibels between the power of `wanted` and that of what `heard` has beside it.
#[must_use]
pub fn snr_db(wanted: &[f32], heard: &[f32]) -> f32 {
    let difference: Vec<f32> = wanted.iter().zip(heard).map(|(a, b)| a - b).collect();
    20.0 * (rms(wanted) / rms(&difference).max(1e-9)).log10()
}

/// By how many samples `heard` is later than `wanted`, up to `most`, as the largest correlation has it.
#[must_use]
pub fn lag(wanted: &[f32], heard: &[f32], most: usize) -> usize {
    let length = wanted.len().min(heard.len()).saturating_sub(most);
    let correlation = |lag: usize| -> f64 {
        let pairs = wanted[..length].iter().zip(&heard[lag..lag + length]);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    (0..=most)
        .max_by(|a, b| correlation(*a).total_cmp(&correlation(*b)))
        .unwrap_or(0)
}

/// Parts of a sine and a cosine of `hz` in it.
fn project(samples: &[f32], rate: Rate, hz: f32) -> (f32, f32) {
    let step = 2.0 * std::f64::consts::PI * f64::from(hz) / f64::from(rate.hz());
    let (mut sine, mut cosine) = (0.0, 0.0);
    for (index, sample) in samples.iter().enumerate() {
        let (sin, cos) = (step * index as f64).sin_cos();
        sine += sin * f64::from(*sample);
        cosine += cos * f64::from(*sample);
    }
    let scale = 2.0 / samples.len() as f64;
    ((sine * scale) as f32, (cosine * scale) as f32)
}

/// The phase of a tone in it: of `sin(2πft + phase)`, radians.
#[must_use]
pub fn phase(samples: &[f32], rate: Rate, hz: f32) -> f32 {
    let (sine, cosine) = project(samples, rate, hz);
    cosine.atan2(sine)
}

/// What is left when a tone of whole periods is taken out.
#[must_use]
pub fn without_tone(samples: &[f32], rate: Rate, hz: f32) -> Vec<f32> {
    let (sine, cosine) = project(samples, rate, hz);
    let step = 2.0 * std::f64::consts::PI * f64::from(hz) / f64::from(rate.hz());
    samples
        .iter()
        .enumerate()
        .map(|(index, sample)| {
            let (sin, cos) = (step * index as f64).sin_cos();
            sample - sine * sin as f32 - cosine * cos as f32
        })
        .collect()
}
