//! Statistics of attempts over time.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use postrider_api::Moment;
use postrider_api::series::{AttemptStatsView, SeriesPointView, SeriesQuery, SeriesView, Step};
use postrider_core::Clock as _;
use postrider_store::stats::{AttemptCounts, Detail, Steps, StepsError};

use super::view::percentiles_view;
use crate::caller::Caller;
use crate::extract::Parameters;
use crate::named;
use crate::problem::Problem;
use crate::state::ApiState;

/// The span of a series whose request names none.
const SPAN: Duration = Duration::from_hours(1);

/// Get a series
///
/// Statistics of attempts, step by step: how many there were, how many succeeded, why the others failed, and how long
/// they took. An attempt counts in the step in which it started, as soon as its outcome is recorded.
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
    let subscriber = named::filtered(&state.store, &caller, query.subscriber_id).await?;
    let detail = Detail::of(subscriber.is_some(), query.event_type.is_some());
    let step = query.step.map_or_else(|| default_step(detail), |Step(step)| step);
    let steps =
        Steps::new(from, to, step, now, detail).map_err(|error| problem(error, query.from.is_some()))?;
    let (tenant, event_type) = (&caller.tenant, query.event_type.as_ref());
    let series = state.store.series(tenant, subscriber, event_type, steps).await?;
    let point = |(at, attempts)| SeriesPointView { at: Moment(at), attempts: attempt_stats_view(attempts) };
    Ok(Json(SeriesView {
        from: steps.from().into(),
        to: steps.to().into(),
        step_seconds: steps.step().as_secs(),
        total: attempt_stats_view(series.total),
        points: series.points.into_iter().map(point).collect(),
    }))
}

/// The step of a series whose request names none.
const fn default_step(detail: Detail) -> Duration {
    match detail {
        Detail::Fine | Detail::Subscriber => Duration::from_mins(1),
        Detail::SubscriberAndEventType => Duration::from_hours(24),
    }
}

/// The problem, with the name of the parameter to correct.
fn problem(error: StepsError, has_from: bool) -> Problem {
    let parameter = match error {
        StepsError::Backwards | StepsError::TooOld if has_from => "from",
        StepsError::Backwards => "to",
        _ => "step",
    };
    Problem::field(parameter, &error)
}

fn attempt_stats_view(counted: AttemptCounts) -> AttemptStatsView {
    let AttemptCounts { attempts, succeeded, failed, duration, latency } = counted;
    AttemptStatsView {
        attempts,
        succeeded,
        failed: attempts.saturating_sub(succeeded),
        failed_by_kind: failed.into_iter().map(|(kind, count)| (kind.into(), count)).collect(),
        duration_ms: percentiles_view(duration),
        latency_ms: percentiles_view(latency),
    }
}
