//! Parking jobs of paused lanes on SQLite, and making them ready again.

use postrider_database::sql::{Template, column, execute, query_all};
use postrider_database::{Database, DatabaseError, Dialect, Transaction};
use uuid::Uuid;

use crate::error::QueueError;
use crate::tables::{PARKING, STATES};
use crate::transactional::commit;

/// Lanes that stay paused for a while and have ready jobs.
static PAUSED: Template = Template::new(
    "SELECT id FROM lanes
     WHERE paused_until > {now} + {worth_parking} AND NOT ordered AND NOT draining
         AND EXISTS (SELECT 1 FROM jobs WHERE jobs.lane = lanes.id AND jobs.state = {ready})
     LIMIT {lanes_opened_at_once}",
    &[PARKING, STATES],
);

/// Lanes with parked jobs whose pause is over. A probing lane needs a job only if it has none that is ready.
static OPENED: Template = Template::new(
    "SELECT id, probing FROM lanes
     WHERE paused_until > 0 AND paused_until <= {now} AND parked AND NOT draining
         AND NOT (probing AND EXISTS (SELECT 1 FROM jobs WHERE jobs.lane = lanes.id AND jobs.state = {ready}))
     LIMIT {lanes_opened_at_once}",
    &[PARKING, STATES],
);

static PARK: Template = Template::new(
    "UPDATE jobs SET state = {parked} WHERE seq IN (
         SELECT seq FROM jobs WHERE lane = $1 AND state = {ready} ORDER BY priority, seq LIMIT $2
     )",
    &[STATES],
);

static UNPARK: Template = Template::new(
    "UPDATE jobs SET state = {ready} WHERE seq IN (
         SELECT seq FROM jobs WHERE lane = $1 AND state = {parked} ORDER BY priority, seq LIMIT $2
     )",
    &[STATES],
);

/// Does the same as `postgres/park.sql` and `postgres/unpark.sql`, lane by lane. Returns how many jobs became ready.
pub(super) async fn park(database: &Database, max: u32) -> Result<u64, QueueError> {
    let connection = database.connection();
    let paused = query_all(connection, PAUSED.on(Dialect::Sqlite), []).await?;
    let opened = query_all(connection, OPENED.on(Dialect::Sqlite), []).await?;
    if paused.is_empty() && opened.is_empty() {
        return Ok(0);
    }
    let transaction = database.begin().await?;
    for row in &paused {
        let lane: Uuid = column(row, "id")?;
        if shift(&transaction, &PARK, lane, max).await? > 0 {
            execute(&transaction, "UPDATE lanes SET parked = true WHERE id = $1", [lane.into()]).await?;
        }
    }
    let mut ready = 0;
    for row in &opened {
        let lane: Uuid = column(row, "id")?;
        let most = if column(row, "probing")? { 1 } else { max };
        let moved = shift(&transaction, &UNPARK, lane, most).await?;
        if moved == 0 {
            let sql = "UPDATE lanes SET parked = false, \
                paused_until = CASE WHEN probing THEN paused_until ELSE 0 END WHERE id = $1";
            execute(&transaction, sql, [lane.into()]).await?;
        }
        ready += moved;
    }
    commit(transaction).await?;
    Ok(ready)
}

/// Moves the first jobs of a lane from one state to another.
async fn shift(
    transaction: &Transaction,
    statement: &Template,
    lane: Uuid,
    max: u32,
) -> Result<u64, DatabaseError> {
    execute(transaction, statement.on(Dialect::Sqlite), [lane.into(), i64::from(max).into()]).await
}
