//! Listing lanes at a cost that is bounded however many there are: the same on both databases.
//!
//! A page examines up to [`EXAMINED`] lanes and puts those in which jobs wait in order. Of all owners together these are the
//! next lanes with ready jobs, found by a walk over the index of jobs. Of one owner they are its next lanes, found by the index
//! of owners. If there are more lanes, the pages after those continue there.

use std::cmp::Reverse;
use std::num::NonZeroU32;
use std::time::Duration;

use postrider_database::sql::{Part, Template, column, query_all};
use postrider_database::{Batch, Column, DatabaseError, Dialect, Kind};
use sea_orm::{ConnectionTrait, QueryResult, Value};
use uuid::Uuid;

use crate::job::{LaneId, LaneRate, LaneSettings};
use crate::tables::{
    FIRST_JOBS, LANES_ON_POSTGRES, LANES_ON_SQLITE, PRIORITIES, WALK_OVER_ALL, count, duration,
};
use crate::view::{LaneCursor, LaneOrder, LanePage, LanePause, LaneQuery, LaneStatus};

/// How many lanes one page examines.
const EXAMINED: usize = 1_000;

/// How many jobs one page counts in all, about, and the bounds of how many of each lane.
const COUNTED: usize = 500_000;
const COUNTED_OF_EACH: (usize, usize) = (500, 100_000);

const OF_ALL: &[Part] = &[("source", "{walk}, seen AS (SELECT lane FROM walk WHERE lane IS NOT NULL)")];

/// The comparison of rows begins the scan, so that no other index is good, whatever PostgreSQL knows of the table.
const OF_OWNER_ON_POSTGRES: &[Part] = &[(
    "source",
    "seen AS (SELECT id AS lane FROM lanes WHERE (owner, id) > ($3, $1) AND owner <= $3 ORDER BY owner, id LIMIT $2)",
)];
const OF_OWNER_ON_SQLITE: &[Part] =
    &[("source", "seen AS (SELECT id AS lane FROM lanes WHERE owner = $3 AND id > $1 ORDER BY id LIMIT $2)")];

static ALL_ON_POSTGRES: Template = Template::new(
    include_str!("lanes.sql"),
    &[OF_ALL, WALK_OVER_ALL, LANES_ON_POSTGRES, FIRST_JOBS, PRIORITIES],
);
static ALL_ON_SQLITE: Template = Template::new(
    include_str!("lanes.sql"),
    &[OF_ALL, WALK_OVER_ALL, LANES_ON_SQLITE, FIRST_JOBS, PRIORITIES],
);
static OWNED_ON_POSTGRES: Template = Template::new(
    include_str!("lanes.sql"),
    &[OF_OWNER_ON_POSTGRES, LANES_ON_POSTGRES, FIRST_JOBS, PRIORITIES],
);
static OWNED_ON_SQLITE: Template =
    Template::new(include_str!("lanes.sql"), &[OF_OWNER_ON_SQLITE, LANES_ON_SQLITE, FIRST_JOBS, PRIORITIES]);

/// How many jobs wait in lanes, up to `$1` of each kind.
static COUNT: Template = Template::new(
    "SELECT input.id, (SELECT count(*) FROM (
         SELECT 1 FROM jobs WHERE jobs.lane = input.id AND jobs.priority = {first_try} AND jobs.seq >= input.head
             AND jobs.lease_token IS NULL LIMIT $1
     ) AS few) AS first_tries, (SELECT count(*) FROM (
         SELECT 1 FROM jobs WHERE jobs.lane = input.id AND jobs.priority = {retry} AND jobs.lease_token IS NULL LIMIT $1
     ) AS few) AS retries, (SELECT count(*) FROM (
         SELECT 1 FROM scheduled_jobs WHERE scheduled_jobs.lane = input.id LIMIT $1
     ) AS few) AS scheduled
     FROM input",
    &[PRIORITIES],
);

/// A lane that was examined, and its head.
struct Examined {
    status: LaneStatus,
    head: i64,
}

pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    query: &LaneQuery,
) -> Result<LanePage, DatabaseError> {
    let (after, most) = query.examined(EXAMINED);
    let cursor = LaneCursor { after, skip: query.after.map_or(0, |cursor| cursor.skip) };
    let rows = examine(connection, query.owner.as_deref(), after, most).await?;
    let last = if rows.len() < most || query.lane.is_some() { None } else { last_of(&rows)? };
    let found = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let mut found: Vec<Examined> = found.into_iter().flatten().collect();
    found.retain(|Examined { status, .. }| query.selects(status.lane, &status.owner));
    if query.order == LaneOrder::Depth {
        count_jobs(connection, &mut found).await?;
    }
    found.sort_unstable_by_key(|Examined { status, .. }| match query.order {
        LaneOrder::Depth => (Reverse(status.waiting), Reverse(status.oldest), status.lane),
        LaneOrder::Age => (Reverse(0), Reverse(status.oldest), status.lane),
    });
    let (skip, limit) = (cursor.skip as usize, usize::from(query.limit));
    let next = if found.len() > skip + limit {
        Some(LaneCursor { skip: cursor.skip.saturating_add(query.limit.into()), ..cursor })
    } else {
        last.map(|after| LaneCursor { after, skip: 0 })
    };
    let mut found: Vec<Examined> = found.into_iter().skip(skip).take(limit).collect();
    if query.order == LaneOrder::Age {
        count_jobs(connection, &mut found).await?;
    }
    Ok(LanePage { lanes: found.into_iter().map(|found| found.status).collect(), next })
}

