//! Tells the queue after the commit what a transaction has written, apart from the transaction's caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postrider_database::Database;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use uuid::Uuid;

use super::{jobs, lanes};
use crate::job::{Finish, NewJob};
use crate::remote::{Finished, RemoteQueue};

/// How many transactions may wait. What does not fit is relayed.
const WAITING: usize = 256;

/// How many jobs are offered at once.
const AT_ONCE: usize = 2_000;

/// How long a worker waits until the queue knows that its jobs have ended. Their leases end what it does not learn.
const FINISHING: Duration = Duration::from_secs(10);

/// How long to wait before telling the queue again.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Courier {
    remote: Arc<dyn RemoteQueue>,
    offers: mpsc::Sender<Vec<NewJob>>,
    lanes: Arc<Notify>,
    marked: AtomicBool,
    tasks: [AbortHandle; 2],
}

impl Courier {
    pub(super) fn start(database: Database, remote: Arc<dyn RemoteQueue>) -> Self {
        let (offers, receiver) = mpsc::channel(WAITING);
        let lanes = Arc::new(Notify::new());
        let offering = tokio::spawn(offer(database.clone(), Arc::clone(&remote), receiver));
        let telling = tokio::spawn(tell(database, Arc::clone(&remote), Arc::clone(&lanes)));
        let tasks = [offering.abort_handle(), telling.abort_handle()];
        Self { remote, offers, lanes, marked: AtomicBool::new(false), tasks }
    }

    /// Offers jobs whose transaction has committed.
    pub(super) fn offer(&self, jobs: &[NewJob]) {
        if !jobs.is_empty() {
            // If too many wait, these stay in the outbox until they are relayed.
            let _ = self.offers.try_send(jobs.to_vec());
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

    /// Ends jobs whose outcomes are recorded. A job that the queue has lost is offered again if its delivery is still
    /// pending.
    pub(super) async fn finish(&self, finished: &[Finished]) {
        let ends: Vec<_> = finished.iter().map(|one| (one.lease, one.finish)).collect();
        let finishing = async {
            loop {
                match self.remote.finish(&ends).await {
                    Ok(held) => return held,
                    Err(error) if error.is_unavailable() => {
                        tracing::debug!(%error, "jobs not finished; trying again");
                        tokio::time::sleep(AGAIN).await;
                    }
                    Err(error) => {
                        tracing::error!(%error, "jobs not finished; their leases expire");
                        return ends.iter().map(|(lease, _)| lease.job).collect();
                    }
                }
            }
        };
        let Ok(held) = timeout(FINISHING, finishing).await else { return };
        let again = finished.iter().filter(|one| !held.contains(&one.lease.job)).filter_map(Finished::again);
        self.offer(&again.collect::<Vec<_>>());
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
async fn offer(database: Database, remote: Arc<dyn RemoteQueue>, mut receiver: mpsc::Receiver<Vec<NewJob>>) {
    let mut offered: Vec<Uuid> = Vec::new();
    let mut is_away = false;
    while let Some(first) = receiver.recv().await {
        let mut ids: Vec<Uuid> = jobs::rows_of(&first).collect();
        let mut jobs = first;
        while jobs.len() < AT_ONCE
            && let Ok(more) = receiver.try_recv()
        {
            ids.extend(jobs::rows_of(&more));
            jobs.extend(more);
        }
        let deleting = async {
            // What is not deleted is relayed, which changes nothing.
            let _ = jobs::delete(database.connection(), &offered).await;
        };
        let (answer, ()) = tokio::join!(remote.offer(&jobs), deleting);
        offered.clear();
        match answer {
            Ok(_) => {
                is_away = false;
                offered = ids;
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

async fn tell(database: Database, remote: Arc<dyn RemoteQueue>, changed: Arc<Notify>) {
    loop {
        changed.notified().await;
        if let Err(error) = lanes::tell(&database, &*remote).await {
            tracing::debug!(%error, "the queue does not know of changed lanes yet");
        }
    }
}
