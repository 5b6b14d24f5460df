//! The steps of replays: collecting the set, and processing it.

use std::collections::{BTreeMap, HashMap};

use postrider_core::replay::{ReplayFailure, ReplayMode, ReplayStatus};
use postrider_core::{DeliveryId, EventId, ReplayId, SubscriberId, TenantId};
use postrider_database::sql::{column, execute, query_all, query_one};
use postrider_database::{Batch, Column, Dialect, Kind, Transaction};
use postrider_queue::{JobId, LaneId, NewJob};
use sea_orm::QueryResult;

use super::stored::{COLUMNS, Open, add_failure, failures_text, read_open};
use super::walk::Member;
use super::{MAX_TOTAL, ReplayStep};
use crate::cancelling::Cancelled;
use crate::intake::Sift;
use crate::{Store, StoreError};

/// How many members a step processes. Everything else waits for a step on SQLite, which has one connection.
const STEP: u64 = 500;
const STEP_ON_SQLITE: u64 = 200;

/// A member of a set that is to be processed.
pub(super) struct Row {
    pub(super) delivery: Option<DeliveryId>,
    pub(super) event: EventId,
    pub(super) subscriber: SubscriberId,
}

/// What became of the members that a step has processed.
#[derive(Default)]
pub(super) struct Processed {
    pub(super) done: u64,
    pub(super) failures: Vec<(ReplayFailure, u64)>,
    /// The jobs to tell the queue about after the commit.
    pub(super) jobs: Vec<NewJob>,
    /// What was cancelled. The queue must hear of it, too.
    pub(super) cancelled: Cancelled,
}

impl Processed {
    pub(super) fn fail(&mut self, reason: ReplayFailure) {
        add_failure(&mut self.failures, reason, 1);
    }
}

impl Store {
    /// Takes the next step of a replay of the first tenant after `after` that has one to take: collects some of its set, or
    /// makes some of the set pending, or cancels some of it. `filters` decide about missed events. Returns `None` if no replay waits for a step, or
    /// if other processes take them.
    ///
    /// # Errors
    /// Fails if the database is unavailable. The step may have been taken all the same.
    pub async fn step_replays(
        &self,
        after: Option<&TenantId>,
        filters: &dyn Sift,
    ) -> Result<Option<ReplayStep>, StoreError> {
        // Read first: finding nothing must not cost a transaction.
        let any = "SELECT 1 AS one FROM replays WHERE status < 2 LIMIT 1";
        if query_one(self.database.connection(), any, []).await?.is_none() {
            return Ok(None);
        }
        let transaction = self.database.begin().await?;
        let mut row = next(&transaction, after).await?;
        if row.is_none() && after.is_some() {
            row = next(&transaction, None).await?;
        }
        let Some(row) = row else {
            transaction.rollback().await?;
            return Ok(None);
        };
        self.step(transaction, &row, filters).await
    }

    /// Takes a step of this replay, if it has one to take and no other process takes it.
    ///
    /// # Errors
    /// Fails if the database is unavailable. The step may have been taken all the same.
    pub async fn step_replay(
        &self,
        tenant: &TenantId,
        id: ReplayId,
        filters: &dyn Sift,
    ) -> Result<Option<ReplayStep>, StoreError> {
        let transaction = self.database.begin().await?;
        let lock = lock(Dialect::of(&transaction));
        let sql = format!("SELECT {COLUMNS} FROM replays WHERE tenant = $1 AND id = $2 AND status < 2{lock}");
        let Some(row) = query_one(&transaction, sql, [tenant.as_str().into(), id.uuid().into()]).await?
        else {
            transaction.rollback().await?;
            return Ok(None);
        };
        self.step(transaction, &row, filters).await
    }

