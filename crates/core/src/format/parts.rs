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
#[derive(Deserialize)]
pub(super) struct Parts<'a> {
    #[serde(borrow, rename = "event")]
    pub(super) event_type: Cow<'a, str>,
    /// Whole Unix seconds.
    pub(super) timestamp: u32,
    #[serde(borrow)]
    pub(super) agent_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) data: &'a RawValue,
}

impl<'a> Parts<'a> {
    pub(super) fn of(envelope: &'a [u8]) -> Result<Self, UnreadableEnvelope> {
        Ok(serde_json::from_slice(envelope)?)
    }

    /// The time in RFC 3339.
    pub(super) fn time(&self) -> String {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.timestamp.into());
        humantime::format_rfc3339_seconds(time).to_string()
    }
}
