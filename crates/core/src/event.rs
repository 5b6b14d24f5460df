//! Events: their type, agent and data, and the envelope that subscribers receive.

mod agent;
mod data;
mod envelope;
mod event_type;
mod mode;
mod pattern;

pub use agent::{AgentId, AgentIdError};
pub use data::{EventData, EventDataError};
pub use envelope::Envelope;
pub use event_type::{EventType, EventTypeError};
pub use mode::SchemaMode;
pub use pattern::{EventPattern, EventPatternError};
