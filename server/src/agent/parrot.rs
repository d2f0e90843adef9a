//! The agent that says each turn of the person's back.

use std::collections::VecDeque;

use antiphon_core::audio::Rate;
use antiphon_core::voice::message::{
    AgentAsk, CallTime, Heard, TurnEnd, TurnId, UtteranceId, VoiceEvent,
};

use crate::agent::built_in::BuiltIn;
use crate::limits::{PARROT_TURN_MAX, SAY_BYTES_MAX};

/// Microseconds kept from before speech began, so that no first sound is cut off.
const PREFIX: u64 = 200_000;
/// Microseconds kept from after the last voice.
const SUFFIX: u64 = 200_000;
/// Microseconds of sound remembered outside of turns: speech is known to have begun a little after it did.
const REMEMBERED: u64 = 1_000_000;

/// Records the person's turn and says it back when it is over. What it says may be interrupted, and is dropped then.
#[derive(Debug)]
pub struct Parrot {
    rate: Rate,
    heard: VecDeque<Piece>,
    turn: Option<Turn>,
    said: u64,
}

#[derive(Debug)]
struct Piece {
    at: u64,
    pcm: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    id: TurnId,
    /// Where the recording begins.
    from: u64,
}

impl Parrot {
    /// It hears sound of this rate.
    #[must_use]
    pub const fn new(rate: Rate) -> Self {
        Self {
            rate,
            heard: VecDeque::new(),
            turn: None,
            said: 0,
        }
    }

    fn record(&mut self, at: CallTime, pcm: Vec<u8>) {
        let end = at.0 + self.micros(pcm.len());
        let keep_from = match self.turn {
            // Of a turn that is too long the beginning is kept.
            Some(turn) if end > turn.from + PARROT_TURN_MAX.as_micros() as u64 => return,
            Some(turn) => turn.from,
            None => end.saturating_sub(REMEMBERED),
        };
        self.heard.push_back(Piece { at: at.0, pcm });
        while let Some(oldest) = self.heard.front()
            && oldest.at + self.micros(oldest.pcm.len()) <= keep_from
        {
            self.heard.pop_front();
        }
    }

    fn begin(&mut self, id: TurnId, start: CallTime) {
        if self.turn.is_none_or(|turn| turn.id != id) {
            let from = start.0.saturating_sub(PREFIX);
            self.turn = Some(Turn { id, from });
        }
    }

    fn say(&mut self, end: TurnEnd) -> Vec<AgentAsk> {
        let Some(turn) = self.turn.take().filter(|turn| turn.id == end.turn) else {
            return Vec::new();
        };
        let to = end.end.0 + SUFFIX;
        let mut pcm = Vec::new();
        for piece in std::mem::take(&mut self.heard) {
            let first = self
                .rate_bytes(turn.from.saturating_sub(piece.at))
                .min(piece.pcm.len());
            let last = self
                .rate_bytes(to.saturating_sub(piece.at))
                .min(piece.pcm.len());
            pcm.extend_from_slice(piece.pcm.get(first..last).unwrap_or_default());
        }
        if pcm.is_empty() {
            return Vec::new();
        }
        self.said += 1;
        let pieces = pcm.chunks(SAY_BYTES_MAX);
        let count = pieces.len();
        let say = |(index, piece): (usize, &[u8])| AgentAsk::Say {
            utterance: UtteranceId(self.said),
            pcm: piece.to_vec(),
            rate: self.rate,
            last: index + 1 == count,
            interruptible: true,
        };
        pieces.enumerate().map(say).collect()
    }

    fn micros(&self, bytes: usize) -> u64 {
        bytes as u64 / 2 * 1_000_000 / u64::from(self.rate.hz())
    }

    /// Bytes of whole samples of so many microseconds.
    fn rate_bytes(&self, micros: u64) -> usize {
        (micros * u64::from(self.rate.hz()) / 1_000_000) as usize * 2
    }
}

impl BuiltIn for Parrot {
    fn greet(&mut self) -> Vec<AgentAsk> {
        Vec::new()
    }