/// Reads the next lanes after this one, up to `most`.
async fn examine(
    connection: &impl ConnectionTrait,
    owner: Option<&str>,
    after: LaneId,
    most: usize,
) -> Result<Vec<QueryResult>, DatabaseError> {
    let dialect = Dialect::of(connection);
    let (statement, third): (_, Value) = match (owner, dialect) {
        (None, Dialect::Postgres) => (&ALL_ON_POSTGRES, Uuid::max().into()),
        (None, Dialect::Sqlite) => (&ALL_ON_SQLITE, Uuid::max().into()),
        (Some(owner), Dialect::Postgres) => (&OWNED_ON_POSTGRES, owner.into()),
        (Some(owner), Dialect::Sqlite) => (&OWNED_ON_SQLITE, owner.into()),
    };
    let examined = i64::try_from(most).unwrap_or(i64::MAX);
    query_all(connection, statement.on(dialect), [after.0.into(), examined.into(), third]).await
}

fn last_of(rows: &[QueryResult]) -> Result<Option<LaneId>, DatabaseError> {
    let ids = rows.iter().map(|row| Ok(LaneId(column(row, "id")?)));
    Ok(ids.collect::<Result<Vec<_>, DatabaseError>>()?.into_iter().max())
}

/// Reads a lane. `None` if no job waits in it.
fn read(row: &QueryResult) -> Result<Option<Examined>, DatabaseError> {
    let new_for: Option<i64> = column(row, "new_for")?;
    let again_for: Option<i64> = column(row, "again_for")?;
    let Some(oldest) = new_for.max(again_for).map(duration) else { return Ok(None) };
    let ordered = column(row, "ordered")?;
    let concurrency: Option<i32> = column(row, "concurrency")?;
    let interval: Option<i64> = column(row, "rate_interval_us")?;
    let burst: Option<i32> = column(row, "rate_burst")?;
    let rate = interval.zip(burst.and_then(positive)).map(|(interval, burst)| LaneRate {
        interval: Duration::from_micros(interval.unsigned_abs()),
        burst,
    });
    let settings = LaneSettings { concurrency: concurrency.and_then(positive), ordered, rate };
    let paused_for = duration(column(row, "paused_for")?);
    let pause = match (column(row, "draining")?, column(row, "held")?, column(row, "owner_held")?) {
        (true, _, _) => Some(LanePause::Draining),
        (_, true, _) => Some(LanePause::Held),
        (_, _, true) => Some(LanePause::OwnerHeld),
        _ => pause(paused_for, column(row, "probing")?),
    };
    let running: i32 = column(row, "running")?;
    let status = LaneStatus {
        lane: LaneId(column(row, "id")?),
        owner: column(row, "owner")?,
        settings,
        waiting: 0,
        scheduled: 0,
        more: false,
        running: u64::try_from(running).unwrap_or(0),
        oldest,
        pause,
    };
    Ok(Some(Examined { status, head: column(row, "head")? }))
}

/// An ordered lane that waits for a retry is paused, and does not probe.
fn pause(paused_for: Duration, probing: bool) -> Option<LanePause> {
    match (paused_for.is_zero(), probing) {
        (false, true) => Some(LanePause::Paused(paused_for)),
        (false, false) => Some(LanePause::AwaitsRetry(paused_for)),
        (true, true) => Some(LanePause::Probing),
        (true, false) => None,
    }
}

/// Counts what waits in these lanes.
async fn count_jobs(connection: &impl ConnectionTrait, lanes: &mut [Examined]) -> Result<(), DatabaseError> {
    const LANE: &[Column] = &[Column::new("id", Kind::Uuid), Column::new("head", Kind::Big)];
    if lanes.is_empty() {
        return Ok(());
    }
    let mut input = Batch::new(LANE);
    for Examined { status, head } in lanes.iter() {
        input.push([status.lane.0.into(), (*head).into()]);
    }
    let (least, most) = COUNTED_OF_EACH;
    let most = (COUNTED / lanes.len()).clamp(least, most) as u64;
    let sql = COUNT.on(Dialect::of(connection));
    let counted = input.query(connection, sql, [i64::try_from(most).unwrap_or(i64::MAX).into()]).await?;
    let mut counts = std::collections::HashMap::with_capacity(counted.len());
    for row in &counted {
        let of_lane = (count(row, "first_tries")?, count(row, "retries")?, count(row, "scheduled")?);
        counts.insert(LaneId(column(row, "id")?), of_lane);
    }
    for Examined { status, .. } in lanes {
        let (first_tries, retries, scheduled) = counts.get(&status.lane).copied().unwrap_or_default();
        status.waiting = first_tries + retries;
        status.scheduled = scheduled;
        status.more = [first_tries, retries, scheduled].iter().any(|counted| *counted >= most);
    }
    Ok(())
}

fn positive(number: i32) -> Option<NonZeroU32> {
    u32::try_from(number).ok().and_then(NonZeroU32::new)
}
