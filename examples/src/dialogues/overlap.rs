//! Scenes in which the agent speaks, and the person perhaps as well.

use std::io;

use crate::dialogues::scene::{Dice, Scene, micros, pink};
use crate::dialogues::speech::{RATE, Voice, level};
use crate::dialogues::texts::Half;

/// What the person does while the agent speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Interrupts it.
    Interruption,
    /// Says "uh huh".
    Backchannel,
    /// Listens in silence.
    Nothing,
    /// Listens, and makes noises: a burst of 30 to 300 ms each second, as loud as a voice.
    Noises,
}

/// How the agent comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Echo {
    /// Not: a headset, or a canceller that works.
    None,
    /// So many dB below the person's voice, after so many milliseconds, with a room of 100 ms.
    Path {
        /// dB.
        below: f32,
        /// Milliseconds.
        delay: usize,
    },
}

/// What is heard and what is played.
#[derive(Clone, Debug)]
pub struct Overlap {
    /// What the microphone takes in: a turn of the person's first.
    pub heard: Vec<f32>,
    /// What the agent says, as long.
    pub played: Vec<f32>,
    /// Its beginning and end, in microseconds.
    pub agent: (u64, u64),
    /// When the person speaks or makes a noise over it first.
    pub onset: Option<u64>,
}

/// One scene of a person and an agent of another voice.
///
/// # Errors
/// espeak-ng's.
pub fn overlap(
    half: &Half,
    person: usize,
    act: Act,
    echo: Echo,
    dice: &mut Dice,
) -> io::Result<Overlap> {
    let voice = &half.voices[person];
    let agent = &half.voices[(person + 1) % half.voices.len()];
    let mut scene = Scene::default();
    scene.wait(1_500);
    scene
        .samples
        .extend(voice.say(half.cut[dice.below(half.cut.len())])?);
    scene.wait(2_500);
    let start = scene.samples.len();
    let said = agent.say(half.agent[dice.below(half.agent.len())])?;
    let mut played = vec![0.0; start];
    played.extend(&said);
    let end = played.len();
    // Beyond the opening, and long before the end.
    let at = start + RATE + dice.below(3 * RATE);
    scene.samples.resize(played.len() + RATE, 0.0);
    played.resize(scene.samples.len(), 0.0);
    for (from, sound) in sounds(half, voice, act, at, end, dice)? {
        for (to, sample) in scene.samples.iter_mut().skip(from).zip(&sound) {
            *to += sample;
        }
    }
    if let Echo::Path { below, delay } = echo {
        add_echo(&mut scene.samples, &played, below, delay, dice);
    }
    let mut room = pink(scene.samples.len(), dice);
    level(&mut room, -70.0);
    scene
        .samples
        .iter_mut()
        .zip(&room)
        .for_each(|(to, from)| *to += from);
    Ok(Overlap {
        heard: scene.samples,
        played,
        agent: (micros(start), micros(end)),
        onset: (act != Act::Nothing).then(|| micros(at)),
    })
}

/// What the person adds, and at which sample.
fn sounds(
    half: &Half,
    voice: &Voice,
    act: Act,
    at: usize,
    end: usize,
    dice: &mut Dice,
) -> io::Result<Vec<(usize, Vec<f32>)>> {
    let mut one = |texts: &[&str]| voice.say(texts[dice.below(texts.len())]);
    Ok(match act {
        Act::Interruption => vec![(at, one(half.interruptions)?)],
        Act::Backchannel => {
            let mut sound = one(half.backchannels)?;
            // Who agrees speaks lower: 6 dB.
            level(&mut sound, -32.0);
            vec![(at, sound)]
        }
        Act::Nothing => Vec::new(),
        Act::Noises => (at..end)
            .step_by(RATE)
            .map(|at| {
                let length = RATE * (30 + dice.below(270)) / 1_000;
                let mut sound = pink(length, dice);
                level(&mut sound, -26.0);
                (at, sound)
            })
            .collect(),
    })
}

fn add_echo(heard: &mut [f32], played: &[f32], below: f32, delay: usize, dice: &mut Dice) {
    const TAPS: usize = 60;
    let mut echo = vec![0.0; heard.len()];
    for tap in 0..TAPS {
        let late = tap * RATE / 10 / TAPS + dice.below(RATE / 10 / TAPS);
        // 60 dB in the room's 100 ms.
        let gain = dice.signed() * 10.0_f32.powf(-3.0 * late as f32 / (RATE as f32 / 10.0));
        let shifted = echo.iter_mut().skip(delay * RATE / 1_000 + late);
        shifted
            .zip(played)
            .for_each(|(to, from)| *to += gain * from);
    }
    // The agent is as loud as the person; its silence before and after does not count.
    let speaking = played
        .iter()
        .filter(|sample| **sample != 0.0)
        .count()
        .max(1);
    let share = 10.0 * (speaking as f32 / played.len() as f32).log10();
    level(&mut echo, -26.0 - below + share);
    heard
        .iter_mut()
        .zip(&echo)
        .for_each(|(to, from)| *to += from);
}
