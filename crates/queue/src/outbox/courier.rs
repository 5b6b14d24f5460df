//! Tells the queue after the commit what a transaction has written, apart from the transaction's caller.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postrider_database::Database;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{jobs, lanes};
use crate::error::QueueError;
use crate::job::{Finish, JobId, LaneId, NewJob};
use crate::remote::{Fillable, Finished, RemoteQueue};

/// How many transactions may wait. What does not fit is relayed.
const WAITING: usize = 256;

/// How many jobs are offered at once.
const AT_ONCE: usize = 2_000;

/// How long a worker waits until the queue knows that its jobs have ended. It has other outcomes to record.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// For how long to repeat this after that. Jobs of which the queue hears nothing end with their leases.
const FINISHING: Duration = Duration::from_secs(30);

/// How many batches of ends may wait for that.
const ENDS: usize = 256;

/// How long to wait before telling the queue again.
const AGAIN: Duration = Duration::from_millis(100);

/// Jobs on their way to the queue.
#[derive(Debug)]
enum Offered {
    /// Their transaction has committed. They are in the outbox.
    Committed(Vec<NewJob>),
    /// The queue had them and has lost them. They are not in the outbox.
    Lost(Vec<NewJob>),
}

#[derive(Debug)]
pub(crate) struct Courier {
    offers: mpsc::Sender<Offered>,
    lanes: Arc<Notify>,
    marked: AtomicBool,
    ends: mpsc::Sender<(Instant, Vec<Finished>)>,
    late_ends: Option<mpsc::Receiver<(Instant, Vec<Finished>)>>,
    tasks: Vec<AbortHandle>,
}

impl Courier {
    pub(crate) fn start(database: Database, remote: Arc<dyn Fillable>) -> Self {
        let (offers, receiver) = mpsc::channel(WAITING);
        let lanes = Arc::new(Notify::new());
        let offering = tokio::spawn(offer(database.clone(), Arc::clone(&remote), receiver));
        let telling = tokio::spawn(tell(database, remote, Arc::clone(&lanes)));
        let tasks = vec![offering.abort_handle(), telling.abort_handle()];
        let (ends, late_ends) = mpsc::channel(ENDS);
        Self { offers, lanes, marked: AtomicBool::new(false), ends, late_ends: Some(late_ends), tasks }
    }

    /// Also tells this queue later which jobs have ended while it was away.
    pub(super) fn finishing_late(mut self, remote: Arc<dyn RemoteQueue>) -> Self {
        if let Some(ends) = self.late_ends.take() {
            let finishing = tokio::spawn(finish_late(remote, ends, self.offers.clone()));
            self.tasks.push(finishing.abort_handle());
        }
        self
    }

    /// Offers jobs whose transaction has committed.
    pub(crate) fn offer(&self, jobs: &[NewJob]) {
        if !jobs.is_empty() {
            // If too many wait, these stay in the outbox until they are relayed.
            let _ = self.offers.try_send(Offered::Committed(jobs.to_vec()));
        }
    }

    /// A transaction has marked lanes.
    pub(super) fn lanes_marked(&self) {
        self.marked.store(true, Ordering::Release);
    }

    /// Tells the queue about the lanes that transactions have marked, if there are any.
    pub(super) fn tell_lanes(&self) {
        if self.marked.swap(false, Ordering::AcqRel) {
            self.lanes.notify_one();
        }
    }

