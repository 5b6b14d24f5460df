//! Dropping partitions.

use postrider_core::Timestamp;
use postrider_database::sql::{column, query_all, query_one};
use postrider_database::{DatabaseError, Transaction};
use sea_orm::{ConnectionTrait as _, Value};

use super::{Age, Removed, Retention, Stays};
use crate::{Store, StoreError};

const NO_LIMIT: &str = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";

/// The most partitions that one call looks at.
const LOOKED_AT: u32 = 100;

/// Large values are in a table beside (TOAST), which has nothing but payloads; the others count by their average width.
const EXPIRING: &str = "\
    SELECT suffix, starts_at, ends_at, stripped, coalesce(sums.bytes, 0) AS bytes, \
        coalesce(sums.payload_bytes, 0) AS payload_bytes \
    FROM partitions CROSS JOIN LATERAL ( \
        SELECT sum(pg_total_relation_size(own.oid))::bigint AS bytes, \
            sum(CASE WHEN own.reltoastrelid <> 0 THEN pg_total_relation_size(own.reltoastrelid) ELSE 0 END \
                + (SELECT coalesce(sum(greatest(own.reltuples, 0) * (1 - null_frac) * avg_width), 0) FROM pg_stats \
                    WHERE schemaname = own.relnamespace::regnamespace::text AND tablename = own.relname \
                        AND attname IN ('envelope', 'first_response', 'first_exchange', 'response_headers', \
                            'response_body', 'exchange')) \
            )::bigint AS payload_bytes \
        FROM unnest(ARRAY['events_', 'deliveries_', 'attempts_']) AS name \
        JOIN pg_class AS own ON own.oid = to_regclass(name || suffix)) AS sums \
    WHERE starts_at <= $1 ORDER BY starts_at";

/// A partition that the retention removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiring {
    /// The end of its tables' names.
    pub suffix: String,
    /// It has the events from this moment,
    pub starts_at: Timestamp,
    /// until before this one.
    pub ends_at: Timestamp,
    /// When it goes, unless something in it is to stay. `None` if it is kept for ever.
    pub goes_at: Option<Timestamp>,
    /// What becomes of its payloads before it goes.
    pub payloads: Payloads,
    /// The size of its tables and indexes.
    pub bytes: u64,
    /// About how much of that are payloads, by PostgreSQL's statistics.
    pub payload_bytes: u64,
}

/// What becomes of the payloads of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payloads {
    /// They go with the partition.
    WithIt,
    /// They go at this moment, unless a delivery is pending; those of dead letters that are to be kept stay.
    GoAt(Timestamp),
    /// They have gone, except those of dead letters that are to be kept.
    Gone,
}

impl Store {
    /// Returns all partitions of PostgreSQL that have begun, with the moment at which each goes, oldest first.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn expiring(&self, retention: Retention) -> Result<Vec<Expiring>, StoreError> {
        let rows =
            query_all(&self.database.reads(), EXPIRING, [self.ids.clock().now().millis().into()]).await?;
        let read = |row| {
            let ends_at = Timestamp::from_millis(column(row, "ends_at")?);
            let goes_at = match retention.history {
                Age::Forever => None,
                Age::For(age) => Some(ends_at + age),
            };
            let payloads = match retention.payloads {
                _ if column(row, "stripped")? => Payloads::Gone,
                Age::For(age) if retention.payloads != retention.history => Payloads::GoAt(ends_at + age),
                _ => Payloads::WithIt,
            };
            Ok(Expiring {
                suffix: column(row, "suffix")?,
                starts_at: Timestamp::from_millis(column(row, "starts_at")?),
                ends_at,
                goes_at,
                payloads,
                bytes: u64::try_from(column::<i64>(row, "bytes")?).unwrap_or(0),
                payload_bytes: u64::try_from(column::<i64>(row, "payload_bytes")?).unwrap_or(0),
            })
        };
        rows.iter().map(read).collect()
    }
}

/// Drops the partitions that end before a moment, except those with pending deliveries, or with deliveries that did not
/// die before another; if there is no such moment, with any dead letters.
pub(super) async fn drop_partitions(
    store: &Store,
    before: Timestamp,
    dead_before: Option<Timestamp>,
) -> Result<Removed, StoreError> {
    let sql = format!("SELECT suffix FROM partitions WHERE ends_at <= $1 ORDER BY ends_at LIMIT {LOOKED_AT}");
    let rows = query_all(&store.database.reads(), sql, [before.millis().into()]).await?;
    let dead_until = dead_before.map_or(-1, |before| before.millis() - 1);
    let mut removed = Removed::default();
    for row in &rows {
        let suffix: String = column(row, "suffix")?;
        match drop_partition(store, &suffix, before, dead_until).await {
            Ok(done) => match &*done {
                "dropped" => removed.partitions.push(suffix),
                "pending" => removed.stay.push((suffix, Stays::Pending)),
                "dead" => removed.stay.push((suffix, Stays::DeadLetters)),
                _ => {}
            },
            // The function gave way to others.
            Err(error) if error.is_unavailable() => {
                removed.more = true;
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(removed)
}

async fn drop_partition(
    store: &Store,
    suffix: &str,
    before: Timestamp,
    dead_until: i64,
) -> Result<String, DatabaseError> {
    let values = vec![suffix.into(), before.millis().into(), dead_until.into()];
    run(store, "SELECT postrider_drop_partition($1, $2, $3) AS done", values).await
}

/// Calls a function that may read a whole partition, and returns what it did.
pub(super) async fn run(
    store: &Store,
    sql: &'static str,
    values: Vec<Value>,
) -> Result<String, DatabaseError> {
    let transaction = store.database.begin().await?;
    // It reads the whole partition, which takes longer than other statements may.
    transaction.execute_unprepared(NO_LIMIT).await?;
    let found = query_one(&transaction, sql, values).await;
    let row = ended(transaction, found).await?;
    row.map_or_else(|| Ok(String::new()), |row| column(&row, "done"))
}

/// Ends a transaction, so that its locks are free before the next step.
pub(super) async fn ended<T>(
    transaction: Transaction,
    result: Result<T, DatabaseError>,
) -> Result<T, DatabaseError> {
    match result {
        Ok(value) => {
            transaction.commit().await?;
            Ok(value)
        }
        Err(error) => {
            // The statement's error says more than that of a rollback.
            let _ = transaction.rollback().await;
            Err(error)
        }
    }
}
