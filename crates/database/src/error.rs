//! Errors of the database, and whether the same call may succeed later.

use std::time::Duration;

use sea_orm::sqlx::postgres::PgDatabaseError;
use sea_orm::{DbErr, RuntimeErr};

use crate::{ConfigError, PoolerError};

/// A database error.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The database cannot be reached, is overloaded, or rolled the transaction back for its own reasons. The same call
    /// may succeed later.
    #[error("the database is unavailable")]
    Unavailable(#[source] DbErr),
    /// The database answers but cannot write: its disk is full, it has become read-only, or its files cannot be read or
    /// written. The same call may succeed once that has changed; [`Database::trouble`](crate::Database::trouble) has logged
    /// it.
    #[error("the database cannot write")]
    CannotWrite(#[source] DbErr),
    /// A statement of the transaction failed or was cancelled, so nothing was committed.
    #[error("nothing was committed, because a statement of the transaction failed or was cancelled")]
    Aborted,
    /// The configuration of the connection is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database stores texts in another encoding than UTF8, in which some cannot be stored.
    #[error(
        "the database has the encoding {0}: create one with ENCODING 'UTF8' TEMPLATE template0, since events hold any Unicode text"
    )]
    Encoding(String),
    /// The pooler before the database is not what the configuration says, or will not do.
    #[error(transparent)]
    Pooler(#[from] PoolerError),
    /// The database did not answer for this long.
    #[error("the database has not answered for {0:?}")]
    Silent(Duration),
    /// The statement or its values are wrong, or the schema is not the expected one.
    #[error("the database rejected a statement")]
    Refused(#[source] DbErr),
    /// A row holds a value that the program cannot read.
    #[error("cannot read column `{column}` of table `{table}`, row {row}: {reason}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's id, or what identifies it.
        row: String,
        /// What is wrong with the value.
        reason: String,
    },
}

impl DatabaseError {
    /// Returns whether the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::CannotWrite(_) | Self::Silent(_))
    }

    /// Returns whether PostgreSQL refused a statement because it names a table that does not exist.
    pub fn is_missing_table(&self) -> bool {
        let Self::Refused(error) = self else { return false };
        let database = sqlx(error).and_then(|error| error.as_database_error());
        database.and_then(sqlx_core::error::DatabaseError::code).is_some_and(|code| code == "42P01")
    }

    /// A row with a value that the program cannot read. `row` is its id, or what identifies it.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "callers pass ids and texts that they do not need afterwards"
    )]
    pub fn inconsistent(
        table: &'static str,
        column: &'static str,
        row: impl ToString,
        reason: impl ToString,
    ) -> Self {
        Self::Inconsistent { table, column, row: row.to_string(), reason: reason.to_string() }
    }
}

impl From<DbErr> for DatabaseError {
    fn from(error: DbErr) -> Self {
        match class(&error) {
            Class::CannotWrite => Self::CannotWrite(error),
            Class::Passing => Self::Unavailable(error),
            Class::Lasting => Self::Refused(error),
        }
    }
}

/// Returns whether any error in the chain of `error` says that the database cannot write. [`Database::trouble`] has logged
/// it, so it is not worth a line of its own.
///
/// [`Database::trouble`]: crate::Database::trouble
pub fn comes_from_trouble(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut chain = std::iter::successors(Some(error), |error| error.source());
    chain.any(|error| error.downcast_ref().is_some_and(cannot_write))
}

/// What an error says about the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// It cannot write until somebody has changed that.
    CannotWrite,
    /// It is unavailable, or rolled back for its own reasons. The same call may succeed later.
    Passing,
    /// The same call will fail again.
    Lasting,
}

fn class(error: &DbErr) -> Class {
    match sqlx(error) {
        Some(error) if is_stale_plan(error) => Class::Passing,
        Some(sea_orm::SqlxError::Database(error)) => {
            error.code().map_or(Class::Lasting, |code| of_code(&code))
        }
        Some(
            sea_orm::SqlxError::Io(_)
            | sea_orm::SqlxError::Tls(_)
            | sea_orm::SqlxError::Protocol(_)
            | sea_orm::SqlxError::PoolTimedOut
            | sea_orm::SqlxError::PoolClosed
            | sea_orm::SqlxError::WorkerCrashed,
        ) => Class::Passing,
        _ if matches!(error, DbErr::ConnectionAcquire(_) | DbErr::Conn(_)) => Class::Passing,
        _ => Class::Lasting,
    }
}

