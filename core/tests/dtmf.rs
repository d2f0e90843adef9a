//! Keys that are pressed (RFC 4733): a call with an agent hears them and presses them, rooms pass them on. The peers
//! seal by hand, and send what they like.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use antiphon_core::audio::Rate;
use antiphon_core::drive::Pump;
use antiphon_core::journal::{
    Header as JournalHeader, Kept, Payloads, Player, Reader, Record, Recorder, Retention, begin,
};
use antiphon_core::message::{Command, DropReason, Event, Role};
use antiphon_core::plan::{Codec, CodecPlan, Feedback, SessionPlan};
use antiphon_core::rng::Seed;
use antiphon_core::srtp::SendSource;
use antiphon_core::voice::message::{AgentAsk, AgentPlan, Heard as Told, UtteranceId};
use antiphon_core::wire::payload::event::Report;
use antiphon_core::wire::rtp::{Header, HeaderFields};

use crate::support::raw::{self, AUDIO_SSRC, Heard, Raw};
use crate::support::{World, publisher, shard, subscriber};

/// Its payload type.
const EVENT: u8 = 110;
const PACKET: Duration = Duration::from_millis(20);

fn address(number: u8) -> SocketAddr {
    ([203, 0, 113, number], 6_000).into()
}

/// [`raw::plan`] with keys beside its sound.
fn plan(receive: bool, send: bool) -> SessionPlan {
    let mut plan = raw::plan(receive, send);
    plan.media[0].codecs.push(CodecPlan {
        payload_type: EVENT,
        codec: Codec::TelephoneEvent(Rate::Hz48000),
        rtx_payload_type: None,
        feedback: Feedback::default(),
    });
    plan
}

/// A person who presses keys.
struct Person {
    raw: Raw,
    source: SendSource,
    next: u16,
}

impl Person {
    fn join(world: &mut World, number: u8, role: Role, plan: SessionPlan) -> Self {
        let mut raw = Raw::connect(world, address(number), role, plan);
        let source = raw.outbound.claim(AUDIO_SSRC).expect("the first claim");
        Self {
            raw,
            source,
            next: 1,
        }
    }

    fn send(&mut self, world: &mut World, payload_type: u8, timestamp: u32, payload: &[u8]) {
        let fields = HeaderFields {
            payload_type,
            marker: false,
            sequence_number: self.next,
            timestamp,
            ssrc: AUDIO_SSRC,
        };
        self.next += 1;
        let packet = self.raw.seal(&mut self.source, &fields, &[], payload);
        world.inject(self.raw.address, &packet);
        world.run_for(PACKET);
    }

    /// 100 ms of a key, its end said three times.
    fn press(&mut self, world: &mut World, event: u8, timestamp: u32) {
        for packet in 0..7_u16 {
            let report = Report {
                event,
                end: packet >= 4,
                duration: 960 * (packet + 1).min(5),
            };
            self.send(world, EVENT, timestamp, &report.write());
        }
    }

    fn listen(&mut self, world: &mut World) -> Vec<(Header, Vec<u8>)> {
        let rtp = |heard| match heard {
            Heard::Rtp(header, payload) => Some((header, payload)),
            _ => None,
        };
        self.raw.listen(world).into_iter().filter_map(rtp).collect()
    }
}

fn key(event: &Event) -> Option<(char, u64)> {
    match event {
        Event::Heard {
            heard: Told::Dtmf {
                digit, duration, ..
            },
            ..
        } => Some((*digit, *duration)),
        _ => None,
    }
}

fn keys(world: &World) -> Vec<(char, u64)> {
    world.events.iter().filter_map(key).collect()
}

