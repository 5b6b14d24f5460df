//! Roll-ups of attempts: how they are written, read and removed.
//!
//! Each recorded batch inserts deltas. A delta is a row that no other transaction writes to, so recording waits for no
//! lock. Folding ([`super::folding`]) adds deltas to the rows that hold their minute, hour and day (of UTC), and to
//! those that add up all subscribers and all event types. So a statistic reads one row for each point, whatever it
//! filters by.

use std::collections::HashMap;
use std::time::Instant;

use postrider_core::{SubscriberId, TenantId};
use postrider_database::sql::{column, execute, query_all};
use postrider_database::{Batch, Column, Database, DatabaseError, Dialect, Kind, Writes};
use sea_orm::QueryResult;
use uuid::Uuid;

use super::clock::{DAY, HOUR, MINUTE};
use super::key::Key;
use super::tally::Tally;
use crate::StoreError;
use crate::attempt::{Attempt, DeliveryRef};

/// How long rows are stored, by their width; both in minutes. Rows of days are stored for ever. Readers are promised a
/// day or two less, so that neither clock differences nor rounding makes them miss a row.
const RETENTION: [(i64, i64); 2] = [(MINUTE, 3 * DAY), (HOUR, 62 * DAY)];

/// The most old rows that one statement removes.
const REMOVED_AT_ONCE: i64 = 2_000;

/// The subscriber and the event type in the keys of rows that add up all of them. No real one has these values.
pub(crate) const ALL_SUBSCRIBERS: Uuid = Uuid::nil();
pub(crate) const ALL_EVENT_TYPES: &str = "";

/// Counts an attempt in the minute in which it began. A first attempt also counts how long its delivery waited for it,
/// in the minute in which the delivery was created.
pub(crate) fn count(
    tallies: &mut HashMap<Key, Tally>,
    delivery: &DeliveryRef,
    attempt: &Attempt,
    is_first: bool,
) {
    let key = |at| Key::new(&delivery.tenant, delivery.subscriber, &delivery.event_type, at);
    tallies.entry(key(attempt.started_at)).or_default().attempt(attempt);
    if is_first {
        let waited = tallies.entry(key(delivery.created_at)).or_default();
        waited.wait(delivery.created_at, attempt.started_at);
    }
}

/// Adds deltas to `writes`.
pub(crate) fn add(tallies: HashMap<Key, Tally>, writes: &mut Writes) {
    const DELTA: &[Column] = &[
        Column::new("tenant", Kind::Text),
        Column::new("subscriber_id", Kind::Uuid),
        Column::new("event_type", Kind::Text),
        Column::new("minute", Kind::Big),
        Column::new("attempts", Kind::Big),
        Column::new("counts", Kind::Bytes),
    ];
    let mut input = Batch::new(DELTA);
    for (key, tally) in tallies {
        input.push([
            key.tenant.as_str().into(),
            key.subscriber.uuid().into(),
            key.event_type.as_str().into(),
            key.minute.into(),
            stored_count(tally.attempts()).into(),
            tally.to_bytes().into(),
        ]);
    }
    let sql = "INSERT INTO attempt_deltas (tenant, subscriber_id, event_type, minute, attempts, counts) \
        SELECT tenant, subscriber_id, event_type, minute, attempts, counts FROM input";
    writes.push(input, sql);
}

/// Selects roll-ups: rows of one width, and the deltas that will be folded into them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selection<'a> {
    pub(crate) tenant: &'a TenantId,
    /// `None` selects the sum over all subscribers.
    pub(crate) subscriber: Option<SubscriberId>,
    /// `None` selects the sum over all event types.
    pub(crate) event_type: Option<&'a str>,
    /// The width of the rows, in minutes.
    pub(crate) width: i64,
    /// The first minute.
    pub(crate) from: i64,
    /// The minute after the last one.
    pub(crate) to: i64,
}

/// Reads tallies, each with the minute in which its row begins or for which its delta was written.
pub(crate) async fn read(
    database: &Database,
    selection: Selection<'_>,
) -> Result<Vec<(i64, Tally)>, StoreError> {
    // One statement sees one state of the database, so it finds no delta both folded and not folded. Width and start are
    // compared as one, which keeps PostgreSQL from using the index by age and reading the rows of all tenants.
    let sql = "SELECT start AS minute, counts FROM attempt_rollups \
            WHERE tenant = $1 AND subscriber_id = $2 AND event_type = $3 \
                AND (width, start) >= ($4, $5) AND (width, start) < ($4, $6) \
        UNION ALL SELECT minute, counts FROM attempt_deltas \
            WHERE tenant = $1 AND ($2 = $7 OR subscriber_id = $2) AND ($3 = $8 OR event_type = $3) \
                AND minute >= $5 AND minute < $6";
    let values = [
        selection.tenant.as_str().into(),
        selection.subscriber.map_or(ALL_SUBSCRIBERS, SubscriberId::uuid).into(),
        selection.event_type.unwrap_or(ALL_EVENT_TYPES).into(),
        selection.width.into(),
        selection.from.into(),
        selection.to.into(),
        ALL_SUBSCRIBERS.into(),
        ALL_EVENT_TYPES.into(),
    ];
    let rows = query_all(&database.reads(), sql, values).await?;
    rows.iter()
        .map(|row| {
            let minute = column(row, "minute")?;
            Ok((minute, tally(row, minute)?))
        })
        .collect()
}

/// Removes rows of minutes and hours that are past their retention, until `until`. Returns their number.
pub(super) async fn remove_old(database: &Database, now: i64, until: Instant) -> Result<u64, StoreError> {
    // Removed by their physical place: a join could read all of the table. Rows that another process removes are left to it.
    let (place, chosen, lock) = match database.dialect() {
        Dialect::Postgres => ("ctid", "ctid = ANY (ARRAY", " FOR UPDATE SKIP LOCKED"),
        Dialect::Sqlite => ("rowid", "(rowid IN ", ""),
    };
    let sql = format!(
        "DELETE FROM attempt_rollups WHERE {chosen}( \
            SELECT {place} FROM attempt_rollups WHERE width = $1 AND start < $2 \
            ORDER BY width, start LIMIT $3{lock}))"
    );
    let mut removed = 0;
    for (width, retention) in RETENTION {
        while Instant::now() < until {
            let values = [width.into(), (now - retention).into(), REMOVED_AT_ONCE.into()];
            let gone = execute(database.connection(), &sql, values).await?;
            removed += gone;
            if gone < REMOVED_AT_ONCE.unsigned_abs() {
                break;
            }
        }
    }
    Ok(removed)
}

/// Reads the tally of a roll-up or a delta, whose minute an error names.
pub(super) fn tally(row: &QueryResult, minute: i64) -> Result<Tally, StoreError> {
    let bytes: Vec<u8> = column(row, "counts")?;
    Tally::from_bytes(&bytes).ok_or_else(|| {
        let row = format!("(of minute {minute})");
        DatabaseError::inconsistent("attempt_rollups", "counts", row, "not the encoding of a tally").into()
    })
}

/// A count for its `bigint` column.
pub(super) fn stored_count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
