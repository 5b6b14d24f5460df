//! The engine that delivers: claim, load, deliver, record, finish.
//!
//! ```text
//! queue.claim ──> store.load ──> delivery.send ──> store.record (+ queue.finish)
//!   Claimer         Claimer        Attempts             Recorder
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`engine`] | [`Worker`]: starts the parts, and stops them in order |
//! | `claimer` | claims as many jobs as there are free slots, and starts their attempts |
//! | `attempt` | one request, and what becomes of its delivery |
//! | `recorder` | writes down outcomes in batches, and ends their jobs |
//! | `in_flight` | the leases held: extended while work goes on, given up when lost |
//! | `notice` | tells the operator, in the log and by events |
//! | `upkeep` | rescues jobs of lost workers, and measures the queue |
//! | `point` | where the chaos test ends the process; empty without the feature `failpoints` |
//!
//! Any number of workers share one queue; each also runs inside another process, as `postrider dev`
//! and tests do.

mod attempt;
mod claimer;
mod due;
pub mod engine;
mod in_flight;
mod notice;
mod point;
mod recorder;
#[cfg(feature = "program")]
mod settings;
mod upkeep;

pub use engine::{Config, ConfigError, Worker};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
