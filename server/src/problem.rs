//! Errors as RFC 9457 problem documents that tell the caller what to change.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::json;

/// An answer other than success.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem whose `detail` says, in a sentence, what is wrong and what to change.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            headers: Vec::new(),
        }
    }

    /// 400.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 401 for a request without a token (RFC 6750 §3).
    pub fn token_missing(detail: impl Into<String>) -> Self {
        let challenge = HeaderValue::from_static("Bearer realm=\"antiphon\"");
        Self::new(StatusCode::UNAUTHORIZED, detail).with(WWW_AUTHENTICATE, challenge)
    }

    /// 401 for a token that is unknown or expired (RFC 6750 §3.1).
    pub fn token_invalid(detail: impl Into<String>) -> Self {
        let challenge = "Bearer realm=\"antiphon\", error=\"invalid_token\"";
        Self::new(StatusCode::UNAUTHORIZED, detail)
            .with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// 403 for a token that does not reach so far (RFC 6750 §3.1).
    pub fn forbidden(detail: impl Into<String>) -> Self {
        let challenge = "Bearer realm=\"antiphon\", error=\"insufficient_scope\"";
        Self::new(StatusCode::FORBIDDEN, detail)
            .with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 405 with what is allowed.
    pub fn method_not_allowed(allowed: &'static str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("use one of {allowed} here"),
        )
        .with(ALLOW, HeaderValue::from_static(allowed))
    }

    /// 503 with the time after which another try makes sense.
    pub fn unavailable(retry: Duration, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(retry)
    }

    /// 500: our bug. The caller learns no more than that.
    pub fn internal() -> Self {
        let detail = "the server failed to handle this request; its log says more";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    /// Adds `Retry-After` in whole seconds.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Self {
        self.with(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)))
    }

    /// Ends the connection after the answer: what follows on it was not read.
    #[must_use]
    pub fn closing(self) -> Self {
        self.with(CONNECTION, HeaderValue::from_static("close"))
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The sentence that says what is wrong.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Its status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let document = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = Response::new(Body::from(document.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.headers);
        response
    }
}
