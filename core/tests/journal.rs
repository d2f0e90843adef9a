//! Journals of calls with str0m peers in virtual time: recorded, and replayed to the last byte.

mod support;

use std::cell::Cell;
use std::time::Duration;

use antiphon_core::audio::{Rate, signal};
use antiphon_core::bugs::Mutation;
use antiphon_core::codec::opus::OpusEncoder;
use antiphon_core::codec::{Encoder as _, EncoderSettings};
use antiphon_core::drive::{DigestValue, Pump};
use antiphon_core::ids::SessionId;
use antiphon_core::journal::BisectError::NotAgain;
use antiphon_core::journal::{
    Chunk, Difference, EndReason, Header, Kept, Lost, Payloads, Player, ReadError, Reader, Record,
    Recorder, Retention, Sink, Step, Taken, begin, bisect, put,
};
use antiphon_core::message::{Command, Event, Role, Target};
use antiphon_core::rng::Seed;
use antiphon_core::session::transport::HandshakeResult;
use antiphon_core::voice::message::{AgentAsk, AgentPlan, Heard, UtteranceId};
use str0m::media::{Direction, MediaKind};

use crate::support::{Link, World, publisher, shard, vp8};

/// A sink that refuses some chunks, by their number.
struct Choosy {
    kept: Kept,
    seen: usize,
    refused: std::ops::Range<usize>,
}

impl Sink for Choosy {
    fn take(&mut self, chunk: Chunk) -> Taken {
        self.seen += 1;
        if self.refused.contains(&self.seen) {
            return Taken::Full(chunk);
        }
        self.kept.take(chunk)
    }

    fn spare(&mut self) -> Option<Chunk> {
        None
    }
}

/// A call that has everything, recorded: its journal, and the digest of the run.
fn recorded_call(seed: u8, payloads: Payloads) -> (Vec<u8>, DigestValue) {
    let kept = Kept::default();
    recorded_into(seed, payloads, kept.clone(), Box::new(kept))
}

fn recorded_into(
    seed: u8,
    payloads: Payloads,
    kept: Kept,
    sink: Box<dyn Sink>,
) -> (Vec<u8>, DigestValue) {
    let mut world = World::new(seed);
    let shard = shard(world.epoch, &Seed::new([seed; 32]));
    let retention = Retention::Whole { budget: u64::MAX };
    let header = Header::new(&shard, "test", payloads, retention);
    let mut journal = begin(header);
    world.pump = Pump::new(shard).with_recorder(Recorder::new(sink, payloads));
    let digest = play_call(&mut world);
    drop(world);
    journal.append(&mut kept.into_bytes());
    (journal, digest)
}

/// Lost packets, so that there are NACKs and retransmissions; a late subscriber, so that there are keyframe requests;
/// an echo; a call with an agent that says something and hears a voice; an ICE restart; figures asked for; sessions
/// closed from our side, and one left to its timers.
fn play_call(world: &mut World) -> DigestValue {
    world.link = Link::lossy(30);
    let speaker = world.publish(1, 1);
    let target = Target::Newest;
    let listener = world.subscribe(1, target);
    let echo = world.join(&[(MediaKind::Audio, Direction::SendRecv)], Role::Echo);
    let sections = [(MediaKind::Audio, Direction::SendRecv)];
    let caller = world.join(&sections, Role::Agent(AgentPlan::default()));
    let mut encoder = OpusEncoder::new(Rate::Hz16000, EncoderSettings::STANDARD);
    let voice = signal::voice(Rate::Hz16000, 1, 200 * 320);
    world.join(&[(MediaKind::Audio, Direction::SendOnly)], publisher(2, 2));
    world.connect_all();
    let [audio, video] = world.mids(speaker)[..] else {
        panic!("it publishes two tracks");
    };
    let echo_mid = world.mids(echo)[0];
    let caller_mid = world.mids(caller)[0];
    for number in 0..200_u32 {
        world.send(speaker, audio, 960 * number, false, &[number as u8; 80]);
        world.send(echo, echo_mid, 960 * number, false, &[7; 60]);
        let mut spoken = [0; 400];
        let samples = &voice[320 * number as usize..][..320];
        let length = encoder.encode(samples, &mut spoken).expect("20 ms fit");
        world.send(caller, caller_mid, 960 * number, false, &spoken[..length]);
        let keyframe = number % 50 == 0;
        let payload = vp8(number as u16, keyframe, true, number as u8, 900);
        world.send(speaker, video, 1_800 * number, true, &payload);
        match number {
            60 => {
                world.subscribe(1, target);
            }
            80 => say_something(world, caller),
            100 => world.restart(listener),
            120 => {
                let session = world.peers[listener].session.expect("it was opened");
                let stats = world.stats(session);
                assert!(stats.packets_sent > 0, "media flows: {stats:?}");
            }
            150 => world.close(echo),
            _ => {}
        }
        if number < 150 || number % 2 == 0 {
            world.run_for(Duration::from_millis(20));
        }
    }
    let request = antiphon_core::ids::RequestId(99_999);
    world.command(Command::ShardStats { request });
    let stats = world.shard().stats();
    assert!(
        stats.nacks_sent > 0 && stats.retransmissions_sent > 0,
        "{stats:?}"
    );
    assert!(stats.keyframe_requests_sent > 0, "{stats:?}");
    assert!(told(world, |it| matches!(it, Heard::Audio { .. })) > 150);
    assert!(told(world, |it| matches!(it, Heard::Voice(_))) > 0);
    assert!(told(world, |it| matches!(it, Heard::Playout { .. })) > 0);
    // The one whose peers say nothing more ends by a timer.
    world.peers.iter_mut().for_each(|peer| peer.closed = true);
    world.run_for(Duration::from_secs(40));
    assert_eq!(world.shard().stats().sessions, 0);
    world.pump.digest().expect("it is recorded").value()
}

