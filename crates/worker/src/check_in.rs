//! Checking in: this worker registers with the queue, and learns which part it has among all workers.

use std::sync::Arc;
use std::time::Duration;

use postrider_core::chain;
use postrider_database::comes_from_trouble;
use postrider_queue::QueueError;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;

/// The time between two check-ins, unless the worker's duties say otherwise.
const CHECK_IN: Duration = Duration::from_secs(1);

/// How long a worker counts as busy after it was seen so, so that lanes do not change hands all the time.
const STAYS_BUSY: Duration = Duration::from_secs(10);

/// Checks in until `stop`, and then out. The first time it has done so it calls `joined`, whether it could or not.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken, joined: impl FnOnce()) {
    let mut joined = Some(joined);
    let mut busy_until = Instant::now();
    let mut failed = false;
    let mut every = CHECK_IN;
    while !stop.is_cancelled() {
        let now = Instant::now();
        if is_busy(&shared) {
            busy_until = now + STAYS_BUSY;
        }
        // The next one comes no later than it was announced, even if the duties have changed.
        let announced = every.max(CHECK_IN);
        let checking_in = check_in(&shared, now < busy_until, 3 * announced);
        let result = shared.store.database().answered(checking_in).await;
        if let Err(error) = &result
            && !failed
            && !comes_from_trouble(error)
        {
            tracing::warn!(error = %chain(error), "worker could not check in; it works as if it were alone");
        }
        failed = result.is_err();
        if let Some(joined) = joined.take() {
            joined();
        }
        every = shared.presence.duties().look_every.unwrap_or(CHECK_IN);
        tokio::select! {
            () = sleep(every.min(announced)) => {}
            () = stop.cancelled() => {}
        }
    }
    let leaving = shared.store.queue().check_out(shared.presence.id());
    if let Err(error) = shared.store.database().answered(leaving).await {
        tracing::debug!(error = %chain(&error), "worker could not check out");
    }
}

async fn check_in(shared: &Shared, busy: bool, lapse: Duration) -> Result<(), QueueError> {
    let check_in = shared.presence.check_in(shared.in_flight.len(), busy, lapse);
    shared.presence.checked_in(shared.store.queue().check_in(&check_in).await?, lapse);
    Ok(())
}

/// Returns whether fewer than an eighth of all worker slots are free, not counting jobs that were claimed ahead.
fn is_busy(shared: &Shared) -> bool {
    shared.slots.available_permits() + shared.in_flight.waiting()
        < shared.config.concurrency.get().div_ceil(8) as usize
}
