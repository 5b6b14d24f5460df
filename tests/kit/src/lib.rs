//! Test kit of Postrider: databases, receivers, processes.
//!
//! - [`database`]: a fresh, migrated database for each test
//! - [`receiver`]: an HTTP server that records requests and behaves as configured
//! - [`process`]: Postrider's programs, as a user would start them
//! - [`browser`]: Chromium, driven over `WebDriver`
//! - [`moto`]: a server that does what Amazon SQS does
//! - [`pgbouncer`]: PgBouncer before the database
//! - [`explain`]: the plans that PostgreSQL used, and what is wrong with them
//! - [`faulty`]: a disk that fails on command, under one program
//! - [`plugin`]: the example plugin of the SDK
//! - [`proxy`]: a link to the database that can hang, break or swallow answers
//! - [`api`]: a client of the HTTP API
//! - [`redis`]: Redis servers, each in a folder of its own
//! - [`sessions`]: the statements that run on PostgreSQL
//! - [`small_disk`]: a file system that a test can fill
//! - [`eventually()`]: waiting for a condition with a deadline
//!
//! Everything here panics on failure, which fails the test.
#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "test code: a panic with a description is a failed test"
)]

pub mod api;
pub mod browser;
pub mod database;
pub mod eventually;
pub mod explain;
pub mod faulty;
pub mod moto;
pub mod pgbouncer;
pub mod plugin;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod redis;
pub mod sessions;
pub mod small_disk;

pub use api::Api;
pub use browser::Browser;
pub use database::TestDatabase;
pub use eventually::eventually;
pub use process::{Process, Program};
pub use receiver::{Behaviour, Receiver};
pub use small_disk::SmallDisk;

/// All attempts, as SQL can read them from: a first one that succeeds is in the row of its delivery, all others have rows of
/// their own.
pub const ATTEMPTS: &str = "(SELECT delivery_id, number, started_at, duration_us, response_status, id, resent FROM attempts \
    UNION ALL SELECT id, 1, first_started_at, first_duration_us, first_status, id, first_resent FROM deliveries \
    WHERE first_started_at IS NOT NULL) AS attempts";
