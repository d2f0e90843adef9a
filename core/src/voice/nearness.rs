//! Whether a sound is loud enough to be the person's.

use crate::voice::features::{CERTAIN, Features};

/// Follows the level of the nearest voice, in 1/256 dB.
#[derive(Debug, Default)]
pub(super) struct Nearness {
    /// Of its loud parts; `None` before the first.
    own: Option<i32>,
    /// Of the last frames: a consonant is no silence.
    recent: [i16; RECENT],
    next: usize,
}

/// Frames of which the loudest counts: 40 ms.
const RECENT: usize = 4;
/// Only where a voice stands out from the room by so much is what is near the room's level no voice: it is what earshot
/// keeps on for 60 ms after the last sound. In noise the same cut into words: at 10 dB 46 % of pauses were taken for
/// ends, and 30 % are without it.
const STANDS_OUT: i32 = 30 * 256;
/// Of the way from the room's level to the person's, what may be a voice is beyond the first part of so many.
const PARTS: i32 = 4;
/// A voice so far below the person's own interrupts as well: people speak up and down.
const FULL: i32 = 10 * 256;
/// A voice so far below it does not: what is left of an echo, or somebody further off.
const NONE: i32 = 25 * 256;

impl Nearness {
    /// Takes a frame: whether it may be the person.
    pub(super) fn near(&mut self, features: &Features) -> bool {
        self.recent[self.next] = features.level;
        self.next = (self.next + 1) % RECENT;
        let Some(own) = self.own else { return true };
        let range = own - i32::from(features.floor);
        let level = self.recent.iter().copied().max().unwrap_or(features.level);
        range < STANDS_OUT || i32::from(level) - i32::from(features.floor) >= range / PARTS
    }

    /// Takes a frame in which somebody speaks. The level rises in 150 ms, and falls in 5 s of voice: the loudest is the
    /// nearest, until it is silent for long.
    pub(super) fn learn(&mut self, features: &Features) {
        let level = i32::from(features.level);
        self.own = Some(self.own.map_or(level, |own| {
            let (up, down) = (16, 512);
            own + (level - own) / if level > own { up } else { down }
        }));
    }

    /// How much a frame counts when the agent speaks, of [`CERTAIN`].
    pub(super) fn gain(&self, features: &Features) -> i64 {
        let below = self.own.map_or(0, |own| own - i32::from(features.level));
        let left = (NONE - below).clamp(0, NONE - FULL);
        i64::from(CERTAIN) * i64::from(left) / i64::from(NONE - FULL)
    }
}
