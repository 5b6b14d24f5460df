//! A typed client of the Postrider HTTP API.
//!
//! [`Client`] has a method for each call that the command line makes, and [`Client::get`], [`Client::post`] and
//! [`Client::delete`] for all others.

mod client;
mod error;
mod lists;
mod plugins;
mod query;
mod queue;
mod replays;
mod tail;

pub use client::{Client, Config};
pub use error::{ClientError, ConfigError, Failure};
pub use tail::{Tail, TailEvent};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
