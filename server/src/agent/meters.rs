//! What calls with agents count.

use antiphon_core::voice::message::{Heard, VoiceEvent};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of calls with agents.
#[derive(Debug, Default)]
pub struct AgentMeters {
    /// Calls that an agent has answered, now.
    pub calls: Gauge,
    /// Pieces of sound that came for agents.
    pub heard: Counter,
    /// Of these, dropped because the program was slow.
    pub dropped: Counter,
    /// Programs that did not read what may not be lost.
    pub stalls: Counter,
    /// Programs that took a call up again.
    pub reconnects: Counter,
    barge_ins: Counter,
    turn_events: Family<[(&'static str, &'static str); 1], Counter>,
}

impl AgentMeters {
    /// Makes them visible.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Calls that an agent answers now";
        registry.register("agent_calls", help, self.calls.clone());
        let help = "Interruptions of agents";
        registry.register("barge_ins", help, self.barge_ins.clone());
        let help = "Decisions of turn detectors";
        registry.register("turn_events", help, self.turn_events.clone());
        let counters = [
            (
                "agent_audio_heard",
                "Pieces of sound heard for agents",
                &self.heard,
            ),
            (
                "agent_audio_dropped",
                "Of these, dropped as a program was slow",
                &self.dropped,
            ),
            (
                "agent_stalls",
                "Programs cut off as they did not read",
                &self.stalls,
            ),
            (
                "agent_reconnects",
                "Calls that a program took up again",
                &self.reconnects,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }

    /// Something was heard for an agent.
    pub fn note_heard(&self, heard: &Heard) {
        match heard {
            Heard::Audio { .. } => {
                self.heard.inc();
            }
            Heard::Voice(event) => {
                let label = [("event", event.name())];
                self.turn_events.get_or_create(&label).inc();
                if let VoiceEvent::BargeIn { .. } = event {
                    self.barge_ins.inc();
                }
            }
            _ => {}
        }
    }
}
