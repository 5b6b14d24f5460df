//! Code that the Postrider programs share: starting, opening the database, telemetry, stopping.
//!
//! Only binaries use this crate: it reads the environment, installs exporters and handles signals, which a library must
//! not do.
//!
//! ```no_run
//! use std::process::ExitCode;
//! use clap::Parser;
//! use postrider_settings::{DatabaseArgs, TelemetryArgs};
//! use postrider_telemetry::Program;
//!
//! /// Counts jobs.
//! #[derive(Debug, Parser)]
//! struct Args {
//!     #[command(flatten)]
//!     database: DatabaseArgs,
//! }
//!
//! fn main() -> ExitCode {
//!     postrider_program::main(Program::Whole, |args: Args, _given| async move {
//!         let database = postrider_program::open_database(&args.database, false).await?;
//!         postrider_program::stop_signal()?.cancelled().await;
//!         database.close().await;
//!         Ok(())
//!     })
//! }
//! ```

mod clock;
mod descriptors;
mod observed;
mod open;
mod partitions;
mod queue;
mod start;
mod stop;

/// Faster than glibc's allocator, above all where one thread allocates many small values and another frees them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub use clock::watch_clock;
pub use descriptors::Bounded;
pub use observed::{Observed, readiness, readiness_with_queue};
pub use open::{OpenError, migrate_database, open_database, open_store};
pub use partitions::keep_partitions;
#[doc(no_inline)]
pub use postrider_database::Purpose;
pub use queue::{QueueUrlError, open_queue};
pub use start::{Given, StartError, WithStatus, main};
pub use stop::{Stop, stop_signal};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
