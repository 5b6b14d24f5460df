//! Reading the rows of a day, page by page.

use std::ops::Range;

use bytes::Bytes;
use postrider_core::{DeliveryId, TenantId};
use postrider_database::DatabaseError;
use postrider_database::sql::{column, query_all, query_one};
use sea_orm::prelude::Uuid;
use sea_orm::{ConnectionTrait, FromQueryResult as _, QueryResult};

use super::OldDay;
use crate::deliveries::{self, Delivery, RecordedAttempt};
use crate::entity;
use crate::events::{self, Event};
use crate::row::parse;
use crate::{Store, StoreError};

/// The most rows of a page, and how many bytes of payloads and responses it holds. The row with which it exceeds them is its
/// last.
const PAGE: u32 = 500;
const PAGE_BYTES: u32 = 4 * 1024 * 1024;

/// A row of a day.
#[derive(Clone, Debug)]
pub enum Row {
    /// An event.
    Event {
        /// Its tenant.
        tenant: TenantId,
        /// The event.
        event: Event,
        /// The body of its deliveries; `None` if it is gone.
        envelope: Option<Bytes>,
    },
    /// A delivery.
    Delivery {
        /// Its tenant.
        tenant: TenantId,
        /// The delivery.
        delivery: Delivery,
        /// Its first attempt, if that one is in the delivery's row.
        first_attempt: Option<RecordedAttempt>,
    },
    /// An attempt that has a row of its own.
    Attempt {
        /// Its tenant.
        tenant: TenantId,
        /// The delivery that it belongs to.
        delivery: DeliveryId,
        /// The attempt.
        attempt: RecordedAttempt,
    },
}

/// The three tables, in the order in which they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Events,
    Deliveries,
    Attempts,
}

impl Table {
    pub(super) const ALL: [Self; 3] = [Self::Events, Self::Deliveries, Self::Attempts];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Deliveries => "deliveries",
            Self::Attempts => "attempts",
        }
    }

    /// The column of its ids, which tell the day.
    pub(super) const fn id(self) -> &'static str {
        match self {
            Self::Events | Self::Deliveries => "id",
            Self::Attempts => "delivery_id",
        }
    }
}

/// Where a page begins: after the row with this id, and, among attempts, after this one of the delivery with that id.
pub(super) type After = (Uuid, Uuid);

/// Before all rows.
pub(super) const FIRST: After = (Uuid::nil(), Uuid::nil());

/// All rows of a day: its events, then its deliveries, then its attempts, each by tenant and id.
#[derive(Debug)]
pub struct Rows<'a> {
    store: &'a Store,
    day: &'a OldDay,
    tables: std::slice::Iter<'static, Table>,
    table: Option<Table>,
    /// The tenant whose rows are read, or were last.
    tenant: String,
    /// After which row of this tenant to go on; `None` between two tenants.
    after: Option<After>,
}

impl Store {
    /// Reads all rows of a day. Rows that are written at the same time may be missing.
    pub fn rows_of<'a>(&'a self, day: &'a OldDay) -> Rows<'a> {
        let mut tables = Table::ALL.iter();
        let table = tables.next().copied();
        Rows { store: self, day, tables, table, tenant: String::new(), after: None }
    }
}

impl Rows<'_> {
    /// Returns the next rows, a few megabytes of them at most; nothing after the last one.
    ///
    /// # Errors
    /// Fails if the database is unavailable, or if PostgreSQL does not have the day any more.
    pub async fn next(&mut self) -> Result<Vec<Row>, StoreError> {
        let database = &self.store.database;
        let reads = database.reads();
        while let Some(table) = self.table {
            let name = self.day.table(database.dialect(), table.name());
            let Some(after) = self.after else {
                if let Some(tenant) = next_tenant(&reads, &name, &self.tenant).await? {
                    (self.tenant, self.after) = (tenant, Some(FIRST));
                } else {
                    (self.table, self.tenant) = (self.tables.next().copied(), String::new());
                }
                continue;
            };
            let page = page(&reads, table, &name, &self.tenant, &self.day.ids(), after).await?;
            self.after = page.as_ref().map(|page| page.last);
            if let Some(page) = page {
                return Ok(page.rows);
            }
        }
        Ok(Vec::new())
    }
}

