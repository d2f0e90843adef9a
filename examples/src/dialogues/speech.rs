//! What espeak-ng says, at 16 kHz.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::f64::consts::PI;
use std::io;
use std::process::Command;

thread_local! {
    /// What was said before: scenes repeat it often.
    static SAID: RefCell<BTreeMap<String, Vec<f32>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Samples a second.
pub const RATE: usize = 16_000;

/// One of espeak-ng's voices.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    /// Language and variant.
    pub name: &'static str,
    /// Words a minute.
    pub speed: u16,
    /// 0 to 99.
    pub pitch: u8,
}

impl Voice {
    /// A text, without the silence before and after it, at −26 dB.
    ///
    /// # Errors
    /// espeak-ng is not there (package `espeak-ng`), or says nothing.
    pub fn say(&self, text: &str) -> io::Result<Vec<f32>> {
        let key = format!("{self:?} {text}");
        if let Some(said) = SAID.with_borrow(|said| said.get(&key).cloned()) {
            return Ok(said);
        }
        let samples = self.speak(text)?;
        SAID.with_borrow_mut(|said| said.insert(key, samples.clone()));
        Ok(samples)
    }

    fn speak(&self, text: &str) -> io::Result<Vec<f32>> {
        let output = Command::new("espeak-ng")
            .args([
                "-v",
                self.name,
                "-s",
                &self.speed.to_string(),
                "-p",
                &self.pitch.to_string(),
            ])
            .args(["--stdout", text])
            .output()
            .map_err(|error| io::Error::new(error.kind(), format!("espeak-ng: {error}")))?;
        let (rate, samples) = wav(&output.stdout)?;
        let mut samples = trim(&resample(&samples, rate));
        level(&mut samples, -26.0);
        Ok(samples)
    }
}

/// Rate and samples of a file as espeak-ng writes it: 16 bits, one channel, lengths that are not to be believed.
fn wav(bytes: &[u8]) -> io::Result<(usize, Vec<f32>)> {
    let broken = || io::Error::other("espeak-ng wrote no sound");
    let rate = bytes.get(24..28).and_then(|rate| rate.try_into().ok());
    let rate = rate.map(u32::from_le_bytes).ok_or_else(broken)?;
    let sound = bytes.get(44..).filter(|sound| !sound.is_empty());
    let pairs = sound.ok_or_else(broken)?.chunks_exact(2);
    let sample = |pair: &[u8]| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0;
    Ok((rate as usize, pairs.map(sample).collect()))
}

/// To 16 kHz, by a windowed sinc of 32 samples.
fn resample(samples: &[f32], rate: usize) -> Vec<f32> {
    let step = rate as f64 / RATE as f64;
    let cutoff = (1.0 / step).min(1.0) * 0.95;
    let value = |n: usize| {
        let centre = n as f64 * step;
        let first = (centre as usize).saturating_sub(15);
        let taps = samples.iter().skip(first).take(32).zip(first..);
        let sum: f64 = taps
            .map(|(sample, at)| {
                let x = at as f64 - centre;
                let sinc = if x.abs() < 1e-9 {
                    1.0
                } else {
                    (PI * x * cutoff).sin() / (PI * x * cutoff)
                };
                let window = 0.5 + 0.5 * (PI * (x / 17.0).clamp(-1.0, 1.0)).cos();
                f64::from(*sample) * sinc * cutoff * window
            })
            .sum();
        sum as f32
    };
    (0..(samples.len() as f64 / step) as usize)
        .map(value)
        .collect()
}

/// Without what is below 1 % of the peak at either end: its ends are those of what can be heard.
fn trim(samples: &[f32]) -> Vec<f32> {
    let peak = samples
        .iter()
        .fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
    let loud = |sample: &f32| sample.abs() > 0.01 * peak;
    let start = samples.iter().position(loud).unwrap_or(0);
    let end = samples.iter().rposition(loud).map_or(0, |last| last + 1);
    samples.get(start..end).unwrap_or_default().to_vec()
}

/// Scales to an effective value in dB.
pub fn level(samples: &mut [f32], decibels: f32) {
    let energy: f32 = samples.iter().map(|sample| sample * sample).sum();
    let effective = (energy / samples.len().max(1) as f32).sqrt().max(1e-9);
    let gain = 10.0_f32.powf(decibels / 20.0) / effective;
    samples.iter_mut().for_each(|sample| *sample *= gain);
}

/// Two parts of an utterance, cut where it is quietest within its middle third: between two words, most likely.
pub fn cut(samples: &[f32]) -> (Vec<f32>, Vec<f32>) {
    const WIDTH: usize = RATE / 50;
    let third = samples.len() / 3;
    let energy = |at: &usize| -> f32 {
        let window = &samples[*at..(at + WIDTH).min(samples.len())];
        window.iter().map(|sample| sample * sample).sum()
    };
    let places = (third..2 * third).step_by(WIDTH / 4);
    let at = places.min_by(|one, other| energy(one).total_cmp(&energy(other)));
    let at = at.unwrap_or(third) + WIDTH / 2;
    (trim(&samples[..at]), trim(&samples[at..]))
}
