//! Starts Postrider inside a test: dispatch events, and check the webhooks that come out.
//!
//! [`Postrider::start`] runs `postrider dev --ephemeral`: a server and a worker over a database in a temporary folder, on free
//! ports. [`Postrider::sandbox`] makes a receiver inside it with a subscriber, and [`Sandbox::expect`] waits for requests.
//!
//! | module | contents |
//! |---|---|
//! | [`process`] | the running program |
//! | [`sandbox`] | receivers, and what is expected of them |
//! | [`error`] | what goes wrong |

pub mod error;
pub mod process;
pub mod sandbox;

pub use error::Error;
pub use process::Postrider;
pub use sandbox::{Expected, Sandbox};

/// Compiles and runs the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles and runs the examples of the guide.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/testing.md")]
struct Guide;
