//! The engine that delivers: claim, load, deliver, record, finish.
//!
//! ```text
//! queue.claim ──> store.load ──> delivery.send ──> store.record (+ queue.finish)
//!   Claimer         Claimer        Attempts             Recorder
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | the configuration, its bounds and its validation |
//! | [`engine`] | [`Worker`]: starts the parts, and stops them in order |
//! | `shared` | what all parts use |
//! | `pace` | when the claimer claims and the recorder records: the protocol between them |
//! | `claimer` | claims as many jobs as there are free worker slots, and starts their attempts |
//! | `attempt` | makes one request, and decides what becomes of its delivery |
//! | `transport` | where a request goes: to the network, or to a receiver inside Postrider |
//! | `handovers` | waits for the answers of listeners |
//! | `payloads` | the large bodies that this worker holds: each once, within a budget |
//! | `payload_loader` | loads requested payloads |
//! | `completion` | what becomes of a claimed job, on its way to the recorder |
//! | `recorder` | records outcomes in batches, and finishes their jobs |
//! | `in_flight` | the leases of this worker, from the claim to the record |
//! | `shares` | how many worker slots the jobs of each owner take |
//! | `presence` | who this worker is, and its part among all that run |
//! | `check_in` | registers this worker, and learns its part |
//! | `notice` | logs events about subscribers and deliveries, and dispatches them to operators |
//! | [`trouble`] | what this machine lacks, so that it claims less |
//! | `upkeep` | the periodic tasks: a table, and one file each |
//! | `point` | where the chaos test ends the process; empty without the feature `failpoints` |
//!
//! Any number of workers share one queue. A worker can run inside another process, as in `postrider dev` and in tests.

mod attempt;
mod check_in;
mod claimer;
mod completion;
pub mod config;
pub mod engine;
mod exchange;
mod handovers;
mod in_flight;
mod lately;
pub mod mail;
mod notice;
mod owner_notice;
mod pace;
mod payload_loader;
mod payloads;
mod point;
mod presence;
mod proxies;
mod recorder;
mod requests;
mod reserve;
#[cfg(feature = "program")]
mod settings;
mod shared;
mod shares;
mod transport;
pub mod trouble;
mod upkeep;

pub use config::{Config, ConfigError};
pub use engine::Worker;
pub use mail::{MailError, Mailer};
#[cfg(feature = "program")]
pub use settings::retention;
pub use trouble::TroubleMonitor;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
