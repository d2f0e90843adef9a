//! `--turns`: when people began to speak, paused and were done, and who was interrupted.

mod show;
mod summary;

use std::collections::BTreeMap;

use antiphon_core::ids::SessionId;
use antiphon_core::journal::Witness;
use antiphon_core::message::Event;
use antiphon_core::replay::{Flow, Hearing, MediaPacket, MediaSink};
use antiphon_core::time::Timestamp;
use antiphon_core::voice::config::TurnConfig;
use antiphon_core::voice::message::{CallTime, Heard, VoiceEvent};

pub(super) use self::show::{
    of_call, of_sides, of_stream, write_calls, write_sides, write_streams,
};
use super::journal::Window;
use crate::limits::HEARD_STREAMS_MAX;

/// How a replay reports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) turns: bool,
    pub(super) as_json: bool,
}

/// What was decided of one person, and for how long it was listened.
#[derive(Debug, Default)]
pub(super) struct Log {
    events: Vec<VoiceEvent>,
    /// When sound first came, and when sound that was none of ours last did.
    heard: Option<(CallTime, CallTime)>,
    /// When sound last came.
    last: Option<CallTime>,
    /// Microseconds of one batch of it.
    batch: Option<u64>,
}

impl Log {
    fn note(&mut self, heard: &Heard) {
        match *heard {
            Heard::Voice(event) => self.events.push(event),
            Heard::Audio { at, concealed, .. } => {
                let step = self.last.map(|last| at.0.saturating_sub(last.0));
                // Batches are alike. What was not heard makes steps longer, and the clock may stand still.
                let step = step.filter(|step| *step > 0);
                self.batch = self.batch.into_iter().chain(step).min();
                self.last = Some(at);
                if !concealed {
                    let (first, _) = self.heard.unwrap_or((at, at));
                    self.heard = Some((first, at));
                }
            }
            _ => {}
        }
    }

    /// Microseconds from the first sound to the last.
    fn end(&self) -> Option<CallTime> {
        let (_, last) = self.heard?;
        Some(CallTime(last.0 + self.batch.unwrap_or(0)))
    }

    fn span(&self) -> u64 {
        let Some((first, last)) = self.heard else {
            return 0;
        };
        last.0.saturating_sub(first.0) + self.batch.unwrap_or(0)
    }
}

/// Streams of a capture, each heard by a call of its own.
pub(super) struct Hearings {
    turns: TurnConfig,
    /// `None`: there were too many.
    streams: BTreeMap<(Flow, u32), Option<(Hearing, Log)>>,
    room: usize,
}

/// What was heard of one stream.
#[derive(Debug)]
pub(super) struct HeardStream {
    /// When its first packet arrived.
    begins: Timestamp,
    log: Log,
}

/// By flow and source; `None`: there were too many.
pub(super) type AllHeard = BTreeMap<(Flow, u32), Option<HeardStream>>;

impl Hearings {
    pub(super) fn new(turns: TurnConfig) -> Self {
        Self {
            turns,
            streams: BTreeMap::new(),
            room: HEARD_STREAMS_MAX,
        }
    }

    /// Hears what is left.
    pub(super) fn finish(self) -> AllHeard {
        let streams = self.streams.into_iter().map(|(key, stream)| {
            let heard = stream.map(|(hearing, mut log)| {
                let begins = hearing.begins();
                hearing.finish(|heard| log.note(&heard));
                HeardStream { begins, log }
            });
            (key, heard)
        });
        streams.collect()
    }
}

/// Takes streams beyond doubt alone.
impl MediaSink for Hearings {
    fn take(&mut self, packet: &MediaPacket<'_>) {
        let key = (packet.flow, packet.ssrc);
        if !self.streams.contains_key(&key) {
            let Some(hearing) = Hearing::new(packet, self.turns) else {
                return;
            };
            let room = self.room.checked_sub(1);
            self.room = room.unwrap_or(0);
            let stream = room.map(|_| (hearing, Log::default()));
            self.streams.insert(key, stream);
        }
        if let Some(Some((hearing, log))) = self.streams.get_mut(&key) {
            hearing.insert(packet, |heard| log.note(&heard));
        }
    }
}

/// Calls with agents of a journal.
#[derive(Debug, Default)]
pub(super) struct Calls {
    window: Window,
    logs: BTreeMap<SessionId, Log>,
}

impl Calls {
    /// Of a part of the run.
    pub(super) fn within(window: Window) -> Self {
        Self {
            window,
            logs: BTreeMap::new(),
        }
    }
}

impl Witness for Calls {
    fn on_event(&mut self, now: Timestamp, event: &Event) {
        if let Event::Heard { session, heard } = event
            && self.window.has_time(now)
            && self.window.has_session(Some(*session))
        {
            self.logs.entry(*session).or_default().note(heard);
        }
    }
}
