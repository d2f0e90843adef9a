//! The agent that answers with a tone: to hear that a call works.

use std::f64::consts::TAU;

use antiphon_core::audio::Rate;
use antiphon_core::voice::message::{AgentAsk, Heard, UtteranceId, VoiceEvent};

use crate::agent::built_in::BuiltIn;

const RATE: Rate = Rate::Hz16000;
const HERTZ: f64 = 440.0;
const SAMPLES: usize = RATE.hz() as usize;
/// Samples over which it comes and goes, so that it does not click.
const FADE: usize = SAMPLES / 100;
/// 10 dB below full scale.
const PEAK: f64 = 0.316 * 32_767.0;

/// Says a tone of 440 Hz for a second when the call connects, and after each turn of the person's.
#[derive(Debug, Default)]
pub struct Tone {
    said: u64,
}

impl Tone {
    fn say(&mut self) -> Vec<AgentAsk> {
        self.said += 1;
        vec![AgentAsk::Say {
            utterance: UtteranceId(self.said),
            pcm: (0..SAMPLES)
                .flat_map(|at| sample(at).to_le_bytes())
                .collect(),
            rate: RATE,
            last: true,
            interruptible: true,
        }]
    }
}

impl BuiltIn for Tone {
    fn greet(&mut self) -> Vec<AgentAsk> {
        self.say()
    }

    fn handle(&mut self, heard: Heard) -> Vec<AgentAsk> {
        match heard {
            Heard::Voice(VoiceEvent::Ended(_)) => self.say(),
            _ => Vec::new(),
        }
    }
}

fn sample(at: usize) -> i16 {
    let edge = (at + 1).min(SAMPLES - at).min(FADE) as f64 / FADE as f64;
    let wave = (TAU * HERTZ * at as f64 / f64::from(RATE.hz())).sin();
    (PEAK * edge * wave) as i16
}

#[cfg(test)]
mod tests {
    use antiphon_core::voice::message::{CallTime, EndReason, TurnEnd, TurnId};

    use super::*;

    #[test]
    fn it_is_a_second_of_440_hertz_at_first_and_after_each_turn() {
        let mut tone = Tone::default();
        let asks = tone.greet();
        let [
            AgentAsk::Say {
                utterance,
                pcm,
                rate: RATE,
                last: true,
                ..
            },
        ] = asks.as_slice()
        else {
            panic!("{asks:?}");
        };
        assert_eq!((utterance.0, pcm.len()), (1, 2 * 16_000));
        let samples: Vec<i16> = pcm
            .chunks_exact(2)
            .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        // A period has one step from below zero to zero or above.
        let periods = samples
            .windows(2)
            .filter(|pair| pair[0] < 0 && pair[1] >= 0)
            .count();
        assert!((439..=440).contains(&periods), "{periods}");
        assert!(samples[0].abs() < 40 && samples[15_999].abs() < 40);
        let peak = samples.iter().map(|sample| sample.unsigned_abs()).max();
        assert!(
            peak.is_some_and(|peak| (10_000..=10_400).contains(&peak)),
            "{peak:?}"
        );

        let at = CallTime(7);
        assert!(
            tone.handle(Heard::Voice(VoiceEvent::Idle { at }))
                .is_empty()
        );
        let end = TurnEnd {
            at,
            turn: TurnId(1),
            start: at,
            end: at,
            probability: 0,
            reason: EndReason::Silence,
        };
        assert!(
            tone.handle(Heard::Voice(VoiceEvent::EagerEnd(end)))
                .is_empty()
        );
        let asks = tone.handle(Heard::Voice(VoiceEvent::Ended(end)));
        assert!(
            matches!(asks.as_slice(), [AgentAsk::Say { utterance, .. }] if utterance.0 == 2),
            "a new utterance"
        );
    }
}
