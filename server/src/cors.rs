//! Cross-origin rules (Fetch standard): which web pages may use the API from a browser.
//!
//! Credentials of the browser's own (cookies) are never allowed; tokens travel in a header.

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response};

use crate::place::Place;

/// Request headers a page may set.
const ALLOWED_HEADERS: HeaderValue =
    HeaderValue::from_static("Authorization, Content-Type, If-Match");
/// Response headers a page may read.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(
    "Location, ETag, Link, Accept-Patch, Accept-Post, WWW-Authenticate, Retry-After",
);
/// A preflight's answer holds for this many seconds.
const PREFLIGHT_SECS: HeaderValue = HeaderValue::from_static("600");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// Adds what the origin of the request may see, to any response.
pub fn apply(origins: &[String], origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    let any = origins.iter().any(|allowed| allowed == "*");
    let allowed = match origin {
        _ if any => Some(HeaderValue::from_static("*")),
        Some(origin) => {
            let listed = origins
                .iter()
                .any(|allowed| allowed.as_bytes() == origin.as_bytes());
            listed.then(|| origin.clone())
        }
        None => None,
    };
    if !any {
        headers.append(VARY, HeaderValue::from_name(ORIGIN));
    }
    if let Some(allowed) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
    }
}

/// The answer to `OPTIONS`, preflight or not: what may be done here. Asks for no token, since a
/// browser sends none (W14).
#[must_use]
pub fn options(place: Place) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static(place.methods());
    headers.insert(ALLOW, methods.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECS);
    match place {
        Place::Whip | Place::Whep => {
            headers.insert(ACCEPT_POST, HeaderValue::from_static("application/sdp"));
        }
        Place::Session => {
            let fragment = HeaderValue::from_static("application/trickle-ice-sdpfrag");
            headers.insert(ACCEPT_PATCH, fragment);
        }
        _ => {}
    }
    response
}
