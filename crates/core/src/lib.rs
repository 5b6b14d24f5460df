//! Domain types of the Postrider webhook system.
//!
//! Everything here is plain data and rules: no I/O, no async runtime. Time and randomness come in as
//! arguments ([`Clock`], [`Random`]), so that every rule can be tested at any moment.
//!
//! | module | what it holds |
//! |---|---|
//! | [`id`] | typed ids: `evt_…`, `sub_…`, `dlv_…`, `att_…`, `job_…` |
//! | [`clock`], [`random`] | time and randomness as arguments |
//! | [`tenant`], [`event`], [`subscriber`], [`delivery`], [`attempt`] | the nouns of the domain |
//! | [`bounds`] | the least and greatest values of a delivery policy |
//! | [`retry`] | when a failed delivery is tried again |
//! | [`secret`], [`keyring`], [`signing`] | secrets that do not print, their encryption at rest, signatures |
//! | [`header`] | the headers that a subscriber may add |
//! | [`target`] | which URLs and addresses a delivery may go to |
//! | [`chain()`] | printing an error with its causes |

pub mod attempt;
pub mod bounds;
mod chain;
pub mod clock;
pub mod delivery;
pub mod event;
pub mod header;
pub mod id;
pub mod keyring;
mod object;
pub mod random;
pub mod retry;
#[cfg(feature = "schema")]
mod schema;
pub mod secret;
pub mod signing;
pub mod subscriber;
pub mod target;
pub mod tenant;

pub use attempt::{ErrorKind, Verdict};
pub use chain::chain;
pub use clock::{Clock, SystemClock, Timestamp};
pub use delivery::{DeadReason, DeliveryStatus};
pub use event::{AgentId, Envelope, EventData, EventPattern, EventType};
pub use header::CustomHeaders;
pub use id::{AttemptId, DeliveryId, EventId, Id, IdGenerator, JobId, SubscriberId};
pub use keyring::Keyring;
pub use random::{Random, SystemRandom};
pub use retry::{RetryPolicy, RetrySchedule};
pub use secret::Secret;
pub use subscriber::{DeactivationReason, Policy};
pub use target::{AddressPolicy, TargetUrl};
pub use tenant::TenantId;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
