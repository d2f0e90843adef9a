//! What handling sound costs: nanoseconds of processor time for 10 ms, on something like speech and on digital
//! silence.
//!
//! ```text
//! cargo bench --package antiphon-core --bench audio             the table of docs/voice.md
//! cargo bench --package antiphon-core --bench audio -- --check  fails if a stage costs more on silence than on speech
//! ```
//!
//! Rounds of a second of speech and a second of silence in turn, so that silence meets a state that has something to
//! fade. Of each frame the quickest round counts, as others were interrupted; a figure is the mean of all frames. Times
//! vary with the machine; their ratios hardly do.

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

/// Rounds that are measured, after one that is not.
const ROUNDS: usize = 15;
/// On silence a stage may cost so much of what it costs on speech, percent, and so many nanoseconds a frame more:
/// differences below are those of caches.
const SILENCE_PERCENT_MAX: u64 = 120;
const SILENCE_NANOS_MAX: u64 = 500;

/// A stage's name, and nanoseconds for 10 ms: of speech, of silence, of its slowest frame.
struct Row {
    name: String,
    speech: u64,
    silence: u64,
    slowest: u64,
}

fn main() -> ExitCode {
    let check = std::env::args().any(|argument| argument == "--check");
    let mut rows = Vec::new();
    stages(&mut rows);
    resampling(&mut rows);
    mixing(&mut rows);
    codecs(&mut rows);
    println!(
        "| for 10 ms, in µs | speech | digital silence | its slowest frame |\n|---|---|---|---|"
    );
    let mut slow = Vec::new();
    for row in &rows {
        let micros = |nanos: u64| format!("{}.{:02}", nanos / 1_000, nanos % 1_000 / 10);
        let (speech, silence, slowest) =
            (micros(row.speech), micros(row.silence), micros(row.slowest));
        println!("| {} | {speech} | {silence} | {slowest} |", row.name);
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

/// Measures what is done to each of some things that stand for 10 ms of speech and silence, `each` 10 ms of them.
fn measure_all<T: Clone>(
    rows: &mut Vec<Row>,
    name: String,
    each: u64,
    [speech, silence]: [&[T]; 2],
    mut process: impl FnMut(&mut T),
) {
    let mut quickest = [vec![u64::MAX; speech.len()], vec![u64::MAX; silence.len()]];
    for round in 0..=ROUNDS {
        for (things, quickest) in [speech, silence].into_iter().zip(&mut quickest) {
            for (thing, quickest) in things.iter().zip(quickest) {
                let mut thing = thing.clone();
                let start = now();
                process(black_box(&mut thing));
                let nanos = start.elapsed().as_nanos() as u64 / each;
                if round > 0 {
                    *quickest = nanos.min(*quickest);
                }
            }
        }
    }
    let mean = |nanos: &[u64]| nanos.iter().sum::<u64>() / nanos.len().max(1) as u64;
    rows.push(Row {
        name,
        speech: mean(&quickest[0]),
        silence: mean(&quickest[1]),
        slowest: quickest[1].iter().copied().max().unwrap_or(0),
    });
}

fn measure(rows: &mut Vec<Row>, name: String, rate: Rate, process: impl FnMut(&mut AudioFrame)) {
    let [speech, silence] = [speech(rate), silence(rate)].map(|samples| frames(rate, &samples));
    measure_all(rows, name, 1, [&speech, &silence], process);
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
fn speech(rate: Rate) -> Vec<f32> {
    let hz = rate.hz() as usize;
    let noise = signal::noise(1, 0.003, hz);
    let voice = signal::voice(rate, 1, hz);
    voice.iter().zip(&noise).map(|(a, b)| a + b).collect()
}

fn silence(rate: Rate) -> Vec<f32> {
    vec![0.0; rate.hz() as usize]
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
        decode(
            "Opus decode and concealment (PLC)",
            Codec::Opus,
            Way::Conceal,
        );
        decode("G.711 decode", Codec::Pcma, Way::Decode);
        decode("G.711 decode and concealment", Codec::Pcma, Way::Conceal);
    }
}

fn encode(rows: &mut Vec<Row>, name: String, codec: Codec, rate: Rate, settings: EncoderSettings) {
    let mut encoder = AnyEncoder::new(codec, rate, settings).expect("a codec of sound");
    let mut payload = [0; 1_275];
    let packets = |samples: Vec<f32>| -> Vec<Vec<f32>> {
        samples
            .chunks_exact(2 * rate.frame())
            .map(<[f32]>::to_vec)
            .collect()
    };
    let [speech, silence] = [speech(rate), silence(rate)].map(packets);
    measure_all(rows, name, 2, [&speech, &silence], |samples| {
        encoder.encode(samples, &mut payload).expect("a packet");
        black_box(&payload);
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
    let mut encoder =
        AnyEncoder::new(codec, source, EncoderSettings::STANDARD).expect("a codec of sound");
    let mut decoder = AnyDecoder::new(codec, rate).expect("a codec of sound");
    let encode = |samples: &[f32]| {
        let mut payload = vec![0; 1_275];
        let bytes = encoder.encode(samples, &mut payload).expect("a packet");
        payload.truncate(bytes);
        payload
    };
    let both = [speech(source), silence(source)].concat();
    let mut payloads: Vec<Vec<u8>> = both.chunks_exact(2 * source.frame()).map(encode).collect();
    let silence = payloads.split_off(payloads.len() / 2);
    if way == Way::Fec {
        payloads.retain(|payload| decoder.has_fec(payload));
    }
    // There is no redundancy in silence.
    let silence = if way == Way::Fec { &[] } else { &silence[..] };
    let mut out = vec![0.0; PACKET_SAMPLES_MAX];
    let length = 2 * rate.frame();
    measure_all(rows, name, 2, [&payloads, silence], |payload| {
        match way {
            Way::Decode => drop(decoder.decode(payload, &mut out).expect("our own")),
            Way::Fec => decoder
                .decode_fec(payload, &mut out[..length])
                .expect("it has it"),
            Way::Conceal => {
                // The first frame that is lost after one that came costs most.
                decoder.decode(payload, &mut out).expect("our own");
                decoder.conceal(&mut out[..length]);
            }
        }
        black_box(&out);
    });
}
