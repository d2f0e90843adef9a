//! Where a sound repeats itself, so that a period can be left out or played twice without being heard.

use super::tape::Tape;

/// The search is coarse at about this many samples a second, then fine around what it found.
const COARSE_HZ: usize = 4_000;
/// Samples of the longest window at that rate.
const COARSE_MAX: usize = 130;

/// Periods that are looked for: 2.5 to 15 ms, the pitch of every voice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Periods {
    shortest: usize,
    longest: usize,
    /// Samples that make one coarse one.
    stride: usize,
}

impl Periods {
    /// For so many samples a second.
    pub(super) const fn new(hz: u32) -> Self {
        let hz = hz as usize;
        Self {
            shortest: hz / 400,
            longest: hz * 15 / 1_000,
            stride: hz / COARSE_HZ,
        }
    }

    /// Samples of the longest period.
    pub(super) const fn longest(&self) -> usize {
        self.longest
    }

    /// The period of the sound on both sides of each candidate's pivot, and how alike the two sides are.
    ///
    /// `pair(period)` gives the samples of one period and those of the next. Periods beyond `longest` are not tried.
    fn best<'a>(
        &self,
        longest: usize,
        pair: impl Fn(usize) -> (&'a [f32], &'a [f32]),
    ) -> Option<(usize, f32)> {
        let longest = longest.min(self.longest);
        let coarse = |period: usize| {
            let (one, other) = pair(period);
            let (mut left, mut right) = ([0.0; COARSE_MAX], [0.0; COARSE_MAX]);
            let left = thin(one, self.stride, &mut left);
            let right = thin(other, self.stride, &mut right);
            likeness(left, right)
        };
        let mut best = best_of((self.shortest..=longest).step_by(self.stride), coarse)?.0;
        best = best.clamp(self.shortest, longest);
        let near = best.saturating_sub(self.stride).max(self.shortest);
        let far = (best + self.stride).min(longest);
        best_of(near..=far, |period| {
            let (one, other) = pair(period);
            likeness(one, other)
        })
    }

    /// A period to leave out of what waits.
    pub(super) fn find_to_leave_out(&self, tape: &Tape) -> Option<(usize, f32)> {
        let (_, waiting) = tape.parts();
        self.best(waiting.len() / 2, |period| {
            waiting[..2 * period].split_at(period)
        })
    }

    /// A period to play twice: the last of what was handed out, followed by the first of what waits.
    pub(super) fn find_to_repeat(&self, tape: &Tape) -> Option<(usize, f32)> {
        let (before, waiting) = tape.parts();
        self.best(waiting.len().min(before.len()), |period| {
            (&before[before.len() - period..], &waiting[..period])
        })
    }

    /// The period of the sound before a seam, for going on with it.
    fn find_to_continue(&self, before: &[f32]) -> usize {
        self.best(before.len() / 2, |period| {
            before[before.len() - 2 * period..].split_at(period)
        })
        .map_or(self.shortest, |(period, _)| period)
    }

    /// Cross-fades the last `fresh` samples from what the sound before them would have gone on with.
    pub(super) fn merge(&self, tape: &mut Tape, fresh: usize) {
        let (before, after) = tape.seam(2 * self.longest, fresh);
        if before.len() < 2 * self.longest {
            return;
        }
        let period = self.find_to_continue(before);
        let length = after.len().min(2 * self.shortest);
        let last = &before[before.len() - period..];
        for (index, sample) in after[..length].iter_mut().enumerate() {
            let weight = (index as f32 + 0.5) / length as f32;
            *sample = last[index % period] * (1.0 - weight) + *sample * weight;
        }
    }
}

/// The longest of the candidates that are nearly as good as the best.
fn best_of(
    periods: impl Iterator<Item = usize>,
    likeness: impl Fn(usize) -> f32,
) -> Option<(usize, f32)> {
    let mut best: Option<(usize, f32)> = None;
    for period in periods {
        let found = likeness(period);
        if best.is_none_or(|(_, most)| found > most) {
            best = Some((period, found));
        }
    }
    best
}

/// Means of `stride` samples each.
fn thin<'a>(samples: &[f32], stride: usize, out: &'a mut [f32; COARSE_MAX]) -> &'a [f32] {
    let mut count = 0;
    for (group, mean) in samples.chunks_exact(stride).zip(out.iter_mut()) {
        *mean = group.iter().sum::<f32>() / stride as f32;
        count += 1;
    }
    &out[..count]
}

