//! What the shard allocates: nothing for a packet, and little for a session; and that what handles sound allocates
//! nothing. Counted by the global allocator of this program, only while a call into the core runs; the str0m peers' own
//! memory stays out of it.
//!
//! What C code allocates, of ciphers and of Opus, it takes from `malloc` directly: `docs/performance.md` states that.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;
use std::time::Duration;

use antiphon_core::audio::{
    AudioFrame, AutoGain, Band, Chain, Channels, Compressor, CompressorSettings, EchoCanceller,
    Equaliser, GateSettings, HighPass, Limiter, Mixer, NoiseGate, Rate, Resampler, Stage,
    Suppression, Suppressor, VOICES, signal,
};
use antiphon_core::codec::{AnyDecoder, AnyEncoder, Decoder, Encoder, EncoderSettings};
use antiphon_core::fuzzing::{OFFER, binding_request};
use antiphon_core::ids::{ShardId, TrackId};
use antiphon_core::limits::{SDP_LINES_MAX, SDP_MEDIA_MAX};
use antiphon_core::message::{Role, Target};
use antiphon_core::plan::Codec;
use antiphon_core::relay::Relay;
use antiphon_core::rng::Seed;
use antiphon_core::sdp::{Offer, Purpose};
use antiphon_core::sim::churn::Churn;
use antiphon_core::sim::link::Impairment;
use antiphon_core::sim::peer::{PeerSpec, ScriptedPeer, Speech};
use antiphon_core::sim::world as simulated;
use antiphon_core::voice::config::TurnConfig;
use antiphon_core::voice::echo::EchoGuard;
use antiphon_core::voice::features::{ANALYSED_SAMPLES, Analyser, Side};
use antiphon_core::voice::message::CallTime;
use antiphon_core::voice::turns::TurnDetector;
use antiphon_core::wire::{rtcp, rtp, stun};
use serde_json::Value;
use str0m::media::{Direction, MediaKind};

use crate::support::recording::{Packet, deliver};
use crate::support::testing::vector;
use crate::support::{World, shard, vp8};

const FRAME: Duration = Duration::from_millis(20);
/// Packets before tables, caches and buffers have the size they keep.
const WARM_UP: u32 = 1_500;
const COUNTED: u32 = 200;

struct Counting;

/// Calls that took memory, bytes they asked for, and those less what was given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    calls: u64,
    asked: u64,
    bytes: i64,
}

thread_local! {
    /// Tests run side by side: each counts its own thread.
    static COUNT: Cell<Count> = const { Cell::new(Count { calls: 0, asked: 0, bytes: 0 }) };
}

