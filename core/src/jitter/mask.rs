//! What is heard when there is nothing left to decode: the last sound fades, and the room's noise remains.

/// Gain of sound that is made up, at each 20 ms: one packet is hardly heard to be missing, five are.
const FADE: [f32; 6] = [1.0, 0.9, 0.7, 0.45, 0.2, 0.0];
/// The noise that is made up is no louder, however loud the quietest frame was: -50 dB.
const FLOOR_MAX: f32 = 0.003;
/// Below this it is not worth making up, and stages after it see true silence: -80 dB.
const FLOOR_MIN: f32 = 0.000_1;
/// How fast the level rises that counts as the quietest: threefold in a second.
const FLOOR_RISE: f32 = 1.01;

/// Fades what a decoder makes up into comfort noise.
#[derive(Debug)]
pub(super) struct Mask {
    /// Samples of 20 ms.
    step: usize,
    /// Samples made up since sound was decoded.
    position: usize,
    /// Root mean square of the quietest frames of late.
    floor: f32,
    /// State of the noise generator.
    noise: u32,
}

impl Mask {
    pub(super) const fn new(frame: usize) -> Self {
        Self {
            step: 2 * frame,
            position: usize::MAX,
            floor: 0.0,
            noise: 1,
        }
    }

    /// Nothing of the last sound is left.
    pub(super) const fn is_faded(&self) -> bool {
        self.position >= self.step * (FADE.len() - 1)
    }

    /// Sound was decoded: the next that is made up goes on from it.
    pub(super) fn note_sound(&mut self, samples: &[f32]) {
        let is_first = std::mem::take(&mut self.position) == usize::MAX;
        let level = level(samples);
        let risen = match is_first {
            true => FLOOR_MAX,
            false => (self.floor * FLOOR_RISE).clamp(FLOOR_MIN / 2.0, FLOOR_MAX),
        };
        // What is no number is no level.
        self.floor = if level < risen { level } else { risen };
    }

    /// Root mean square below which a frame is a pause between words.
    pub(super) fn quiet(&self) -> f32 {
        2.0 * self.floor.max(FLOOR_MIN)
    }

    /// Fades samples that a decoder made up, and mixes in noise.
    pub(super) fn fade(&mut self, samples: &mut [f32]) {
        for sample in samples {
            let gain = self.gain();
            *sample = *sample * gain + self.noise() * (1.0 - gain);
            self.position = self.position.saturating_add(1);
        }
    }

    fn gain(&self) -> f32 {
        let index = self.position / self.step;
        let (Some(from), Some(to)) = (FADE.get(index), FADE.get(index + 1)) else {
            return 0.0;
        };
        let within = (self.position % self.step) as f32 / self.step as f32;
        from + (to - from) * within
    }

    /// White noise at the floor: a linear congruential generator (Numerical Recipes), whose upper half is good enough.
    fn noise(&mut self) -> f32 {
        if self.floor < FLOOR_MIN {
            return 0.0;
        }
        self.noise = self
            .noise
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        let uniform = (self.noise >> 16) as f32 / 32_768.0 - 1.0;
        // The root mean square of what is even between -1 and 1 is the root of a third.
        uniform * self.floor * 1.732
    }
}

/// Root mean square.
pub(super) fn level(samples: &[f32]) -> f32 {
    let power = samples.iter().map(|x| x * x).sum::<f32>() / samples.len().max(1) as f32;
    power.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_fades_within_a_tenth_of_a_second_and_the_rooms_noise_stays() {
        let mut mask = Mask::new(160);
        for _ in 0..100 {
            mask.note_sound(&[0.001; 160]);
        }
        mask.note_sound(&[0.5; 160]);
        let mut levels = Vec::new();
        for _ in 0..20 {
            let mut frame = [0.5; 160];
            mask.fade(&mut frame);
            levels.push(level(&frame));
        }
        assert!(
            levels[0] > 0.47 && levels[4] < 0.36 && levels[9] < 0.06,
            "{levels:?}"
        );
        assert!(levels[..10].windows(2).all(|pair| pair[1] < pair[0]));
        assert!(mask.is_faded());
        assert!(
            levels[10..]
                .iter()
                .all(|level| (0.000_8..0.001_2).contains(level))
        );
    }

    #[test]
    fn before_the_first_sound_and_after_digital_silence_there_is_true_silence() {
        let mut mask = Mask::new(480);
        let mut frame = [1.0; 480];
        mask.fade(&mut frame);
        assert_eq!(frame, [0.0; 480]);
        for _ in 0..3 {
            mask.note_sound(&[0.0; 480]);
        }
        for _ in 0..11 {
            frame = [0.0; 480];
            mask.fade(&mut frame);
            assert_eq!(frame, [0.0; 480]);
        }
    }

    #[test]
    fn noise_follows_a_room_that_grows_louder_up_to_a_limit() {
        let mut mask = Mask::new(160);
        mask.note_sound(&[0.000_2; 160]);
        for _ in 0..1_000 {
            mask.note_sound(&[0.3; 160]);
        }
        assert_eq!(mask.quiet(), 2.0 * FLOOR_MAX);
        mask.note_sound(&[f32::NAN; 160]);
        assert_eq!(mask.quiet(), 2.0 * FLOOR_MAX);
    }
}
