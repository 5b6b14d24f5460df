//! Errors of the database, and whether the same call may succeed later.

use std::time::Duration;

use sea_orm::{DbErr, RuntimeErr};

use crate::ConfigError;

/// A database error.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The database cannot be reached, is overloaded, or rolled the transaction back for its own reasons. The same call
    /// may succeed later.
    #[error("the database is unavailable")]
    Unavailable(#[source] DbErr),
    /// The configuration of the connection is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database stores texts in another encoding than UTF8, in which some cannot be stored.
    #[error(
        "the database has the encoding {0}: create one with ENCODING 'UTF8' TEMPLATE template0, since events hold any Unicode text"
    )]
    Encoding(String),
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
        matches!(self, Self::Unavailable(_) | Self::Silent(_))
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
        if may_pass(&error) { Self::Unavailable(error) } else { Self::Refused(error) }
    }
}

/// Returns whether an error is temporary: connection trouble, and these SQLSTATE classes of PostgreSQL's manual (appendix
/// A): 08 connection, 25P03 idle transaction, 40 rolled back, 53 out of resources, 55P03 lock, 57
/// operator intervention, 58 system error. SQLite: busy (5) and locked (6), with their extended codes.
fn may_pass(error: &DbErr) -> bool {
    let runtime = match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => return true,
        DbErr::Exec(runtime) | DbErr::Query(runtime) => runtime,
        _ => return false,
    };
    let RuntimeErr::SqlxError(error) = runtime else { return false };
    match error.as_ref() {
        sea_orm::SqlxError::Database(error) => error.code().is_some_and(|code| {
            let passing_class = ["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class));
            let sqlite_busy = code
                .parse::<u32>()
                .is_ok_and(|code| code.to_string().len() < 5 && matches!(code & 0xff, 5 | 6));
            if code.len() == 5 { passing_class || matches!(&*code, "25P03" | "55P03") } else { sqlite_busy }
        }),
        sea_orm::SqlxError::Io(_)
        | sea_orm::SqlxError::Tls(_)
        | sea_orm::SqlxError::Protocol(_)
        | sea_orm::SqlxError::PoolTimedOut
        | sea_orm::SqlxError::PoolClosed
        | sea_orm::SqlxError::WorkerCrashed => true,
        _ => false,
    }
}

/// Returns whether a statement found its connection dead: broken, or ended by PostgreSQL (57P01 to 57P03, and class 08).
/// A connection that could not be established is not meant.
pub(crate) fn is_dead_connection(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return false;
    };
    match error.as_ref() {
        sea_orm::SqlxError::Io(_) => true,
        sea_orm::SqlxError::Database(error) => error
            .code()
            .is_some_and(|code| code.starts_with("57P0") || code.len() == 5 && code.starts_with("08")),
        _ => false,
    }
}

/// Returns whether any error in the chain of `error` is that of a dead connection.
pub(crate) fn comes_from_dead_connection(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut chain = std::iter::successors(Some(error), |error| error.source());
    chain.find_map(|error| error.downcast_ref()).is_some_and(is_dead_connection)
}