#[test]
fn an_agent_is_told_each_key_once_and_what_is_no_report_is_counted() {
    let mut world = World::new(61);
    let role = Role::Agent(AgentPlan::default());
    let mut person = Person::join(&mut world, 1, role, plan(true, true));
    person.send(&mut world, raw::OPUS, 960, b"sound");
    person.press(&mut world, 1, 1_920);
    person.press(&mut world, 11, 9_600);
    assert_eq!(keys(&world), [('1', 100_000), ('#', 100_000)]);
    // The end of this one never comes; time alone ends it.
    let report = Report {
        event: 2,
        end: false,
        duration: 960,
    };
    person.send(&mut world, EVENT, 20_000, &report.write());
    assert_eq!(keys(&world).len(), 2);
    world.run_for(Duration::from_millis(300));
    assert_eq!(keys(&world)[2..], [('2', 20_000)]);
    let malformed = |world: &World| world.shard().stats().drops[DropReason::MalformedRtp as usize];
    let before = malformed(&world);
    for payload in [&[][..], &[5], &[5, 0x80, 0], &[5, 0x80, 0, 1, 0]] {
        person.send(&mut world, EVENT, 30_000, payload);
    }
    assert_eq!(malformed(&world) - before, 4);
    assert_eq!(keys(&world).len(), 3);
    assert_eq!(world.shard().stats().faults, 0);
}

#[test]
fn an_agent_presses_keys_behind_what_it_says() {
    let mut world = World::new(62);
    let role = Role::Agent(AgentPlan::default());
    let mut person = Person::join(&mut world, 1, role, plan(true, true));
    let session = person.raw.session;
    let say = AgentAsk::Say {
        utterance: UtteranceId(1),
        pcm: vec![3; 2 * 16 * 40],
        rate: Rate::Hz16000,
        last: true,
        interruptible: true,
    };
    let digits = "1 #".to_owned();
    for ask in [say, AgentAsk::Dtmf { digits }] {
        world.command(Command::Agent { session, ask });
    }
    world.run_for(Duration::from_secs(1));
    let heard = person.listen(&mut world);
    let (sound, pressed) = heard.split_at(2);
    assert!(
        sound
            .iter()
            .all(|(header, _)| header.payload_type == raw::OPUS)
    );
    assert_eq!(pressed.len(), 14);
    let begins = [40, 200].map(|millis| {
        let first = sound[0].0.timestamp;
        first.wrapping_add(48 * millis)
    });
    for (key, (event, began)) in [1, 11].into_iter().zip(begins).enumerate() {
        for (packet, (header, payload)) in pressed[7 * key..][..7].iter().enumerate() {
            let report = Report::parse(payload).expect("a report");
            let expected = Report {
                event,
                end: packet >= 4,
                duration: 960 * (packet as u16 + 1).min(5),
            };
            assert_eq!(report, expected, "{key} {packet}");
            assert_eq!((header.payload_type, header.timestamp), (EVENT, began));
            assert_eq!(header.marker, packet == 0);
        }
    }
    let numbers = heard.windows(2);
    assert!(
        numbers
            .into_iter()
            .all(|two| two[1].0.sequence_number == two[0].0.sequence_number.wrapping_add(1))
    );
}

/// A call in which a person presses a 5, and the agent 42#.
fn recorded(payloads: Payloads) -> Vec<u8> {
    let kept = Kept::default();
    let mut world = World::new(65);
    let shard = shard(world.epoch, &Seed::new([65; 32]));
    let retention = Retention::Whole { budget: u64::MAX };
    let mut journal = begin(JournalHeader::new(&shard, "test", payloads, retention));
    let recorder = Recorder::new(Box::new(kept.clone()), payloads);
    world.pump = Pump::new(shard).with_recorder(recorder);
    let role = Role::Agent(AgentPlan::default());
    let mut person = Person::join(&mut world, 1, role, plan(true, true));
    person.press(&mut world, 5, 1_920);
    let session = person.raw.session;
    let digits = "42#".to_owned();
    let ask = AgentAsk::Dtmf { digits };
    world.command(Command::Agent { session, ask });
    world.run_for(Duration::from_secs(1));
    assert_eq!(keys(&world), [('5', 100_000)], "the agent is told");
    assert_eq!(person.listen(&mut world).len(), 21);
    drop(world);
    journal.append(&mut kept.into_bytes());
    journal
}

