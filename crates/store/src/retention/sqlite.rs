//! Deleting events in small batches.

use std::sync::atomic::Ordering;

use postrider_core::{EventId, Timestamp};
use postrider_database::sql::{column, execute, query_all};
use postrider_database::{Batch, Column, Kind};
use sea_orm::ConnectionTrait as _;
use sea_orm::prelude::Uuid;

use super::Removed;
use crate::row::{DEAD, PENDING};
use crate::{Store, StoreError};

/// The most events that one transaction deletes, and the most transactions of one call.
const AT_ONCE: usize = 200;
const BATCHES: usize = 5;

/// How many pages the file gives back to the system after each batch.
pub(super) const PAGES: u32 = 500;

/// Deletes events that were dispatched before a moment, except those with pending deliveries, or with deliveries that did
/// not die before another; if there is no such moment, with any dead letters.
pub(super) async fn delete_events(
    store: &Store,
    before: Timestamp,
    dead_before: Option<Timestamp>,
) -> Result<Removed, StoreError> {
    let mut removed = Removed::default();
    // Rows are inserted in the order of time, near enough: an event that is younger than the ones after it waits for them.
    // It goes on where the last call ended, so that events that stay do not hold up those behind them.
    let mut after = store.swept.load(Ordering::Relaxed);
    for _ in 0..BATCHES {
        let sql = format!(
            "SELECT rowid AS place, tenant, id FROM events WHERE rowid > $1 ORDER BY rowid LIMIT {AT_ONCE}"
        );
        let rows = query_all(store.database.connection(), sql, [after.into()]).await?;
        let mut events = Vec::new();
        for row in &rows {
            let id = EventId::from_uuid(column(row, "id")?);
            if id.made_at() >= before {
                break;
            }
            after = column(row, "place")?;
            events.push((column::<String>(row, "tenant")?, id));
        }
        let all_old = events.len() == rows.len();
        if events.is_empty() {
            store.swept.store(0, Ordering::Relaxed);
            return Ok(removed);
        }
        removed.events += delete(store, &events, dead_before).await?;
        store
            .database
            .connection()
            .execute_unprepared(&format!("PRAGMA incremental_vacuum({PAGES})"))
            .await?;
        if !all_old {
            store.swept.store(0, Ordering::Relaxed);
            return Ok(removed);
        }
    }
    store.swept.store(after, Ordering::Relaxed);
    removed.more = true;
    Ok(removed)
}

async fn delete(
    store: &Store,
    events: &[(String, EventId)],
    dead_before: Option<Timestamp>,
) -> Result<u64, StoreError> {
    let dead_before = dead_before.map_or(i64::MIN, Timestamp::millis);
    let kept = format!(
        "(deliveries.status = {PENDING} OR deliveries.status = {DEAD} AND deliveries.died_at >= {dead_before})"
    );
    let input = batch_of(events);
    let transaction = store.database.begin().await?;
    let sql = format!(
        "SELECT input.tenant, input.id FROM input \
        WHERE NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.tenant = input.tenant \
                AND deliveries.id BETWEEN input.id AND input.last AND {kept}) \
            AND NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.event_id = input.id \
                AND deliveries.tenant = input.tenant AND {kept}) \
            AND NOT EXISTS (SELECT 1 FROM fan_outs WHERE fan_outs.tenant = input.tenant AND fan_outs.event_id = input.id)"
    );
    let mut gone = 0;
    for row in &input.query(&transaction, &sql, []).await? {
        let (tenant, id): (String, Uuid) = (column(row, "tenant")?, column(row, "id")?);
        let last = *EventId::from_uuid(id).deliveries().end();
        // Deliveries of the first edition are found by their event, all others by their range.
        for sql in [
            "DELETE FROM attempts WHERE tenant = $1 AND delivery_id BETWEEN $2 AND $3",
            "DELETE FROM deliveries WHERE tenant = $1 AND id BETWEEN $2 AND $3",
        ] {
            let values = [tenant.as_str().into(), id.into(), last.uuid().into()];
            execute(&transaction, sql, values).await?;
        }
        for sql in [
            "DELETE FROM attempts WHERE tenant = $1 AND delivery_id IN (SELECT id FROM deliveries WHERE event_id = $2)",
            "DELETE FROM deliveries WHERE event_id = $2 AND tenant = $1",
            "DELETE FROM events WHERE tenant = $1 AND id = $2",
        ] {
            execute(&transaction, sql, [tenant.as_str().into(), id.into()]).await?;
        }
        gone += 1;
    }
    transaction.commit().await?;
    Ok(gone)
}

/// The events and the ids of their last deliveries.
pub(super) fn batch_of(events: &[(String, EventId)]) -> Batch {
    const EVENT: &[Column] =
        &[Column::new("tenant", Kind::Text), Column::new("id", Kind::Uuid), Column::new("last", Kind::Uuid)];
    let mut input = Batch::new(EVENT);
    for (tenant, id) in events {
        input.push([tenant.as_str().into(), id.uuid().into(), id.deliveries().end().uuid().into()]);
    }
    input
}
