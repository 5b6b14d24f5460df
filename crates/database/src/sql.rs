//! Running hand-written statements.
//!
//! Statements number their parameters (`$1`, `$2`, …), which PostgreSQL and SQLite both understand.
//! A statement that serves many rows reads them from a [`crate::Batch`] instead.

use sea_orm::{ConnectionTrait, QueryResult, Statement, TryGetable, Value};

use crate::{DatabaseError, Dialect};

/// Runs a statement and returns all of its rows.
///
/// # Errors
/// Fails if the database is unavailable or refuses the statement.
pub async fn query_all(
    connection: &impl ConnectionTrait,
    sql: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<QueryResult>, DatabaseError> {
    Ok(connection.query_all_raw(statement(connection, sql, values)).await?)
}

/// Runs a statement and returns its first row; `None` if it has none.
///
/// # Errors
/// Fails if the database is unavailable or refuses the statement.
pub async fn query_one(
    connection: &impl ConnectionTrait,
    sql: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
) -> Result<Option<QueryResult>, DatabaseError> {
    Ok(connection.query_one_raw(statement(connection, sql, values)).await?)
}

/// Runs a statement and returns the number of rows that it changed.
///
/// # Errors
/// Fails if the database is unavailable or refuses the statement.
pub async fn execute(
    connection: &impl ConnectionTrait,
    sql: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
) -> Result<u64, DatabaseError> {
    Ok(connection.execute_raw(statement(connection, sql, values)).await?.rows_affected())
}

/// Reads a column of a row.
///
/// # Errors
/// Fails if the row has no such column or holds a value of another type.
pub fn column<T: TryGetable>(row: &QueryResult, name: &str) -> Result<T, DatabaseError> {
    Ok(row.try_get("", name)?)
}

/// The end of a `SELECT` that locks its rows: `FOR UPDATE` on PostgreSQL, and nothing on SQLite, whose only write
/// transaction has the whole database to itself.
pub const fn lock_clause(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => " FOR UPDATE",
        Dialect::Sqlite => "",
    }
}

fn statement(
    connection: &impl ConnectionTrait,
    sql: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
) -> Statement {
    Statement::from_sql_and_values(connection.get_database_backend(), sql, values)
}
