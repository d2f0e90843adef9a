//! The buffer with the decoders that calls have.

use std::time::Duration;

use crate::audio::{Rate, signal};
use crate::codec::g711::{G711Decoder, G711Encoder, Law};
use crate::codec::{Decoder, Encoder};
use crate::jitter::{Config, FrameKind, JitterBuffer, Packet};
use crate::time::Timestamp;

const SECONDS: usize = 6;
const RATE: Rate = Rate::Hz16000;

/// What was heard of a voice, and the buffer: each tenth packet is lost.
fn heard(
    encoder: &mut dyn Encoder,
    decoder: &mut dyn Decoder,
    clock_rate: u32,
    loss: bool,
) -> (Vec<f32>, Vec<FrameKind>, JitterBuffer) {
    let mut buffer = JitterBuffer::new(Config::HUMAN, RATE, clock_rate);
    let (mut sound, mut kinds) = (Vec::new(), Vec::new());
    let mut now = Timestamp::from_millis(1_000);
    let voice = signal::voice(RATE, 3, SECONDS * RATE.hz() as usize);
    for (index, samples) in (0_u32..).zip(voice.chunks_exact(2 * RATE.frame())) {
        let mut payload = [0; 1_275];
        let bytes = encoder.encode(samples, &mut payload).expect("a packet");
        if !(loss && index % 10 == 7) {
            let packet = Packet {
                sequence: u64::from(index) + 1_000,
                timestamp: index.wrapping_mul(clock_rate / 50),
                payload: &payload[..bytes],
                marker: index == 0,
            };
            buffer.insert(now, packet);
        }
        for _ in 0..2 {
            let mut out = [f32::NAN; RATE.frame()];
            kinds.push(buffer.poll(now, decoder, &mut out));
            sound.extend(out);
            now = now + Duration::from_millis(10);
        }
    }
    (sound, kinds, buffer)
}

/// Loudness of each frame that was made up or mended, beside the frame two before it; where it is loud.
fn levels(sound: &[f32], kinds: &[FrameKind], kind: FrameKind) -> Vec<f32> {
    let level = |index: usize| signal::rms(&sound[index * RATE.frame()..][..RATE.frame()]);
    (2..kinds.len())
        .filter(|index| kinds[*index] == kind && level(index - 2) > 0.02)
        .map(|index| level(index) / level(index - 2))
        .collect()
}

#[test]
fn g711_is_played_and_its_gaps_are_filled_with_its_own_sound() {
    let mut encoder = G711Encoder::new(Law::Mu, RATE);
    let mut decoder = G711Decoder::new(Law::Mu, RATE);
    let (sound, kinds, buffer) = heard(&mut encoder, &mut decoder, 8_000, true);
    let stats = buffer.stats();
    assert_eq!(stats.concealment_events, 30 * SECONDS as u64 / 6);
    assert_eq!(stats.fec_packets_received, 0);
    let levels = levels(&sound, &kinds, FrameKind::Concealed);
    assert!(levels.len() > 20);
    let typical = levels.iter().sum::<f32>() / levels.len() as f32;
    assert!((0.4..2.0).contains(&typical), "{levels:?}");
}

#[cfg(feature = "opus")]
mod opus {
    use super::*;
    use crate::codec::EncoderSettings;
    use crate::codec::opus::{OpusDecoder, OpusEncoder};

    fn coders(settings: EncoderSettings) -> (OpusEncoder, OpusDecoder) {
        (OpusEncoder::new(RATE, settings), OpusDecoder::new(RATE))
    }

    #[test]
    fn lost_opus_packets_are_mended_from_their_copies() {
        let (mut encoder, mut decoder) = coders(EncoderSettings::STANDARD);
        let (sound, kinds, buffer) = heard(&mut encoder, &mut decoder, 48_000, true);
        let stats = buffer.stats();
        assert!(stats.fec_packets_received >= 20, "{stats:?}");
        assert!(stats.concealment_events <= 10, "{stats:?}");
        let levels = levels(&sound, &kinds, FrameKind::Fec);
        assert!(levels.len() > 20);
        assert!(
            levels.iter().all(|level| (0.1..5.0).contains(level)),
            "{levels:?}"
        );
    }

    /// Nothing of the buffer's own making is in what comes evenly.
    #[test]
    fn opus_that_comes_evenly_is_heard_as_it_was_decoded() {
        let (mut encoder, mut decoder) = coders(EncoderSettings::ECONOMY);
        let (sound, kinds, buffer) = heard(&mut encoder, &mut decoder, 48_000, false);
        assert_eq!(buffer.stats().concealed_samples, 0);
        let (mut encoder, mut decoder) = coders(EncoderSettings::ECONOMY);
        let mut plain = Vec::new();
        for samples in signal::voice(RATE, 3, SECONDS * RATE.hz() as usize).chunks_exact(320) {
            let (mut payload, mut out) = ([0; 1_275], [0.0; 320]);
            let bytes = encoder.encode(samples, &mut payload).expect("a packet");
            decoder
                .decode(&payload[..bytes], &mut out)
                .expect("its own");
            plain.extend(out);
        }
        let waited = kinds.iter().take_while(|kind| **kind == FrameKind::Silence);
        let (waited, faded) = (waited.count() * RATE.frame(), 100);
        // Up to where it was first played faster, to come down from the delay it began with.
        let played = kinds
            .iter()
            .position(|kind| *kind == FrameKind::Accelerated);
        let until = played.unwrap_or(kinds.len()) * RATE.frame();
        assert!(until > 20 * RATE.frame());
        assert_eq!(sound[waited + faded..until], plain[faded..until - waited]);
    }

    #[test]
    fn opus_packets_of_silence_are_a_pause() {
        let settings = EncoderSettings {
            dtx: true,
            ..EncoderSettings::STANDARD
        };
        let (mut encoder, mut decoder) = coders(settings);
        let mut buffer = JitterBuffer::new(Config::AGENT, RATE, 48_000);
        let mut now = Timestamp::from_millis(1_000);
        let voice = signal::voice(RATE, 5, RATE.hz() as usize);
        let mut quiet = vec![0.0; 4 * RATE.hz() as usize];
        quiet.splice(0..0, voice);
        let (mut sent, mut said_nothing) = (0, false);
        for (index, samples) in (0_u32..).zip(quiet.chunks_exact(320)) {
            let mut payload = [0; 1_275];
            let bytes = encoder.encode(samples, &mut payload).expect("a packet");
            // As browsers do: of packets that say nothing the first is sent. In 400 ms one says what noise there is.
            let says_nothing = std::mem::replace(&mut said_nothing, bytes <= 2);
            if bytes > 2 || !says_nothing {
                let packet = Packet {
                    sequence: sent,
                    timestamp: index * 960,
                    payload: &payload[..bytes],
                    marker: false,
                };
                buffer.insert(now, packet);
                sent += 1;
            }
            for _ in 0..2 {
                let mut out = [0.0; RATE.frame()];
                buffer.poll(now, &mut decoder, &mut out);
                now = now + Duration::from_millis(10);
            }
        }
        let stats = buffer.stats();
        assert!(sent < 150, "{sent} packets");
        assert!(stats.silence_samples > 2 * 16_000, "{stats:?}");
        assert_eq!(stats.concealed_samples, 0);
    }
}
