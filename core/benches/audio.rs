//! What handling sound costs: nanoseconds of processor time for 10 ms, on something like speech, and on digital silence.
//!
//! ```text
//! cargo bench --package antiphon-core --bench audio             the table of docs/voice.md
//! cargo bench --package antiphon-core --bench audio -- --check  fails if a stage costs more on silence than on speech
//! ```
//!
//! Each figure is the median of rounds of a second of sound, every stage warmed up by one. Times vary with the machine;
//! their ratios hardly do.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use antiphon_core::audio::{
    AudioFrame, AutoGain, Band, Chain, Channels, Compressor, CompressorSettings, EchoCanceller,
    Equaliser, GateSettings, HighPass, Limiter, Mixer, NoiseGate, Rate, Resampler, Stage,
    Suppression, Suppressor, VOICES, signal,
};
use antiphon_core::codec::{
    AnyDecoder, AnyEncoder, Decoder, Encoder, EncoderSettings, PACKET_SAMPLES_MAX,
};
use antiphon_core::plan::Codec;

/// Rounds of a second; the median is taken.
const ROUNDS: usize = 15;
/// On silence a stage may cost so much of what it costs on speech, percent, and so many nanoseconds a frame more:
/// differences below are those of caches.
const SILENCE_PERCENT_MAX: u64 = 120;
const SILENCE_NANOS_MAX: u64 = 500;

/// A stage's name, and nanoseconds for 10 ms of speech and of silence.
struct Row {
    name: String,
    speech: u64,
    silence: u64,
}

