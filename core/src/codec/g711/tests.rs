use proptest::prelude::*;

use super::*;
use crate::audio::signal;

const LAWS: [Law; 2] = [Law::Mu, Law::A];

#[test]
fn each_code_comes_back() {
    for law in LAWS {
        for code in 0..=u8::MAX {
            let again = law.encode(law.decode(code));
            // µ-law has a zero of either sign; ours is the positive one.
            let expected = if law == Law::Mu && code == 0x7f {
                0xff
            } else {
                code
            };
            assert_eq!(again, expected, "{law:?} {code:#x}");
        }
    }
}

#[test]
fn known_codes_stand_for_known_values() {
    // ITU-T G.711 tables 1 and 2, in units of 16 bits: ends of the scale, and around zero.
    for (code, value) in [
        (0x80, 32_124),
        (0x00, -32_124),
        (0xff, 0),
        (0x7f, 0),
        (0xfe, 8),
        (0x7e, -8),
        (0x8f, 16_764),
    ] {
        assert_eq!(Law::Mu.decode(code), value, "{code:#x}");
    }
    for (code, value) in [
        (0xaa, 32_256),
        (0x2a, -32_256),
        (0xd5, 8),
        (0x55, -8),
        (0xd4, 24),
        (0xa5, 16_896),
    ] {
        assert_eq!(Law::A.decode(code), value, "{code:#x}");
    }
    assert_eq!((Law::Mu.encode(0), Law::A.encode(0)), (0xff, 0xd5));
    for (law, loudest) in [(Law::Mu, (0x80, 0x00)), (Law::A, (0xaa, 0x2a))] {
        assert_eq!((law.encode(i16::MAX), law.encode(i16::MIN)), loudest);
    }
}

#[test]
fn a_code_is_within_half_a_step_of_every_sample() {
    for law in LAWS {
        let mut last = i32::MIN;
        for sample in i16::MIN..=i16::MAX {
            let code = law.encode(sample);
            let value = i32::from(law.decode(code));
            assert!(value >= last, "{law:?} {sample}: not monotone");
            last = value;
            let (step, loudest) = match law {
                Law::Mu => (8 << (!code >> 4 & 7), 32_635),
                Law::A => (16 << ((code ^ 0x55) >> 4 & 7).max(1) >> 1, 32_767),
            };
            let sample = i32::from(sample).clamp(-loudest, loudest);
            assert!(
                (value - sample).abs() <= step / 2,
                "{law:?} {sample}: {value}"
            );
        }
    }
}

#[test]
fn decisions_between_segments_are_where_the_tables_have_them() {
    // ITU-T G.711 table 2a: 4,063 of 8,159, and table 1a: 2,048 of 4,096, here of 16 bits.
    assert_eq!(
        (
            Law::Mu.decode(Law::Mu.encode(16_251)),
            Law::Mu.decode(Law::Mu.encode(16_252))
        ),
        (15_996, 16_764)
    );
    assert_eq!(
        (
            Law::A.decode(Law::A.encode(16_383)),
            Law::A.decode(Law::A.encode(16_384))
        ),
        (16_128, 16_896)
    );
}

/// Encodes and decodes at these rates, in packets of 20 ms.
fn round_trip(law: Law, input: &[f32], source: Rate, destination: Rate) -> Vec<f32> {
    let mut encoder = G711Encoder::new(law, source);
    let mut decoder = G711Decoder::new(law, destination);
    let mut output = Vec::new();
    for packet in input.chunks_exact(2 * source.frame()) {
        let mut payload = [0; 160];
        let bytes = encoder.encode(packet, &mut payload).expect("a packet");
        assert_eq!(bytes, 160);
        let mut out = [0.0; 960];
        let samples = decoder.decode(&payload, &mut out).expect("a payload");
        assert_eq!(samples, 2 * destination.frame());
        output.extend_from_slice(&out[..samples]);
    }
    output
}

#[test]
fn speech_keeps_its_shape() {
    for law in LAWS {
        let input = signal::voice(Rate::Hz8000, 1, 16_000);
        let output = round_trip(law, &input, Rate::Hz8000, Rate::Hz8000);
        let snr = signal::snr_db(&input, &output);
        // A quantiser of 8 bits with companding: 37 to 38 dB by theory.
        assert!((34.0..42.0).contains(&snr), "{law:?}: {snr} dB");
    }
}

