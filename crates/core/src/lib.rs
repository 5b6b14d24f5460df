//! Domain types of the Postrider webhook system.
//!
//! The crate contains data and rules only: no I/O and no async runtime. Time and randomness are arguments ([`Clock`],
//! [`Random`]), so that tests can choose both.
//!
//! | module | contents |
//! |---|---|
//! | [`id`] | typed ids: `evt_…`, `sub_…`, `dlv_…`, `att_…`, `job_…`, `req_…`, `key_…`, `aud_…`, `rpl_…`, `sbx_…`, `lsn_…` |
//! | [`clock`], [`random`] | time and randomness as arguments |
//! | [`tenant`], [`event`], [`subscriber`], [`delivery`], [`attempt`] | the nouns of the domain |
//! | [`audit`] | what the audit trail records |
//! | [`auth`] | how Postrider authenticates to a receiver |
//! | [`plugin`] | the names of plugins, and what a subscriber chooses of one |
//! | [`policy`] | a subscriber's delivery policy, in JSON and validated |
//! | [`budget`] | who may hold how many bytes at once |
//! | [`bounds`] | the smallest and greatest values that a policy may have |
//! | [`retry`] | how often, and after which delays, a delivery is attempted again |
//! | [`secret`], [`signing`] | signing secrets, signatures and their verification |
//! | [`key`] | API keys: their form, their scopes and limits |
//! | [`keyring`] | encryption of stored secrets |
//! | [`format`](mod@format) | the bodies that subscribers can ask for |
//! | [`expression`] | the text of an expression, for filters and transforms |
//! | [`transform`] | the changes that a subscriber asks for before its data is sent |
//! | [`json`] | JSON that is changed in places and otherwise kept as it is written |
//! | [`script`] | how a receiver for tests answers, request by request |
//! | [`inside`] | the URLs of receivers inside Postrider |
//! | [`replay`] | jobs that deliver again what matches a filter |
//! | [`email`] | addresses of mail |
//! | [`header`] | the headers that a subscriber adds to its requests |
//! | [`object`] | structs that deserialise from JSON objects only |
//! | [`channels`] | words that events and subscribers share |
//! | [`metadata`] | texts that applications note about something |
//! | [`proxy_url`] | the URLs of egress proxies |
//! | [`target`] | the URLs and addresses that deliveries may go to |
//! | [`chain()`] | printing an error with its causes |

pub mod attempt;
pub mod audit;
pub mod auth;
pub mod bounds;
pub mod budget;
mod chain;
pub mod channels;
pub mod clock;
pub mod delivery;
pub mod email;
pub mod event;
pub mod expression;
pub mod format;
pub mod header;
pub mod id;
pub mod inside;
pub mod json;
pub mod key;
pub mod keyring;
pub mod merge_patch;
pub mod metadata;
pub mod object;
pub mod plugin;
pub mod policy;
pub mod portal;
pub mod proxy_url;
pub mod random;
pub mod replay;
pub mod retry;
#[cfg(feature = "schema")]
mod schema;
pub mod script;
pub mod secret;
mod setting;

pub mod signing;
pub mod subscriber;
pub mod target;
pub mod tenant;
pub mod transform;
mod word;

pub use attempt::{ErrorKind, Verdict};
pub use auth::ReceiverAuth;
pub use chain::chain;
pub use channels::Channels;
pub use clock::{Clock, SystemClock, Timestamp};
pub use delivery::{DeadReason, DeliveryStatus};
pub use email::EmailAddress;
pub use event::{AgentId, Envelope, EventData, EventPattern, EventType};
pub use expression::{Expression, ExpressionId};
pub use header::CustomHeaders;
pub use id::{
    AttemptId, AuditId, DeliveryId, EventId, HandoverId, Id, IdGenerator, JobId, KeyId, ListenerId, ReplayId,
    SandboxId, SubscriberId,
};
pub use keyring::Keyring;
pub use metadata::Metadata;
pub use policy::Policy;
pub use proxy_url::{ProxyUrl, ProxyUrlError};
pub use random::{Random, SystemRandom};
pub use retry::{RetryPolicy, RetrySchedule};
pub use secret::Secret;
pub use setting::ShownSetting;
pub use subscriber::{DeactivationReason, SubscriberRef, SubscriberUid};
pub use target::{AddressPolicy, TargetUrl};
pub use tenant::TenantId;
pub use transform::Transform;
pub use word::UnknownWord;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
