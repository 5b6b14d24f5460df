//! The parts of an envelope.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::value::RawValue;

/// Bytes are not an envelope.
#[derive(Debug, thiserror::Error)]
#[error("the stored envelope cannot be read")]
pub struct UnreadableEnvelope(#[from] serde_json::Error);

/// The parts of an envelope, as far as possible without a copy.
#[derive(Debug, Deserialize)]
pub struct Parts<'a> {
    /// The event type.
    #[serde(borrow, rename = "event")]
    pub event_type: Cow<'a, str>,
    /// Whole Unix seconds.
    pub timestamp: u32,
    /// The agent that emitted the event.
    #[serde(borrow)]
    pub agent_id: Cow<'a, str>,
    /// The data.
    #[serde(borrow)]
    pub data: &'a RawValue,
}

impl<'a> Parts<'a> {
    /// Takes an envelope apart.
    ///
    /// # Errors
    /// Fails if the bytes are not an envelope.
    pub fn of(envelope: &'a [u8]) -> Result<Self, UnreadableEnvelope> {
        Ok(serde_json::from_slice(envelope)?)
    }

    /// The time in RFC 3339.
    pub(super) fn time(&self) -> String {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.timestamp.into());
        humantime::format_rfc3339_seconds(time).to_string()
    }
}
