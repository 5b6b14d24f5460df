//! The queue over SQLite, for one process.

mod claim;
mod finish;
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
use crate::row::{column, depth, span};
use crate::transactional::{TransactionalQueue, commit};
use crate::wake::{Bell, Wakeups};

/// A queue over the tables `jobs` and `lanes` of a SQLite database.
///
/// It keeps the same rules as the one over PostgreSQL. Its wake-ups reach this process only.
#[derive(Debug)]
pub struct SqliteQueue {
    database: Database,
    walk: claim::Walk,
    bell: Bell,
}

impl SqliteQueue {
    /// A queue over `database`, which must have the schema of `postrider-migrations`.
    pub fn new(database: Database) -> Self {
        Self { database, walk: claim::Walk::default(), bell: Bell::new() }
    }
}

#[async_trait]
impl JobQueue for SqliteQueue {
    async fn park(&self, max: u32) -> Result<u64, QueueError> {
        let back = park::park(&self.database, max).await?;
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
        const SQL: &str = "UPDATE jobs SET lease_until = CAST(unixepoch('subsec') * 1000 AS INTEGER) + $1 \
            FROM input WHERE jobs.id = input.id AND jobs.lease_token = input.token AND jobs.state = 3 \
            RETURNING jobs.id";
        let mut input = Batch::new(LEASE);
        for held in leases {
            input.push([held.job.0.into(), held.token.0.into()]);
        }
        let rows = input.query(self.database.connection(), SQL, [millis(lease).into()]).await?;
        rows.iter().map(|row| Ok(JobId(column(row, "id")?))).collect()
    }

    async fn finish(&self, finished: &[(Lease, Finish)]) -> Result<Vec<JobId>, QueueError> {
        let transaction = self.database.begin().await?;
        let held = finish::finish(&transaction, finished).await?;
        commit(transaction).await?;
        Ok(held)
    }

    async fn promote(&self, max: u32) -> Result<Promoted, QueueError> {
        const DUE: &str = "UPDATE jobs SET state = 0 WHERE id IN ( \
                SELECT id FROM jobs WHERE state = 1 AND available_at <= CAST(unixepoch('subsec') * 1000 AS INTEGER) \
                ORDER BY available_at LIMIT $1 \
            )";
        const NEXT: &str = "SELECT min(available_at) - CAST(unixepoch('subsec') * 1000 AS INTEGER) AS next_due_in \
            FROM jobs WHERE state = 1";
        let connection = self.database.connection();
        // Asked first: to find nothing due must cost no write.
        let next = || async {
            let rows = query(connection, NEXT, []).await?;
            rows.first().map_or(Ok(None), |row| column::<Option<i64>>(row, "next_due_in"))
        };
        let due_in = next().await?;
        if due_in.is_none_or(|millis| millis > 0) {
            return Ok(Promoted { jobs: 0, next_due_in: due_in.map(span) });
        }
        let statement =
            Statement::from_sql_and_values(connection.get_database_backend(), DUE, [i64::from(max).into()]);
        let jobs = connection.execute_raw(statement).await.map_err(DatabaseError::from)?.rows_affected();
        Ok(Promoted { jobs, next_due_in: next().await?.map(span) })
    }

    async fn rescue(&self, rescue: &Rescue) -> Result<Rescued, QueueError> {
        let transaction = self.database.begin().await?;
        let rescued = finish::rescue(&transaction, rescue).await?;
        commit(transaction).await?;
        if rescued.returned > 0 {
            self.wake();
        }
        Ok(rescued)
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        const SQL: &str = "SELECT state, count(*) AS jobs, \
            CAST(unixepoch('subsec') * 1000 AS INTEGER) - min(available_at) AS oldest FROM jobs GROUP BY state";
        depth(&query(self.database.connection(), SQL, []).await?)
    }

    async fn longest_wait(&self, calm: Duration) -> Result<Option<Duration>, QueueError> {
        lane::longest_wait(self.database.connection(), calm).await
    }

    fn wake(&self) {
        self.bell.ring();
    }

    fn wakeups(&self) -> Wakeups {
        self.bell.listen()
    }
}

#[async_trait]
impl TransactionalQueue for SqliteQueue {
    fn database(&self) -> &Database {
        &self.database
    }

    fn enqueue_with(&self, jobs: &[NewJob], writes: &mut Writes) {
        enqueue(Dialect::Sqlite, jobs, writes);
    }

    /// SQLite runs no [`Guarded`] writes.
    fn done_with(&self, _done: &[(Lease, LaneId)], _guarded: &mut Guarded) -> bool {
        false
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

async fn query(
    connection: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<QueryResult>, QueueError> {
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    Ok(connection.query_all_raw(statement).await.map_err(DatabaseError::from)?)
}
