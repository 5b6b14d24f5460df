//! Putting jobs and lanes into the tables: the same on both databases.

use std::collections::BTreeSet;

use postrider_database::sql::Template;
use postrider_database::{Batch, Column, Dialect, Kind, Writes};

use crate::job::NewJob;
use crate::tables::{STATES, millis, state};

/// Lanes that exist are left out before anything is written: even an insert that conflicts costs a write. They are
/// looked up one by one, because PostgreSQL keeps the plan, and a plan made for few lanes could read all of many.
static MAKE_LANES: Template = Template::new(
    "INSERT INTO lanes (id, ordered, rate_next_us, running, paused_until, probing, parked)
     SELECT id, false, 0, 0, 0, false, false FROM input
     WHERE (SELECT 1 FROM lanes WHERE lanes.id = input.id LIMIT 1) IS NULL
     ON CONFLICT (id) DO NOTHING",
    &[],
);

static MAKE_JOBS: Template = Template::new(
    "INSERT INTO jobs (id, lane, subject, state, priority, available_at, claims, rescues, trace)
     SELECT id, lane, subject, state, {first_try}, {now} + delay, 0, 0, trace FROM input",
    &[STATES],
);

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

    // In the order of their ids, so that two transactions that create the same lanes do not deadlock.
    let mut lanes = Batch::new(LANE);
    for lane in jobs.iter().map(|job| job.lane).collect::<BTreeSet<_>>() {
        lanes.push([lane.0.into()]);
    }
    writes.push(lanes, MAKE_LANES.on(dialect));

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
    writes.push(rows, MAKE_JOBS.on(dialect));
}
