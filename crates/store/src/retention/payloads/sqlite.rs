//! Removing the payloads of events in small batches.

use postrider_core::EventId;
use postrider_database::sql::{column, execute, query_all, query_one};
use sea_orm::ConnectionTrait as _;
use uuid::Uuid;

use super::{Limits, PayloadStep, Sweep};
use crate::erasure::{ERASE_RESPONSES, PayloadGone, no_envelope};
use crate::retention::sqlite::{PAGES, batch_of};
use crate::row::{DEAD, PENDING};
use crate::{Store, StoreError};

/// The most events that one call looks for among so many rows, and the most whose payloads it removes.
const LOOKED_AT: i64 = 20_000;
const AT_ONCE: usize = 200;

/// The responses to the deliveries of an event with more subscribers are removed as after an erasure on request, in steps.
const FEW: i32 = 100;

pub(super) async fn step(
    store: &Store,
    limits: Limits,
    sweep: &mut Sweep,
) -> Result<Option<PayloadStep>, StoreError> {
    let connection = store.database.connection();
    // Rows are inserted in the order of time, near enough: an event that is younger than the ones after it waits for them.
    let sql = format!(
        "SELECT rowid AS place, tenant, id FROM events \
        WHERE rowid > $1 AND rowid <= $2 AND payload_gone IS NULL ORDER BY rowid LIMIT {AT_ONCE}"
    );
    let end = sweep.place.saturating_add(LOOKED_AT);
    let rows = query_all(connection, &sql, [sweep.place.into(), end.into()]).await?;
    if rows.len() < AT_ONCE {
        // Nothing more among these. Ids of deleted events may be missing, in any number.
        let sql = "SELECT rowid AS place FROM events WHERE rowid > $1 ORDER BY rowid LIMIT 1";
        let behind = query_one(connection, sql, [end.into()]).await?;
        if rows.is_empty() && behind.is_none() {
            return Ok(None);
        }
        sweep.place = behind.map_or(Ok(end), |row| column::<i64>(&row, "place").map(|place| place - 1))?;
    } else if let Some(last) = rows.last() {
        sweep.place = column(last, "place")?;
    }
    let mut events = Vec::new();
    for row in &rows {
        let id = EventId::from_uuid(column(row, "id")?);
        if id.made_at() >= limits.before {
            sweep.place = i64::MAX;
            break;
        }
        events.push((column::<String>(row, "tenant")?, id));
    }
    if events.is_empty() {
        return Ok(Some(PayloadStep::Taken));
    }
    let removed = strip(store, &events, limits).await?;
    connection.execute_unprepared(&format!("PRAGMA incremental_vacuum({PAGES})")).await?;
    Ok(Some(if removed > 0 { PayloadStep::Events(removed) } else { PayloadStep::Taken }))
}

async fn strip(store: &Store, events: &[(String, EventId)], limits: Limits) -> Result<u64, StoreError> {
    let keeps = format!(
        "(deliveries.status = {PENDING} OR deliveries.status = {DEAD} AND deliveries.died_at > {})",
        limits.dead_until
    );
    let dialect = store.database.dialect();
    let now = dialect.now();
    let transaction = store.database.begin().await?;
    let sql = format!(
        "SELECT events.tenant, events.id, events.subscribers_found FROM input \
            JOIN events ON events.tenant = input.tenant AND events.id = input.id \
        WHERE events.payload_gone IS NULL \
            AND NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.tenant = input.tenant \
                AND deliveries.id BETWEEN input.id AND input.last AND {keeps}) \
            AND NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.event_id = input.id \
                AND deliveries.tenant = input.tenant AND {keeps}) \
            AND NOT EXISTS (SELECT 1 FROM fan_outs WHERE fan_outs.tenant = input.tenant AND fan_outs.event_id = input.id)"
    );
    let strip = format!(
        "UPDATE events SET envelope = {}, payload_gone = {} WHERE tenant = $1 AND id = $2",
        no_envelope(dialect),
        PayloadGone::Expired.code()
    );
    let promise = format!(
        "INSERT INTO erasures (tenant, event_id, reached, due_at, last_pass) VALUES ($1, $2, $3, {now}, false) \
        ON CONFLICT DO NOTHING"
    );
    let mut removed = 0;
    for row in &batch_of(events).query(&transaction, &sql, []).await? {
        let (tenant, id): (String, Uuid) = (column(row, "tenant")?, column(row, "id")?);
        let key = || [tenant.as_str().into(), id.into()];
        execute(&transaction, &strip, key()).await?;
        if column::<i32>(row, "subscribers_found")? > FEW {
            execute(&transaction, &promise, [tenant.as_str().into(), id.into(), Uuid::nil().into()]).await?;
        } else {
            let last = EventId::from_uuid(id).deliveries().end().uuid();
            for sql in ERASE_RESPONSES {
                execute(&transaction, sql, [tenant.as_str().into(), id.into(), last.into()]).await?;
            }
            // Deliveries of the first edition are found by their event.
            let sql = "UPDATE attempts SET response_headers = NULL, response_body = NULL, exchange = NULL \
                WHERE tenant = $1 AND delivery_id IN (SELECT id FROM deliveries WHERE event_id = $2)";
            execute(&transaction, sql, key()).await?;
        }
        removed += 1;
    }
    transaction.commit().await?;
    Ok(removed)
}
