//! How likely a pause is the end of a turn: log-odds from silence, melody and words, in integers.

use crate::voice::features::{CERTAIN, Features};
use crate::voice::message::{Ending, Hint};

/// One nat of evidence.
pub(super) const NAT: i32 = 1_024;

/// What the sound before a pause says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Melody {
    /// The last pitch relative to the speaker's median, in cents.
    pub(super) last: i32,
}

/// The pitch of one speaker: lately, and on the whole.
#[derive(Debug)]
pub(super) struct Contour {
    /// Pitch of the last frames, the youngest at `next - 1`; 0 where there was no voice.
    recent: [u16; RECENT],
    next: usize,
    /// How often each pitch was heard, in steps of half a semitone.
    counts: [u16; BINS],
    total: u32,
}

/// Frames of which the pitch is remembered: the last syllable or two.
const RECENT: usize = 48;
/// Half semitones of the range from 0 to 7,200 cents above 10 Hz.
const BINS: usize = 144;
const BIN_CENTS: u16 = 50;
/// Voiced frames by which a speaker's median is known.
const KNOWN: u32 = 25;
/// Voiced frames after which older ones count half: 10 s of voice, so that the median follows who takes the telephone.
const FORGET: u32 = 1_000;
/// Frames of one median at the end of a contour: 50 ms.
const LAST: usize = 5;

impl Contour {
    pub(super) const fn new() -> Self {
        Self {
            recent: [0; RECENT],
            next: 0,
            counts: [0; BINS],
            total: 0,
        }
    }

    /// Takes the pitch of one frame while somebody speaks.
    pub(super) fn note(&mut self, features: &Features) {
        self.recent[self.next] = features.pitch;
        self.next = (self.next + 1) % RECENT;
        if features.pitch == 0 {
            return;
        }
        let bin = usize::from(features.pitch / BIN_CENTS).min(BINS - 1);
        self.counts[bin] += 1;
        self.total += 1;
        if self.total >= FORGET {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().map(|count| u32::from(*count)).sum();
        }
    }

    /// What the contour up to now says, if there was enough voice.
    pub(super) fn melody(&self) -> Option<Melody> {
        let median = self.median()?;
        let back = (1..=RECENT).map(|back| self.recent[(self.next + RECENT - back) % RECENT]);
        let mut voiced = back.filter(|pitch| *pitch != 0);
        let mut last = [0; LAST];
        for pitch in &mut last {
            *pitch = i32::from(voiced.next()?);
        }
        last.sort_unstable();
        Some(Melody {
            last: last[LAST / 2] - median,
        })
    }

    /// The speaker's median in cents above 10 Hz.
    fn median(&self) -> Option<i32> {
        if self.total < KNOWN {
            return None;
        }
        let mut below = 0;
        let half = self.counts.iter().position(|count| {
            below += u32::from(*count);
            2 * below >= self.total
        })?;
        Some(half as i32 * i32::from(BIN_CENTS) + i32::from(BIN_CENTS) / 2)
    }
}

/// All that is known in a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Silence so far, in microseconds.
    pub(super) silence: u64,
    /// Voice of the turn so far, in microseconds.
    pub(super) voice: u64,
    /// Pauses within this person's turns as a rule, in microseconds; `None`: none yet.
    pub(super) habit: Option<u64>,
    /// What the sound before it says.
    pub(super) melody: Option<Melody>,
    /// What the words say.
    pub(super) hint: Option<Hint>,
    /// Probability that it is complete, of [`CERTAIN`], by a model of sound.
    pub(super) complete: Option<u16>,
}

impl Evidence {
    /// Whether it is more than silence.
    pub(super) const fn sighted(&self) -> bool {
        self.melody.is_some() || self.hint.is_some() || self.complete.is_some()
    }

    /// What a model says: one that knows the words, or else one that heard the sound.
    fn model(&self) -> Option<u16> {
        self.hint.and_then(|hint| hint.complete).or(self.complete)
    }

    /// Probability that the turn is over, of [`CERTAIN`].
    pub(super) fn probability(&self) -> u16 {
        let silence = log(self.silence, 400_000);
        let sum = BIAS
            + silence * 3 / 2
            + self.melody.map_or(0, Melody::odds)
            + self.hint.map_or(0, |hint| ending(hint.ending))
            + self.model().map_or(0, model)
            + self.habit.map_or(0, |habit| log(self.silence, habit) / 4)
            + if self.voice < SHORT && self.hint.is_none() {
                -NAT / 2
            } else {
                0
            };
        sigmoid(sum)
    }
}

/// Evidence of 400 ms of silence alone. With this, three halves of the logarithm and the odds of a melody, the presets
/// end statements after their least delay, and what goes on in its melody after 1.1, 1.4 and 2.1 s.
const BIAS: i32 = NAT / 10;
/// A turn with less voice is rather the beginning of one, in microseconds.
const SHORT: u64 = 400_000;

impl Melody {
    /// A fall to 2.5 semitones below the median ends statements; what stays within one goes on, or asks: the voices
    /// that this was tuned on made no difference between these that shows here.
    fn odds(self) -> i32 {
        (-(self.last + 160) * NAT * 12 / 1_000).clamp(-NAT * 12 / 10, NAT * 14 / 10)
    }
}

/// What a recogniser's words say.
const fn ending(ending: Ending) -> i32 {
    match ending {
        Ending::Unknown => 0,
        Ending::Period | Ending::Question => NAT * 3 / 2,
        Ending::Comma => -NAT * 7 / 10,
        Ending::Conjunction | Ending::Filler => -NAT * 2,
        Ending::Digits => -NAT * 4 / 5,
    }
}