/// A journal without payloads has the keys of neither side, and one with them plays again.
#[test]
fn a_journal_without_payloads_has_no_digits() {
    for payloads in [Payloads::Full, Payloads::Headers] {
        let journal = recorded(payloads);
        let (header, reader) = Reader::new(&journal).expect("it begins well");
        let (mut heard, mut dialled) = (Vec::new(), Vec::new());
        for record in reader {
            match record.expect("it is whole") {
                Record::Event(event) => heard.extend(key(&event)),
                Record::Command(command) => dialled.extend(match command.into_owned() {
                    Command::Agent {
                        ask: AgentAsk::Dtmf { digits },
                        ..
                    } => Some(digits),
                    _ => None,
                }),
                _ => {}
            }
        }
        let expected = match payloads {
            Payloads::Full => ('5', "42#"),
            Payloads::Headers => ('0', "000"),
        };
        assert_eq!(heard, [(expected.0, 100_000)]);
        assert_eq!(dialled, [expected.1]);
        if payloads == Payloads::Full {
            let (_, reader) = Reader::new(&journal).expect("it begins well");
            let mut player = Player::new(&header, reader).expect("a shard can be made of it");
            while let Some(step) = player.step(&mut ()) {
                step.expect("it is whole");
            }
            assert_eq!(player.difference(), None);
        }
    }
}

/// Each packet is a key that is over: an event each would fill the lane of events, which is a fault of the shard.
#[test]
fn a_peer_whose_every_packet_is_a_key_is_held_back_and_counted() {
    let mut world = World::new(66);
    let role = Role::Agent(AgentPlan::default());
    let mut person = Person::join(&mut world, 1, role, plan(true, true));
    let report = Report {
        event: 1,
        end: true,
        duration: 960,
    };
    // Fifty a second.
    for number in 0..100 {
        person.send(&mut world, EVENT, 960 * number, &report.write());
    }
    let told = keys(&world).len() as u64;
    assert!((16 + 19..=16 + 20).contains(&told), "{told}");
    assert_eq!(world.shard().stats().voice.keys_dropped, 100 - told);
}

#[test]
fn without_telephone_events_nothing_is_pressed() {
    let mut world = World::new(63);
    let role = Role::Agent(AgentPlan::default());
    let mut person = Person::join(&mut world, 1, role, raw::plan(true, true));
    let session = person.raw.session;
    let digits = "12".to_owned();
    let ask = AgentAsk::Dtmf { digits };
    world.command(Command::Agent { session, ask });
    world.run_for(Duration::from_secs(1));
    assert!(person.listen(&mut world).is_empty());
}

#[test]
fn a_room_passes_keys_to_those_who_take_them() {
    let mut world = World::new(64);
    let mut speaker = Person::join(&mut world, 1, publisher(1, 1), plan(true, false));
    let mut taker = Person::join(&mut world, 2, subscriber(1), plan(false, true));
    let mut other = Person::join(&mut world, 3, subscriber(1), raw::plan(false, true));
    speaker.send(&mut world, raw::OPUS, 960, b"before");
    speaker.press(&mut world, 7, 1_920);
    speaker.send(&mut world, raw::OPUS, 9_600, b"after");
    let taken = taker.listen(&mut world);
    let first = taken[0].0.timestamp;
    let types: Vec<_> = taken
        .iter()
        .map(|(header, _)| header.payload_type)
        .collect();
    assert_eq!(
        types,
        [&[raw::OPUS][..], &[EVENT; 7], &[raw::OPUS]].concat()
    );
    for (header, payload) in &taken[1..8] {
        assert_eq!(header.timestamp.wrapping_sub(first), 960);
        assert_eq!(Report::parse(payload).and_then(Report::key), Some('7'));
    }
    assert_eq!(taken[8].0.timestamp.wrapping_sub(first), 9_600 - 960);
    let heard = other.listen(&mut world);
    let payloads: Vec<_> = heard.iter().map(|(_, payload)| &payload[..]).collect();
    assert_eq!(payloads, [b"before", &b"after"[..]]);
}
