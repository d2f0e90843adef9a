//! Many voices into one, for each listener without its own.

use crate::audio::chain::make_finite;
use crate::audio::smooth::{keep, sound};
use crate::audio::{AudioFrame, Channels, FRAME_SAMPLES_MAX, Limiter, Rate, Stage};

/// Voices heard at a time, if nothing else is asked for: more are noise.
pub const VOICES: usize = 4;

/// A source outside is heard when its power is this much above that of the softest inside: 3 dB.
const LOUDER: f32 = 2.0;
/// Frames for which a source that is heard stays so: 200 ms, a syllable.
const STAY_FRAMES: u32 = 20;
/// Power of a source that may be heard at all: -70 dB.
const FAINT: f32 = 1e-7;
/// Seconds in which the level of a source rises, and falls.
const RISE: f32 = 0.020;
const FALL: f32 = 0.300;

/// Which of a mixer's sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceIndex(usize);

/// One source, which listens as well.
#[derive(Clone, Debug)]
struct Source {
    /// What it says in this frame; after [`Mixer::mix`], what it gives to the sum.
    samples: [f32; FRAME_SAMPLES_MAX],
    /// Whether it says something in the coming frame, and whether it did in the one that was mixed.
    pushed: bool,
    spoke: bool,
    /// Mean power, rising fast and falling slowly.
    power: f32,
    /// As set.
    volume: f32,
    /// What the last sample was multiplied by: 0 when it is not heard.
    gain: f32,
    /// Frames for which it is surely heard; `None`: it is not.
    heard: Option<u32>,
    limiter: Limiter,
}

impl Source {
    fn new(rate: Rate) -> Self {
        Self {
            samples: [0.0; FRAME_SAMPLES_MAX],
            pushed: false,
            spoke: false,
            power: 0.0,
            volume: 1.0,
            gain: 0.0,
            heard: None,
            limiter: Limiter::standard(rate),
        }
    }

    /// Whether it gives something to the sum of this frame.
    fn sounds(&self) -> bool {
        self.spoke && (self.gain != 0.0 || self.heard.is_some())
    }
}

/// Mixes the loudest of its sources. Each frame: [`Self::push`] what each source says, [`Self::mix`], then
/// [`Self::output`] for each listener, before anything is pushed for the next.
///
/// ```text
///  source ─► volume, 10 ms ramps ─► loudest few ─┬─► sum ─┬─► − own ─► limiter ─► that listener
///                                                └────────┼─► − own ─► …
///                                                         └──────────► limiter ─► who only listens
/// ```
///
/// One sum serves all, whoever listens: 5 µs for 100 sources. Every listener hears 2 ms later, by its limiter.
///
/// # Realtime safety
/// Nothing allocates after it is made, adding sources included.
#[derive(Debug)]
pub struct Mixer {
    rate: Rate,
    voices: usize,
    sources: Box<[Option<Source>]>,
    sum: [f32; FRAME_SAMPLES_MAX],
    limiter: Limiter,
    rise: f32,
    fall: f32,
}

impl Mixer {
    /// A mixer of at most so many sources, of which so many are heard at a time.
    #[must_use]
    pub fn new(rate: Rate, sources: usize, voices: usize) -> Self {
        Self {
            rate,
            voices,
            sources: vec![None; sources].into_boxed_slice(),
            sum: [0.0; FRAME_SAMPLES_MAX],
            limiter: Limiter::standard(rate),
            rise: keep(0.010, RISE),
            fall: keep(0.010, FALL),
        }
    }

    /// Takes a source in; `None`: there is no place.
    pub fn add(&mut self) -> Option<SourceIndex> {
        let index = self.sources.iter().position(Option::is_none)?;
        self.sources[index] = Some(Source::new(self.rate));
        Some(SourceIndex(index))
    }

    /// Lets a source go. It is no longer heard from the next frame on.
    pub fn remove(&mut self, source: SourceIndex) {
        self.sources[source.0] = None;
    }

    /// Makes a source louder or softer, 0 to 4, over the next frame.
    pub fn set_volume(&mut self, source: SourceIndex, volume: f32) {
        if let Some(source) = &mut self.sources[source.0]
            && volume.is_finite()
        {
            source.volume = volume.clamp(0.0, 4.0);
        }
    }

