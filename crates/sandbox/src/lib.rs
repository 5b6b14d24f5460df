//! Receivers for tests: they answer by a script, check every signature, and keep what they received.
//!
//! | module | what it does |
//! |---|---|
//! | [`receive`] | receives a request: answers, checks and keeps it |
//! | [`signatures`] | checks the signatures of a request |
//! | [`expect`] | what a test expects of the requests |
//! | [`attempt`] | the result of an attempt at a sandbox, as if it had been a request |

pub mod attempt;
pub mod expect;
pub mod receive;
pub mod signatures;

pub use attempt::sent;
pub use expect::{Broken, Expectation};
pub use receive::{Received, Reply, SandboxCall, Sender};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
