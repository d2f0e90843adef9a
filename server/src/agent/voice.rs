//! The timeline of a call with an agent, as server-sent events for the page: `GET /api/sessions/{id}/voice`.

use std::sync::Arc;

use antiphon_core::audio::Rate;
use antiphon_core::voice::message::{
    CallTime, EndReason, Heard, PlayoutState, TurnEnd, VoiceEvent,
};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use axum::routing::get;
use axum::{Extension, Router};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::agent::call::AgentSeat;
use crate::agent::registry::eagerness_name;
use crate::api::find_session;
use crate::app::App;
use crate::extract::Path;
use crate::http::RemoteAddress;
use crate::limits::{EVENT_STREAM_KEEPALIVE, LEVEL_INTERVAL, VOICE_BACKLOG_MAX};
use crate::problem::Problem;
use crate::sse;

/// What silence is shown as, in decibels of full scale.
const SILENCE_DBFS: f64 = -100.0;

/// The name of the last event.
const CLOSED: &str = "closed";

/// The event streams of calls.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/sessions/{id}/voice", get(timeline))
}

/// Something that happened in a call: an event's name and its JSON.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    name: &'static str,
    json: Arc<str>,
}

/// Tells whoever listens what happens in one call. Costs next to nothing while nobody does.
#[derive(Debug)]
pub(super) struct Timeline {
    frames: broadcast::Sender<Frame>,
    meter: Meter,
    /// What the last event says.
    fate: Value,
}

impl Drop for Timeline {
    fn drop(&mut self) {
        let json = self.fate.to_string().into();
        let name = CLOSED;
        // Nobody may listen.
        self.frames.send(Frame { name, json }).ok();
    }
}

impl Timeline {
    /// Of a call whose sound has this rate.
    #[must_use]
    pub(super) fn new(rate: Rate) -> Self {
        let interval = LEVEL_INTERVAL.as_millis() as usize * rate.hz() as usize / 1_000;
        Self {
            frames: broadcast::Sender::new(VOICE_BACKLOG_MAX),
            meter: Meter {
                interval,
                ..Meter::default()
            },
            fate: json!({}),
        }
    }

    /// The program costs the call its life.
    pub(super) fn note_fate(&mut self, reason: &str, detail: &str) {
        self.fate = json!({ "reason": reason, "detail": detail });
    }

    /// Listens from now on. Who is slow loses frames.
    #[must_use]
    pub(super) fn listen(&self) -> broadcast::Receiver<Frame> {
        self.frames.subscribe()
    }

    /// Something was heard.
    pub(super) fn note(&mut self, heard: &Heard) {
        if self.frames.receiver_count() == 0 {
            return;
        }
        let (name, value) = if let Heard::Audio {
            at, pcm, speech, ..
        } = heard
        {
            let Some(level) = self.meter.note(*at, pcm, *speech) else {
                return;
            };
            ("level", level)
        } else {
            let Some(value) = describe(heard) else {
                return;
            };
            (heard.name(), value)
        };
        let json = value.to_string().into();
        // The last listener may just have left.
        self.frames.send(Frame { name, json }).ok();
    }
}

/// Measures sound over [`LEVEL_INTERVAL`].
#[derive(Debug, Default)]
struct Meter {
    /// Samples of an interval.
    interval: usize,
    samples: usize,
    energy: f64,
    speech: u8,
}

impl Meter {
    /// The level and the highest probability of speech, once an interval is full.
    fn note(&mut self, at: CallTime, pcm: &[u8], speech: u8) -> Option<Value> {
        for pair in pcm.chunks_exact(2) {
            let sample = f64::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0;
            self.energy += sample * sample;
        }
        self.samples += pcm.len() / 2;
        self.speech = self.speech.max(speech);
        if self.samples == 0 || self.samples < self.interval {
            return None;
        }
        let power = self.energy / self.samples as f64;
        let level = (10.0 * power.log10()).max(SILENCE_DBFS);
        let value = json!({
            "at": millis(at),
            "level": (level * 10.0).round() / 10.0,
            "speech": (f64::from(self.speech) / 255.0 * 100.0).round() / 100.0,
        });
        (self.samples, self.energy, self.speech) = (0, 0.0, 0);
        Some(value)
    }
}

/// All but sound. Times are milliseconds of the call.
fn describe(heard: &Heard) -> Option<Value> {
    Some(match *heard {
        Heard::Voice(event) => describe_voice(event)?,
        Heard::Playout {
            at,
            utterance,
            played,
            queued,
            state,
        } => json!({
            "at": millis(at),
            "utterance": utterance.0,
            "played": millis(CallTime(played)),
            "queued": millis(CallTime(queued)),
            "state": playout_name(state),
        }),
        Heard::Mark { at, mark, reached } => {
            json!({ "at": millis(at), "mark": mark.0, "reached": reached })
        }
        Heard::Dtmf {
            at,
            digit,
            duration,
        } => json!({
            "at": millis(at),
            "digit": digit.to_string(),
            "duration": millis(CallTime(duration)),
        }),
        Heard::Overflow {
            at,
            utterance,
            dropped,
        } => json!({
            "at": millis(at),
            "utterance": utterance.0,
            "dropped": millis(CallTime(dropped)),
        }),
        Heard::KeysLeftOut { at, keys } => json!({ "at": millis(at), "keys": keys }),
        _ => return None,
    })
}

