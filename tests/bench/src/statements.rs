//! The programs' PostgreSQL statements, and their wait events.

use std::{collections::BTreeMap, time::Duration};

use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, Statement};
use tokio::{task::JoinHandle, time::sleep};

/// How often to sample wait events.
const LOOK: Duration = Duration::from_millis(50);

/// Resets the statement counts.
pub(crate) async fn reset(database: &DatabaseConnection) {
    execute(database, "SELECT pg_stat_statements_reset()").await;
}

/// The number of statements since the last reset, including `BEGIN` and `COMMIT`.
pub(crate) async fn count(database: &DatabaseConnection) -> f64 {
    let sql =
        "SELECT coalesce(sum(calls), 0)::float8 FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_%'";
    number(database, sql).await
}

/// A statement with its total cost.
#[derive(Debug)]
pub(crate) struct Costly {
    /// Milliseconds, including planning.
    pub(crate) time: f64,
    pub(crate) planning: f64,
    pub(crate) calls: f64,
    pub(crate) query: String,
}

/// The statements that took the most time.
pub(crate) async fn costliest(database: &DatabaseConnection) -> Vec<Costly> {
    let sql = "SELECT total_exec_time + total_plan_time AS time, total_plan_time AS planning, calls::float8 AS calls, regexp_replace(left(query, 4000), '\\s+', ' ', 'g') AS query \
        FROM pg_stat_statements ORDER BY time DESC LIMIT 12";
    let rows = database.query_all_raw(statement(sql)).await.expect("statements are counted");
    let read = |row: &sea_orm::QueryResult| {
        Some(Costly {
            time: row.try_get("", "time").ok()?,
            planning: row.try_get("", "planning").ok()?,
            calls: row.try_get("", "calls").ok()?,
            query: row.try_get("", "query").ok()?,
        })
    };
    rows.iter().filter_map(read).collect()
}

/// How many rows of each table were updated, and how many of those in place (HOT), without new index entries.
pub(crate) async fn updates(database: &DatabaseConnection) -> Vec<(String, f64, f64)> {
    let sql = "SELECT relname::text AS name, n_tup_upd::float8 AS updated, n_tup_hot_upd::float8 AS in_place \
        FROM pg_stat_user_tables WHERE n_tup_upd > 0 ORDER BY n_tup_upd DESC LIMIT 5";
    let rows = database.query_all_raw(statement(sql)).await.expect("updates are counted");
    let read = |row: &sea_orm::QueryResult| {
        Some((
            row.try_get("", "name").ok()?,
            row.try_get("", "updated").ok()?,
            row.try_get("", "in_place").ok()?,
        ))
    };
    rows.iter().filter_map(read).collect()
}

/// Samples the wait events of busy connections until the counts are read.
#[derive(Debug)]
pub(crate) struct Waits {
    looking: JoinHandle<()>,
    seen: std::sync::Arc<std::sync::Mutex<BTreeMap<String, u64>>>,
}

impl Waits {
    pub(crate) fn watch(database: DatabaseConnection) -> Self {
        let seen = std::sync::Arc::<std::sync::Mutex<BTreeMap<String, u64>>>::default();
        let into = std::sync::Arc::clone(&seen);
        let looking = tokio::spawn(async move {
            let sql = "SELECT coalesce(wait_event_type || ':' || wait_event, 'running') AS event, count(*) AS times \
                FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() GROUP BY 1";
            loop {
                sleep(LOOK).await;
                let Ok(rows) = database.query_all_raw(statement(sql)).await else { return };
                let mut seen = into.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                for row in rows {
                    let event: String = row.try_get("", "event").unwrap_or_default();
                    let times: i64 = row.try_get("", "times").unwrap_or_default();
                    *seen.entry(event).or_default() += u64::try_from(times).unwrap_or_default();
                }
            }
        });
        Self { looking, seen }
    }

    /// How often each wait event was sampled, the most frequent first.
    pub(crate) fn counts(&self) -> Vec<(String, u64)> {
        self.looking.abort();
        let seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut counts: Vec<(String, u64)> = seen.clone().into_iter().collect();
        counts.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        counts
    }
}

pub(crate) async fn execute(database: &DatabaseConnection, sql: &str) {
    database.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

pub(crate) async fn number(database: &DatabaseConnection, sql: &str) -> f64 {
    let row = database.query_one_raw(statement(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    row.and_then(|row| row.try_get_by_index(0).ok()).unwrap_or_default()
}

/// The number, or `None` if the statement fails.
pub(crate) async fn attempt(database: &DatabaseConnection, sql: &str) -> Option<f64> {
    database.query_one_raw(statement(sql)).await.ok()??.try_get_by_index(0).ok()
}

fn statement(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Postgres, sql)
}