fn note(calls: u64, asked: usize, bytes: i64) {
    // A thread that ends allocates after its locals are gone.
    let _counted = COUNT.try_with(|count| {
        let before = count.get();
        count.set(Count {
            calls: before.calls + calls,
            asked: before.asked + asked as u64,
            bytes: before.bytes + bytes,
        });
    });
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size(), layout.size() as i64);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, 0, -(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size, size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of the last [`COUNTED`] of a peer's packets, when all went before.
fn allocations(world: &mut World, peer: usize, packet: impl Fn(u32) -> Packet) -> u64 {
    let count = (WARM_UP + COUNTED) as usize;
    let mut packets = world.record_media(peer, count, FRAME, packet);
    let (warm_up, counted) = packets.split_at_mut(WARM_UP as usize);
    for packet in warm_up {
        deliver(world.pump.shard_mut(), packet);
    }
    let before = COUNT.get();
    for packet in counted {
        deliver(world.pump.shard_mut(), packet);
    }
    COUNT.get().calls - before.calls
}

fn opus(number: u32) -> Packet {
    Packet {
        section: 0,
        time: number * 960,
        marker: false,
        payload: vec![number as u8; 100],
    }
}

/// A picture a packet, in the second section.
fn picture(number: u32) -> Packet {
    Packet {
        section: 1,
        time: number * 1_800,
        marker: true,
        payload: vp8(number as u16, number.is_multiple_of(50), true, 7, 1_000),
    }
}

fn room(subscribers: u32) -> (World, usize) {
    let mut world = World::new(1);
    let peer = world.publish(1, 1);
    for _ in 0..subscribers {
        world.subscribe(1, Target::Newest);
    }
    world.connect_all();
    (world, peer)
}

#[test]
fn the_counting_works() {
    let before = COUNT.get();
    let held = vec![0_u8; 1_000];
    let during = COUNT.get();
    drop(held);
    assert_eq!(
        (during.calls - before.calls, during.bytes - before.bytes),
        (1, 1_000)
    );
    assert_eq!(COUNT.get().bytes, before.bytes);
}

#[test]
fn a_received_packet_allocates_nothing() {
    let (mut world, peer) = room(0);
    assert_eq!(allocations(&mut world, peer, opus), 0);
}

#[test]
fn a_packet_forwarded_to_ten_allocates_nothing() {
    let (mut world, peer) = room(10);
    let before = world.shard().stats().rtp_sent;
    assert_eq!(allocations(&mut world, peer, opus), 0);
    let sent = world.shard().stats().rtp_sent - before;
    assert_eq!(sent, u64::from(10 * (WARM_UP + COUNTED)));
}

#[test]
fn an_echoed_packet_allocates_nothing() {
    let mut world = World::new(1);
    let peer = world.join(&[(MediaKind::Audio, Direction::SendRecv)], Role::Echo);
    world.connect_all();
    assert_eq!(allocations(&mut world, peer, opus), 0);
    assert_eq!(world.shard().stats().rtp_sent, u64::from(WARM_UP + COUNTED));
}

#[test]
fn a_video_packet_cached_and_forwarded_allocates_nothing() {
    let (mut world, peer) = room(2);
    let before = world.shard().stats().rtp_sent;
    assert_eq!(allocations(&mut world, peer, picture), 0);
    let sent = world.shard().stats().rtp_sent - before;
    assert_eq!(sent, u64::from(2 * (WARM_UP + COUNTED)));
}

/// Sound like syllables, silence in between, and decisions on both.
/// In the shard that has its publisher. A lane holds a relay for a while, here the last ten.
#[test]
fn a_packet_relayed_to_other_shards_allocates_nothing() {
    let (mut world, publisher) = room(1);
    let session = world.peers[publisher].session.expect("it was opened");
    for media in 0..2 {
        let follow = Relay::Follow(TrackId { session, media });
        for shard in 1..4 {
            let now = world.now;
            let home = world.pump.shard_mut();
            home.handle_relay(now, ShardId(shard), follow.clone());
        }
    }
    let count = (WARM_UP + COUNTED) as usize;
    let mut packets = world.record_media(publisher, count, FRAME, picture);
    let mut lane = VecDeque::with_capacity(64);
    let (mut before, mut relayed) = (Count::default(), 0);
    for (packet, number) in packets.iter_mut().zip(0..) {
        if number == WARM_UP {
            (before, relayed) = (COUNT.get(), 0);
        }
        let home = world.pump.shard_mut();
        deliver(home, packet);
        while let Some(relay) = home.poll_relay() {
            relayed += 1;
            lane.push_back(relay);
        }
        lane.drain(..lane.len().saturating_sub(30));
    }
    assert_eq!(
        (relayed, COUNT.get().calls - before.calls),
        (3 * COUNTED, 0)
    );
}

#[test]
fn a_frame_of_a_voice_allocates_nothing() {
    let mut analyser = Analyser::new();
    let mut guard = EchoGuard::new();
    let mut detector = TurnDetector::new(TurnConfig::default());
    let mut decisions = 0;
    let before = COUNT.get();
    for frame in 0..3_000_u64 {
        let loud = frame % 300 < 150 && frame % 20 < 14;
        let sample = |n: usize| {
            if loud {
                (n % 107) as f32 / 214.0 - 0.25
            } else {
                0.0
            }
        };
        let samples: [f32; ANALYSED_SAMPLES] = std::array::from_fn(sample);
        guard.handle_played(Some(&samples));
        let mut features = analyser.analyse(&samples, &Side::default());
        features.echo = guard.echo(&features);
        // What a network makes of a voice is certain here, whatever earshot thinks of a sawtooth.
        features.speech = if loud { 32_000 } else { 0 };
        features.echo = 0;
        detector.handle_frame(CallTime(frame * 10_000), &features);
        while detector.poll_event().is_some() {
            decisions += 1;
        }
    }
    assert_eq!(COUNT.get(), before);
    assert!(decisions > 10, "{decisions}");
}

#[test]
fn a_connected_audio_session_holds_at_most_24_kilobytes() {
    const SESSIONS: i64 = 1_000;
    const BYTES_MAX: i64 = 24_000;
    let mut world = World::new(1);
    for _ in 0..SESSIONS {
        world.join(&[(MediaKind::Audio, Direction::SendRecv)], Role::Echo);
    }
    world.connect_all();
    for peer in 0..world.peers.len() {
        let mid = world.mids(peer)[0];
        world.send(peer, mid, 960, false, &[1; 100]);
    }
    world.run_for(FRAME);
    let stats = world.shard().stats();
    assert_eq!(i64::from(stats.sessions_connected), SESSIONS);
    assert_eq!(
        stats.rtp_sent, SESSIONS as u64,
        "every session has met a packet"
    );
    let empty = shard(world.epoch, &Seed::new([2; 32]));
    let full = std::mem::replace(world.pump.shard_mut(), empty);
    let before = COUNT.get();
    drop(full);
    let bytes = (before.bytes - COUNT.get().bytes) / SESSIONS;
    println!("{bytes} bytes of Rust heap a connected audio session");
    assert!((1..=BYTES_MAX).contains(&bytes), "{bytes} bytes a session");
}

/// The fourth driver: shard, pump, its queues, the ways and the clients at their ends. Only checks of consent, of which
/// each client makes four in these 10 s, are put together piece by piece.
#[test]
fn a_simulated_packet_allocates_nothing() {
    const PEERS: u32 = 4;
    let mut world = simulated::World::new(simulated::Options::new(3));
    let seed = Seed::new([3; 32]);
    for number in 0..PEERS {
        let mut spec = PeerSpec::new(number);
        (spec.speech, spec.hears) = (Some(Speech::Monologue), true);
        let way = || vec![Impairment::Delay(FRAME)];
        world.join(simulated::Join {
            peer: Box::new(ScriptedPeer::new(spec, &seed)),
            role: Role::Echo,
            shard: 0,
            up: way(),
            down: way(),
            ipv6: false,
        });
    }
    world.run_for(Duration::from_secs(30));
    let sent = |world: &simulated::World| world.stats().map(|stats| stats.rtp_sent).sum::<u64>();
    let (before, packets) = (COUNT.get().calls, sent(&world));
    world.run_for(Duration::from_secs(10));
    let (allocations, packets) = (COUNT.get().calls - before, sent(&world) - packets);
    println!("{allocations} allocations for {packets} packets echoed");
    assert!(packets >= u64::from(PEERS) * 499, "{packets}");
    assert!(allocations <= u64::from(PEERS) * 5 * 10, "{allocations}");
}

/// Fifty clients a second come, talk and go, by the shards' own tables and by all that is allocated, the simulator's
/// books included: what a session leaves behind, 4,500 leave 4,500 times.
#[test]
fn churn_leaves_nothing_behind_and_takes_no_more_memory_with_time() {
    /// After as long as consent lasts, as many lie about as ever will.
    const SETTLED: u64 = 40;
    const WINDOW: u64 = 25;
    const GROWTH_PERCENT_MAX: i64 = 8;
    let lasts = Duration::from_secs(SETTLED + 2 * WINDOW);
    let (before, mut most) = (COUNT.get().bytes, [0; 2]);
    let outcome = Churn::new(11, lasts).run(|standing| {
        let second = standing.at.as_secs();
        if let Some(settled) = second.checked_sub(SETTLED + 1) {
            let window = &mut most[(settled / WINDOW) as usize];
            *window = (COUNT.get().bytes - before).max(*window);
        }
    });
    assert_eq!(outcome.findings, []);
    assert_eq!(outcome.end.opened, 50 * (SETTLED + 2 * WINDOW));
    assert!(outcome.packets_heard > 100_000, "{outcome:?}");
    println!("{most:?} bytes at most in two windows of {WINDOW} s");
    let growth = (most[1] - most[0]) * 100 / most[0];
    assert!(growth <= GROWTH_PERCENT_MAX, "{most:?}: {growth} % more");
}

/// P4, with what all allowed media sections together may hold: they are counted, not measured by the input.
const OFFER_BYTES_MAX: u64 = 1_024 * SDP_MEDIA_MAX as u64;

/// Bytes that reading an offer and agreeing to it asks for.
fn asked_for(offer: &[u8]) -> u64 {
    let before = COUNT.get().asked;
    if let Ok(offer) = Offer::parse(offer) {
        drop(offer.negotiate(Purpose::Echo));
    }
    COUNT.get().asked - before
}

#[test]
fn reading_an_offer_asks_for_ten_times_its_size_at_most() {
    let mut offers = inputs("malformed/sdp.jsonl.gz");
    // Whatever repeats, as often as it fits.
    for line in [
        "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n",
        "a=rtpmap:1 opus/48000/2\r\n",
        "a=fmtp:1 apt=2\r\n",
        "a=rtcp-fb:* nack\r\n",
        "a=ssrc:1 cname:x\r\n",
        "a=ssrc-group:FID 1 2\r\n",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\n",
        "a=rid:a send pt=1\r\n",
        "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n",
        "a=group:BUNDLE 0 1\r\n",
        "\r\n",
    ] {
        let mut offer = OFFER.as_bytes().to_vec();
        for _ in 0..SDP_LINES_MAX {
            offer.extend_from_slice(line.as_bytes());
            offers.push(offer.clone());
        }
    }
    for offer in offers {
        let asked = asked_for(&offer);
        let allowed = 10 * offer.len() as u64 + OFFER_BYTES_MAX;
        assert!(asked <= allowed, "{asked} bytes for {}", offer.len());
    }
}

#[test]
fn reading_a_datagram_asks_for_nothing() {
    let mut datagrams = Vec::new();
    for file in [
        "any.jsonl",
        "rtcp.jsonl",
        "rtp.jsonl.gz",
        "srtp.jsonl",
        "stun.jsonl",
    ] {
        datagrams.extend(inputs(&format!("malformed/{file}")));
    }
    datagrams.extend(inputs_of_our_own());
    let before = COUNT.get();
    let mut read = 0;
    for datagram in &datagrams {
        if let Ok(header) = rtp::Header::parse(datagram) {
            read += header.extensions(datagram).count();
            read += usize::from(header.payload(datagram).is_ok());
        }
        read += rtcp::packets(datagram).filter(Result::is_ok).count();
        read += usize::from(stun::local_ufrag(datagram).is_ok());
    }
    assert_eq!(COUNT.get(), before);
    assert!(read > 10, "{read} of {} made sense", datagrams.len());
}

/// A packet with two extensions, a compound and a check.
fn inputs_of_our_own() -> Vec<Vec<u8>> {
    let mut packet = vec![0x90, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
    packet.extend([0xbe, 0xde, 0, 2, 0x10, 0xff, 0x22, 0xab, 0xcd, 0xef, 0, 0]);
    let compound = vec![0x81, 201, 0, 7].into_iter().chain([0; 28]).collect();
    let check = binding_request("abcd:efgh", "password", 1, true);
    vec![packet; 10]
        .into_iter()
        .chain([compound, check])
        .collect()
}

/// The bytes of a file of malformed inputs; none without the folder.
fn inputs(path: &str) -> Vec<Vec<u8>> {
    let text = String::from_utf8(vector(path).unwrap_or_default()).expect("lines of JSON");
    let hex = |line: &str| {
        let value: Value = serde_json::from_str(line).expect("JSON");
        let digits = value["hex"].as_str().expect("bytes").as_bytes().to_vec();
        let digit = |byte: u8| char::from(byte).to_digit(16).expect("a digit") as u8;
        digits
            .chunks(2)
            .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
            .collect()
    };
    text.lines().map(hex).collect()
}

/// A jitter buffer with the decoder that calls have: packets lost, late and in time, speech that is played faster and
/// slower, pauses.
#[test]
fn sound_played_from_a_jitter_buffer_allocates_nothing() {
    use antiphon_core::codec::opus::{OpusDecoder, OpusEncoder};
    use antiphon_core::jitter::{Config, JitterBuffer, Packet};
    use antiphon_core::time::Timestamp;

    let rate = Rate::Hz16000;
    let mut encoder = OpusEncoder::new(rate, EncoderSettings::STANDARD);
    let payloads: Vec<Vec<u8>> = signal::voice(rate, 1, 10 * rate.hz() as usize)
        .chunks_exact(320)
        .map(|samples| {
            let mut payload = vec![0; 1_275];
            let bytes = encoder.encode(samples, &mut payload).expect("a packet");
            payload.truncate(bytes);
            payload
        })
        .collect();
    let mut decoder = OpusDecoder::new(rate);
    let mut buffer = JitterBuffer::new(Config::AGENT, rate, 48_000);
    let before = COUNT.get();
    let mut out = [0.0; Rate::Hz16000.frame()];
    for index in 0..payloads.len() as u32 {
        let at = Timestamp::from_millis(1_000 + u64::from(index) * 20);
        // Five of a hundred come with the sixth; of ten, one does not come.
        let come = match index % 100 {
            0..5 => index..index,
            5 => index - 5..index + 1,
            _ if index % 10 == 9 => index..index,
            _ => index..index + 1,
        };
        for index in come {
            let packet = Packet {
                sequence: index.into(),
                timestamp: index * 960,
                payload: &payloads[index as usize],
                marker: false,
            };
            buffer.insert(at, packet);
        }
        for half in [0, 10] {
            buffer.poll(at + Duration::from_millis(half), &mut decoder, &mut out);
        }
    }
    assert_eq!(COUNT.get(), before);
    let stats = buffer.stats();
    assert!(stats.fec_packets_received > 0 && stats.concealed_samples > 0);
    assert!(stats.removed_samples_for_acceleration > 0, "{stats:?}");
}

/// Allocations of a second of a voice and a second of silence, when half a second went before.
fn allocations_of_sound(rate: Rate, mut process: impl FnMut(&mut AudioFrame)) -> u64 {
    let hz = rate.hz() as usize;
    let mut samples = signal::voice(rate, 1, hz + hz / 2);
    samples.resize(2 * hz + hz / 2, 0.0);
    let mut before = COUNT.get();
    for (index, samples) in samples.chunks_exact(rate.frame()).enumerate() {
        if index == 50 {
            before = COUNT.get();
        }
        let mut frame = AudioFrame::new(rate, Channels::Mono);
        frame.channel_mut(0).copy_from_slice(samples);
        process(&mut frame);
    }
    COUNT.get().calls - before.calls
}

#[test]
fn no_stage_allocates_for_a_frame() {
    let bands = [100.0, 300.0, 1_000.0, 3_000.0, 6_000.0].map(|hz| Band {
        hz,
        gain_db: 3.0,
        q: 0.7,
    });
    for rate in [Rate::Hz16000, Rate::Hz48000] {
        let own = (
            (HighPass::new(rate), Equaliser::new(rate, bands)),
            NoiseGate::new(rate, GateSettings::default()),
        );
        let own = (own, Compressor::new(rate, CompressorSettings::default()));
        let mut chain = Chain::new((own, Limiter::standard(rate)));
        assert_eq!(allocations_of_sound(rate, |frame| chain.process(frame)), 0);
        // Two of sonora's allocate in each frame, and say so; that it is no more, is said here.
        let mut gain = AutoGain::new(rate, 0.0).expect("a rate that it has");
        let of_gain = allocations_of_sound(rate, |frame| gain.process(frame));
        assert!((1..=15 * 200).contains(&of_gain), "{of_gain}");
        let mut canceller = EchoCanceller::new(rate).expect("a rate that it has");
        let cancel = |frame: &mut AudioFrame| {
            canceller.render(frame);
            canceller.process(frame);
        };
        let of_canceller = allocations_of_sound(rate, cancel);
        assert!(
            (1..=44 * 200).contains(&of_canceller),
            "{rate:?}: {of_canceller}"
        );
        for suppression in [Suppression::Quality, Suppression::Economy] {
            if let Some(mut suppressor) = Suppressor::new(suppression, rate) {
                let process = |frame: &mut AudioFrame| suppressor.process(frame);
                assert_eq!(allocations_of_sound(rate, process), 0, "{suppression:?}");
            }
        }
    }
}

#[test]
fn no_codec_allocates_for_a_packet() {
    for codec in [Codec::Opus, Codec::Pcmu] {
        let rate = Rate::Hz16000;
        let mut encoder = AnyEncoder::new(codec, rate, EncoderSettings::STANDARD).expect("known");
        let mut decoder = AnyDecoder::new(codec, rate).expect("known");
        let (mut payload, mut out) = ([0; 1_275], [0.0; 960]);
        let transcode = |frame: &mut AudioFrame| {
            let bytes = encoder
                .encode(frame.channel(0), &mut payload)
                .expect("a packet");
            if decoder.has_fec(&payload[..bytes]) {
                decoder
                    .decode_fec(&payload[..bytes], &mut out[..160])
                    .expect("it has it");
            }
            decoder.conceal(&mut out[..160]);
            decoder
                .decode(&payload[..bytes], &mut out)
                .expect("our own packet");
        };
        assert_eq!(allocations_of_sound(rate, transcode), 0, "{}", codec.name());
    }
}

#[test]
fn neither_resampling_nor_mixing_allocates() {
    let mut resampler = Resampler::new(Rate::Hz48000, Rate::Hz16000);
    let mut out = [0.0; 160];
    let resample = |frame: &mut AudioFrame| resampler.process(frame.channel(0), &mut out);
    assert_eq!(allocations_of_sound(Rate::Hz48000, resample), 0);
    let mut mixer = Mixer::new(Rate::Hz48000, 8, VOICES);
    let mut sources = Vec::with_capacity(8);
    let mix = |frame: &mut AudioFrame| {
        // One comes every frame until all are there, and goes again.
        match mixer.add() {
            Some(source) => sources.push(source),
            None => mixer.remove(sources.pop().expect("eight")),
        }
        for source in &sources {
            mixer.push(*source, frame);
        }
        mixer.mix();
        for source in &sources {
            mixer.output(Some(*source), frame);
        }
        mixer.output(None, frame);
    };
    assert_eq!(allocations_of_sound(Rate::Hz48000, mix), 0);
}
