//! The queue over SQLite, for one process.

mod claim;
mod finish;
mod park;

use std::time::Duration;

use async_trait::async_trait;
use postrider_database::sql::{Template, column, execute, query_all, query_one};
use postrider_database::{Database, DatabaseError, Dialect, Guarded, Transaction, Writes};

use crate::enqueue::enqueue;
use crate::error::QueueError;
use crate::job::{
    Claim, Claimed, Depth, Finish, JobId, LaneId, LaneSettings, Lease, NewJob, Promoted, Rescue, Rescued,
};
use crate::lane;
use crate::queue::JobQueue;
use crate::tables::{self, STATES, duration};
use crate::transactional::{TransactionalQueue, commit};
use crate::wake::{Bell, Wakeups};

static PROMOTE: Template = Template::new(
    "UPDATE jobs SET state = {ready} WHERE id IN (
         SELECT id FROM jobs WHERE state = {scheduled} AND available_at <= {now} ORDER BY available_at LIMIT $1
     )",
    &[STATES],
);

static NEXT_DUE: Template = Template::new(
    "SELECT min(available_at) - {now} AS next_due_in FROM jobs WHERE state = {scheduled}",
    &[STATES],
);

static DEPTH: Template = Template::new(
    "SELECT state, count(*) AS jobs, {now} - min(available_at) AS oldest FROM jobs GROUP BY state",
    &[],
);

/// A queue over the tables `jobs` and `lanes` of a SQLite database.
///
/// It keeps the same rules as [`PostgresQueue`](crate::PostgresQueue). Its wake-ups reach this process only.
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
        let ready = park::park(&self.database, max).await?;
        if ready > 0 {
            self.wake();
        }
        Ok(ready)
    }

    async fn claim(&self, claim: &Claim) -> Result<Claimed, QueueError> {
        self.walk.claim(&self.database, claim).await
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<JobId>, QueueError> {
        Ok(finish::extend(&self.database, leases, lease).await?)
    }

    async fn finish(&self, finished: &[(Lease, Finish)]) -> Result<Vec<JobId>, QueueError> {
        let transaction = self.database.begin().await?;
        let held = finish::finish(&transaction, finished).await?;
        commit(transaction).await?;
        Ok(held)
    }

    async fn promote(&self, max: u32) -> Result<Promoted, QueueError> {
        let connection = self.database.connection();
        let next_due_in = async || -> Result<Option<i64>, DatabaseError> {
            let row = query_one(connection, NEXT_DUE.on(Dialect::Sqlite), []).await?;
            row.map_or(Ok(None), |row| column(&row, "next_due_in"))
        };
        // Read first: finding nothing due must not cost a write.
        let due_in = next_due_in().await?;
        if due_in.is_none_or(|millis| millis > 0) {
            return Ok(Promoted { jobs: 0, next_due_in: due_in.map(duration) });
        }
        let jobs = execute(connection, PROMOTE.on(Dialect::Sqlite), [i64::from(max).into()]).await?;
        Ok(Promoted { jobs, next_due_in: next_due_in().await?.map(duration) })
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
        Ok(tables::depth(&query_all(self.database.connection(), DEPTH.on(Dialect::Sqlite), []).await?)?)
    }

    async fn longest_wait(&self, calm: Duration) -> Result<Option<Duration>, QueueError> {
        Ok(lane::longest_wait(self.database.connection(), calm).await?)
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
        transaction: &Transaction,
        lane: LaneId,
        settings: LaneSettings,
    ) -> Result<(), QueueError> {
        Ok(lane::configure(transaction, lane, settings).await?)
    }

    async fn pause_in(
        &self,
        transaction: &Transaction,
        lane: LaneId,
        duration: Duration,
    ) -> Result<(), QueueError> {
        Ok(lane::pause(transaction, lane, duration).await?)
    }

    async fn resume_in(&self, transaction: &Transaction, lane: LaneId) -> Result<(), QueueError> {
        Ok(lane::resume(transaction, lane).await?)
    }

    async fn finish_in(
        &self,
        transaction: &Transaction,
        finished: &[(Lease, Finish)],
    ) -> Result<Vec<JobId>, QueueError> {
        Ok(finish::finish(transaction, finished).await?)
    }
}
