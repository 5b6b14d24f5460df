//! What both kinds of receivers need of a request.

use postrider_core::policy::AttemptTimeout;
use postrider_delivery::Request;
use tokio::time::Instant;

use crate::shared::Shared;

/// When the attempt ends.
pub(super) fn deadline(shared: &Shared, request: &Request, started: Instant) -> Instant {
    started + request.timeout.map_or(shared.client.request_timeout(), AttemptTimeout::duration)
}

/// The headers of a request, with names in lower case.
pub(super) fn headers(request: &Request) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| value.as_bytes().iter().map(|&byte| char::from(byte)).collect();
    request.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}