    /// Ends jobs whose outcomes are recorded. If the queue is away, it learns of them later.
    pub(super) async fn finish(&self, remote: &dyn RemoteQueue, finished: &[Finished]) {
        let ends: Vec<_> = finished.iter().map(|one| (one.lease, one.finish)).collect();
        let error = match timeout(FIRST_WAIT, remote.finish(&ends)).await {
            Ok(Ok(held)) => {
                offer_lost(&self.offers, finished, &held);
                return;
            }
            Ok(Err(error)) if !error.is_unavailable() => {
                tracing::error!(%error, "jobs not finished; their leases expire");
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", FIRST_WAIT.as_secs()),
        };
        tracing::debug!(error, "jobs not finished; trying again");
        // If too many wait, the leases of these jobs expire.
        let _ = self.ends.try_send((Instant::now(), finished.to_vec()));
    }
}

/// Offers those jobs that the queue has lost and whose deliveries are still pending. If too many wait, a refill offers them.
fn offer_lost(offers: &mpsc::Sender<Offered>, finished: &[Finished], held: &[JobId]) {
    let lost = finished.iter().filter(|one| !held.contains(&one.lease.job));
    let lost: Vec<NewJob> = lost.filter_map(Finished::again).collect();
    if !lost.is_empty() {
        let _ = offers.try_send(Offered::Lost(lost));
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Finished {
    /// The job to be offered if the queue does not have it any more.
    fn again(&self) -> Option<NewJob> {
        let Finish::RetryIn(delay) = self.finish else { return None };
        let (owner, subject) = self.about.clone()?;
        Some(NewJob { id: self.lease.job, lane: self.lease.lane, owner, subject, delay, trace: None })
    }
}

/// Offers jobs and deletes their rows, the last ones during the next offer.
async fn offer(database: Database, remote: Arc<dyn Fillable>, mut receiver: mpsc::Receiver<Offered>) {
    let mut offered: Vec<Uuid> = Vec::new();
    let mut is_away = false;
    while let Some(first) = receiver.recv().await {
        let mut load = Load::default();
        load.add(first);
        while load.committed.len() + load.lost.len() < AT_ONCE
            && let Ok(more) = receiver.try_recv()
        {
            load.add(more);
        }
        let deleting = async {
            // What is not deleted is relayed, which changes nothing.
            let _ = jobs::delete(database.connection(), &offered).await;
        };
        let (answer, ()) = tokio::join!(load.offer(&database, &*remote, &offered), deleting);
        offered.clear();
        match answer {
            Ok(rows) => {
                is_away = false;
                offered = rows;
            }
            Err(error) if is_away => tracing::debug!(%error, "jobs wait in the outbox"),
            Err(error) => {
                is_away = true;
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::warn!(error, "the queue takes no jobs; they wait in the outbox");
            }
        }
        if receiver.is_empty() && !offered.is_empty() {
            let _ = jobs::delete(database.connection(), &offered).await;
            offered.clear();
        }
    }
}

/// What is offered at once.
#[derive(Debug, Default)]
struct Load {
    committed: Vec<NewJob>,
    /// The rows of these jobs in the outbox.
    rows: Vec<Uuid>,
    lost: Vec<NewJob>,
}

impl Load {
    fn add(&mut self, offered: Offered) {
        match offered {
            Offered::Committed(jobs) => {
                self.rows.extend(jobs::rows_of(&jobs));
                self.committed.extend(jobs);
            }
            Offered::Lost(jobs) => self.lost.extend(jobs),
        }
    }

    /// Returns the rows whose jobs the queue has now. It has those of the rows `known` already.
    async fn offer(
        self,
        database: &Database,
        remote: &dyn Fillable,
        known: &[Uuid],
    ) -> Result<Vec<Uuid>, QueueError> {
        if !self.lost.is_empty() {
            remote.offer(&self.lost).await?;
        }
        let left_out: HashSet<JobId> = remote.offer_unordered(&self.committed).await?.into_iter().collect();
        if left_out.is_empty() {
            return Ok(self.rows);
        }
        let left_out = self.committed.iter().filter(|job| left_out.contains(&job.id));
        let lanes: HashSet<LaneId> = left_out.map(|job| job.lane).collect();
        let all = jobs::offer_in_order(database, remote, &lanes, &self.rows, known).await?;
        Ok(if all { self.rows } else { Vec::new() })
    }
}

/// Ends jobs that the queue did not learn of at once.
async fn finish_late(
    remote: Arc<dyn RemoteQueue>,
    mut late: mpsc::Receiver<(Instant, Vec<Finished>)>,
    offers: mpsc::Sender<Offered>,
) {
    while let Some((since, finished)) = late.recv().await {
        let ends: Vec<_> = finished.iter().map(|one| (one.lease, one.finish)).collect();
        while since.elapsed() < FINISHING {
            match remote.finish(&ends).await {
                Ok(held) => {
                    offer_lost(&offers, &finished, &held);
                    break;
                }
                Err(error) if error.is_unavailable() => tokio::time::sleep(AGAIN).await,
                Err(error) => {
                    tracing::error!(%error, "jobs not finished; their leases expire");
                    break;
                }
            }
        }
    }
}

async fn tell(database: Database, remote: Arc<dyn Fillable>, changed: Arc<Notify>) {
    loop {
        changed.notified().await;
        if let Err(error) = lanes::tell(&database, &*remote).await {
            tracing::debug!(%error, "the queue does not know of changed lanes yet");
        }
    }
}
