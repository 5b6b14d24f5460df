//! The queue over SQLite, for one process.

mod claim;
mod finish;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use postrider_database::sql::{Template, column, execute, query_all, query_one};
use postrider_database::{
    Batch, Column, Database, DatabaseError, Dialect, Guarded, Kind, Transaction, Writes,
};

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
use crate::tables::duration;
use crate::transactional::{TransactionalQueue, commit};
use crate::turns::Turns;
use crate::wake::{Bell, Wakeups};

static DUE: Template = Template::new(
    "SELECT seq, lane FROM scheduled_jobs WHERE available_at <= {now} ORDER BY available_at, seq LIMIT $1",
    &[],
);

static PROMOTE: &str =
    "INSERT INTO jobs (id, lane, owner, subject, priority, available_at, claims, rescues, trace)
     SELECT id, scheduled_jobs.lane, owner, subject, priority, available_at, claims, rescues, trace
     FROM input CROSS JOIN scheduled_jobs ON scheduled_jobs.seq = input.seq ORDER BY available_at, scheduled_jobs.seq";

static OPEN: Template = Template::new("UPDATE lanes SET shut_until = NULL WHERE shut_until <= {now}", &[]);

/// When the next scheduled job is due, and the next shut lane opens.
static NEXT_DUE: Template = Template::new(
    "SELECT (SELECT available_at FROM scheduled_jobs ORDER BY available_at LIMIT 1) - {now} AS next_due_in,
         (SELECT shut_until FROM lanes WHERE shut_until IS NOT NULL ORDER BY shut_until LIMIT 1) - {now} AS opens_in",
    &[],
);

/// The time between two writes of a worker's row.
const CHECK_IN: Duration = Duration::from_secs(10);

/// A queue over the tables `jobs`, `scheduled_jobs`, `claims` and `lanes` of a SQLite database.
///
/// It keeps the same rules as [`PostgresQueue`](crate::PostgresQueue). Its wake-ups reach this process only.
#[derive(Debug)]
pub struct SqliteQueue {
    database: Database,
    turns: Turns,
    measure: Measure,
    bell: Bell,
    /// The worker that checked in last, and when.
    checked_in: Mutex<Option<(WorkerId, Instant)>>,
}

impl SqliteQueue {
    /// A queue over `database`, which must have the schema of `postrider-migrations`.
    pub fn new(database: Database) -> Self {
        Self {
            database,
            turns: Turns::default(),
            measure: Measure::default(),
            bell: Bell::new(),
            checked_in: Mutex::default(),
        }
    }
}

/// In how many milliseconds the next scheduled job is due and the next shut lane opens.
struct Next {
    due_in: Option<i64>,
    opens_in: Option<i64>,
}

impl SqliteQueue {
    fn is_due_to_check_in(&self, me: WorkerId) -> bool {
        let mut last = self.checked_in.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|(worker, at)| worker != me || at.elapsed() >= CHECK_IN);
        if due {
            *last = Some((me, Instant::now()));
        }
        due
    }

    async fn next(&self) -> Result<Next, DatabaseError> {
        let row = query_one(self.database.connection(), NEXT_DUE.on(Dialect::Sqlite), []).await?;
        let Some(row) = row else { return Ok(Next { due_in: None, opens_in: None }) };
        Ok(Next { due_in: column(&row, "next_due_in")?, opens_in: column(&row, "opens_in")? })
    }

    /// Moves up to `max` scheduled jobs that are due. Returns how many.
    async fn promote_due(&self, max: u32) -> Result<u64, QueueError> {
        const SEQ: &[Column] = &[Column::new("seq", Kind::Big)];
        let transaction = self.database.begin().await?;
        let rows = query_all(&transaction, DUE.on(Dialect::Sqlite), [i64::from(max).into()]).await?;
        let (mut due, mut lanes) = (Batch::new(SEQ), Vec::with_capacity(rows.len()));
        for row in &rows {
            due.push([column::<i64>(row, "seq")?.into()]);
            lanes.push(LaneId(column(row, "lane")?));
        }
        let jobs = due.clone().execute(&transaction, PROMOTE, []).await?;
        let sql = "DELETE FROM scheduled_jobs WHERE seq IN (SELECT seq FROM input)";
        due.execute(&transaction, sql, []).await?;
        commit(transaction).await?;
        self.turns.hint(&lanes);
        Ok(jobs)
    }
}

/// The ids of lanes, one after the other.
fn lane_list(lanes: HashSet<LaneId>) -> Vec<u8> {
    lanes.into_iter().flat_map(|lane| lane.0.into_bytes()).collect()
}

#[async_trait]
impl TakeJobs for SqliteQueue {
    async fn take(
        &self,
        claim: &Claim,
        lanes: &[LaneId],
        _join: Option<&Join>,
    ) -> Result<(Taken, Joined), DatabaseError> {
        Ok((claim::take(&self.turns, &self.database, claim, lanes).await?, Joined::default()))
    }
}

#[async_trait]
impl JobQueue for SqliteQueue {
    /// The row is for those who look at it, and is written now and then: its process is the only one.
    async fn check_in(&self, worker: &CheckIn) -> Result<Duties, QueueError> {
        if self.is_due_to_check_in(worker.worker) {
            let lapse = worker.lapse.max(3 * CHECK_IN);
            check_in::register(self.database.connection(), &CheckIn { lapse, ..worker.clone() }).await?;
        }
        Ok(Duties::default())
    }

    async fn check_out(&self, worker: WorkerId) -> Result<(), QueueError> {
        Ok(check_in::check_out(self.database.connection(), worker).await?)
    }

    async fn claim(&self, claim: &Claim) -> Result<Claimed, QueueError> {
        Ok(claiming::claim(self, &self.turns, &self.database, claim, None).await?.0)
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
        // Read first: finding nothing due must not cost a write.
        let Next { due_in, opens_in } = self.next().await?;
        if opens_in.is_some_and(|millis| millis <= 0) {
            execute(self.database.connection(), OPEN.on(Dialect::Sqlite), []).await?;
        }
        if due_in.is_none_or(|millis| millis > 0) {
            return Ok(Promoted { jobs: 0, next_due_in: due_in.map(duration) });
        }
        let jobs = self.promote_due(max).await?;
        Ok(Promoted { jobs, next_due_in: self.next().await?.due_in.map(duration) })
    }

    async fn rescue(&self, rescue: &Rescue) -> Result<Rescued, QueueError> {
        let transaction = self.database.begin().await?;
        let (rescued, lanes) = finish::rescue(&transaction, rescue).await?;
        commit(transaction).await?;
        if rescued.returned > 0 {
            self.wake(&lanes);
        }
        Ok(rescued)
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        Ok(self.measure.depth(self.database.connection()).await?)
    }

    async fn longest_wait(&self, calm: Duration) -> Result<Option<Duration>, QueueError> {
        Ok(self.measure.longest_wait(self.database.connection(), calm).await?)
    }

    fn wake(&self, lanes: &[LaneId]) {
        if lanes.is_empty() {
            self.turns.hint_any();
        } else {
            self.turns.hint(lanes);
        }
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
    fn done_with(&self, _done: &[Lease], _guarded: &mut Guarded) -> bool {
        false
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