/// The agent of a call says a second.
fn say_something(world: &mut World, caller: usize) {
    let session = world.peers[caller].session.expect("it was opened");
    let ask = AgentAsk::Say {
        utterance: UtteranceId(1),
        pcm: vec![3; 48_000],
        rate: Rate::Hz24000,
        last: true,
        interruptible: true,
    };
    world.command(Command::Agent { session, ask });
}

/// How often an agent was told something of a kind.
fn told(world: &World, is_of_kind: fn(&Heard) -> bool) -> usize {
    let heard = world.events.iter().filter_map(|event| match event {
        Event::Heard { heard, .. } => Some(heard),
        _ => None,
    });
    heard.filter(|heard| is_of_kind(heard)).count()
}

struct Replay {
    digest: DigestValue,
    difference: Option<Difference>,
    turns: u64,
    lost: Option<Lost>,
    end: Option<EndReason>,
    faulted: Vec<SessionId>,
    error: Option<ReadError>,
}

fn replay(journal: &[u8]) -> Replay {
    let (header, reader) = Reader::new(journal).expect("it begins well");
    let mut player = Player::new(&header, reader).expect("a shard can be made of it");
    let mut replay = Replay {
        digest: DigestValue::default(),
        difference: None,
        turns: 0,
        lost: None,
        end: None,
        faulted: Vec::new(),
        error: None,
    };
    while let Some(step) = player.step(&mut ()) {
        match step {
            Ok(Step::End(reason)) => replay.end = Some(reason),
            Ok(Step::Turn { faulted, .. }) => replay.faulted.extend(faulted),
            Ok(Step::Idle(_) | Step::Stands) => {}
            Ok(Step::Lost(lost)) => replay.lost = Some(lost),
            Err(error) => replay.error = Some(error),
        }
    }
    Replay {
        digest: player.digest(),
        difference: player.difference().cloned(),
        turns: player.played(),
        ..replay
    }
}

