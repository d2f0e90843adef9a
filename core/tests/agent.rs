//! Calls with agents: what a person says is heard, turns are told, what the agent says is sent, and stops when it
//! should. Peers are str0m's, time is virtual.

mod support;

use std::time::Duration;

use antiphon_core::audio::Rate;
use antiphon_core::audio::signal::{noise, rms, tone, voice};
use antiphon_core::codec::opus::{OpusDecoder, OpusEncoder};
use antiphon_core::codec::{Decoder as _, Encoder as _, EncoderSettings};
use antiphon_core::ids::SessionId;
use antiphon_core::message::{Command, Event, Role};
use antiphon_core::replay::{Flow, Hearing, MediaPacket};
use antiphon_core::time::Timestamp;
use antiphon_core::voice::config::TurnConfig;
use antiphon_core::voice::message::{
    AgentAsk, AgentPlan, Heard, PlayoutState, SpokenQuality, UtteranceId, VoiceEvent,
};
use str0m::media::{Direction, MediaKind, Mid};

use crate::support::World;

const AUDIO: [(MediaKind, Direction); 1] = [(MediaKind::Audio, Direction::SendRecv)];
const PACKET: Duration = Duration::from_millis(20);
const SAMPLES: usize = 320;

/// A person in a call with an agent, at 16 kHz.
struct Call {
    world: World,
    session: SessionId,
    mid: Mid,
    encoder: OpusEncoder,
    packets: u32,
    opened: Timestamp,
}

impl Call {
    fn open() -> Self {
        Self::open_as(AgentPlan::default())
    }

    fn open_as(plan: AgentPlan) -> Self {
        let mut world = World::new(1);
        let opened = world.now;
        world.join(&AUDIO, Role::Agent(plan));
        world.connect_all();
        Self {
            session: world.peers[0].session.expect("it was opened"),
            mid: world.mids(0)[0],
            encoder: OpusEncoder::new(Rate::Hz16000, EncoderSettings::STANDARD),
            packets: 0,
            opened,
            world,
        }
    }

    /// Sends sound as it would be spoken.
    fn send(&mut self, sound: &[f32]) {
        for samples in sound.chunks_exact(SAMPLES) {
            self.send_packet(samples);
        }
    }

    fn send_packet(&mut self, samples: &[f32]) {
        let mut payload = [0; 400];
        let length = self.encoder.encode(samples, &mut payload);
        let payload = &payload[..length.expect("20 ms fit")];
        let time = self.packets * 960;
        self.packets += 1;
        self.world.send(0, self.mid, time, false, payload);
        self.world.run_for(PACKET);
    }

    /// Four syllables a second.
    fn speak(&mut self, millis: usize) {
        self.send(&voice(Rate::Hz16000, 1, millis * 16));
    }

    /// A quiet room.
    fn pause(&mut self, millis: usize) {
        self.send(&noise(2, 0.0005, millis * 16));
    }

    fn say(&mut self, utterance: u64, millis: usize) {
        let samples = tone(Rate::Hz16000, 440.0, 8_192.0, millis * 16);
        let pcm = samples.iter().flat_map(|it| (*it as i16).to_le_bytes());
        let ask = AgentAsk::Say {
            utterance: UtteranceId(utterance),
            pcm: pcm.collect(),
            rate: Rate::Hz16000,
            last: true,
            interruptible: true,
        };
        self.ask(ask);
    }

    fn ask(&mut self, ask: AgentAsk) {
        let session = self.session;
        self.world.command(Command::Agent { session, ask });
    }

    /// Milliseconds since the call was opened.
    fn now(&self) -> u64 {
        self.world.now.since(self.opened).as_millis() as u64
    }

    fn heard(&self) -> impl Iterator<Item = &Heard> {
        self.world.events.iter().filter_map(|event| match event {
            Event::Heard { heard, .. } => Some(heard),
            _ => None,
        })
    }

    fn decisions(&self) -> Vec<VoiceEvent> {
        let voice = |heard: &Heard| match heard {
            Heard::Voice(event) => Some(*event),
            _ => None,
        };
        self.heard().filter_map(voice).collect()
    }

    fn playouts(&self) -> Vec<(u64, u64, PlayoutState)> {
        let playout = |heard: &Heard| match heard {
            Heard::Playout {
                at, played, state, ..
            } => Some((at.0 / 1_000, played / 1_000, *state)),
            _ => None,
        };
        self.heard().filter_map(playout).collect()
    }

    /// What came back to the person, decoded, and when its last packet was sent.
    fn received(&self) -> Vec<f32> {
        let mut decoder = OpusDecoder::new(Rate::Hz16000);
        let mut sound = Vec::new();
        for payload in self.world.peers[0].payloads(self.mid) {
            let mut out = [0.0; SAMPLES];
            let count = decoder.decode(&payload, &mut out).expect("we send Opus");
            sound.extend_from_slice(&out[..count]);
        }
        sound
    }
}

