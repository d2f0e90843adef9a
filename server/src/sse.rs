//! Room events as server-sent events (HTML standard, §9.2).

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

/// A response body fed from a task.
struct Feed(mpsc::Receiver<Bytes>);

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
    let held = app.streams_crowd.take(remote.ip()).ok_or_else(|| {
        let detail = "your network has as many event streams open as it may";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(RETRY_LATER)
    })?;
    let permit = Arc::clone(&app.streams).try_acquire_owned().map_err(|_| {
        Problem::unavailable(RETRY_LATER, "as many event streams as allowed are open")
    })?;
    let (snapshot, receiver) = {
        let mut directory = app.directory();
        let quietest = directory.quietest();
        directory.rooms.listen(&room, || quietest)
    };
    let (sender, body) = mpsc::channel(1);
    tokio::spawn(feed(app, room, snapshot, receiver, sender, (held, permit)));
    let mut response = Response::new(Body::new(Feed(body)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Carries events to one listener until it or the server leaves.
async fn feed(
    app: Arc<App>,
    room: Name,
    snapshot: RoomEvent,
    mut events: broadcast::Receiver<RoomEvent>,
    body: mpsc::Sender<Bytes>,
    permits: (Held, OwnedSemaphorePermit),
) {
    let mut piece = written(&snapshot);
    loop {
        let sent = tokio::select! {
            sent = tokio::time::timeout(app.config.patience.write, body.send(piece)) => sent,
            () = app.until_stopping() => break,
        };
        // The listener went away, or takes nothing.
        if !matches!(sent, Ok(Ok(()))) {
            break;
        }
        let next = tokio::select! {
            next = tokio::time::timeout(EVENT_STREAM_KEEPALIVE, events.recv()) => next,
            () = body.closed() => break,
            () = app.until_stopping() => break,
        };
        piece = match next {
            Ok(Ok(event)) => written(&event),
            Ok(Err(RecvError::Lagged(_))) => {
                events = events.resubscribe();
                match app.directory().rooms.snapshot(&room) {
                    Some(snapshot) => written(&snapshot),
                    None => break,
                }
            }
            Ok(Err(RecvError::Closed)) => break,
            Err(_) => Bytes::from_static(b":\n\n"),
        };
    }
    drop(events);
    app.directory().rooms.forget_if_idle(&room);
    drop(permits);
}

fn written(event: &RoomEvent) -> Bytes {
    format!("event: {}\ndata: {}\n\n", event.name, event.json).into()
}
