//! The options of each connection and of the pool.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use sea_orm::{ConnectOptions, SqlxError};

use crate::begin::settle;
use crate::connection_cache::TRUSTED;
use crate::failover::Failover;
use crate::{Config, Dialect, Pooler, session};

/// How long a connection may take to answer a ping when it is returned to the pool.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);

/// When the database last left an operation without an answer.
#[derive(Debug, Default)]
pub(crate) struct Silence(Mutex<Option<Instant>>);

impl Silence {
    /// For how long after that connections are pinged when they are returned.
    const SUSPECT: Duration = Duration::from_secs(30);

    pub(crate) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_recent(&self) -> bool {
        let at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        at.is_some_and(|at| at.elapsed() < Self::SUSPECT)
    }
}

/// The options of a pool. `server` is the one of PostgreSQL to begin with; SQLite has none.
pub(crate) fn of(
    config: &Config,
    silence: &Arc<Silence>,
    server: Option<(PgConnectOptions, Arc<Failover>)>,
) -> ConnectOptions {
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
        Some((server, failover)) => for_postgres(&mut options, config, silence, server, &failover),
        None => for_sqlite(&mut options),
    }
    options
}

fn for_postgres(
    options: &mut ConnectOptions,
    config: &Config,
    silence: &Arc<Silence>,
    server: PgConnectOptions,
    failover: &Arc<Failover>,
) {
    // Behind a pooler, settings of a session reach other clients, so they are those of the role.
    let set = match config.pooler {
        Pooler::None => session::set(&session::settings(config)),
        Pooler::Transaction => String::new(),
    };
    let (silence, failover) = (Arc::clone(silence), Arc::clone(failover));
    options
        .max_connections(config.max_connections)
        .map_sqlx_postgres_opts(move |_| server.clone())
        // A connection that was in use a moment ago is not pinged: a ping before each statement would double the round
        // trips.
        .test_before_acquire_if_idle_for(TRUSTED);
    options.map_sqlx_postgres_pool_opts(move |pool| {
        let (silence, set) = (Arc::clone(&silence), set.clone());
        let (connected, released) = (Arc::clone(&failover), Arc::clone(&failover));
        pool.after_connect(move |connection, _| {
            let (set, failover) = (set.clone(), Arc::clone(&connected));
            Box::pin(async move {
                failover.check(connection).await?;
                if set.is_empty() {
                    return Ok(());
                }
                connection.execute(AssertSqlSafe(set)).await.map(drop)
            })
        })
        // The pool pings a returned connection without a time limit, so one that hangs would hold its place for ever. It
        // is pinged here first, with a limit, for a while after the database was silent. Not always: that would be a
        // round trip for each statement.
        .after_release(move |connection, _| {
            let is_silent = silence.is_recent();
            released.seen();
            Box::pin(async move {
                if !is_silent {
                    return Ok(true);
                }
                let ping = tokio::time::timeout(RELEASE_TIMEOUT, connection.ping());
                ping.await.map_err(|_| SqlxError::PoolTimedOut)?.map(|()| true)
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
            .pragma("journal_mode", "WAL")
            // An acknowledged event must survive a power cut: FULL syncs at each commit.
            .pragma("synchronous", "FULL")
    });
    options.map_sqlx_sqlite_pool_opts(|pool| {
        pool.after_release(|connection, _| Box::pin(settle(connection)))
            .before_acquire(|connection, _| Box::pin(settle(connection)))
    });
}
