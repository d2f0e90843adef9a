//! What a run of turns comes to. Only what is known: whether a turn was cut off, sound alone does not say.

use antiphon_core::voice::message::{CallTime, EndReason, TurnEnd, TurnId, VoiceEvent};
use serde_json::{Value, json};

use super::Log;

/// A person who goes on so soon after the end of a turn was told, in microseconds, may have been cut off: an answer of
/// the agent's would hardly have begun.
const SOON: u64 = 1_000_000;

/// Figures of one log.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// Microseconds that were heard, and those of them with speech.
    heard: u64,
    speech: u64,
    /// Turns that ended: how long each was, with its pauses.
    lengths: Spans,
    /// From the last voice of each to the decision.
    delays: Spans,
    ended: [usize; 3],
    eager: usize,
    resumed: usize,
    /// Within turns.
    pauses: Spans,
    /// Between turns.
    gaps: Spans,
    /// Turns that began soon after the one before was told to be over.
    soon: usize,
    barge_ins: usize,
    backchannels: usize,
    false_interruptions: usize,
}

/// Durations in microseconds.
#[derive(Debug, Default)]
struct Spans(Vec<u64>);

impl Spans {
    fn note(&mut self, from: CallTime, to: CallTime) {
        self.0.push(to.0.saturating_sub(from.0));
    }

    /// So many of a hundred are no longer than this, in milliseconds: one that there is. `None`: there is none.
    fn percentile(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).map(|micros| *micros as f64 / 1e3)
    }

    fn mean(&self) -> Option<f64> {
        let sum: u64 = self.0.iter().sum();
        let count = self.0.len();
        (count > 0).then(|| (sum / count as u64) as f64 / 1e3)
    }

    fn json(&self) -> Value {
        json!({
            "count": self.0.len(),
            "mean_ms": self.mean(),
            "p50_ms": self.percentile(50),
            "p90_ms": self.percentile(90),
            "max_ms": self.percentile(100),
        })
    }

    fn text(&self) -> String {
        let Some(most) = self.percentile(100) else {
            return "none".to_owned();
        };
        let [p50, p90] = [50, 90].map(|percent| self.percentile(percent).unwrap_or(most));
        format!("{p50:.0} ms p50, {p90:.0} p90, {most:.0} most")
    }
}

impl Summary {
    pub(super) fn of(log: &Log) -> Self {
        let mut summary = Self {
            heard: log.span(),
            ..Self::default()
        };
        let mut walk = Walk::default();
        for event in &log.events {
            summary.note(*event, &mut walk);
        }
        // Who speaks when a recording ends has spoken all the same.
        if let Some(end) = log.end() {
            summary.end_speech(&mut walk, end);
        }
        summary
    }

    fn note(&mut self, event: VoiceEvent, walk: &mut Walk) {
        match event {
            VoiceEvent::SpeechStarted { turn, start, .. } => {
                match walk.paused.take() {
                    Some((of, since)) if of == turn => self.pauses.note(since, start),
                    _ => {}
                }
                if let Some(end) = walk.ended.take() {
                    self.gaps.note(end.end, start);
                    self.soon += usize::from(start.0.saturating_sub(end.at.0) < SOON);
                }
                walk.speaks = Some(start);
            }
            VoiceEvent::SpeechEnded { turn, end, .. } => {
                self.end_speech(walk, end);
                walk.paused = Some((turn, end));
            }
            VoiceEvent::Ended(end) => {
                self.end_speech(walk, end.end);
                self.lengths.note(end.start, end.end);
                self.delays.note(end.end, end.at);
                let reason = match end.reason {
                    EndReason::Evidence => 0,
                    EndReason::Silence => 1,
                    EndReason::TooLong => 2,
                };
                self.ended[reason] += 1;
                walk.ended = Some(end);
            }
            VoiceEvent::EagerEnd(_) => self.eager += 1,
            VoiceEvent::Resumed { .. } => self.resumed += 1,
            VoiceEvent::BargeIn { .. } => self.barge_ins += 1,
            VoiceEvent::Backchannel { .. } => self.backchannels += 1,
            VoiceEvent::FalseInterruption { .. } => self.false_interruptions += 1,
            _ => {}
        }
    }

    fn end_speech(&mut self, walk: &mut Walk, end: CallTime) {
        if let Some(start) = walk.speaks.take() {
            self.speech += end.0.saturating_sub(start.0);
        }
    }

    fn share(&self) -> Option<f64> {
        (self.heard > 0).then(|| self.speech as f64 / self.heard as f64)
    }

    pub(super) fn json(&self) -> Value {
        let [evidence, silence, too_long] = self.ended;
        json!({
            "heard_ms": self.heard as f64 / 1e3,
            "speech_ms": self.speech as f64 / 1e3,
            "speech_share": self.share().map(|share| (share * 1e3).round() / 1e3),
            "turns": self.lengths.json(),
            "delay": self.delays.json(),
            "ended": {"evidence": evidence, "silence": silence, "too_long": too_long},
            "eager_ends": self.eager,
            "resumed": self.resumed,
            "pauses": self.pauses.json(),
            "gaps": self.gaps.json(),
            "begun_within_1s": self.soon,
            "barge_ins": self.barge_ins,
            "backchannels": self.backchannels,
            "false_interruptions": self.false_interruptions,
        })
    }

    /// Lines for a person.
    pub(super) fn lines(&self) -> Vec<String> {
        let heard = self.heard as f64 / 1e6;
        let share = self.share().map_or("no speech".to_owned(), |share| {
            format!("{:.0} % of it speech", 100.0 * share)
        });
        let turns = self.lengths.0.len();
        let mean = self
            .lengths
            .mean()
            .map_or(String::new(), |mean| format!(", {:.2} s each", mean / 1e3));
        let [evidence, silence, too_long] = self.ended;
        let mut lines = vec![
            format!("heard {heard:.3} s, {share}; {turns} turns{mean}"),
            format!(
                "delay after the last voice: {}; ends by evidence {evidence}, silence {silence}, length {too_long}; \
                 likely ends told {}, taken back {}",
                self.delays.text(),
                self.eager,
                self.resumed,
            ),
            format!(
                "pauses within turns {}: {}; gaps between turns {}: {}; turns begun within a second after an end was \
                 told: {}",
                self.pauses.0.len(),
                self.pauses.text(),
                self.gaps.0.len(),
                self.gaps.text(),
                self.soon,
            ),
        ];
        if self.barge_ins + self.backchannels > 0 {
            lines.push(format!(
                "interruptions {}, of them in vain {}; backchannels {}",
                self.barge_ins, self.false_interruptions, self.backchannels
            ));
        }
        lines
    }
}

/// Where in the log it is.
#[derive(Debug, Default)]
struct Walk {
    speaks: Option<CallTime>,
    paused: Option<(TurnId, CallTime)>,
    ended: Option<TurnEnd>,
}