    /// Whether a source was heard in the last frame.
    #[must_use]
    pub fn is_heard(&self, source: SourceIndex) -> bool {
        self.sources[source.0]
            .as_ref()
            .is_some_and(|source| source.heard.is_some())
    }

    /// What a source says in the coming frame; the first channel counts. A source that pushes nothing is silent.
    ///
    /// # Panics
    /// If the frame has another rate than the mixer.
    pub fn push(&mut self, source: SourceIndex, frame: &AudioFrame) {
        assert_eq!(frame.rate(), self.rate, "a mixer has one rate");
        if let Some(source) = &mut self.sources[source.0]
            && !frame.is_silent()
        {
            let samples = &mut source.samples[..self.rate.frame()];
            samples.copy_from_slice(frame.channel(0));
            make_finite(samples);
            source.pushed = true;
        }
    }

    /// Adds up the loudest of what was pushed.
    pub fn mix(&mut self) {
        self.follow_levels();
        self.decide_heard();
        let length = self.rate.frame();
        self.sum[..length].fill(0.0);
        for source in self.sources.iter_mut().flatten() {
            let target = if source.heard.is_some() {
                source.volume
            } else {
                0.0
            };
            if source.sounds() {
                let step = (target - source.gain) / length as f32;
                let samples = &mut source.samples[..length];
                for (index, (sample, sum)) in samples.iter_mut().zip(&mut self.sum).enumerate() {
                    *sample *= source.gain + step * (index + 1) as f32;
                    *sum += *sample;
                }
            } else {
                source.spoke = false;
            }
            source.gain = target;
        }
    }

    /// What a listener hears: everybody but itself; `None` listens only. Once for each frame and listener.
    pub fn output(&mut self, listener: Option<SourceIndex>, out: &mut AudioFrame) {
        *out = AudioFrame::new(self.rate, Channels::Mono);
        let samples = out.channel_mut(0);
        samples.copy_from_slice(&self.sum[..samples.len()]);
        let Some(SourceIndex(index)) = listener else {
            self.limiter.process(out);
            return;
        };
        if let Some(source) = &mut self.sources[index] {
            if source.spoke {
                for (sample, own) in samples.iter_mut().zip(&source.samples) {
                    *sample -= own;
                }
            }
            source.limiter.process(out);
        }
    }

    fn follow_levels(&mut self) {
        for source in self.sources.iter_mut().flatten() {
            source.spoke = std::mem::take(&mut source.pushed);
            let power = if source.spoke {
                let samples = &source.samples[..self.rate.frame()];
                let sum: f32 = samples.iter().map(|x| x * x).sum();
                sum / samples.len() as f32 * source.volume * source.volume
            } else {
                0.0
            };
            let keep = if power > source.power {
                self.rise
            } else {
                self.fall
            };
            source.power = sound(power + (source.power - power) * keep);
        }
    }

    /// Free places go to the loudest; a taken one changes hands only to who is clearly louder.
    fn decide_heard(&mut self) {
        let mut heard = 0;
        for source in self.sources.iter_mut().flatten() {
            if let Some(stay) = &mut source.heard {
                *stay = stay.saturating_sub(1);
                if *stay == 0 && source.power < FAINT {
                    source.heard = None;
                } else {
                    heard += 1;
                }
            }
        }
        // At most one change of hands a voice and frame, so that this ends.
        for _ in 0..self.voices {
            let Some((loudest, power)) = self.extreme(|source| source.heard.is_none(), 1.0) else {
                return;
            };
            if power < FAINT {
                return;
            }
            if heard < self.voices {
                heard += 1;
            } else {
                let Some((softest, least)) = self.extreme(|source| source.heard == Some(0), -1.0)
                else {
                    return;
                };
                if power < least * LOUDER {
                    return;
                }
                self.set_heard(softest, None);
            }
            self.set_heard(loudest, Some(STAY_FRAMES));
        }
    }

