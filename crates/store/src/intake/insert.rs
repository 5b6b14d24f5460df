//! Inserting events and deliveries.

use std::collections::HashMap;

use bytes::Bytes;
use postrider_core::{
    AgentId, Channels, DeliveryId, EventId, EventType, JobId, Metadata, SubscriberId, TenantId, Timestamp,
};
use postrider_database::{Batch, Column, Kind, Writes};
use sea_orm::Value;

use crate::Store;
use crate::rollups::deliveries::{Counts, add};
use crate::rollups::key::Key;
use crate::row::{PENDING, metadata_text, signed};

/// An event to be inserted.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// The event's id.
    pub id: EventId,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// The event type.
    pub event_type: EventType,
    /// The agent that emitted it.
    pub agent_id: AgentId,
    /// The envelope: the body of every delivery.
    pub envelope: Bytes,
    /// The number of its subscribers.
    pub subscribers_found: u32,
    /// When it was dispatched.
    pub dispatched_at: Timestamp,
    /// Its channels.
    pub channels: Option<Channels>,
    /// What its application noted about it.
    pub metadata: Metadata,
    /// Its idempotency key.
    pub key: Option<String>,
}

/// A delivery to be inserted.
#[derive(Clone, Debug)]
pub struct DeliveryRow {
    /// The delivery's id, which also names the event: see [`EventId::delivery`].
    pub id: DeliveryId,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// The event's type.
    pub event_type: EventType,
    /// The subscriber to deliver to.
    pub subscriber: SubscriberId,
    /// The job that will work on it.
    pub job: JobId,
    /// When the event was dispatched.
    pub created_at: Timestamp,
}

impl Store {
    /// Adds to `writes` the events, their deliveries, and the counts of the deliveries. There must be a partition for each
    /// event: see [`Store::ensure_partition`].
    pub fn insert_with(&self, events: Vec<EventRow>, deliveries: &[DeliveryRow], writes: &mut Writes) {
        const EVENT: &[Column] = &[
            Column::new("id", Kind::Uuid),
            Column::new("tenant", Kind::Text),
            Column::new("event_type", Kind::Text),
            Column::new("agent_id", Kind::Text),
            Column::new("envelope", Kind::Bytes),
            Column::new("subscribers_found", Kind::Int),
            Column::new("dispatched_at", Kind::Big),
        ];
        const NOTED: &[Column] = &[
            EVENT[0],
            EVENT[1],
            EVENT[2],
            EVENT[3],
            EVENT[4],
            EVENT[5],
            EVENT[6],
            Column::nullable("channels", Kind::Text),
            Column::nullable("metadata", Kind::Text),
            Column::nullable("idempotency_key", Kind::Text),
        ];
        const DELIVERY: &[Column] = &[
            Column::new("id", Kind::Uuid),
            Column::new("tenant", Kind::Text),
            Column::new("subscriber_id", Kind::Uuid),
            Column::new("event_type", Kind::Text),
            Column::new("job_id", Kind::Uuid),
            Column::new("created_at", Kind::Big),
        ];
        // Events that have none of these cost no more than their own columns.
        let is_noted =
            |event: &EventRow| event.channels.is_some() || !event.metadata.is_empty() || event.key.is_some();
        let (noted, plain): (Vec<_>, Vec<_>) = events.into_iter().partition(is_noted);
        if !plain.is_empty() {
            let mut input = Batch::new(EVENT);
            for event in plain {
                input.push(columns(event));
            }
            let sql = "INSERT INTO events (id, tenant, event_type, agent_id, envelope, subscribers_found, dispatched_at) \
                SELECT id, tenant, event_type, agent_id, envelope, subscribers_found, dispatched_at FROM input";
            writes.push(input, sql);
        }
        if !noted.is_empty() {
            let mut input = Batch::new(NOTED);
            for event in noted {
                let channels = event.channels.as_ref().map(|channels| channels.as_str().to_owned());
                let (metadata, key) = (metadata_text(&event.metadata), event.key.clone());
                let [id, tenant, event_type, agent, envelope, found, at] = columns(event);
                input.push([
                    id,
                    tenant,
                    event_type,
                    agent,
                    envelope,
                    found,
                    at,
                    channels.into(),
                    metadata.into(),
                    key.into(),
                ]);
            }
            let sql = "INSERT INTO events \
                    (id, tenant, event_type, agent_id, envelope, subscribers_found, dispatched_at, channels, metadata, \
                    idempotency_key) \
                SELECT id, tenant, event_type, agent_id, envelope, subscribers_found, dispatched_at, channels, metadata, \
                    idempotency_key FROM input";
            writes.push(input, sql);
        }

        let mut input = Batch::new(DELIVERY);
        let mut counts: HashMap<Key, Counts> = HashMap::new();
        for delivery in deliveries {
            input.push([
                delivery.id.uuid().into(),
                delivery.tenant.as_str().into(),
                delivery.subscriber.uuid().into(),
                delivery.event_type.as_str().into(),
                delivery.job.uuid().into(),
                delivery.created_at.millis().into(),
            ]);
            let key =
                Key::new(&delivery.tenant, delivery.subscriber, &delivery.event_type, delivery.created_at);
            counts.entry(key).or_default().created += 1;
        }
        let sql = format!(
            "INSERT INTO deliveries \
                (id, tenant, subscriber_id, event_type, status, attempts, round_start, job_id, created_at) \
            SELECT id, tenant, subscriber_id, event_type, {PENDING}, 0, 0, job_id, created_at FROM input"
        );
        writes.push(input, sql);
        add(counts, writes);
    }
}

/// The columns that every event has.
fn columns(event: EventRow) -> [Value; 7] {
    [
        event.id.uuid().into(),
        event.tenant.as_str().into(),
        event.event_type.as_str().into(),
        event.agent_id.as_str().into(),
        Vec::from(event.envelope).into(),
        signed(event.subscribers_found).into(),
        event.dispatched_at.millis().into(),
    ]
}
