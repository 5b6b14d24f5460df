//! The pool, for single statements.

use std::sync::Arc;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, Statement};

use crate::Dialect;
use crate::trouble::Watch;

/// The pool, for single statements; see [`Database::connection`](crate::Database::connection). Their errors become
/// [`Database::trouble`](crate::Database::trouble) if the database cannot write.
#[derive(Clone, Debug)]
pub struct Connection {
    pub(crate) pool: DatabaseConnection,
    pub(crate) watch: Arc<Watch>,
}

impl Connection {
    /// Takes note of an error.
    pub(crate) fn watched<T>(&self, result: Result<T, DbErr>) -> Result<T, DbErr> {
        result.inspect_err(|error| self.watch.note(error, &self.pool))
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Connection {
    fn get_database_backend(&self) -> DbBackend {
        self.pool.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.watched(self.pool.execute_raw(statement).await)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.watched(self.pool.execute_unprepared(sql).await)
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        // sqlx ends a statement on SQLite at its first row, and ignores the error if that commits what it wrote.
        if Dialect::of(self) == Dialect::Sqlite {
            let rows = self.watched(self.pool.query_all_raw(statement).await)?;
            return Ok(rows.into_iter().next());
        }
        self.watched(self.pool.query_one_raw(statement).await)
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.watched(self.pool.query_all_raw(statement).await)
    }
}
