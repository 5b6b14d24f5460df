//! How the tables `jobs` and `lanes` hold the queue's values, and the rules that several statements share.

use std::time::Duration;

use postrider_database::sql::{Part, column};
use postrider_database::{Batch, Column, DatabaseError, Kind};
use sea_orm::{QueryResult, Value};

use crate::job::{ClaimedJob, JobId, LaneId, Lease, LeaseToken, Place};

/// The priorities of a job. In its lane, a retry comes after all first tries.
pub(crate) const PRIORITIES: &[Part] = &[("first_try", "0"), ("retry", "1")];

/// The walk from lane to lane over the index of jobs, as a recursive table `walk(lane, step)`: at most `$2` lanes with
/// ready jobs after the lane `$1`; `$3` is the greatest id. A step from a shut lane leads to the next lane that is not
/// shut. Crowded lanes may have no ready job: the walk steps on them without looking, because removed jobs may be in the
/// way, and looks for others only in between.
pub(crate) const WALK: &[Part] = &[
    ("walk", include_str!("walk.sql")),
    ("is_stepped_over", "(SELECT shut_until FROM lanes WHERE lanes.id = walk.lane) IS NOT NULL"),
    (
        "next_open",
        "(SELECT open.id FROM lanes AS open WHERE open.shut_until IS NULL AND open.id > walk.lane \
          ORDER BY open.id LIMIT 1)",
    ),
];

/// The same walk over all lanes, also those that are shut.
pub(crate) const WALK_OVER_ALL: &[Part] =
    &[("walk", include_str!("walk.sql")), ("is_stepped_over", "false"), ("next_open", "walk.lane")];

/// A table `walk` or the like with the rows of its lanes. PostgreSQL keeps the plan, and a plan made while the table was
/// nearly empty would join with all of it once it has grown; so it gets no choice.
pub(crate) const LANES_ON_POSTGRES: &[Part] =
    &[("with_lanes", "CROSS JOIN LATERAL (SELECT * FROM lanes WHERE lanes.id = seen.lane LIMIT 1) AS lanes")];
pub(crate) const LANES_ON_SQLITE: &[Part] = &[("with_lanes", "JOIN lanes ON lanes.id = seen.lane")];

/// Since when the jobs that a claim would take first from a row of `lanes` are ready, and whether there are any.
pub(crate) const FIRST_JOBS: &[Part] = &[
    ("has_ready", "({first_new} IS NOT NULL OR {first_again} IS NOT NULL)"),
    (
        "first_new",
        "(SELECT available_at FROM jobs WHERE jobs.lane = lanes.id AND jobs.priority = {first_try} \
          AND jobs.seq >= lanes.head AND jobs.lease_token IS NULL ORDER BY jobs.seq LIMIT 1)",
    ),
    (
        "first_again",
        "(SELECT available_at FROM jobs WHERE jobs.lane = lanes.id AND jobs.priority = {retry} \
          AND jobs.lease_token IS NULL ORDER BY jobs.seq LIMIT 1)",
    ),
];

/// Whether claims take nothing from a row of `lanes` until somebody says so.
pub(crate) const WITHHELD: &[Part] =
    &[("withheld", "(draining OR {on_hold})"), ("on_hold", "(lanes.held OR lanes.owner_held)")];

/// The end of what has no end: the last millisecond of the year 9999.
pub(crate) const FOREVER: &[Part] = &[("forever", "253402300799999")];

