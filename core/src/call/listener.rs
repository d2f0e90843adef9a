//! The half of a call that hears: a person's packets come in, decisions come out. Nothing of it differs between a call
//! under way and a recording of one.

use std::collections::VecDeque;

use super::ear::Ear;
use super::mouth::Spoken;
use super::own::OwnVoice;
use crate::jitter::JitterStats;
use crate::message::VoiceStats;
use crate::session::media::Incoming;
use crate::time::Timestamp;
use crate::voice::config::TurnConfig;
use crate::voice::message::{AgentPlan, Eagerness, Heard, Hint, Judgement, VoiceEvent};
use crate::voice::turns::{AgentVoice, TurnDetector};

/// Ear and turn detector of one person.
pub(crate) struct Listener {
    opened: Timestamp,
    plan: AgentPlan,
    ear: Option<Box<Ear>>,
    own: OwnVoice,
    detector: TurnDetector,
}

impl Listener {
    /// One that heard nothing yet. Its clock begins when the call was opened; of the configuration's eagerness it
    /// takes the plan's instead.
    pub(crate) fn new(opened: Timestamp, plan: AgentPlan, turns: TurnConfig) -> Self {
        Self {
            opened,
            plan,
            ear: None,
            own: OwnVoice::new(),
            detector: TurnDetector::new(TurnConfig {
                eagerness: plan.eagerness,
                ..turns
            }),
        }
    }

    /// Takes in a packet of the person's.
    pub(crate) fn handle_packet(&mut self, now: Timestamp, packet: &Incoming<'_>) {
        let ear = match &mut self.ear {
            Some(ear) if ear.source().decodes(packet.codec) => ear,
            Some(ear) if !ear.source().may_be_replaced(now) => return,
            _ => {
                let Some(ear) = Ear::new(now, self.plan, packet) else {
                    return;
                };
                self.ear.insert(Box::new(ear))
            }
        };
        ear.source_mut().insert(now, packet);
    }

    /// Hears the next frame that is there, while the agent does what is said, and decides; false: there is none. To be
    /// called until then, and [`Self::poll_event`] after each.
    pub(crate) fn listen(
        &mut self,
        now: Timestamp,
        agent: AgentVoice,
        heard: &mut VecDeque<Heard>,
        stats: &mut VoiceStats,
    ) -> bool {
        let Some(ear) = &mut self.ear else {
            return false;
        };
        let Some((at, mut features)) = ear.listen(now, self.opened, heard, stats) else {
            return false;
        };
        stats.frames_heard += 1;
        self.own.mark(&mut features);
        self.detector.handle_playout(at, agent);
        self.detector.handle_frame(at, &features);
        true
    }

    /// What was decided, oldest first.
    pub(crate) fn poll_event(&mut self) -> Option<VoiceEvent> {
        self.detector.poll_event()
    }

    /// A packet of the agent's is sent: its echo may come.
    pub(super) fn note_said(&mut self, spoken: &Spoken<'_>) {
        self.own.note_said(spoken);
    }

    /// See [`TurnDetector::handle_hint`].
    pub(crate) fn handle_hint(&mut self, hint: Hint) {
        self.detector.handle_hint(hint);
    }

    /// Takes what a model makes of what was heard.
    pub(crate) fn handle_judgement(&mut self, judgement: Judgement) {
        match judgement {
            Judgement::Speech { at, probability } => {
                if let Some(ear) = &mut self.ear {
                    ear.note_judgement(at, probability);
                }
            }
            Judgement::Complete { turn, probability } => {
                self.detector.handle_judgement(turn, probability);
            }
        }
    }

    /// See [`TurnDetector::set_eagerness`].
    pub(crate) fn set_eagerness(&mut self, eagerness: Eagerness) {
        self.detector.set_eagerness(eagerness);
    }

    /// What became of the person's packets.
    pub(crate) fn jitter_stats(&self) -> Option<JitterStats> {
        self.ear.as_ref().map(|ear| ear.source().stats())
    }

    /// When [`Self::listen`] is due though no packet comes.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.ear.as_ref().and_then(|ear| ear.deadline())
    }
}
