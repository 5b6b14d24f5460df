//! Scripts: how a receiver for tests answers, request by request.

mod read;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::read::{ScriptError, ScriptReason};
use crate::policy::Span;

/// The most steps of a script.
pub const MAX_STEPS: usize = 100;
/// The longest that a step waits before it answers.
pub const MAX_DELAY: Duration = Duration::from_mins(2);
/// The statuses that a step may answer.
pub const STATUS: RangeInclusive<u16> = 200..=599;
/// The longest `Retry-After` of a step, in seconds.
pub const MAX_RETRY_AFTER: u32 = 86_400;

/// How a receiver for tests answers: step by step, or at random.
///
/// A list is played in turn, and its last step stays. `{"random": […], "seed": 7}` draws a step for each request, the same
/// ones for the same seed. An empty list always answers 200.
///
/// ```
/// use postrider_core::script::Script;
/// use serde_json::json;
///
/// let script = Script::try_from(&json!([503, {"status": 429, "retry_after": 10}, "reset", 200]))?;
/// assert_eq!(script.step(1).status, 503);
/// assert_eq!(script.step(2).retry_after, Some(10));
/// assert_eq!(script.step(99).status, 200, "the last step stays");
/// # Ok::<(), postrider_core::script::ScriptError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Script {
    steps: Vec<Step>,
    /// Present if steps are drawn at random.
    seed: Option<u64>,
}

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The HTTP status, unless the connection is reset.
    pub status: u16,
    /// The `Retry-After` header, in seconds.
    pub retry_after: Option<u32>,
    /// How long to wait before the answer.
    pub delay: Duration,
    /// What becomes of the connection.
    pub ending: Ending,
}

/// What becomes of the connection of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// The answer is complete.
    #[default]
    Complete,
    /// The connection is closed in the middle of the answer's body.
    Cut,
    /// The connection is closed without an answer.
    Reset,
}

impl Script {
    /// Returns the answer to a request, which is numbered from 1.
    pub fn step(&self, number: u64) -> Step {
        let count = self.steps.len() as u64;
        let place = match self.seed {
            _ if count == 0 => return Step::default(),
            Some(seed) => drawn(seed, number) % count,
            None => number.saturating_sub(1).min(count - 1),
        };
        usize::try_from(place).ok().and_then(|place| self.steps.get(place)).copied().unwrap_or_default()
    }

    /// Returns whether the script always answers 200 at once, as a script without steps does.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl Step {
    /// An answer with this status.
    pub const fn status(status: u16) -> Self {
        Self { status, retry_after: None, delay: Duration::ZERO, ending: Ending::Complete }
    }

    /// Returns where a redirection leads; `None` for any other status. It leads to nothing: deliveries follow none.
    pub fn location(&self) -> Option<&'static str> {
        matches!(self.status, 301..=303 | 307 | 308).then_some("https://redirected.invalid/")
    }
}

impl Default for Step {
    fn default() -> Self {
        Self::status(200)
    }
}

/// The status that the word `redirect` stands for.
const REDIRECT: u16 = 302;

impl From<&Step> for Value {
    fn from(step: &Step) -> Self {
        let plain = *step == Step { status: step.status, ending: step.ending, ..Step::default() };
        match step.ending {
            Ending::Reset if plain => return json!("reset"),
            Ending::Cut if plain && step.status == 200 => return json!("cut"),
            Ending::Complete if plain => return json!(step.status),
            _ => {}
        }
        let mut object = serde_json::Map::new();
        match step.ending {
            Ending::Complete => {
                object.insert("status".into(), json!(step.status));
            }
            Ending::Cut => {
                object.insert("status".into(), json!(step.status));
                object.insert("ending".into(), json!("cut"));
            }
            Ending::Reset => {
                object.insert("ending".into(), json!("reset"));
            }
        }
        if let Some(seconds) = step.retry_after {
            object.insert("retry_after".into(), json!(seconds));
        }
        if !step.delay.is_zero() {
            object.insert("delay".into(), json!(Span(step.delay)));
        }
        Self::Object(object)
    }
}

impl From<&Script> for Value {
    fn from(script: &Script) -> Self {
        let steps: Vec<Self> = script.steps.iter().map(Self::from).collect();
        match script.seed {
            Some(seed) => json!({"random": steps, "seed": seed}),
            None => Self::Array(steps),
        }
    }
}

impl From<Script> for Value {
    fn from(script: Script) -> Self {
        Self::from(&script)
    }
}

/// Returns a number that looks random and depends on both arguments alone (splitmix64).
const fn drawn(seed: u64, number: u64) -> u64 {
    let mixed = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
