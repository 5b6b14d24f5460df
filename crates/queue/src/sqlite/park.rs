//! Setting jobs of paused lanes aside, and bringing them back, on SQLite.

use postrider_database::{Database, DatabaseError};
use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement, Value};
use uuid::Uuid;

use super::query;
use crate::error::QueueError;
use crate::row::column;
use crate::transactional::commit;

/// See the statements for PostgreSQL: the same, lane by lane.
pub(super) async fn park(database: &Database, max: u32) -> Result<u64, QueueError> {
    const AWAY: &str = "SELECT id, false AS probing FROM lanes \
        WHERE paused_until > CAST(unixepoch('subsec') * 1000 AS INTEGER) + 2000 AND NOT ordered \
            AND EXISTS (SELECT 1 FROM jobs WHERE jobs.lane = lanes.id AND jobs.state = 0) LIMIT 500";
    const BACK: &str = "SELECT id, probing FROM lanes \
        WHERE paused_until > 0 AND paused_until <= CAST(unixepoch('subsec') * 1000 AS INTEGER) AND parked \
            AND NOT (probing AND EXISTS (SELECT 1 FROM jobs WHERE jobs.lane = lanes.id AND jobs.state = 0)) LIMIT 500";
    let paused = query(database.connection(), AWAY, []).await?;
    let opened = query(database.connection(), BACK, []).await?;
    if paused.is_empty() && opened.is_empty() {
        return Ok(0);
    }
    let transaction = database.begin().await?;
    for lane in &paused {
        let lane: Uuid = column(lane, "id")?;
        if shift(&transaction, lane, (0, 2), max).await? > 0 {
            execute(&transaction, "UPDATE lanes SET parked = true WHERE id = $1", [lane.into()]).await?;
        }
    }
    let mut back = 0;
    for row in &opened {
        let lane: Uuid = column(row, "id")?;
        let most = if column::<bool>(row, "probing")? { 1 } else { max };
        let moved = shift(&transaction, lane, (2, 0), most).await?;
        if moved == 0 {
            let sql = "UPDATE lanes SET parked = false, \
                paused_until = CASE WHEN probing THEN paused_until ELSE 0 END WHERE id = $1";
            execute(&transaction, sql, [lane.into()]).await?;
        }
        back += moved;
    }
    commit(transaction).await?;
    Ok(back)
}

/// Moves the first jobs of a lane from one state to another.
async fn shift(
    transaction: &DatabaseTransaction,
    lane: Uuid,
    (from, to): (i16, i16),
    max: u32,
) -> Result<u64, QueueError> {
    // Spelled out, so that the partial index is found.
    let sql = format!(
        "UPDATE jobs SET state = {to} WHERE seq IN ( \
            SELECT seq FROM jobs WHERE lane = $1 AND state = {from} ORDER BY priority, seq LIMIT $2 \
        )"
    );
    execute(transaction, &sql, [lane.into(), i64::from(max).into()]).await
}

async fn execute(
    transaction: &DatabaseTransaction,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<u64, QueueError> {
    let statement = Statement::from_sql_and_values(transaction.get_database_backend(), sql, values);
    Ok(transaction.execute_raw(statement).await.map_err(DatabaseError::from)?.rows_affected())
}
