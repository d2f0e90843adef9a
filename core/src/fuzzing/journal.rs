//! Journals that somebody else wrote.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::audio::Rate;
use crate::drive::{RecvMeta, TransmitMeta};
use crate::ids::{ParticipantId, RequestId, RoomId, SessionId, ShardId};
use crate::journal::{
    Chunk, EndReason, Entry, Header, Kept, Payloads, Player, Reader, Record, Recorder, Retention,
    Ring, Sink, Taken, Turns, Witness, begin, bisect, put, redact, resound,
};
use crate::limits::JOURNAL_BIRTH_INTERVAL;
use crate::message::{Command, Event, ProfileName, Role, Target};
use crate::relay::Relay;
use crate::rng::Seed;
use crate::session::transport::KeyingMaterial;
use crate::sim::link::Impairment;
use crate::sim::peer::{PeerSpec, Picture, ScriptedPeer, Speech};
use crate::sim::world::{Join, MemberId, Options, World};
use crate::time::Timestamp;
use crate::voice::message::{
    AgentAsk, AgentPlan, CallTime, Eagerness, Judgement, MarkId, UtteranceId,
};

/// Entries of a seed in which little happens.
const SHORT_RECORDS: usize = 24;
/// Entries of one that is to hold every kind of them.
const LONG_RECORDS: usize = 200;

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
    let (turns, shown) = look_shown(reader.clone());
    assert!(
        turns <= records && records <= bytes.len(),
        "entries are not made up"
    );
    look_redacted(bytes, records);
    let Ok(mut player) = Player::new(&header, reader.clone()) else {
        return;
    };
    let mut at = player.position();
    let (mut seen, mut again) = (Seen::default(), Seen::default());
    while let Some(step) = player.step(&mut (&mut seen, &mut again)) {
        assert!(player.position() >= at && player.position() <= bytes.len());
        at = player.position();
        assert!(
            step.is_ok() || player.step(&mut ()).is_none(),
            "nothing comes after an error"
        );
    }
    assert_eq!(player.played(), turns as u64);
    assert_eq!(seen, again, "both see everything");
    assert!(seen.commands <= shown.commands && seen.relays <= shown.relays);
    let standings: Vec<_> = player
        .standings()
        .map(|standing| standing.session)
        .collect();
    assert!(standings.is_sorted_by(|one, next| one < next));
    if matches!(header.retention, Retention::Whole { .. }) {
        look_recorded_again(&header, reader);
    }
    let Ok(Some(found)) = bisect(bytes, |_| {}) else {
        return;
    };
    assert!(found.inputs.0 <= found.inputs.1);
    assert!(Reader::new(&found.prefix).is_ok());
}

/// What passes while a journal is played or shown.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    commands: usize,
    relays: usize,
    datagrams: usize,
    keys: usize,
    events: usize,
    sent: usize,
}

impl Witness for Seen {
    fn on_command(&mut self, _now: Timestamp, _command: &Command) {
        self.commands += 1;
    }

    fn on_relay(&mut self, _now: Timestamp, _from: ShardId, _relay: &Relay) {
        self.relays += 1;
    }

    fn on_received(&mut self, _now: Timestamp, _meta: &RecvMeta, _contents: &[u8]) {
        self.datagrams += 1;
    }

    fn on_keys(
        &mut self,
        _now: Timestamp,
        _session: SessionId,
        _profile: ProfileName,
        _keys: &KeyingMaterial,
    ) {
        self.keys += 1;
    }

    fn on_event(&mut self, _now: Timestamp, _event: &Event) {
        self.events += 1;
    }

    fn on_transmit(&mut self, _now: Timestamp, _meta: &TransmitMeta, _contents: &[u8]) {
        self.sent += 1;
    }
}

/// Turns and what they show: each of their inputs once, and of half a turn no more than that.
fn look_shown(reader: Reader<'_>) -> (usize, Seen) {
    let mut turns = 0;
    let (mut seen, mut inputs) = (Seen::default(), 0);
    for entry in Turns::new(reader) {
        let Ok(Entry::Turn(mut turn)) = entry else {
            continue;
        };
        turns += 1;
        inputs += turn.inputs();
        turn.show(&mut seen);
        let half = turn.inputs() / 2;
        turn.truncate(half);
        assert_eq!(turn.inputs(), half);
    }
    assert_eq!(seen.commands + seen.relays + seen.datagrams, inputs);
    (turns, seen)
}

