//! The queue over PostgreSQL.

mod claim;
mod finish;
mod heads;
mod notify;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postrider_database::sql::{Template, column, query_one};
use postrider_database::{Database, DatabaseError, Dialect, Guarded, Purpose, Transaction, Writes};
use uuid::Uuid;

use crate::check_in;
use crate::claiming::{self, TakeJobs, Taken};
use crate::enqueue::enqueue;
use crate::error::QueueError;
use crate::job::{
    CheckIn, Claim, Claimed, Depth, Duties, Finish, JobId, LaneId, LaneSettings, Lease, NewJob, Promoted,
    Rescue, Rescued, WorkerId,
};
use crate::join::{Join, Joined};
use crate::lane;
use crate::measure::Measure;
use crate::queue::JobQueue;
use crate::tables::{count, duration};
use crate::transactional::TransactionalQueue;
use crate::turns::Turns;
use crate::wake::Wakeups;
use crate::workers::{Live, Workers};

static PROMOTE: Template = Template::new(include_str!("postgres/promote.sql"), &[]);

/// A queue over the tables `jobs`, `scheduled_jobs`, `claims` and `lanes` of a PostgreSQL database.
///
/// It wakes workers in other processes by `NOTIFY`, which names lanes; only processes that serve lanes listen. Under load it
/// notifies outside the transaction that enqueues, and at most once per millisecond, since commits with notifications queue
/// up behind one lock. From the first call of
/// [`JobQueue::wakeups`] on it listens on a connection of its own.
#[derive(Debug)]
pub struct PostgresQueue {
    database: Database,
    delivery: Database,
    workers: Arc<Workers>,
    turns: Arc<Turns>,
    heads: heads::Heads,
    measure: Measure,
    notifier: notify::Notifier,
}

impl PostgresQueue {
    /// A queue over `database`, which must have the schema of `postrider-migrations`.
    ///
    /// Must be called within a tokio runtime.
    pub fn new(database: Database) -> Self {
        let workers = Arc::new(Workers::default());
        let turns = Arc::new(Turns::new(Arc::clone(&workers)));
        let notifier =
            notify::Notifier::new(database.apart_from_api(), Arc::clone(&workers), Arc::clone(&turns));
        let delivery = database.serving(Purpose::Delivery);
        let (heads, measure) = (heads::Heads::default(), Measure::default());
        Self { database, delivery, workers, turns, heads, measure, notifier }
    }
}

#[async_trait]
impl TakeJobs for PostgresQueue {
    async fn take(
        &self,
        claim: &Claim,
        lanes: &[LaneId],
        join: Option<&Join>,
    ) -> Result<(Taken, Joined), DatabaseError> {
        claim::take(&self.turns, &self.delivery, claim, lanes, join).await
    }
}

#[async_trait]
impl JobQueue for PostgresQueue {
    async fn tidy(&self) -> Result<(), QueueError> {
        Ok(self.heads.tidy(self.delivery.connection()).await?)
    }

    async fn check_in(&self, worker: &CheckIn) -> Result<Duties, QueueError> {
        let others = check_in::check_in(self.delivery.connection(), worker).await?;
        let me = Live { worker: worker.worker, busy: worker.busy };
        let (duties, changed) = self.workers.checked_in(me, others, worker.lapse);
        if changed {
            self.notifier.wake_here(&[]);
        }
        Ok(duties)
    }

    async fn check_out(&self, worker: WorkerId) -> Result<(), QueueError> {
        self.workers.checked_out(worker);
        Ok(check_in::check_out(self.delivery.connection(), worker).await?)
    }

    fn serves(&self, lane: LaneId) -> bool {
        self.workers.view().serves(lane)
    }

    async fn claim(&self, claim: &Claim) -> Result<Claimed, QueueError> {
        Ok(claiming::claim(self, &self.turns, &self.delivery, claim, None).await?.0)
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<JobId>, QueueError> {
        Ok(finish::extend(&self.delivery, leases, lease).await?)
    }

    async fn finish(&self, finished: &[(Lease, Finish)]) -> Result<Vec<JobId>, QueueError> {
        Ok(finish::finish(self.delivery.connection(), finished).await?)
    }

    async fn promote(&self, max: u32) -> Result<Promoted, QueueError> {
        let sql = PROMOTE.on(Dialect::Postgres);
        let row = query_one(self.delivery.connection(), sql, [i64::from(max).into()]).await?;
        let Some(row) = row else { return Ok(Promoted::default()) };
        let next: Option<i64> = column(&row, "next_due_in")?;
        let lanes: Option<Vec<Uuid>> = column(&row, "lanes")?;
        self.notifier.promoted(&lanes.unwrap_or_default().into_iter().map(LaneId).collect::<Vec<_>>());
        Ok(Promoted { jobs: count(&row, "jobs")?, next_due_in: next.map(duration) })
    }

    async fn rescue(&self, rescue: &Rescue) -> Result<Rescued, QueueError> {
        let (rescued, lanes) = finish::rescue(&self.delivery, rescue).await?;
        if rescued.returned > 0 {
            self.wake(&lanes);
        }
        Ok(rescued)
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        Ok(self.measure.depth(self.delivery.connection()).await?)
    }

    async fn longest_wait(&self, calm: Duration) -> Result<Option<Duration>, QueueError> {
        Ok(self.measure.longest_wait(&self.database.reads(), calm).await?)
    }

    fn wake(&self, lanes: &[LaneId]) {
        self.notifier.wake(lanes);
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

    async fn claim_joined(
        &self,
        claim: &Claim,
        join: &Join,
    ) -> Result<(Claimed, Option<Joined>), QueueError> {
        let (claimed, joined) = claiming::claim(self, &self.turns, &self.delivery, claim, Some(join)).await?;
        Ok((claimed, Some(joined)))
    }

    fn wake_with(&self, lanes: &[LaneId], writes: &mut Writes) -> bool {
        self.notifier.wake_with(lanes, writes)
    }

    fn wake_here(&self, lanes: &[LaneId]) {
        self.notifier.wake_here(lanes);
    }

    fn done_with(&self, done: &[Lease], guarded: &mut Guarded) -> bool {
        finish::done(done, guarded);
        true
    }

    async fn configure_in(
        &self,
        transaction: &Transaction,
        lane: LaneId,
        owner: &str,
        settings: LaneSettings,
    ) -> Result<(), QueueError> {
        Ok(lane::configure(transaction, lane, owner, settings).await?)
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
