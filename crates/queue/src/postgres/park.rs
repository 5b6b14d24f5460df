//! Setting jobs of paused lanes aside, and bringing them back.

use postrider_database::{Database, DatabaseError};
use sea_orm::{ConnectionTrait, Statement};

use crate::queue::QueueError;
use crate::row::count;

pub(super) async fn park(database: &Database, max: u32) -> Result<u64, QueueError> {
    let connection = database.connection();
    let mut back = 0;
    for sql in [AWAY, BACK] {
        let statement =
            Statement::from_sql_and_values(connection.get_database_backend(), sql, [i64::from(max).into()]);
        let row = connection.query_one_raw(statement).await.map_err(DatabaseError::from)?;
        back = row.map_or(Ok(0), |row| count(&row, "jobs"))?;
    }
    Ok(back)
}

/// Lanes that stay paused for a while. Ordered ones keep their jobs: what was enqueued meanwhile
/// must not overtake those set aside. A lane that is locked is left for the next time.
const AWAY: &str = "
WITH clock AS MATERIALIZED (
    SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS now
), paused AS MATERIALIZED (
    SELECT id FROM lanes, clock WHERE paused_until > now + 2000 AND NOT ordered
        AND EXISTS (SELECT 1 FROM jobs WHERE jobs.lane = lanes.id AND jobs.state = 0)
    LIMIT 500 FOR UPDATE OF lanes SKIP LOCKED
), picked AS MATERIALIZED (
    SELECT ready.id, paused.id AS lane FROM paused CROSS JOIN LATERAL (
        SELECT jobs.id FROM jobs WHERE state = 0 AND jobs.lane = paused.id
        ORDER BY priority, seq LIMIT $1 FOR UPDATE SKIP LOCKED
    ) AS ready LIMIT $1
), moved AS (
    UPDATE jobs SET state = 2 WHERE id = ANY (ARRAY(SELECT id FROM picked)) RETURNING lane
), marked AS (
    UPDATE lanes SET parked = true WHERE id IN (SELECT lane FROM moved) AND NOT parked
)
SELECT count(*) AS jobs FROM moved";

/// Lanes that are paused no more; a probing one needs a single job. A lane of which all has been
/// brought back is parked no more.
const BACK: &str = "
WITH clock AS MATERIALIZED (
    SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS now
), opened AS MATERIALIZED (
    SELECT id, probing FROM lanes, clock
    WHERE paused_until > 0 AND paused_until <= now AND parked
        AND NOT (probing AND EXISTS (SELECT 1 FROM jobs WHERE jobs.lane = lanes.id AND jobs.state = 0))
    LIMIT 500 FOR UPDATE OF lanes SKIP LOCKED
), picked AS MATERIALIZED (
    SELECT held.id, opened.id AS lane FROM opened CROSS JOIN LATERAL (
        SELECT jobs.id FROM jobs WHERE state = 2 AND jobs.lane = opened.id
        ORDER BY priority, seq LIMIT CASE WHEN opened.probing THEN 1 ELSE $1 END FOR UPDATE SKIP LOCKED
    ) AS held LIMIT $1
), moved AS (
    UPDATE jobs SET state = 0 WHERE id = ANY (ARRAY(SELECT id FROM picked)) RETURNING lane
), empty AS (
    UPDATE lanes SET parked = false, paused_until = CASE WHEN probing THEN paused_until ELSE 0 END
    WHERE id IN (SELECT id FROM opened) AND id NOT IN (SELECT lane FROM picked)
)
SELECT count(*) AS jobs FROM moved";
