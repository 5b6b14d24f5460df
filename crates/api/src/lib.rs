//! Request, response and problem types of the Postrider HTTP API.
//!
//! The server, the command line and the test kit share these types, so that all of them mean the same JSON. Types of
//! requests and of responses implement both `Serialize` and `Deserialize`. Fields of requests are plain text where the
//! server reports what is wrong with them, all of them at once; fields of responses are typed.
//!
//! | module | what it holds |
//! |---|---|
//! | [`event`] | dispatching events, one by one or in batches, and reading them |
//! | [`event_type`] | registered event types and their schemas |
//! | [`subscriber`], [`secret`] | subscribers, their changes and their secrets |
//! | [`transform`] | what is done with the data before it is sent |
//! | [`key`], [`audit`] | API keys, and who changed what |
//! | [`tenant`] | tenants and their changes |
//! | [`plugin`] | plugins of the deployment |
//! | [`delivery`], [`attempt`] | deliveries and their attempts |
//! | [`dead_letter`] | requeueing dead letters |
//! | [`replay`] | replays: delivering again what matches a filter |
//! | [`sandbox`] | receivers for tests, and what they received |
//! | [`listener`] | subscribers whose deliveries are handed to another machine |
//! | [`simulate`] | what would be sent, and why |
//! | [`explain`] | which subscribers got an event, and why others did not |
//! | [`queue`] | workers, and what waits in the queue |
//! | [`tail`] | what happens, as server-sent events |
//! | [`stats`], [`series`] | statistics |
//! | [`problem`] | errors (RFC 9457) |
//! | [`list`], [`moment`] | pages of lists, and points in time |
//!
//! The feature `schema` adds the OpenAPI description of each type (`utoipa::ToSchema`).

pub mod attempt;
pub mod audit;
pub mod dead_letter;
pub mod delivery;
pub mod event;
pub mod event_type;
pub mod explain;
pub mod key;
pub mod list;
pub mod listener;
pub mod moment;
pub mod plugin;
#[cfg(feature = "schema")]
pub mod policy;
pub mod portal;
pub mod problem;
pub mod queue;
pub mod replay;
pub mod sandbox;
pub mod secret;
pub mod series;
pub mod simulate;
pub mod stats;
pub mod subscriber;
pub mod tail;
pub mod tenant;
pub mod transform;

pub use list::{Cursor, Limit, List};
pub use moment::Moment;
pub use problem::{FieldError, Problem};
