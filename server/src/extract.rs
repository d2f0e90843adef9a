//! What handlers take out of a request: as axum reads it, but what does not fit is a problem document.

use std::sync::Arc;

use axum::body::{Bytes, to_bytes};
use axum::extract::{self, FromRequest, FromRequestParts};
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::http::LocalAddress;
use crate::limits::HTTP_BODY_BYTES_MAX;
use crate::problem::Problem;

/// The parts of the path that the route names.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

/// The parameters after the question mark.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

/// All that a handler needs of a request with a description in it.
#[derive(Debug)]
pub struct Described {
    /// What all requests share.
    pub app: Arc<App>,
    /// Where the client has reached us.
    pub local: LocalAddress,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match extract::Path::from_request_parts(parts, state).await {
            Ok(extract::Path(value)) => Ok(Self(value)),
            Err(refused) => Err(unfit(refused.status(), &refused.body_text())),
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match extract::Query::from_request_parts(parts, state).await {
            Ok(extract::Query(value)) => Ok(Self(value)),
            Err(refused) => Err(unfit(refused.status(), &refused.body_text())),
        }
    }
}

impl FromRequest<Arc<App>> for Described {
    type Rejection = Problem;

    async fn from_request(request: extract::Request, app: &Arc<App>) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let local = parts.extensions.get().copied();
        Ok(Self {
            app: Arc::clone(app),
            local: local.ok_or_else(Problem::internal)?,
            headers: parts.headers,
            // It is whole and within bounds by now.
            body: to_bytes(body, HTTP_BODY_BYTES_MAX)
                .await
                .map_err(|_| Problem::internal())?,
        })
    }
}

fn unfit(status: StatusCode, text: &str) -> Problem {
    Problem::new(status, format!("{text}; correct the URL"))
}
