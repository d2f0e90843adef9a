//! Scenes: sound with what is true about it.

use std::io;

use antiphon_core::audio::Rate;
use antiphon_core::codec::{AnyDecoder, AnyEncoder, Decoder as _, Encoder as _, EncoderSettings};
use antiphon_core::plan::Codec;
use antiphon_core::voice::features::{ANALYSED_SAMPLES, Analyser, Features, Side};

use crate::dialogues::speech::{RATE, Voice, cut, level};
use crate::dialogues::texts::Half;

/// Numbers that look random, the same for the same seed: good enough for noise and lengths.
#[derive(Clone, Copy, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below a bound.
    pub const fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) as usize * bound) >> 32
    }

    /// From −1 to 1.
    pub fn signed(&mut self) -> f32 {
        self.below(1 << 24) as f32 / 8_388_608.0 - 1.0
    }
}

/// One true turn, in microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its first sample.
    pub start: u64,
    /// Its last sample.
    pub end: u64,
    /// Pauses in it: beginning and end.
    pub pauses: Vec<(u64, u64)>,
}

/// Sound and the turns in it.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// At 16 kHz.
    pub samples: Vec<f32>,
    /// In order.
    pub turns: Vec<Turn>,
}

impl Scene {
    /// Where its sound ends, in microseconds.
    #[must_use]
    pub fn now(&self) -> u64 {
        micros(self.samples.len())
    }

    /// Adds silence.
    pub fn wait(&mut self, millis: usize) {
        let length = self.samples.len() + millis * RATE / 1_000;
        self.samples.resize(length, 0.0);
    }

    /// Adds a turn of parts with pauses of 200 to 1,500 ms between them.
    pub fn speak(&mut self, parts: &[Vec<f32>], dice: &mut Dice) {
        let start = self.now();
        let mut pauses = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            if number > 0 {
                let from = self.now();
                self.wait(200 + dice.below(1_300));
                pauses.push((from, self.now()));
            }
            self.samples.extend(part);
        }
        let end = self.now();
        self.turns.push(Turn { start, end, pauses });
    }
}

/// All turns of one person, in random order and with 5 to 6 s between them.
///
/// # Errors
/// espeak-ng's.
pub fn dialogue(half: &Half, voice: &Voice, seed: u64) -> io::Result<Scene> {
    let mut dice = Dice::new(seed);
    let mut turns = Vec::new();
    for clauses in half.turns {
        let parts: io::Result<Vec<_>> = clauses.iter().map(|clause| voice.say(clause)).collect();
        turns.push(parts?);
    }
    for sentence in half.cut {
        let (one, other) = cut(&voice.say(sentence)?);
        turns.push(vec![one, other]);
    }
    let mut scene = Scene::default();
    scene.wait(1_500);
    for round in 0..3 {
        let first = dice.below(turns.len());
        for number in 0..turns.len() {
            // 7 shares no factor with the number of turns: each comes once a round.
            let parts = &turns[(first + number * (7 + 2 * round)) % turns.len()];
            scene.speak(parts, &mut dice);
            scene.wait(5_000 + dice.below(1_000));
        }
    }
    Ok(scene)
}

/// What lies between a mouth and the analyser.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Path {
    /// A quiet room: noise at −70 dB.
    Quiet,
    /// Pink noise so many dB below the voice.
    Noise(f32),
    /// Four other voices, together so many dB below.
    Babble(f32),
    /// A quiet room, and Opus at 24 kbit/s with so many percent of the packets lost, in bursts of two on the average.
    Opus(usize),
}

impl Path {
    /// All that is measured.
    pub const ALL: [Self; 9] = [
        Self::Quiet,
        Self::Noise(20.0),
        Self::Noise(10.0),
        Self::Noise(5.0),
        Self::Noise(0.0),
        Self::Babble(10.0),
        Self::Opus(0),
        Self::Opus(5),
        Self::Opus(15),
    ];