#[test]
fn the_agent_hears_every_moment_of_a_person_once() {
    let mut call = Call::open();
    call.send(&tone(Rate::Hz16000, 440.0, 0.25, 100 * SAMPLES));
    let mut sound = Vec::new();
    let mut next = None;
    for heard in call.heard() {
        let Heard::Audio { at, pcm, .. } = heard else {
            continue;
        };
        assert!(
            next.is_none_or(|next| next == at.0),
            "{at:?} after {next:?}"
        );
        next = Some(at.0 + 20_000);
        let samples = pcm.chunks_exact(2);
        sound.extend(samples.map(|it| f32::from(i16::from_le_bytes([it[0], it[1]])) / 32_768.0));
    }
    assert!(sound.len() >= 95 * SAMPLES, "{} samples", sound.len());
    let settled = &sound[16_000..];
    assert!((rms(settled) / 0.177 - 1.0).abs() < 0.1, "{}", rms(settled));
    let rises = settled.windows(2).filter(|it| it[0] < 0.0 && it[1] >= 0.0);
    let hertz = rises.count() as f32 * 16_000.0 / settled.len() as f32;
    assert!((hertz - 440.0).abs() < 3.0, "{hertz}");
}

#[test]
fn the_agent_hears_at_the_rate_and_in_the_batches_it_asked_for() {
    for (rate, batch_millis) in [
        (Rate::Hz8000, 20),
        (Rate::Hz16000, 100),
        (Rate::Hz24000, 30),
        (Rate::Hz48000, 40),
    ] {
        let mut call = Call::open_as(AgentPlan {
            rate,
            batch_millis,
            ..AgentPlan::default()
        });
        call.send(&tone(Rate::Hz16000, 440.0, 0.25, 100 * SAMPLES));
        let mut batches: Vec<Vec<f32>> = Vec::new();
        for heard in call.heard() {
            if let Heard::Audio { pcm, .. } = heard {
                let samples = pcm.chunks_exact(2);
                let sample = |it: &[u8]| f32::from(i16::from_le_bytes([it[0], it[1]])) / 32_768.0;
                batches.push(samples.map(sample).collect());
            }
        }
        let length = usize::from(batch_millis / 10) * rate.frame();
        assert!(
            batches.iter().all(|batch| batch.len() == length),
            "{rate:?}"
        );
        let sound: Vec<f32> = batches.concat();
        let level = rms(&sound[sound.len() / 2..]);
        assert!((level / 0.177 - 1.0).abs() < 0.1, "{rate:?}: {level}");
    }
}

#[test]
fn noise_is_taken_from_what_the_agent_hears_if_it_asks() {
    let level = |denoise| {
        let mut call = Call::open_as(AgentPlan {
            denoise,
            ..AgentPlan::default()
        });
        call.send(&noise(3, 0.05, 200 * SAMPLES));
        let mut sound: Vec<f32> = Vec::new();
        for heard in call.heard() {
            if let Heard::Audio { pcm, .. } = heard {
                let samples = pcm.chunks_exact(2);
                sound.extend(samples.map(|it| f32::from(i16::from_le_bytes([it[0], it[1]]))));
            }
        }
        rms(&sound[sound.len() / 2..])
    };
    let (raw, denoised) = (level(false), level(true));
    assert!(denoised < 0.3 * raw, "{denoised} of {raw}");
}

#[test]
fn who_sends_faster_than_time_passes_costs_no_more_than_it() {
    let mut call = Call::open();
    let before = call.heard().count();
    // Ten seconds of sound within half a second.
    for _ in 0..500 {
        let mut payload = [0; 400];
        let length = call.encoder.encode(&[0.1; SAMPLES], &mut payload);
        let time = call.packets * 960;
        call.packets += 1;
        let payload = &payload[..length.expect("20 ms fit")];
        call.world.send(0, call.mid, time, false, payload);
        call.world.run_for(Duration::from_millis(1));
    }
    let audio = call.heard().filter(|it| matches!(it, Heard::Audio { .. }));
    let millis = 20 * (audio.count() - before);
    assert!(millis <= 1_100, "{millis} ms were heard in 500");
}

