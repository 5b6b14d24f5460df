//! Measuring the queue at a cost that is bounded however many lanes and jobs there are.
//!
//! A measurement walks over at most [`LANES`] lanes with ready jobs and counts at most [`JOBS`] of each. If that was all,
//! its numbers are exact. Otherwise they are estimates, and the next measurement continues where this one ended.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use postrider_database::sql::{Part, Template, column, query_one};
use postrider_database::{DatabaseError, Dialect};
use sea_orm::{ConnectionTrait, Value};
use uuid::Uuid;

use crate::job::Depth;
use crate::tables::{
    FIRST_JOBS, LANES_ON_POSTGRES, LANES_ON_SQLITE, PRIORITIES, WALK, WALK_OVER_ALL, WITHHELD, count,
    duration, millis,
};

/// How many lanes one measurement looks at.
const LANES: i64 = 500;

/// Up to how many jobs of a lane are counted.
const JOBS: i64 = 1_000;

/// Up to how many scheduled jobs are counted.
const SCHEDULED: i64 = 10_000;

/// PostgreSQL keeps an estimate of the rows of a table, which vacuum and analyze update: autovacuum once a minute. Leased
/// jobs are in lanes that a claim names.
const ESTIMATED: &[Part] = &[
    ("all_jobs", "(SELECT CAST(reltuples AS bigint) FROM pg_class WHERE oid = 'jobs'::regclass)"),
    (
        "all_scheduled",
        "(SELECT CAST(reltuples AS bigint) FROM pg_class WHERE oid = 'scheduled_jobs'::regclass)",
    ),
    (
        "running",
        "(SELECT CAST(coalesce(sum((SELECT running FROM lanes WHERE lanes.id = leased.lane LIMIT 1)), 0) AS bigint) \
          FROM (SELECT DISTINCT unnest(lanes) AS lane FROM (SELECT lanes FROM claims ORDER BY token LIMIT 5000) AS few) AS leased)",
    ),
];

/// SQLite counts the entries of an index as fast as it reads them.
const COUNTED: &[Part] = &[
    ("all_jobs", "(SELECT count(*) FROM jobs)"),
    ("all_scheduled", "(SELECT count(*) FROM scheduled_jobs)"),
    ("running", "(SELECT coalesce(sum(running), 0) FROM lanes)"),
];

static DEPTH_ON_POSTGRES: Template = Template::new(
    include_str!("measure.sql"),
    &[WALK_OVER_ALL, LANES_ON_POSTGRES, ESTIMATED, WITHHELD, FIRST_JOBS, PRIORITIES],
);
static DEPTH_ON_SQLITE: Template = Template::new(
    include_str!("measure.sql"),
    &[WALK_OVER_ALL, LANES_ON_SQLITE, COUNTED, WITHHELD, FIRST_JOBS, PRIORITIES],
);
static WAIT_ON_POSTGRES: Template = Template::new(
    include_str!("longest_wait.sql"),
    &[WALK, LANES_ON_POSTGRES, WITHHELD, FIRST_JOBS, PRIORITIES],
);
static WAIT_ON_SQLITE: Template = Template::new(
    include_str!("longest_wait.sql"),
    &[WALK, LANES_ON_SQLITE, WITHHELD, FIRST_JOBS, PRIORITIES],
);

/// Where the next measurements start.
#[derive(Debug, Default)]
pub(crate) struct Measure {
    depth_after: Mutex<Uuid>,
    wait_after: Mutex<Uuid>,
}