    async fn step(
        &self,
        transaction: Transaction,
        row: &QueryResult,
        filters: &dyn Sift,
    ) -> Result<Option<ReplayStep>, StoreError> {
        let open = match read_open(row) {
            Ok(open) => open,
            Err(error) => {
                // So that it does not keep others from their turn.
                pause_unreadable(&transaction, row).await?;
                transaction.commit().await?;
                return Err(error);
            }
        };
        if !open.replay.collected {
            let step = self.collect(&transaction, open, filters).await?;
            transaction.commit().await?;
            return Ok(Some(step));
        }
        let (step, jobs, ended) = self.process(&transaction, open).await?;
        transaction.commit().await?;
        if !jobs.is_empty() {
            self.queue.enqueued(&jobs);
        }
        for (lane, jobs) in &ended {
            self.queue.removed(*lane, jobs).await;
        }
        Ok(Some(step))
    }

    /// Adds what the next rows have to the set.
    async fn collect(
        &self,
        transaction: &Transaction,
        open: Open,
        filters: &dyn Sift,
    ) -> Result<ReplayStep, StoreError> {
        let Open { tenant, replay, mut walk } = open;
        let mut part = self.walk_on(transaction, &mut walk, filters).await?;
        let room = usize::try_from(MAX_TOTAL.saturating_sub(replay.total)).unwrap_or(usize::MAX);
        let truncated = part.members.len() > room;
        part.members.truncate(room);
        insert(transaction, &tenant, replay.id, replay.total, &part.members).await?;
        let collected = part.members.len() as u64;
        let total = replay.total + collected;
        let is_complete = part.is_last || truncated;
        let status = match (is_complete, total) {
            (false, _) => ReplayStatus::Collecting,
            (true, 0) => ReplayStatus::Done,
            (true, _) => ReplayStatus::Running,
        };
        let now = self.database.dialect().now();
        let end = if status.is_final() { format!(", ended_at = {now}, place = NULL") } else { String::new() };
        let sql = format!(
            "UPDATE replays SET status = $3, collected = $4, reached = $5, reached_within = $6, total = $7, \
                truncated = $8, touched_at = {now}{end} WHERE tenant = $1 AND id = $2"
        );
        let values: [sea_orm::Value; 8] = [
            tenant.as_str().into(),
            replay.id.uuid().into(),
            status.code().into(),
            is_complete.into(),
            walk.reached.into(),
            walk.within.into(),
            count(total).into(),
            truncated.into(),
        ];
        execute(transaction, sql, values).await?;
        let (cancelled, failures) = (HashMap::new(), Vec::new());
        Ok(ReplayStep { tenant, replay: replay.id, status, collected, done: 0, cancelled, failures })
    }

    /// Processes the next members of the set. Returns the jobs that it has made and those that it has ended, too.
    async fn process(
        &self,
        transaction: &Transaction,
        open: Open,
    ) -> Result<(ReplayStep, Vec<NewJob>, BTreeMap<LaneId, Vec<JobId>>), StoreError> {
        let Open { tenant, mut replay, walk } = open;
        let max = match self.database.dialect() {
            Dialect::Postgres => STEP,
            Dialect::Sqlite => STEP_ON_SQLITE,
        };
        let processed = replay.done + replay.failed;
        let last = (processed + max).min(replay.total);
        let range = || -> [sea_orm::Value; 4] {
            let (tenant, id) = (tenant.as_str().into(), replay.id.uuid().into());
            [tenant, id, count(processed).into(), count(last).into()]
        };
        let sql = "SELECT number, delivery_id, event_id, subscriber_id FROM replay_rows \
            WHERE tenant = $1 AND replay_id = $2 AND number > $3 AND number <= $4 ORDER BY number";
        let rows = query_all(transaction, sql, range()).await?;
        let rows = rows.iter().map(read_row).collect::<Result<Vec<_>, StoreError>>()?;
        let mut done = match replay.mode {
            ReplayMode::Missed => self.create_missed(transaction, &tenant, &rows).await?,
            ReplayMode::Dead | ReplayMode::All => {
                self.restart_members(transaction, &tenant, &walk, &rows).await?
            }
            ReplayMode::Cancel => self.cancel_members(transaction, &tenant, &rows).await?,
        };
        let sql = "DELETE FROM replay_rows \
            WHERE tenant = $1 AND replay_id = $2 AND number > $3 AND number <= $4";
        execute(transaction, sql, range()).await?;
        // A row that is missing was lost to something else than a step.
        for _ in rows.len() as u64..last - processed {
            done.fail(ReplayFailure::Removed);
        }
        replay.done += done.done;
        for (reason, count) in &done.failures {
            replay.failed += count;
            add_failure(&mut replay.failures, *reason, *count);
        }
        let status = if last == replay.total { ReplayStatus::Done } else { ReplayStatus::Running };
        let now = self.database.dialect().now();
        let end = if status.is_final() { format!(", ended_at = {now}, place = NULL") } else { String::new() };
        let sql = format!(
            "UPDATE replays SET status = $3, done = $4, failed = $5, failures = $6, touched_at = {now}{end} \
            WHERE tenant = $1 AND id = $2"
        );
        let values: [sea_orm::Value; 6] = [
            tenant.as_str().into(),
            replay.id.uuid().into(),
            status.code().into(),
            count(replay.done).into(),
            count(replay.failed).into(),
            failures_text(&replay.failures).into(),
        ];
        execute(transaction, sql, values).await?;
        let Processed { done, failures, jobs, cancelled: Cancelled { deliveries: cancelled, jobs: ended } } =
            done;
        let step = ReplayStep { tenant, replay: replay.id, status, collected: 0, done, cancelled, failures };
        Ok((step, jobs, ended))
    }
}

