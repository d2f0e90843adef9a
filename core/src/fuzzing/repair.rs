//! Sequence machinery against plain sets: what must happen at most once does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::script::Script;
use crate::limits::{DROPOUT_MAX, NACK_INTERVAL_MIN, NACK_MISSING_MAX, NACK_TRIES_MAX};
use crate::repair::{Arrival, NackGenerator};
use crate::route::rewrite::{Rewriter, Rewritten, Source, Vp8Picture};
use crate::time::Timestamp;

/// Where numbers begin: far enough from zero to go back, and just before a wrap.
const START: u64 = 0x2_fff0;

/// Packets that come, are late, come twice and are asked for.
pub fn nack_ops(data: &[u8]) {
    let mut script = Script::new(data);
    let mut generator = NackGenerator::default();
    let mut now = Timestamp::ZERO;
    let mut highest = START;
    let mut seen = BTreeSet::new();
    let mut asked: BTreeMap<u16, (u8, Timestamp)> = BTreeMap::new();
    while !script.is_empty() {
        match script.u8() % 4 {
            0 => {
                // Mostly forward by little; at times back, or far.
                let step = i64::from(script.u8().cast_signed()) / 8;
                let far = if script.u8() == 0 { 400 } else { 1 };
                let sequence = highest.saturating_add_signed(step * far);
                let arrival = generator.note_received(now, sequence);
                let fresh = seen.insert(sequence);
                assert!(fresh || arrival == Arrival::Duplicate, "{sequence} twice");
                if arrival == Arrival::Recovered {
                    assert!(asked.contains_key(&(sequence as u16)), "{sequence} unasked");
                }
                highest = highest.max(sequence);
            }
            1 => now = now + Duration::from_millis(u64::from(script.u8())),
            2 => {
                let mut out = [0; NACK_MISSING_MAX];
                let room = usize::from(script.u8());
                let count = generator.poll(now, Duration::ZERO, &mut out[..room]);
                note_asked(now, &out[..room][..count], &seen, highest, &mut asked);
                if room > count {
                    // Not cut short: nothing more is due now.
                    assert_eq!(generator.poll(now, Duration::ZERO, &mut out), 0);
                    assert!(generator.deadline().is_none_or(|deadline| deadline > now));
                }
            }
            _ => {
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

/// Sources that follow each other in one outgoing stream.
pub fn rewrite_ops(data: &[u8]) {
    let mut script = Script::new(data);
    let first = script.u16() & 0x7fff;
    let mut rewriter = Rewriter::new(90_000, first, 0);
    let mut now = Timestamp::ZERO;
    let mut highest = START;
    let mut sent = BTreeSet::new();
    // (sequence of the source, sequence sent) of the source since its switch.
    let mut current: Vec<(u64, u64)> = Vec::new();
    while !script.is_empty() {
        match script.u8() % 4 {
            0 | 1 => {
                let step = i64::from(script.u8().cast_signed()) / 8;
                let far = if script.u8() == 0 { 400 } else { 1 };
                let sequence = highest.saturating_add_signed(step * far);
                let source = source(sequence, script.u8());
                let Some(rewritten) = rewriter.rewrite(now, source) else {
                    continue;
                };
                assert!(
                    sent.insert(rewritten.sequence),
                    "{} twice: a nonce under one key",
                    rewritten.sequence
                );
                assert!(rewritten.sequence >= u64::from(first));
                check_mapping(&rewriter, source, rewritten, &mut current);
                highest = highest.max(sequence);
            }
            2 => now = now + Duration::from_millis(u64::from(script.u16())),
            _ => {
                rewriter.switch();
                current.clear();
                highest = START + u64::from(script.u16());
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
