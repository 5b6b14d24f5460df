//! The table `changed_lanes`: which lanes the queue has to be told about. Their state is in `lanes`.

use std::num::NonZeroU32;

use postrider_database::sql::{Part, Template, column, query_all};
use postrider_database::{Batch, Column, Database, DatabaseError, Dialect, Kind};
use sea_orm::{ConnectionTrait, QueryResult};
use uuid::Uuid;

use crate::error::QueueError;
use crate::job::{LaneId, LaneRate, LaneSettings};
use crate::remote::{Fillable, LaneHolds, LaneState};
use crate::tables::duration;

/// How many lanes the queue learns of at once.
const AT_ONCE: u16 = 500;

const LANE: &[Column] = &[Column::new("id", Kind::Uuid)];

/// Versions grow, also over the removal of a lane.
static COUNT: Template = Template::new(
    "UPDATE lanes SET state_version = CASE WHEN state_version < {now} THEN {now} ELSE state_version + 1 END FROM input
     WHERE lanes.id BETWEEN input.id AND input.id",
    &[],
);

static MARK: Template = Template::new(
    "INSERT INTO changed_lanes (lane, version)
     SELECT input.id, coalesce((SELECT state_version FROM lanes WHERE lanes.id = input.id LIMIT 1), {now}) FROM input WHERE true
     ON CONFLICT (lane) DO UPDATE SET version = excluded.version",
    &[],
);

const STATE: &[Part] = &[(
    "state",
    "lanes.owner, lanes.concurrency, lanes.ordered, lanes.rate_interval_us, lanes.rate_burst, lanes.probing,
     lanes.paused_until - {now} AS paused_for, lanes.held, lanes.owner_held, lanes.draining",
)];

static CHANGED_ON_POSTGRES: Template = Template::new(
    "SELECT changed.lane, coalesce(lanes.state_version, changed.version) AS version, {state}
     FROM (SELECT lane, version FROM changed_lanes ORDER BY lane LIMIT $1) AS changed
     LEFT JOIN LATERAL (SELECT * FROM lanes WHERE lanes.id = changed.lane LIMIT 1) AS lanes ON true",
    &[STATE],
);
static CHANGED_ON_SQLITE: Template = Template::new(
    "SELECT changed.lane, coalesce(lanes.state_version, changed.version) AS version, {state}
     FROM (SELECT lane, version FROM changed_lanes ORDER BY lane LIMIT $1) AS changed
     LEFT JOIN lanes ON lanes.id = changed.lane",
    &[STATE],
);

/// Lanes after a lane, in the order of their ids.
static PAGE: Template = Template::new(
    "SELECT lanes.id AS lane, {state} FROM lanes WHERE lanes.id > $1 ORDER BY lanes.id LIMIT $2",
    &[STATE],
);

/// Marks those of these lanes again that have changed since they were read.
const MARK_AGAIN: &str = "INSERT INTO changed_lanes (lane, version)
     SELECT lanes.id, lanes.state_version FROM input, lanes
     WHERE lanes.id BETWEEN input.id AND input.id AND lanes.state_version > input.version
     ON CONFLICT (lane) DO UPDATE SET version = excluded.version";

/// Marks lanes as changed when the transaction commits. The transaction has locked them.
pub(super) async fn mark(connection: &impl ConnectionTrait, lanes: &[LaneId]) -> Result<(), DatabaseError> {
    let input = || {
        let mut lanes: Vec<Uuid> = lanes.iter().map(|lane| lane.0).collect();
        lanes.sort_unstable();
        let mut input = Batch::new(LANE);
        for lane in lanes {
            input.push([lane.into()]);
        }
        input
    };
    let dialect = Dialect::of(connection);
    input().execute(connection, COUNT.on(dialect), []).await?;
    input().execute(connection, MARK.on(dialect), []).await.map(drop)
}

