//! Reads what peers describe: short texts at once, long ones away from the thread that serves HTTP.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use antiphon_core::sdp::{Fragment, Negotiated, Offer, Purpose, SdpError, SdpErrorKind};
use axum::body::Bytes;
use axum::http::StatusCode;
use tracing::error;

use crate::app::App;
use crate::limits::SDP_READ_AT_ONCE_BYTES_MAX;
use crate::problem::Problem;

/// Reads an offer and decides the answer.
///
/// # Errors
/// 400, 413 or 422 naming the line and what to change; 500 for a panic in the reader, which ends
/// nothing but this request.
pub async fn negotiate(app: &App, body: Bytes, purpose: Purpose) -> Result<Negotiated, Problem> {
    let length = body.len();
    read(app, length, move || Offer::parse(&body)?.negotiate(purpose)).await
}

/// Reads a trickle fragment.
///
/// # Errors
/// As [`negotiate`].
pub async fn read_fragment(app: &App, body: Bytes) -> Result<Fragment, Problem> {
    read(app, body.len(), move || Fragment::parse(&body)).await
}

/// Runs `work` on a text of `length` bytes; a panic in it ends nothing but this request.
async fn read<T: Send + 'static>(
    app: &App,
    length: usize,
    work: impl FnOnce() -> Result<T, SdpError> + Send + 'static,
) -> Result<T, Problem> {
    let result = if length <= SDP_READ_AT_ONCE_BYTES_MAX {
        catch_unwind(AssertUnwindSafe(work)).map_err(|_| ())
    } else {
        on_a_reader(app, work).await?
    };
    match result {
        Ok(result) => result.map_err(|error| refused(&error)),
        Err(()) => {
            error!("reading a session description panicked");
            Err(Problem::internal())
        }
    }
}

/// Runs `work` on a thread of its own, a few at a time; the inner error is a panic.
async fn on_a_reader<T: Send + 'static>(
    app: &App,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Result<T, ()>, Problem> {
    let permit = Arc::clone(&app.negotiations).acquire_owned().await;
    let permit = permit.map_err(|_| Problem::internal())?;
    let reading = tokio::task::spawn_blocking(move || {
        // Held here: the client may go away, the work does not.
        let _permit = permit;
        work()
    });
    Ok(reading.await.map_err(|_| ()))
}

fn refused(error: &SdpError) -> Problem {
    let status = match error.kind() {
        SdpErrorKind::Malformed => StatusCode::BAD_REQUEST,
        SdpErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        SdpErrorKind::Unsupported => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Problem::new(status, error.to_string())
}
