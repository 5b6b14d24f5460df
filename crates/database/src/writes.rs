//! Several writes as one statement.

use std::borrow::Cow;
use std::fmt::Write as _;

use sea_orm::sea_query::Value;
use sea_orm::{ConnectionTrait, DbErr, RuntimeErr, Statement};

use crate::{Batch, DatabaseError, Dialect};

/// Statements, each with rows of its own, that are sent as one.
///
/// Each statement has the form that [`Batch::execute`] takes: it reads its rows as the table `input`. On PostgreSQL all
/// of them become one statement, which takes one round trip and writes all or nothing without a transaction. They see the
/// same state of the database and nothing of each other (PostgreSQL's manual, §7.8.4), so none may depend on what another
/// writes; they lock rows in the order in which they were added. On SQLite they run one after the other; a caller that
/// needs all or nothing passes a transaction.
///
/// ```
/// use postrider_database::{Batch, Column, Kind, Writes};
///
/// const ID: &[Column] = &[Column::new("id", Kind::Big)];
/// let mut things = Batch::new(ID);
/// things.push([1_i64.into()]);
/// let mut writes = Writes::new();
/// writes.push(things, "INSERT INTO things (id) SELECT id FROM input");
/// writes.push(Batch::new(ID), "INSERT INTO others (id) SELECT id FROM input");
/// assert_eq!(writes.len(), 1, "a statement without rows is left out");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Writes(Vec<(Batch, Cow<'static, str>)>);

impl Writes {
    /// No statements.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a statement: an `INSERT`, `UPDATE` or `DELETE` that returns nothing and has no parameters except its rows.
    /// Without rows it is left out.
    pub fn push(&mut self, rows: Batch, statement: impl Into<Cow<'static, str>>) {
        if !rows.is_empty() {
            self.0.push((rows, statement.into()));
        }
    }

    /// The number of statements.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no statements.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Runs all statements.
    ///
    /// # Errors
    /// Fails if the database is unavailable or refuses a statement. If PostgreSQL refused one, nothing was written.
    pub async fn execute(self, connection: &impl ConnectionTrait) -> Result<(), DatabaseError> {
        if Dialect::of(connection) == Dialect::Sqlite {
            for (rows, statement) in self.0 {
                rows.execute(connection, &statement, []).await?;
            }
            return Ok(());
        }
        if let Some(statement) = one(Vec::new(), Vec::new(), self.0) {
            connection.execute_raw(statement).await?;
        }
        Ok(())
    }
}

/// [`Writes`] that happen only if expectations hold: on PostgreSQL only, and in one round trip.
///
/// The statement checks a condition before it writes ([`Guarded::expect`]), or by writing: a write that must change one
/// row for each row of its input ([`Guarded::push_exact`]) undoes everything if it does not. The latter is cheaper, but
/// PostgreSQL logs an error when it fails, so it is for assumptions that almost always hold.
///
/// ```
/// use postrider_database::{Batch, Column, Guarded, Kind};
///
/// const ID: &[Column] = &[Column::new("id", Kind::Big)];
/// let mut ids = Batch::new(ID);
/// ids.push([1_i64.into()]);
/// let mut guarded = Guarded::default();
/// guarded.expect(ids.clone(), "NOT EXISTS (SELECT 1 FROM locks WHERE thing IN (SELECT id FROM input))");
/// guarded.push_exact(ids, "DELETE FROM things USING input WHERE things.id = input.id");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Guarded {
    /// The writes.
    pub writes: Writes,
    exact: Writes,
    expected: Vec<(Batch, Cow<'static, str>)>,
}

impl Guarded {
    /// Writes without expectations.
    pub fn new(writes: Writes) -> Self {
        Self { writes, ..Self::default() }
    }

    /// Adds an expectation: nothing is written unless `condition` holds, a boolean SQL expression that reads its rows as
    /// the table `input`. It is evaluated only if the expectations added before it hold. Without rows it is left out.
    pub fn expect(&mut self, rows: Batch, condition: impl Into<Cow<'static, str>>) {
        if !rows.is_empty() {
            self.expected.push((rows, condition.into()));
        }
    }

    /// Adds a statement as [`Writes::push`] does, with the expectation that it changes as many rows as it is given. A
    /// `RETURNING` clause is appended to it.
    pub fn push_exact(&mut self, rows: Batch, statement: impl Into<Cow<'static, str>>) {
        self.exact.push(rows, statement);
    }

