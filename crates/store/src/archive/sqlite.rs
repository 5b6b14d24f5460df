//! Deleting the rows of a day that have been copied, in small batches.

use std::ops::Range;

use postrider_core::{EventId, Timestamp};
use postrider_database::sql::{column, execute, query_one};
use postrider_database::{DatabaseError, Transaction};
use sea_orm::prelude::Uuid;
use sea_orm::{ConnectionTrait as _, QueryResult};

use super::rows::{FIRST, Row, Table, next_tenant, page};
use super::{OldDay, Removal, first_id};
use crate::retention::Stays;
use crate::row::PENDING;
use crate::{Store, StoreError};

/// The most events that one transaction deletes.
const AT_ONCE: u32 = 100;

/// How many pages the file gives back to the system after each batch.
const PAGES: u32 = 500;

/// Returns whether a copy has a row as it is now. Rows are asked for in the order of [`Store::rows_of`] within each table,
/// a batch of each table in turn.
pub type Copied<'a> = dyn FnMut(&Row) -> bool + Send + 'a;

impl Store {
    /// Deletes the rows of a day of a SQLite database, in batches, as long as the copy has each of them. It ends with
    /// [`Removal::Changed`] at the first one that the copy does not have; those before it are deleted then.
    ///
    /// # Errors
    /// Fails if the database is unavailable. What was deleted before stays deleted.
    pub async fn delete_day(&self, day: &OldDay, copied: &mut Copied<'_>) -> Result<Removal, StoreError> {
        if let Some(stays) = why_stays(self, day).await? {
            return Ok(Removal::Stays(stays));
        }
        let mut tenant = String::new();
        while let Some(next) = tenant_after(self, &tenant).await? {
            tenant = next;
            let mut ids = day.ids();
            while ids.start < ids.end {
                let batch = ids.start..end_of_batch(self, &tenant, &ids).await?;
                if !delete(self, &tenant, &batch, copied).await? {
                    return Ok(Removal::Changed);
                }
                ids.start = batch.end;
            }
        }
        Ok(Removal::Removed)
    }
}

/// Returns the first day at or after a moment of which there are rows.
pub(super) async fn first_day(store: &Store, from: Timestamp) -> Result<Option<QueryResult>, DatabaseError> {
    let connection = store.database.connection();
    let mut first: Option<Uuid> = None;
    let mut tenant = String::new();
    while let Some(next) = tenant_after(store, &tenant).await? {
        tenant = next;
        for table in Table::ALL {
            let (name, id) = (table.name(), table.id());
            let sql = format!(
                "SELECT {id} AS id FROM {name} WHERE tenant = $1 AND {id} >= $2 ORDER BY {id} LIMIT 1"
            );
            let values = [tenant.as_str().into(), first_id(from).into()];
            if let Some(row) = query_one(connection, sql, values).await? {
                let found = column(&row, "id")?;
                first = Some(first.map_or(found, |first| first.min(found)));
            }
        }
    }
    let Some(first) = first else { return Ok(None) };
    let moment = EventId::from_uuid(first).made_at().millis();
    // The data of the first edition is one day. Its last hours are not in the day after it.
    let sql = "SELECT suffix AS name, starts_at, ends_at FROM partitions WHERE starts_at <= $1 AND ends_at > $1 \
        UNION ALL SELECT strftime('%Y%m%d', start / 1000, 'unixepoch'), \
            max(start, coalesce((SELECT max(ends_at) FROM partitions WHERE ends_at <= $1), start)), start + 86400000 \
            FROM (SELECT $1 - $1 % 86400000 AS start) LIMIT 1";
    query_one(connection, sql, [moment.into()]).await
}

/// Returns the tenant after `after` that has rows in any of the tables.
async fn tenant_after(store: &Store, after: &str) -> Result<Option<String>, DatabaseError> {
    let mut least: Option<String> = None;
    for table in Table::ALL {
        let found = next_tenant(store.database.connection(), table.name(), after).await?;
        least = least.into_iter().chain(found).min();
    }
    Ok(least)
}

/// Returns the end of the ids that one batch deletes.
async fn end_of_batch(store: &Store, tenant: &str, ids: &Range<Uuid>) -> Result<Uuid, DatabaseError> {
    let sql = format!(
        "SELECT id FROM events WHERE tenant = $1 AND id >= $2 AND id < $3 ORDER BY id LIMIT 1 OFFSET {AT_ONCE}"
    );
    let values = [tenant.into(), ids.start.into(), ids.end.into()];
    let row = query_one(store.database.connection(), sql, values).await?;
    // With the event after the batch, its deliveries stay: theirs are the ids from its own on.
    row.map_or(Ok(ids.end), |row| column(&row, "id"))
}

/// Deletes the rows of a tenant with these ids, if the copy has all of them. Returns whether it has.
async fn delete(
    store: &Store,
    tenant: &str,
    ids: &Range<Uuid>,
    copied: &mut Copied<'_>,
) -> Result<bool, StoreError> {
    let transaction = store.database.begin().await?;
    if !has_all(&transaction, tenant, ids, copied).await? {
        transaction.rollback().await?;
        return Ok(false);
    }
    for table in [Table::Attempts, Table::Deliveries, Table::Events] {
        let (name, id) = (table.name(), table.id());
        let sql = format!("DELETE FROM {name} WHERE tenant = $1 AND {id} >= $2 AND {id} < $3");
        execute(&transaction, sql, [tenant.into(), ids.start.into(), ids.end.into()]).await?;
    }
    transaction.commit().await?;
    let vacuum = format!("PRAGMA incremental_vacuum({PAGES})");
    store.database.connection().execute_unprepared(&vacuum).await?;
    Ok(true)
}

async fn has_all(
    transaction: &Transaction,
    tenant: &str,
    ids: &Range<Uuid>,
    copied: &mut Copied<'_>,
) -> Result<bool, StoreError> {
    for table in Table::ALL {
        let mut after = FIRST;
        while let Some(page) = page(transaction, table, table.name(), tenant, ids, after).await? {
            if !page.rows.iter().all(&mut *copied) {
                return Ok(false);
            }
            after = page.last;
        }
    }
    Ok(true)
}

pub(super) async fn why_stays(store: &Store, day: &OldDay) -> Result<Option<Stays>, StoreError> {
    let connection = store.database.connection();
    let ids = day.ids();
    let mut dead = false;
    let mut tenant = String::new();
    while let Some(next) = tenant_after(store, &tenant).await? {
        tenant = next;
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM fan_outs WHERE tenant = $1 AND event_id >= $2 AND event_id < $3) \
                OR EXISTS (SELECT 1 FROM deliveries WHERE tenant = $1 AND id >= $2 AND id < $3 AND status = {PENDING}) \
                AS pending, \
            EXISTS (SELECT 1 FROM deliveries WHERE tenant = $1 AND id >= $2 AND id < $3 AND died_at > $4) AS dead"
        );
        let values = [tenant.as_str().into(), ids.start.into(), ids.end.into(), day.dead_until.into()];
        let Some(row) = query_one(connection, sql, values).await? else { continue };
        if column(&row, "pending")? {
            return Ok(Some(Stays::Pending));
        }
        dead |= column::<bool>(&row, "dead")?;
    }
    Ok(dead.then_some(Stays::DeadLetters))
}
