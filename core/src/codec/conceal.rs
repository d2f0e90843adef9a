//! What likely came, for a codec that cannot say: the last pitch period again, softer and softer.
//!
//! In the manner of ITU-T G.711 Appendix I, without its delay: where the appendix smooths the sound before a gap, which
//! it has held back for 3.75 ms, here the first period starts where the sound left off and bends to its shape.

/// Samples a second.
const HZ: usize = 8_000;
/// Samples of 10 ms.
const FRAME: usize = HZ / 100;
/// Pitch periods looked for: 66 to 200 Hz, as the appendix has it.
const LAGS: std::ops::RangeInclusive<usize> = 40..=120;
/// Samples compared to find the period: 20 ms.
const COMPARED: usize = 160;
/// Periods repeated at most. One alone, over and over, would hum.
const PERIODS: usize = 3;
/// Sound remembered: the longest repeated piece, and a quarter period before it to blend its end with.
const REMEMBERED: usize = PERIODS * 120 + 30;
/// Samples at full loudness, and until nothing is left.
const LOUD: usize = FRAME;
const SILENT: usize = 6 * FRAME;
/// Longest cross-fade from what was made up to what came.
const FADE: usize = FRAME;

/// Fills gaps in sound of 8 kHz.
///
/// # Realtime safety
/// Nothing allocates.
#[derive(Clone, Debug)]
pub(super) struct Concealment {
    /// The last sound, made up or not.
    heard: [f32; REMEMBERED],
    /// What is repeated in the gap under way: `heard` when it began.
    before: [f32; REMEMBERED],
    lag: usize,
    /// How many periods are repeated now, and the place in them.
    periods: usize,
    at: usize,
    /// Samples made up in this gap; 0 outside.
    gap: usize,
    /// How far the sound before the gap lay from the period's start.
    step: f32,
}

impl Concealment {
    pub(super) const fn new() -> Self {
        Self {
            heard: [0.0; REMEMBERED],
            before: [0.0; REMEMBERED],
            lag: *LAGS.start(),
            periods: 1,
            at: 0,
            gap: 0,
            step: 0.0,
        }
    }

    /// Takes note of sound that came; after a gap, leads over to it.
    pub(super) fn note(&mut self, samples: &mut [f32]) {
        if self.gap > 0 {
            // The longer the gap, the farther the repeated period has drifted from the speaker's.
            let fade = (self.lag / 4 + self.gap * 4 / 10)
                .min(FADE)
                .min(samples.len());
            for (index, sample) in samples[..fade].iter_mut().enumerate() {
                let weight = (index + 1) as f32 / (fade + 1) as f32;
                *sample = weight * *sample + (1.0 - weight) * self.next();
            }
            self.gap = 0;
        }
        self.remember(samples);
    }

    /// Makes up what did not come.
    pub(super) fn fill(&mut self, out: &mut [f32]) {
        if self.gap == 0 {
            self.begin();
        }
        for sample in &mut *out {
            *sample = self.next();
        }
        self.remember(out);
    }

    fn begin(&mut self) {
        self.before = self.heard;
        self.lag = pitch_lag(&self.heard);
        self.periods = 1;
        self.at = 0;
        self.step = self.before[REMEMBERED - 1] - self.before[REMEMBERED - 1 - self.lag];
    }

    fn next(&mut self) -> f32 {
        let length = self.periods * self.lag;
        let quarter = self.lag / 4;
        let start = REMEMBERED - length;
        let mut sample = self.before[start + self.at];
        // The end of the piece turns into what came before its start, so that the start follows it smoothly.
        let left = length - self.at;
        if left <= quarter {
            let weight = left as f32 / (quarter + 1) as f32;
            sample = weight * sample + (1.0 - weight) * self.before[start - left];
        }
        if self.gap < quarter {
            sample += self.step * (quarter - self.gap) as f32 / quarter as f32;
        }
        let fading = self.gap.clamp(LOUD, SILENT) - LOUD;
        let gain = 1.0 - fading as f32 / (SILENT - LOUD) as f32;
        self.gap = self.gap.saturating_add(1);
        self.at += 1;
        if self.at == length {
            self.at = 0;
            self.periods = (1 + self.gap / FRAME).min(PERIODS);
        }
        sample * gain
    }

