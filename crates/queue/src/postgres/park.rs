//! Setting jobs of paused lanes aside, and bringing them back.

use std::sync::{Mutex, PoisonError};

use postrider_database::{Database, DatabaseError};
use sea_orm::{ConnectionTrait, QueryResult, Statement, Value};
use uuid::Uuid;

use crate::error::QueueError;
use crate::row::{column, count};

/// Looks through the lanes with ready jobs for those that are paused, some at a time.
#[derive(Debug, Default)]
pub(super) struct Parking {
    after: Mutex<Uuid>,
}

impl Parking {
    /// Returns how many jobs were brought back.
    pub(super) async fn park(&self, database: &Database, max: u32) -> Result<u64, QueueError> {
        let after = *self.after.lock().unwrap_or_else(PoisonError::into_inner);
        let away = run(database, AWAY, [i64::from(max).into(), after.into()]).await?;
        let next = away.map_or(Ok(None), |row| column(&row, "next"))?;
        *self.after.lock().unwrap_or_else(PoisonError::into_inner) = next.unwrap_or_default();
        let back = run(database, BACK, [i64::from(max).into()]).await?;
        back.map_or(Ok(0), |row| count(&row, "jobs"))
    }
}

async fn run<const N: usize>(
    database: &Database,
    sql: &str,
    values: [Value; N],
) -> Result<Option<QueryResult>, QueueError> {
    let connection = database.connection();
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    Ok(connection.query_one_raw(statement).await.map_err(DatabaseError::from)?)
}

/// Lanes that stay paused for a while, found by a walk as that of a claim. Ordered ones keep their jobs: what was
/// enqueued meanwhile must not overtake those set aside. A lane that is locked is left for the next time.
const AWAY: &str = "
WITH RECURSIVE clock AS MATERIALIZED (
    SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS now
), walk(lane, step) AS (
    (SELECT lane, 1 FROM jobs WHERE state = 0 AND lane > $2 AND EXISTS (SELECT 1 FROM lanes WHERE shut)
     ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT (SELECT jobs.lane FROM jobs WHERE state = 0 AND jobs.lane > walk.lane ORDER BY jobs.lane LIMIT 1), step + 1
    FROM walk WHERE walk.lane IS NOT NULL AND step < 200
), paused AS MATERIALIZED (
    SELECT id FROM lanes, clock
    WHERE id = ANY (ARRAY(SELECT lane FROM walk WHERE lane IS NOT NULL)) AND paused_until > now + 2000 AND NOT ordered
    FOR UPDATE OF lanes SKIP LOCKED
), picked AS MATERIALIZED (
    SELECT ready.place, paused.id AS lane FROM paused CROSS JOIN LATERAL (
        SELECT jobs.ctid AS place FROM jobs WHERE state = 0 AND jobs.lane = paused.id
        ORDER BY priority, seq LIMIT $1 FOR UPDATE SKIP LOCKED
    ) AS ready LIMIT $1
), moved AS (
    UPDATE jobs SET state = 2 WHERE ctid = ANY (ARRAY(SELECT place FROM picked)) RETURNING lane
), marked AS (
    UPDATE lanes SET parked = true WHERE id = ANY (ARRAY(SELECT lane FROM moved)) AND NOT parked
)
SELECT lane AS next FROM walk WHERE step = 200";

/// Lanes that are paused no more; a probing one needs a single job. A lane of which all has been
/// brought back is parked no more.
const BACK: &str = "
WITH clock AS MATERIALIZED (
    SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS now
), opened AS MATERIALIZED (
    SELECT id, probing FROM lanes
    WHERE paused_until > 0 AND paused_until <= (SELECT now FROM clock) AND parked
        AND NOT (probing AND (SELECT 1 FROM jobs WHERE jobs.lane = lanes.id AND jobs.state = 0 LIMIT 1) IS NOT NULL)
    LIMIT 500 FOR UPDATE SKIP LOCKED
), picked AS MATERIALIZED (
    SELECT held.place, opened.id AS lane FROM opened CROSS JOIN LATERAL (
        SELECT jobs.ctid AS place FROM jobs WHERE state = 2 AND jobs.lane = opened.id
        ORDER BY priority, seq LIMIT CASE WHEN opened.probing THEN 1 ELSE $1 END FOR UPDATE SKIP LOCKED
    ) AS held LIMIT $1
), moved AS (
    UPDATE jobs SET state = 0 WHERE ctid = ANY (ARRAY(SELECT place FROM picked)) RETURNING lane
), empty AS (
    UPDATE lanes SET parked = false, paused_until = CASE WHEN probing THEN paused_until ELSE 0 END
    WHERE id = ANY (ARRAY(SELECT id FROM opened))
        AND (SELECT 1 FROM jobs WHERE jobs.lane = lanes.id AND jobs.state = 2 LIMIT 1) IS NULL
)
SELECT count(*) AS jobs FROM moved";
