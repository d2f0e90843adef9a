use proptest::prelude::*;

use super::*;
use crate::audio::signal;

const RATES: [Rate; 4] = [Rate::Hz8000, Rate::Hz16000, Rate::Hz24000, Rate::Hz48000];

/// Packets of 20 ms of a voice.
fn packets(rate: Rate, settings: EncoderSettings, seconds: usize) -> Vec<Vec<u8>> {
    let input = signal::voice(rate, 1, seconds * rate.hz() as usize);
    let mut encoder = OpusEncoder::new(rate, settings);
    let encode = |samples: &[f32]| {
        let mut out = vec![0; 1_275];
        let bytes = encoder.encode(samples, &mut out).expect("a packet");
        out.truncate(bytes);
        out
    };
    input.chunks(2 * rate.frame()).map(encode).collect()
}

fn decode_all(rate: Rate, packets: &[Vec<u8>]) -> Vec<f32> {
    let mut decoder = OpusDecoder::new(rate);
    let mut output = Vec::new();
    for packet in packets {
        let mut out = [0.0; PACKET_SAMPLES_MAX];
        let samples = decoder.decode(packet, &mut out).expect("our own packet");
        assert_eq!(samples, 2 * rate.frame());
        output.extend_from_slice(&out[..samples]);
    }
    output
}

#[test]
fn it_is_the_libopus_that_comes_with_it() {
    // A system's library would be older (Debian 12: 1.3.1), and was linked without a word by other bindings.
    assert!(
        audiopus::version().starts_with("libopus 1.6"),
        "{}",
        audiopus::version()
    );
}

#[test]
fn speech_comes_back_at_every_rate() {
    for rate in RATES {
        for settings in [EncoderSettings::STANDARD, EncoderSettings::ECONOMY] {
            let input = signal::voice(rate, 1, 2 * rate.hz() as usize);
            let output = decode_all(rate, &packets(rate, settings, 2));
            let lag = signal::lag(&input, &output, rate.frame());
            let (wanted, heard) = (&input[..input.len() - lag], &output[lag..]);
            let snr = signal::snr_db(wanted, heard);
            assert!(snr > 6.0, "{rate:?}, {:?}: {snr} dB", settings.application);
            let level = 20.0 * (signal::rms(heard) / signal::rms(wanted)).log10();
            assert!(level.abs() < 1.5, "{rate:?}: {level} dB");
        }
    }
}

#[test]
fn what_is_read_of_a_packet_is_what_libopus_reads() {
    for (rate, frames) in RATES
        .iter()
        .flat_map(|rate| [1, 2, 4, 6].map(|n| (*rate, n)))
    {
        for settings in [EncoderSettings::STANDARD, EncoderSettings::ECONOMY] {
            let mut encoder = OpusEncoder::new(rate, settings);
            let input = signal::voice(rate, 2, rate.hz() as usize);
            for samples in input.chunks_exact(frames * rate.frame()) {
                let mut out = [0; 4_000];
                let bytes = encoder.encode(samples, &mut out).expect("a packet");
                let decoder = OpusDecoder::new(rate);
                let theirs = Packet::try_from(&out[..bytes]).expect("a packet");
                let theirs = decoder.coder.nb_samples(theirs).expect("a packet");
                assert_eq!(decoder.duration(&out[..bytes]), Some(theirs));
                assert_eq!(theirs, samples.len());
            }
        }
    }
}

#[test]
fn redundancy_is_there_when_asked_for_and_never_else() {
    let share = |settings: EncoderSettings| {
        let packets = packets(Rate::Hz48000, settings, 3);
        let decoder = OpusDecoder::new(Rate::Hz16000);
        let with = packets.iter().filter(|packet| decoder.has_fec(packet));
        with.count() * 100 / packets.len()
    };
    let standard = EncoderSettings::STANDARD;
    assert!(share(standard) > 50);
    assert_eq!(
        share(EncoderSettings {
            fec: false,
            ..standard
        }),
        0
    );
    assert_eq!(
        share(EncoderSettings {
            loss_percent: 0,
            ..standard
        }),
        0
    );
    assert_eq!(
        share(EncoderSettings {
            application: Application::LowDelay,
            ..standard
        }),
        0
    );
}

/// Each tenth packet lost and mended, or concealed: how far it is from what it is without loss.
fn with_loss(rate: Rate, mend: bool) -> f32 {
    let settings = EncoderSettings {
        bitrate: 32_000,
        loss_percent: 15,
        ..EncoderSettings::STANDARD
    };
    let packets = packets(Rate::Hz48000, settings, 6);
    let wanted = decode_all(rate, &packets);
    let mut decoder = OpusDecoder::new(rate);
    let mut heard = Vec::new();
    let mut out = vec![0.0; 2 * rate.frame()];
    for (index, packet) in packets.iter().enumerate() {
        let next = packets.get(index + 1);
        match next {
            Some(next) if index % 10 == 7 && mend && decoder.has_fec(next) => {
                decoder.decode_fec(next, &mut out).expect("it has it");
            }
            _ if index % 10 == 7 => decoder.conceal(&mut out),
            _ => {
                decoder.decode(packet, &mut out).expect("our own packet");
            }
        }
        heard.extend_from_slice(&out);
    }
    signal::snr_db(&wanted, &heard)
}

