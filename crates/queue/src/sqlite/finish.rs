//! Ending claims on SQLite, and taking back those whose lease has expired.

use std::collections::BTreeMap;

use postrider_database::{Batch, Column, Kind};
use sea_orm::{DatabaseTransaction, Value};
use uuid::Uuid;

use super::query;
use crate::enqueue::{clamp, millis};
use crate::error::QueueError;
use crate::job::{Finish, JobId, Lease, Rescue, Rescued};
use crate::row::{claimed_job, column};

/// What a lane gets back: how many jobs ended, and how long it pauses.
#[derive(Default)]
struct Freed {
    jobs: i64,
    pause: i64,
}

/// See the statement for PostgreSQL: the same, in steps.
pub(super) async fn finish(
    transaction: &DatabaseTransaction,
    finished: &[(Lease, Finish)],
) -> Result<Vec<JobId>, QueueError> {
    const ENDED: &[Column] =
        &[Column::new("id", Kind::Uuid), Column::new("token", Kind::Uuid), Column::new("place", Kind::Big)];
    const REMOVED: &[Column] = &[Column::new("id", Kind::Uuid)];
    const RETURNED: &[Column] = &[
        Column::new("id", Kind::Uuid),
        Column::new("state", Kind::Small),
        Column::new("tried", Kind::Bool),
        Column::new("delay", Kind::Big),
    ];
    let mut input = Batch::new(ENDED);
    for (place, (lease, _)) in (0_i64..).zip(finished) {
        input.push([lease.job.0.into(), lease.token.0.into(), place.into()]);
    }
    let select = "SELECT jobs.id, jobs.lane, lanes.ordered, input.place FROM input \
        JOIN jobs ON jobs.id = input.id AND jobs.lease_token = input.token \
        JOIN lanes ON lanes.id = jobs.lane WHERE jobs.state = 3";
    let rows = input.query(transaction, select, []).await?;

    let (mut removed, mut returned) = (Batch::new(REMOVED), Batch::new(RETURNED));
    let mut freed: BTreeMap<Uuid, Freed> = BTreeMap::new();
    let mut held = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: Uuid = column(row, "id")?;
        let ordered: bool = column(row, "ordered")?;
        let place = usize::try_from(column::<i64>(row, "place")?).unwrap_or(usize::MAX);
        let Some((_, finish)) = finished.get(place) else { continue };
        let lane = freed.entry(column(row, "lane")?).or_default();
        lane.jobs += 1;
        held.push(JobId(id));
        match finish {
            Finish::Done | Finish::Bury => removed.push([id.into()]),
            Finish::Release => returned.push([id.into(), 0_i16.into(), false.into(), 0_i64.into()]),
            Finish::RetryIn(delay) => {
                let delay = millis(*delay);
                let state = i16::from(delay > 0 && !ordered);
                if ordered {
                    lane.pause = lane.pause.max(delay);
                }
                returned.push([id.into(), state.into(), (!ordered).into(), delay.into()]);
            }
        }
    }
    removed.execute(transaction, "DELETE FROM jobs WHERE id IN (SELECT id FROM input)", []).await?;
    let back = "UPDATE jobs SET state = input.state, priority = max(priority, input.tried), lease_token = NULL, \
            lease_until = NULL, available_at = CAST(unixepoch('subsec') * 1000 AS INTEGER) + input.delay \
        FROM input WHERE jobs.id = input.id";
    returned.execute(transaction, back, []).await?;
    free(transaction, freed).await?;
    Ok(held)
}

async fn free(transaction: &DatabaseTransaction, freed: BTreeMap<Uuid, Freed>) -> Result<(), QueueError> {
    const FREED: &[Column] =
        &[Column::new("id", Kind::Uuid), Column::new("jobs", Kind::Big), Column::new("pause", Kind::Big)];
    let mut input = Batch::new(FREED);
    for (lane, Freed { jobs, pause }) in freed {
        input.push([lane.into(), jobs.into(), pause.into()]);
    }
    let sql = "UPDATE lanes SET running = running - input.jobs, \
            paused_until = CASE WHEN input.pause = 0 THEN paused_until \
                ELSE max(paused_until, CAST(unixepoch('subsec') * 1000 AS INTEGER) + input.pause) END \
        FROM input WHERE lanes.id = input.id";
    input.execute(transaction, sql, []).await?;
    Ok(())
}

pub(super) async fn rescue(
    transaction: &DatabaseTransaction,
    rescue: &Rescue,
) -> Result<Rescued, QueueError> {
    const SQL: &str = "UPDATE jobs SET \
            state = CASE WHEN rescues >= $2 THEN 3 ELSE 0 END, \
            lease_token = CASE WHEN rescues >= $2 THEN $3 END, \
            lease_until = CASE WHEN rescues >= $2 THEN CAST(unixepoch('subsec') * 1000 AS INTEGER) + $4 END, \
            available_at = CASE WHEN rescues >= $2 THEN available_at ELSE CAST(unixepoch('subsec') * 1000 AS INTEGER) END, \
            rescues = rescues + CASE WHEN rescues >= $2 THEN 0 ELSE 1 END \
        WHERE seq IN ( \
            SELECT seq FROM jobs WHERE state = 3 AND lease_until < CAST(unixepoch('subsec') * 1000 AS INTEGER) \
            ORDER BY lease_until LIMIT $1 \
        ) \
        RETURNING id, lane, subject, claims, rescues, trace, state = 3 AS exhausted";
    let values: [Value; 4] = [
        i64::from(rescue.max).into(),
        clamp(rescue.max_rescues).into(),
        rescue.token.0.into(),
        millis(rescue.lease).into(),
    ];
    let mut rescued = Rescued::default();
    let mut freed: BTreeMap<Uuid, Freed> = BTreeMap::new();
    for row in &query(transaction, SQL, values).await? {
        if column::<i64>(row, "exhausted")? != 0 {
            rescued.exhausted.push(claimed_job(row, rescue.token)?);
        } else {
            rescued.returned += 1;
            freed.entry(column(row, "lane")?).or_default().jobs += 1;
        }
    }
    free(transaction, freed).await?;
    Ok(rescued)
}
