//! Journals that forgot their beginning: what is left of each session goes on from where it stood.

mod support;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use antiphon_core::drive::{Pump, TransmitMeta};
use antiphon_core::ids::SessionId;
use antiphon_core::journal::{
    Chunk, EndReason, Header, Known, Payloads, Player, Reader, Record, Recorder, Retention, Ring,
    Sink, Standing, Step, Taken, Witness, begin, put, redact,
};
use antiphon_core::message::{Role, ShardStats, Target};
use antiphon_core::rng::Seed;
use antiphon_core::time::Timestamp;
use antiphon_core::wire::{Class, classify};
use str0m::media::{Direction, MediaKind};

use crate::support::{Link, World, publisher, shard, vp8};

const RING_BYTES: usize = 300 << 10;

/// Keeps everything, and the end of it in a ring as well; unless it is full.
#[derive(Clone)]
struct Both(Arc<Mutex<Kept>>);

struct Kept {
    whole: Vec<u8>,
    ring: Ring,
    is_full: bool,
    /// Chunks taken in which a session faulted.
    faulted: usize,
}

impl Both {
    fn new(ring_bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            whole: Vec::new(),
            ring: Ring::new(ring_bytes),
            is_full: false,
            faulted: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl Sink for Both {
    fn take(&mut self, chunk: Chunk) -> Taken {
        let mut kept = self.lock();
        if kept.is_full {
            return Taken::Full(chunk);
        }
        kept.whole.extend_from_slice(chunk.bytes());
        kept.ring.push(&chunk);
        kept.faulted += usize::from(chunk.faulted());
        Taken::Kept
    }

    fn spare(&mut self) -> Option<Chunk> {
        None
    }
}

/// A world whose shard is recorded into both, and the header of the ring's journal.
fn recorded_world(seed: u8, ring_bytes: usize) -> (World, Both, Header) {
    let both = Both::new(ring_bytes);
    let mut world = World::new(seed);
    let shard = shard(world.epoch, &Seed::new([seed; 32]));
    let bytes = ring_bytes as u64;
    let header = Header::new(&shard, "test", Payloads::Full, Retention::Ring { bytes });
    let recorder = Recorder::new(Box::new(both.clone()), Payloads::Full).with_births();
    world.pump = Pump::new(shard).with_recorder(recorder);
    (world, both, header)
}

/// The whole journal, and what is left of it in the ring.
fn journals(both: &Both, header: &Header) -> (Vec<u8>, Vec<u8>) {
    let both = both.lock();
    let whole = Header {
        retention: Retention::Whole { budget: u64::MAX },
        ..header.clone()
    };
    let mut whole = begin(whole);
    whole.extend_from_slice(&both.whole);
    let mut dump = Vec::new();
    let kept = both.ring.dump(header, EndReason::Fault, |bytes| {
        dump.extend_from_slice(bytes);
        Ok::<_, Infallible>(())
    });
    kept.expect("it cannot fail");
    (whole, dump)
}

/// RTP sent, by destination, in order.
#[derive(Default)]
struct Sent(BTreeMap<SocketAddr, Vec<Vec<u8>>>);

impl Witness for Sent {
    fn on_transmit(&mut self, _now: Timestamp, meta: &TransmitMeta, contents: &[u8]) {
        if classify(contents) == Class::Rtp {
            let sent = self.0.entry(meta.destination).or_default();
            sent.push(contents.to_vec());
        }
    }
}

struct Played {
    standings: BTreeMap<SessionId, Standing>,
    stats: ShardStats,
    sent: Sent,
    end: Option<EndReason>,
}

/// Plays a journal, which must agree as far as it is whole.
fn play(journal: &[u8]) -> Played {
    let (header, reader) = Reader::new(journal).expect("it begins well");
    let mut player = Player::new(&header, reader).expect("a shard can be made of it");
    let (mut sent, mut end) = (Sent::default(), None);
    while let Some(step) = player.step(&mut sent) {
        if let Step::End(reason) = step.expect("it is whole") {
            end = Some(reason);
        }
    }
    assert_eq!(player.difference(), None);
    let standings = player.standings().cloned();
    Played {
        standings: standings.map(|it| (it.session, it)).collect(),
        stats: player.shard().stats(),
        sent,
        end,
    }
}

/// RTP packets in a journal.
fn packets(journal: &[u8]) -> u64 {
    let (_, reader) = Reader::new(journal).expect("it begins well");
    let is_rtp = |record: &Record<'_>| match record {
        Record::Received(slot) => classify(&slot.contents) == Class::Rtp,
        _ => false,
    };
    let records = reader.map(|record| record.expect("it is whole"));
    records.filter(is_rtp).count() as u64
}

/// Some have a session before the ring begins, some open one in it; of both kinds some end in it.
struct Call {
    speaker: usize,
    listener: usize,
    leaver: usize,
    gone: usize,
    late_echo: usize,
    late_listener: usize,
}

/// Talks for so many packets of 20 ms from this one on.
fn talk(world: &mut World, audio: &[usize], video: usize, numbers: std::ops::Range<u32>) {
    for number in numbers {
        for peer in audio {
            let mid = world.mids(*peer)[0];
            world.send(*peer, mid, 960 * number, false, &[number as u8; 80]);
        }
        let mid = world.mids(video)[1];
        let payload = vp8(number as u16, number % 50 == 0, true, number as u8, 900);
        world.send(video, mid, 1_800 * number, true, &payload);
        world.run_for(Duration::from_millis(20));
    }
}

fn play_call(world: &mut World) -> Call {
    let both_ways = [(MediaKind::Audio, Direction::SendRecv)];
    let speaker = world.publish(1, 1);
    let listener = world.subscribe(1, Target::Newest);
    let leaver = world.join(&both_ways, Role::Echo);
    let gone = world.join(&both_ways, Role::Echo);
    world.connect_all();
    world.close(gone);
    // Soon these begin again at 0, and only who knows of it can open what follows.
    for (peer, section, next) in [
        (speaker, 0, 65_400),
        (speaker, 1, 65_450),
        (leaver, 0, 65_500),
    ] {
        let mid = world.mids(peer)[section];
        world.peers[peer].set_next_sequence(mid, next);
    }
    // Three rings full.
    talk(world, &[speaker, leaver], speaker, 0..800);
    world.restart(listener);
    talk(world, &[speaker, leaver], speaker, 800..850);
    let late_echo = world.join(&both_ways, Role::Echo);
    let late_listener = world.subscribe(1, Target::Newest);
    let one_way = [(MediaKind::Audio, Direction::SendOnly)];
    let never_heard = world.join(&one_way, publisher(2, 2));
    world.connect_all();
    talk(world, &[speaker, leaver, late_echo], speaker, 850..900);
    world.close(leaver);
    world.close(never_heard);
    talk(world, &[speaker, late_echo], speaker, 900..950);
    world.close(late_echo);
    talk(world, &[speaker], speaker, 950..1_000);
    Call {
        speaker,
        listener,
        leaver,
        gone,
        late_echo,
        late_listener,
    }
}

fn session(world: &World, peer: usize) -> SessionId {
    world.peers[peer].session.expect("it was opened")
}

#[test]
fn a_ring_plays_whole_sessions_to_the_same_events_and_others_on_from_their_birth() {
    let (mut world, both, header) = recorded_world(1, RING_BYTES);
    let call = play_call(&mut world);
    let (whole, dump) = journals(&both, &header);
    assert!(3 * dump.len() < whole.len(), "most was forgotten");
    let (in_full, played) = (play(&whole), play(&dump));
    assert_eq!(played.end, Some(EndReason::Fault));

    let standing = |peer| &played.standings[&session(&world, peer)];
    for peer in [call.late_echo, call.late_listener] {
        assert!(standing(peer).is_complete(), "{:?}", standing(peer));
        assert!(standing(peer).events >= 2, "{:?}", standing(peer));
    }
    for peer in [call.speaker, call.listener, call.leaver] {
        let standing = standing(peer);
        assert!(
            matches!(standing.known, Known::FromBirth(_)),
            "{standing:?}"
        );
        assert_eq!(standing.difference, None, "it tells what it told");
    }
    assert!(standing(call.leaver).events > 0, "that it was closed");
    let gone = session(&world, call.gone);
    assert!(
        !played.standings.contains_key(&gone),
        "its birth is forgotten too"
    );
    // Every packet there is opens, and what is forwarded is what was forwarded, to the last byte.
    assert!(played.stats.rtp_received > 300, "{:?}", played.stats);
    assert_eq!(played.stats.rtp_received, packets(&dump));
    assert_eq!(played.sent.0.len(), 4, "two echoes and two listeners");
    for (destination, sent) in &played.sent.0 {
        assert!(sent.len() > 50, "{} to {destination}", sent.len());
        let in_full = &in_full.sent.0[destination];
        assert!(in_full.ends_with(sent), "to {destination}");
    }
}

#[test]
fn without_its_birth_a_session_is_not_there() {
    let (mut world, both, header) = recorded_world(2, RING_BYTES);
    let call = play_call(&mut world);
    let (_, dump) = journals(&both, &header);
    let speaker = session(&world, call.speaker);
    let (header, reader) = Reader::new(&dump).expect("it begins well");
    let mut unborn = begin(header);
    for record in reader {
        let record = record.expect("it is whole");
        if !matches!(&record, Record::Birth(birth) if birth.session == speaker) {
            put(&mut unborn, &record);
        }
    }
    let (played, without) = (play(&dump), play(&unborn));
    let is_there = |played: &Played| played.standings.contains_key(&speaker);
    assert!(is_there(&played) && !is_there(&without));
    assert!(
        2 * without.stats.rtp_received < played.stats.rtp_received,
        "{} of {} packets",
        without.stats.rtp_received,
        played.stats.rtp_received
    );
}

/// In what is lost one session ends, whose place another takes; and a third opens afterwards.
#[test]
fn after_a_loss_sessions_go_on_from_their_birth_and_later_ones_are_whole() {
    let (mut world, both, header) = recorded_world(3, usize::MAX);
    let both_ways = [(MediaKind::Audio, Direction::SendRecv)];
    let speaker = world.publish(1, 1);
    let ends = world.join(&both_ways, Role::Echo);
    world.connect_all();
    talk(&mut world, &[speaker, ends], speaker, 0..100);
    both.lock().is_full = true;
    talk(&mut world, &[speaker, ends], speaker, 100..130);
    world.close(ends);
    let lost = world.join(&both_ways, Role::Echo);
    world.connect_all();
    assert_eq!(
        session(&world, lost).key.index,
        session(&world, ends).key.index,
        "it has its place"
    );
    talk(&mut world, &[speaker, lost], speaker, 130..160);
    both.lock().is_full = false;
    talk(&mut world, &[speaker, lost], speaker, 160..190);
    let late = world.join(&both_ways, Role::Echo);
    world.connect_all();
    talk(&mut world, &[speaker, lost, late], speaker, 190..250);
    world.close(late);
    talk(&mut world, &[speaker, lost], speaker, 250..280);

    let (_, dump) = journals(&both, &header);
    let played = play(&dump);
    let known = |peer| played.standings[&session(&world, peer)].known;
    assert!(matches!(known(speaker), Known::LostAt(_)));
    assert!(matches!(known(ends), Known::LostAt(_)));
    assert!(matches!(known(lost), Known::FromBirth(_)));
    assert_eq!(known(late), Known::Whole);
    // Two streams before the loss; after it the speaker's two, and each echo's from its birth on.
    let missing = packets(&dump) - played.stats.rtp_received;
    assert!(missing < 40, "{missing} of {}", packets(&dump));
    assert!(played.stats.rtp_received > 500, "{:?}", played.stats);
}

/// A ring is written because a chunk says that a session faulted.
#[test]
fn a_fault_for_which_there_was_no_room_is_told_with_what_is_taken_next() {
    let (mut world, both, _) = recorded_world(4, usize::MAX);
    let speaker = world.publish(1, 1);
    let echo = world.join(&[(MediaKind::Audio, Direction::SendRecv)], Role::Echo);
    world.connect_all();
    talk(&mut world, &[speaker, echo], speaker, 0..50);
    both.lock().is_full = true;
    let session = session(&world, echo);
    world.pump.shard_mut().inject_fault(session);
    talk(&mut world, &[speaker, echo], speaker, 50..100);
    assert_eq!(world.shard().stats().faults, 1);
    assert_eq!(both.lock().faulted, 0, "nothing was taken");
    both.lock().is_full = false;
    talk(&mut world, &[speaker], speaker, 100..200);
    assert_eq!(both.lock().faulted, 1, "told once");
}

/// How a session stood is its passwords, keys and addresses.
#[test]
fn a_redacted_ring_does_not_say_how_sessions_stood() {
    let (mut world, both, header) = recorded_world(9, RING_BYTES);
    let speaker = world.publish(1, 1);
    world.connect_all();
    let [audio, _] = world.mids(speaker)[..] else {
        panic!("it publishes two tracks");
    };
    for number in 0..100_u32 {
        world.send(speaker, audio, 960 * number, false, &[number as u8; 80]);
        world.run_for(Duration::from_millis(20));
    }
    drop(world);
    let (_, dump) = journals(&both, &header);
    let births = |journal: &[u8]| {
        let (_, reader) = Reader::new(journal).expect("it begins well");
        let records = reader.map(|record| record.expect("it is whole"));
        let stands = |record: &Record<'_>| matches!(record, Record::Birth(_) | Record::Counts(_));
        records.filter(stands).count()
    };
    assert!(births(&dump) > 0);
    let (redacted, error) = redact(&dump, &Seed::new([1; 32])).expect("it begins well");
    assert_eq!((births(&redacted), error), (0, None));
}

/// The birth after a loss says what was missed: how often numbers began again, and that a handshake was done.
#[test]
fn a_session_that_outlived_a_loss_goes_on_from_the_birth_that_came_after() {
    let (mut world, both, header) = recorded_world(5, usize::MAX);
    let speaker = world.publish(1, 1);
    let listener = world.subscribe(1, Target::Newest);
    world.connect_all();
    let both_ways = [(MediaKind::Audio, Direction::SendRecv)];
    let late = world.join(&both_ways, Role::Echo);
    world.peers[late].up = Some(Link::lossy(1_000));
    talk(&mut world, &[speaker], speaker, 0..50);
    both.lock().is_full = true;
    world.peers[late].up = None;
    world.connect_all();
    let mid = world.mids(speaker)[0];
    for (next, numbers) in [(30_000, 50..60), (60_000, 60..70), (90_000, 70..80)] {
        world.peers[speaker].set_next_sequence(mid, next);
        talk(&mut world, &[speaker, late], speaker, numbers);
    }
    both.lock().is_full = false;
    let addresses = [listener, late].map(|peer| world.peers[peer].public);
    world.taps = addresses.map(|address| (address, Vec::new())).into();
    talk(&mut world, &[speaker, late], speaker, 80..180);

    let (_, dump) = journals(&both, &header);
    let played = play(&dump);
    for peer in [speaker, listener, late] {
        let known = played.standings[&session(&world, peer)].known;
        assert!(matches!(known, Known::LostAt(_)), "{known:?}");
    }
    let missing = packets(&dump) - played.stats.rtp_received;
    assert!(missing < 40, "{missing} of {}", packets(&dump));
    // What was made of what came is the same again, to the last byte.
    for (to, then) in &mut world.taps {
        then.retain(|packet| classify(packet) == Class::Rtp);
        let now = &played.sent.0[to];
        // What was sent last had not been handed over.
        let last = &now[now.len().saturating_sub(90)..];
        let is_there = then.windows(last.len()).any(|sent| sent == last);
        assert!(then.len() >= 100 && is_there, "to {to}");
    }
}

/// One peer gets the address of another whose network left it, and both births are in the ring.
#[test]
fn a_path_that_two_sessions_proved_belongs_to_who_held_it() {
    let (mut world, both, header) = recorded_world(6, RING_BYTES);
    let both_ways = [(MediaKind::Audio, Direction::SendRecv)];
    let first = world.join(&both_ways, Role::Echo);
    let second = world.join(&both_ways, Role::Echo);
    world.connect_all();
    let speaker = world.publish(1, 1);
    world.connect_all();
    talk(&mut world, &[first, second, speaker], speaker, 0..20);
    let address = world.peers[first].public;
    (world.peers[first].public, world.peers[first].closed) =
        ("10.9.9.9:9".parse().expect("an address"), true);
    world.run_for(Duration::from_secs(7));
    world.peers[second].public = address;
    talk(&mut world, &[second, speaker], speaker, 20..900);
    assert_eq!(
        world.shard().stats().sessions,
        3,
        "the first has yet to time out"
    );
    let (_, dump) = journals(&both, &header);
    let played = play(&dump);
    let known = |peer| {
        played
            .standings
            .get(&session(&world, peer))
            .map(|it| it.known)
    };
    assert!(matches!(known(first), Some(Known::FromBirth(_))));
    assert_eq!(played.stats.rtp_received, packets(&dump));
}
