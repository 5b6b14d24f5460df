//! Putting jobs and lanes into the tables: the same on both databases.

use std::collections::BTreeMap;

use postrider_database::sql::Template;
use postrider_database::{Batch, Column, Dialect, Kind, Writes};

use crate::job::NewJob;
use crate::tables::{PRIORITIES, millis};

/// Lanes that exist are left out before anything is written: even an insert that conflicts costs a write. They are
/// looked up one by one, because PostgreSQL keeps the plan, and a plan made for few lanes could read all of many.
static MAKE_LANES: Template = Template::new(
    "INSERT INTO lanes (id, owner, ordered, rate_next_us, running, paused_until, probing)
     SELECT id, owner, false, 0, 0, 0, false FROM input
     WHERE (SELECT 1 FROM lanes WHERE lanes.id = input.id LIMIT 1) IS NULL
     ON CONFLICT (id) DO NOTHING",
    &[],
);

/// The transaction gets its id before its jobs get their numbers: `postgres/heads.rs` relies on that.
static MAKE_READY_ON_POSTGRES: Template =
    Template::new(MAKE_READY, &[&[("begun", " WHERE pg_current_xact_id() IS NOT NULL")], PRIORITIES]);
static MAKE_READY_ON_SQLITE: Template = Template::new(MAKE_READY, &[&[("begun", "")], PRIORITIES]);
const MAKE_READY: &str =
    "INSERT INTO jobs (id, lane, owner, subject, priority, available_at, claims, rescues, trace)
     SELECT id, lane, owner, subject, {first_try}, {now}, 0, 0, trace FROM input{begun}";

static MAKE_SCHEDULED: Template = Template::new(
    "INSERT INTO scheduled_jobs (id, lane, owner, subject, priority, available_at, claims, rescues, trace)
     SELECT id, lane, owner, subject, {first_try}, {now} + delay, 0, 0, trace FROM input",
    &[PRIORITIES],
);

pub(crate) fn enqueue(dialect: Dialect, jobs: &[NewJob], writes: &mut Writes) {
    const LANE: &[Column] = &[Column::new("id", Kind::Uuid), Column::new("owner", Kind::Text)];
    const READY: &[Column] = &[
        Column::new("id", Kind::Uuid),
        Column::new("lane", Kind::Uuid),
        Column::new("owner", Kind::Text),
        Column::new("subject", Kind::Uuid),
        Column::nullable("trace", Kind::Text),
    ];
    const SCHEDULED: &[Column] = &[
        Column::new("id", Kind::Uuid),
        Column::new("lane", Kind::Uuid),
        Column::new("owner", Kind::Text),
        Column::new("subject", Kind::Uuid),
        Column::nullable("trace", Kind::Text),
        Column::new("delay", Kind::Big),
    ];

    // In the order of their ids, so that two transactions that create the same lanes do not deadlock.
    let mut lanes = Batch::new(LANE);
    for (lane, owner) in jobs.iter().map(|job| (job.lane, &*job.owner)).collect::<BTreeMap<_, _>>() {
        lanes.push([lane.0.into(), owner.into()]);
    }
    writes.push(lanes, MAKE_LANES.on(dialect));

    let (mut ready, mut scheduled) = (Batch::new(READY), Batch::new(SCHEDULED));
    for job in jobs {
        let NewJob { id, lane, owner, subject, delay, trace } = job;
        let (owner, trace) = (owner.as_str(), trace.clone());
        if delay.is_zero() {
            ready.push([id.0.into(), lane.0.into(), owner.into(), (*subject).into(), trace.into()]);
        } else {
            let delay = millis(*delay).into();
            scheduled.push([
                id.0.into(),
                lane.0.into(),
                owner.into(),
                (*subject).into(),
                trace.into(),
                delay,
            ]);
        }
    }
    let make_ready = match dialect {
        Dialect::Postgres => &MAKE_READY_ON_POSTGRES,
        Dialect::Sqlite => &MAKE_READY_ON_SQLITE,
    };
    writes.push(ready, make_ready.on(dialect));
    writes.push(scheduled, MAKE_SCHEDULED.on(dialect));
}
