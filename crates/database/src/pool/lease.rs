//! A connection that is in use.

use std::sync::Arc;

use sea_orm::sqlx::postgres::{PgConnection, PgQueryResult, PgRow};
use sea_orm::sqlx::{AssertSqlSafe, Executor as _, query_with};
use sea_orm::{DbErr, RuntimeErr, SqlxError, Statement, Values};
use sea_query_sqlx::SqlxValues;
use tokio::time::Instant;

use super::{Inner, OLDEST};
use crate::Purpose;
use crate::error::is_of_connection;

/// A connection that is open.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) connection: PgConnection,
    pub(super) opened_at: Instant,
    pub(super) used_at: Instant,
}

impl Live {
    /// Returns whether it may be used again, when a connection last failed at `failed_at`.
    pub(super) fn is_usable(&self, failed_at: Option<Instant>) -> bool {
        self.opened_at.elapsed() < OLDEST && failed_at.is_none_or(|failed_at| failed_at < self.opened_at)
    }
}

/// A connection that is in use, or the right to open one. Dropping it gives it back.
///
/// If the caller drops the future of a statement, the connection is closed, and PostgreSQL ends the statement.
#[derive(Debug)]
pub(crate) struct Lease {
    inner: Arc<Inner>,
    purpose: Purpose,
    live: Option<Live>,
    /// Whether a statement runs whose answer has not been read.
    is_running: bool,
}

impl Lease {
    pub(super) fn new(inner: Arc<Inner>, purpose: Purpose, live: Option<Live>) -> Self {
        Self { inner, purpose, live, is_running: false }
    }

    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<PgQueryResult, DbErr> {
        let (sql, values) = parts(statement);
        let connection = self.start()?;
        let done = query_with(AssertSqlSafe(sql), values).execute(connection).await;
        self.end(done).map_err(|error| DbErr::Exec(RuntimeErr::SqlxError(error.into())))
    }

    pub(crate) async fn execute_unprepared(&mut self, sql: String) -> Result<PgQueryResult, DbErr> {
        let connection = self.start()?;
        let done = connection.execute(AssertSqlSafe(sql)).await;
        self.end(done).map_err(|error| DbErr::Exec(RuntimeErr::SqlxError(error.into())))
    }

    pub(crate) async fn query_one(&mut self, statement: Statement) -> Result<Option<PgRow>, DbErr> {
        let (sql, values) = parts(statement);
        let connection = self.start()?;
        let row = query_with(AssertSqlSafe(sql), values).fetch_optional(connection).await;
        self.end(row).map_err(|error| DbErr::Query(RuntimeErr::SqlxError(error.into())))
    }

    pub(crate) async fn query_all(&mut self, statement: Statement) -> Result<Vec<PgRow>, DbErr> {
        let (sql, values) = parts(statement);
        let connection = self.start()?;
        let rows = query_with(AssertSqlSafe(sql), values).fetch_all(connection).await;
        self.end(rows).map_err(|error| DbErr::Query(RuntimeErr::SqlxError(error.into())))
    }

    pub(super) fn live_mut(&mut self) -> Option<&mut Live> {
        self.live.as_mut()
    }

    pub(super) fn opened(&mut self, connection: PgConnection) {
        let now = Instant::now();
        self.live = Some(Live { connection, opened_at: now, used_at: now });
    }

    /// The connection, for a statement whose answer [`Lease::end`] takes note of.
    pub(super) fn start(&mut self) -> Result<&mut PgConnection, DbErr> {
        self.is_running = true;
        match &mut self.live {
            Some(live) => Ok(&mut live.connection),
            None => Err(DbErr::Conn(RuntimeErr::Internal("the connection was lost".to_owned()))),
        }
    }

    /// Takes note of the answer to a statement. If it says that the connection is dead, or leads to a server that cannot
    /// write, the connection is closed, and every other one that was opened before now is not used again.
    pub(super) fn end<T>(&mut self, answer: Result<T, SqlxError>) -> Result<T, SqlxError> {
        self.is_running = false;
        if let Some(live) = &mut self.live {
            live.used_at = Instant::now();
        }
        match &answer {
            Ok(_) => self.inner.failover.seen(),
            Err(error) if is_of_connection(error) => {
                self.live = None;
                self.inner.distrust();
            }
            Err(_) => {}
        }
        answer
    }

    pub(crate) fn is_running(&self) -> bool {
        self.is_running
    }

    /// Closes the connection.
    pub(crate) fn discard(mut self) {
        self.live = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let live = self.live.take();
        let is_running = self.is_running && live.is_some();
        // Closed before it is counted as free.
        let live = live.filter(|_| !is_running);
        self.inner.put_back(self.purpose, live, is_running);
    }
}

/// Takes a statement apart without the copies that SeaORM would make.
fn parts(statement: Statement) -> (String, SqlxValues) {
    let values = statement.values.unwrap_or_else(|| Values(Vec::new()));
    (statement.sql, SqlxValues(values))
}
