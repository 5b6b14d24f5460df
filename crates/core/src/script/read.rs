//! Reading scripts.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{Ending, MAX_DELAY, MAX_RETRY_AFTER, MAX_STEPS, REDIRECT, STATUS, Script, Step};
use crate::policy::Span;

/// Why a text is no script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", place.map(|place| format!("step {}: ", place + 1)).unwrap_or_default())]
pub struct ScriptError {
    /// The place of the step that is wrong, from 0; `None` if the script as a whole is.
    pub place: Option<usize>,
    /// What is wrong.
    pub reason: ScriptReason,
}

/// What is wrong with a script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptReason {
    /// It is neither a list nor an object with `random`.
    #[error("expected a list of steps, or {{\"random\": […], \"seed\": 7}}")]
    Form,
    /// It has too many steps, or none to draw from.
    #[error("must have at most {MAX_STEPS} steps, and at least one after `random`")]
    Length,
    /// The step has none of the forms.
    #[error(
        "expected a status, \"reset\", \"cut\", \"redirect\", or an object with `status`, `retry_after`, `delay` and `ending`"
    )]
    Step,
    /// The object has a wrong field.
    #[error("{0}")]
    Field(String),
    /// The status is out of bounds.
    #[error("a status must be from {} to {}", STATUS.start(), STATUS.end())]
    Status,
    /// The delay is too long.
    #[error("a delay must be at most 2m")]
    Delay,
    /// The time to retry after is too long.
    #[error("`retry_after` must be at most {MAX_RETRY_AFTER} seconds")]
    RetryAfter,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RandomFields {
    random: Vec<Value>,
    #[serde(default)]
    seed: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepFields {
    status: Option<u16>,
    retry_after: Option<u32>,
    delay: Option<Span>,
    ending: Option<Word>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Cut,
    Reset,
}

impl TryFrom<&Value> for Script {
    type Error = ScriptError;

    fn try_from(value: &Value) -> Result<Self, ScriptError> {
        let whole = |reason| ScriptError { place: None, reason };
        let (steps, seed) = match value {
            Value::Array(steps) => (steps.clone(), None),
            Value::Object(_) => {
                let fields = RandomFields::deserialize(value);
                let fields = fields.map_err(|error| whole(ScriptReason::Field(error.to_string())))?;
                (fields.random, Some(fields.seed))
            }
            _ => return Err(whole(ScriptReason::Form)),
        };
        if steps.len() > MAX_STEPS || seed.is_some() && steps.is_empty() {
            return Err(whole(ScriptReason::Length));
        }
        let read =
            |(place, step)| Step::try_from(step).map_err(|reason| ScriptError { place: Some(place), reason });
        Ok(Self { steps: steps.iter().enumerate().map(read).collect::<Result<_, _>>()?, seed })
    }
}

impl TryFrom<Value> for Script {
    type Error = ScriptError;

    fn try_from(value: Value) -> Result<Self, ScriptError> {
        Self::try_from(&value)
    }
}

impl TryFrom<&Value> for Step {
    type Error = ScriptReason;

    fn try_from(value: &Value) -> Result<Self, ScriptReason> {
        match value {
            Value::Number(number) => {
                let status = number.as_u64().and_then(|status| u16::try_from(status).ok());
                checked(Self::status(status.ok_or(ScriptReason::Status)?))
            }
            Value::String(word) => match word.as_str() {
                "reset" => Ok(Self { ending: Ending::Reset, ..Self::default() }),
                "cut" => Ok(Self { ending: Ending::Cut, ..Self::default() }),
                "redirect" => Ok(Self::status(REDIRECT)),
                _ => Err(ScriptReason::Step),
            },
            Value::Object(_) => {
                let fields = StepFields::deserialize(value);
                let fields = fields.map_err(|error| ScriptReason::Field(error.to_string()))?;
                checked(Self {
                    status: fields.status.unwrap_or(200),
                    retry_after: fields.retry_after,
                    delay: fields.delay.map_or(Duration::ZERO, |Span(delay)| delay),
                    ending: match fields.ending {
                        None => Ending::Complete,
                        Some(Word::Cut) => Ending::Cut,
                        Some(Word::Reset) => Ending::Reset,
                    },
                })
            }
            _ => Err(ScriptReason::Step),
        }
    }
}

fn checked(step: Step) -> Result<Step, ScriptReason> {
    if !STATUS.contains(&step.status) {
        return Err(ScriptReason::Status);
    }
    if step.delay > MAX_DELAY {
        return Err(ScriptReason::Delay);
    }
    if step.retry_after.is_some_and(|seconds| seconds > MAX_RETRY_AFTER) {
        return Err(ScriptReason::RetryAfter);
    }
    Ok(step)
}
