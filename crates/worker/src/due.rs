//! When the next job becomes due.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The soonest moment at which this worker knows a job to become due.
#[derive(Debug, Default)]
pub(crate) struct Due {
    next: Mutex<Option<Instant>>,
    sooner: Notify,
}

impl Due {
    /// A job becomes due after this time.
    pub(crate) fn within(&self, delay: Duration) {
        let at = Instant::now() + delay;
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.is_none_or(|known| at < known) {
            *next = Some(at);
            self.sooner.notify_one();
        }
    }

    /// Forgets what it knew, and whether that moment has come.
    pub(crate) fn take_if_reached(&self) -> bool {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = next.is_some_and(|at| at <= Instant::now());
        if reached {
            *next = None;
        }
        reached
    }

    /// Waits for the moment, however often it changes.
    pub(crate) async fn reached(&self) {
        loop {
            let next = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let moment = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = moment => return,
                () = self.sooner.notified() => {}
            }
        }
    }
}
