//! Poolers between the programs and PostgreSQL, such as PgBouncer.
//!
//! A pooler in transaction mode gives each transaction any of its connections to PostgreSQL. What belongs to a session is
//! then lost or reaches other clients: settings, `LISTEN`, and prepared statements unless the pooler keeps track of them.

use std::str::FromStr;

/// What is between the program and PostgreSQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooler {
    /// Nothing, or a pooler that gives each client a session of its own (PgBouncer's `pool_mode = session`).
    #[default]
    None,
    /// A pooler that shares sessions by the transaction (PgBouncer's `pool_mode = transaction`). Sessions get their settings
    /// from the role, and there are no notifications.
    Transaction,
}

/// What the role must have behind [`Pooler::Transaction`], where sessions get their settings from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoleSettings {
    /// Everything that a session would otherwise set itself, with the time limits of statements.
    #[default]
    Required,
    /// Whatever it has: a migration sets what it needs in its own transaction, and has no time limit.
    Any,
}

/// Neither `none` nor `transaction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected none or transaction")]
pub struct UnknownPooler;

impl FromStr for Pooler {
    type Err = UnknownPooler;

    fn from_str(text: &str) -> Result<Self, UnknownPooler> {
        match text {
            "none" => Ok(Self::None),
            "transaction" => Ok(Self::Transaction),
            _ => Err(UnknownPooler),
        }
    }
}

/// Why Postrider cannot work behind the pooler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolerError {
    /// Connections share sessions, and the configuration says that they do not.
    #[error(
        "the database URL leads to a pooler in transaction mode: set POSTRIDER_DATABASE_POOLER=transaction, or connect to PostgreSQL itself"
    )]
    Unexpected,
    /// Statements cannot be prepared.
    #[error(
        "the pooler does not support prepared statements in transaction mode: use PgBouncer 1.21 or newer with max_prepared_statements above 100, use its session mode, or connect to PostgreSQL itself"
    )]
    PreparedStatements,
    /// The defaults of the role lack settings.
    #[error(
        "sessions behind a pooler get their settings from the role, and it lacks some: run `{0}`, then RECONNECT in PgBouncer's console"
    )]
    Settings(String),
}
