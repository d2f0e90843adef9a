//! A call with an agent: what a person says to the program at the other end, and what that says back.
//!
//! ```text
//!  packets -> jitter buffer -> decoder -+-> features -> turn detector -> decisions -+
//!             (10 ms of the call's clock)|                                |  duck, stop |
//!                                       +-> batches of sound ------------|-----------+-> Heard
//!  packets of keys -> keypad --------------------------------------------------------+
//!  AgentAsk -----------------------------------> queue -> gain <---------+
//!                                                  +-> encoder -> packets (20 ms)
//! ```

mod ear;
mod keypad;
mod listener;
mod mouth;
mod own;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use self::keypad::Keypad;
pub(crate) use self::listener::Listener;
use self::mouth::{Mouth, Said, Sound, Spoken};
use crate::codec::{AnyEncoder, Encoder as _, EncoderSettings};
use crate::jitter::JitterStats;
use crate::limits::SPOKEN_BYTES_MAX;
use crate::message::{VOICE_DELAY_BOUNDS, VoiceStats};
use crate::plan::{Codec, SessionPlan};
use crate::session::media::Incoming;
use crate::time::{Timestamp, earliest};
use crate::voice::config::TurnConfig;
use crate::voice::message::{
    AgentAsk, AgentPlan, CallTime, Heard, PlayoutState, SpokenQuality, VoiceEvent,
};
use crate::wire::payload::event::REPORT_BYTES;

/// Names what is said among the sources that a sender may follow; there is no other in a call.
const SPOKEN_SOURCE: u32 = 0;

/// One call. Made when its session is opened; hears and speaks once that is connected.
pub(crate) struct Call {
    opened: Timestamp,
    /// The media section that it talks in.
    section: u8,
    /// What is spoken is coded so.
    codec: Codec,
    /// And keys that are pressed, if that was agreed.
    events: Option<Codec>,
    listener: Listener,
    keypad: Keypad,
    mouth: Mouth,
    settings: EncoderSettings,
    encoder: Option<AnyEncoder>,
    packet: [u8; SPOKEN_BYTES_MAX],
    sequence: u64,
    heard: VecDeque<Heard>,
}

impl Call {
    /// A call in the section of a plan that is [for it](SessionPlan::talk); `None`: there is none, and the session
    /// stays silent.
    pub(crate) fn new(
        opened: Timestamp,
        plan: AgentPlan,
        session: &SessionPlan,
        turns: TurnConfig,
    ) -> Option<Self> {
        let (section, media) = session.talk()?;
        Some(Self {
            opened,
            section,
            codec: media.codecs.first()?.codec,
            events: media.events(),
            listener: Listener::new(opened, plan, turns),
            keypad: Keypad::default(),
            mouth: Mouth::new(opened),
            settings: EncoderSettings::STANDARD,
            encoder: None,
            packet: [0; SPOKEN_BYTES_MAX],
            sequence: 0,
            heard: VecDeque::new(),
        })
    }

    /// Takes in a packet of the person's.
    pub(crate) fn handle_packet(
        &mut self,
        now: Timestamp,
        packet: &Incoming<'_>,
        stats: &mut VoiceStats,
    ) {
        if packet.media != self.section {
            return;
        }
        if packet.codec.is_event() {
            let told = self.keypad.handle_packet(now, self.opened, packet, stats);
            self.heard.extend(told.into_iter().flatten());
        } else {
            self.listener.handle_packet(now, packet);
        }
    }

    /// Does what the agent asks for.
    pub(crate) fn handle_ask(&mut self, now: Timestamp, ask: AgentAsk) {
        let heard = &mut self.heard;
        match ask {
            AgentAsk::Say {
                utterance,
                pcm,
                rate,
                last,
                interruptible,
            } => {
                let sound = Sound {
                    utterance,
                    pcm,
                    rate,
                    last,
                    interruptible,
                };
                self.mouth.say(now, sound, heard);
            }
            AgentAsk::Mark { mark } => self.mouth.mark(now, mark, heard),
            AgentAsk::Clear { utterance } => {
                self.mouth
                    .stop(now, utterance, PlayoutState::Cleared, heard);
            }
            AgentAsk::Hint(hint) => self.listener.handle_hint(hint),
            AgentAsk::Eagerness(eagerness) => self.listener.set_eagerness(eagerness),
            AgentAsk::Judgement(judgement) => self.listener.handle_judgement(judgement),
            AgentAsk::Quality(quality) => {
                let settings = match quality {
                    SpokenQuality::Standard => EncoderSettings::STANDARD,
                    SpokenQuality::Economy => EncoderSettings::ECONOMY,
                };
                if settings != self.settings {
                    (self.settings, self.encoder) = (settings, None);
                }
            }
            AgentAsk::Dtmf { digits } if self.events.is_some() => {
                self.mouth.dial(now, &digits, heard);
            }
            AgentAsk::Dtmf { .. } => {}
        }
    }