/// A model's probability, as a line through even odds: three nats at certainty.
fn model(complete: u16) -> i32 {
    (i32::from(complete.min(CERTAIN)) - i32::from(CERTAIN / 2)) * 6 * NAT / i32::from(CERTAIN)
}

/// Natural logarithm of a ratio, within three thousandths of a nat; both are at least 1.
fn log(value: u64, unit: u64) -> i32 {
    (log2(value.max(1)) - log2(unit.max(1))) * 710 / 1_024
}

/// Logarithm to base 2 in 1/1,024, by a parabola between powers of two.
fn log2(value: u64) -> i32 {
    let power = value.ilog2();
    let rest = if power >= 10 {
        (value >> (power - 10)) as i32 - 1_024
    } else {
        ((value << (10 - power)) as i32) - 1_024
    };
    // log2(1 + x) is about x + 0.344 x (1 - x).
    power as i32 * 1_024 + rest + rest * (1_024 - rest) / 1_024 * 352 / 1_024
}

/// 1 / (1 + exp(-x)) of x nats, of [`CERTAIN`]: from a table in steps of a quarter, straight between them.
pub(super) fn sigmoid(nats: i32) -> u16 {
    const STEP: i32 = NAT / 4;
    const TABLE: [u16; 34] = [
        16_384, 18_421, 20_396, 22_255, 23_955, 25_470, 26_789, 27_916, 28_861, 29_643, 30_281,
        30_798, 31_213, 31_544, 31_807, 32_014, 32_178, 32_306, 32_407, 32_486, 32_548, 32_596,
        32_634, 32_663, 32_686, 32_704, 32_718, 32_729, 32_737, 32_744, 32_749, 32_753, 32_756,
        32_756,
    ];
    let size = nats.unsigned_abs().min(8 * NAT as u32) as i32;
    let (left, rest) = ((size / STEP) as usize, size % STEP);
    let (low, high) = (i32::from(TABLE[left]), i32::from(TABLE[left + 1]));
    let value = (low + (high - low) * rest / STEP) as u16;
    if nats < 0 { CERTAIN - value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: i32, nats: f64) {
        let found = f64::from(value) / f64::from(NAT);
        assert!((found - nats).abs() < 0.02, "{found}, not {nats}");
    }

    #[test]
    fn logarithms_and_odds_are_those_of_real_numbers() {
        for silence in [1_u64, 10_000, 160_000, 399_999, 400_000, 700_000, 5_000_000] {
            near(log(silence, 400_000), (silence as f64 / 400_000.0).ln());
        }
        for nats in [-9.0_f64, -2.3, -0.1, 0.0, 0.4, 1.7, 6.6] {
            let found = f64::from(sigmoid((nats * f64::from(NAT)) as i32)) / f64::from(CERTAIN);
            assert!(
                (found - 1.0 / (1.0 + (-nats).exp())).abs() < 0.004,
                "{nats}"
            );
        }
    }

    fn spoken(pitches: &[u16]) -> Contour {
        let mut contour = Contour::new();
        for pitch in pitches {
            contour.note(&Features {
                pitch: *pitch,
                ..Features::SILENCE
            });
        }
        contour
    }

    #[test]
    fn a_contour_is_measured_against_its_speaker() {
        let mut pitches = vec![4_325; 60];
        pitches.extend([0, 0, 0, 0]);
        pitches.extend([
            4_225, 4_200, 4_175, 4_150, 4_125, 4_100, 4_075, 4_050, 4_025, 4_000,
        ]);
        pitches.extend([0; 8]);
        let melody = spoken(&pitches).melody().expect("enough voice");
        assert_eq!(melody.last, -275);
        assert_eq!(spoken(&[4_000; 24]).melody(), None, "no median yet");
        assert_eq!(spoken(&[0; 100]).melody(), None);
    }

    #[test]
    fn the_median_follows_a_new_speaker() {
        let mut pitches = vec![3_600; 3_000];
        pitches.extend([4_800; 2_000]);
        assert_eq!(spoken(&pitches).median(), Some(4_825));
    }

    #[test]
    fn silence_falls_and_full_stops_make_an_end_likelier() {
        let plain = Evidence {
            silence: 400_000,
            voice: 1_000_000,
            habit: None,
            melody: None,
            hint: None,
            complete: None,
        };
        let longer = Evidence {
            silence: 800_000,
            ..plain
        };
        let melody = |last| Some(Melody { last });
        let fell = Evidence {
            melody: melody(-400),
            ..plain
        };
        let stayed = Evidence {
            melody: melody(0),
            ..plain
        };
        let hint = |ending| {
            Some(Hint {
                turn: crate::voice::message::TurnId(1),
                words: 3,
                backchannel: false,
                ending,
                complete: None,
            })
        };
        let stopped = Evidence {
            hint: hint(Ending::Period),
            ..plain
        };
        let filler = Evidence {
            hint: hint(Ending::Filler),
            ..plain
        };
        let short = Evidence {
            voice: 100_000,
            ..plain
        };
        let middle = plain.probability();
        assert!(
            [longer, fell, stopped]
                .iter()
                .all(|it| it.probability() > middle)
        );
        assert!(
            [stayed, filler, short]
                .iter()
                .all(|it| it.probability() < middle)
        );
    }
}
