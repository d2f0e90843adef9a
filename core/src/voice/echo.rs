//! Whether what is heard is what the agent says: by levels, for peers that cancel no echo or not all of it.
//!
//! The level of what is heard is correlated with that of what was played, at every delay up to 640 ms. Where they go
//! together there is an echo path, with a delay and a loss; then a frame that is no louder than the path explains is
//! likely an echo, and one that is clearly louder is not.

use crate::voice::features::{ANALYSED_SAMPLES, CERTAIN, Features};
use crate::voice::level::Level;

/// Estimates the likelihood of echo, frame by frame.
///
/// # Realtime safety
/// Nothing allocates; about 1 KiB. Decisions are integers' but for the level of what is played.
pub struct EchoGuard {
    level: Level,
    /// Levels of what was played, in 1/16 dB, the youngest at `next - 1`.
    played: [i32; LAGS],
    next: usize,
    /// Frames since the agent was last heard to play.
    silent: u32,
    played_mean: i64,
    heard_mean: i64,
    played_power: i64,
    heard_power: i64,
    /// Covariance at each delay.
    together: [i64; LAGS],
    /// Level of the echo relative to what was played, in 1/16 dB; `None`: no path is known.
    loss: Option<i32>,
    /// Frames since the path was last seen.
    unseen: u32,
    /// The delay that was seen last, and for how many frames in a row.
    steady: (usize, u32),
}

/// Delays looked at, in frames: the playout delay of a browser, the network both ways, our jitter buffer.
const LAGS: usize = 64;
/// Memory of means and powers: 2^7 frames, 1.3 s.
const MEMORY: u32 = 7;
/// Fraction bits of means.
const FRACTION: u32 = 8;
/// Levels below are silence, in 1/16 dB.
const LEAST: i32 = -60 * 16;
/// Played sound below says nothing of the path.
const AUDIBLE: i32 = -45 * 16;
/// Correlation of a path, of 100: two voices that know nothing of each other reach 60 now and then, at the best of all
/// delays.
const PATH: i64 = 80;
/// A path that was not seen for so many frames is forgotten: 3 s of speech over an echo hide it as well.
const FORGOTTEN: u32 = 300;
/// Frames in a row in which a path must be seen at one delay, give or take one, before it is believed.
const STEADY: u32 = 40;
/// Powers below are of sound that does not move: 3 dB.
const MOVES: i64 = (3 * 16) * (3 * 16);
/// What exceeds the expected echo by less is an echo, and by more than the second is none.
const WITHIN: [i32; 2] = [4 * 16, 10 * 16];
/// A room's echo dies away by at least so much a frame: 60 dB in 800 ms.
const DECAY: i32 = 12;

impl EchoGuard {
    /// One that knows no path.
    #[must_use]
    pub fn new() -> Self {
        Self {
            level: Level::new(),
            played: [LEAST; LAGS],
            next: 0,
            silent: LAGS as u32,
            played_mean: i64::from(LEAST) << FRACTION,
            heard_mean: i64::from(LEAST) << FRACTION,
            played_power: 0,
            heard_power: 0,
            together: [0; LAGS],
            loss: None,
            unseen: 0,
            steady: (0, 0),
        }
    }

    /// Takes the 10 ms that the agent says now, at 16 kHz; `None`: nothing.
    pub fn handle_played(&mut self, samples: Option<&[f32; ANALYSED_SAMPLES]>) {
        let level = samples.map_or(LEAST, |samples| i32::from(self.level.feed(samples).0) / 16);
        let level = level.clamp(LEAST, 0);
        self.silent = if level > AUDIBLE {
            0
        } else {
            self.silent.saturating_add(1)
        };
        self.played[self.next] = level;
        self.next = (self.next + 1) % LAGS;
    }

    /// The likelihood that a frame, heard in the same 10 ms, is an echo, of [`CERTAIN`].
    pub fn echo(&mut self, heard: &Features) -> u16 {
        if self.silent >= LAGS as u32 {
            return 0;
        }
        let level = (i32::from(heard.level) / 16).clamp(LEAST, 0);
        if !heard.concealed {
            self.learn(level);
        }
        let Some(loss) = self.loss else { return 0 };
        let Some((delay, _)) = self.path() else {
            return 0;
        };
        // The path's delay is known to a frame or two, and its reverberation trails.
        let expected = (delay.saturating_sub(2)..LAGS)
            .map(|back| {
                let trail = back.saturating_sub(delay + 2) as i32 * DECAY;
                self.played_before(back) + loss - trail
            })
            .max()
            .unwrap_or(LEAST);
        let [sure, none] = WITHIN;
        let excess = (level - expected - sure).clamp(0, none - sure);
        (i32::from(CERTAIN) - i32::from(CERTAIN) * excess / (none - sure)) as u16
    }

    fn played_before(&self, back: usize) -> i32 {
        self.played[(self.next + 2 * LAGS - 1 - back) % LAGS]
    }

