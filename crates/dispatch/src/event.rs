//! What goes in, and what comes back.

use std::str::FromStr;

use postrider_core::{AgentId, EventData, EventId, EventType, JobId, SubscriberId, TenantId, Timestamp};

use crate::error::NewEventError;

/// An event to be dispatched.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its type.
    pub event_type: EventType,
    /// What it says.
    pub data: EventData,
    /// Who emits it; if not given, the configured default.
    pub agent_id: Option<AgentId>,
    /// Dispatched again under the same key, it is answered as the first time.
    pub key: Option<IdempotencyKey>,
    /// The W3C `traceparent` of the request that emits it; if not given, that of the current span.
    pub trace: Option<String>,
}

impl NewEvent {
    /// An event of the default tenant, by the default agent.
    ///
    /// # Errors
    /// If `event` is no event type, or `data` neither object nor array.
    pub fn new(event: &str, data: &(impl serde::Serialize + ?Sized)) -> Result<Self, NewEventError> {
        Ok(Self {
            tenant: TenantId::default(),
            event_type: event.parse()?,
            data: EventData::from_value(data)?,
            agent_id: None,
            key: None,
            trace: None,
        })
    }
}

/// What makes a repeated request one event: 1 to 255 printable ASCII characters, unique for a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Box<str>);

/// The text is no idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key has 1 to 255 printable ASCII characters")]
pub struct IdempotencyKeyError;

impl IdempotencyKey {
    /// From text.
    ///
    /// # Errors
    /// If it is empty, too long, or has other characters.
    pub fn parse(text: &str) -> Result<Self, IdempotencyKeyError> {
        let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if (1..=255).contains(&text.len()) && printable {
            Ok(Self(text.into()))
        } else {
            Err(IdempotencyKeyError)
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = IdempotencyKeyError;

    fn from_str(text: &str) -> Result<Self, IdempotencyKeyError> {
        Self::parse(text)
    }
}

/// What came of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatched {
    /// Its id: the `webhook-id` of all its deliveries.
    pub id: EventId,
    /// Its type.
    pub event_type: EventType,
    /// Who emitted it.
    pub agent_id: AgentId,
    /// When it was dispatched.
    pub timestamp: Timestamp,
    /// To whom it goes. May be empty: that nobody asked for it is no error.
    pub subscribers: Vec<SubscriberId>,
    /// The jobs that deliver it, in the order of the subscribers.
    pub jobs: Vec<JobId>,
    /// An earlier request under the same key made the event; this one changed nothing.
    pub duplicate: bool,
}
