//! Filling a queue outside the database again after it has lost jobs.
//!
//! The deliveries that are pending name the jobs that the queue must have. When the queue's identity has changed, all of them
//! are offered again, lanes first, in steps whose place is kept in the table `remote_queue`. What the queue has already, it
//! leaves alone; what is dispatched in the meantime reaches it through the outbox; and what a worker records in the meantime,
//! the worker offers again itself.

use std::time::Duration;

use postrider_core::SubscriberId;
use postrider_database::sql::{Template, column, execute, query_all, query_one};
use postrider_database::{Database, Dialect, Transaction};
use postrider_queue::{Fillable, Identity, JobId, LaneId, NewJob};
use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use crate::queue_ids::lane_of;
use crate::row::PENDING;
use crate::turn::Turn;
use crate::{Store, StoreError};

/// How many lanes a step tells the queue.
const LANES: u32 = 500;

/// How many deliveries a step examines.
const DELIVERIES: u16 = 2_000;

/// The lane after which no lane comes.
const LAST: Uuid = Uuid::max();

/// Narrow rows in the order of the primary key.
static PAGE: Template = Template::new(
    "SELECT tenant, id, subscriber_id, job_id, status, next_attempt_at - {now} AS due_in FROM deliveries \
     WHERE (tenant, id) > ($1, $2) ORDER BY tenant, id LIMIT $3",
    &[],
);

static BEGIN: Template = Template::new(
    "UPDATE remote_queue SET marker = $1, filling = $2, since = {now}, after_lane = $3, after_tenant = '', after_id = $3, \
     offered = 0, missing = 0 WHERE one = 1",
    &[],
);

/// What [`Store::refill`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refill {
    /// The queue has lost nothing, is in the database, or another process fills it.
    NotNeeded,
    /// A step was taken.
    Step(Progress),
    /// The last step was taken.
    Complete(Progress),
}

/// How far a refill is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many jobs were offered.
    pub offered: u64,
    /// How many of them the queue did not have.
    pub missing: u64,
    /// Whether this is the first step.
    pub begins: bool,
}

/// How it is about the queue outside the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for a worker to begin.
    Asked,
    /// It is being filled.
    Filling(Progress),
    /// It was filled.
    Filled(Progress),
}

/// Makes the workers fill a queue outside the database again, although it seems to have lost nothing. Returns `false` if this
/// database knows of no such queue.
///
/// # Errors
/// Fails if the database is unavailable.
pub async fn ask(database: &Database) -> Result<bool, StoreError> {
    let sql = "UPDATE remote_queue SET run = '', filling = NULL, offered = 0, missing = 0 WHERE one = 1";
    Ok(execute(database.connection(), sql, []).await? > 0)
}

/// How far the refill is that was asked for.
///
/// # Errors
/// Fails if the database is unavailable.
pub async fn state(database: &Database) -> Result<State, StoreError> {
    Ok(match read_row(database.connection()).await? {
        Some(row) if row.filling.is_some() => State::Filling(row.progress),
        Some(row) if !row.run.is_empty() => State::Filled(row.progress),
        _ => State::Asked,
    })
}

/// The row of `remote_queue`.
struct Row {
    marker: Uuid,
    run: String,
    filling: Option<String>,
    after_lane: Uuid,
    after_tenant: String,
    after_id: Uuid,
    progress: Progress,
}

impl Store {
    /// Looks whether a queue outside the database has lost jobs, and takes the next step of filling it again if so.
    ///
    /// # Errors
    /// Fails if the database or the queue is unavailable. The step is then taken again.
    pub async fn refill(&self) -> Result<Refill, StoreError> {
        let Some(remote) = self.queue.remote() else { return Ok(Refill::NotNeeded) };
        let identity = remote.identity().await?;
        // Read first: finding nothing must not cost a transaction.
        let is_filled = |state: &Row| {
            state.filling.is_none() && state.run == identity.run && identity.marker == Some(state.marker)
        };
        if read_row(self.database.connection()).await?.as_ref().is_some_and(is_filled) {
            return Ok(Refill::NotNeeded);
        }
        let transaction = self.database.begin().await?;
        if !Turn::REFILLING.take(&transaction).await? {
            transaction.rollback().await?;
            return Ok(Refill::NotNeeded);
        }
        let refilled = self.refill_step(&transaction, remote, &identity).await?;
        transaction.commit().await?;
        Ok(refilled)
    }

