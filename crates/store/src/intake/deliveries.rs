//! The deliveries of an event and their jobs.

use postrider_core::{EventId, EventType, JobId, SubscriberId, TenantId, Timestamp};
use postrider_queue::NewJob;

use super::DeliveryRow;
use crate::queue_ids::{lane_of, queued};

/// The event of deliveries that are to be made.
#[derive(Clone, Copy, Debug)]
pub struct EventRef<'a> {
    /// The event's id.
    pub id: EventId,
    /// The tenant that owns it.
    pub tenant: &'a TenantId,
    /// The event type.
    pub event_type: &'a EventType,
    /// When it was dispatched.
    pub dispatched_at: Timestamp,
    /// The W3C `traceparent` that its jobs continue.
    pub trace: Option<&'a str>,
}

/// New deliveries and their jobs, in the same order.
#[derive(Clone, Debug, Default)]
pub struct NewDeliveries {
    /// The rows of the deliveries.
    pub rows: Vec<DeliveryRow>,
    /// Their jobs.
    pub jobs: Vec<NewJob>,
}

impl NewDeliveries {
    /// Adds the deliveries of an event to these subscribers, each with the job that will work on it. The event has `made`
    /// deliveries already.
    pub fn add(&mut self, event: EventRef<'_>, made: usize, recipients: &[(SubscriberId, JobId)]) {
        for (number, &(subscriber, job)) in (made + 1..).zip(recipients) {
            // An event with more subscribers than numbers was rejected.
            let Some(id) = event.id.delivery(number) else { break };
            let row = DeliveryRow {
                id,
                tenant: event.tenant.clone(),
                event_type: event.event_type.clone(),
                subscriber,
                job,
                created_at: event.dispatched_at,
            };
            let job = NewJob::now(queued(job), lane_of(subscriber), event.tenant.as_str(), row.id.uuid());
            self.jobs.push(NewJob { trace: event.trace.map(str::to_owned), ..job });
            self.rows.push(row);
        }
    }
}