/// The same journal after `change`, which may also take an entry out.
fn altered(journal: &[u8], mut change: impl FnMut(&mut Record<'_>) -> bool) -> Vec<u8> {
    let (header, reader) = Reader::new(journal).expect("it begins well");
    let mut altered = begin(header);
    for record in reader {
        let mut record = record.expect("it is whole");
        if change(&mut record) {
            put(&mut altered, &record);
        }
    }
    altered
}

#[test]
fn a_whole_journal_replays_to_the_same_digest() {
    for seed in [1, 2] {
        let (journal, digest) = recorded_call(seed, Payloads::Full);
        let replay = replay(&journal);
        assert_eq!(replay.difference, None);
        assert_eq!(replay.digest, digest);
        assert_eq!(replay.end, Some(EndReason::Stopped));
        assert_eq!((replay.lost, replay.error), (None, None));
        assert_eq!(replay.faulted, []);
        assert!(replay.turns > 500, "{} turns", replay.turns);
    }
}

/// Each changes one thing of a journal, which then must not pass for the run that it was.
#[test]
fn a_replay_with_one_changed_input_is_noticed() {
    let (journal, digest) = recorded_call(3, Payloads::Full);
    let differs = |name: &str, altered: Vec<u8>| {
        let replay = replay(&altered);
        assert_eq!(replay.error, None, "{name}");
        assert!(replay.difference.is_some(), "{name} was not noticed");
        replay
    };
    // Figures of a datagram that is refused show in the events that tell them, so these change what is sent.
    let mut count = 0;
    let mut nth = |number| {
        count += 1;
        count == number
    };
    let flipped = altered(&journal, |record| {
        if let Record::Received(slot) = record
            && nth(200)
        {
            let last = slot.contents.len() - 1;
            slot.contents.to_mut()[last] ^= 1;
        }
        true
    });
    assert_ne!(differs("a flipped bit", flipped).digest, digest);
    for (name, place) in [("a datagram less", 250), ("another datagram less", 251)] {
        let mut count = 0;
        let removed = altered(&journal, |record| {
            count += usize::from(matches!(record, Record::Received(_)));
            !(matches!(record, Record::Received(_)) && count == place)
        });
        assert_ne!(differs(name, removed).digest, digest, "{name}");
    }
    let mut count = 0;
    let late = altered(&journal, |record| {
        if let Record::Turn(now) = record {
            count += 1;
            if count == 300 {
                *now = *now + Duration::from_nanos(1);
            }
        }
        true
    });
    assert_ne!(differs("a turn one nanosecond late", late).digest, digest);
    let muted = altered(
        &journal,
        |record| !matches!(record, Record::Command(command) if matches!(**command, Command::Restart { .. })),
    );
    assert_ne!(differs("a command less", muted).digest, digest);
    let (mut header, reader) = Reader::new(&journal).expect("it begins well");
    header.seed = Seed::new([99; 32]);
    let mut reseeded = begin(header);
    reader.for_each(|record| put(&mut reseeded, &record.expect("it is whole")));
    assert_ne!(differs("another seed", reseeded).digest, digest);
}

#[test]
fn a_handshake_that_went_otherwise_is_noticed() {
    let (journal, _) = recorded_call(4, Payloads::Full);
    let forgotten = altered(&journal, |record| !matches!(record, Record::Handshake(..)));
    assert!(replay(&forgotten).difference.is_some());
    let mut count = 0;
    let panicked = altered(&journal, |record| {
        if let Record::Handshake(_, outcome) = record {
            count += 1;
            if count == 2 {
                outcome.result = HandshakeResult::Panicked;
            }
        }
        true
    });
    let replay = replay(&panicked);
    assert_eq!(replay.faulted.len(), 1, "the session faults as it did");
    assert!(replay.difference.is_some());
}

#[test]
fn chunks_that_nobody_took_are_told_where_they_are_missing() {
    let kept = Kept::default();
    let sink = Choosy {
        kept: kept.clone(),
        seen: 0,
        refused: 5..9,
    };
    let (journal, _) = recorded_into(5, Payloads::Full, kept, Box::new(sink));
    let replay = replay(&journal);
    let lost = replay.lost.expect("it is told");
    assert!(lost.records > 10 && lost.bytes > 1_000, "{lost:?}");
    assert_eq!(
        replay.end,
        Some(EndReason::Stopped),
        "what came after is there"
    );
    assert!(
        replay.difference.is_some(),
        "and it is not the run any more"
    );
}

/// What is left when the machine fails: whole turns, and the run up to there.
#[test]
fn a_journal_that_is_cut_off_replays_as_far_as_it_goes() {
    let (journal, _) = recorded_call(6, Payloads::Full);
    for part in 1..20 {
        let replay = replay(&journal[..journal.len() * part / 20]);
        assert_eq!(replay.difference, None);
        assert_eq!(replay.end, None);
        assert!(replay.turns > 0 || part == 1);
    }
}

#[test]
fn without_payloads_set_up_is_replayed_and_media_is_not() {
    let (journal, _) = recorded_call(7, Payloads::Headers);
    let (full, _) = recorded_call(7, Payloads::Full);
    assert!(4 * journal.len() < 3 * full.len(), "it is smaller");
    let (header, reader) = Reader::new(&journal).expect("it begins well");
    let mut player = Player::new(&header, reader).expect("a shard can be made of it");
    while let Some(step) = player.step(&mut ()) {
        step.expect("it is whole");
    }
    let stats = player.shard().stats();
    assert!(
        stats.profiles.iter().sum::<u64>() >= 4,
        "handshakes finish: {stats:?}"
    );
    assert_eq!(stats.rtp_received, 0, "nothing can be opened");
}

/// A beginning that shows nothing by itself is nobody's help.
#[test]
fn what_a_bisection_finds_is_played_once_more() {
    let (journal, _) = recorded_call(8, Payloads::Full);
    let bisected = |planted: u32| {
        let players = Cell::new(0);
        bisect(&journal, |player| {
            players.set(players.get() + 1);
            if players.get() <= planted {
                player.bugs_mut().plant(Mutation::NeverAskForKeyframes);
            }
        })
    };
    let found = bisected(u32::MAX).expect("it can be played");
    let found = found.expect("nobody asks for keyframes");
    assert_eq!(
        bisected(0).expect("it can be played").map(|it| it.turn),
        None
    );
    let NotAgain { turn } = bisected(1).expect_err("the second player has no bug") else {
        panic!("it can be played");
    };
    assert_eq!(turn, found.turn);
}
