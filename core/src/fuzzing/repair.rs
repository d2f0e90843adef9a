//! Sequence machinery against plain sets: what must happen at most once does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arbitrary::Arbitrary;

use super::ops::ops;
use crate::limits::{DROPOUT_MAX, NACK_INTERVAL_MIN, NACK_MISSING_MAX, NACK_TRIES_MAX};
use crate::repair::{Arrival, NackGenerator};
use crate::route::rewrite::{Rewriter, Rewritten, Source, Vp8Picture};
use crate::time::Timestamp;

/// Where numbers begin: far enough from zero to go back, and just before a wrap.
const START: u64 = 0x2_fff0;

/// A sequence number: mostly a little after the last, at times before it, or far.
#[derive(Arbitrary)]
struct Step {
    step: i8,
    far: u8,
}

impl Step {
    fn from(&self, highest: u64) -> u64 {
        let far = if self.far == 0 { 400 } else { 1 };
        highest.saturating_add_signed(i64::from(self.step) / 8 * far)
    }
}

#[derive(Arbitrary)]
enum NackOp {
    Packet(Step),
    Pass { millis: u8 },
    Ask { room: u8 },
    Keyframe,
}

/// Packets that come, are late, come twice and are asked for.
pub fn nack_ops(data: &[u8]) {
    let mut generator = NackGenerator::default();
    let mut now = Timestamp::ZERO;
    let mut highest = START;
    let mut seen = BTreeSet::new();
    let mut asked: BTreeMap<u16, (u8, Timestamp)> = BTreeMap::new();
    for op in ops(data) {
        match op {
            NackOp::Packet(step) => {
                let sequence = step.from(highest);
                let arrival = generator.note_received(now, sequence);
                let fresh = seen.insert(sequence);
                assert!(fresh || arrival == Arrival::Duplicate, "{sequence} twice");
                if arrival == Arrival::Recovered {
                    assert!(asked.contains_key(&(sequence as u16)), "{sequence} unasked");
                }
                highest = highest.max(sequence);
            }
            NackOp::Pass { millis } => now = now + Duration::from_millis(u64::from(millis)),
            NackOp::Ask { room } => {
                let mut out = [0; NACK_MISSING_MAX];
                let room = usize::from(room);
                let count = generator.poll(now, Duration::ZERO, &mut out[..room]);
                note_asked(now, &out[..room][..count], &seen, highest, &mut asked);
                if room > count {
                    // Not cut short: nothing more is due now.
                    assert_eq!(generator.poll(now, Duration::ZERO, &mut out), 0);
                    assert!(generator.deadline().is_none_or(|deadline| deadline > now));
                }
            }
            NackOp::Keyframe => {
                generator.note_keyframe(highest);
                assert!(!generator.needs_keyframe() || generator.deadline().is_none());
            }
        }
    }
    // Left alone, it asks for a while, gives up and falls silent.
    let mut out = [0; NACK_MISSING_MAX];
    for _ in 0..1 + NACK_MISSING_MAX * usize::from(NACK_TRIES_MAX) {
        let Some(deadline) = generator.deadline() else {
            return;
        };
        now = now.max(deadline);
        let count = generator.poll(now, Duration::ZERO, &mut out);
        note_asked(now, &out[..count], &seen, highest, &mut asked);
    }
    panic!("it never gives up");
}

fn note_asked(
    now: Timestamp,
    numbers: &[u16],
    seen: &BTreeSet<u64>,
    highest: u64,
    asked: &mut BTreeMap<u16, (u8, Timestamp)>,
) {
    let mut previous = None;
    for &number in numbers {
        let behind = (highest as u16).wrapping_sub(number);
        let sequence = highest - u64::from(behind);
        assert!(!seen.contains(&sequence), "{sequence} is here");
        assert!(
            previous.is_none_or(|previous| previous < sequence),
            "ascending"
        );
        previous = Some(sequence);
        let before = asked.get(&number);
        if let Some((_, at)) = before {
            assert!(now.since(*at) >= NACK_INTERVAL_MIN, "{sequence} too soon");
        }
        let tries = before.map_or(1, |(tries, _)| tries + 1);
        assert!(tries <= NACK_TRIES_MAX, "{sequence} too often");
        asked.insert(number, (tries, now));
    }
}

