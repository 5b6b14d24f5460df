//! Events as the API shows them.

use postrider_api::event::{DispatchedView, EventView, FanOut, PayloadGone};
use postrider_dispatch::Dispatched;
use postrider_store::erasure;
use postrider_store::events::Event;

pub(crate) fn dispatched_view(dispatched: Dispatched, key: Option<String>) -> DispatchedView {
    DispatchedView {
        id: dispatched.id,
        event_type: dispatched.event_type,
        agent_id: dispatched.agent_id,
        timestamp: dispatched.timestamp.seconds(),
        subscribers_found: dispatched.subscribers_found,
        jobs_created: dispatched.jobs_created,
        fan_out: fan_out(dispatched.fan_out == postrider_dispatch::FanOut::Continuing),
        job_ids: dispatched.jobs,
        subscriber_ids: dispatched.subscribers,
        duplicate: dispatched.duplicate,
        idempotency_key: key,
    }
}

pub(crate) fn event_view(event: &Event) -> EventView {
    EventView {
        id: event.id,
        event_type: event.event_type.clone(),
        agent_id: event.agent_id.clone(),
        timestamp: event.dispatched_at.seconds(),
        created_at: event.dispatched_at.into(),
        subscribers_found: event.subscribers_found,
        jobs_created: event.jobs_created,
        fan_out: fan_out(event.continues),
        channels: event.channels.clone(),
        metadata: event.metadata.clone().into(),
        idempotency_key: event.key.clone(),
    }
}

fn fan_out(continues: bool) -> FanOut {
    if continues { FanOut::Continuing } else { FanOut::Complete }
}

pub(crate) fn payload_view(gone: erasure::PayloadGone) -> PayloadGone {
    match gone {
        erasure::PayloadGone::Erased => PayloadGone::Erased,
        erasure::PayloadGone::Expired => PayloadGone::Expired,
    }
}
