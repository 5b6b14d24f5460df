//! Tasks of the Postrider workspace, run as `cargo xtask <task>`.
//!
//! The tasks are a library so that tests can call them; the binary only reads the command line.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a task prints to its user")]

pub mod bench;
pub mod cargo;
pub mod chaos;
mod debian;
pub mod lint;
mod moto;
pub mod pgbouncer;
pub mod postgres;
pub mod test;

mod error;

pub use error::Error;