/// What is recorded of a replay is a journal, and one that holds everything plays as it was recorded.
fn look_recorded_again(header: &Header, reader: Reader<'_>) {
    let kept = Kept::default();
    let mut player = Player::new(header, reader).expect("it was made before");
    player.record(Recorder::new(Box::new(kept.clone()), header.payloads));
    while let Some(Ok(_)) = player.step(&mut ()) {}
    drop(player);
    let mut journal = begin(Header {
        redacted: false,
        ..header.clone()
    });
    journal.append(&mut kept.into_bytes());
    let (header, reader) = Reader::new(&journal).expect("it begins well");
    assert!(reader.clone().all(|record| record.is_ok()));
    if header.payloads == Payloads::Full {
        let mut player = Player::new(&header, reader).expect("it was made before");
        while let Some(Ok(_)) = player.step(&mut ()) {}
        assert_eq!(player.difference(), None);
    }
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

/// Journals of simulated calls in the form of [`journal`], short enough to be changed much: of an echo and a publisher,
/// of both shards of a room with pictures, of headers alone, of a call with an agent, and what a ring has left of an
/// echo.
#[must_use]
pub fn journal_seeds() -> Vec<Vec<u8>> {
    let (publish, _) = roles();
    let echo = |world: &mut World| {
        call(world, Role::Echo, 1, Duration::from_millis(300));
    };
    let mut seeds = vec![
        framed(&whole(1, 0, Payloads::Full, echo), SHORT_RECORDS),
        framed(
            &whole(2, 0, Payloads::Full, |world| {
                call(world, publish, 2, Duration::from_millis(300));
            }),
            SHORT_RECORDS,
        ),
        framed(&rest_of_a_ring(3), LONG_RECORDS),
        framed(&whole(4, 0, Payloads::Headers, echo), SHORT_RECORDS),
        framed(&whole(5, 0, Payloads::Full, talk), LONG_RECORDS),
    ];
    seeds.extend([0, 1].map(|shard| framed(&whole(6, shard, Payloads::Full, meet), LONG_RECORDS)));
    seeds
}

fn roles() -> (Role, Role) {
    let room = RoomId(1);
    let publish = Role::Publish {
        room,
        participant: ParticipantId(2),
    };
    let target = Target::Newest;
    let home = ShardId(0);
    (publish, Role::SubscribeRemote { room, target, home })
}

/// Somebody with a picture is followed from another shard, restarts, is asked for figures, and goes.
fn meet(world: &mut World) {
    let (publish, subscribe) = roles();
    let follower = join(world, subscribe, 7, 1);
    let speaker = join(world, publish, 8, 0);
    world.run_for(Duration::from_millis(150));
    world.restart(speaker);
    world.run_for(Duration::from_millis(60));
    let sessions = [speaker, follower].map(|member| world.member(member).session);
    for (session, shard) in sessions.into_iter().flatten().zip(0..) {
        let request = RequestId(99);
        world.command(shard, Command::SessionStats { request, session });
        world.command(shard, Command::ShardStats { request });
    }
    world.run_for(Duration::from_millis(20));
    world.close(speaker);
    world.close(follower);
    world.run_for(Duration::from_millis(20));
}

/// A call with an agent that says something, is asked to stop, and presses a key.
fn talk(world: &mut World) {
    let caller = join(world, Role::Agent(AgentPlan::default()), 9, 0);
    world.run_for(Duration::from_millis(150));
    let Some(session) = world.member(caller).session else {
        return;
    };
    let say = |utterance, last| AgentAsk::Say {
        utterance: UtteranceId(utterance),
        pcm: vec![9; 640],
        rate: Rate::Hz16000,
        last,
        interruptible: true,
    };
    let mark = AgentAsk::Mark { mark: MarkId(1) };
    let utterance = None;
    let digits = "1".to_owned();
    for ask in [
        say(1, true),
        mark,
        say(2, false),
        AgentAsk::Eagerness(Eagerness::Eager),
        AgentAsk::Judgement(Judgement::Speech {
            at: CallTime(100_000),
            probability: 20_000,
        }),
        AgentAsk::Clear { utterance },
        AgentAsk::Dtmf { digits },
    ] {
        world.command(0, Command::Agent { session, ask });
        world.run_for(Duration::from_millis(20));
    }
}

/// A whole journal of a shard in a world of two.
fn whole(seed: u64, shard: u16, payloads: Payloads, happens: impl FnOnce(&mut World)) -> Vec<u8> {
    let mut world = World::new(Options {
        shards: 2,
        ..Options::new(seed)
    });
    let kept = Kept::default();
    let retention = Retention::Whole { budget: u64::MAX };
    let header = world.record(shard, payloads, retention, Box::new(kept.clone()));
    happens(&mut world);
    drop(world);
    let mut journal = begin(header);
    journal.append(&mut kept.into_bytes());
    journal
}

/// The last chunk of a call, and how the call stood before it.
fn rest_of_a_ring(seed: u64) -> Vec<u8> {
    let mut world = World::new(Options::new(seed));
    let last = Last(Arc::new(Mutex::new(Ring::new(1))));
    let retention = Retention::Ring { bytes: 1 };
    let header = world.record(0, Payloads::Full, retention, Box::new(last.clone()));
    // Long enough for a birth with media in it.
    let duration = JOURNAL_BIRTH_INTERVAL + Duration::from_millis(600);
    call(&mut world, Role::Echo, seed, duration);
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
    join(world, role, seed, 0);
    world.run_for(duration);
}

fn join(world: &mut World, role: Role, seed: u64, shard: u16) -> MemberId {
    let mut spec = PeerSpec::new(world.next_member().0);
    let follows = matches!(role, Role::SubscribeRemote { .. });
    spec.speech = (!follows).then_some(Speech::Spurts);
    spec.hears = follows || matches!(role, Role::Echo | Role::Agent(_));
    // Those of the long seeds see.
    if seed > 6 && !matches!(role, Role::Agent(_)) {
        spec.picture = (!follows).then_some(Picture::Plain);
        spec.sees = follows;
    }
    let delay = vec![Impairment::Delay(Duration::from_millis(5))];
    world.join(Join {
        peer: Box::new(ScriptedPeer::new(spec, &Seed::new([seed as u8; 32]))),
        role,
        shard,
        up: delay.clone(),
        down: delay,
        ipv6: seed.is_multiple_of(2),
    })
}

/// The first entries of a journal, in the form of [`journal`].
fn framed(journal: &[u8], records_max: usize) -> Vec<u8> {
    let (header, reader) = Reader::new(journal).expect("it begins well");
    let header = Record::Header(Box::new(header));
    let records = reader.map(|record| record.expect("it is whole"));
    let mut out = vec![0];
    for record in std::iter::once(header).chain(records).take(records_max) {
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
            // Nothing can be opened of headers alone.
            assert!(player.difference().is_none() || header.payloads == Payloads::Headers);
        }
    }
}
