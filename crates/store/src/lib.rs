//! The repositories of Postrider: subscribers, events, deliveries, attempts and their statistics.
//!
//! [`Store`] is the one handle. Its methods are grouped by the resource or the task that they serve:
//!
//! | module | what it does |
//! |---|---|
//! | [`subscribers`] | creates, reads, changes and deletes subscribers; encrypts their secrets and headers |
//! | [`keys`] | creates, finds, changes and revokes API keys |
//! | [`audit`] | records who changed what, in the transaction of the change |
//! | [`tenants`] | registers tenants, and deletes all that belongs to one |
//! | [`intake`] | inserts a batch of events with their deliveries, within the caller's transaction |
//! | [`fan_out`] | makes the deliveries of events that have many subscribers, step by step |
//! | [`loading`] | reads what a worker needs to work on the jobs that it claimed |
//! | [`attempt`] | the types of an attempt and its outcome, which the other modules share |
//! | [`recording`] | records outcomes and ends their jobs, in one transaction or, on the fast path, in one statement |
//! | [`health`] | circuit breakers, and the deactivation of subscribers that only fail |
//! | [`draining`] | ends what waits for subscribers that receive nothing more |
//! | [`erasure`] | erases an event's payload on request |
//! | [`event_types`] | registered event types and their schemas |
//! | [`events`] | reads events |
//! | [`explain`], [`versions`] | how subscribers matched events at the time of an event |
//! | [`deliveries`] | reads, retries and cancels deliveries; reads their attempts |
//! | [`dead_letters`] | lists, requeues and deletes dead letters |
//! | [`replays`] | delivers again what matches a filter, step by step |
//! | [`sandboxes`] | receivers for tests, and what they received |
//! | [`listeners`] | subscribers whose deliveries are handed to another machine |
//! | [`stats`] | totals and time series, read from roll-ups |
//! | [`tail`] | what happens now, for those who follow it |
//! | [`partitions`] | the partitions in which events, deliveries and attempts are |
//! | [`request_keys`] | requests that are carried out once, however often they are repeated |
//! | [`retention`] | removes what is older than the retention |
//! | [`archive`] | reads the rows of an old day, and removes it once they were copied |
//! | [`examine`] | the state of the database, for an operator |
//! | [`clock`] | compares the clock of this process with the database's |
//! | [`queue_ids`] | the ids under which the queue knows subscribers and jobs |
//!
//! Every query names the tenant, except the worker's, whose jobs name deliveries. "Not found" is `Ok(None)`. A
//! statement is written once where both databases accept the same text.

pub mod archive;
pub mod attempt;
pub mod audit;
mod auditor;
mod cancelling;
pub mod clock;
pub mod dead_letters;
pub mod deliveries;
pub mod draining;
mod encoding;
mod entity;
pub mod erasure;
mod error;
mod event_keys;
pub mod event_types;
pub mod events;
pub mod examine;
pub mod exchange;
pub mod explain;
pub mod fan_out;
pub mod health;
pub mod intake;
pub mod keys;
pub mod listeners;
pub mod loading;
pub mod owner_notices;
mod packed_exchange;
mod packed_response;
pub mod page;
pub mod partitions;
mod payload_gone;
pub mod plugins;
pub mod portal;
pub mod queue_ids;
pub mod recording;
pub mod refill;
pub mod replays;
pub mod request_keys;
pub mod retention;
mod rollups;
mod row;
pub mod sandboxes;
pub mod sessions;
pub mod stats;
mod store;
pub mod subscribers;
pub mod tail;
pub mod tenants;
mod turn;
pub mod versions;
mod watched;

pub use error::StoreError;
pub use page::{Page, PageRequest};
pub use rollups::Folded;
pub use store::Store;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