#[test]
fn a_lost_packet_is_better_mended_than_concealed() {
    for rate in [Rate::Hz16000, Rate::Hz48000] {
        let (concealed, mended) = (with_loss(rate, false), with_loss(rate, true));
        assert!(
            mended > concealed + 1.0,
            "{rate:?}: {mended} dB, {concealed} dB"
        );
    }
}

#[test]
fn a_gap_is_filled_and_fades() {
    let rate = Rate::Hz48000;
    let packets = packets(rate, EncoderSettings::STANDARD, 1);
    let mut decoder = OpusDecoder::new(rate);
    let mut out = vec![0.0; 6 * rate.frame()];
    // Before anything came there is nothing to go on with.
    decoder.conceal(&mut out);
    assert_eq!(signal::rms(&out), 0.0);
    for packet in &packets[..8] {
        decoder.decode(packet, &mut out).expect("our own packet");
    }
    let before = signal::rms(&out[..2 * rate.frame()]);
    decoder.conceal(&mut out[..rate.frame()]);
    assert!(signal::rms(&out[..rate.frame()]) > before / 4.0);
    for _ in 0..20 {
        decoder.conceal(&mut out);
    }
    assert!(signal::rms(&out) < before / 20.0);
    decoder.conceal(&mut []);
    decoder.conceal(&mut out[..17]);
    assert_eq!(out[..17], [0.0; 17]);
}

#[test]
fn dtx_makes_packets_of_silence_rare_and_known() {
    let settings = EncoderSettings {
        dtx: true,
        ..EncoderSettings::STANDARD
    };
    let mut encoder = OpusEncoder::new(Rate::Hz16000, settings);
    let decoder = OpusDecoder::new(Rate::Hz16000);
    let mut dtx = 0;
    for _ in 0..100 {
        let mut out = [0; 1_275];
        let bytes = encoder.encode(&[0.0; 320], &mut out).expect("a packet");
        dtx += usize::from(decoder.is_dtx(&out[..bytes]));
    }
    assert!(dtx > 80, "{dtx} of 100");
    assert!(!decoder.is_dtx(&[]) && !decoder.is_dtx(&[0; 3]));
}

#[test]
fn settings_change_what_comes_next() {
    let rate = Rate::Hz48000;
    let input = signal::voice(rate, 1, 4 * rate.hz() as usize);
    let mut encoder = OpusEncoder::new(
        rate,
        EncoderSettings {
            bitrate: 16_000,
            ..EncoderSettings::STANDARD
        },
    );
    let mut bytes = [0; 2];
    for (index, samples) in input.chunks(960).enumerate() {
        let half = usize::from(index >= 100);
        if index == 100 {
            encoder.configure(EncoderSettings {
                bitrate: 64_000,
                complexity: 99,
                loss_percent: 200,
                application: Application::LowDelay,
                ..EncoderSettings::STANDARD
            });
        }
        bytes[half] += encoder.encode(samples, &mut [0; 1_275]).expect("a packet");
    }
    assert!(bytes[1] > 2 * bytes[0], "{bytes:?}");
    let settings = encoder.settings();
    assert_eq!(settings.application, Application::Voip);
    assert_eq!((settings.complexity, settings.loss_percent), (10, 100));
}

#[test]
fn after_a_reset_the_same_packets_give_the_same_sound() {
    let packets = packets(Rate::Hz48000, EncoderSettings::STANDARD, 1);
    let mut decoder = OpusDecoder::new(Rate::Hz48000);
    let mut hear = || {
        let mut heard = vec![0.0; 960 * packets.len()];
        for (packet, out) in packets.iter().zip(heard.chunks_mut(960)) {
            decoder.decode(packet, out).expect("our own packet");
        }
        decoder.reset();
        heard
    };
    assert_eq!(hear(), hear());
    let input = signal::voice(Rate::Hz48000, 1, 9_600);
    let mut encoder = OpusEncoder::new(Rate::Hz48000, EncoderSettings::STANDARD);
    let mut encode = || {
        let mut out = vec![[0; 1_275]; 10];
        for (samples, out) in input.chunks(960).zip(&mut out) {
            encoder.encode(samples, out).expect("a packet");
        }
        encoder.reset();
        out
    };
    assert_eq!(encode(), encode());
}

