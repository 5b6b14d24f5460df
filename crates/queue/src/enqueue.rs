//! Putting jobs and lanes into the tables: the same on both databases.

use std::collections::BTreeSet;

use postrider_database::{Batch, Column, Dialect, Kind, Writes};

use crate::job::NewJob;

/// The states of a job, as the tables hold them. Statements spell them out where a partial index
/// must be found.
pub(crate) mod state {
    pub(crate) const READY: i16 = 0;
    pub(crate) const SCHEDULED: i16 = 1;
}

pub(crate) fn enqueue(dialect: Dialect, jobs: &[NewJob], writes: &mut Writes) {
    const LANE: &[Column] = &[Column::new("id", Kind::Uuid)];
    const JOB: &[Column] = &[
        Column::new("id", Kind::Uuid),
        Column::new("lane", Kind::Uuid),
        Column::new("subject", Kind::Uuid),
        Column::new("state", Kind::Small),
        Column::new("delay", Kind::Big),
        Column::nullable("trace", Kind::Text),
    ];

    // In order of their ids, so that two transactions that make the same lanes do not deadlock.
    let mut lanes = Batch::new(LANE);
    for lane in jobs.iter().map(|job| job.lane).collect::<BTreeSet<_>>() {
        lanes.push([lane.0.into()]);
    }
    // Left out where they exist before anything is written: a speculative insert is not free. Looked up one by one:
    // plans are kept, and one made for few lanes would join with all of many.
    let make_lanes = "INSERT INTO lanes (id, ordered, rate_next_us, running, paused_until, probing, parked) \
         SELECT id, false, 0, 0, 0, false, false FROM input \
         WHERE (SELECT 1 FROM lanes WHERE lanes.id = input.id LIMIT 1) IS NULL \
         ON CONFLICT (id) DO NOTHING";
    writes.push(lanes, make_lanes);

    let mut rows = Batch::new(JOB);
    for job in jobs {
        let state = if job.delay.is_zero() { state::READY } else { state::SCHEDULED };
        rows.push([
            job.id.0.into(),
            job.lane.0.into(),
            job.subject.into(),
            state.into(),
            millis(job.delay).into(),
            job.trace.clone().into(),
        ]);
    }
    let now = dialect.now();
    let make_jobs = format!(
        "INSERT INTO jobs (id, lane, subject, state, priority, available_at, claims, rescues, trace) \
         SELECT id, lane, subject, state, 0, {now} + delay, 0, 0, trace FROM input"
    );
    writes.push(rows, make_jobs);
}

/// A span of time as the tables hold it; rounded up, since nothing may be early.
pub(crate) fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

/// A count as the tables hold it.
pub(crate) fn clamp(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
