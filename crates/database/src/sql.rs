//! Running hand-written statements.
//!
//! Statements number their parameters (`$1`, `$2`, …), which PostgreSQL and SQLite both understand.
//! A statement that serves many rows reads them from a [`crate::Batch`] instead. A statement whose parts have names, or
//! that is kept in a `.sql` file, is a [`Template`].

use std::sync::OnceLock;

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

/// A statement with placeholders, `{name}`, for parts that several statements share or that deserve a name.
///
/// The text is put together once for each dialect, and is the same from then on, so that the database prepares it once
/// for each connection. Its comment lines (`-- …`) are left out of it.
///
/// Parts are filled in list by list and, within a list, in order: a part may contain placeholders of parts that come
/// after it. Last come the parts that differ by dialect:
///
/// | placeholder | PostgreSQL | SQLite |
/// |---|---|---|
/// | `{now}` | [`Dialect::now`] | [`Dialect::now`] |
/// | `{least}`, `{greatest}` | `LEAST`, `GREATEST` | `min`, `max` |
///
/// ```
/// use postrider_database::Dialect;
/// use postrider_database::sql::Template;
///
/// const STATES: &[(&str, &str)] = &[("ready", "0")];
/// static OVERDUE: Template = Template::new(
///     "-- Ready for longer than this.
///      SELECT id FROM jobs WHERE state = {ready} AND available_at < {now} - $1",
///     &[STATES],
/// );
/// assert_eq!(
///     OVERDUE.on(Dialect::Sqlite),
///     "SELECT id FROM jobs WHERE state = 0 AND available_at < CAST(unixepoch('subsec') * 1000 AS INTEGER) - $1",
/// );
/// ```
#[derive(Debug)]
pub struct Template {
    text: &'static str,
    parts: &'static [&'static [Part]],
    postgres: OnceLock<String>,
    sqlite: OnceLock<String>,
}

/// The name of a placeholder, and the text that replaces it.
pub type Part = (&'static str, &'static str);

impl Template {
    /// A template of a statement, and the lists of parts that fill its placeholders.
    pub const fn new(text: &'static str, parts: &'static [&'static [Part]]) -> Self {
        Self { text, parts, postgres: OnceLock::new(), sqlite: OnceLock::new() }
    }

    /// The statement for `dialect`.
    pub fn on(&self, dialect: Dialect) -> &str {
        match dialect {
            Dialect::Postgres => self.postgres.get_or_init(|| self.fill(dialect)),
            Dialect::Sqlite => self.sqlite.get_or_init(|| self.fill(dialect)),
        }
    }

    fn fill(&self, dialect: Dialect) -> String {
        let (least, greatest) = match dialect {
            Dialect::Postgres => ("LEAST", "GREATEST"),
            Dialect::Sqlite => ("min", "max"),
        };
        let by_dialect = [("now", dialect.now()), ("least", least), ("greatest", greatest)];
        let lines =
            self.text.lines().map(str::trim).filter(|line| !line.starts_with("--") && !line.is_empty());
        let text = lines.collect::<Vec<_>>().join("\n");
        let parts = self.parts.iter().flat_map(|list| list.iter()).chain(&by_dialect);
        let filled = parts.fold(text, |text, (name, part)| text.replace(&format!("{{{name}}}"), part));
        debug_assert!(!filled.contains('{'), "a placeholder has no part: {filled}");
        filled
    }
}

fn statement(
    connection: &impl ConnectionTrait,
    sql: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
) -> Statement {
    Statement::from_sql_and_values(connection.get_database_backend(), sql, values)
}
