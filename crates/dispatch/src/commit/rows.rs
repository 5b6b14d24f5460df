//! The rows and jobs of new events.

use postrider_core::{DeliveryId, Envelope};
use postrider_queue::NewJob;
use postrider_store::intake::{DeliveryRow, EventRow};
use postrider_store::queue_ids::{lane_of, queued};
use postrider_telemetry::context::TraceParent;

use super::candidate::Candidate;
use super::prepared::Prepared;
use crate::shared::Shared;

/// What a batch writes.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) events: Vec<EventRow>,
    pub(super) deliveries: Vec<DeliveryRow>,
    pub(super) jobs: Vec<NewJob>,
}

impl Rows {
    /// Adds an event with a delivery and a job for each of its subscribers.
    pub(super) fn add(&mut self, shared: &Shared, candidate: &Candidate<'_>) {
        let Prepared { event, agent_id, .. } = candidate.prepared;
        let data = candidate.prepared.data();
        let envelope = Envelope { event_type: &event.event_type, timestamp: candidate.at, agent_id, data };
        let trace = trace(event.trace.as_deref()).map(|trace| trace.to_string());
        for &(subscriber, job) in &candidate.jobs {
            let id: DeliveryId = shared.store.ids().next();
            self.deliveries.push(DeliveryRow {
                id,
                tenant: event.tenant.clone(),
                event_id: candidate.id,
                event_type: event.event_type.clone(),
                subscriber,
                job,
                created_at: candidate.at,
            });
            let job = NewJob::now(queued(job), lane_of(subscriber), event.tenant.as_str(), id.uuid());
            self.jobs.push(NewJob { trace: trace.clone(), ..job });
        }
        self.events.push(EventRow {
            id: candidate.id,
            tenant: event.tenant.clone(),
            event_type: event.event_type.clone(),
            agent_id: agent_id.clone(),
            envelope: envelope.to_bytes().into(),
            subscribers_found: u32::try_from(candidate.jobs.len()).unwrap_or(u32::MAX),
            dispatched_at: candidate.at,
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
