//! The rows and jobs of new events.

use postrider_core::Envelope;
use postrider_store::fan_out::FanOutRow;
use postrider_store::intake::{EventRef, EventRow, NewDeliveries};
use postrider_telemetry::context::TraceParent;

use super::candidate::Candidate;
use super::prepared::Prepared;

/// What a batch writes.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) events: Vec<EventRow>,
    pub(super) deliveries: NewDeliveries,
    pub(super) promises: Vec<FanOutRow>,
}

impl Rows {
    /// Adds an event with a delivery and a job for each of its subscribers, or with the promise to make them.
    pub(super) fn add(&mut self, candidate: &Candidate<'_>) {
        let Prepared { event, agent_id, .. } = candidate.prepared;
        let data = candidate.prepared.data();
        let envelope = Envelope { event_type: &event.event_type, timestamp: candidate.at, agent_id, data };
        let trace = trace(event.trace.as_deref()).map(|trace| trace.to_string());
        let event_ref = EventRef {
            id: candidate.id,
            tenant: &event.tenant,
            event_type: &event.event_type,
            dispatched_at: candidate.at,
            trace: trace.as_deref(),
        };
        self.deliveries.add(event_ref, 0, &candidate.jobs);
        if let Some(crowd) = candidate.crowd {
            self.promises.push(FanOutRow {
                event_id: candidate.id,
                tenant: event.tenant.clone(),
                event_type: event.event_type.clone(),
                dispatched_at: candidate.at,
                channels: event.channels.clone(),
                crowd,
                trace,
            });
        }
        self.events.push(EventRow {
            id: candidate.id,
            tenant: event.tenant.clone(),
            event_type: event.event_type.clone(),
            agent_id: agent_id.clone(),
            envelope: envelope.to_bytes().into(),
            subscribers_found: candidate.subscribers_found(),
            dispatched_at: candidate.at,
            channels: event.channels.clone(),
            metadata: event.metadata.clone(),
            key: event.key.as_ref().map(|key| key.as_str().to_owned()),
        });
    }
}

/// Returns the trace that an event's jobs continue.
fn trace(given: Option<&str>) -> Option<TraceParent> {
    // Parsed first: text that is not a `traceparent` might not even fit into the column.
    let given = given.and_then(|trace| trace.parse::<TraceParent>().ok());
    match (given, TraceParent::current()) {
        // The batch runs in the trace of another request, and links to this one.
        (Some(given), Some(current)) if given.trace_id() != current.trace_id() => Some(given),
        (given, current) => current.or(given),
    }
}
