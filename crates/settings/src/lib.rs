//! Settings of the Postrider programs: flags, environment and file, read once and checked.
//!
//! Every setting is a clap argument with an environment variable; a TOML file (`--config PATH` or
//! `POSTRIDER_CONFIG`) gives other defaults. So the order is: flag, environment, file, built-in
//! default, and `--help` shows everything there is. The file's keys are the arguments' names, such as
//! `database_url`; the variable's name in lower case (`postrider_database_url`) does as well.
//!
//! A program flattens the groups that it needs into its own arguments, calls [`parse`], and turns each
//! group into plain values with its `config()`. Those errors name the setting and say what to do.
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
//! assert_eq!(args.database.config()?.url.expose(), "sqlite://data.db");
//! assert_eq!(args.worker.config()?.lease.as_secs(), 120);
//! assert_eq!(args.telemetry.listen().port(), 9465);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod database;
mod delivery;
mod entry;
mod error;
mod file;
mod server;
mod shed;
mod telemetry;
mod text;
mod value;
mod worker;

pub use database::{DatabaseArgs, DatabaseConfig, SecretKeyArgs};
pub use delivery::{DeliveryArgs, DispatchArgs, RetryArgs};
pub use entry::{Settings, parse};
pub use error::SettingsError;
pub use server::{ServerArgs, ServerConfig};
pub use shed::{ShedArgs, ShedConfig};
pub use telemetry::{LogFormat, TelemetryArgs};
pub use text::SecretText;
pub use worker::{WorkerArgs, WorkerConfig};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