/// Finds and locks a replay of the first tenant after `after`: the one that has waited longest for a step.
async fn next(
    transaction: &Transaction,
    after: Option<&TenantId>,
) -> Result<Option<QueryResult>, StoreError> {
    let lock = lock(Dialect::of(transaction));
    let sql = format!(
        "SELECT {COLUMNS} FROM replays WHERE status < 2 AND tenant > $1 ORDER BY tenant, touched_at, id LIMIT 1{lock}"
    );
    Ok(query_one(transaction, sql, [after.map_or("", TenantId::as_str).into()]).await?)
}

const fn lock(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => " FOR UPDATE SKIP LOCKED",
        Dialect::Sqlite => "",
    }
}

async fn pause_unreadable(transaction: &Transaction, row: &QueryResult) -> Result<(), StoreError> {
    let (tenant, id): (String, uuid::Uuid) = (column(row, "tenant")?, column(row, "id")?);
    let sql = "UPDATE replays SET status = $3 WHERE tenant = $1 AND id = $2";
    execute(transaction, sql, [tenant.into(), id.into(), ReplayStatus::Paused.code().into()]).await?;
    Ok(())
}

async fn insert(
    transaction: &Transaction,
    tenant: &TenantId,
    replay: ReplayId,
    before: u64,
    members: &[Member],
) -> Result<(), StoreError> {
    const MEMBER: &[Column] = &[
        Column::new("number", Kind::Big),
        Column::nullable("delivery_id", Kind::Uuid),
        Column::new("event_id", Kind::Uuid),
        Column::new("subscriber_id", Kind::Uuid),
    ];
    let mut input = Batch::new(MEMBER);
    for (number, member) in (before + 1..).zip(members) {
        input.push([
            count(number).into(),
            member.delivery.map(DeliveryId::uuid).into(),
            member.event.uuid().into(),
            member.subscriber.uuid().into(),
        ]);
    }
    let sql = "INSERT INTO replay_rows (tenant, replay_id, number, delivery_id, event_id, subscriber_id) \
        SELECT $1, $2, number, delivery_id, event_id, subscriber_id FROM input";
    input.execute(transaction, sql, [tenant.as_str().into(), replay.uuid().into()]).await?;
    Ok(())
}

fn read_row(row: &QueryResult) -> Result<Row, StoreError> {
    Ok(Row {
        delivery: column::<Option<uuid::Uuid>>(row, "delivery_id")?.map(DeliveryId::from_uuid),
        event: EventId::from_uuid(column(row, "event_id")?),
        subscriber: SubscriberId::from_uuid(column(row, "subscriber_id")?),
    })
}

/// A count for its `bigint` column.
fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