/// When a lane lets jobs be claimed, and how many, as expressions over a row of `lanes`.
///
/// They need `{moment}`, the present in Unix milliseconds, and some of them `{default_concurrency}`, the concurrency of
/// lanes that have none of their own, `{unlimited}`, a number that no claim reaches, `{taken}`, a number of jobs,
/// `{worker}`, who claims, and `{ahead}`, how many jobs it claims that wait for others of the lane to end.
///
/// The rate is a generic cell rate algorithm: `rate_next_us` is when the next job would be due if jobs came at the full
/// rate. A job conforms if that is less than `rate_burst` intervals ahead.
pub(crate) const LANE_RULES: &[Part] = &[
    // Whether a job may be claimed now.
    ("may_claim", "(NOT {withheld} AND paused_until <= {moment} AND {rate_for} <= 0 AND NOT {at_limit})"),
    ("at_limit", "(running >= {allowed})"),
    // How many jobs a claim leaves claimed at most: those that may run at once, and those of a worker that claims ahead.
    ("allowed", "({may_run} + {may_wait})"),
    // How many jobs may run at once.
    ("may_run", "CASE WHEN ordered OR probing THEN 1 ELSE coalesce(concurrency, {default_concurrency}) END"),
    // How many more the worker `{worker}` may claim: it must have all that are claimed.
    (
        "may_wait",
        "CASE WHEN ordered OR probing OR rate_interval_us IS NOT NULL OR running > 0 AND holder IS DISTINCT FROM {worker} \
         THEN 0 ELSE {ahead} END",
    ),
    // The worker that has all claimed jobs after a claim.
    ("holder_then", "CASE WHEN {running_before} = 0 OR holder = {worker} THEN {worker} END"),
    // For how many milliseconds the rate allows nothing; zero or less if it allows something.
    (
        "rate_for",
        "CASE WHEN rate_interval_us IS NULL THEN 0 \
         ELSE (rate_next_us - {moment} * 1000 - (rate_burst - 1) * rate_interval_us + 999) / 1000 END",
    ),
    // How many jobs the rate allows now.
    (
        "rate_room",
        "CASE WHEN rate_interval_us IS NULL THEN {unlimited} \
         ELSE ({moment} * 1000 + rate_burst * rate_interval_us - {greatest}(rate_next_us, {moment} * 1000)) \
            / rate_interval_us END",
    ),
    // For how many milliseconds the rate allows nothing after a claim of `{taken}` jobs.
    (
        "rate_for_then",
        "CASE WHEN rate_interval_us IS NULL THEN 0 \
         ELSE ({rate_next} - {moment} * 1000 - (rate_burst - 1) * rate_interval_us + 999) / 1000 END",
    ),
    // `rate_next_us` after a claim of `{taken}` jobs.
    (
        "rate_next",
        "CASE WHEN rate_interval_us IS NULL THEN rate_next_us \
         ELSE {greatest}(rate_next_us, {moment} * 1000) + {taken} * rate_interval_us END",
    ),
];

/// A lane whose rate allows nothing for this many milliseconds is marked as shut, so that walks step over it. For a
/// shorter time, the mark costs more than looking at the lane.
pub(crate) const SHUT: &[Part] = &[("worth_shutting", "500")];

/// A duration in milliseconds, rounded up: a job must not be early.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

/// A duration from milliseconds; zero if they are negative.
pub(crate) fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// A count for an `integer` column or parameter.
pub(crate) fn integer(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Reads a column that counts something.
pub(crate) fn count(row: &QueryResult, name: &str) -> Result<u64, DatabaseError> {
    Ok(u64::try_from(column::<i64>(row, name)?).unwrap_or(0))
}

/// Reads a claimed job from a row of `id, lane, priority, seq, owner, subject, claims, rescues, trace`.
pub(crate) fn claimed_job(row: &QueryResult, token: LeaseToken) -> Result<ClaimedJob, DatabaseError> {
    let place = Place { priority: column(row, "priority")?, seq: column(row, "seq")? };
    Ok(ClaimedJob {
        lease: Lease { job: JobId(column(row, "id")?), token, lane: LaneId(column(row, "lane")?), place },
        owner: column(row, "owner")?,
        subject: column(row, "subject")?,
        claims: u32::try_from(column::<i32>(row, "claims")?).unwrap_or(0),
        rescues: u32::try_from(column::<i32>(row, "rescues")?).unwrap_or(0),
        trace: column(row, "trace")?,
    })
}

/// The columns that find leased jobs again.
pub(crate) const LEASE: &[Column] = &[
    Column::new("lane", Kind::Uuid),
    Column::new("priority", Kind::Small),
    Column::new("seq", Kind::Big),
    Column::new("id", Kind::Uuid),
    Column::new("token", Kind::Uuid),
];

/// The rows of [`LEASE`].
pub(crate) fn leases<'a>(leases: impl IntoIterator<Item = &'a Lease>) -> Batch {
    let mut input = Batch::new(LEASE);
    for lease in leases {
        input.push(lease_row(lease));
    }
    input
}

pub(crate) fn lease_row(Lease { job, token, lane, place }: &Lease) -> [Value; 5] {
    [lane.0.into(), place.priority.into(), place.seq.into(), job.0.into(), token.0.into()]
}

/// Reads the ids of jobs from rows of `id`.
pub(crate) fn job_ids(rows: &[QueryResult]) -> Result<Vec<JobId>, DatabaseError> {
    rows.iter().map(|row| Ok(JobId(column(row, "id")?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_up_so_that_nothing_is_early() {
        assert_eq!(millis(Duration::from_micros(1_001)), 2);
        assert_eq!(millis(Duration::MAX), i64::MAX / 4);
        assert_eq!(duration(-1), Duration::ZERO);
    }
}