#[test]
fn a_stereo_packet_is_mixed_down() {
    // By hand: libopus encodes left and right, and ours decodes one channel.
    let encoder = LibEncoder::new(
        SampleRate::Hz48000,
        Channels::Stereo,
        audiopus::Application::Audio,
    )
    .expect("an encoder");
    let left = signal::tone(Rate::Hz48000, 500.0, 0.5, 48_000);
    let both: Vec<f32> = left.iter().flat_map(|x| [*x, 0.0]).collect();
    let mut decoder = OpusDecoder::new(Rate::Hz48000);
    let mut out = [0.0; 960];
    for samples in both.chunks(1_920) {
        let mut packet = [0; 1_275];
        let bytes = encoder
            .encode_float(samples, &mut packet)
            .expect("a packet");
        assert_eq!(decoder.decode(&packet[..bytes], &mut out), Ok(960));
    }
    let ratio = signal::rms(&out) / signal::rms(&left);
    assert!((ratio - 0.5).abs() < 0.1, "{ratio}");
}

#[test]
fn wrong_lengths_are_refused() {
    let mut decoder = OpusDecoder::new(Rate::Hz48000);
    let mut out = [0.0; PACKET_SAMPLES_MAX];
    assert_eq!(decoder.decode(&[], &mut out), Err(CodecError::Length(0)));
    let long = vec![0; OPUS_PAYLOAD_BYTES_MAX + 1];
    assert_eq!(
        decoder.decode(&long, &mut out),
        Err(CodecError::Length(long.len()))
    );
    assert_eq!(
        decoder.decode(&[31 << 3 | 3, 0], &mut out),
        Err(CodecError::Malformed)
    );
    assert_eq!(
        decoder.decode(&[31 << 3, 0], &mut out[..959]),
        Err(CodecError::NoRoom)
    );
    assert_eq!(
        decoder.decode_fec(&[31 << 3, 0], &mut out),
        Err(CodecError::Malformed)
    );
    assert_eq!(
        decoder.decode_fec(&[9 << 3, 0x40], &mut out[..7]),
        Err(CodecError::Malformed)
    );
    let mut encoder = OpusEncoder::new(Rate::Hz48000, EncoderSettings::STANDARD);
    assert_eq!(
        encoder.encode(&[0.0; 500], &mut [0; 100]),
        Err(CodecError::Length(500))
    );
    assert_eq!(
        encoder.encode(&[0.0; 960], &mut []),
        Err(CodecError::NoRoom)
    );
}

#[test]
fn what_is_not_a_number_is_encoded_as_silence() {
    for settings in [EncoderSettings::STANDARD, EncoderSettings::ECONOMY] {
        let mut encoder = OpusEncoder::new(Rate::Hz48000, settings);
        let mut decoder = OpusDecoder::new(Rate::Hz48000);
        let mut out = [0.0; 960];
        for bad in [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN_POSITIVE / 2.0,
        ] {
            let mut payload = [0; 1_275];
            let bytes = encoder.encode(&[bad; 960], &mut payload).expect("a packet");
            decoder
                .decode(&payload[..bytes], &mut out)
                .expect("our own packet");
            assert!(out.iter().all(|x| x.is_finite()));
        }
    }
}

/// What an attacker may do to packets.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let real = packets(Rate::Hz48000, EncoderSettings::STANDARD, 1);
    let real = prop::sample::select(real);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..1_500),
        (0..32_u8, prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(config, mut bytes)| {
            bytes.insert(0, config << 3);
            bytes
        }),
        (real.clone(), any::<prop::sample::Index>()).prop_map(|(mut packet, at)| {
            packet.truncate(at.index(packet.len()));
            packet
        }),
        (real, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut packet, at, byte)| {
            let at = at.index(packet.len());
            packet[at] ^= byte;
            packet
        }),
    ]
}

proptest! {
    #[test]
    fn hostile_packets_give_an_error_or_finite_sound(
        payloads in prop::collection::vec((hostile(), 0..3_u8), 1..30),
        rate in prop::sample::select(RATES.to_vec()),
    ) {
        let mut decoder = OpusDecoder::new(rate);
        let mut out = vec![0.0; PACKET_SAMPLES_MAX];
        for (payload, what) in payloads {
            let frame = 2 * rate.frame();
            let samples = match what {
                0 => {
                    decoder.conceal(&mut out[..frame]);
                    frame
                }
                1 => decoder.decode_fec(&payload, &mut out[..frame]).map_or(0, |()| frame),
                _ => {
                    let duration = decoder.duration(&payload);
                    let decoded = decoder.decode(&payload, &mut out);
                    // A packet whose framing is right decodes, whatever its frames hold.
                    prop_assert_eq!(decoded.ok(), duration);
                    duration.unwrap_or(0)
                }
            };
            prop_assert!(out[..samples].iter().all(|x| x.is_finite()));
        }
    }
}