    async fn refill_step(
        &self,
        transaction: &Transaction,
        remote: &dyn Fillable,
        identity: &Identity,
    ) -> Result<Refill, StoreError> {
        let mut state = read_row(transaction).await?;
        if state.is_none() {
            let sql =
                "INSERT INTO remote_queue (one, marker, run) VALUES (1, $1, '') ON CONFLICT (one) DO NOTHING";
            execute(transaction, sql, [self.ids.next_uuid().into()]).await?;
            state = read_row(transaction).await?;
        }
        let Some(state) = state else { return Ok(Refill::NotNeeded) };
        if state.filling.as_deref() != Some(&identity.run) {
            // From the beginning: what was offered to another run may be lost.
            let values: [Value; 3] =
                [self.ids.next_uuid().into(), identity.run.as_str().into(), Uuid::nil().into()];
            execute(transaction, BEGIN.on(Dialect::of(transaction)), values).await?;
            return Ok(Refill::Step(Progress { begins: true, ..Progress::default() }));
        }
        if state.after_lane != LAST {
            let lanes = self.queue.lane_states(Some(LaneId(state.after_lane)), LANES).await?;
            remote.put_lanes(&lanes).await?;
            let next = lanes.last().map_or(LAST, |last| last.lane.0);
            let sql = "UPDATE remote_queue SET after_lane = $1 WHERE one = 1";
            execute(transaction, sql, [next.into()]).await?;
            return Ok(Refill::Step(state.progress));
        }
        let after: [Value; 3] =
            [state.after_tenant.as_str().into(), state.after_id.into(), i64::from(DELIVERIES).into()];
        let rows = query_all(transaction, PAGE.on(Dialect::of(transaction)), after).await?;
        let mut jobs = Vec::new();
        for row in &rows {
            jobs.extend(pending_job(row)?);
        }
        let mut progress = state.progress;
        progress.offered += jobs.len() as u64;
        progress.missing += remote.offer_again(&jobs).await?;
        let Some(last) = rows.last().filter(|_| rows.len() == usize::from(DELIVERIES)) else {
            remote.mark(state.marker).await?;
            let sql = "UPDATE remote_queue SET run = filling, filling = NULL, since = NULL, offered = $1, missing = $2 \
                WHERE one = 1";
            execute(transaction, sql, [number(progress.offered), number(progress.missing)]).await?;
            return Ok(Refill::Complete(progress));
        };
        let (tenant, id): (String, Uuid) = (column(last, "tenant")?, column(last, "id")?);
        let sql = "UPDATE remote_queue SET after_tenant = $1, after_id = $2, offered = $3, missing = $4 WHERE one = 1";
        let values = [tenant.into(), id.into(), number(progress.offered), number(progress.missing)];
        execute(transaction, sql, values).await?;
        Ok(Refill::Step(progress))
    }
}

/// How far a move to another queue is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Move {
    /// How many pending deliveries were looked at.
    pub offered: u64,
    /// How many of them the queue did not have.
    pub missing: u64,
    after_lane: Option<LaneId>,
    told_lanes: bool,
    after: (String, Uuid),
}

impl Store {
    /// How many workers run, whichever queue they use.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn running_workers(&self) -> Result<usize, StoreError> {
        Ok(self.queue.workers().await?.iter().filter(|worker| !worker.silent).count())
    }

    /// Takes the next step of moving all jobs to this store's queue, from whichever queue has them. Returns whether it was the
    /// last one. Every step may be repeated. No worker may use the other queue at the same time.
    ///
    /// # Errors
    /// Fails if the database or the queue is unavailable.
    pub async fn move_jobs(&self, progress: &mut Move) -> Result<bool, StoreError> {
        if !progress.told_lanes {
            let lanes = self.queue.lane_states(progress.after_lane, LANES).await?;
            if let Some(remote) = self.queue.remote() {
                remote.put_lanes(&lanes).await?;
            }
            progress.after_lane = lanes.last().map(|last| last.lane);
            progress.told_lanes = progress.after_lane.is_none();
            return Ok(false);
        }
        let connection = self.database.connection();
        let (tenant, id) = &progress.after;
        let after: [Value; 3] = [tenant.as_str().into(), (*id).into(), i64::from(DELIVERIES).into()];
        let rows = query_all(connection, PAGE.on(Dialect::of(connection)), after).await?;
        let mut jobs = Vec::new();
        for row in &rows {
            jobs.extend(pending_job(row)?);
        }
        progress.offered += jobs.len() as u64;
        progress.missing += self.queue.adopt(&jobs).await?;
        let Some(last) = rows.last() else { return Ok(true) };
        progress.after = (column(last, "tenant")?, column(last, "id")?);
        Ok(false)
    }
}

fn number(count: u64) -> Value {
    i64::try_from(count).unwrap_or(i64::MAX).into()
}

async fn read_row(connection: &impl sea_orm::ConnectionTrait) -> Result<Option<Row>, StoreError> {
    let sql = "SELECT marker, run, filling, after_lane, after_tenant, after_id, offered, missing FROM remote_queue \
        WHERE one = 1";
    let Some(row) = query_one(connection, sql, []).await? else { return Ok(None) };
    let count = |name| Ok::<_, StoreError>(column::<i64>(&row, name)?.unsigned_abs());
    Ok(Some(Row {
        marker: column(&row, "marker")?,
        run: column(&row, "run")?,
        filling: column(&row, "filling")?,
        after_lane: column::<Option<Uuid>>(&row, "after_lane")?.unwrap_or_default(),
        after_tenant: column::<Option<String>>(&row, "after_tenant")?.unwrap_or_default(),
        after_id: column::<Option<Uuid>>(&row, "after_id")?.unwrap_or_default(),
        progress: Progress { offered: count("offered")?, missing: count("missing")?, begins: false },
    }))
}

/// The job of a delivery, if it is pending.
fn pending_job(row: &QueryResult) -> Result<Option<NewJob>, StoreError> {
    if column::<i16>(row, "status")? != PENDING {
        return Ok(None);
    }
    let Some(job) = column::<Option<Uuid>>(row, "job_id")? else { return Ok(None) };
    let due_in: Option<i64> = column(row, "due_in")?;
    Ok(Some(NewJob {
        id: JobId(job),
        lane: lane_of(SubscriberId::from_uuid(column(row, "subscriber_id")?)),
        owner: column(row, "tenant")?,
        subject: column(row, "id")?,
        delay: Duration::from_millis(
            due_in.and_then(|due_in| u64::try_from(due_in).ok()).unwrap_or_default(),
        ),
        trace: None,
    }))
}