/// Tells the queue about changed lanes. Returns how many.
pub(super) async fn tell(database: &Database, remote: &dyn Fillable) -> Result<u64, QueueError> {
    let sql = match database.dialect() {
        Dialect::Postgres => CHANGED_ON_POSTGRES.on(Dialect::Postgres),
        Dialect::Sqlite => CHANGED_ON_SQLITE.on(Dialect::Sqlite),
    };
    let mut told = 0;
    loop {
        let rows = query_all(database.connection(), sql, [i64::from(AT_ONCE).into()]).await?;
        if rows.is_empty() {
            return Ok(told);
        }
        let states = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        remote.put_lanes(&states).await?;
        forget(database.connection(), &rows).await?;
        told += rows.len() as u64;
        if rows.len() < usize::from(AT_ONCE) {
            return Ok(told);
        }
    }
}

/// Forgets that lanes have changed, as the queue knows them. Of two processes that tell it about a lane, the one with the
/// older state may come last; so a lane that has changed since it was read is marked again.
async fn forget(connection: &impl ConnectionTrait, rows: &[QueryResult]) -> Result<(), DatabaseError> {
    const TOLD: &[Column] = &[Column::new("id", Kind::Uuid), Column::new("version", Kind::Big)];
    let input = || {
        let mut input = Batch::new(TOLD);
        for row in rows {
            input.push([column::<Uuid>(row, "lane")?.into(), column::<i64>(row, "version")?.into()]);
        }
        Ok::<_, DatabaseError>(input)
    };
    let sql = match Dialect::of(connection) {
        Dialect::Postgres => {
            "DELETE FROM changed_lanes USING input
             WHERE changed_lanes.lane BETWEEN input.id AND input.id AND changed_lanes.version <= input.version"
        }
        Dialect::Sqlite => {
            "DELETE FROM changed_lanes WHERE (SELECT 1 FROM input
             WHERE input.id = changed_lanes.lane AND changed_lanes.version <= input.version) IS NOT NULL"
        }
    };
    input()?.execute(connection, sql, []).await?;
    input()?.execute(connection, MARK_AGAIN, []).await.map(drop)
}

/// The state of up to `max` lanes after this one.
pub(crate) async fn page(
    connection: &impl ConnectionTrait,
    after: Option<LaneId>,
    max: u32,
) -> Result<Vec<LaneState>, DatabaseError> {
    let after = after.map_or(Uuid::nil(), |lane| lane.0);
    let sql = PAGE.on(Dialect::of(connection));
    let rows = query_all(connection, sql, [after.into(), i64::from(max).into()]).await?;
    rows.iter().map(read).collect()
}

/// A lane that does not exist any more has default settings.
fn read(row: &QueryResult) -> Result<LaneState, DatabaseError> {
    let number = |name| Ok::<_, DatabaseError>(column::<Option<i32>>(row, name)?.and_then(positive));
    let interval: Option<i64> = column(row, "rate_interval_us")?;
    let interval = interval.map(|micros| std::time::Duration::from_micros(micros.unsigned_abs()));
    let rate = interval.zip(number("rate_burst")?).map(|(interval, burst)| LaneRate { interval, burst });
    let flag = |name| Ok::<_, DatabaseError>(column::<Option<bool>>(row, name)?.unwrap_or(false));
    Ok(LaneState {
        lane: LaneId(column(row, "lane")?),
        owner: column::<Option<String>>(row, "owner")?.unwrap_or_default(),
        settings: LaneSettings { concurrency: number("concurrency")?, ordered: flag("ordered")?, rate },
        paused_for: column::<Option<i64>>(row, "paused_for")?.map(duration).unwrap_or_default(),
        probing: flag("probing")?,
        holds: LaneHolds { lane: flag("held")?, owner: flag("owner_held")?, draining: flag("draining")? },
    })
}

fn positive(number: i32) -> Option<NonZeroU32> {
    u32::try_from(number).ok().and_then(NonZeroU32::new)
}