/// The normalised correlation of two sounds of one length: 1 if they are the same but for their level, 0 if either is
/// silent.
fn likeness(one: &[f32], other: &[f32]) -> f32 {
    let (mut product, mut left, mut right) = (0.0, 0.0, 0.0);
    for (a, b) in one.iter().zip(other) {
        product += a * b;
        left += a * a;
        right += b * b;
    }
    let scale = left * right;
    // Neither is what is no number like anything.
    if scale > 1e-20 && scale.is_finite() {
        product / scale.sqrt()
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Rate;
    use crate::rng::Seed;

    const RATES: [Rate; 4] = [Rate::Hz8000, Rate::Hz16000, Rate::Hz24000, Rate::Hz48000];

    /// 60 ms of a sound, of which half was handed out.
    fn tape(rate: Rate, mut sound: impl FnMut(usize) -> f32) -> Tape {
        let periods = Periods::new(rate.hz());
        let frame = rate.frame();
        let mut tape = Tape::new(2 * periods.longest(), periods.longest(), 18 * frame);
        for (index, sample) in tape.room(6 * frame).iter_mut().enumerate() {
            *sample = sound(index);
        }
        tape.commit(6 * frame);
        let mut out = vec![0.0; 3 * frame];
        tape.take(&mut out);
        tape
    }

    /// A pulse in each period, as of a voice.
    fn voice(period: usize) -> impl Fn(usize) -> f32 {
        move |index| {
            let phase = (index % period) as f32 / period as f32;
            0.3 * (1.0 - phase).powi(4) - 0.06
        }
    }

    #[test]
    fn the_period_of_a_voice_is_found_at_every_rate() {
        for rate in RATES {
            for micros in [2_500, 4_000, 6_250, 8_000, 12_500, 15_000] {
                let period = rate.hz() as usize * micros / 1_000_000;
                let tape = tape(rate, voice(period));
                let periods = Periods::new(rate.hz());
                for found in [
                    periods.find_to_leave_out(&tape),
                    periods.find_to_repeat(&tape),
                ] {
                    let (found, likeness) = found.expect("30 ms are enough");
                    let beside = found % period;
                    let beside = beside.min(period - beside);
                    assert!(beside <= 1, "{found} for {period} at {rate:?}");
                    assert!(likeness > 0.95, "{likeness} for {period} at {rate:?}");
                }
            }
        }
    }

    #[test]
    fn noise_and_silence_have_no_period_and_what_is_no_number_neither() {
        let mut rng = Seed::new([4; 32]).rng();
        let periods = Periods::new(16_000);
        let noise = tape(Rate::Hz16000, |_| rng.below(2_000) as f32 / 1_000.0 - 1.0);
        let (_, likeness) = periods.find_to_leave_out(&noise).expect("a candidate");
        assert!(likeness < 0.6, "{likeness}");
        for sound in [0.0, f32::NAN, f32::INFINITY, 1e30] {
            let tape = tape(Rate::Hz16000, |_| sound);
            let (_, likeness) = periods.find_to_repeat(&tape).expect("a candidate");
            assert_eq!(likeness, 0.0, "{sound}");
        }
    }

    #[test]
    fn too_little_sound_has_no_candidate() {
        let periods = Periods::new(16_000);
        let mut tape = Tape::new(480, 240, 3_000);
        tape.room(30).fill(0.1);
        tape.commit(30);
        assert_eq!(periods.find_to_repeat(&tape), None);
        assert_eq!(periods.find_to_leave_out(&tape), None);
    }

    #[test]
    fn a_seam_has_no_step() {
        for rate in RATES {
            let periods = Periods::new(rate.hz());
            let period = rate.hz() as usize / 150;
            let sound = |index: usize| {
                let phase = (index % period) as f32 / period as f32;
                1.2 * phase * (1.0 - phase) - 0.2
            };
            let mut tape = tape(rate, sound);
            // The sound goes on a quarter of a period later.
            let fresh = 2 * rate.frame();
            let skip = rate.hz() as usize / 600;
            for (index, sample) in tape.room(fresh).iter_mut().enumerate() {
                *sample = sound(6 * rate.frame() + skip + index) * 0.5;
            }
            tape.commit(fresh);
            periods.merge(&mut tape, fresh);
            let (_, waiting) = tape.parts();
            let seam = waiting.len() - fresh;
            let step = (waiting[seam] - waiting[seam - 1]).abs();
            assert!(step < 0.06, "{step} at {rate:?}");
            // Behind the cross-fade it is what was decoded.
            let behind = 2 * rate.hz() as usize / 400;
            let expected = sound(6 * rate.frame() + skip + behind) * 0.5;
            assert_eq!(waiting[seam + behind], expected);
        }
    }
}
