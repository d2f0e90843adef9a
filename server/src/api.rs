//! The JSON API, health, metrics and the page.

use std::sync::Arc;
use std::time::Duration;

use antiphon_core::ids::SessionId;
use antiphon_core::message::{Command, Event, SessionStats, TrackStats};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::get;
use serde_json::{Value, json};

use crate::app::{App, rejected};
use crate::auth::Scope;
use crate::extract::Path;
use crate::problem::Problem;
use crate::rooms::{Name, kind_name};
use crate::sessions::{Record, role_name};
use crate::wall::{rfc3339, unix_now};
use crate::whip::room_name;
use crate::{metrics, page, resource};

/// The API and the page.
pub fn routes() -> Router<Arc<App>> {
    let api = Router::new()
        .route("/", get(front))
        .route("/health", get(health))
        .route("/info", get(info))
        .route("/metrics", get(metrics::scrape))
        .route("/api/rooms", get(rooms))
        .route("/api/rooms/{room}", get(room))
        .route("/api/sessions", get(sessions))
        .route("/api/sessions/{id}/stats", get(stats));
    let files = page::FILES.iter().filter(|(path, ..)| *path != "/");
    files.fold(api, |api, (path, kind, bytes)| {
        api.route(path, get(move || async move { file(kind, bytes) }))
    })
}

/// An object as a response that must not be kept.
pub fn json_response(value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether the client asks for JSON and not for a page.
pub fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    accept.contains("application/json") && !accept.contains("text/html")
}

async fn front(State(app): State<Arc<App>>, headers: HeaderMap) -> Response<Body> {
    let mut response = match page::FILES.iter().find(|(path, ..)| *path == "/") {
        Some((_, kind, bytes)) if !wants_json(&headers) => file(kind, bytes),
        _ => json_response(&describe(&app)),
    };
    response
        .headers_mut()
        .append(VARY, HeaderValue::from_name(ACCEPT));
    response
}