    fn remember(&mut self, samples: &[f32]) {
        if let Some(kept) = REMEMBERED.checked_sub(samples.len()) {
            self.heard.copy_within(samples.len().., 0);
            self.heard[kept..].copy_from_slice(samples);
        } else {
            self.heard
                .copy_from_slice(&samples[samples.len() - REMEMBERED..]);
        }
    }
}

/// The shift by which the last 20 ms are most like what came before, by correlation over the energy of the latter.
fn pitch_lag(heard: &[f32; REMEMBERED]) -> usize {
    let recent = &heard[REMEMBERED - COMPARED..];
    let (mut best, mut best_score) = (*LAGS.end(), 0.0);
    for lag in LAGS {
        let earlier = &heard[REMEMBERED - COMPARED - lag..REMEMBERED - lag];
        let (mut product, mut energy) = (0.0, 1e-6);
        for (a, b) in recent.iter().zip(earlier) {
            product += a * b;
            energy += b * b;
        }
        let score = product / f32::sqrt(energy);
        if score > best_score {
            (best, best_score) = (lag, score);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{Rate, signal};

    /// A tone with a gap of so many frames after half a second; and what was meant.
    fn with_gap(hz: f32, frames: usize) -> (Vec<f32>, Vec<f32>) {
        let wanted = signal::tone(Rate::Hz8000, hz, 0.5, HZ);
        let mut heard = wanted.clone();
        let mut concealment = Concealment::new();
        for (index, frame) in heard.chunks_mut(FRAME).enumerate() {
            if (50..50 + frames).contains(&index) {
                concealment.fill(frame);
            } else {
                concealment.note(frame);
            }
        }
        (wanted, heard)
    }

    #[test]
    fn a_periodic_sound_goes_on() {
        for hz in [80.0, 100.0, 125.0, 200.0, 400.0] {
            let (wanted, heard) = with_gap(hz, 1);
            let gap = 50 * FRAME..52 * FRAME;
            let snr = signal::snr_db(&wanted[gap.clone()], &heard[gap]);
            assert!(snr > 15.0, "{hz} Hz: {snr} dB");
        }
    }

    #[test]
    fn a_gap_fades_to_nothing_in_60_ms_and_leaves_nothing_behind() {
        let (wanted, heard) = with_gap(100.0, 10);
        let level = |frame: usize| signal::rms(&heard[frame * FRAME..(frame + 1) * FRAME]);
        for frame in 51..56 {
            assert!(level(frame) < level(frame - 1), "frame {frame}");
        }
        assert_eq!(level(56), 0.0);
        assert_eq!(heard[62 * FRAME..], wanted[62 * FRAME..]);
    }

    #[test]
    fn nothing_jumps() {
        for hz in [70.0, 110.0, 333.0] {
            for frames in [1, 2, 3, 5, 8] {
                let (wanted, heard) = with_gap(hz, frames);
                let steepest = |samples: &[f32]| {
                    let steps = samples.windows(2).map(|pair| (pair[1] - pair[0]).abs());
                    steps.fold(0.0, f32::max)
                };
                let (natural, ours) = (steepest(&wanted), steepest(&heard));
                assert!(ours < 1.6 * natural, "{hz} Hz, {frames}: {ours}, {natural}");
            }
        }
    }

    #[test]
    fn silence_stays_silent() {
        let mut concealment = Concealment::new();
        let mut frame = [1.0; FRAME];
        concealment.fill(&mut frame);
        assert_eq!(frame, [0.0; FRAME]);
    }
}
