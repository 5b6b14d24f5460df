//! The connections of a database, for single statements.

use std::sync::Arc;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};

use crate::error::is_dead_connection;
use crate::pool::{Lease, Pool};
use crate::source::Source;
use crate::trouble::Watch;
use crate::{Dialect, Purpose};

/// A database's connections, for single statements; see [`Database::connection`](crate::Database::connection). Errors
/// become [`Database::trouble`](crate::Database::trouble) if they say that the database cannot write.
///
/// If the caller drops the future of a statement, PostgreSQL ends the statement within a second.
#[derive(Clone, Debug)]
pub struct Connection {
    pub(crate) source: Source,
    /// Whether a statement that found its connection dead runs once more.
    pub(crate) repeats: bool,
    pub(crate) watch: Arc<Watch>,
}

impl Connection {
    /// The same connections, for statements that only read: one that finds its connection dead runs once more, on another.
    pub(crate) fn reading(&self) -> Self {
        Self { repeats: true, ..self.clone() }
    }

    pub(crate) fn serving(&self, purpose: Purpose) -> Self {
        Self { source: Source { purpose, ..self.source.clone() }, ..self.clone() }
    }

    /// Takes note of an error.
    pub(crate) fn watched<T>(&self, result: Result<T, DbErr>) -> Result<T, DbErr> {
        result.inspect_err(|error| self.watch.note(error, &self.source))
    }

    async fn lease(&self, pool: &Pool) -> Result<Lease, DbErr> {
        self.watched(pool.acquire(self.source.purpose).await)
    }
}

/// Runs a statement on one of our own connections, and once more if it only reads and the connection was dead.
macro_rules! run {
    ($self:ident, $pool:ident, $method:ident, $statement:ident) => {{
        let again = $self.repeats.then(|| $statement.clone());
        // The lease ends with the statement.
        let done = $self.lease($pool).await?.$method($statement).await;
        match (done, again) {
            (Err(error), Some(statement)) if is_dead_connection(&error) => {
                $self.lease($pool).await?.$method(statement).await
            }
            (done, _) => done,
        }
    }};
}

#[async_trait::async_trait]
impl ConnectionTrait for Connection {
    fn get_database_backend(&self) -> DbBackend {
        self.source.backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let Some(pool) = &self.source.own else {
            return self.watched(self.source.shared.execute_raw(statement).await);
        };
        self.watched(run!(self, pool, execute, statement)).map(Into::into)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let Some(pool) = &self.source.own else {
            return self.watched(self.source.shared.execute_unprepared(sql).await);
        };
        let sql = sql.to_owned();
        self.watched(run!(self, pool, execute_unprepared, sql)).map(Into::into)
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        if let Some(pool) = &self.source.own {
            return Ok(self.watched(run!(self, pool, query_one, statement))?.map(Into::into));
        }
        // sqlx ends a statement on SQLite at its first row, and ignores the error if that commits what it wrote.
        if Dialect::of(self) == Dialect::Sqlite {
            let rows = self.watched(self.source.shared.query_all_raw(statement).await)?;
            return Ok(rows.into_iter().next());
        }
        self.watched(self.source.shared.query_one_raw(statement).await)
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let Some(pool) = &self.source.own else {
            return self.watched(self.source.shared.query_all_raw(statement).await);
        };
        Ok(self.watched(run!(self, pool, query_all, statement))?.into_iter().map(Into::into).collect())
    }
}
