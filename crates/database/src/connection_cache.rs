//! A cache of connections for statements that run in a tight loop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::sqlx::{AssertSqlSafe, Connection as _, PgPool, Postgres, query_with};
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, SqlxError,
    Statement,
};
use sea_query_sqlx::SqlxValues;

use crate::Connection;

/// A connection that was used within this time is not pinged.
pub(crate) const TRUSTED: Duration = Duration::from_secs(5);

/// How long a connection may take to answer a ping.
const PING: Duration = Duration::from_secs(3);

/// How long a connection stays in the cache before it returns to the pool, which limits its age.
const LONGEST: Duration = Duration::from_mins(5);

/// Connections that are not returned to their pool after each statement. The pool pings a returned connection, which
/// costs a round trip.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCache {
    idle: Mutex<Vec<Cached>>,
    /// How many idle connections the cache may hold. Other users of the pool cannot get them.
    room: usize,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Cached {
    inner: PoolConnection<Postgres>,
    since: Instant,
    used_at: Instant,
}

impl ConnectionCache {
    pub(crate) fn with_room(room: usize) -> Self {
        Self { idle: Mutex::default(), room, closed: AtomicBool::new(false) }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.room > 0
    }

    pub(crate) fn idle(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Returns all connections to the pool, and caches none from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }

    async fn take(&self, pool: &PgPool) -> Result<Cached, DbErr> {
        loop {
            let cached = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut connection) = cached else { break };
            if connection.since.elapsed() > LONGEST {
                continue;
            }
            if connection.used_at.elapsed() < TRUSTED {
                return Ok(connection);
            }
            match tokio::time::timeout(PING, connection.inner.ping()).await {
                Ok(Ok(())) => return Ok(connection),
                // The pool would ping it once more, without a time limit.
                _ => connection.inner.close_on_drop(),
            }
        }
        let inner = pool.acquire().await.map_err(|error| match error {
            SqlxError::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
            SqlxError::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
            error => DbErr::Conn(RuntimeErr::SqlxError(error.into())),
        })?;
        let now = Instant::now();
        Ok(Cached { inner, since: now, used_at: now })
    }

    fn put_back(&self, mut connection: Cached) {
        connection.used_at = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.room && !self.closed.load(Ordering::SeqCst) {
            idle.push(connection);
        }
    }
}

/// The last handle of a database may be dropped outside of the runtime, where a connection cannot be returned.
impl Drop for ConnectionCache {
    fn drop(&mut self) {
        for connection in self.idle.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            drop(connection.inner.detach());
        }
    }
}

/// A connection for statements that run in a loop; see [`crate::Database::dedicated`].
#[derive(Clone, Copy, Debug)]
pub struct DedicatedConnection<'a> {
    pub(crate) connection: &'a Connection,
    /// `None` if nothing is cached.
    pub(crate) cache: Option<&'a ConnectionCache>,
}

/// A connection returns to the cache only after its statement succeeded. After an error, or if the caller drops the
/// future, it returns to the pool.
#[async_trait::async_trait]
impl ConnectionTrait for DedicatedConnection<'_> {
    fn get_database_backend(&self) -> DbBackend {
        self.connection.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let Some(cache) = self.cache else { return self.connection.execute_raw(statement).await };
        let mut connection = cache.take(self.connection.pool.get_postgres_connection_pool()).await?;
        let (sql, values) = parts(statement);
        let done = query_with(AssertSqlSafe(sql), values).execute(&mut *connection.inner).await;
        let done = done.map_err(|error| DbErr::Exec(RuntimeErr::SqlxError(error.into())));
        let done = self.connection.watched(done)?;
        cache.put_back(connection);
        Ok(done.into())
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.connection.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let Some(cache) = self.cache else { return self.connection.query_one_raw(statement).await };
        let mut connection = cache.take(self.connection.pool.get_postgres_connection_pool()).await?;
        let (sql, values) = parts(statement);
        let row = query_with(AssertSqlSafe(sql), values).fetch_optional(&mut *connection.inner).await;
        let row = row.map_err(|error| DbErr::Query(RuntimeErr::SqlxError(error.into())));
        let row = self.connection.watched(row)?;
        cache.put_back(connection);
        Ok(row.map(Into::into))
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let Some(cache) = self.cache else { return self.connection.query_all_raw(statement).await };
        let mut connection = cache.take(self.connection.pool.get_postgres_connection_pool()).await?;
        let (sql, values) = parts(statement);
        let rows = query_with(AssertSqlSafe(sql), values).fetch_all(&mut *connection.inner).await;
        let rows = rows.map_err(|error| DbErr::Query(RuntimeErr::SqlxError(error.into())));
        let rows = self.connection.watched(rows)?;
        cache.put_back(connection);
        Ok(rows.into_iter().map(Into::into).collect())
    }
}

/// Takes a statement apart without the copies that SeaORM would make.
fn parts(statement: Statement) -> (String, SqlxValues) {
    let values = statement.values.unwrap_or_else(|| sea_orm::Values(Vec::new()));
    (statement.sql, SqlxValues(values))
}
