//! An event, parsed once for all expressions.

use std::fmt;

use cel::Context;
use cel::common::types::{CelInt, CelString};
use cel::common::value::Val;
use postrider_core::format::{Parts, UnreadableEnvelope};
use postrider_core::{Channels, EventId};

use crate::functions::environment;
use crate::json::{Json, JsonList, JsonMap};
use crate::steps::Steps;

/// What expressions can ask of an event, beside its data.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// `event.id`
    pub id: &'a str,
    /// `event.event_type`
    pub event_type: &'a str,
    /// `event.agent_id`
    pub agent_id: &'a str,
    /// `event.timestamp`, in Unix seconds
    pub timestamp: i64,
    /// `event.channels`; empty for an event without channels.
    pub channels: &'a [&'a str],
}

/// An event that expressions are evaluated for.
pub struct Subject {
    context: Context<'static, 'static>,
    steps: Steps,
}

/// An event cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnreadableData {
    /// Its data is not JSON, or has text that is not Unicode.
    #[error("the event's data cannot be read")]
    Data(#[from] serde_json::Error),
    /// Its envelope is not one.
    #[error(transparent)]
    Envelope(#[from] UnreadableEnvelope),
}

impl Subject {
    /// Parses an event's data.
    ///
    /// # Errors
    /// Fails if the data is not JSON, or has text that is not Unicode, such as `"\ud800"`.
    pub fn new(facts: &Facts<'_>, data: &str) -> Result<Self, UnreadableData> {
        let Json(data) = serde_json::from_str(data)?;
        let text = |text: &str| -> Box<dyn Val> { Box::new(CelString::from(text.to_owned())) };
        let channels = facts.channels.iter().map(|channel| text(channel)).collect();
        let event = JsonMap::new(vec![
            ("id".to_owned(), text(facts.id)),
            ("event_type".to_owned(), text(facts.event_type)),
            ("agent_id".to_owned(), text(facts.agent_id)),
            ("timestamp".to_owned(), Box::new(CelInt::from(facts.timestamp))),
            ("channels".to_owned(), Box::new(JsonList::new(channels))),
        ]);
        let mut context = Context::with_env(environment());
        context.add_variable_as_val("event", Box::new(event));
        context.add_variable_as_val("data", data);
        Ok(Self { context, steps: Steps::default() })
    }

    /// Parses a stored event.
    ///
    /// # Errors
    /// Fails as [`Subject::new`] does, and if the bytes are not an envelope.
    pub fn of_envelope(
        id: EventId,
        channels: Option<&Channels>,
        envelope: &[u8],
    ) -> Result<Self, UnreadableData> {
        let parts = Parts::of(envelope)?;
        let channels: Vec<&str> = channels.into_iter().flat_map(Channels::iter).collect();
        let facts = Facts {
            id: &id.to_string(),
            event_type: &parts.event_type,
            agent_id: &parts.agent_id,
            timestamp: parts.timestamp.into(),
            channels: &channels,
        };
        Self::new(&facts, parts.data.get())
    }

    /// What is left of the steps that all expressions about this event may take.
    pub(crate) fn steps(&self) -> &Steps {
        &self.steps
    }

    pub(crate) fn context(&self) -> &Context<'static, 'static> {
        &self.context
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").finish_non_exhaustive()
    }
}
