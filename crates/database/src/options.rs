//! The options of SeaORM's pools.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::ConnectOptions;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{AssertSqlSafe, Executor as _};

use crate::begin::settle;
use crate::failover::Failover;
use crate::{Config, Dialect, Pooler, session};

/// After how long an idle connection of SeaORM's pool is closed.
const IDLE: Duration = Duration::from_secs(1);

/// The options of a pool. `server` is the one of PostgreSQL to begin with; SQLite has none.
pub(crate) fn of(config: &Config, server: Option<(PgConnectOptions, Arc<Failover>)>) -> ConnectOptions {
    let mut options = match config.url.dialect() {
        // SeaORM logs and reports the URL as it is, so it gets none with a password.
        Dialect::Postgres => ConnectOptions::new("postgres://localhost"),
        Dialect::Sqlite => ConnectOptions::new(config.url.expose()),
    };
    options
        .acquire_timeout(config.acquire_timeout)
        .connect_timeout(config.acquire_timeout)
        .sqlx_logging(false)
        // Statements carry payloads and encrypted secrets, which spans must not show.
        .record_stmt_in_spans(false);
    match server {
        Some((server, failover)) => for_postgres(&mut options, config, server, &failover),
        None => for_sqlite(&mut options),
    }
    options
}

fn for_postgres(
    options: &mut ConnectOptions,
    config: &Config,
    server: PgConnectOptions,
    failover: &Arc<Failover>,
) {
    // Behind a pooler, settings of a session reach other clients, so they are those of the role.
    let set = match config.pooler {
        Pooler::None => session::set(&session::settings(config)),
        Pooler::Transaction => String::new(),
    };
    let failover = Arc::clone(failover);
    options
        .max_connections(config.max_connections)
        .idle_timeout(IDLE)
        // The first statement on our own connections shows whether the database answers.
        .connect_lazy(true)
        .map_sqlx_postgres_opts(move |_| server.clone());
    options.map_sqlx_postgres_pool_opts(move |pool| {
        let (set, failover) = (set.clone(), Arc::clone(&failover));
        pool.after_connect(move |connection, _| {
            let (set, failover) = (set.clone(), Arc::clone(&failover));
            Box::pin(async move {
                failover.check(connection).await?;
                if set.is_empty() {
                    return Ok(());
                }
                connection.execute(AssertSqlSafe(set)).await.map(drop)
            })
        })
    });
}

fn for_sqlite(options: &mut ConnectOptions) {
    // One connection: SQLite has one writer, and waiting for it in this process is fairer and faster than the sleeps of
    // SQLite's busy handler.
    options.max_connections(1).min_connections(1).idle_timeout(None).max_lifetime(None);
    options.map_sqlx_sqlite_opts(|options| {
        options
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10))
            // For new files: deleted rows give room back without a VACUUM of the whole file.
            .pragma("auto_vacuum", "INCREMENTAL")
            .pragma("journal_mode", "WAL")
            // An acknowledged event must survive a power cut: FULL syncs at each commit.
            .pragma("synchronous", "FULL")
    });
    options.map_sqlx_sqlite_pool_opts(|pool| {
        pool.after_release(|connection, _| Box::pin(settle(connection)))
            .before_acquire(|connection, _| Box::pin(settle(connection)))
    });
}
