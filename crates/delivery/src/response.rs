//! The receiver's response, cut to its limits.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use postrider_core::Timestamp;
use tokio::time::{Instant, timeout_at};

use crate::retry_after::RetryAfter;

/// A receiver's response. Its status alone decides whether the attempt succeeded. `Debug` shows neither header values
/// nor the body.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status, 200 to 999.
    pub status: u16,
    /// The headers: at most 100 lines of 16 KiB in total, with lower-case names. Lines of the same name are adjacent.
    pub headers: Vec<(String, Bytes)>,
    /// The first bytes of the body, at most [`Config::response_limit`](crate::Config::response_limit). They are neither
    /// decoded nor decompressed.
    pub body: Bytes,
    /// Whether the receiver sent more of the body than `body` holds.
    pub truncated: bool,
    /// Why the body ended early; `None` if it was complete or cut at its limit.
    pub note: Option<BodyNote>,
    /// When the receiver asks for the next attempt; `None` unless the status is 429 or 503 and `Retry-After` is valid.
    pub retry_after: Option<RetryAfter>,
}

/// Why a response's body ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BodyNote {
    /// The attempt's time ran out.
    TimedOut,
    /// The connection was lost, or the body was not valid HTTP.
    Broken,
}

impl BodyNote {
    /// Returns the note for the subscriber's owner.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "time ran out before the body was complete",
            Self::Broken => "the connection was lost before the body was complete",
        }
    }
}

/// The number of header lines to record, and the number of bytes of their names and values.
const MAX_HEADERS: usize = 100;
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// How much of an unneeded rest of a body to read, and for how long, to be able to reuse the connection: about what a
/// new connection would cost.
const DRAIN_BYTES: u64 = 16 * 1024;
const DRAIN_TIME: Duration = Duration::from_millis(100);

/// The number of empty frames after which a body counts as broken.
const MAX_EMPTY_FRAMES: usize = 1000;

impl Response {
    /// Returns whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns whether the status is 410 (Gone): the receiver wants no further deliveries.
    pub fn is_gone(&self) -> bool {
        self.status == StatusCode::GONE.as_u16()
    }

    /// Returns how long the receiver asks to wait, counted from `now`; `None` if it does not ask.
    pub fn retry_delay(&self, now: Timestamp) -> Option<Duration> {
        self.retry_after.map(|asked| asked.delay(now))
    }

    /// Makes the response of a receiver that another part of Postrider sends to, or is. The body has its limit already.
    pub fn received(status: StatusCode, headers: &HeaderMap, body: Bytes, note: Option<BodyNote>) -> Self {
        Self {
            status: status.as_u16(),
            headers: recorded_headers(headers),
            body,
            truncated: false,
            note,
            retry_after: RetryAfter::of(status, headers),
        }
    }

    /// Reads a response up to its limits, until the deadline at the latest.
    pub(crate) async fn read(response: http::Response<Incoming>, limit: usize, deadline: Instant) -> Self {
        let (parts, mut incoming) = response.into_parts();
        let headers = recorded_headers(&parts.headers);
        let retry_after = RetryAfter::of(parts.status, &parts.headers);
        let status = parts.status.as_u16();
        let body = CappedBody::read(&mut incoming, limit, deadline).await;
        // HTTP/2 drops a stream without losing the connection.
        if body.truncated && parts.version < Version::HTTP_2 {
            drain(incoming, deadline).await;
        }
        let CappedBody { bytes, truncated, note } = body;
        Self { status, headers, body: bytes.freeze(), truncated, note, retry_after }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &format_args!("{} lines", self.headers.len()))
            .field("body", &format_args!("{} bytes", self.body.len()))
            .field("truncated", &self.truncated)
            .field("note", &self.note)
            .field("retry_after", &self.retry_after)
            .finish()
    }
}

/// A response's body up to the limit.
#[derive(Default)]
struct CappedBody {
    bytes: BytesMut,
    truncated: bool,
    note: Option<BodyNote>,
}

impl CappedBody {
    async fn read(incoming: &mut Incoming, limit: usize, deadline: Instant) -> Self {
        let mut body = Self::default();
        let mut empty_frames = 0;
        while !incoming.is_end_stream() {
            let data = match timeout_at(deadline, incoming.frame()).await {
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Ok(None) => break,
                Ok(Some(Err(_))) => {
                    body.note = Some(BodyNote::Broken);
                    break;
                }
                Err(_) => {
                    body.note = Some(BodyNote::TimedOut);
                    break;
                }
            };
            let room = limit - body.bytes.len();
            body.bytes.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room {
                body.truncated = true;
                break;
            }
            empty_frames += usize::from(data.is_empty());
            if empty_frames > MAX_EMPTY_FRAMES {
                body.note = Some(BodyNote::Broken);
                break;
            }
        }
        body
    }
}

/// Reads the short rest of a body, so that its connection can be reused. If the rest is long or of unknown length, the
/// connection is closed instead.
async fn drain(mut incoming: Incoming, deadline: Instant) {
    if incoming.size_hint().upper().is_none_or(|left| left > DRAIN_BYTES) {
        return;
    }
    let until = deadline.min(Instant::now() + DRAIN_TIME);
    while let Ok(Some(Ok(_))) = timeout_at(until, incoming.frame()).await {}
}

/// Returns whether there are more or longer headers than are recorded.
pub(crate) fn exceeds(headers: &HeaderMap) -> bool {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES
}

fn recorded_headers(headers: &HeaderMap) -> Vec<(String, Bytes)> {
    let mut room = MAX_HEADER_BYTES;
    headers
        .iter()
        .take(MAX_HEADERS)
        .map_while(|(name, value)| {
            room = room.checked_sub(name.as_str().len() + value.len())?;
            // Copied, because the value borrows the connection's whole read buffer.
            Some((name.as_str().to_owned(), Bytes::copy_from_slice(value.as_bytes())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::SET_COOKIE;

    #[test]
    fn headers_are_recorded_up_to_their_limits() {
        let mut headers = HeaderMap::new();
        headers.append(SET_COOKIE, HeaderValue::from_static("a=1"));
        headers.append(SET_COOKIE, HeaderValue::from_bytes(b"b=\xff").unwrap());
        let recorded = recorded_headers(&headers);
        assert_eq!(
            recorded,
            [
                ("set-cookie".to_owned(), Bytes::from("a=1")),
                ("set-cookie".to_owned(), Bytes::from(&b"b=\xff"[..]))
            ]
        );

        for _ in 0..200 {
            headers.append("x-many", HeaderValue::from_static("y"));
        }
        assert_eq!(recorded_headers(&headers).len(), MAX_HEADERS);

        headers.clear();
        for _ in 0..20 {
            headers.append("x-long", HeaderValue::try_from("y".repeat(1000)).unwrap());
        }
        assert_eq!(recorded_headers(&headers).len(), 16);
    }
}
