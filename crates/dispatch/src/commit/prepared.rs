//! An event after its transforms have run.

use postrider_core::{AgentId, EventData, SubscriberId};

use crate::error::DispatchError;
use crate::event::NewEvent;
use crate::shared::Shared;

/// An event that is ready to be written.
pub(crate) struct Prepared {
    pub(crate) event: NewEvent,
    pub(super) agent_id: AgentId,
    /// The data that the transforms produced; `Ok(None)` if they changed nothing. An error is held back until the
    /// event's key has been looked up, because a repeat gets the first answer even if a hook now fails.
    pub(super) transformed: Result<Option<EventData>, DispatchError>,
    /// The only subscriber to deliver to, whatever its patterns say; `None` for all that match.
    pub(crate) only: Option<SubscriberId>,
}

impl Prepared {
    /// Runs the transforms on an event.
    pub(crate) fn new(shared: &Shared, event: NewEvent) -> Self {
        let agent_id = event.agent_id.clone().unwrap_or_else(|| shared.default_agent.clone());
        let transformed = shared.transforms.apply(&event.tenant, &event.event_type, &agent_id, &event.data);
        Self { event, agent_id, transformed, only: None }
    }

    /// Delivers the event to this subscriber only.
    pub(crate) fn only_to(self, subscriber: SubscriberId) -> Self {
        Self { only: Some(subscriber), ..self }
    }

    /// Returns the size of the event's data in bytes.
    pub(crate) fn size(&self) -> usize {
        self.data().as_json().len()
    }

    pub(super) fn data(&self) -> &EventData {
        match &self.transformed {
            Ok(Some(data)) => data,
            Ok(None) | Err(_) => &self.event.data,
        }
    }
}
