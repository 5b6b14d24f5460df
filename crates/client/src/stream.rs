//! Server-sent events: an answer that goes on.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::client::{Answer, refused};
use crate::{Client, ClientError};

/// The most bytes of one event.
const MAX_EVENT: usize = 64 * 1024 * 1024;
/// The most bytes of the answer of a server that refuses the request.
const MAX_REFUSAL: usize = 1024 * 1024;
/// How long the stream may be silent. Servers send a comment more often.
const SILENCE: Duration = Duration::from_secs(90);

/// Events of a server, as they happen.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    parser: Parser,
}

/// An event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerEvent {
    /// The name of the event.
    pub name: String,
    /// The id, after which a new stream can resume; empty if there has been none.
    pub id: String,
    /// The data.
    pub data: String,
}

impl Client {
    /// Opens a stream of events at a path, after the event with an id if one is given.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn stream(&self, path: &str, last_event_id: Option<&str>) -> Result<EventStream, ClientError> {
        let limit = self.timeout();
        let opening = async {
            let response = self.exchange(Method::GET, path, Bytes::new(), last_event_id).await?;
            if response.status().is_success() {
                return Ok(EventStream { body: response.into_body(), parser: Parser::default() });
            }
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_REFUSAL).collect().await;
            let unreadable = |source| ClientError::Unreadable { status: head.status.as_u16(), source };
            let body = body.map_err(unreadable)?.to_bytes();
            Err(refused(&Answer { status: head.status, headers: head.headers, body }))
        };
        timeout(limit, opening).await.map_err(|_| ClientError::Timeout(limit))?
    }
}

impl EventStream {
    /// Returns the next event; `None` once the server has ended the stream.
    ///
    /// # Errors
    /// Fails if the connection breaks or is silent for 90 s, or an event is larger than 64 MiB.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>, ClientError> {
        loop {
            if let Some(event) = self.parser.events.pop_front() {
                return Ok(Some(event));
            }
            let frame = timeout(SILENCE, self.body.frame()).await;
            match frame.map_err(|_| ClientError::Timeout(SILENCE))? {
                None => return Ok(None),
                Some(Err(error)) => return Err(ClientError::Stream(error.into())),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.parser.push(&bytes).map_err(|error| ClientError::Stream(error.into()))?;
                    }
                }
            }
        }
    }
}

/// Parses the lines of a stream (HTML Standard, section 9.2.6). Lines end with LF or CR LF, as Postrider sends them.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    next: ServerEvent,
    has_data: bool,
    events: VecDeque<ServerEvent>,
}

/// An event is larger than [`MAX_EVENT`].
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("an event is larger than {MAX_EVENT} bytes")]
struct TooLarge;

impl Parser {
    fn push(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.line.len() + self.next.data.len() + part.len() > MAX_EVENT {
                return Err(TooLarge);
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.take(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
            }
        }
        Ok(())
    }

    fn take(&mut self, line: &str) {
        if line.is_empty() {
            // The id stays, as the standard says.
            let next = ServerEvent { id: self.next.id.clone(), ..ServerEvent::default() };
            let event = std::mem::replace(&mut self.next, next);
            if std::mem::take(&mut self.has_data) {
                self.events.push_back(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.next.name),
            "id" if !value.contains('\0') => value.clone_into(&mut self.next.id),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.next.data.push('\n');
                }
                self.next.data.push_str(value);
            }
            // Comments, and fields that this client does not know.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "id: 1\nevent: attempt\ndata: {\"a\":\ndata: 1}\n\n: comment\n\nretry: 5\r\ndata:x\r\n\r\ndata: unfinished";

    #[test]
    fn events_are_the_same_however_the_stream_is_cut() {
        let event = |name: &str, data: &str| ServerEvent {
            name: name.to_owned(),
            id: "1".to_owned(),
            data: data.to_owned(),
        };
        for size in 1..TEXT.len() {
            let mut parser = Parser::default();
            for part in TEXT.as_bytes().chunks(size) {
                parser.push(part).unwrap();
            }
            assert_eq!(parser.events, [event("attempt", "{\"a\":\n1}"), event("", "x")], "{size}");
        }
    }

    #[test]
    fn an_event_without_an_end_is_refused() {
        let mut parser = Parser::default();
        let part = vec![b'a'; 1024 * 1024];
        assert!((0..64).all(|_| parser.push(&part).is_ok()) && parser.push(b"a").is_err());
    }
}