/// The class of a code: one of PostgreSQL's SQLSTATEs (its manual, appendix A), which have five characters, or one of
/// SQLite's result codes, whose last byte is the primary one.
fn of_code(code: &str) -> Class {
    const CANNOT_WRITE: [&str; 3] = ["25006", "53100", "58030"]; // read-only, disk full, I/O
    const PASSING: [&str; 2] = ["25P03", "55P03"]; // idle transaction, lock
    /// Connection, rolled back, out of resources, operator intervention, system error.
    const PASSING_CLASSES: [&str; 5] = ["08", "40", "53", "57", "58"];
    if code.len() == 5 {
        return match code {
            code if CANNOT_WRITE.contains(&code) => Class::CannotWrite,
            code if PASSING.contains(&code) => Class::Passing,
            code if PASSING_CLASSES.iter().any(|class| code.starts_with(class)) => Class::Passing,
            _ => Class::Lasting,
        };
    }
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(7 | 8 | 10 | 13 | 14) => Class::CannotWrite, // NOMEM, READONLY, IOERR, FULL, CANTOPEN
        Ok(5 | 6 | 9 | 15) => Class::Passing,           // BUSY, LOCKED, INTERRUPT, PROTOCOL
        _ => Class::Lasting,
    }
}

fn sqlx(error: &DbErr) -> Option<&sea_orm::SqlxError> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}

/// Returns whether an error says that the database cannot write.
pub(crate) fn cannot_write(error: &DbErr) -> bool {
    class(error) == Class::CannotWrite
}

/// The database's own words, without what our libraries say around them.
pub(crate) fn own_words(error: &DbErr) -> String {
    match sqlx(error) {
        Some(sea_orm::SqlxError::Database(error)) => error.message().to_owned(),
        _ => error.to_string(),
    }
}

/// Returns whether a statement found its connection dead. A connection that could not be established is not meant.
pub(crate) fn is_dead_connection(error: &DbErr) -> bool {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            is_dead(error)
        }
        _ => false,
    }
}

/// Returns whether a connection broke, PostgreSQL ended it (57P01 to 57P05, and class 08), or its plans are stale.
fn is_dead(error: &sea_orm::SqlxError) -> bool {
    match error {
        sea_orm::SqlxError::Io(_)
        | sea_orm::SqlxError::Tls(_)
        | sea_orm::SqlxError::Protocol(_)
        | sea_orm::SqlxError::WorkerCrashed => true,
        sea_orm::SqlxError::Database(_) if is_stale_plan(error) => true,
        sea_orm::SqlxError::Database(error) => error
            .code()
            .is_some_and(|code| code.starts_with("57P0") || code.len() == 5 && code.starts_with("08")),
        _ => false,
    }
}

/// Returns whether a prepared statement of the connection has become invalid, because a migration has changed the columns
/// that it returns. Nothing was done, and another connection prepares the statement again.
pub(crate) fn is_stale_plan(error: &sea_orm::SqlxError) -> bool {
    let sea_orm::SqlxError::Database(error) = error else { return false };
    // The message, "cached plan must not change result type", is in the language of the server.
    let routine = error.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::routine);
    error.code().is_some_and(|code| code == "0A000") && routine == Some("RevalidateCachedQuery")
}

/// Returns whether a connection cannot be used any more: it is dead, lost its transaction (25P03), or leads to a server
/// that has become read-only (25006), while the primary may be elsewhere now.
pub(crate) fn is_of_connection(error: &sea_orm::SqlxError) -> bool {
    let code = error.as_database_error().and_then(sqlx_core::error::DatabaseError::code);
    is_dead(error) || code.is_some_and(|code| matches!(&*code, "25P03" | "25006"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_classified() {
        let classes = [
            ("25006", Class::CannotWrite),
            ("53100", Class::CannotWrite),
            ("53300", Class::Passing),
            ("40P01", Class::Passing),
            ("23505", Class::Lasting),
            ("13", Class::CannotWrite),   // SQLITE_FULL
            ("4874", Class::CannotWrite), // SQLITE_IOERR_SHMSIZE
            ("1546", Class::CannotWrite), // SQLITE_IOERR_TRUNCATE
            ("1032", Class::CannotWrite), // SQLITE_READONLY_DBMOVED
            ("517", Class::Passing),      // SQLITE_BUSY_SNAPSHOT
            ("9", Class::Passing),        // SQLITE_INTERRUPT
            ("11", Class::Lasting),       // SQLITE_CORRUPT
            ("26", Class::Lasting),       // SQLITE_NOTADB
            ("2067", Class::Lasting),     // SQLITE_CONSTRAINT_UNIQUE
        ];
        for (code, class) in classes {
            assert_eq!(of_code(code), class, "{code}");
        }
    }
}
