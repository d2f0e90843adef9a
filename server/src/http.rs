//! HTTP on hyper: connections with their limits, and what happens to every request before and after
//! its handler.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_TYPE, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use axum::response::IntoResponse;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::app::{App, RETRY_SOON, reads_limit};
use crate::limits::{
    ACCEPT_PAUSE, ACCEPT_WARNING_PAUSE, CONNECTIONS_CLOSE_TIMEOUT, HTTP_BODY_BYTES_MAX,
    HTTP_CONNECTIONS_MAX, HTTP_DISCARD_BYTES_MAX, HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX,
    TLS_HANDSHAKE_TIMEOUT,
};
use crate::place::Place;
use crate::problem::Problem;
use crate::stall::Stall;
use crate::{agent, api, cors, resource, sse, whip};

/// The server's end of the connection a request came on.
#[derive(Clone, Copy, Debug)]
pub struct LocalAddress(pub SocketAddr);

/// The client's end of the connection a request came on.
#[derive(Clone, Copy, Debug)]
pub struct RemoteAddress(pub SocketAddr);

/// Both ends of a connection.
#[derive(Clone, Copy, Debug)]
struct Ends {
    local: SocketAddr,
    remote: SocketAddr,
}

/// Serves connections until `app.stopping`, then gives those under way a moment to finish.
pub async fn serve(app: Arc<App>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let places = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    serve_within(app, listener, tls, places).await;
}

/// No more connections at one time than there are `places`.
async fn serve_within(
    app: Arc<App>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    places: Arc<Semaphore>,
) {
    let router = router(&app);
    let mut connections = JoinSet::new();
    let mut warned: Option<Instant> = None;
    loop {
        let accept = async {
            let permit = Arc::clone(&places).acquire_owned().await;
            (permit.expect("never closed"), listener.accept().await)
        };
        // A full house must not keep the server from stopping.
        let (permit, accepted) = tokio::select! {
            accepted = accept => accepted,
            () = app.until_stopping() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, remote)) => {
                let Some(held) = app.connections_crowd.take(remote.ip()) else {
                    debug!("a client network holds as many connections as it may");
                    continue;
                };
                let (app, router, tls) = (Arc::clone(&app), router.clone(), tls.clone());
                connections.spawn(async move {
                    app.meters.connections.inc();
                    serve_stream(&app, router, tls, stream, remote).await;
                    app.meters.connections.dec();
                    drop((held, permit));
                });
            }
            Err(error) => {
                if warned.is_none_or(|last| last.elapsed() >= ACCEPT_WARNING_PAUSE) {
                    warn!(%error, "cannot accept connections; trying on");
                    warned = Some(Instant::now());
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(CONNECTIONS_CLOSE_TIMEOUT, finish)
        .await
        .is_err()
    {
        debug!("connections under way were cut");
    }
}

/// `Ok` when the content type is `expected`, whatever its parameters and case.
///
/// # Errors
/// 415.
pub fn check_content_type(headers: &HeaderMap, expected: &'static str) -> Result<(), Problem> {
    let sent = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = sent
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case(expected)) {
        return Ok(());
    }
    let detail = format!("send the body with `Content-Type: {expected}`");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}

/// W8: `GET` and `HEAD` answer without content.
pub async fn no_content() -> StatusCode {
    StatusCode::NO_CONTENT
}

fn router(app: &Arc<App>) -> Router {
    Router::new()
        .merge(whip::routes())
        .merge(resource::routes())
        .merge(api::routes())
        .merge(sse::routes())
        .merge(agent::routes())
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::clone(app))
}

async fn nothing_here() -> Problem {
    Problem::not_found("there is nothing at this path; `GET /info` lists the endpoints")
}

async fn wrong_method(uri: Uri) -> Problem {
    Problem::method_not_allowed(Place::of(uri.path()).methods())
}

async fn serve_stream(
    app: &Arc<App>,
    router: Router,
    tls: Option<TlsAcceptor>,
    stream: TcpStream,
    remote: SocketAddr,
) {
    // A small answer must not wait for the client's delayed acknowledgement.
    let prepared = stream.set_nodelay(true).and_then(|()| stream.local_addr());
    let Ok(local) = prepared else { return };
    let ends = Ends { local, remote };
    match tls {
        None => serve_connection(app, router, stream, ends).await,
        Some(tls) => {
            let handshake = tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, tls.accept(stream));
            if let Ok(Ok(stream)) = handshake.await {
                serve_connection(app, router, stream, ends).await;
            }
        }
    }
}

