//! The queue over PostgreSQL.

mod claim;
mod depth;
mod finish;
mod notify;
mod park;

use std::time::Duration;

use async_trait::async_trait;
use postrider_database::{Batch, Column, Database, DatabaseError, Dialect, Guarded, Kind, Writes};
use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult, Statement, Value};

use crate::enqueue::{enqueue, millis};
use crate::error::QueueError;
use crate::job::{
    Claim, Claimed, Depth, Finish, JobId, LaneId, LaneSettings, Lease, NewJob, Promoted, Rescue, Rescued,
};
use crate::lane;
use crate::queue::JobQueue;
use crate::row::{claimed_job, column, count, span};
use crate::transactional::TransactionalQueue;
use crate::wake::Wakeups;

/// A queue over the tables `jobs` and `lanes` of a PostgreSQL database.
///
/// It wakes workers elsewhere by `NOTIFY`: without payload, outside the transaction that enqueues,
/// and no more often than each few milliseconds, since notifying commits queue up behind one lock.
/// It listens on a connection of its own from the first call of [`JobQueue::wakeups`] on.
#[derive(Debug)]
pub struct PostgresQueue {
    database: Database,
    walk: claim::Walk,
    parking: park::Parking,
    notifier: notify::Notifier,
}

impl PostgresQueue {
    /// A queue over `database`, which must have the schema of `postrider-migrations`.
    ///
    /// Must be called within a tokio runtime.
    pub fn new(database: Database) -> Self {
        let notifier = notify::Notifier::new(database.clone());
        Self { database, walk: claim::Walk::default(), parking: park::Parking::default(), notifier }
    }

    async fn query(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<QueryResult>, QueueError> {
        let connection = self.database.connection();
        let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
        Ok(connection.query_all_raw(statement).await.map_err(DatabaseError::from)?)
    }
}

#[async_trait]
impl JobQueue for PostgresQueue {
    async fn park(&self, max: u32) -> Result<u64, QueueError> {
        let back = self.parking.park(&self.database, max).await?;
        if back > 0 {
            self.wake();
        }
        Ok(back)
    }

