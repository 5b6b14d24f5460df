//! How the tables `jobs` and `lanes` hold the queue's values, and the rules that several statements share.

use std::time::Duration;

use postrider_database::DatabaseError;
use postrider_database::sql::{Part, column};
use sea_orm::QueryResult;

use crate::job::{ClaimedJob, Depth, JobId, LaneId, Lease, LeaseToken};

/// The states of a job. Statements hold them as literals, since PostgreSQL and SQLite use a partial index only for a
/// literal that matches its predicate.
pub(crate) mod state {
    pub(crate) const READY: i16 = 0;
    pub(crate) const SCHEDULED: i16 = 1;
    pub(crate) const PARKED: i16 = 2;
    pub(crate) const RUNNING: i16 = 3;
}

/// The priorities of a job. In its lane, a retry comes after all first tries.
pub(crate) mod priority {
    pub(crate) const FIRST_TRY: i16 = 0;
    pub(crate) const RETRY: i16 = 1;
}

/// The states and priorities by name.
pub(crate) const STATES: &[Part] = &[
    ("ready", "0"),
    ("scheduled", "1"),
    ("parked", "2"),
    ("running", "3"),
    ("first_try", "0"),
    ("retry", "1"),
];

/// When a lane lets jobs be claimed, and how many, as expressions over a row of `lanes`.
///
/// They need `{moment}`, the present in Unix milliseconds, and some of them `{default_concurrency}`, the concurrency of
/// lanes that have none of their own, `{unlimited}`, a number that no claim reaches, and `{taken}`, a number of jobs.
///
/// The rate is a generic cell rate algorithm: `rate_next_us` is when the next job would be due if jobs came at the full
/// rate. A job conforms if that is less than `rate_burst` intervals ahead.
pub(crate) const LANE_RULES: &[Part] = &[
    // Whether a job may be claimed now.
    ("may_claim", "(NOT draining AND paused_until <= {moment} AND {rate_for} <= 0 AND NOT {at_limit})"),
    ("at_limit", "(running >= {allowed})"),
    // How many jobs may run at once.
    ("allowed", "CASE WHEN ordered OR probing THEN 1 ELSE coalesce(concurrency, {default_concurrency}) END"),
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
    // `rate_next_us` after a claim of `{taken}` jobs.
    (
        "rate_next",
        "CASE WHEN rate_interval_us IS NULL THEN rate_next_us \
         ELSE {greatest}(rate_next_us, {moment} * 1000) + {taken} * rate_interval_us END",
    ),
];

/// Limits of parking.
pub(crate) const PARKING: &[Part] = &[
    // Parking the jobs of a lane that is paused for fewer milliseconds costs more than claims that pass over it.
    ("worth_parking", "2000"),
    // How many lanes one call opens; on SQLite, also of how many it parks jobs.
    ("lanes_opened_at_once", "500"),
];

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

/// Reads a claimed job from a row of `id, lane, subject, claims, rescues, trace`.
pub(crate) fn claimed_job(row: &QueryResult, token: LeaseToken) -> Result<ClaimedJob, DatabaseError> {
    Ok(ClaimedJob {
        lease: Lease { job: JobId(column(row, "id")?), token },
        lane: LaneId(column(row, "lane")?),
        subject: column(row, "subject")?,
        claims: u32::try_from(column::<i32>(row, "claims")?).unwrap_or(0),
        rescues: u32::try_from(column::<i32>(row, "rescues")?).unwrap_or(0),
        trace: column(row, "trace")?,
    })
}

/// Reads the ids of jobs from rows of `id`.
pub(crate) fn job_ids(rows: &[QueryResult]) -> Result<Vec<JobId>, DatabaseError> {
    rows.iter().map(|row| Ok(JobId(column(row, "id")?))).collect()
}

/// Reads depths from rows of `state, jobs, oldest`.
pub(crate) fn depth(rows: &[QueryResult]) -> Result<Depth, DatabaseError> {
    let mut depth = Depth::default();
    for row in rows {
        let jobs = count(row, "jobs")?;
        match column::<i16>(row, "state")? {
            state::READY => {
                depth.ready = jobs;
                depth.oldest_ready = column::<Option<i64>>(row, "oldest")?.map(duration);
            }
            state::SCHEDULED => depth.scheduled = jobs,
            state::PARKED => depth.parked = jobs,
            state::RUNNING => depth.running = jobs,
            other => {
                let row = format!("(one of {jobs} jobs)");
                return Err(DatabaseError::inconsistent(
                    "jobs",
                    "state",
                    row,
                    format!("no state is {other}"),
                ));
            }
        }
    }
    Ok(depth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_same_numbers_in_statements_and_in_rust() {
        let named = [
            ("ready", state::READY),
            ("scheduled", state::SCHEDULED),
            ("parked", state::PARKED),
            ("running", state::RUNNING),
            ("first_try", priority::FIRST_TRY),
            ("retry", priority::RETRY),
        ];
        for (name, number) in named {
            assert!(STATES.contains(&(name, &*number.to_string())), "{name}");
        }
    }

    #[test]
    fn times_are_rounded_up_so_that_nothing_is_early() {
        assert_eq!(millis(Duration::from_micros(1_001)), 2);
        assert_eq!(millis(Duration::MAX), i64::MAX / 4);
        assert_eq!(duration(-1), Duration::ZERO);
    }
}