impl Measure {
    pub(crate) async fn depth(&self, connection: &impl ConnectionTrait) -> Result<Depth, DatabaseError> {
        let after = get(&self.depth_after);
        let values: [Value; 5] =
            [after.into(), LANES.into(), Uuid::max().into(), JOBS.into(), SCHEDULED.into()];
        let statement = match Dialect::of(connection) {
            Dialect::Postgres => &DEPTH_ON_POSTGRES,
            Dialect::Sqlite => &DEPTH_ON_SQLITE,
        };
        let row = query_one(connection, statement.on(Dialect::of(connection)), values).await?;
        let Some(row) = row else { return Ok(Depth::default()) };
        let next = next_start(column(&row, "lanes")?, column(&row, "last_lane")?);
        set(&self.depth_after, next);
        let seen = Seen {
            ready: count(&row, "ready")?,
            held: count(&row, "held")?,
            long_ready: count(&row, "long_ready")?,
            long_held: count(&row, "long_held")?,
            is_all: after.is_nil() && next.is_nil(),
        };
        let running = count(&row, "running")?;
        let all = count(&row, "all_jobs")?;
        let (ready, held) = seen.estimate(all.saturating_sub(running));
        let scheduled = count(&row, "scheduled")?;
        let many = scheduled >= SCHEDULED.unsigned_abs();
        Ok(Depth {
            ready,
            held,
            running,
            scheduled: if many { scheduled.max(count(&row, "all_scheduled")?) } else { scheduled },
            oldest_ready: column::<Option<i64>>(&row, "oldest")?.map(duration),
        })
    }

    pub(crate) async fn longest_wait(
        &self,
        connection: &impl ConnectionTrait,
        calm: Duration,
    ) -> Result<Option<Duration>, DatabaseError> {
        let after = get(&self.wait_after);
        let values: [Value; 4] = [after.into(), LANES.into(), Uuid::max().into(), millis(calm).into()];
        let statement = match Dialect::of(connection) {
            Dialect::Postgres => &WAIT_ON_POSTGRES,
            Dialect::Sqlite => &WAIT_ON_SQLITE,
        };
        let row = query_one(connection, statement.on(Dialect::of(connection)), values).await?;
        let Some(row) = row else { return Ok(None) };
        set(&self.wait_after, next_start(column(&row, "lanes")?, column(&row, "last_lane")?));
        Ok(column::<Option<i64>>(&row, "waited")?.map(duration))
    }
}

/// The nil id at the end of the lanes.
fn next_start(lanes: i64, last: Option<Uuid>) -> Uuid {
    if lanes < LANES { Uuid::nil() } else { last.unwrap_or_default() }
}

fn get(after: &Mutex<Uuid>) -> Uuid {
    *after.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set(after: &Mutex<Uuid>, lane: Uuid) {
    *after.lock().unwrap_or_else(PoisonError::into_inner) = lane;
}

/// What waits in the lanes that were looked at.
struct Seen {
    /// Jobs of lanes that were counted to their end: open ones, and paused ones.
    ready: u64,
    held: u64,
    /// Lanes with more jobs: open ones, and paused ones.
    long_ready: u64,
    long_held: u64,
    /// There are no other lanes.
    is_all: bool,
}

impl Seen {
    /// How many jobs are ready and how many are held, if about `waiting` of them wait in all.
    fn estimate(&self, waiting: u64) -> (u64, u64) {
        let least = JOBS.unsigned_abs();
        let (ready, held) = (self.ready + self.long_ready * least, self.held + self.long_held * least);
        let rest = waiting.saturating_sub(ready + held);
        let share = |of: u64, part: u64, all: u64| {
            u64::try_from(u128::from(of) * u128::from(part) / u128::from(all.max(1))).unwrap_or(u64::MAX)
        };
        if !self.is_all {
            let more = share(rest, held, ready + held);
            (ready + (rest - more), held + more)
        } else if self.long_ready + self.long_held > 0 {
            let more = share(rest, self.long_held, self.long_ready + self.long_held);
            (ready + (rest - more), held + more)
        } else {
            (ready, held)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Seen = Seen { ready: 10, held: 5, long_ready: 0, long_held: 0, is_all: true };

    #[test]
    fn a_count_of_all_lanes_is_exact() {
        assert_eq!(ALL.estimate(1_000_000), (10, 5));
    }

    #[test]
    fn long_lanes_share_what_the_others_leave() {
        assert_eq!(Seen { long_held: 1, ..ALL }.estimate(500_015), (10, 500_005));
        assert_eq!(Seen { long_ready: 1, long_held: 1, ..ALL }.estimate(10_015), (5_010, 5_005));
        assert_eq!(Seen { long_ready: 2, ..ALL }.estimate(0), (2_010, 5), "an estimate that is out of date");
    }

    #[test]
    fn some_lanes_stand_for_all() {
        assert_eq!(Seen { ready: 300, held: 100, is_all: false, ..ALL }.estimate(4_000), (3_000, 1_000));
    }
}
