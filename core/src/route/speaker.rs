//! Who speaks loudest, from the audio levels that packets carry (RFC 6464). Decides only when a level arrives
//! or a participant leaves, so a silent room costs no timer.

use std::time::Duration;

use crate::ids::ParticipantId;
use crate::limits::{SPEAKER_EVENT_INTERVAL, SPEAKERS_MAX};
use crate::time::Timestamp;

/// Smoothed loudness above which a participant speaks, in dB over the quietest level (-127 dBov): -50 dBov,
/// well over the noise of a quiet room and under a low voice.
const SPEAKING: i32 = 77 << SHIFT;
/// A challenger must be louder than the speaker by this, or the display would flicker between two.
const MARGIN: i32 = 6 << SHIFT;
/// A speaker not heard for this long has stopped.
const SILENCE: Duration = Duration::from_millis(1_200);
/// Loudness is kept in 1/16 dB.
const SHIFT: u32 = 4;

#[derive(Clone, Copy, Debug)]
struct Voice {
    participant: ParticipantId,
    /// Exponentially smoothed over about 8 packets (160 ms), in 1/16 dB over -127 dBov.
    loudness: i32,
    spoke: Option<Timestamp>,
}

/// The active speaker of one room. Fixed-point, so that every platform decides alike.
#[derive(Debug)]
pub(crate) struct SpeakerDetector {
    voices: Vec<Voice>,
    active: Option<ParticipantId>,
    /// When the active speaker spoke last.
    active_spoke: Timestamp,
    /// When it last changed who that is.
    changed: Option<Timestamp>,
}

impl Default for SpeakerDetector {
    fn default() -> Self {
        Self {
            voices: Vec::new(),
            active: None,
            changed: None,
            active_spoke: Timestamp::ZERO,
        }
    }
}

impl SpeakerDetector {
    /// Notes the level of one packet in -dBov (0 is the loudest, 127 silence). Returns the new speaker if
    /// that changed who it is.
    pub(crate) fn note_level(
        &mut self,
        now: Timestamp,
        participant: ParticipantId,
        level: u8,
    ) -> Option<Option<ParticipantId>> {
        let target = (127 - i32::from(level.min(127))) << SHIFT;
        let place = match self
            .voices
            .iter()
            .position(|voice| voice.participant == participant)
        {
            Some(place) => place,
            None if self.voices.len() < SPEAKERS_MAX => {
                self.voices.push(Voice {
                    participant,
                    loudness: 0,
                    spoke: None,
                });
                self.voices.len() - 1
            }
            None => return None,
        };
        let voice = &mut self.voices[place];
        voice.loudness += (target - voice.loudness) >> 3;
        let is_active = self.active == Some(participant);
        let speaks = voice.loudness >= SPEAKING;
        if speaks {
            voice.spoke = Some(now);
            if is_active {
                self.active_spoke = now;
            }
        }
        // Only a challenger can take over from a speaker who still speaks; nobody need be compared.
        if (is_active || !speaks) && self.active.is_some() && now < self.active_spoke + SILENCE {
            return None;
        }
        self.decide(now)
    }

    /// Forgets a participant who left. Returns the new speaker if that changed who it is.
    pub(crate) fn note_left(
        &mut self,
        now: Timestamp,
        participant: ParticipantId,
    ) -> Option<Option<ParticipantId>> {
        self.voices.retain(|voice| voice.participant != participant);
        self.decide(now)
    }

    fn decide(&mut self, now: Timestamp) -> Option<Option<ParticipantId>> {
        let speaks = |voice: &Voice| voice.spoke.is_some_and(|spoke| now.since(spoke) < SILENCE);
        let active = self
            .voices
            .iter()
            .find(|voice| Some(voice.participant) == self.active && speaks(voice));
        let loudest = self
            .voices
            .iter()
            .filter(|voice| speaks(voice))
            .max_by_key(|v| v.loudness);
        let next = match (active, loudest) {
            (Some(active), Some(loudest)) if loudest.loudness < active.loudness + MARGIN => active,
            (_, Some(loudest)) => loudest,
            (_, None) => return self.change_to(now, None),
        };
        let Voice {
            participant, spoke, ..
        } = *next;
        self.active_spoke = spoke.unwrap_or(now);
        self.change_to(now, Some(participant))
    }

    fn change_to(
        &mut self,
        now: Timestamp,
        next: Option<ParticipantId>,
    ) -> Option<Option<ParticipantId>> {
        // Who left must not stay the speaker; else two voices that alternate make no flood of events.
        let gone = self
            .active
            .is_some_and(|active| self.voices.iter().all(|voice| voice.participant != active));
        let settled = self
            .changed
            .is_none_or(|at| now.since(at) >= SPEAKER_EVENT_INTERVAL);
        if self.active == next || !(gone || settled) {
            return None;
        }
        (self.active, self.changed) = (next, Some(now));
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: ParticipantId = ParticipantId(1);
    const BOB: ParticipantId = ParticipantId(2);

    /// Feeds one packet of each every 20 ms and collects the changes.
    fn run(
        detector: &mut SpeakerDetector,
        from_ms: u64,
        packets: u64,
        ann: u8,
        bob: u8,
    ) -> Vec<Option<ParticipantId>> {
        let mut changes = Vec::new();
        for packet in 0..packets {
            let now = Timestamp::from_millis(from_ms + packet * 20);
            changes.extend(detector.note_level(now, ANN, ann));
            changes.extend(detector.note_level(now, BOB, bob));
        }
        changes
    }

    #[test]
    fn the_voice_is_found_among_silence_and_lost_when_it_stops() {
        let mut detector = SpeakerDetector::default();
        assert_eq!(run(&mut detector, 0, 50, 127, 127), []);
        assert_eq!(run(&mut detector, 1_000, 50, 30, 127), [Some(ANN)]);
        assert_eq!(run(&mut detector, 2_000, 100, 127, 127), [None]);
    }

    #[test]
    fn a_slightly_louder_voice_does_not_take_over_but_a_much_louder_one_does() {
        let mut detector = SpeakerDetector::default();
        run(&mut detector, 0, 50, 40, 127);
        assert_eq!(run(&mut detector, 1_000, 50, 40, 37), []);
        assert_eq!(run(&mut detector, 2_000, 50, 40, 20), [Some(BOB)]);
    }

    #[test]
    fn a_speaker_who_leaves_is_replaced() {
        let mut detector = SpeakerDetector::default();
        run(&mut detector, 0, 50, 20, 40);
        assert_eq!(
            detector.note_left(Timestamp::from_millis(1_000), ANN),
            Some(Some(BOB))
        );
        assert_eq!(
            detector.note_left(Timestamp::from_millis(1_000), BOB),
            Some(None)
        );
    }

    #[test]
    fn one_click_is_no_speech() {
        let mut detector = SpeakerDetector::default();
        run(&mut detector, 0, 10, 127, 127);
        assert_eq!(
            detector.note_level(Timestamp::from_millis(200), ANN, 0),
            None
        );
        assert_eq!(run(&mut detector, 220, 50, 127, 127), []);
    }
}
