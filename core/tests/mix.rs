//! Rooms that are mixed: everybody in one track, but for the listener itself. Peers are str0m's, time is virtual.

mod support;

use std::time::Duration;

use antiphon_core::audio::Rate;
use antiphon_core::audio::signal::{rms, tone};
use antiphon_core::codec::opus::{OpusDecoder, OpusEncoder};
use antiphon_core::codec::{Decoder as _, Encoder as _, EncoderSettings};
use antiphon_core::ids::{ParticipantId, RoomId};
use antiphon_core::message::Role;
use str0m::media::{Direction, MediaKind};

use crate::support::{World, publisher};

const SEND: [(MediaKind, Direction); 1] = [(MediaKind::Audio, Direction::SendOnly)];
const RECEIVE: [(MediaKind, Direction); 1] = [(MediaKind::Audio, Direction::RecvOnly)];
const SAMPLES: usize = 960;
const TONES: [f32; 3] = [300.0, 500.0, 800.0];

/// How loud one frequency is in a sound of a second or more: amplitude, by correlation.
fn loudness(sound: &[f32], hertz: f32) -> f32 {
    let (mut real, mut imaginary) = (0.0_f64, 0.0_f64);
    for (index, sample) in sound.iter().enumerate() {
        let turn = f64::from(hertz) * index as f64 / 48_000.0 * std::f64::consts::TAU;
        real += f64::from(*sample) * turn.cos();
        imaginary += f64::from(*sample) * turn.sin();
    }
    (2.0 * (real.hypot(imaginary)) / sound.len() as f64) as f32
}

fn mixed(own: Option<u32>) -> Role {
    Role::Mix {
        room: RoomId(1),
        own: own.map(ParticipantId),
    }
}

/// Lets three publishers play a tone each for a while.
fn play(world: &mut World, speakers: &[usize], packets: std::ops::Range<u32>) {
    let mut encoders: Vec<_> = speakers
        .iter()
        .map(|_| OpusEncoder::new(Rate::Hz48000, EncoderSettings::ECONOMY))
        .collect();
    let tones = TONES.map(|hertz| tone(Rate::Hz48000, hertz, 0.2, 48_000));
    for packet in packets {
        for ((speaker, encoder), tone) in speakers.iter().zip(&mut encoders).zip(&tones) {
            let start = packet as usize % 50 * SAMPLES;
            let mut payload = [0; 400];
            let length = encoder.encode(&tone[start..][..SAMPLES], &mut payload);
            let mid = world.mids(*speaker)[0];
            let payload = &payload[..length.expect("20 ms fit")];
            world.send(*speaker, mid, packet * 960, false, payload);
        }
        world.run_for(Duration::from_millis(20));
    }
}

/// The last second that a listener received.
fn heard(world: &World, listener: usize) -> Vec<f32> {
    let mut decoder = OpusDecoder::new(Rate::Hz48000);
    let mid = world.mids(listener)[0];
    let mut sound = Vec::new();
    for payload in world.peers[listener].payloads(mid) {
        let mut out = [0.0; SAMPLES];
        assert_eq!(decoder.decode(&payload, &mut out), Ok(SAMPLES));
        sound.extend_from_slice(&out);
    }
    sound.split_off(sound.len().saturating_sub(48_000))
}

#[test]
fn a_listener_hears_everybody_but_itself_in_one_track() {
    let mut world = World::new(1);
    let speakers = [1, 2, 3].map(|number| world.join(&SEND, publisher(1, number)));
    let first = world.join(&RECEIVE, mixed(Some(1)));
    let second = world.join(&RECEIVE, mixed(Some(2)));
    let guests = [0, 1].map(|_| world.join(&RECEIVE, mixed(None)));
    world.connect_all();
    play(&mut world, &speakers, 0..150);
    let levels = |listener| TONES.map(|hertz| loudness(&heard(&world, listener), hertz));
    let expected = |own: usize, levels: [f32; 3]| {
        for (number, level) in levels.into_iter().enumerate() {
            let wanted = if number + 1 == own { 0.0 } else { 0.2 };
            assert!((level - wanted).abs() < 0.03, "of {own}: {levels:?}");
        }
    };
    expected(1, levels(first));
    expected(2, levels(second));
    guests.iter().for_each(|guest| expected(0, levels(*guest)));
    // One packet each 20 ms, whatever comes.
    let mid = world.mids(first)[0];
    let packets = world.peers[first].payloads(mid).len();
    assert!((140..=155).contains(&packets), "{packets}");
}

#[test]
fn who_leaves_is_not_heard_any_more_and_the_last_listener_closes_the_desk() {
    let mut world = World::new(2);
    let speakers = [1, 2, 3].map(|number| world.join(&SEND, publisher(1, number)));
    let listener = world.join(&RECEIVE, mixed(None));
    world.connect_all();
    play(&mut world, &speakers, 0..100);
    world.close(speakers[0]);
    play(&mut world, &speakers[1..], 100..250);
    let sound = heard(&world, listener);
    assert!(rms(&sound) > 0.1);
    // The tones moved up by one speaker.
    assert!(loudness(&sound, TONES[2]) < 0.02, "who left is heard");
    world.close(listener);
    world.run_for(Duration::from_secs(1));
    let mixed = world.shard().stats().voice.packets_mixed;
    play(&mut world, &speakers[1..], 250..300);
    assert_eq!(world.shard().stats().voice.packets_mixed, mixed);
    speakers[1..]
        .iter()
        .for_each(|speaker| world.close(*speaker));
    world.run_for(Duration::from_secs(1));
    let sizes = world.shard().table_sizes();
    assert_eq!((sizes.timers, sizes.rooms, sizes.sessions), (0, 0, 0));
}

#[test]
fn a_listener_that_faults_takes_nothing_but_itself_along() {
    let mut world = World::new(3);
    let speakers = [1, 2, 3].map(|number| world.join(&SEND, publisher(1, number)));
    let faulty = world.join(&RECEIVE, mixed(None));
    world.connect_all();
    play(&mut world, &speakers, 0..50);
    let session = world.peers[faulty].session.expect("it was opened");
    world.pump.shard_mut().inject_fault(session);
    // Nobody else listens: the desk goes with it.
    play(&mut world, &speakers, 50..100);
    assert_eq!(world.shard().stats().faults, 1);
    let listener = world.join(&RECEIVE, mixed(None));
    world.connect_all();
    play(&mut world, &speakers, 100..200);
    assert!(rms(&heard(&world, listener)) > 0.1);
}