#[test]
fn what_the_agent_says_reaches_the_person_in_real_time() {
    let mut call = Call::open();
    let said_at = call.now();
    call.say(7, 1_000);
    call.world.run_for(Duration::from_millis(500));
    let halfway = call.received().len();
    assert!(
        (24 * SAMPLES..=27 * SAMPLES).contains(&halfway),
        "{halfway}"
    );
    call.world.run_for(Duration::from_secs(1));
    let sound = call.received();
    assert_eq!(sound.len(), 16_000);
    assert!((rms(&sound[3_200..]) / 0.177 - 1.0).abs() < 0.1);
    let playouts = call.playouts();
    assert_eq!(playouts[0], (said_at, 0, PlayoutState::Started));
    let (at, played, state) = playouts[1];
    assert_eq!((played, state), (1_000, PlayoutState::Finished));
    assert!(
        (960..=1_000).contains(&(at - said_at)),
        "{at} after {said_at}"
    );
}

#[test]
fn what_is_said_in_economy_is_coded_by_the_cheaper_half_of_opus() {
    /// RFC 6716 §3.1: configurations from here on are CELT alone.
    const CELT: u8 = 16;
    let mut call = Call::open();
    call.say(1, 400);
    call.world.run_for(Duration::from_millis(200));
    call.ask(AgentAsk::Quality(SpokenQuality::Economy));
    call.world.run_for(Duration::from_millis(400));
    let payloads = call.world.peers[0].payloads(call.mid);
    let is_celt: Vec<_> = payloads
        .iter()
        .map(|payload| payload[0] >> 3 >= CELT)
        .collect();
    assert_eq!(is_celt.len(), 20, "nothing is left out");
    let changed = is_celt.iter().position(|it| *it).expect("it was changed");
    assert!((9..=12).contains(&changed), "packet {changed}");
    assert!(is_celt[changed..].iter().all(|it| *it));
    let sound = call.received();
    assert!((rms(&sound[3_200..]) / 0.177 - 1.0).abs() < 0.2);
}

#[test]
fn a_turn_ends_after_the_person_did_and_not_before() {
    let mut call = Call::open();
    call.pause(500);
    let began = call.now();
    call.speak(1_000);
    let ended = call.now();
    call.pause(3_000);
    let decisions = call.decisions();
    let started = decisions.iter().find_map(|event| match event {
        VoiceEvent::SpeechStarted { start, .. } => Some(start.0 / 1_000),
        _ => None,
    });
    let started = started.unwrap_or_else(|| panic!("nobody spoke: {decisions:?}"));
    assert!(
        started.abs_diff(began) <= 150,
        "{started}, spoke at {began}"
    );
    let ends: Vec<_> = decisions
        .iter()
        .filter_map(|event| match event {
            VoiceEvent::Ended(end) => Some(*end),
            _ => None,
        })
        .collect();
    let [end] = &ends[..] else {
        panic!("{decisions:?}")
    };
    let (decided, last) = (end.at.0 / 1_000, end.end.0 / 1_000);
    assert!(last.abs_diff(ended) <= 200, "{last}, spoke until {ended}");
    assert!((150..=1_500).contains(&(decided - ended)), "{decided}");
}

/// What a replay hears of a recording is what the call heard, to the microsecond and the last bit of probability.
#[test]
fn a_recording_of_a_call_has_the_turns_of_the_call() {
    let mut call = Call::open();
    let mut sent = Vec::new();
    for sound in [
        noise(2, 0.0005, 500 * 16),
        voice(Rate::Hz16000, 1, 1_000 * 16),
        noise(2, 0.0005, 2_500 * 16),
        voice(Rate::Hz16000, 2, 800 * 16),
        noise(2, 0.0005, 3_000 * 16),
    ] {
        for samples in sound.chunks_exact(SAMPLES) {
            let mut payload = [0; 400];
            let length = call.encoder.encode(samples, &mut payload);
            let payload = &payload[..length.expect("20 ms fit")];
            let number = call.packets;
            call.packets += 1;
            // Some are not there, and some come late.
            if number % 37 == 11 {
                call.world.run_for(PACKET);
                continue;
            }
            let late = if number % 29 == 7 { 15 } else { 0 };
            call.world.run_for(Duration::from_millis(late));
            let arrives = call.world.now + call.world.link.delay;
            sent.push((arrives, number, payload.to_vec()));
            call.world.send(0, call.mid, number * 960, false, payload);
            call.world.run_for(PACKET - Duration::from_millis(late));
        }
    }
    call.world.run_for(Duration::from_secs(1));
    let decisions = call.decisions();
    let ended = |it: &VoiceEvent| matches!(it, VoiceEvent::Ended(_));
    assert_eq!(
        decisions.iter().filter(|it| ended(it)).count(),
        2,
        "{decisions:?}"
    );
    // The call was open before its first sample was there.
    let before = sent[0].0.since(call.opened) - PACKET;
    let expected: Vec<_> = decisions.iter().map(|it| earlier(*it, before)).collect();
    let replayed = replayed(&sent);
    let events = replayed.len().min(expected.len());
    assert_eq!(replayed[..events], expected[..]);
}

