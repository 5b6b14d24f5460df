//! The receiver's answer, cut to its limit.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use postrider_core::Timestamp;
use tokio::time::{Instant, timeout_at};

use crate::retry_after::RetryAfter;

/// What a receiver answered. Whether that is a success is for its status alone to say.
/// Printing it shows neither header values nor body.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// The status, 200 to 999.
    pub status: u16,
    /// The headers: at most 100, at most 16 KiB; names in lower case, lines of one name together.
    pub headers: Vec<(String, Bytes)>,
    /// The first bytes of the body, as they came: not decoded, not unpacked.
    pub body: Bytes,
    /// Whether the body was longer than what is body of it.
    pub truncated: bool,
    /// Why the body has no proper end, if it has none.
    pub note: Option<BodyNote>,
    /// When to come back, if the status is 429 or 503 and the receiver said so in an understandable way.
    pub retry_after: Option<RetryAfter>,
}

/// What went wrong after the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyNote {
    /// The deadline came first.
    TimedOut,
    /// The connection was lost, or the body broke the rules of HTTP.
    Broken,
}

impl BodyNote {
    /// What happened, in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "time ran out before the body was complete",
            Self::Broken => "the connection was lost before the body was complete",
        }
    }
}

/// How many header lines are body, and how many bytes of names and values.
const MAX_HEADERS: usize = 100;
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Up to so much of a body that is not wanted is read, for so long, to keep its connection: about
/// what a new connection would cost.
const DRAIN_BYTES: u64 = 16 * 1024;
const DRAIN_TIME: Duration = Duration::from_millis(100);

/// How many frames without a byte a body may have before it counts as broken.
const MAX_EMPTY_FRAMES: usize = 1000;

impl Response {
    /// Whether the delivery has succeeded: any 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the receiver wants no delivery ever again: 410.
    pub fn is_gone(&self) -> bool {
        self.status == StatusCode::GONE.as_u16()
    }

    /// How long the receiver asks to wait, counted from `now`.
    pub fn retry_delay(&self, now: Timestamp) -> Option<Duration> {
        self.retry_after.map(|asked| asked.delay(now))
    }

    /// Reads as much of an answer as is body, until the deadline at the latest.
    pub(crate) async fn read(answer: http::Response<Incoming>, limit: usize, deadline: Instant) -> Self {
        let (parts, mut incoming) = answer.into_parts();
        let headers = kept_headers(&parts.headers);
        let retry_after = RetryAfter::of(parts.status, &parts.headers);
        let status = parts.status.as_u16();
        let body = CappedBody::read(&mut incoming, limit, deadline).await;
        // An HTTP/2 stream costs nothing to drop.
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

/// What is body of a body.
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

/// Reads the little that is left of a body, so that its connection can be used again. A body whose
/// rest is long or unknown is dropped, and its connection with it.
async fn drain(mut incoming: Incoming, deadline: Instant) {
    if incoming.size_hint().upper().is_none_or(|left| left > DRAIN_BYTES) {
        return;
    }
    let until = deadline.min(Instant::now() + DRAIN_TIME);
    while let Ok(Some(Ok(_))) = timeout_at(until, incoming.frame()).await {}
}

fn kept_headers(headers: &HeaderMap) -> Vec<(String, Bytes)> {
    let mut room = MAX_HEADER_BYTES;
    headers
        .iter()
        .take(MAX_HEADERS)
        .map_while(|(name, value)| {
            room = room.checked_sub(name.as_str().len() + value.len())?;
            // Copied, since the value is a part of the connection's buffer and would keep all of it.
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
    fn headers_are_kept_up_to_their_limits() {
        let mut headers = HeaderMap::new();
        headers.append(SET_COOKIE, HeaderValue::from_static("a=1"));
        headers.append(SET_COOKIE, HeaderValue::from_bytes(b"b=\xff").unwrap());
        let body = kept_headers(&headers);
        assert_eq!(
            body,
            [
                ("set-cookie".to_owned(), Bytes::from("a=1")),
                ("set-cookie".to_owned(), Bytes::from(&b"b=\xff"[..]))
            ]
        );

        for _ in 0..200 {
            headers.append("x-many", HeaderValue::from_static("y"));
        }
        assert_eq!(kept_headers(&headers).len(), MAX_HEADERS);

        headers.clear();
        for _ in 0..20 {
            headers.append("x-long", HeaderValue::try_from("y".repeat(1000)).unwrap());
        }
        assert_eq!(kept_headers(&headers).len(), 16);
    }
}