    /// In a table.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Quiet => "quiet".to_owned(),
            Self::Noise(decibels) => format!("pink noise, {decibels} dB"),
            Self::Babble(decibels) => format!("babble, {decibels} dB"),
            Self::Opus(loss) => format!("Opus, {loss} % lost"),
        }
    }

    /// The features of sound that took it.
    #[must_use]
    pub fn features(self, samples: &[f32], babble: &[f32], seed: u64) -> Vec<Features> {
        let mut dice = Dice::new(seed);
        let mut noise = match self {
            Self::Babble(_) => babble.iter().copied().cycle().take(samples.len()).collect(),
            _ => pink(samples.len(), &mut dice),
        };
        let below = match self {
            Self::Quiet | Self::Opus(_) => 44.0,
            Self::Noise(decibels) | Self::Babble(decibels) => decibels,
        };
        level(&mut noise, -26.0 - below);
        let mixed: Vec<_> = samples
            .iter()
            .zip(&noise)
            .map(|(one, other)| one + other)
            .collect();
        match self {
            Self::Opus(loss) => coded(&mixed, loss, &mut dice),
            _ => analyse(&mixed),
        }
    }
}

/// The features of sound as it is.
#[must_use]
pub fn analyse(samples: &[f32]) -> Vec<Features> {
    let mut analyser = Analyser::new();
    let (frames, _) = samples.as_chunks::<ANALYSED_SAMPLES>();
    let features = |frame| analyser.analyse(frame, &Side::default());
    frames.iter().map(features).collect()
}

/// The features of sound that was sent as Opus. What is lost is decoded from the next packet's copy if that came, and
/// concealed if not.
fn coded(samples: &[f32], loss: usize, dice: &mut Dice) -> Vec<Features> {
    const PACKET: usize = RATE / 50;
    let settings = EncoderSettings {
        loss_percent: loss as u8,
        ..EncoderSettings::STANDARD
    };
    let made = "there is a codec for Opus";
    let mut encoder = AnyEncoder::new(Codec::Opus, Rate::Hz16000, settings).expect(made);
    let mut bytes = [0; 1_500];
    let mut packets = Vec::new();
    let mut lost = false;
    for packet in samples.chunks_exact(PACKET) {
        let length = encoder.encode(packet, &mut bytes).unwrap_or(0);
        // Half of the lost are followed by another: bursts of two.
        let chance = if lost { 50 } else { loss / 2 + loss % 2 };
        lost = loss > 0 && dice.below(100) < chance;
        packets.push((!lost).then(|| bytes[..length].to_vec()));
    }
    let mut decoder = AnyDecoder::new(Codec::Opus, Rate::Hz16000).expect(made);
    let mut analyser = Analyser::new();
    let mut features = Vec::new();
    for (number, packet) in packets.iter().enumerate() {
        let mut out = [0.0; PACKET];
        let next = packets.get(number + 1).and_then(Option::as_ref);
        let concealed = match (packet, next) {
            (Some(packet), _) => decoder.decode(packet, &mut out).is_err(),
            (None, Some(next)) if decoder.has_fec(next) => {
                decoder.decode_fec(next, &mut out).is_err()
            }
            (None, _) => {
                decoder.conceal(&mut out);
                true
            }
        };
        let side = Side {
            concealed,
            ..Side::default()
        };
        let (frames, _) = out.as_chunks::<ANALYSED_SAMPLES>();
        features.extend(frames.iter().map(|frame| analyser.analyse(frame, &side)));
    }
    features
}

/// Noise whose power falls by 3 dB an octave: white noise through poles an octave and a half apart.
#[must_use]
pub fn pink(length: usize, dice: &mut Dice) -> Vec<f32> {
    let mut state = [0.0_f32; 5];
    let poles = [
        (0.997_f32, 0.03_f32),
        (0.985, 0.08),
        (0.95, 0.18),
        (0.8, 0.4),
        (0.4, 0.6),
    ];
    let step = |_| {
        let white = dice.signed();
        for (value, (pole, gain)) in state.iter_mut().zip(poles) {
            *value = *value * pole + white * gain;
        }
        state.iter().sum()
    };
    (0..length).map(step).collect()
}

/// Four voices that talk at the same time, without a pause.
///
/// # Errors
/// espeak-ng's.
pub fn babble(half: &Half) -> io::Result<Vec<f32>> {
    let mut sum = vec![0.0; 20 * RATE];
    for (number, voice) in half.voices.iter().enumerate() {
        let mut talk = Vec::new();
        for text in half.agent.iter().chain(half.cut) {
            talk.extend(voice.say(text)?);
        }
        let talk = talk.iter().cycle().skip(number * 3 * RATE);
        for (to, from) in sum.iter_mut().zip(talk) {
            *to += from;
        }
    }
    Ok(sum)
}

/// Microseconds of so many samples.
#[must_use]
pub const fn micros(samples: usize) -> u64 {
    samples as u64 * 1_000_000 / RATE as u64
}
