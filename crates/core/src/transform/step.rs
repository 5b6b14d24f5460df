//! One step of a transform.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::json::{Document, Pointer, PutError};

/// A change at one place of an event's data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Removes the value.
    Drop {
        /// Where it is.
        #[serde(deserialize_with = "place", serialize_with = "text")]
        path: Pointer,
    },
    /// Moves the value, and replaces what is at its new place.
    Rename {
        /// Where it is.
        #[serde(deserialize_with = "place", serialize_with = "text")]
        path: Pointer,
        /// Where it goes.
        #[serde(deserialize_with = "place", serialize_with = "text")]
        to: Pointer,
    },
    /// Puts a value, and replaces what is there.
    Set {
        /// Where it goes.
        #[serde(deserialize_with = "place", serialize_with = "text")]
        path: Pointer,
        /// The value.
        value: serde_json::Value,
    },
    /// Replaces all but the last characters by `*`.
    Mask {
        /// Where the value is.
        #[serde(deserialize_with = "place", serialize_with = "text")]
        path: Pointer,
        /// How many characters stay visible at the end.
        #[serde(default)]
        keep: usize,
    },
}

/// Why a step does not fit an event's data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// Nothing can be put at its place.
    #[error(transparent)]
    Place(#[from] PutError),
    /// Its value has no JSON form. Does not occur: it was read from JSON.
    #[error("the value has no JSON form")]
    Value,
}

impl Step {
    /// Returns the name of what it does.
    pub fn op(&self) -> &'static str {
        match self {
            Self::Drop { .. } => "drop",
            Self::Rename { .. } => "rename",
            Self::Set { .. } => "set",
            Self::Mask { .. } => "mask",
        }
    }

    /// Returns the place that it names first.
    pub fn path(&self) -> &Pointer {
        match self {
            Self::Drop { path }
            | Self::Rename { path, .. }
            | Self::Set { path, .. }
            | Self::Mask { path, .. } => path,
        }
    }

    /// Applies the step. Returns whether it has changed anything.
    pub(super) fn apply(&self, document: &mut Document) -> Result<bool, StepError> {
        match self {
            Self::Drop { path } => Ok(document.take(path).is_some()),
            Self::Rename { path, to } => {
                let Some(value) = document.take(path) else { return Ok(false) };
                document.put(to, &value)?;
                Ok(true)
            }
            Self::Set { path, value } => {
                let value: Box<RawValue> =
                    serde_json::value::to_raw_value(value).map_err(|_| StepError::Value)?;
                document.put(path, &value)?;
                Ok(true)
            }
            Self::Mask { path, keep } => Ok(document.mask(path, *keep)),
        }
    }
}

fn place<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pointer, D::Error> {
    let text = String::deserialize(deserializer)?;
    let pointer: Pointer = text.parse().map_err(D::Error::custom)?;
    if pointer.is_whole() {
        return Err(D::Error::custom(
            "the data as a whole cannot be changed; name a place in it, such as `/card`",
        ));
    }
    Ok(pointer)
}

fn text<S: Serializer>(pointer: &Pointer, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(pointer)
}
