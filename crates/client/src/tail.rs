//! The live tail: server-sent events as they arrive (HTML, section 9.2).

use bytes::{Buf as _, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use postrider_api::tail::TailQuery;

use crate::{Client, ClientError};

/// The most bytes of one event of the stream.
const MAX_EVENT: usize = 16 * 1024 * 1024;

/// A stream of what happens. It ends when the server ends it or the connection is lost; [`Client::tail`] with the last id
/// goes on.
#[derive(Debug)]
pub struct Tail {
    body: Incoming,
    /// What has arrived of the next line.
    rest: BytesMut,
    event: TailEvent,
    last_id: Option<String>,
}

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TailEvent {
    /// What `data` is: `event`, `attempt`, `delivery`, `left_out` or `end`.
    pub name: String,
    /// Its place; empty for what is not a row.
    pub id: String,
    /// JSON.
    pub data: String,
}

impl Client {
    /// Follows what happens; `last_id` is the [`Tail::last_id`] of a stream that has ended.
    ///
    /// # Errors
    /// Fails as [`Client::get`] does.
    pub async fn tail(&self, query: &TailQuery, last_id: Option<&str>) -> Result<Tail, ClientError> {
        let TailQuery { types, subscriber_id, status } = query;
        let mut path = url::form_urlencoded::Serializer::new("/v1/tail?".to_owned());
        let pairs = [
            ("types", types.clone()),
            ("subscriber_id", subscriber_id.as_ref().map(ToString::to_string)),
            ("status", status.map(|status| status.to_string())),
        ];
        for (name, value) in pairs {
            if let Some(value) = value {
                path.append_pair(name, &value);
            }
        }
        let path = path.finish();
        let last = last_id.map(|id| ("last-event-id", id));
        let body = self.open(path.trim_end_matches('?'), last.as_slice()).await?;
        let event = TailEvent::default();
        Ok(Tail { body, rest: BytesMut::new(), event, last_id: last_id.map(str::to_owned) })
    }
}

impl Tail {
    /// Returns the id of the last row that has arrived.
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// Waits for the next event of the stream; `None` at its end. May be cancelled and called again.
    ///
    /// # Errors
    /// Fails if the connection is lost, or the server sends something else.
    pub async fn next(&mut self) -> Result<Option<TailEvent>, ClientError> {
        let unreadable = |source: Box<dyn std::error::Error + Send + Sync>| ClientError::Unreadable {
            status: 200,
            source,
        };
        loop {
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end);
                self.rest.advance(1);
                if let Some(event) = self.line(&String::from_utf8_lossy(&line)) {
                    return Ok(Some(event));
                }
            }
            if self.rest.len() > MAX_EVENT {
                return Err(unreadable("an event of the stream is too long".into()));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(unreadable(error.into())),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.rest.extend_from_slice(data);
                    }
                }
            }
        }
    }

    /// Takes a line of the stream. Returns the event that it ends.
    fn line(&mut self, line: &str) -> Option<TailEvent> {
        let line = line.trim_end_matches('\r');
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if event.data.is_empty() {
                return None;
            }
            if !event.id.is_empty() {
                self.last_id = Some(event.id.clone());
            }
            return Some(event);
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.event.name),
            "id" => value.clone_into(&mut self.event.id),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Comments, and what a later version adds.
            _ => {}
        }
        None
    }
}
