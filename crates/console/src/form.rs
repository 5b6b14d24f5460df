//! The body of a form.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::request::Parts;
use http_body_util::{BodyExt as _, Limited};
use tokio::time::timeout;

use crate::query::Query;

/// The largest form: more than a schema or a plugin's configuration takes.
const LARGEST: usize = 2 * 1024 * 1024;

/// How long a form may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(20);

/// A form that was sent with POST.
pub(crate) struct Form {
    pub(crate) parts: Parts,
    pub(crate) fields: Query,
}

impl<S: Sync> FromRequest<S> for Form {
    type Rejection = Response;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let refused = |status: StatusCode, text: &'static str| (status, text).into_response();
        let collecting = Limited::new(body, LARGEST).collect();
        let Ok(collected) = timeout(ARRIVAL, collecting).await else {
            return Err(refused(StatusCode::REQUEST_TIMEOUT, "the form took too long to arrive\n"));
        };
        let body = collected
            .map_err(|_| refused(StatusCode::PAYLOAD_TOO_LARGE, "the form is too large\n"))?
            .to_bytes();
        Ok(Self { parts, fields: Query::read(&body) })
    }
}