    async fn claim(&self, claim: &Claim) -> Result<Claimed, QueueError> {
        self.walk.claim(&self.database, claim).await
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<JobId>, QueueError> {
        const LEASE: &[Column] = &[Column::new("id", Kind::Uuid), Column::new("token", Kind::Uuid)];
        // Locked in the order of ids, as `finish` does, so that the two wait for each other rather
        // than deadlock.
        const SQL: &str = ", held AS MATERIALIZED ( \
                SELECT mine.id FROM (SELECT * FROM input ORDER BY id) AS given CROSS JOIN LATERAL ( \
                    SELECT jobs.id FROM jobs WHERE jobs.id = given.id AND jobs.lease_token = given.token \
                    LIMIT 1 FOR UPDATE \
                ) AS mine \
            ) \
            UPDATE jobs SET lease_until = (extract(epoch FROM statement_timestamp()) * 1000)::bigint + $1 \
            WHERE id = ANY (ARRAY(SELECT id FROM held)) RETURNING id";
        let mut input = Batch::new(LEASE);
        for held in leases {
            input.push([held.job.0.into(), held.token.0.into()]);
        }
        let rows = input.query(self.database.connection(), SQL, [millis(lease).into()]).await?;
        rows.iter().map(|row| Ok(JobId(column(row, "id")?))).collect()
    }

    async fn finish(&self, finished: &[(Lease, Finish)]) -> Result<Vec<JobId>, QueueError> {
        finish::finish(self.database.connection(), finished).await
    }

    async fn promote(&self, max: u32) -> Result<Promoted, QueueError> {
        // The present moment as a subquery, not joined: so that it is looked up in the index, and what is not due yet is
        // not looked at.
        const SQL: &str = "WITH clock AS MATERIALIZED ( \
                SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS now \
            ), due AS MATERIALIZED ( \
                SELECT ctid AS place FROM jobs WHERE state = 1 AND available_at <= (SELECT now FROM clock) \
                ORDER BY available_at LIMIT $1 FOR UPDATE SKIP LOCKED \
            ), promoted AS ( \
                UPDATE jobs SET state = 0 WHERE ctid = ANY (ARRAY(SELECT place FROM due)) RETURNING 1 \
            ), opened AS ( \
                UPDATE lanes SET shut = false WHERE id = ANY (ARRAY( \
                    SELECT id FROM lanes WHERE shut AND paused_until <= (SELECT now FROM clock) \
                    ORDER BY paused_until LIMIT $1 FOR UPDATE SKIP LOCKED \
                )) \
            ) \
            SELECT (SELECT count(*) FROM promoted) AS jobs, \
                (SELECT available_at FROM jobs WHERE state = 1 AND available_at > (SELECT now FROM clock) \
                 ORDER BY available_at LIMIT 1) - (SELECT now FROM clock) AS next_due_in";
        let rows = self.query(SQL, [i64::from(max).into()]).await?;
        let Some(row) = rows.first() else { return Ok(Promoted::default()) };
        let next: Option<i64> = column(row, "next_due_in")?;
        Ok(Promoted { jobs: count(row, "jobs")?, next_due_in: next.map(span) })
    }

    async fn rescue(&self, rescue: &Rescue) -> Result<Rescued, QueueError> {
        let values: [Value; 4] = [
            i64::from(rescue.max).into(),
            crate::enqueue::clamp(rescue.max_rescues).into(),
            rescue.token.0.into(),
            millis(rescue.lease).into(),
        ];
        let rows = self.query(finish::RESCUE, values).await?;
        let mut rescued = Rescued::default();
        for row in &rows {
            if column::<bool>(row, "exhausted")? {
                rescued.exhausted.push(claimed_job(row, rescue.token)?);
            } else {
                rescued.returned += 1;
            }
        }
        if rescued.returned > 0 {
            self.wake();
        }
        Ok(rescued)
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        depth::depth(&self.database).await
    }

    async fn longest_wait(&self, calm: Duration) -> Result<Option<Duration>, QueueError> {
        lane::longest_wait(self.database.connection(), calm).await
    }

    fn wake(&self) {
        self.notifier.wake();
    }

    fn wakeups(&self) -> Wakeups {
        self.notifier.wakeups()
    }
}

#[async_trait]
impl TransactionalQueue for PostgresQueue {
    fn database(&self) -> &Database {
        &self.database
    }

    fn enqueue_with(&self, jobs: &[NewJob], writes: &mut Writes) {
        enqueue(Dialect::Postgres, jobs, writes);
    }

    fn done_with(&self, done: &[(Lease, LaneId)], guarded: &mut Guarded) -> bool {
        finish::done(done, guarded);
        true
    }

    async fn configure_in(
        &self,
        transaction: &DatabaseTransaction,
        lane: LaneId,
        settings: LaneSettings,
    ) -> Result<(), QueueError> {
        lane::configure(transaction, lane, settings).await
    }

    async fn pause_in(
        &self,
        transaction: &DatabaseTransaction,
        lane: LaneId,
        duration: Duration,
    ) -> Result<(), QueueError> {
        lane::pause(transaction, lane, duration).await
    }

    async fn expedite_in(
        &self,
        transaction: &DatabaseTransaction,
        lane: LaneId,
        max: u32,
    ) -> Result<u64, QueueError> {
        lane::expedite(transaction, lane, max).await
    }

    async fn resume_in(&self, transaction: &DatabaseTransaction, lane: LaneId) -> Result<(), QueueError> {
        lane::resume(transaction, lane).await
    }

    async fn finish_in(
        &self,
        transaction: &DatabaseTransaction,
        finished: &[(Lease, Finish)],
    ) -> Result<Vec<JobId>, QueueError> {
        finish::finish(transaction, finished).await
    }
}