#[test]
fn a_tone_passes_at_every_rate() {
    for rate in [Rate::Hz16000, Rate::Hz24000, Rate::Hz48000] {
        let input = signal::tone(rate, 1_000.0, 0.5, rate.hz() as usize);
        let output = round_trip(Law::A, &input, rate, rate);
        let settled = &output[rate.frame()..];
        let level = 20.0 * (signal::rms(settled) / signal::rms(&input)).log10();
        assert!(level.abs() < 0.3, "{rate:?}: {level} dB");
        let rest = signal::rms(&signal::without_tone(settled, rate, 1_000.0));
        let rest = 20.0 * (rest / signal::rms(settled)).log10();
        assert!(rest < -33.0, "{rate:?}: {rest} dB beside the tone");
    }
}

#[test]
fn a_lost_packet_is_filled_at_the_rate_that_is_wanted() {
    let mut decoder = G711Decoder::new(Law::Mu, Rate::Hz16000);
    let mut encoder = G711Encoder::new(Law::Mu, Rate::Hz16000);
    let input = signal::tone(Rate::Hz16000, 200.0, 0.5, 16_000);
    let mut out = [0.0; 320];
    for packet in input.chunks_exact(320) {
        let mut payload = [0; 160];
        encoder.encode(packet, &mut payload).expect("a packet");
        decoder.decode(&payload, &mut out).expect("a payload");
    }
    let before = signal::rms(&out);
    decoder.conceal(&mut out);
    assert!((signal::rms(&out[..160]) / before - 1.0).abs() < 0.05);
    for _ in 0..4 {
        decoder.conceal(&mut out);
    }
    assert_eq!(signal::rms(&out), 0.0);
}

#[test]
fn wrong_lengths_are_refused() {
    let mut decoder = G711Decoder::new(Law::A, Rate::Hz8000);
    let mut out = [0.0; 960];
    assert_eq!(decoder.decode(&[], &mut out), Err(CodecError::Length(0)));
    let long = [0; 961];
    assert_eq!(
        decoder.decode(&long, &mut out),
        Err(CodecError::Length(961))
    );
    assert_eq!(
        decoder.decode(&long[1..], &mut out[1..]),
        Err(CodecError::NoRoom)
    );
    assert_eq!(
        decoder.decode_fec(&[0; 160], &mut out),
        Err(CodecError::Malformed)
    );
    let mut encoder = G711Encoder::new(Law::A, Rate::Hz8000);
    assert_eq!(
        encoder.encode(&[0.0; 100], &mut [0; 960]),
        Err(CodecError::Length(100))
    );
    assert_eq!(
        encoder.encode(&[0.0; 160], &mut [0; 159]),
        Err(CodecError::NoRoom)
    );
}

#[test]
fn what_is_not_a_number_is_silence_and_what_is_too_loud_is_cut_off() {
    let mut encoder = G711Encoder::new(Law::A, Rate::Hz8000);
    let mut input = [f32::NAN; 80];
    input[1] = f32::INFINITY;
    input[2] = -7.0;
    let mut payload = [0; 80];
    encoder.encode(&input, &mut payload).expect("a packet");
    assert_eq!(payload[..4], [0xd5, 0xaa, 0x2a, 0xd5]);
}

proptest! {
    #[test]
    fn any_payloads_and_gaps_give_sound_within_bounds(
        payloads in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 1..=960)), 1..20),
        rate in prop::sample::select(vec![Rate::Hz8000, Rate::Hz16000, Rate::Hz48000]),
    ) {
        let mut decoder = G711Decoder::new(Law::Mu, rate);
        let mut out = vec![0.0; 5_760];
        for payload in payloads {
            let samples = match payload {
                Some(payload) => decoder.decode(&payload, &mut out).expect("any bytes are sound"),
                None => {
                    decoder.conceal(&mut out[..2 * rate.frame()]);
                    2 * rate.frame()
                }
            };
            // A filter rings beyond the loudest sample, a blend doubles it at worst.
            prop_assert!(out[..samples].iter().all(|x| x.abs() < 4.0));
        }
    }
}
