//! Removing roll-ups that are too old to be read.

use std::time::Instant;

use postrider_database::sql::execute;
use postrider_database::{Database, Dialect};

use super::span::Span;
use crate::StoreError;

/// The most old rows that one statement removes.
const REMOVED_AT_ONCE: i64 = 2_000;

/// Removes rows of these spans that are past their retention, until `until`.
pub(super) async fn remove_old(
    database: &Database,
    spans: &[Span],
    now: i64,
    until: Instant,
) -> Result<(), StoreError> {
    // By their physical place: a join could read all of the table. Rows that another process removes are left to it.
    let (place, chosen, lock) = match database.dialect() {
        Dialect::Postgres => ("ctid", "ctid = ANY (ARRAY", " FOR UPDATE SKIP LOCKED"),
        Dialect::Sqlite => ("rowid", "(rowid IN ", ""),
    };
    for &span in spans {
        let sql = format!(
            "DELETE FROM rollups WHERE {chosen}( \
                SELECT {place} FROM rollups WHERE span = $1 AND span >= 0 AND start < $2 \
                ORDER BY span, start LIMIT $3{lock}))"
        );
        while Instant::now() < until {
            let values = [span.code().into(), (now - span.retention()).into(), REMOVED_AT_ONCE.into()];
            if execute(database.connection(), &sql, values).await? < REMOVED_AT_ONCE.unsigned_abs() {
                break;
            }
        }
    }
    Ok(())
}