    /// Executes the writes if all expectations hold, and returns whether they did. If not, nothing was written.
    ///
    /// # Errors
    /// Fails if the database is unavailable or refuses the statement. SQLite refuses it.
    pub async fn execute(self, connection: &impl ConnectionTrait) -> Result<bool, DatabaseError> {
        let Some(statement) = one(self.expected, self.exact.0, self.writes.0) else { return Ok(true) };
        match connection.query_one_raw(statement).await {
            Ok(row) => Ok(row.map(|row| row.try_get("", "holds")).transpose()?.unwrap_or(false)),
            Err(error) if was_inexact(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Casting this text to a boolean fails, which undoes the statement. Operators read it in PostgreSQL's log.
const INEXACT: &str = "Postrider: a row changed concurrently; the statement was rolled back and will be retried on the slow path";

/// Returns whether an exact write failed: `invalid_text_representation` (PostgreSQL's manual, appendix A). No parameter
/// is sent as text, so nothing else can cause it.
fn was_inexact(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return false;
    };
    error.as_database_error().is_some_and(|error| error.code().is_some_and(|code| code == "22P02"))
}

/// Builds one statement for PostgreSQL. `None` if there is nothing to write.
fn one(
    expected: Vec<(Batch, Cow<'static, str>)>,
    exact: Vec<(Batch, Cow<'static, str>)>,
    writes: Vec<(Batch, Cow<'static, str>)>,
) -> Option<Statement> {
    if exact.is_empty() && writes.is_empty() {
        return None;
    }
    let (mut parameters, mut parts): (Vec<Value>, Vec<String>) = Default::default();
    // Each condition is evaluated if those before it hold, and all of them before anything is written.
    let mut holds = String::from("true");
    for (place, (rows, condition)) in expected.into_iter().enumerate() {
        let condition = format!("SELECT CASE WHEN {holds} THEN {condition} ELSE false END AS holds");
        let condition = rows.unnest(&condition, "", &mut parameters);
        parts.push(format!("expected_{place} AS MATERIALIZED ({condition})"));
        holds = format!("(SELECT holds FROM expected_{place})");
    }
    let filter = if parts.is_empty() { String::new() } else { format!(" WHERE {holds}") };
    // PostgreSQL allows writes only in top-level common table expressions, so the rows of each are a select within it.
    let mut written = String::new();
    for (place, (rows, statement)) in exact.into_iter().enumerate() {
        let wanted = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let statement = rows.unnest(&format!("{statement} RETURNING 1"), &filter, &mut parameters);
        parts.push(format!("exact_{place} AS ({statement})"));
        parameters.push(wanted.into());
        let of = parameters.len();
        write!(written, " WHEN (SELECT count(*) FROM exact_{place}) <> ${of} THEN '{INEXACT}'").ok()?;
    }
    // PostgreSQL runs those whose result nobody reads in the opposite order (`ExecPostprocessPlan`). So they lock rows in
    // the order in which they were added.
    for (place, (rows, statement)) in writes.into_iter().enumerate().rev() {
        parts.push(format!("write_{place} AS ({})", rows.unnest(&statement, &filter, &mut parameters)));
    }
    let all = if written.is_empty() {
        holds
    } else {
        format!("(CASE WHEN NOT {holds} THEN 'false'{written} ELSE 'true' END)::boolean")
    };
    let sql = format!("WITH {} SELECT {all} AS holds", parts.join(", "));
    Some(Statement::from_sql_and_values(Dialect::Postgres.backend(), sql, parameters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Column, Kind};

    #[test]
    fn parameters_are_numbered_across_statements() {
        const ROW: &[Column] = &[Column::new("id", Kind::Big), Column::nullable("note", Kind::Text)];
        let mut writes = Writes::new();
        for table in ["one", "two"] {
            let mut rows = Batch::new(ROW);
            rows.push([1_i64.into(), Option::<String>::None.into()]);
            writes.push(rows, format!("INSERT INTO {table} (id, note) SELECT id, note FROM input"));
        }
        writes.push(Batch::new(ROW), "INSERT INTO three (id, note) SELECT id, note FROM input");
        let statement = one(Vec::new(), Vec::new(), writes.0).unwrap();
        assert!(statement.sql.contains("write_1 AS (WITH input(id, note)"), "{}", statement.sql);
        assert!(
            statement.sql.contains("$4::bigint[]") && !statement.sql.contains("three"),
            "{}",
            statement.sql
        );
        assert_eq!(statement.values.map(|values| values.0.len()), Some(6));
    }
}
