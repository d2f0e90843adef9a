//! A session's URL (RFC 9725 §4.2, §4.3): trickle, ICE restart, end.

use std::sync::Arc;

use antiphon_core::ids::SessionId;
use antiphon_core::message::{Command, Event};
use antiphon_core::plan::{IceCredentials, MediaPlan};
use antiphon_core::sdp::write_restart_fragment;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_MATCH};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::get;

use crate::app::{App, rejected};
use crate::extract::{Described, Path};
use crate::http::{LocalAddress, check_content_type};
use crate::negotiate::read_fragment;
use crate::problem::Problem;
use crate::sessions::{Record, draw_etag};
use crate::whip::{SDP_FRAGMENT, header};

/// The session URLs.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/session/{secret}", get(look).patch(change).delete(end))
}

/// What the caller may know of a session: the same 404 whether it is gone or somebody else's (S10).
///
/// # Errors
/// 401 or 404.
pub fn find<T>(
    app: &App,
    headers: &HeaderMap,
    secret: &str,
    read: impl FnOnce(&Record) -> T,
) -> Result<T, Problem> {
    let caller = app.identify(headers)?;
    let directory = app.directory();
    let record = directory.sessions.by_secret(secret);
    record
        .filter(|record| app.covers(caller, record))
        .map(read)
        .ok_or_else(|| Problem::not_found("no such session, or no longer"))
}

async fn look(
    State(app): State<Arc<App>>,
    Path(secret): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    find(&app, &headers, &secret, |_| StatusCode::NO_CONTENT)
}

async fn end(
    State(app): State<Arc<App>>,
    Path(secret): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let session = match find_own(&app, &headers, &secret) {
        Some(session) => session,
        None => find(&app, &headers, &secret, |record| record.id)?,
    };
    app.delete(session)?;
    Ok(StatusCode::OK)
}

/// The session, if the caller opened it: whoever could open one may end it, though the token has expired since.
fn find_own(app: &App, headers: &HeaderMap, secret: &str) -> Option<SessionId> {
    let caller = app.access.recognise(headers).ok()?;
    let directory = app.directory();
    let record = directory.sessions.by_secret(secret)?;
    (record.owner == caller).then_some(record.id)
}

async fn change(
    Path(secret): Path<String>,
    fragment: Described,
) -> Result<Response<Body>, Problem> {
    let Described {
        app,
        local,
        headers,
        body,
    } = fragment;
    let restart = find(&app, &headers, &secret, |record| {
        Arc::clone(&record.restart)
    })?;
    check_content_type(&headers, SDP_FRAGMENT)?;
    let tags = if_match(&headers)?;
    let fragment = read_fragment(&app, body).await?;

    // One change at a time: the tag compared is the tag of the ICE session that is changed.
    let _one_at_a_time = restart.lock().await;
    let (session, etag, ufrag, media) = find(&app, &headers, &secret, |record| {
        (
            record.id,
            record.etag.clone(),
            record.remote_ufrag.clone(),
            record.media.clone(),
        )
    })?;
    if !matches(&tags, &etag) {
        let detail = "the ICE session has changed since: send the `ETag` of the last answer";
        return Err(Problem::new(StatusCode::PRECONDITION_FAILED, detail));
    }
    match fragment.ice {
        Some(ice) if ice.ufrag != ufrag => restart_ice(&app, session, ice, &media, local).await,
        // Candidates need nothing from us: we answer checks from wherever they come.
        _ => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
    }
}

async fn restart_ice(
    app: &App,
    session: SessionId,
    remote_ice: IceCredentials,
    media: &[MediaPlan],
    local: LocalAddress,
) -> Result<Response<Body>, Problem> {
    let ufrag = remote_ice.ufrag.clone();
    let make = |request| Command::Restart {
        request,
        session,
        remote_ice,
    };
    let ice = match app.ask(session.shard, make).await? {
        Event::Restarted { ice, .. } => ice,
        Event::Rejected { error, .. } => return Err(rejected(error)),
        _ => return Err(Problem::internal()),
    };
    let etag = draw_etag();
    if let Some(record) = app.directory().sessions.by_id_mut(session) {
        record.etag.clone_from(&etag);
        record.remote_ufrag = ufrag;
    }
    let candidates = app.candidates_for(session.shard, local.0.ip());
    let fragment = write_restart_fragment(&ice, media, &candidates);
    let mut response = Response::new(Body::from(fragment));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP_FRAGMENT));
    headers.insert(ETAG, header(&etag));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The tags of `If-Match`, as they were sent.
fn if_match(headers: &HeaderMap) -> Result<Vec<String>, Problem> {
    let values = headers.get_all(IF_MATCH).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let tags: Vec<String> = values
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().to_owned())
        .filter(|tag| !tag.is_empty())
        .collect();
    if tags.is_empty() {
        let detail = "send `If-Match` with the session's `ETag`, or `*` for an ICE restart";
        return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, detail));
    }
    Ok(tags)
}

/// Strong comparison (RFC 9110 §13.1.1). RFC 9725's example quotes the star.
fn matches(tags: &[String], etag: &str) -> bool {
    tags.iter()
        .any(|tag| tag == "*" || tag == "\"*\"" || tag == etag)
}