/// What a replay hears of packets: when each arrived, its place and its payload.
fn replayed(sent: &[(Timestamp, u32, Vec<u8>)]) -> Vec<VoiceEvent> {
    let codec = "opus/48000".parse().expect("a codec");
    let flow = Flow {
        source: "192.0.2.1:5004".parse().expect("an address"),
        destination: "192.0.2.2:5004".parse().expect("an address"),
    };
    let packets = sent.iter().zip(1..);
    let packets = packets.map(|((arrives, number, payload), sequence)| MediaPacket {
        flow,
        ssrc: 1,
        is_confirmed: true,
        arrived: Some(*arrives),
        codec: Some(&codec),
        sequence,
        timestamp: number * 960,
        marker: false,
        payload,
    });
    let packets: Vec<_> = packets.collect();
    let mut hearing = Hearing::new(&packets[0], TurnConfig::default()).expect("it is sound");
    let mut replayed = Vec::new();
    let mut keep = |heard: Heard| {
        if let Heard::Voice(event) = heard {
            replayed.push(event);
        }
    };
    for packet in &packets {
        hearing.insert(packet, &mut keep);
    }
    hearing.finish(&mut keep);
    replayed
}

/// The same decision in a call that began so much later.
fn earlier(event: VoiceEvent, by: Duration) -> VoiceEvent {
    let mut value = serde_json::to_value(event).expect("it is written");
    let fields = value.as_object_mut().expect("a variant");
    for (_, field) in fields.iter_mut() {
        for name in ["at", "start", "end"] {
            if let Some(time) = field.get(name).and_then(serde_json::Value::as_u64) {
                field[name] = (time - by.as_micros() as u64).into();
            }
        }
    }
    serde_json::from_value(value).expect("it is read")
}

#[test]
fn the_agent_falls_silent_soon_after_somebody_speaks() {
    let mut call = Call::open();
    call.pause(500);
    call.say(1, 10_000);
    call.pause(2_000);
    let began = call.now();
    call.speak(1_000);
    let interrupted = call.playouts().last().copied().expect("it was told");
    let (at, played, state) = interrupted;
    assert_eq!(state, PlayoutState::Interrupted);
    assert!(
        (100..=400).contains(&(at - began)),
        "{at}, spoke at {began}"
    );
    assert!(
        call.decisions()
            .iter()
            .any(|it| matches!(it, VoiceEvent::BargeIn { .. }))
    );
    let packets = call.received().len() / SAMPLES;
    // And one that fades.
    assert_eq!(packets as u64, played / 20 + 1);
    call.pause(1_000);
    assert_eq!(
        call.received().len() / SAMPLES,
        packets,
        "nothing more is said"
    );
}

/// A speaker beside an open microphone: what the agent says comes back after 120 ms, 15 dB softer. The path is learned
/// from a greeting that nobody may interrupt.
#[test]
fn the_agent_does_not_interrupt_itself() {
    let mut call = Call::open();
    call.pause(500);
    let spoken = voice(Rate::Hz16000, 5, 8 * 16_000);
    let (greeting, answer) = spoken.split_at(3 * 16_000);
    for (utterance, samples) in [greeting, answer].into_iter().enumerate() {
        let pcm = samples
            .iter()
            .flat_map(|it| ((it * 20_000.0) as i16).to_le_bytes());
        call.ask(AgentAsk::Say {
            utterance: UtteranceId(utterance as u64),
            pcm: pcm.collect(),
            rate: Rate::Hz16000,
            last: true,
            interruptible: utterance > 0,
        });
    }
    let room = noise(6, 0.0005, 8 * 16_000);
    let echo: Vec<f32> = room
        .iter()
        .enumerate()
        .map(|(index, noise)| {
            let back = index.checked_sub(16 * 120).map_or(0.0, |back| spoken[back]);
            noise + back * 0.61 * 0.178
        })
        .collect();
    call.send(&echo);
    let states: Vec<_> = call.playouts().into_iter().map(|it| it.2).collect();
    let (started, finished) = (PlayoutState::Started, PlayoutState::Finished);
    assert_eq!(states, [started, finished, started, finished]);
}

#[test]
fn asks_for_a_call_that_is_none_are_ignored() {
    let mut world = World::new(2);
    world.join(&AUDIO, Role::Echo);
    world.connect_all();
    let session = world.peers[0].session.expect("it was opened");
    let ask = AgentAsk::Clear { utterance: None };
    world.command(Command::Agent { session, ask });
    world.run_for(Duration::from_millis(100));
    assert!(
        !world
            .events
            .iter()
            .any(|it| matches!(it, Event::Heard { .. }))
    );
}
