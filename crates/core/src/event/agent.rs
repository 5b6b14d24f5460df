//! Agents.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The id of the program that emitted an event: 1 to 128 printable ASCII characters, no space at either end.
///
/// The characters are limited because the id is also the value of the header `X-Agent-ID`. The default is `default`.
///
/// ```
/// use postrider_core::AgentId;
///
/// assert_eq!("billing service".parse::<AgentId>()?.as_str(), "billing service");
/// assert!(" billing".parse::<AgentId>().is_err());
/// # Ok::<(), postrider_core::event::AgentIdError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentId(Arc<str>);

/// The text is not an agent id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an agent id must have 1 to {} printable ASCII characters and no space at either end",
    AgentId::MAX_LENGTH
)]
pub struct AgentIdError;

impl AgentId {
    /// The greatest length, in characters.
    pub const MAX_LENGTH: usize = 128;

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for AgentId {
    fn default() -> Self {
        Self("default".into())
    }
}

impl FromStr for AgentId {
    type Err = AgentIdError;

    fn from_str(text: &str) -> Result<Self, AgentIdError> {
        let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if (1..=Self::MAX_LENGTH).contains(&text.len()) && printable && text.trim() == text {
            Ok(Self(text.into()))
        } else {
            Err(AgentIdError)
        }
    }
}

impl TryFrom<String> for AgentId {
    type Error = AgentIdError;

    fn try_from(text: String) -> Result<Self, AgentIdError> {
        text.parse()
    }
}

impl From<AgentId> for String {
    fn from(agent: AgentId) -> Self {
        agent.as_str().into()
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