    /// Hears and decides what is due; speaking is [`Self::speak`]'s.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp, stats: &mut VoiceStats) {
        let let_go = self.keypad.handle_timeout(now, self.opened, stats);
        self.heard.extend(let_go);
        while self
            .listener
            .listen(now, self.mouth.voice(), &mut self.heard, stats)
        {
            while let Some(event) = self.listener.poll_event() {
                self.heard.push_back(Heard::Voice(event));
                match event {
                    VoiceEvent::BargeCandidate { at, start } => {
                        self.mouth.duck(true);
                        let took = at.0.saturating_sub(start.0);
                        stats.ducking.note(&VOICE_DELAY_BOUNDS, took, 1);
                    }
                    // The agent may have finished meanwhile: then it is no interruption any more, and its next words
                    // are as loud as ever.
                    VoiceEvent::Backchannel { .. } | VoiceEvent::SpeechStarted { .. } => {
                        self.mouth.duck(false);
                    }
                    VoiceEvent::BargeIn { at, start, .. } => {
                        let state = PlayoutState::Interrupted;
                        self.mouth.stop(now, None, state, &mut self.heard);
                        self.mouth.duck(false);
                        let fading = self
                            .mouth
                            .deadline()
                            .map_or(0, |last| micros(last.since(now)));
                        let took = at.0.saturating_sub(start.0) + fading;
                        stats.interruption.note(&VOICE_DELAY_BOUNDS, took, 1);
                    }
                    _ => {}
                }
            }
        }
    }

    /// The packet of the agent's voice that is due, if any. To be called until there is none.
    pub(crate) fn speak(&mut self, now: Timestamp, stats: &mut VoiceStats) -> Option<Incoming<'_>> {
        let said = self.mouth.speak(now, &mut self.heard)?;
        let due = said.due();
        let (codec, length, since, marker) = match said {
            Said::Sound(spoken) => {
                let Spoken { due, begins, .. } = spoken;
                self.listener.note_said(&spoken);
                let (rate, settings) = (spoken.rate, self.settings);
                // The rate changes between utterances, if at all.
                let encoder = match self.encoder.take() {
                    Some(encoder) if encoder.rate() == rate => encoder,
                    _ => AnyEncoder::new(self.codec, rate, settings).ok()?,
                };
                let encoder = self.encoder.insert(encoder);
                let length = encoder.encode(spoken.samples, &mut self.packet).ok()?;
                (self.codec, length, due, begins)
            }
            Said::Key(key) => {
                let codec = self.events?;
                let report = key.report(codec.clock_rate()).write();
                self.packet[..REPORT_BYTES].copy_from_slice(&report);
                (codec, REPORT_BYTES, key.began, key.begins)
            }
        };
        self.sequence += 1;
        stats.packets_spoken += 1;
        let late = micros(now.since(due));
        stats.speaking.note(&VOICE_DELAY_BOUNDS, late, 1);
        // Keys are pressed on the clock of the sound that they are pressed in.
        let time = micros(since.since(self.opened));
        Some(Incoming {
            media: self.section,
            ssrc: SPOKEN_SOURCE,
            codec,
            sequence: self.sequence,
            timestamp: (time * u64::from(self.codec.clock_rate()) / 1_000_000) as u32,
            marker,
            keyframe: false,
            payload: self.packet.get(..length)?,
            audio_level: None,
            video_orientation: None,
            vp8: None,
            clock: None,
            received: now,
            first: false,
        })
    }

    /// What the agent is to know, oldest first.
    pub(crate) fn poll_heard(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    /// What became of the person's packets.
    pub(crate) fn jitter_stats(&self) -> Option<JitterStats> {
        self.listener.jitter_stats()
    }

    /// When [`Self::handle_timeout`] or [`Self::speak`] is due.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        let hears = earliest(self.listener.deadline(), self.keypad.deadline());
        earliest(hears, self.mouth.deadline())
    }
}

fn call_time(opened: Timestamp, at: Timestamp) -> CallTime {
    CallTime(micros(at.since(opened)))
}

const fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

/// Sound and its state say nothing to a reader.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("section", &self.section)
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}
