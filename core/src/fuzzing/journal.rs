//! Journals that somebody else wrote.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::ids::{ParticipantId, RoomId};
use crate::journal::{
    Chunk, EndReason, Entry, Kept, Payloads, Player, Reader, Record, Retention, Ring, Sink, Taken,
    Turns, begin, bisect, put, redact, resound,
};
use crate::message::Role;
use crate::rng::Seed;
use crate::sim::link::Impairment;
use crate::sim::peer::{PeerSpec, ScriptedPeer, Speech};
use crate::sim::world::{Join, Options, World};

/// Entries of a seed.
const SEED_RECORDS: usize = 24;

/// Bytes as they are if the first of them is odd; else entries, each behind its length in two bytes, which get the
/// checksums without which nobody would look at them.
pub fn journal(data: &[u8]) {
    let Some((form, rest)) = data.split_first() else {
        return;
    };
    if form % 2 == 1 {
        return examine(rest);
    }
    examine(&resound(entries(rest)));
}

/// The bodies of the entries.
fn entries(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_be_bytes(*len)).min(after.len());
        let (entry, after) = after.split_at(len);
        rest = after;
        Some(entry)
    })
}

fn examine(bytes: &[u8]) {
    let Ok((header, reader)) = Reader::new(bytes) else {
        assert!(redact(bytes, &Seed::new([1; 32])).is_err());
        return;
    };
    let records = reader.clone().take_while(Result::is_ok).count();
    let turns = Turns::new(reader.clone()).filter(|entry| matches!(entry, Ok(Entry::Turn(_))));
    let turns = turns.count();
    assert!(
        turns <= records && records <= bytes.len(),
        "entries are not made up"
    );
    look_redacted(bytes, records);
    let Ok(mut player) = Player::new(&header, reader) else {
        return;
    };
    let mut at = player.position();
    while let Some(step) = player.step(&mut ()) {
        assert!(player.position() >= at && player.position() <= bytes.len());
        at = player.position();
        assert!(
            step.is_ok() || player.step(&mut ()).is_none(),
            "nothing comes after an error"
        );
    }
    assert_eq!(player.played(), turns as u64);
    let Ok(Some(found)) = bisect(bytes, |_| {}) else {
        return;
    };
    assert!(found.inputs.0 <= found.inputs.1);
    assert!(Reader::new(&found.prefix).is_ok());
}

/// What is redacted reads to its end, and again leaves out nothing more than names that are none any more.
fn look_redacted(bytes: &[u8], records: usize) {
    let (redacted, _) = redact(bytes, &Seed::new([1; 32])).expect("its header is sound");
    let (header, reader) = Reader::new(&redacted).expect("it begins well");
    assert!(header.redacted);
    let read: Vec<_> = reader.collect();
    assert!(read.iter().all(Result::is_ok) && read.len() <= records);
    let secret = |record: &Record<'_>| matches!(record, Record::Birth(_) | Record::Counts(_));
    assert!(!read.iter().flatten().any(secret));
}

/// Journals of simulated calls in the form of [`journal`], short enough to be changed much: two whole ones, and what a
/// ring has left of a third.
#[must_use]
pub fn journal_seeds() -> Vec<Vec<u8>> {
    let publish = Role::Publish {
        room: RoomId(1),
        participant: ParticipantId(2),
    };
    vec![
        framed(&whole(Role::Echo, 1)),
        framed(&whole(publish, 2)),
        framed(&rest_of_a_ring(Role::Echo, 3)),
    ]
}

/// The setting-up of a call, and a bit of it.
fn whole(role: Role, seed: u64) -> Vec<u8> {
    let mut world = World::new(Options::new(seed));
    let kept = Kept::default();
    let retention = Retention::Whole { budget: u64::MAX };
    let header = world.record(0, Payloads::Full, retention, Box::new(kept.clone()));
    call(&mut world, role, seed, Duration::from_millis(300));
    drop(world);
    let mut journal = begin(header);
    journal.append(&mut kept.into_bytes());
    journal
}

/// The last chunk of a call, and how the call stood before it.
fn rest_of_a_ring(role: Role, seed: u64) -> Vec<u8> {
    let mut world = World::new(Options::new(seed));
    let last = Last(Arc::new(Mutex::new(Ring::new(1))));
    let retention = Retention::Ring { bytes: 1 };
    let header = world.record(0, Payloads::Full, retention, Box::new(last.clone()));
    call(&mut world, role, seed, Duration::from_millis(900));
    let mut journal = Vec::new();
    let dumped = last.lock().dump(&header, EndReason::Asked, |bytes| {
        journal.extend_from_slice(bytes);
        Ok::<_, Infallible>(())
    });
    dumped.expect("it cannot fail");
    journal
}

/// A sink that forgets, in memory that its clones share.
#[derive(Clone)]
struct Last(Arc<Mutex<Ring>>);

impl Last {
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl Sink for Last {
    fn take(&mut self, chunk: Chunk) -> Taken {
        self.lock().push(&chunk);
        Taken::Kept
    }

    fn spare(&mut self) -> Option<Chunk> {
        None
    }
}

fn call(world: &mut World, role: Role, seed: u64, duration: Duration) {
    let mut spec = PeerSpec::new(0);
    (spec.speech, spec.hears) = (Some(Speech::Spurts), role == Role::Echo);
    let delay = vec![Impairment::Delay(Duration::from_millis(5))];
    world.join(Join {
        peer: Box::new(ScriptedPeer::new(spec, &Seed::new([seed as u8; 32]))),
        role,
        shard: 0,
        up: delay.clone(),
        down: delay,
        ipv6: seed.is_multiple_of(2),
    });
    world.run_for(duration);
}

/// The first entries of a journal, in the form of [`journal`].
fn framed(journal: &[u8]) -> Vec<u8> {
    let (header, reader) = Reader::new(journal).expect("it begins well");
    let header = Record::Header(Box::new(header));
    let records = reader.map(|record| record.expect("it is whole"));
    let mut out = vec![0];
    for record in std::iter::once(header).chain(records).take(SEED_RECORDS) {
        let mut framed = Vec::new();
        put(&mut framed, &record);
        let body = crate::journal::body(&framed);
        out.extend_from_slice(&(body.len() as u16).to_be_bytes());
        out.extend_from_slice(body);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else changing them would test little: they are whole, and what they hold comes out as it came out.
    #[test]
    fn the_seeds_are_sound_and_play() {
        for seed in journal_seeds() {
            let bytes = resound(entries(&seed[1..]));
            let (header, reader) = Reader::new(&bytes).expect("it begins well");
            let mut player = Player::new(&header, reader).expect("a shard can be made of it");
            while let Some(Ok(_)) = player.step(&mut ()) {}
            assert!(player.played() >= 3, "{} turns", player.played());
            assert_eq!(player.difference(), None);
        }
    }
}
