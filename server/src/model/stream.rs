//! The sound of one call as networks take it: windows at 16 kHz, without a gap in them.

use std::collections::VecDeque;

use antiphon_core::audio::{Rate, Resampler};

use super::HZ;

/// The sound of one call.
#[derive(Debug)]
pub(super) struct Stream {
    rate: Rate,
    to_models: Resampler,
    /// The last of it, for whoever looks back.
    recent: VecDeque<f32>,
    recent_max: usize,
    /// When what came last ends, in microseconds of the call's clock.
    end: u64,
}

/// Sound that waits until it fills a window.
#[derive(Debug, Default)]
pub(super) struct Windows {
    waiting: Vec<f32>,
}

impl Stream {
    /// A stream at a rate that remembers so many samples of 16 kHz.
    pub(super) fn new(rate: Rate, recent_max: usize) -> Self {
        Self {
            rate,
            to_models: Resampler::new(rate, Rate::Hz16000),
            recent: VecDeque::with_capacity(recent_max),
            recent_max,
            end: 0,
        }
    }

    /// The rate of what comes in.
    pub(super) const fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes sound that began at `at`, whole frames of 16-bit samples. What it is at 16 kHz, and whether some is
    /// missing before it.
    pub(super) fn hear(&mut self, at: u64, pcm: &[u8]) -> (Vec<f32>, bool) {
        let (samples, _) = pcm.as_chunks::<2>();
        let float = |bytes: &[u8; 2]| f32::from(i16::from_le_bytes(*bytes)) / 32_768.0;
        let samples: Vec<f32> = samples.iter().map(float).collect();
        let frames = samples.len() / self.rate.frame() * self.rate.frame();
        let mut out = vec![0.0; self.to_models.output_samples(frames)];
        let gap = self.end.abs_diff(at) > GAP;
        if gap {
            self.to_models.reset();
            self.recent.clear();
        }
        self.to_models.process(&samples[..frames], &mut out);
        self.end = at + micros(out.len());
        self.recent.extend(&out);
        let over = self.recent.len().saturating_sub(self.recent_max);
        self.recent.drain(..over);
        (out, gap)
    }

    /// When what came last ends, in microseconds of the call's clock.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// The last `samples`, silence before those there are.
    pub(super) fn last(&self, samples: usize) -> Vec<f32> {
        let there = self.recent.len().min(samples);
        let mut last = vec![0.0; samples - there];
        last.extend(self.recent.iter().skip(self.recent.len() - there));
        last
    }
}

/// Sound is thought to be without a gap if it begins within so many microseconds of where it is expected.
const GAP: u64 = 1_000;

impl Windows {
    /// Adds sound.
    pub(super) fn push(&mut self, samples: &[f32]) {
        self.waiting.extend_from_slice(samples);
    }

    /// The next whole window.
    pub(super) fn next(&mut self, len: usize) -> Option<Vec<f32>> {
        (self.waiting.len() >= len).then(|| self.waiting.drain(..len).collect())
    }

    /// Samples that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

/// How long so many samples of 16 kHz last.
pub(super) const fn micros(samples: usize) -> u64 {
    samples as u64 * 1_000_000 / HZ as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pcm(samples: usize, value: i16) -> Vec<u8> {
        (0..samples).flat_map(|_| value.to_le_bytes()).collect()
    }

    #[test]
    fn a_gap_is_seen_and_what_was_before_it_forgotten() {
        let mut stream = Stream::new(Rate::Hz16000, 1_000);
        let (samples, gap) = stream.hear(5_000_000, &pcm(320, 16_384));
        assert!(gap && samples.iter().all(|it| (*it - 0.5).abs() < 1e-6));
        let (_, gap) = stream.hear(5_020_000, &pcm(320, 8_192));
        assert!(!gap);
        assert_eq!(stream.end(), 5_040_000);
        let last = stream.last(1_000);
        assert_eq!((last[0], last[360], last[999]), (0.0, 0.5, 0.25));
        let (_, gap) = stream.hear(5_100_000, &pcm(320, 0));
        assert!(gap);
        assert_eq!(stream.last(1_000).iter().sum::<f32>(), 0.0);
    }

    #[test]
    fn no_more_is_remembered_than_asked_for() {
        let mut stream = Stream::new(Rate::Hz48000, 160);
        for at in 0..100 {
            let (samples, _) = stream.hear(at * 20_000, &pcm(960, 1));
            assert_eq!(samples.len(), 320);
        }
        assert_eq!(stream.recent.len(), 160);
        // Half a frame more is left out rather than misread.
        assert_eq!(stream.hear(2_000_000, &pcm(961, 1)).0.len(), 320);
    }

    #[test]
    fn windows_are_whole() {
        let mut windows = Windows::default();
        windows.push(&[1.0; 5]);
        assert_eq!(windows.next(3), Some(vec![1.0; 3]));
        assert_eq!((windows.next(3), windows.len()), (None, 2));
        windows.clear();
        assert_eq!(windows.len(), 0);
    }
}
