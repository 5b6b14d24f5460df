//! Transforms: the changes that a subscriber asks for before an event's data is sent to it.
//!
//! A transform is either a list of steps, each of which names a place in the data, or a projection: an expression that makes
//! new data. Steps are applied here, projections by `postrider-filter`.

mod step;

use serde::{Deserialize, Serialize};

pub use self::step::{Step, StepError};

use crate::expression::{Expression, ExpressionId};
use crate::json::Document;

/// What is done with an event's data before it is sent to a subscriber.
///
/// ```
/// use postrider_core::Transform;
///
/// let transform: Transform = serde_json::from_str(
///     r#"{"steps": [{"op": "drop", "path": "/card/cvv"}, {"op": "mask", "path": "/card/number", "keep": 4}]}"#,
/// )?;
/// let Transform::Steps(steps) = &transform else { unreachable!() };
/// let data = steps.apply(r#"{"total": 9.50, "card": {"number": "41111111", "cvv": "123"}}"#)?;
/// assert_eq!(data, r#"{"total":9.50,"card":{"number":"****1111"}}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// Steps, applied in their order.
    Steps(Steps),
    /// An expression over `event` and `data` that returns `{"data": …}`, and `"headers"` if it likes.
    Project(Expression),
}

/// 1 to 100 steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Step>", into = "Vec<Step>")]
pub struct Steps(Vec<Step>);

/// There are no steps, or too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a transform must have 1 to {} steps", Steps::MAX)]
pub struct StepsError;

/// A step could not be applied to an event's data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("step {number} ({op} {path}) does not fit the data")]
pub struct StepFailed {
    /// The step's number, from 1.
    pub number: usize,
    /// What it does.
    pub op: &'static str,
    /// The place that it names.
    pub path: String,
    /// What does not fit.
    pub source: StepError,
}

impl Transform {
    /// The most bytes of a transform in JSON.
    pub const MAX_LENGTH: usize = 16 * 1024;

    /// Returns what stands for the transform in attempts: two transforms with the same version are the same.
    pub fn version(&self) -> ExpressionId {
        let json = serde_json::to_vec(self).unwrap_or_default();
        ExpressionId::of(&json)
    }
}

impl Steps {
    /// The most steps of a transform.
    pub const MAX: usize = 100;

    /// Returns the steps.
    pub fn as_slice(&self) -> &[Step] {
        &self.0
    }

    /// Applies the steps to data in JSON. What no step touches stays as it is written; white space beside the places that are
    /// touched goes. A place that is not there is skipped, except that `set` and `rename` make the objects on the way to
    /// their target.
    ///
    /// # Errors
    /// Fails if a step leads through a text, a number or a boolean, or past an array's end.
    pub fn apply(&self, data: &str) -> Result<String, StepFailed> {
        // An event's data is an object or an array.
        let mut document = Document::open(data).unwrap_or_default();
        let mut is_changed = false;
        for (step, number) in self.0.iter().zip(1..) {
            let failed = |source| StepFailed { number, op: step.op(), path: step.path().to_string(), source };
            is_changed |= step.apply(&mut document).map_err(failed)?;
        }
        Ok(if is_changed { document.to_string() } else { data.to_owned() })
    }
}

impl TryFrom<Vec<Step>> for Steps {
    type Error = StepsError;

    fn try_from(steps: Vec<Step>) -> Result<Self, StepsError> {
        if (1..=Self::MAX).contains(&steps.len()) { Ok(Self(steps)) } else { Err(StepsError) }
    }
}

impl From<Steps> for Vec<Step> {
    fn from(steps: Steps) -> Self {
        steps.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steps(json: &str) -> Result<Steps, serde_json::Error> {
        serde_json::from_str(json)
    }

    fn applied(json: &str, data: &str) -> Result<String, StepFailed> {
        steps(json).unwrap().apply(data)
    }

    #[test]
    fn steps_are_applied_in_their_order() {
        let json = r#"[
            {"op": "set", "path": "/source", "value": "shop"},
            {"op": "rename", "path": "/source", "to": "/meta/source"},
            {"op": "drop", "path": "/secret"}
        ]"#;
        let data = r#"{"n": 1.10, "secret": 1, "n": 2}"#;
        assert_eq!(applied(json, data).unwrap(), r#"{"n":1.10,"n":2,"meta":{"source":"shop"}}"#);
    }

    #[test]
    fn what_no_step_touches_keeps_its_bytes() {
        let data = "{ \"a\" : 1e2,\n\"b\":[ 1.0 ,2 ] }";
        assert_eq!(applied(r#"[{"op": "drop", "path": "/missing/x"}]"#, data).unwrap(), data);
        let dropped = applied(r#"[{"op": "drop", "path": "/a"}]"#, data).unwrap();
        assert_eq!(dropped, "{\"b\":[ 1.0 ,2 ]}");
    }

    #[test]
    fn a_step_that_does_not_fit_is_named() {
        let error = applied(r#"[{"op": "set", "path": "/a/b", "value": 1}]"#, r#"{"a": 1}"#).unwrap_err();
        assert_eq!(error.to_string(), "step 1 (set /a/b) does not fit the data");
        let error = applied(r#"[{"op": "set", "path": "/a/7", "value": 1}]"#, r#"{"a": []}"#).unwrap_err();
        assert_eq!((error.number, error.path.as_str()), (1, "/a/7"));
    }

    #[test]
    fn invalid_steps_are_refused() {
        for json in [
            "[]",
            r#"[{"op": "drop"}]"#,
            r#"[{"op": "drop", "path": "a"}]"#,
            r#"[{"op": "drop", "path": ""}]"#,
            r#"[{"op": "burn", "path": "/a"}]"#,
            r#"[{"op": "drop", "path": "/a", "to": "/b"}]"#,
            r#"[{"op": "rename", "path": "/a"}]"#,
            r#"[{"op": "set", "path": "/a"}]"#,
            r#"[{"op": "mask", "path": "/a", "keep": -1}]"#,
        ] {
            assert!(steps(json).is_err(), "{json}");
        }
        let many = format!("[{}]", [r#"{"op":"drop","path":"/a"}"#; 101].join(","));
        assert!(steps(&many).is_err());
    }

    #[test]
    fn a_mask_without_keep_hides_everything() {
        let masked = applied(r#"[{"op": "mask", "path": "/a"}]"#, r#"{"a":"secret"}"#).unwrap();
        assert_eq!(masked, r#"{"a":"******"}"#);
    }

    #[test]
    fn the_version_follows_the_transform() {
        let version = |json: &str| serde_json::from_str::<Transform>(json).unwrap().version();
        let one = version(r#"{"steps": [{"op": "drop", "path": "/a"}]}"#);
        assert_eq!(one, version(r#"{"steps":[{"path":"/a","op":"drop"}]}"#));
        assert_ne!(one, version(r#"{"steps": [{"op": "drop", "path": "/b"}]}"#));
        assert_ne!(one, version(r#"{"project": "{'data': data}"}"#));
    }

    proptest! {
        #[test]
        fn steps_give_the_same_json_twice(value in "[a-z\"\\\\0-9]{0,8}", keep in 0_usize..5) {
            let steps = Steps::try_from(vec![
                Step::Mask { path: "/a".parse().unwrap(), keep },
                Step::Drop { path: "/b/0".parse().unwrap() },
            ])?;
            let data = serde_json::json!({"a": value, "b": [1, 2]}).to_string();
            let once = steps.apply(&data)?;
            prop_assert_eq!(&once, &steps.apply(&data)?);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&once).is_ok());
        }
    }
}