#[derive(Arbitrary)]
enum RewriteOp {
    Packet {
        step: Step,
        picture: u8,
    },
    Pass {
        millis: u16,
    },
    /// Another source follows, whose first number is this much from where all begin.
    Switch {
        ahead: u16,
    },
}

/// Sources that follow each other in one outgoing stream.
pub fn rewrite_ops(data: &[u8]) {
    let first = data.first().map_or(0, |byte| u16::from(*byte) << 7);
    let mut rewriter = Rewriter::new(90_000, first, 0);
    let mut now = Timestamp::ZERO;
    let mut highest = START;
    let mut sent = BTreeSet::new();
    // (sequence of the source, sequence sent) of the source since its switch.
    let mut current: Vec<(u64, u64)> = Vec::new();
    for op in ops(data.get(1..).unwrap_or_default()) {
        match op {
            RewriteOp::Packet { step, picture } => {
                let sequence = step.from(highest);
                let source = source(sequence, picture);
                let newest = sent.last().copied();
                let Some(rewritten) = rewriter.rewrite(now, source) else {
                    assert!(!current.is_empty(), "the first of a source is sent");
                    continue;
                };
                assert!(
                    sent.insert(rewritten.sequence),
                    "{} twice: a nonce under one key",
                    rewritten.sequence
                );
                match newest {
                    None => assert_eq!(rewritten.sequence, u64::from(first)),
                    Some(newest) if current.is_empty() => {
                        assert_eq!(rewritten.sequence, newest + 1, "no gap at a switch");
                    }
                    Some(newest) => assert!(rewritten.sequence <= newest + DROPOUT_MAX),
                }
                check_mapping(&rewriter, source, rewritten, &mut current);
                highest = highest.max(sequence);
            }
            RewriteOp::Pass { millis } => now = now + Duration::from_millis(u64::from(millis)),
            RewriteOp::Switch { ahead } => {
                rewriter.switch();
                current.clear();
                highest = START + u64::from(ahead);
            }
        }
    }
    for (source, outgoing) in current {
        assert!(sent.contains(&outgoing));
        if let Some(found) = rewriter.source_of(outgoing as u16) {
            assert_eq!(found as u16, source as u16);
        }
    }
}

fn source(sequence: u64, picture: u8) -> Source {
    Source {
        sequence,
        timestamp: (sequence as u32).wrapping_mul(3_000),
        picture: (picture & 1 == 1).then(|| Vp8Picture {
            picture_id: u16::from(picture) << 7,
            tl0picidx: picture,
        }),
    }
}

/// Within one source the distances of numbers are kept, and the way back leads to where it came from.
fn check_mapping(
    rewriter: &Rewriter,
    source: Source,
    rewritten: Rewritten,
    current: &mut Vec<(u64, u64)>,
) {
    // A jump is closed up as if the source had been switched.
    let highest = current.iter().map(|(sequence, _)| *sequence).max();
    if highest.is_some_and(|highest| source.sequence > highest.saturating_add(DROPOUT_MAX)) {
        current.clear();
    }
    if let Some((before, outgoing)) = current.first() {
        let here = source.sequence.wrapping_sub(*before);
        assert_eq!(rewritten.sequence.wrapping_sub(*outgoing), here);
    }
    current.push((source.sequence, rewritten.sequence));
    assert_eq!(rewritten.picture.is_some(), source.picture.is_some());
    assert_eq!(rewriter.numbers_of(source), Some(rewritten));
    let newest = current.iter().map(|(_, outgoing)| *outgoing).max();
    if newest == Some(rewritten.sequence) {
        let found = rewriter.source_of(rewritten.sequence as u16);
        assert_eq!(found, Some(source.sequence));
    }
}
