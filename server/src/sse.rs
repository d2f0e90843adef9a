//! Server-sent events (HTML standard, §9.2), and those of rooms.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::get;
use axum::{Extension, Router};
use hyper::body::Frame;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};

use crate::app::{App, RETRY_LATER};
use crate::auth::Scope;
use crate::crowd::Held;
use crate::extract::Path;
use crate::http::RemoteAddress;
use crate::limits::EVENT_STREAM_KEEPALIVE;
use crate::problem::Problem;
use crate::rooms::{Name, RoomEvent};
use crate::whip::room_name;

/// The event streams.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/rooms/{room}/events", get(events))
}

/// What goes down a silent stream, so that a dead listener is noticed.
pub const KEEPALIVE: &[u8] = b":\n\n";

/// What a stream holds while it is open.
pub type Permits = (Held, OwnedSemaphorePermit);

/// Whoever reads a stream.
#[derive(Debug)]
pub struct Listener {
    app: Arc<App>,
    body: mpsc::Sender<Bytes>,
}

/// A response body fed from a task.
struct Feed(mpsc::Receiver<Bytes>);

/// Takes a place among the streams.
///
/// # Errors
/// 429 or 503.
pub fn admit(app: &App, remote: IpAddr) -> Result<Permits, Problem> {
    let held = app.streams_crowd.take(remote).ok_or_else(|| {
        let detail = "your network has as many event streams open as it may";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(RETRY_LATER)
    })?;
    let permit = Arc::clone(&app.streams).try_acquire_owned().map_err(|_| {
        Problem::unavailable(RETRY_LATER, "as many event streams as allowed are open")
    })?;
    Ok((held, permit))
}

/// A response that is a stream, and the end to feed it from.
pub fn listener(app: &Arc<App>) -> (Listener, Response<Body>) {
    let (body, feed) = mpsc::channel(1);
    let mut response = Response::new(Body::new(Feed(feed)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let app = Arc::clone(app);
    (Listener { app, body }, response)
}

/// An event as it stands in a stream; `json` is one line.
#[must_use]
pub fn written(name: &str, json: &str) -> Bytes {
    format!("event: {name}\ndata: {json}\n\n").into()
}

impl Listener {
    /// Sends a piece; `false` when the listener went away or takes nothing, or the server stops.
    pub async fn send(&self, piece: Bytes) -> bool {
        let patience = self.app.config.patience.write;
        tokio::select! {
            sent = tokio::time::timeout(patience, self.body.send(piece)) => matches!(sent, Ok(Ok(()))),
            () = self.app.until_stopping() => false,
        }
    }

    /// Completes when nothing more need be sent.
    pub async fn gone(&self) {
        tokio::select! {
            () = self.body.closed() => {}
            () = self.app.until_stopping() => {}
        }
    }
}

impl hyper::body::Body for Feed {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0
            .poll_recv(context)
            .map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// The room as it is (`snapshot`), then what happens in it. The room may still be empty.
async fn events(
    State(app): State<Arc<App>>,
    Extension(RemoteAddress(remote)): Extension<RemoteAddress>,
    Path(room): Path<String>,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let room = room_name(&room)?;
    app.admit(&headers, Scope::Subscribe, Some(&room))?;
    app.check_open()?;
    let permits = admit(&app, remote.ip())?;
    let (snapshot, receiver) = {
        let mut directory = app.directory();
        let quietest = directory.quietest();
        directory.rooms.listen(&room, || quietest)
    };
    let (listener, response) = listener(&app);
    tokio::spawn(feed(listener, room, snapshot, receiver, permits));
    Ok(response)
}

/// Carries events to one listener until it or the server leaves.
async fn feed(
    listener: Listener,
    room: Name,
    snapshot: RoomEvent,
    mut events: broadcast::Receiver<RoomEvent>,
    permits: Permits,
) {
    let mut piece = written(snapshot.name, &snapshot.json);
    while listener.send(piece).await {
        let next = tokio::select! {
            next = tokio::time::timeout(EVENT_STREAM_KEEPALIVE, events.recv()) => next,
            () = listener.gone() => break,
        };
        piece = match next {
            Ok(Ok(event)) => written(event.name, &event.json),
            Ok(Err(RecvError::Lagged(_))) => {
                events = events.resubscribe();
                match listener.app.directory().rooms.snapshot(&room) {
                    Some(snapshot) => written(snapshot.name, &snapshot.json),
                    None => break,
                }
            }
            Ok(Err(RecvError::Closed)) => break,
            Err(_) => Bytes::from_static(KEEPALIVE),
        };
    }
    drop(events);
    listener.app.directory().rooms.forget_if_idle(&room);
    drop(permits);
}