    fn handle(&mut self, heard: Heard) -> Vec<AgentAsk> {
        match heard {
            Heard::Audio { at, pcm, .. } => self.record(at, pcm),
            // At an interruption the core has silenced us by now; what the person says instead is a turn as any other.
            Heard::Voice(
                VoiceEvent::SpeechStarted { turn, start, .. }
                | VoiceEvent::BargeIn { turn, start, .. },
            ) => self.begin(turn, start),
            Heard::Voice(VoiceEvent::Ended(end)) => return self.say(end),
            _ => {}
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use antiphon_core::voice::message::EndReason;

    use super::*;

    const MS: u64 = 1_000;

    /// 20 ms whose samples all say when they are, in units of 20 ms.
    fn audio(at_ms: u64) -> Heard {
        let sample = (at_ms / 20) as i16;
        Heard::Audio {
            at: CallTime(at_ms * MS),
            pcm: sample.to_le_bytes().repeat(320),
            speech: 0,
            concealed: false,
        }
    }

    fn started(turn: u32, start_ms: u64) -> Heard {
        Heard::Voice(VoiceEvent::SpeechStarted {
            at: CallTime((start_ms + 80) * MS),
            turn: TurnId(turn),
            start: CallTime(start_ms * MS),
        })
    }

    fn ended(turn: u32, end_ms: u64) -> Heard {
        Heard::Voice(VoiceEvent::Ended(TurnEnd {
            at: CallTime((end_ms + 400) * MS),
            turn: TurnId(turn),
            start: CallTime(0),
            end: CallTime(end_ms * MS),
            probability: 30_000,
            reason: EndReason::Evidence,
        }))
    }

    fn hear(parrot: &mut Parrot, from_ms: u64, to_ms: u64) {
        for at in (from_ms..to_ms).step_by(20) {
            assert!(parrot.handle(audio(at)).is_empty());
        }
    }

    /// Utterance, first and last sample, milliseconds; of what is one utterance, ended.
    fn said(asks: &[AgentAsk]) -> Option<(u64, i16, i16, u64)> {
        let mut all = Vec::new();
        let mut id = None;
        for (index, ask) in asks.iter().enumerate() {
            let AgentAsk::Say {
                utterance,
                pcm,
                rate: Rate::Hz16000,
                last,
                interruptible: true,
            } = ask
            else {
                panic!("{ask:?}");
            };
            assert_eq!(*last, index + 1 == asks.len());
            assert!(id.is_none_or(|id| id == utterance.0) && pcm.len() <= SAY_BYTES_MAX);
            id = Some(utterance.0);
            all.extend_from_slice(pcm);
        }
        let sample = |at: usize| i16::from_le_bytes([all[at], all[at + 1]]);
        Some((id?, sample(0), sample(all.len() - 2), all.len() as u64 / 32))
    }

    #[test]
    fn a_turn_is_said_back_from_just_before_it_to_just_after() {
        let mut parrot = Parrot::new(Rate::Hz16000);
        hear(&mut parrot, 0, 2_080);
        assert!(parrot.handle(started(1, 2_000)).is_empty());
        hear(&mut parrot, 2_080, 3_400);
        let asks = parrot.handle(ended(1, 3_000));
        assert_eq!(said(&asks), Some((1, 90, 159, 1_400)), "1,800 to 3,200 ms");
    }

    #[test]
    fn a_pause_within_a_turn_is_part_of_it() {
        let mut parrot = Parrot::new(Rate::Hz16000);
        hear(&mut parrot, 0, 1_080);
        parrot.handle(started(4, 1_000));
        hear(&mut parrot, 1_080, 2_000);
        parrot.handle(started(4, 1_800));
        hear(&mut parrot, 2_000, 3_000);
        let asks = parrot.handle(ended(4, 2_400));
        assert_eq!(said(&asks), Some((1, 40, 129, 1_800)));
    }

    #[test]
    fn an_interruption_is_a_turn_of_its_own() {
        let mut parrot = Parrot::new(Rate::Hz16000);
        hear(&mut parrot, 0, 600);
        parrot.handle(started(1, 200));
        let asks = parrot.handle(ended(1, 300));
        assert_eq!(said(&asks), Some((1, 0, 24, 500)));
        hear(&mut parrot, 600, 1_400);
        parrot.handle(Heard::Voice(VoiceEvent::BargeIn {
            at: CallTime(1_400 * MS),
            start: CallTime(1_200 * MS),
            turn: TurnId(2),
        }));
        hear(&mut parrot, 1_400, 2_000);
        let asks = parrot.handle(ended(2, 1_600));
        assert_eq!(said(&asks), Some((2, 50, 89, 800)));
    }

    #[test]
    fn what_it_remembers_is_bounded_in_and_out_of_turns() {
        let mut parrot = Parrot::new(Rate::Hz16000);
        hear(&mut parrot, 0, 60_000);
        assert!(parrot.heard.len() <= 51, "{} pieces", parrot.heard.len());
        parrot.handle(started(1, 60_000));
        hear(&mut parrot, 60_000, 160_000);
        let asks = parrot.handle(ended(1, 159_000));
        let (_, first, _, length) = said(&asks).expect("it speaks");
        assert_eq!((first, length), (2_990, 30_000), "the first 30 s");
    }

    #[test]
    fn nothing_is_said_of_a_turn_that_was_not_heard() {
        let mut parrot = Parrot::new(Rate::Hz16000);
        assert!(parrot.handle(ended(1, 100)).is_empty());
        parrot.handle(started(2, 0));
        assert!(parrot.handle(ended(2, 100)).is_empty(), "no sound came");
        hear(&mut parrot, 0, 200);
        parrot.handle(started(3, 0));
        assert!(parrot.handle(ended(4, 100)).is_empty(), "another turn");
    }
}