/// A decision. Times are milliseconds of the call.
pub(crate) fn describe_voice(event: VoiceEvent) -> Option<Value> {
    Some(match event {
        VoiceEvent::SpeechStarted { at, turn, start } | VoiceEvent::BargeIn { at, turn, start } => {
            json!({ "at": millis(at), "turn": turn.0, "start": millis(start) })
        }
        VoiceEvent::SpeechEnded { at, turn, end } => {
            json!({ "at": millis(at), "turn": turn.0, "end": millis(end) })
        }
        VoiceEvent::EagerEnd(end) | VoiceEvent::Ended(end) => describe_end(end),
        VoiceEvent::Resumed { at, turn } => json!({ "at": millis(at), "turn": turn.0 }),
        VoiceEvent::BargeCandidate { at, start } | VoiceEvent::Backchannel { at, start } => {
            json!({ "at": millis(at), "start": millis(start) })
        }
        VoiceEvent::FalseInterruption { at } | VoiceEvent::Idle { at } => {
            json!({ "at": millis(at) })
        }
        _ => return None,
    })
}

fn describe_end(end: TurnEnd) -> Value {
    json!({
        "at": millis(end.at),
        "turn": end.turn.0,
        "start": millis(end.start),
        "end": millis(end.end),
        "probability": (f64::from(end.probability) / 32_767.0 * 1_000.0).round() / 1_000.0,
        "reason": reason_name(end.reason),
    })
}

fn millis(time: CallTime) -> f64 {
    time.0 as f64 / 1_000.0
}

const fn playout_name(state: PlayoutState) -> &'static str {
    match state {
        PlayoutState::Started => "started",
        PlayoutState::Starved => "starved",
        PlayoutState::Finished => "finished",
        PlayoutState::Cleared => "cleared",
        PlayoutState::Interrupted => "interrupted",
    }
}

const fn reason_name(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Evidence => "evidence",
        EndReason::Silence => "silence",
        EndReason::TooLong => "too_long",
    }
}

/// What the call is (`call`), then what happens in it, until it ends (`closed`).
async fn timeline(
    State(app): State<Arc<App>>,
    Extension(RemoteAddress(remote)): Extension<RemoteAddress>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let session = find_session(&app, &headers, &id)?;
    app.check_open()?;
    let permits = sse::admit(&app, remote.ip())?;
    let listening = app.calls.listen(session);
    let no_agent = || Problem::not_found("no agent answers this session; it has no timeline");
    let (seat, mut frames) = listening.ok_or_else(no_agent)?;
    let (listener, response) = sse::listener(&app);
    tokio::spawn(async move {
        let mut piece = sse::written("call", &describe_call(&seat).to_string());
        while listener.send(piece).await {
            let next = tokio::select! {
                next = tokio::time::timeout(EVENT_STREAM_KEEPALIVE, frames.recv()) => next,
                () = listener.gone() => break,
            };
            piece = match next {
                Ok(Ok(frame)) => sse::written(frame.name, &frame.json),
                Ok(Err(RecvError::Lagged(count))) => {
                    sse::written("lost", &json!({ "frames": count }).to_string())
                }
                Ok(Err(RecvError::Closed)) => break,
                Err(_) => Bytes::from_static(sse::KEEPALIVE),
            };
        }
        drop(permits);
    });
    Ok(response)
}

fn describe_call(seat: &AgentSeat) -> Value {
    json!({
        "agent": seat.name.as_str(),
        "eagerness": eagerness_name(seat.plan.eagerness),
        "rate": seat.plan.rate.hz(),
        "batch": seat.plan.batch_millis,
        "denoise": seat.plan.denoise,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A square wave at half of full scale has 6 dB less than full scale.
    #[test]
    fn the_level_comes_ten_times_a_second_in_decibels_of_full_scale() {
        let mut timeline = Timeline::new(Rate::Hz16000);
        let mut frames = timeline.listen();
        let pcm: Vec<u8> = [16_384_i16, -16_384]
            .iter()
            .cycle()
            .take(320)
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        for batch in 0..10 {
            let speech = if batch == 2 { 255 } else { 51 };
            timeline.note(&Heard::Audio {
                at: CallTime(batch * 20_000),
                pcm: pcm.clone(),
                speech,
                concealed: false,
            });
        }
        let mut read = || {
            let frame = frames.try_recv().ok()?;
            Some((frame.name, frame.json.to_string()))
        };
        let level = |at, speech| {
            Some((
                "level",
                format!("{{\"at\":{at},\"level\":-6.0,\"speech\":{speech}}}"),
            ))
        };
        assert_eq!(read(), level("80.0", "1.0"));
        assert_eq!(read(), level("180.0", "0.2"));
        assert_eq!(read(), None);
    }

    #[test]
    fn silence_has_a_level_that_json_can_say() {
        let mut meter = Meter {
            interval: 160,
            ..Meter::default()
        };
        let level = meter
            .note(CallTime(0), &[0; 320], 0)
            .expect("an interval is full");
        assert_eq!(level["level"], -100.0);
    }
}
