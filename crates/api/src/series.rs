//! Statistics of attempts over time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use postrider_core::{EventType, SubscriberRef};
use serde::{Deserialize, Serialize};

use crate::Moment;
use crate::stats::PercentilesView;

/// Statistics of attempts, step by step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Series))]
pub struct SeriesView {
    /// When the first step begins.
    pub from: Moment,
    /// When the last step ends.
    pub to: Moment,
    /// The length of a step in seconds.
    #[cfg_attr(feature = "schema", schema(example = 60))]
    pub step_seconds: u64,
    /// All steps together. Percentiles are those of the whole span.
    pub total: AttemptStatsView,
    /// Every step, oldest first, including those without attempts.
    pub points: Vec<SeriesPointView>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = SeriesPoint))]
pub struct SeriesPointView {
    /// When the step begins.
    pub at: Moment,
    /// Its attempts.
    #[serde(flatten)]
    pub attempts: AttemptStatsView,
}

/// Statistics of the attempts that started in a span of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = AttemptStats))]
pub struct AttemptStatsView {
    /// The number of attempts.
    pub attempts: u64,
    /// The number of attempts that succeeded.
    pub succeeded: u64,
    /// The number of attempts that failed.
    pub failed: u64,
    /// The number of failed attempts by error kind. Only kinds that occurred are listed.
    #[cfg_attr(
        feature = "schema",
        schema(value_type = BTreeMap<String, u64>, example = json!({"status": 3, "timeout_headers": 1}))
    )]
    pub failed_by_kind: BTreeMap<Cow<'static, str>, u64>,
    /// How long the attempts took.
    pub duration_ms: PercentilesView,
    /// The time from dispatch to the first attempt, of deliveries created in that span.
    pub latency_ms: PercentilesView,
}

/// Selects the attempts to count, and the steps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct SeriesQuery {
    /// When the first step begins, rounded down to a multiple of the step. Default: one hour before `to`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<MomentInput>))]
    pub from: Option<Moment>,
    /// When the last step ends, rounded up. Default: now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<MomentInput>))]
    pub to: Option<Moment>,
    /// The length of a step: whole minutes up to a day, as in `5m`, `1h` or `300` (seconds). Default: one minute. A
    /// series has at most 1500 steps. Minute steps reach back 2 days, hour steps 60 days, and steps of a day (in UTC) 400
    /// days. With `subscriber_id`, steps of less than a day reach back 14 days. With both `subscriber_id` and `event`, a
    /// step is one day, which is then the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>, example = "5m"))]
    pub step: Option<Step>,
    /// Only attempts to this subscriber: its id or its uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub subscriber_id: Option<SubscriberRef>,
    /// Only attempts of events of this type.
    #[serde(rename = "event", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub event_type: Option<EventType>,
}

/// The length of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Step(pub Duration);

/// The text is not the length of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a step is a number of seconds, or of minutes (5m), hours (1h) or days (1d)")]
pub struct StepError;

impl FromStr for Step {
    type Err = StepError;

    fn from_str(text: &str) -> Result<Self, StepError> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let seconds: u64 = match unit {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(StepError),
        };
        let number: u64 = number.parse().map_err(|_| StepError)?;
        Ok(Self(Duration::from_secs(number.checked_mul(seconds).ok_or(StepError)?)))
    }
}

impl TryFrom<String> for Step {
    type Error = StepError;

    fn try_from(text: String) -> Result<Self, StepError> {
        text.parse()
    }
}

impl From<Step> for String {
    fn from(Step(step): Step) -> Self {
        step.as_secs().to_string()
    }
}

#[cfg(feature = "schema")]
use crate::moment::MomentInput;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_seconds_or_have_a_unit() {
        for (text, seconds) in
            [("60", 60), ("300s", 300), ("5m", 300), ("1h", 3_600), ("1d", 86_400), ("0", 0), ("090", 90)]
        {
            assert_eq!(text.parse(), Ok(Step(Duration::from_secs(seconds))), "{text}");
        }
        for text in [
            "",
            "m",
            "-60",
            "+60",
            "1.5h",
            "1h30m",
            "1w",
            "5 m",
            "5M",
            "99999999999999999999",
            "9999999999999999999d",
        ] {
            assert_eq!(text.parse::<Step>(), Err(StepError), "{text}");
        }
    }
}