    /// The loudest (or, with sign -1, softest) source of a kind, the first of equals; and its power.
    fn extreme(&self, is_of_kind: impl Fn(&Source) -> bool, sign: f32) -> Option<(usize, f32)> {
        let mut found: Option<(usize, f32)> = None;
        for (index, source) in self.sources.iter().enumerate() {
            let Some(source) = source.as_ref().filter(|source| is_of_kind(source)) else {
                continue;
            };
            if found.is_none_or(|(_, power)| sign * source.power > sign * power) {
                found = Some((index, source.power));
            }
        }
        found
    }

    fn set_heard(&mut self, index: usize, heard: Option<u32>) {
        if let Some(source) = &mut self.sources[index] {
            source.heard = heard;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audio::signal;

    const RATE: Rate = Rate::Hz48000;
    const FRAME: usize = RATE.frame();

    fn frame_of(samples: &[f32]) -> AudioFrame {
        let mut frame = AudioFrame::new(RATE, Channels::Mono);
        frame.channel_mut(0).copy_from_slice(samples);
        frame
    }

    /// Each voice in frames, through a mixer; what each of them hears, then who only listens.
    fn mix(mixer: &mut Mixer, indices: &[SourceIndex], voices: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let mut heard = vec![Vec::new(); voices.len() + 1];
        let mut out = AudioFrame::new(RATE, Channels::Mono);
        for start in (0..voices[0].len()).step_by(FRAME) {
            for (index, voice) in indices.iter().zip(voices) {
                mixer.push(*index, &frame_of(&voice[start..start + FRAME]));
            }
            mixer.mix();
            let listeners = indices.iter().map(|index| Some(*index)).chain([None]);
            for (listener, heard) in listeners.zip(&mut heard) {
                mixer.output(listener, &mut out);
                heard.extend_from_slice(out.channel(0));
            }
        }
        heard
    }

    fn mixer(sources: usize) -> (Mixer, Vec<SourceIndex>) {
        let mut mixer = Mixer::new(RATE, sources, VOICES);
        let indices = (0..sources)
            .map(|_| mixer.add().expect("a place"))
            .collect();
        (mixer, indices)
    }

    #[test]
    fn everybody_hears_all_but_themselves() {
        let (mut mixer, indices) = mixer(3);
        let voices = [300.0, 500.0, 700.0].map(|hz| signal::tone(RATE, hz, 0.2, 48_000));
        let heard = mix(&mut mixer, &indices, &voices);
        let delay = Limiter::standard(RATE).delay_samples() as usize;
        for (listener, heard) in heard.iter().enumerate() {
            let wanted: Vec<f32> = (0..48_000 - delay)
                .map(|at| {
                    let others = voices
                        .iter()
                        .enumerate()
                        .filter(|(index, _)| *index != listener);
                    others.map(|(_, voice)| voice[at]).sum()
                })
                .collect();
            let snr = signal::snr_db(&wanted[FRAME..], &heard[FRAME + delay..]);
            assert!(snr > 100.0, "{listener}: {snr} dB");
        }
    }

    #[test]
    fn a_lone_speaker_hears_exact_silence() {
        let (mut mixer, indices) = mixer(2);
        let voices = [signal::voice(RATE, 1, 48_000), vec![0.0; 48_000]];
        let heard = mix(&mut mixer, &indices, &voices);
        assert_eq!(signal::peak(&heard[0]), 0.0);
        assert!(signal::peak(&heard[1]) > 0.1);
        assert_eq!(heard[1], heard[2]);
    }

    #[test]
    fn the_loudest_are_heard_and_a_little_more_does_not_take_a_place() {
        let (mut mixer, indices) = mixer(6);
        let tones = |peaks: [f32; 6]| peaks.map(|peak| signal::tone(RATE, 440.0, peak, 48_000));
        let heard = |mixer: &Mixer| -> Vec<bool> {
            indices.iter().map(|index| mixer.is_heard(*index)).collect()
        };
        mix(
            &mut mixer,
            &indices,
            &tones([0.1, 0.1, 0.05, 0.1, 0.1, 0.05]),
        );
        assert_eq!(heard(&mixer), [true, true, false, true, true, false]);
        // 2 dB more than those inside is not enough, 4 dB is: for one place.
        mix(
            &mut mixer,
            &indices,
            &tones([0.1, 0.1, 0.126, 0.1, 0.1, 0.126]),
        );
        assert_eq!(heard(&mixer), [true, true, false, true, true, false]);
        mix(
            &mut mixer,
            &indices,
            &tones([0.1, 0.2, 0.126, 0.2, 0.2, 0.16]),
        );
        assert_eq!(heard(&mixer), [false, true, false, true, true, true]);
        // Who falls silent makes room.
        mix(
            &mut mixer,
            &indices,
            &tones([0.0, 0.0, 0.01, 0.0, 0.0, 0.16]),
        );
        let silence = tones([0.0, 0.0, 0.01, 0.0, 0.0, 0.16]);
        for _ in 0..5 {
            mix(&mut mixer, &indices, &silence);
        }
        assert_eq!(heard(&mixer), [false, false, true, false, false, true]);
    }

    #[test]
    fn coming_going_and_volume_take_10_ms() {
        let (mut mixer, indices) = mixer(1);
        let one = vec![vec![0.5; 2 * FRAME]];
        let delay = Limiter::standard(RATE).delay_samples() as usize;
        let heard = mix(&mut mixer, &indices, &one).remove(1);
        assert!(heard[delay] < 0.01 && (heard[delay + FRAME / 2] - 0.25).abs() < 0.01);
        assert_eq!(heard[delay + FRAME], 0.5);
        mixer.set_volume(indices[0], 0.5);
        mixer.set_volume(indices[0], f32::NAN);
        let heard = mix(&mut mixer, &indices, &one).remove(1);
        let steepest = heard.windows(2).map(|pair| (pair[1] - pair[0]).abs());
        assert!(steepest.fold(0.0, f32::max) < 0.002);
        assert_eq!(heard[2 * FRAME - 1], 0.25);
    }

    #[test]
    fn loud_voices_together_stay_below_the_ceiling() {
        let (mut mixer, indices) = mixer(4);
        let voices = [1, 2, 3, 4].map(|seed| signal::noise(seed, 1.0, 48_000));
        for heard in mix(&mut mixer, &indices, &voices) {
            assert!(signal::peak(&heard) <= Limiter::standard(RATE).ceiling());
            assert!(signal::rms(&heard) > 0.2);
        }
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let (mut mixer, indices) = mixer(2);
        assert_eq!(mixer.add(), None);
        mixer.remove(indices[0]);
        assert!(!mixer.is_heard(indices[0]));
        assert_eq!(mixer.add(), Some(indices[0]));
    }

    proptest! {
        #[test]
        fn never_more_voices_than_asked_for_and_never_above_the_ceiling(
            steps in prop::collection::vec(
                (0..8_usize, prop_oneof![0.0..3.0_f32, Just(f32::NAN), Just(f32::INFINITY)], 0..4_u8),
                1..200,
            ),
        ) {
            let mut mixer = Mixer::new(RATE, 8, 3);
            let mut present = [None; 8];
            let mut out = AudioFrame::new(RATE, Channels::Mono);
            let noise = signal::noise(1, 1.0, FRAME);
            for (place, level, what) in steps {
                match (what, present[place]) {
                    (0, None) => present[place] = mixer.add(),
                    (1, Some(index)) => {
                        mixer.remove(index);
                        present[place] = None;
                    }
                    (2, Some(index)) => mixer.set_volume(index, level),
                    _ => {}
                }
                    for index in present.into_iter().flatten() {
                    let mut frame = frame_of(&noise);
                    frame.channel_mut(0).iter_mut().for_each(|x| *x *= level * (index.0 + 1) as f32);
                    mixer.push(index, &frame);
                }
                mixer.mix();
                let heard = present.iter().flatten().filter(|index| mixer.is_heard(**index)).count();
                prop_assert!(heard <= 3);
                for listener in present.iter().filter(|index| index.is_some()).chain([&None]) {
                    mixer.output(*listener, &mut out);
                    prop_assert!(out.channel(0).iter().all(|x| x.abs() <= mixer.limiter.ceiling()));
                }
            }
        }
    }
}