async fn serve_connection(
    app: &Arc<App>,
    router: Router,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin,
    ends: Ends,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let (app, router) = (Arc::clone(app), router.clone());
        async move { Ok::<_, Infallible>(handle(&app, router, request, ends).await) }
    });
    let stream = Stall::new(stream, app.config.patience.write);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.config.patience.head)
        .max_buf_size(HTTP_HEAD_BYTES_MAX)
        .max_headers(HTTP_HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = app.until_stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended with an error");
    }
}

/// One request, from its head to its answer.
async fn handle(
    app: &Arc<App>,
    router: Router,
    request: Request<Incoming>,
    ends: Ends,
) -> Response<Body> {
    let place = Place::of(request.uri().path());
    let origin = request.headers().get(ORIGIN).cloned();
    let (parts, body) = request.into_parts();
    let mut response = match admit(app, place, &parts, body, ends).await {
        Ok(Admitted::Answered(response)) => response,
        Ok(Admitted::Complete(body)) => {
            let mut request = Request::from_parts(parts, Body::from(body));
            request.extensions_mut().insert(LocalAddress(ends.local));
            request.extensions_mut().insert(RemoteAddress(ends.remote));
            match router.oneshot(request).await {
                Ok(response) => response,
                Err(infallible) => match infallible {},
            }
        }
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    cors::apply(&app.config.cors_origins, origin.as_ref(), headers);
    app.meters.note_answered(place, response.status());
    response
}

enum Admitted {
    Answered(Response<Body>),
    Complete(Bytes),
}

/// What every request passes: the rate limit (W15), preflight, and a whole body of bounded size.
async fn admit(
    app: &App,
    place: Place,
    parts: &Parts,
    body: Incoming,
    ends: Ends,
) -> Result<Admitted, Problem> {
    let changes = [Method::POST, Method::PATCH, Method::DELETE].contains(&parts.method);
    let within = if changes {
        app.within_rate(ends.remote.ip())
    } else {
        !place.asks_shards(parts.uri.path()) || app.within_reads_rate(ends.remote.ip())
    };
    if !within {
        let limit = app.config.rate_limit;
        let limit = if changes { limit } else { reads_limit(limit) };
        let detail = format!("at most {limit} requests a second are served");
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
        return Err(problem.retry_after(RETRY_SOON).closing());
    }
    if parts.method == Method::OPTIONS {
        return Ok(Admitted::Answered(cors::options(place)));
    }
    let patience = app.config.patience.body;
    match tokio::time::timeout(patience, read_body(body, patience)).await {
        Ok(body) => body.map(Admitted::Complete),
        Err(_) => {
            let detail = format!("the body did not arrive within {} s", patience.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail).closing())
        }
    }
}

/// The body, if it is no larger than it may be. That it is not is said at once, not at its end.
async fn read_body(mut body: Incoming, patience: Duration) -> Result<Bytes, Problem> {
    let announced = hyper::body::Body::size_hint(&body).lower();
    let mut contents = Vec::new();
    let mut is_too_large = announced > HTTP_BODY_BYTES_MAX as u64;
    while !is_too_large && let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::bad_request("the body broke off").closing())?;
        if let Ok(piece) = frame.into_data() {
            is_too_large = contents.len() + piece.len() > HTTP_BODY_BYTES_MAX;
            contents.extend_from_slice(&piece);
        }
    }
    if !is_too_large {
        return Ok(contents.into());
    }
    if announced <= HTTP_DISCARD_BYTES_MAX as u64 {
        tokio::spawn(tokio::time::timeout(patience, discard(body)));
    }
    let detail = format!("a body has at most {HTTP_BODY_BYTES_MAX} bytes here");
    Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).closing())
}

/// Reads a bounded part of a body and throws it away while the answer goes out, so that a client that sends
/// first and reads then sees that answer rather than a reset.
async fn discard(mut body: Incoming) {
    let mut received = 0;
    while received <= HTTP_DISCARD_BYTES_MAX
        && let Some(Ok(frame)) = body.frame().await
    {
        received += frame.data_ref().map_or(0, Bytes::len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Access;
    use crate::config::Config;
    use crate::control::Control;

    #[tokio::test]
    async fn a_full_house_does_not_keep_the_server_from_stopping() {
        let config = Config::from_toml("media_ip = \"127.0.0.1\"").expect("a good configuration");
        let control = Control::new(Vec::new());
        let app = Arc::new(App::new(
            config,
            Access::open(),
            control,
            &[],
            Vec::new(),
            "none",
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let full = Arc::new(Semaphore::new(0));
        let serving = tokio::spawn(serve_within(Arc::clone(&app), listener, None, full));
        app.stopping.send_replace(true);
        let ended = tokio::time::timeout(Duration::from_secs(5), serving).await;
        ended.expect("it stops in time").expect("no panic");
    }
}
