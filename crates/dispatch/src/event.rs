//! The event that a caller dispatches, and the answer.

use std::str::FromStr;

use postrider_core::{
    AgentId, Channels, EventData, EventId, EventType, JobId, Metadata, SubscriberId, TenantId, Timestamp,
};

use crate::error::NewEventError;

/// An event to be dispatched.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The tenant that owns the event.
    pub tenant: TenantId,
    /// The event type, such as `order.created`.
    pub event_type: EventType,
    /// The event's data.
    pub data: EventData,
    /// The agent that emits the event; `None` for the configured default.
    pub agent_id: Option<AgentId>,
    /// Makes repeats of the same request one event.
    pub key: Option<IdempotencyKey>,
    /// The W3C `traceparent` of the request that emits the event; `None` for that of the current span.
    pub trace: Option<String>,
    /// The channels of the event. With some it goes also to subscribers that share one of them.
    pub channels: Option<Channels>,
    /// What the application notes about the event, for those who look at it. Subscribers do not get it.
    pub metadata: Metadata,
}

impl NewEvent {
    /// Creates an event of the default tenant, from the default agent.
    ///
    /// # Errors
    /// Fails if `event_type` is not a valid event type, or `data` does not serialise to an object or an array.
    pub fn new(event_type: &str, data: &(impl serde::Serialize + ?Sized)) -> Result<Self, NewEventError> {
        Ok(Self {
            tenant: TenantId::default(),
            event_type: event_type.parse()?,
            data: EventData::from_value(data)?,
            agent_id: None,
            key: None,
            trace: None,
            channels: None,
            metadata: Metadata::default(),
        })
    }
}

/// Makes repeats of a request one event: 1 to 255 printable ASCII characters, unique within a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Box<str>);

/// The text is not a valid idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key must be 1 to 255 printable ASCII characters")]
pub struct IdempotencyKeyError;

impl IdempotencyKey {
    /// Parses a key.
    ///
    /// # Errors
    /// Fails if the text is empty, longer than 255 characters, or has a character that is not printable ASCII.
    pub fn parse(text: &str) -> Result<Self, IdempotencyKeyError> {
        let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if (1..=255).contains(&text.len()) && printable {
            Ok(Self(text.into()))
        } else {
            Err(IdempotencyKeyError)
        }
    }

    /// Returns the key as text.
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

/// Whether all deliveries of an event have been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FanOut {
    /// They have.
    Complete,
    /// The event has more than a hundred subscribers, and its deliveries are being made.
    Continuing,
}

/// The answer to a dispatched event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatched {
    /// The event's id, which is the `webhook-id` of all its deliveries.
    pub id: EventId,
    /// The event type.
    pub event_type: EventType,
    /// The agent that emitted it.
    pub agent_id: AgentId,
    /// When the event was dispatched.
    pub timestamp: Timestamp,
    /// How many subscribers it is delivered to. None is not an error.
    pub subscribers_found: usize,
    /// How many jobs that deliver it have been made so far.
    pub jobs_created: usize,
    /// Whether that is all.
    pub fan_out: FanOut,
    /// The subscribers it is delivered to, if there are at most a hundred; empty otherwise.
    pub subscribers: Vec<SubscriberId>,
    /// The jobs that deliver it, in the order of `subscribers`.
    pub jobs: Vec<JobId>,
    /// Whether an earlier request under the same key made the event. This request then changed nothing.
    pub duplicate: bool,
}