    fn learn(&mut self, heard: i32) {
        let mean = |mean: &mut i64, level: i32| {
            *mean += ((i64::from(level) << FRACTION) - *mean) >> MEMORY;
            i64::from(level) - (*mean >> FRACTION)
        };
        let now = self.played_before(0);
        let played = mean(&mut self.played_mean, now);
        let heard_moves = mean(&mut self.heard_mean, heard);
        let forget =
            |value: &mut i64, product: i64| *value += ((product << FRACTION) - *value) >> MEMORY;
        forget(&mut self.played_power, played * played);
        forget(&mut self.heard_power, heard_moves * heard_moves);
        for back in 0..LAGS {
            let moved = i64::from(self.played_before(back)) - (self.played_mean >> FRACTION);
            forget(&mut self.together[back], moved * heard_moves);
        }
        match self.path() {
            Some((delay, true)) if self.is_steady(delay) && self.played_before(delay) > AUDIBLE => {
                let now = heard - self.played_before(delay);
                let loss = self.loss.unwrap_or(now);
                // A person who speaks too would make it seem louder: up slowly, down at once.
                self.loss = Some(loss + (now - loss) / if now > loss { 32 } else { 4 });
            }
            Some((_, true)) => {}
            _ => {
                self.steady.1 = 0;
                self.unseen = self.unseen.saturating_add(1);
                if self.unseen > FORGOTTEN {
                    self.loss = None;
                }
                return;
            }
        }
        self.unseen = 0;
    }

    fn is_steady(&mut self, delay: usize) -> bool {
        let (last, frames) = self.steady;
        let same = last.abs_diff(delay) <= 1;
        self.steady = (delay, if same { frames.saturating_add(1) } else { 0 });
        self.steady.1 >= STEADY
    }

    /// The delay at which both go together best, in frames, and whether they do by now.
    fn path(&self) -> Option<(usize, bool)> {
        let (delay, together) = self
            .together
            .iter()
            .enumerate()
            .max_by_key(|(_, value)| **value)?;
        let moves = self.played_power.min(self.heard_power) >> FRACTION >= MOVES;
        let powers = i128::from(self.played_power) * i128::from(self.heard_power);
        let squared = i128::from(*together) * i128::from(*together);
        let correlated = *together > 0 && squared * 10_000 >= powers * i128::from(PATH * PATH);
        Some((delay, moves && correlated))
    }
}

impl Default for EchoGuard {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for EchoGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EchoGuard")
            .field("loss", &self.loss)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How loud a voice is at that time: syllables of 80 to 250 ms, no two alike, and gaps.
    fn syllable(frame: usize, seed: u64) -> f32 {
        let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut roll = |bound: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            (dice >> 32) % bound
        };
        let mut start = 0;
        loop {
            let (length, loud, gap) = (8 + roll(18) as usize, roll(1_000), roll(10) as usize);
            if frame < start + length {
                let shape = 1.0 - (frame - start) as f32 / (length + 2) as f32;
                return 0.3 * shape * (loud as f32 / 1_000.0).powi(2);
            }
            if frame < start + length + gap {
                return 0.0;
            }
            start += length + gap;
        }
    }

    fn sound(amplitude: f32) -> [f32; ANALYSED_SAMPLES] {
        std::array::from_fn(|n| amplitude * (n as f32 * 0.4).sin())
    }

    /// Likelihoods of what `heard` gives for each frame while the agent speaks for 8 s.
    fn guard(heard: impl Fn(usize) -> f32) -> Vec<u16> {
        let mut guard = EchoGuard::new();
        let mut ear = Level::new();
        let step = |frame| {
            guard.handle_played(Some(&sound(syllable(frame, 1))));
            let level = ear.feed(&sound(heard(frame) + 1e-3)).0;
            guard.echo(&Features {
                level,
                ..Features::SILENCE
            })
        };
        (0..800).map(step).collect()
    }

    #[test]
    fn an_echo_is_found_at_every_delay() {
        for delay in [2, 8, 20, 40, 60] {
            let echo = |frame: usize| 0.1 * syllable(frame.saturating_sub(delay), 1);
            let found = guard(echo);
            let sure = found[300..]
                .iter()
                .filter(|likely| **likely > 24_000)
                .count();
            assert!(sure > 400, "{sure} of 500 at {delay} frames");
        }
    }

    #[test]
    fn another_voice_is_none() {
        let found = guard(|frame| syllable(frame, 2));
        let sure = found.iter().filter(|likely| **likely > 16_000).count();
        assert!(sure < 80, "{sure} of 800");
    }

    #[test]
    fn a_voice_over_an_echo_is_none_where_it_is_louder() {
        let echo = |frame: usize| 0.1 * syllable(frame.saturating_sub(20), 1);
        let found = guard(|frame| echo(frame) + if frame > 500 { 0.2 } else { 0.0 });
        let sure = found[501..]
            .iter()
            .filter(|likely| **likely > 16_000)
            .count();
        assert!(sure < 30, "{sure} of 300");
    }

    #[test]
    fn nothing_played_is_no_echo() {
        let mut guard = EchoGuard::new();
        for _ in 0..200 {
            guard.handle_played(None);
            let loud = Features {
                level: -2_000,
                ..Features::SILENCE
            };
            assert_eq!(guard.echo(&loud), 0);
        }
    }
}
