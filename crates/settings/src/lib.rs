//! Settings of the Postrider programs: flags, environment and file, read once and checked.
//!
//! Every setting is a clap argument with an environment variable; a TOML file (`--config PATH` or `POSTRIDER_CONFIG`)
//! changes the defaults. A flag takes precedence over the environment, the environment over the file, and the file over
//! the built-in default; `--help` lists all settings. The file's keys are the arguments' names, such as `database_url`,
//! or the variables' names in lower case, such as `postrider_database_url`.
//!
//! A program flattens the groups that it needs into its own arguments, calls [`parse`], and reads the values. Parsing
//! checks the [`bounds`]. Values that another type must accept (URLs, keys, schedules) have a method that returns that
//! type; its error names the setting and says what to do.
//!
//! ```
//! use clap::Parser;
//! use postrider_settings::{DatabaseArgs, Settings, TelemetryArgs, WorkerArgs};
//! use postrider_telemetry::Program;
//!
//! /// Delivers webhooks.
//! #[derive(Debug, Parser)]
//! struct Args {
//!     #[command(flatten)]
//!     database: DatabaseArgs,
//!     #[command(flatten)]
//!     worker: WorkerArgs,
//!     #[command(flatten)]
//!     telemetry: TelemetryArgs,
//! }
//!
//! let given = ["postrider-worker", "--database-url", "sqlite://data.db", "--lease", "2m"];
//! let Settings { args, .. } = postrider_settings::parse::<Args>(Program::Worker, given)?;
//! assert_eq!(args.database.url::<String>()?, "sqlite://data.db");
//! assert_eq!(args.worker.lease.as_secs(), 120);
//! assert_eq!(args.telemetry.listen().port(), 9465);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod bounds;
mod client;
mod database;
mod delivery;
mod entry;
mod error;
mod file;
mod queue;
mod retention;
mod sandbox;
mod server;
mod shed;
mod shown;
mod shutdown;
mod telemetry;
mod text;
mod value;
mod worker;

pub use client::ClientArgs;
pub use database::{DatabaseArgs, SecretKeyArgs, SecretKeys};
pub use delivery::{DeliveryArgs, DispatchArgs, RetryArgs};
pub use entry::{Settings, parse};
pub use error::SettingsError;
pub use queue::QueueArgs;
pub use retention::{Age, RetentionArgs};
pub use sandbox::SandboxArgs;
pub use server::ServerArgs;
pub use shed::{ShedArgs, ShedConfig};
pub use shutdown::ShutdownArgs;
pub use telemetry::{LogFormat, TelemetryArgs};
pub use text::SecretText;
pub use worker::WorkerArgs;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
