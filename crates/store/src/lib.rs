//! Repositories of Postrider: subscribers, events, deliveries, attempts and their statistics.
//!
//! [`Store`] is the one handle; its methods are grouped by what they are about:
//!
//! | module | what it is for |
//! |---|---|
//! | [`subscriber`] | who gets what, with secrets sealed at rest |
//! | [`intake`] | writing down a batch of events with their deliveries, in a transaction of the caller's |
//! | [`work`] | what a worker needs to know of the jobs that it claimed |
//! | [`outcome`] | recording what came of them, and ending the jobs, in one transaction; what went well, in one statement |
//! | [`health`] | circuit breakers, and the deactivation of subscribers that only fail |
//! | [`history`] | events, deliveries and attempts, as they are read back |
//! | [`rekey`] | sealing anew what is sealed under an older key |
//! | [`replay`] | delivering again what has ended |
//! | [`stats`] | counts that were kept as things happened |
//! | [`series`] | what came of attempts, step by step |
//!
//! Every query names the tenant, but those of the worker, whose jobs name deliveries. "Not found" is
//! `Ok(None)`. SQL is written once where both databases take it.

mod attempt_rollup;
mod clock;
mod entity;
mod error;
mod fast;
pub mod health;
pub mod histogram;
pub mod history;
pub mod intake;
pub mod outcome;
pub mod page;
pub mod rekey;
pub mod replay;
mod rollup;
mod row;
pub mod series;
pub mod stats;
mod store;
pub mod subscriber;
mod tally;
pub mod work;

pub use attempt_rollup::Folded;
pub use error::StoreError;
pub use page::{Page, PageRequest};
pub use store::Store;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
