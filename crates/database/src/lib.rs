//! What the queue and the store share of the database: how to connect to it, how to tell its two
//! kinds apart, and how one statement serves many rows.
//!
//! | module | what it holds |
//! |---|---|
//! | [`connection`] | [`Database`]: PostgreSQL or SQLite behind one URL |
//! | [`sql`] | running a hand-written statement and reading its columns |
//! | [`batch`] | [`Batch`]: rows that one statement reads as a table |
//! | [`writes`] | [`Writes`]: statements that are sent as one; [`Guarded`]: and only if all is as expected |
//! | [`error`] | [`DatabaseError`]: what went wrong, and whether waiting may mend it |
//!
//! Times are Unix milliseconds in `BIGINT` columns on both databases ([`Dialect::now`]); statements
//! number their parameters (`$1`), which both understand.

pub mod batch;
pub mod connection;
mod connection_cache;
pub mod error;
pub mod sql;
pub mod writes;

pub use batch::{Batch, Column, Kind};
pub use connection::{Config, Connections, Database, DatabaseUrl, DatabaseUrlError, Dialect};
pub use connection_cache::DedicatedConnection;
pub use error::DatabaseError;
pub use writes::{Guarded, Writes};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
