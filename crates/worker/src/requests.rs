//! The limit on a lane's requests, in the worker that keeps it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The requests of a lane whose limit this worker keeps.
#[derive(Debug)]
pub(crate) struct Requests {
    permits: Arc<Semaphore>,
    limit: usize,
    /// How many permits are too many since the limit was lowered.
    surplus: usize,
    /// Cancelled when the lane is closed, for those that wait by then.
    closed: CancellationToken,
}

impl Requests {
    pub(crate) fn new(limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(limit)), limit, surplus: 0, closed: CancellationToken::new() }
    }

    /// The wait for a permit. It returns `None` if the lane is closed before.
    pub(crate) fn turn(&self) -> impl Future<Output = Option<OwnedSemaphorePermit>> + use<> {
        let (permits, closed) = (Arc::clone(&self.permits), self.closed.clone());
        async move {
            tokio::select! {
                biased;
                () = closed.cancelled() => None,
                permit = permits.acquire_owned() => permit.ok(),
            }
        }
    }

    pub(crate) fn close(&mut self) {
        std::mem::take(&mut self.closed).cancel();
    }

    /// Gives a permit back.
    pub(crate) fn free(&mut self, permit: OwnedSemaphorePermit) {
        if self.surplus > 0 {
            self.surplus -= 1;
            permit.forget();
        }
    }

    pub(crate) fn set_limit(&mut self, limit: usize) {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        if limit >= self.limit {
            let more = limit - self.limit;
            let kept = more.min(self.surplus);
            self.surplus -= kept;
            self.permits.add_permits(more - kept);
        } else {
            let fewer = self.limit - limit;
            self.surplus += fewer - self.permits.forget_permits(fewer);
        }
        self.limit = limit;
    }

    #[cfg(test)]
    pub(crate) fn free_now(&self) -> usize {
        self.permits.available_permits()
    }
}

/// Counts a job as waiting until dropped.
pub(crate) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    pub(crate) fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
