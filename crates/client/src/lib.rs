//! A typed client of the Postrider HTTP API.
//!
//! [`Client`] has methods for some calls with their types, and [`Client::get`], [`Client::post`], [`Client::delete`] and
//! [`Client::call`] for all others. [`Client::stream`] reads events as they happen.

mod client;
mod error;
mod listeners;
mod lists;
mod plugins;
mod query;
mod queue;
mod replays;
mod sandboxes;
mod stream;
mod tail;

pub use client::{Answer, Client, Config, encoded};
pub use error::{ClientError, ConfigError, Failure};
pub use stream::{EventStream, ServerEvent};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
