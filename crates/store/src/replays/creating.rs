//! Delivering what has no delivery yet.

use std::collections::{BTreeMap, HashMap};

use postrider_core::replay::ReplayFailure;
use postrider_core::{DeliveryId, EventId, EventType, JobId, SubscriberId, TenantId, Timestamp};
use postrider_database::sql::{column, lock_clause, query_one};
use postrider_database::{Batch, Column, Dialect, Kind, Transaction, Writes};
use uuid::Uuid;

use super::missed::delivered;
use super::restarting::active;
use super::run::{Processed, Row};
use crate::intake::{EventRef, NewDeliveries};
use crate::payload_gone::PayloadGone;
use crate::row::{parse, signed, unsigned};
use crate::{Store, StoreError};

/// An event of which somebody gets a delivery.
struct Missed {
    event_type: EventType,
    dispatched_at: Timestamp,
    gone: Option<PayloadGone>,
    /// The greatest number that one of its deliveries has, or may have had.
    made: usize,
}

impl Store {
    /// Makes a delivery for each of these members that has none yet.
    pub(super) async fn create_missed(
        &self,
        transaction: &Transaction,
        tenant: &TenantId,
        rows: &[Row],
    ) -> Result<Processed, StoreError> {
        let mut processed = Processed::default();
        let events = lock_events(transaction, tenant, rows).await?;
        // Under the locks of their events, so that nothing else gives the same numbers.
        let delivered = delivered(transaction, rows.iter().map(|row| (row.event, row.subscriber))).await?;
        let active = active(transaction, tenant, rows.iter().map(|row| row.subscriber)).await?;
        let mut recipients: BTreeMap<EventId, Vec<(SubscriberId, JobId)>> = BTreeMap::new();
        for row in rows {
            let event = events.get(&row.event);
            match event.map(|event| event.gone) {
                None => processed.fail(ReplayFailure::Removed),
                Some(_) if delivered.contains(&(row.event, row.subscriber)) => {
                    processed.fail(ReplayFailure::Changed);
                }
                Some(Some(PayloadGone::Erased)) => processed.fail(ReplayFailure::PayloadErased),
                Some(Some(PayloadGone::Expired)) => processed.fail(ReplayFailure::PayloadExpired),
                Some(None) if !active.contains(&row.subscriber) => processed.fail(ReplayFailure::Inactive),
                Some(None) => {
                    recipients.entry(row.event).or_default().push((row.subscriber, self.ids.next()));
                }
            }
        }
        let mut new = NewDeliveries::default();
        let mut input = Batch::new(GROWN);
        for (id, recipients) in &recipients {
            let Some(event) = events.get(id) else { continue };
            let (event_type, dispatched_at) = (&event.event_type, event.dispatched_at);
            let before = new.rows.len();
            new.add(
                EventRef { id: *id, tenant, event_type, dispatched_at, trace: None },
                event.made,
                recipients,
            );
            let added = new.rows.len() - before;
            // An event has no more numbers than that.
            for _ in added..recipients.len() {
                processed.fail(ReplayFailure::Changed);
            }
            let grown = signed(u32::try_from(added).unwrap_or(u32::MAX));
            input.push([tenant.as_str().into(), id.uuid().into(), grown.into()]);
        }
        processed.done = new.rows.len() as u64;
        // As in `recording::deliveries::named`.
        let theirs = match Dialect::of(transaction) {
            Dialect::Postgres => {
                "events.tenant = ANY (ARRAY[input.tenant]) AND events.id BETWEEN input.event_id AND input.event_id"
            }
            Dialect::Sqlite => "events.tenant = input.tenant AND events.id = input.event_id",
        };
        input.execute(transaction, &format!("{GROW}{theirs}"), []).await?;
        let mut writes = Writes::new();
        self.insert_with(Vec::new(), &new.rows, &mut writes);
        self.queue.enqueue_with(&new.jobs, &mut writes);
        writes.execute(transaction).await?;
        processed.jobs = new.jobs;
        Ok(processed)
    }
}

const GROWN: &[Column] = &[
    Column::new("tenant", Kind::Text),
    Column::new("event_id", Kind::Uuid),
    Column::new("added", Kind::Int),
];
const GROW: &str = "UPDATE events SET subscribers_found = subscribers_found + input.added, \
        jobs_created = jobs_created + input.added \
    FROM input WHERE ";

/// Locks the events of these members, in the order of their ids.
async fn lock_events(
    transaction: &Transaction,
    tenant: &TenantId,
    rows: &[Row],
) -> Result<HashMap<EventId, Missed>, StoreError> {
    const EVENT: &[Column] = &[Column::new("event_id", Kind::Uuid), Column::new("last", Kind::Uuid)];
    let mut ids: Vec<_> = rows.iter().map(|row| row.event).collect();
    ids.sort_unstable();
    ids.dedup();
    let lock = lock_clause(Dialect::of(transaction));
    // One by one, so that they are locked in order.
    let sql = format!("SELECT id FROM events WHERE tenant = $1 AND id = $2{lock}");
    let mut input = Batch::new(EVENT);
    for id in ids {
        let values = [tenant.as_str().into(), id.uuid().into()];
        if query_one(transaction, &sql, values).await?.is_some() {
            input.push([id.uuid().into(), id.deliveries().end().uuid().into()]);
        }
    }
    let event =
        Dialect::of(transaction).look_up("events", "events.tenant = $1 AND events.id = input.event_id");
    let sql = format!(
        "SELECT events.id, events.event_type, events.dispatched_at, events.payload_gone, events.subscribers_found, \
            (SELECT deliveries.id FROM deliveries WHERE deliveries.tenant = $1 \
                AND deliveries.id BETWEEN input.event_id AND input.last ORDER BY deliveries.id DESC LIMIT 1) AS last_made \
        FROM input {event}"
    );
    let mut events = HashMap::new();
    for row in &input.query(transaction, &sql, [tenant.as_str().into()]).await? {
        let id = EventId::from_uuid(column(row, "id")?);
        let found = unsigned(column(row, "subscribers_found")?) as usize;
        let last = column::<Option<Uuid>>(row, "last_made")?.map(DeliveryId::from_uuid);
        let missed = Missed {
            event_type: parse(&column::<String>(row, "event_type")?, "events", "event_type", id)?,
            dispatched_at: Timestamp::from_millis(column(row, "dispatched_at")?),
            gone: PayloadGone::from_code(column(row, "payload_gone")?),
            made: last.map_or(0, DeliveryId::number).max(found),
        };
        events.insert(id, missed);
    }
    Ok(events)
}
