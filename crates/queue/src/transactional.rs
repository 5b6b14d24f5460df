//! Queues that take part in the store's transactions.

use std::time::Duration;

use async_trait::async_trait;
use postrider_database::{Database, Guarded, Transaction, Writes};

use crate::error::QueueError;
use crate::job::{Finish, JobId, LaneId, LaneSettings, Lease, NewJob};
use crate::queue::{JobSink, LaneControl, Queue};

/// A queue that lives in the application's database and takes part in its transactions.
///
/// Its [`LaneControl`] and [`JobSink`] are derived from the methods here, each in a transaction of its own.
#[async_trait]
pub trait TransactionalQueue: Queue {
    /// The database that holds the queue's tables.
    fn database(&self) -> &Database;

    /// Adds to `writes` the statements that enqueue jobs. Call [`JobQueue::wake`](crate::JobQueue::wake) after the
    /// commit.
    fn enqueue_with(&self, jobs: &[NewJob], writes: &mut Writes);

    /// Adds to `guarded` the statements that remove jobs which are done, each given with its lane, and the expectation
    /// that all their leases are valid. Returns whether the queue can do that: if not, it adds nothing, and the caller
    /// uses [`TransactionalQueue::finish_in`].
    fn done_with(&self, done: &[(Lease, LaneId)], guarded: &mut Guarded) -> bool;

    /// Ends claims when `transaction` commits. Returns the jobs whose leases are still valid. If one of those given is
    /// missing, the worker must not commit what it did under that lease.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn finish_in(
        &self,
        transaction: &Transaction,
        finished: &[(Lease, Finish)],
    ) -> Result<Vec<JobId>, QueueError>;

    /// [`LaneControl::configure`], effective when `transaction` commits.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn configure_in(
        &self,
        transaction: &Transaction,
        lane: LaneId,
        settings: LaneSettings,
    ) -> Result<(), QueueError>;

    /// [`LaneControl::pause`], effective when `transaction` commits.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn pause_in(
        &self,
        transaction: &Transaction,
        lane: LaneId,
        duration: Duration,
    ) -> Result<(), QueueError>;

    /// [`LaneControl::resume`], effective when `transaction` commits. Call [`JobQueue::wake`](crate::JobQueue::wake)
    /// after that.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn resume_in(&self, transaction: &Transaction, lane: LaneId) -> Result<(), QueueError>;

    /// [`LaneControl::expedite`], effective when `transaction` commits. Call
    /// [`JobQueue::wake`](crate::JobQueue::wake) after that.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    async fn expedite_in(&self, transaction: &Transaction, lane: LaneId, max: u32)
    -> Result<u64, QueueError>;
}

#[async_trait]
impl<Q: TransactionalQueue> LaneControl for Q {
    async fn configure(&self, lane: LaneId, settings: LaneSettings) -> Result<(), QueueError> {
        let transaction = self.database().begin().await?;
        self.configure_in(&transaction, lane, settings).await?;
        commit(transaction).await?;
        self.wake();
        Ok(())
    }

    async fn pause(&self, lane: LaneId, duration: Duration) -> Result<(), QueueError> {
        let transaction = self.database().begin().await?;
        self.pause_in(&transaction, lane, duration).await?;
        commit(transaction).await
    }

    async fn resume(&self, lane: LaneId) -> Result<(), QueueError> {
        let transaction = self.database().begin().await?;
        self.resume_in(&transaction, lane).await?;
        commit(transaction).await?;
        self.wake();
        Ok(())
    }

    async fn expedite(&self, lane: LaneId, max: u32) -> Result<u64, QueueError> {
        let transaction = self.database().begin().await?;
        let ready = self.expedite_in(&transaction, lane, max).await?;
        commit(transaction).await?;
        self.wake();
        Ok(ready)
    }
}

#[async_trait]
impl<Q: TransactionalQueue> JobSink for Q {
    async fn enqueue(&self, jobs: &[NewJob]) -> Result<(), QueueError> {
        let mut writes = Writes::new();
        self.enqueue_with(jobs, &mut writes);
        let transaction = self.database().begin().await?;
        writes.execute(&transaction).await?;
        commit(transaction).await?;
        self.wake();
        Ok(())
    }
}

pub(crate) async fn commit(transaction: Transaction) -> Result<(), QueueError> {
    Ok(transaction.commit().await?)
}
