//! Takes jobs out of the buffer for as long as workers have room for them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::buffer::{Receipt, Taken};
use super::filler::Filler;
use crate::error::QueueError;
use crate::job::{Claim, Claimed, NewJob};

/// How long to wait before taking again after a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// For how long the last job's wait in the buffer tells how long the next one waits.
const TELLING: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Takers {
    shared: Arc<Shared>,
    started: AtomicBool,
    tasks: Mutex<Vec<AbortHandle>>,
}

#[derive(Debug)]
struct Shared {
    filler: Arc<Filler>,
    /// For how many jobs the worker has room, by its last claim. `None`: it claims no more.
    room: watch::Sender<Option<u32>>,
    /// How long a job had waited that was taken, and when.
    waited: Mutex<Option<(Instant, Duration)>>,
}

impl Takers {
    pub(super) fn new(filler: Arc<Filler>) -> Self {
        let shared = Shared { filler, room: watch::Sender::new(Some(0)), waited: Mutex::default() };
        Self { shared: Arc::new(shared), started: AtomicBool::new(false), tasks: Mutex::default() }
    }

    /// A worker has claimed what the tables had for it. What room is left it has for jobs from the buffer.
    pub(super) fn claimed(&self, claim: &Claim, claimed: &Claimed) {
        let taken = u32::try_from(claimed.jobs.len()).unwrap_or(u32::MAX);
        let room = if claimed.more { 0 } else { claim.max.saturating_sub(taken) };
        self.shared.room.send_if_modified(|before| {
            let changes = before.is_some_and(|before| before != room);
            if changes {
                *before = Some(room);
            }
            changes
        });
        if !self.started.swap(true, Ordering::Relaxed) {
            let sources = 0..self.shared.filler.buffer.sources();
            let tasks =
                sources.map(|source| tokio::spawn(run(Arc::clone(&self.shared), source)).abort_handle());
            self.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend(tasks);
        }
    }

    /// Takes nothing more, apart from what is on its way.
    pub(super) fn stop(&self) {
        self.shared.room.send_replace(None);
    }

    pub(super) fn waited(&self) -> Option<Duration> {
        let waited = *self.shared.waited.lock().unwrap_or_else(PoisonError::into_inner);
        waited.filter(|(when, _)| when.elapsed() < TELLING).map(|(_, waited)| waited)
    }
}

impl Drop for Takers {
    fn drop(&mut self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }
}

async fn run(shared: Arc<Shared>, source: usize) {
    let buffer = &shared.filler.buffer;
    let mut room = shared.room.subscribe();
    let mut done: Vec<Receipt> = Vec::new();
    let mut is_away = false;
    loop {
        if !done.is_empty() && *room.borrow() == Some(0) {
            // Nothing is taken for a while, so these are not removed on the way.
            remove(&shared, source, &std::mem::take(&mut done)).await;
        }
        // Fails only when the queue is dropped.
        let Ok(open) = room.wait_for(|room| *room != Some(0)).await.map(|room| room.is_some()) else {
            return;
        };
        if !open {
            remove(&shared, source, &done).await;
            return;
        }
        let removing = std::mem::take(&mut done);
        let (taken, ()) = tokio::join!(buffer.take(source), remove(&shared, source, &removing));
        let admitted = match taken {
            Ok(taken) => admit(&shared, taken).await,
            Err(error) => Err(error),
        };
        match admitted {
            Ok(receipts) => (done, is_away) = (receipts, false),
            Err(error) => {
                if is_away {
                    tracing::debug!(%error, "nothing is taken from the buffer");
                } else {
                    let error = &error as &(dyn std::error::Error + 'static);
                    tracing::warn!(error, "nothing is taken from the buffer; trying again each second");
                }
                is_away = true;
                sleep(AGAIN).await;
            }
        }
    }
}

/// Puts jobs into the tables. Returns what removes their messages.
async fn admit(shared: &Shared, taken: Vec<Taken>) -> Result<Vec<Receipt>, QueueError> {
    let Some(longest) = taken.iter().map(|one| one.waited).max() else { return Ok(Vec::new()) };
    let (jobs, receipts): (Vec<NewJob>, Vec<Receipt>) =
        taken.into_iter().map(|Taken { job, receipt, .. }| (job, receipt)).unzip();
    shared.filler.admit(&jobs).await?;
    *shared.waited.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), longest));
    let count = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
    shared.room.send_modify(|room| *room = room.map(|room| room.saturating_sub(count)));
    Ok(receipts)
}

/// A message that is not removed comes back, and its job is known by then.
async fn remove(shared: &Shared, source: usize, receipts: &[Receipt]) {
    if !receipts.is_empty()
        && let Err(error) = shared.filler.buffer.remove(source, receipts).await
    {
        tracing::debug!(%error, "messages stay in the buffer and come again");
    }
}
