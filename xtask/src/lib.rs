//! Tasks of the Postrider workspace, run as `cargo xtask <task>`.
//!
//! The library half exists so that the tasks can be tested; the binary only reads the command line.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a task talks to the person who runs it")]

pub mod bench;
pub mod cargo;
pub mod chaos;
pub mod lint;
pub mod postgres;
pub mod test;

mod error;

pub use error::Error;
