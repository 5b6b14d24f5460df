//! What came of attempts, step by step.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use postrider_core::{Clock as _, EventType, SubscriberId};
use postrider_store::series::{Attempts, Steps, StepsError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::LatencyView;
use crate::auth::Caller;
use crate::extract::Parameters;
use crate::moment::Moment;
use crate::problem::Problem;
use crate::state::ApiState;

/// The span that is answered for if no other is asked for.
const SPAN: Duration = Duration::from_hours(1);

/// What came of attempts, step by step.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SeriesView {
    /// When the first step begins.
    from: Moment,
    /// When the last step ends.
    to: Moment,
    /// How long a step is.
    #[schema(example = 60)]
    step_seconds: u64,
    /// All steps together; percentiles are those of the whole span.
    total: AttemptsView,
    /// Every step, oldest first, also those in which nothing happened.
    points: Vec<PointView>,
}

/// One step.
#[derive(Debug, Serialize, ToSchema)]
struct PointView {
    /// When it begins.
    at: Moment,
    #[serde(flatten)]
    attempts: AttemptsView,
}

/// What came of the attempts that began in a time.
#[derive(Debug, Serialize, ToSchema)]
struct AttemptsView {
    /// How many there were.
    attempts: u64,
    /// How many succeeded.
    succeeded: u64,
    /// How many failed.
    failed: u64,
    /// The failed ones by their error kind, as attempts name it; only kinds that there were.
    #[schema(example = json!({"status": 3, "timeout_headers": 1}))]
    failed_by_kind: BTreeMap<&'static str, u64>,
    /// How long the attempts took.
    duration_ms: LatencyView,
    /// How long deliveries that were made in that time waited for their first attempt.
    latency_ms: LatencyView,
}

/// What is wanted.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SeriesQuery {
    /// When the first step begins, rounded down to a whole multiple of the step; an hour before `to` if
    /// not given.
    #[param(value_type = Option<String>)]
    from: Option<Moment>,
    /// When the last step ends, rounded up; now if not given.
    #[param(value_type = Option<String>)]
    to: Option<Moment>,
    /// How long a step is: whole minutes, up to a day, as in `5m`, `1h` or `300` (seconds); a minute if not
    /// given. There may be 1500 steps. Of more than 2 days ago whole hours are known, of more than 60
    /// days ago whole days (of UTC).
    #[param(value_type = Option<String>, example = "5m")]
    step: Option<Step>,
    /// Attempts to this subscriber.
    #[param(value_type = Option<String>)]
    subscriber_id: Option<SubscriberId>,
    /// Attempts of events of this type.
    #[param(value_type = Option<String>)]
    event: Option<EventType>,
}

/// How long a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Step(Duration);

/// The text is no step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a step is a number of seconds, or of minutes (5m), hours (1h) or days (1d)")]
struct StepError;

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

/// Get a series
///
/// What came of attempts, step by step: how many there were, how many succeeded, why the others failed,
/// and how long they took. An attempt counts in the step in which it began, as soon as it is recorded.
#[utoipa::path(
    get, path = "/v1/stats/series", operation_id = "get_stats_series", tag = "stats", params(SeriesQuery),
    responses((status = 200, description = "Counts and latencies of each step.", body = SeriesView))
)]
pub(super) async fn series(
    State(state): State<ApiState>,
    caller: Caller,
    Parameters(query): Parameters<SeriesQuery>,
) -> Result<Json<SeriesView>, Problem> {
    let now = state.store.ids().clock().now();
    let to = query.to.map_or(now, |Moment(to)| to);
    let from = query.from.map_or_else(|| to - SPAN, |Moment(from)| from);
    let step = query.step.map_or(Duration::from_mins(1), |Step(step)| step);
    let steps = Steps::new(from, to, step, now).map_err(|error| wrong(error, query.from.is_some()))?;
    let (tenant, event) = (&caller.tenant, query.event.as_ref());
    let series = state.store.series(tenant, query.subscriber_id, event, steps).await?;
    let point = |(at, attempts)| PointView { at: Moment(at), attempts: AttemptsView::from(attempts) };
    Ok(Json(SeriesView {
        from: steps.from().into(),
        to: steps.to().into(),
        step_seconds: steps.step().as_secs(),
        total: series.total.into(),
        points: series.points.into_iter().map(point).collect(),
    }))
}

/// Names the parameter that is to be changed.
fn wrong(error: StepsError, has_from: bool) -> Problem {
    let parameter = match error {
        StepsError::Backwards if has_from => "from",
        StepsError::Backwards => "to",
        StepsError::Step | StepsError::TooMany(_) | StepsError::TooFine => "step",
    };
    Problem::field(parameter, &error)
}

impl From<Attempts> for AttemptsView {
    fn from(counted: Attempts) -> Self {
        let Attempts { attempts, succeeded, failed, duration, latency } = counted;
        Self {
            attempts,
            succeeded,
            failed: attempts.saturating_sub(succeeded),
            failed_by_kind: failed,
            duration_ms: duration.into(),
            latency_ms: latency.into(),
        }
    }
}

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
