//! Transactions that commit everything or report that they did not.

use std::sync::atomic::{AtomicBool, Ordering};

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement};

use crate::raw::RawTransaction;
use crate::{Connection, DatabaseError};

/// An open transaction of [`Database::begin`](crate::Database::begin). Dropping it rolls it back.
///
/// Once a statement has failed, or its future was dropped before it ended, the database may have rolled back on its own
/// (SQLite's manual, "Transactions", §3) or answer the commit with a rollback (PostgreSQL's manual, §55.2.2.1). All that
/// is left then is to roll back: further statements and the commit are refused.
#[derive(Debug)]
pub struct Transaction {
    inner: RawTransaction,
    connection: Connection,
    broken: AtomicBool,
}

/// A connection with an open transaction: [`Transaction`], or an application's own `sea_orm::DatabaseTransaction`.
pub trait InTransaction: ConnectionTrait {}

impl InTransaction for Transaction {}
impl InTransaction for DatabaseTransaction {}

impl Transaction {
    pub(crate) fn new(inner: RawTransaction, connection: Connection) -> Self {
        Self { inner, connection, broken: AtomicBool::new(false) }
    }

    /// Commits.
    ///
    /// # Errors
    /// Fails with [`DatabaseError::Aborted`] if a statement failed or was cancelled, and then has rolled back. If the
    /// database fails the commit itself, whether it happened is unknown: the reply may have been lost.
    pub async fn commit(self) -> Result<(), DatabaseError> {
        let Self { inner, connection, broken } = self;
        if broken.into_inner() {
            return Err(DatabaseError::Aborted);
        }
        Ok(connection.watched(inner.commit().await)?)
    }

    /// Rolls back.
    ///
    /// # Errors
    /// Fails if the database is unavailable. Nothing is committed then either.
    pub async fn rollback(self) -> Result<(), DatabaseError> {
        Ok(self.inner.rollback().await?)
    }

    async fn run<T>(&self, statement: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(DbErr::Custom(AFTER_FAILURE.into()));
        }
        let unfinished = Unfinished(&self.broken);
        let done = self.connection.watched(statement.await);
        if done.is_ok() {
            std::mem::forget(unfinished);
        }
        done
    }
}

const AFTER_FAILURE: &str = "an earlier statement of the transaction failed, so it can only be rolled back";

/// A statement of which it is not known that it succeeded. Dropping this breaks the transaction.
struct Unfinished<'a>(&'a AtomicBool);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.run(self.inner.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.run(self.inner.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.run(self.inner.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.run(self.inner.query_all_raw(statement)).await
    }
}