fn file(kind: &'static str, bytes: &'static [u8]) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // A new version of the server comes with a new page.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let policy = HeaderValue::from_static(page::CONTENT_SECURITY_POLICY);
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// 503 while the server stops, so that a balancer sends nobody here.
async fn health(State(app): State<Arc<App>>) -> Response<Body> {
    let draining = app.is_draining();
    let mut response = json_response(&json!({
        "status": if draining { "draining" } else { "ok" },
        "timestamp": rfc3339(unix_now()),
        "version": env!("CARGO_PKG_VERSION"),
        "service": "antiphon",
    }));
    if draining {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

async fn info(State(app): State<Arc<App>>) -> Response<Body> {
    json_response(&describe(&app))
}

fn describe(app: &App) -> Value {
    let shards = app.sites.iter().zip(&app.candidates).enumerate();
    let shards: Vec<Value> = shards
        .map(|(number, (site, candidates))| {
            let candidates = candidates.iter().map(ToString::to_string);
            json!({
                "shard": number,
                "port": site.port,
                "candidates": candidates.collect::<Vec<_>>(),
                "processor": site.cpu,
                "receive_buffer_bytes": site.receive_buffer_bytes,
            })
        })
        .collect();
    json!({
        "service": "antiphon",
        "version": env!("CARGO_PKG_VERSION"),
        "endpoints": {
            "echo": "/whip",
            "agent": "/whip?agent={agent}",
            "publish": "/whip/{room}?name={participant}",
            "subscribe": "/whep/{room}/{participant}",
            "subscribe_newest": "/whep/{room}",
            "rooms": "/api/rooms",
            "room": "/api/rooms/{room}",
            "room_events": "/api/rooms/{room}/events",
            "sessions": "/api/sessions",
            "session_stats": "/api/sessions/{id}/stats",
            "session_voice": "/api/sessions/{id}/voice",
            "health": "/health",
            "metrics": "/metrics",
        },
        "agents": app.agents.describe(),
        "runtime": app.runtime,
        "shards": shards,
        "tokens": !app.access.is_open(),
    })
}

/// The rooms that the caller's token reaches.
async fn rooms(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response<Body>, Problem> {
    let caller = app.admit(&headers, Scope::Subscribe, None)?;
    let directory = app.directory();
    let seen = directory
        .rooms
        .list()
        .filter(|(name, _)| app.access.sees(caller, name));
    let rooms: Vec<Value> = seen.map(|(_, room)| room).collect();
    Ok(json_response(&json!({ "rooms": rooms })))
}

async fn room(
    State(app): State<Arc<App>>,
    Path(room): Path<String>,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let room: Name = room_name(&room)?;
    app.admit(&headers, Scope::Subscribe, Some(&room))?;
    let described = app.directory().rooms.describe(&room);
    let described = described.ok_or_else(|| Problem::not_found("nobody is in this room"))?;
    Ok(json_response(&described))
}

/// The caller's sessions, those of all its rooms, by their public names: the secret one, which its
/// URL is made of, is not shown.
async fn sessions(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let caller = app.admit(&headers, Scope::Admin, None)?;
    let directory = app.directory();
    let seen = directory
        .sessions
        .iter()
        .filter(|record| !record.closing && app.covers(caller, record));
    let sessions: Vec<Value> = seen.map(describe_session).collect();
    Ok(json_response(&json!({ "sessions": sessions })))
}

fn describe_session(record: &Record) -> Value {
    let seat = record.seat.as_ref();
    json!({
        "id": record.id.to_string(),
        "role": role_name(seat, record.agent.as_ref()),
        "agent": record.agent.as_ref().map(|agent| agent.name.as_str()),
        "room": seat.map(|seat| seat.room.as_str()),
        "participant": seat.and_then(|seat| seat.participant.as_ref()).map(Name::as_str),
        "created": rfc3339(record.opened_unix),
        "age": record.opened.elapsed().as_secs_f64(),
        "connected": record.profile.is_some(),
        "profile": record.profile.map(antiphon_core::message::ProfileName::name),
    })
}

/// A session, by its public name (administrators of its room) or by the last part of its URL (whoever may also end
/// it); the same 404 for all others (S10).
///
/// # Errors
/// 401 or 404.
pub fn find_session(app: &App, headers: &HeaderMap, id: &str) -> Result<SessionId, Problem> {
    let caller = app.identify(headers)?;
    let administers = app.access.allow(caller, Scope::Admin, None).is_ok();
    let public = app
        .directory()
        .sessions
        .by_public_name(id)
        .filter(|record| administers && app.covers(caller, record))
        .map(|record| record.id);
    match public {
        Some(session) => Ok(session),
        None => resource::find(app, headers, id, |record| record.id),
    }
}

/// A session's figures.
async fn stats(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let session = find_session(&app, &headers, &id)?;
    match app
        .ask(session.shard, |request| Command::SessionStats {
            request,
            session,
        })
        .await?
    {
        Event::SessionStats { stats, .. } => {
            let mut value = describe_stats(&stats);
            value["id"] = json!(session.to_string());
            Ok(json_response(&value))
        }
        Event::Rejected { error, .. } => Err(rejected(error)),
        _ => Err(Problem::internal()),
    }
}

/// Durations in seconds and rates in bits a second, as `getStats()` of browsers has them.
fn describe_stats(stats: &SessionStats) -> Value {
    let round_trip = stats.round_trip.as_ref().map(Duration::as_secs_f64);
    let tracks = stats
        .tracks
        .iter()
        .map(|track| describe_track(track, round_trip));
    json!({
        "timestamp": rfc3339(unix_now()),
        "age": stats.age.as_secs_f64(),
        "connected": stats.connected,
        "rtt": round_trip,
        "profile": stats.profile.map(antiphon_core::message::ProfileName::name),
        "packets_received": stats.packets_received,
        "packets_sent": stats.packets_sent,
        "jitter_buffer": stats.jitter_buffer,
        "tracks": tracks.collect::<Vec<_>>(),
    })
}

fn describe_track(track: &TrackStats, round_trip: Option<f64>) -> Value {
    json!({
        "mid": track.mid.as_str(),
        "kind": kind_name(track.kind),
        "codec": track.codec.map(antiphon_core::plan::Codec::name),
        "direction": if track.inbound { "inbound" } else { "outbound" },
        "ssrc": track.ssrc,
        "packets": track.packets,
        "bytes": track.bytes,
        "bitrate": track.bitrate,
        "lost": track.lost,
        "jitter": track.jitter.as_secs_f64(),
        "rtt": round_trip,
        "nacks": track.nacks,
        "retransmissions": track.retransmissions,
        "keyframe_requests": track.keyframe_requests,
    })
}
