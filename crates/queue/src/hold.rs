//! Holding lanes until somebody releases them: the same on both databases.
//!
//! A held lane is marked as shut for good, so that searches step over any number of them.

use postrider_database::sql::Template;
use postrider_database::{Batch, Column, DatabaseError, Dialect, Kind};
use sea_orm::ConnectionTrait;

use crate::job::{Hold, LaneId};
use crate::tables::{FOREVER, WITHHELD};

const LANE: &[Column] = &[Column::new("id", Kind::Uuid)];

static HOLD: Template = Template::new(
    "INSERT INTO lanes (id, owner, ordered, rate_next_us, running, paused_until, probing, held, owner_held, shut_until)
     SELECT id, $1, false, 0, 0, 0, false, NOT $2, $2, {forever} FROM (SELECT id FROM input ORDER BY id) AS given WHERE true
     ON CONFLICT (id) DO UPDATE SET held = lanes.held OR NOT $2, owner_held = lanes.owner_held OR $2, shut_until = {forever}",
    &[FOREVER],
);

/// In the order of their ids, as all others lock them.
static LOCK: &str = "SELECT mine.id FROM (SELECT id FROM input ORDER BY id) AS given
     CROSS JOIN LATERAL (SELECT id FROM lanes WHERE lanes.id = given.id LIMIT 1 FOR UPDATE) AS mine";

static RELEASE: Template = Template::new(
    "UPDATE lanes SET held = held AND $1, owner_held = owner_held AND NOT $1,
         shut_until = CASE WHEN held AND $1 OR owner_held AND NOT $1 THEN shut_until
             WHEN paused_until > {now} THEN paused_until END
     FROM input WHERE lanes.id BETWEEN input.id AND input.id AND {on_hold}",
    &[WITHHELD],
);

pub(crate) async fn hold(
    connection: &impl ConnectionTrait,
    lanes: &[LaneId],
    owner: &str,
    hold: Hold,
) -> Result<(), DatabaseError> {
    let values = [owner.into(), (hold == Hold::Owner).into()];
    input(lanes).execute(connection, HOLD.on(Dialect::of(connection)), values).await.map(drop)
}

pub(crate) async fn release(
    connection: &impl ConnectionTrait,
    lanes: &[LaneId],
    hold: Hold,
) -> Result<(), DatabaseError> {
    let dialect = Dialect::of(connection);
    if dialect == Dialect::Postgres {
        input(lanes).query(connection, LOCK, []).await?;
    }
    let of_owner = hold == Hold::Owner;
    input(lanes).execute(connection, RELEASE.on(dialect), [of_owner.into()]).await.map(drop)
}

fn input(lanes: &[LaneId]) -> Batch {
    let mut input = Batch::new(LANE);
    for lane in lanes {
        input.push([lane.0.into()]);
    }
    input
}
