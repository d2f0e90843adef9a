//! Reads what peers describe, away from the thread that serves HTTP.

use std::sync::Arc;

use antiphon_core::sdp::{Fragment, Negotiated, Offer, Purpose, SdpError, SdpErrorKind};
use axum::body::Bytes;
use axum::http::StatusCode;
use tracing::error;

use crate::app::App;
use crate::problem::Problem;

/// Reads an offer and decides the answer.
///
/// # Errors
/// 400, 413 or 422 naming the line and what to change; 500 for a panic in the reader, which ends
/// nothing but this request.
pub async fn negotiate(app: &App, body: Bytes, purpose: Purpose) -> Result<Negotiated, Problem> {
    on_a_reader(app, move || Offer::parse(&body)?.negotiate(purpose)).await
}

/// Reads a trickle fragment.
///
/// # Errors
/// As [`negotiate`].
pub async fn read_fragment(app: &App, body: Bytes) -> Result<Fragment, Problem> {
    on_a_reader(app, move || Fragment::parse(&body)).await
}

/// Runs `read` on a thread of its own, a few at a time. `spawn_blocking` catches its panics.
async fn on_a_reader<T: Send + 'static>(
    app: &App,
    read: impl FnOnce() -> Result<T, SdpError> + Send + 'static,
) -> Result<T, Problem> {
    let permit = Arc::clone(&app.negotiations).acquire_owned().await;
    let permit = permit.map_err(|_| Problem::internal())?;
    let reading = tokio::task::spawn_blocking(move || {
        // Held here: the client may go away, the work does not.
        let _permit = permit;
        read()
    });
    match reading.await {
        Ok(result) => result.map_err(|error| refused(&error)),
        Err(panic) => {
            error!(%panic, "reading a session description panicked");
            Err(Problem::internal())
        }
    }
}

fn refused(error: &SdpError) -> Problem {
    let status = match error.kind() {
        SdpErrorKind::Malformed => StatusCode::BAD_REQUEST,
        SdpErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        SdpErrorKind::Unsupported => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Problem::new(status, error.to_string())
}