fn main() -> ExitCode {
    let check = std::env::args().any(|argument| argument == "--check");
    let mut rows = Vec::new();
    stages(&mut rows);
    resampling(&mut rows);
    mixing(&mut rows);
    codecs(&mut rows);
    println!("| for 10 ms | speech, µs | digital silence, µs |\n|---|---|---|");
    let mut slow = Vec::new();
    for row in &rows {
        let micros = |nanos: u64| format!("{}.{:02}", nanos / 1_000, nanos % 1_000 / 10);
        println!(
            "| {} | {} | {} |",
            row.name,
            micros(row.speech),
            micros(row.silence)
        );
        if row.silence > row.speech * SILENCE_PERCENT_MAX / 100 + SILENCE_NANOS_MAX {
            slow.push(&row.name);
        }
    }
    if check && !slow.is_empty() {
        eprintln!("slower on silence than on speech: {slow:?}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The clock is what is measured here.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Nanoseconds a frame, in the median of [`ROUNDS`] over these frames.
fn median(frames: &[AudioFrame], mut process: impl FnMut(&mut AudioFrame)) -> u64 {
    let mut rounds: Vec<u64> = (0..=ROUNDS)
        .map(|_| {
            let mut frames = frames.to_vec();
            let start = now();
            for frame in &mut frames {
                process(black_box(frame));
            }
            start.elapsed().as_nanos() as u64 / frames.len() as u64
        })
        .skip(1)
        .collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2]
}

fn frames(rate: Rate, samples: &[f32]) -> Vec<AudioFrame> {
    let frame_of = |samples: &[f32]| {
        let mut frame = AudioFrame::new(rate, Channels::Mono);
        frame.channel_mut(0).copy_from_slice(samples);
        frame
    };
    samples.chunks_exact(rate.frame()).map(frame_of).collect()
}

/// A second of a voice in soft noise: what a microphone gives.
fn speech(rate: Rate) -> Vec<AudioFrame> {
    let hz = rate.hz() as usize;
    let noise = signal::noise(1, 0.003, hz);
    let voice = signal::voice(rate, 1, hz);
    let both: Vec<f32> = voice.iter().zip(&noise).map(|(a, b)| a + b).collect();
    frames(rate, &both)
}

/// Measures speech first, so that silence meets a state that has something to fade.
fn measure(
    rows: &mut Vec<Row>,
    name: String,
    rate: Rate,
    mut process: impl FnMut(&mut AudioFrame),
) {
    let speech = median(&speech(rate), &mut process);
    let silence = frames(rate, &vec![0.0; rate.hz() as usize]);
    let silence = median(&silence, &mut process);
    rows.push(Row {
        name,
        speech,
        silence,
    });
}

fn stages(rows: &mut Vec<Row>) {
    for rate in [Rate::Hz48000, Rate::Hz16000] {
        let khz = rate.hz() / 1_000;
        let mut stage = |name: &str, stage: Option<Box<dyn Stage>>| {
            if let Some(mut stage) = stage {
                let name = format!("{name}, {khz} kHz");
                measure(rows, name, rate, |frame| stage.process(frame));
            }
        };
        let bands = [100.0, 300.0, 1_000.0, 3_000.0, 6_000.0].map(|hz| Band {
            hz,
            gain_db: 3.0,
            q: 0.7,
        });
        stage("high-pass", Some(Box::new(HighPass::new(rate))));
        stage(
            "equaliser, 5 bands",
            Some(Box::new(Equaliser::new(rate, bands))),
        );
        stage(
            "noise gate",
            Some(Box::new(NoiseGate::new(rate, GateSettings::default()))),
        );
        let compressor = Compressor::new(rate, CompressorSettings::default());
        stage("compressor", Some(Box::new(compressor)));
        stage("limiter, at rest", Some(Box::new(Limiter::standard(rate))));
        let low = Limiter::new(rate, -30.0, 2_000, 0.060);
        stage("limiter, at work", Some(Box::new(low)));
        for (name, suppression) in [
            ("noise suppression, quality", Suppression::Quality),
            ("noise suppression, economy", Suppression::Economy),
        ] {
            let suppressor = Suppressor::new(suppression, rate);
            stage(
                name,
                suppressor.map(|suppressor| Box::new(suppressor) as Box<dyn Stage>),
            );
        }
        let chain = Suppressor::new(Suppression::Economy, rate).map(Chain::new);
        stage(
            "the same behind the silence gate",
            chain.map(|chain| Box::new(chain) as Box<dyn Stage>),
        );
        let gain = AutoGain::new(rate, 0.0);
        stage(
            "automatic gain",
            gain.map(|gain| Box::new(gain) as Box<dyn Stage>),
        );
        if let Some(mut canceller) = EchoCanceller::new(rate) {
            measure(
                rows,
                format!("echo canceller, both ways, {khz} kHz"),
                rate,
                |frame| {
                    canceller.render(frame);
                    canceller.process(frame);
                },
            );
        }
    }
}

fn resampling(rows: &mut Vec<Row>) {
    for (source, destination) in [
        (Rate::Hz48000, Rate::Hz16000),
        (Rate::Hz16000, Rate::Hz48000),
        (Rate::Hz48000, Rate::Hz8000),
        (Rate::Hz24000, Rate::Hz48000),
    ] {
        let mut resampler = Resampler::new(source, destination);
        let mut out = vec![0.0; destination.frame()];
        let name = format!(
            "{} to {} kHz",
            source.hz() / 1_000,
            destination.hz() / 1_000
        );
        measure(rows, name, source, |frame| {
            resampler.process(frame.channel(0), &mut out);
            black_box(&out);
        });
    }
}

fn mixing(rows: &mut Vec<Row>) {
    let rate = Rate::Hz48000;
    for count in [4, 100] {
        let mut mixer = Mixer::new(rate, count, VOICES);
        let sources: Vec<_> = (0..count).filter_map(|_| mixer.add()).collect();
        let mut out = AudioFrame::new(rate, Channels::Mono);
        measure(
            rows,
            format!("mixing {count}, one listener, 48 kHz"),
            rate,
            |frame| {
                for source in &sources {
                    mixer.push(*source, frame);
                }
                mixer.mix();
                mixer.output(Some(sources[0]), &mut out);
                black_box(&out);
            },
        );
    }
}

/// Packets of 20 ms, whose cost is halved.
fn codecs(rows: &mut Vec<Row>) {
    let standard = EncoderSettings::STANDARD;
    let economy = EncoderSettings::ECONOMY;
    let with = |settings: EncoderSettings, complexity| EncoderSettings {
        complexity,
        ..settings
    };
    let settings = [
        (
            "voip, 24 kbit/s, complexity 0",
            Rate::Hz48000,
            with(standard, 0),
        ),
        ("voip, 24 kbit/s, complexity 5", Rate::Hz48000, standard),
        (
            "voip, 24 kbit/s, complexity 9",
            Rate::Hz48000,
            with(standard, 9),
        ),
        (
            "voip, 24 kbit/s, complexity 5, of 24 kHz",
            Rate::Hz24000,
            standard,
        ),
        (
            "low delay, 32 kbit/s, complexity 0",
            Rate::Hz48000,
            with(economy, 0),
        ),
        ("low delay, 32 kbit/s, complexity 5", Rate::Hz48000, economy),
    ];
    for (name, rate, settings) in settings {
        encode(
            rows,
            format!("Opus encode, {name}"),
            Codec::Opus,
            rate,
            settings,
        );
    }
    encode(
        rows,
        "G.711 encode, of 16 kHz".to_owned(),
        Codec::Pcma,
        Rate::Hz16000,
        standard,
    );
    for rate in [Rate::Hz48000, Rate::Hz16000] {
        let khz = rate.hz() / 1_000;
        let mut decode = |name: &str, codec, way| {
            decode(rows, format!("{name}, at {khz} kHz"), codec, rate, way);
        };
        decode("Opus decode", Codec::Opus, Way::Decode);
        decode("Opus decode of redundancy (FEC)", Codec::Opus, Way::Fec);
        decode("Opus concealment (PLC)", Codec::Opus, Way::Conceal);
        decode("G.711 decode", Codec::Pcma, Way::Decode);
        decode("G.711 concealment", Codec::Pcma, Way::Conceal);
    }
}

/// Two frames at a time.
fn pairs(frames: &[AudioFrame]) -> Vec<Vec<f32>> {
    let joined = |pair: &[AudioFrame]| [pair[0].channel(0), pair[1].channel(0)].concat();
    frames.chunks_exact(2).map(joined).collect()
}

fn encode(rows: &mut Vec<Row>, name: String, codec: Codec, rate: Rate, settings: EncoderSettings) {
    let mut encoder = AnyEncoder::new(codec, rate, settings).expect("a codec of sound");
    let mut first: Option<AudioFrame> = None;
    let mut payload = [0; 1_275];
    let mut samples = vec![0.0; 2 * rate.frame()];
    // Each second frame encodes both, so that the mean is of 10 ms.
    measure(rows, name, rate, |frame| match first.take() {
        None => first = Some(frame.clone()),
        Some(before) => {
            samples[..rate.frame()].copy_from_slice(before.channel(0));
            samples[rate.frame()..].copy_from_slice(frame.channel(0));
            encoder.encode(&samples, &mut payload).expect("a packet");
            black_box(&payload);
        }
    });
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Decode,
    Fec,
    Conceal,
}

fn decode(rows: &mut Vec<Row>, name: String, codec: Codec, rate: Rate, way: Way) {
    let source = if codec == Codec::Opus {
        Rate::Hz48000
    } else {
        Rate::Hz8000
    };
    let payloads = |frames: &[AudioFrame]| -> Vec<Vec<u8>> {
        let mut encoder =
            AnyEncoder::new(codec, source, EncoderSettings::STANDARD).expect("a codec of sound");
        let encode = |samples: Vec<f32>| {
            let mut payload = vec![0; 1_275];
            let bytes = encoder.encode(&samples, &mut payload).expect("a packet");
            payload.truncate(bytes);
            payload
        };
        pairs(frames).into_iter().map(encode).collect()
    };
    let mut decoder = AnyDecoder::new(codec, rate).expect("a codec of sound");
    let mut out = vec![0.0; PACKET_SAMPLES_MAX];
    let length = 2 * rate.frame();
    let mut run = |payloads: &[Vec<u8>]| {
        let mut rounds = Vec::new();
        for _ in 0..=ROUNDS {
            let mut spent = 0;
            let mut count = 0;
            for payload in payloads {
                if way == Way::Fec && !decoder.has_fec(payload) {
                    continue;
                }
                let start = now();
                match way {
                    Way::Decode => drop(decoder.decode(payload, &mut out).expect("our own")),
                    Way::Fec => decoder
                        .decode_fec(payload, &mut out[..length])
                        .expect("it has it"),
                    Way::Conceal => decoder.conceal(&mut out[..length]),
                }
                spent += start.elapsed().as_nanos() as u64;
                count += 2;
                black_box(&out);
                if way != Way::Decode {
                    // What is concealed goes on from what was heard.
                    decoder.decode(payload, &mut out).expect("our own");
                }
            }
            rounds.push(spent / u64::max(count, 1));
        }
        rounds.sort_unstable();
        rounds[ROUNDS / 2]
    };
    let speech = run(&payloads(&speech(source)));
    let silence = frames(source, &vec![0.0; source.hz() as usize]);
    let silence = run(&payloads(&silence));
    rows.push(Row {
        name,
        speech,
        silence,
    });
}
