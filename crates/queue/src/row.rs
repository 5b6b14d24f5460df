//! Reading rows.

use std::time::Duration;

use postrider_database::DatabaseError;
use sea_orm::QueryResult;

use crate::enqueue::state;
use crate::error::QueueError;
use crate::job::{ClaimedJob, Depth, JobId, LaneId, Lease, LeaseToken};

/// A column's value.
pub(crate) fn column<T: sea_orm::TryGetable>(row: &QueryResult, name: &str) -> Result<T, QueueError> {
    Ok(row.try_get("", name).map_err(DatabaseError::from)?)
}

/// A column that counts something.
pub(crate) fn count(row: &QueryResult, name: &str) -> Result<u64, QueueError> {
    Ok(u64::try_from(column::<i64>(row, name)?).unwrap_or(0))
}

/// Milliseconds as a span of time; none if they are negative.
pub(crate) fn span(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// A claimed job from a row of `id, lane, subject, claims, rescues, trace`.
pub(crate) fn claimed_job(row: &QueryResult, token: LeaseToken) -> Result<ClaimedJob, QueueError> {
    Ok(ClaimedJob {
        lease: Lease { job: JobId(column(row, "id")?), token },
        lane: LaneId(column(row, "lane")?),
        subject: column(row, "subject")?,
        claims: u32::try_from(column::<i32>(row, "claims")?).unwrap_or(0),
        rescues: u32::try_from(column::<i32>(row, "rescues")?).unwrap_or(0),
        trace: column(row, "trace")?,
    })
}

/// Depths from rows of `state, jobs, oldest`.
pub(crate) fn depth(rows: &[QueryResult]) -> Result<Depth, QueueError> {
    let mut depth = Depth::default();
    for row in rows {
        let jobs = count(row, "jobs")?;
        match column::<i16>(row, "state")? {
            state::READY => {
                depth.ready = jobs;
                depth.oldest_ready = column::<Option<i64>>(row, "oldest")?.map(span);
            }
            state::SCHEDULED => depth.scheduled = jobs,
            2 => depth.parked = jobs,
            _ => depth.running = jobs,
        }
    }
    Ok(depth)
}