/// Returns the tenant after `after` that has rows in a table.
pub(super) async fn next_tenant(
    connection: &impl ConnectionTrait,
    table: &str,
    after: &str,
) -> Result<Option<String>, DatabaseError> {
    let sql = format!("SELECT tenant FROM {table} WHERE tenant > $1 ORDER BY tenant LIMIT 1");
    let row = query_one(connection, sql, [after.into()]).await?;
    row.map(|row| column(&row, "tenant")).transpose()
}

/// Rows of one table and one tenant.
pub(super) struct TablePage {
    pub(super) rows: Vec<Row>,
    /// The place of the last one.
    pub(super) last: After,
}

/// Reads the rows of a tenant with these ids, in their order; `None` if there are no more.
pub(super) async fn page(
    connection: &impl ConnectionTrait,
    table: Table,
    name: &str,
    tenant: &str,
    ids: &Range<Uuid>,
    after: After,
) -> Result<Option<TablePage>, StoreError> {
    let mut values = vec![tenant.into(), ids.start.into(), ids.end.into(), after.0.into()];
    if table == Table::Attempts {
        values.push(after.1.into());
    }
    let found = query_all(connection, statement(table, name), values).await?;
    let Some(last) = found.last() else { return Ok(None) };
    let last = (column(last, table.id())?, column(last, "id")?);
    let tenant: TenantId = parse(tenant, table.name(), "tenant", tenant)?;
    let rows = found.iter().map(|row| read(table, row, &tenant)).collect::<Result<_, StoreError>>()?;
    Ok(Some(TablePage { rows, last }))
}

/// The statement that reads a page: its sizes first, so that only the rows of the page are read whole.
fn statement(table: Table, name: &str) -> String {
    let (columns, size, order, rest) = match table {
        Table::Events => (events::row_columns(), "coalesce(length(envelope), 0)", "id", "id > $4"),
        Table::Deliveries => (
            "*".to_owned(),
            "coalesce(length(first_response), 0) + coalesce(length(first_exchange), 0)",
            "id",
            "id > $4",
        ),
        Table::Attempts => (
            "*, CAST(NULL AS bytea) AS packed".to_owned(),
            "coalesce(length(response_headers), 0) + coalesce(length(response_body), 0) \
                + coalesce(length(error_detail), 0) + coalesce(length(exchange), 0)",
            "delivery_id, id",
            "(delivery_id, id) > ($4, $5)",
        ),
    };
    let (alias, id) = (table.name(), table.id());
    format!(
        "SELECT {columns} FROM ( \
            SELECT *, CAST(sum({size}) OVER (ORDER BY {order}) - ({size}) AS bigint) AS size_before FROM ( \
                SELECT * FROM {name} WHERE tenant = $1 AND {id} >= $2 AND {id} < $3 AND {rest} \
                ORDER BY {order} LIMIT {PAGE} \
            ) AS next \
        ) AS {alias} WHERE size_before < {PAGE_BYTES} ORDER BY {order}"
    )
}

fn read(table: Table, row: &QueryResult, tenant: &TenantId) -> Result<Row, StoreError> {
    let tenant = tenant.clone();
    match table {
        Table::Events => {
            let event = events::read_row(row)?;
            let envelope: Option<Vec<u8>> = column(row, "envelope")?;
            let envelope = envelope.filter(|_| event.payload_gone.is_none()).map(Bytes::from);
            Ok(Row::Event { tenant, event, envelope })
        }
        Table::Deliveries => {
            let model = entity::deliveries::Model::from_query_result(row, "")?;
            let first_attempt = deliveries::read_first_attempt(row)?;
            Ok(Row::Delivery { tenant, delivery: deliveries::read(&model)?, first_attempt })
        }
        Table::Attempts => {
            let delivery = DeliveryId::from_uuid(column(row, "delivery_id")?);
            Ok(Row::Attempt { tenant, delivery, attempt: deliveries::read_attempt(row, delivery)? })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_looked_up_by_the_primary_key() {
        let sql = statement(Table::Attempts, "attempts_20261127");
        assert!(sql.contains("FROM attempts_20261127 WHERE tenant = $1 AND delivery_id >= $2"), "{sql}");
        assert!(sql.contains("(delivery_id, id) > ($4, $5)"), "{sql}");
    }
}
