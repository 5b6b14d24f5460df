//! How much there is, at a cost that is bounded however much it is.

use postrider_database::{Database, DatabaseError};
use sea_orm::{ConnectionTrait, Statement};

use crate::error::QueueError;
use crate::job::Depth;
use crate::row;

/// Up to how many jobs of a state are counted. Of more than that PostgreSQL's own count is taken, which vacuum and analyze
/// leave with each index, and which is as old as they are: autovacuum looks once a minute (PostgreSQL's manual, §53.11).
const COUNTED: u32 = 10_000;

/// Each state has an index of its own.
const STATES: [(u8, &str); 4] =
    [(0, "jobs_ready"), (1, "jobs_scheduled"), (2, "jobs_held"), (3, "jobs_running")];

/// Of each lane the ready jobs that would be claimed first are looked at, of those that are new and of those that are
/// tried again: none waits longer.
const OLDEST: &str = "WITH RECURSIVE walk(lane, since) AS (
    (SELECT lane, available_at FROM jobs WHERE state = 0 ORDER BY lane, priority, seq LIMIT 1)
    UNION ALL
    SELECT next.lane, next.available_at FROM walk CROSS JOIN LATERAL (
        SELECT jobs.lane, jobs.available_at FROM jobs WHERE state = 0 AND jobs.lane > walk.lane
        ORDER BY jobs.lane, jobs.priority, jobs.seq LIMIT 1
    ) AS next
), oldest AS MATERIALIZED (
    SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint - min(LEAST(since, (
        SELECT available_at FROM jobs WHERE state = 0 AND jobs.lane = walk.lane AND priority = 1 ORDER BY seq LIMIT 1
    ))) AS oldest FROM walk
)";

pub(super) async fn depth(database: &Database) -> Result<Depth, QueueError> {
    let counts = STATES.map(|(state, index)| {
        format!(
            "SELECT {state}::smallint AS state, CASE WHEN jobs > {COUNTED} THEN \
                GREATEST(jobs, (SELECT reltuples::bigint FROM pg_class WHERE oid = '{index}'::regclass)) \
                ELSE jobs END AS jobs, (SELECT oldest FROM oldest) AS oldest \
            FROM (SELECT count(*) AS jobs FROM ( \
                SELECT 1 FROM jobs WHERE state = {state} LIMIT {COUNTED} + 1 \
            ) AS few) AS counted"
        )
    });
    let sql = format!("{OLDEST} {}", counts.join(" UNION ALL "));
    let connection = database.connection();
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    row::depth(&connection.query_all_raw(statement).await.map_err(DatabaseError::from)?)
}
