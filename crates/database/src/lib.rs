//! Access to the database, shared by the queue and the store: connecting, the differences between PostgreSQL and
//! SQLite, and statements that serve many rows.
//!
//! | module | what it holds |
//! |---|---|
//! | [`connection`] | [`Database`]: connections to either database |
//! | [`purpose`] | [`Purpose`]: what connections are for; none can take those of another |
//! | [`watched`] | [`Connection`]: the connections, for single statements |
//! | [`transaction`] | [`Transaction`], which commits everything or reports that it did not |
//! | [`trouble`] | [`Trouble`]: why the database cannot write, such as a full disk |
//! | [`config`] | [`Config`]: how to connect |
//! | [`url`] | [`DatabaseUrl`]: where the database is |
//! | [`dialect`] | [`Dialect`]: where the SQL of the two differs |
//! | [`sql`] | running a hand-written statement and reading its columns |
//! | [`batch`] | [`Batch`]: rows that one statement reads as a table |
//! | [`writes`] | [`Writes`]: statements that are sent as one; [`Guarded`]: writes that happen only if expectations hold |
//! | [`pooler`] | [`Pooler`]: what is between the program and PostgreSQL |
//! | [`error`] | [`DatabaseError`], and whether the same call may succeed later |
//!
//! Times are Unix milliseconds in `BIGINT` columns on both databases ([`Dialect::now`]); statements
//! number their parameters (`$1`), which both understand.

pub mod batch;
mod begin;
mod checks;
pub mod config;
pub mod connection;
pub mod dialect;
pub mod error;
mod failover;
mod options;
mod pool;
pub mod pooler;
pub mod purpose;
mod raw;
mod servers;
mod session;
mod source;
pub mod sql;
pub mod transaction;
pub mod trouble;
pub mod url;
pub mod watched;
pub mod writes;

pub use batch::{Batch, Column, Kind};
pub use config::{Config, ConfigError};
pub use connection::Database;
pub use dialect::Dialect;
pub use error::{DatabaseError, comes_from_trouble};
pub use pool::Connections;
pub use pooler::{Pooler, PoolerError, RoleSettings};
pub use purpose::Purpose;
pub use servers::DatabaseUrlError;
pub use transaction::{InTransaction, Transaction};
pub use trouble::Trouble;
pub use url::DatabaseUrl;
pub use watched::Connection;
pub use writes::{Guarded, Writes};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
