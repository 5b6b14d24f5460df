//! Whether our name servers work at all. If they do, a name that is not resolved is the fault of its owner.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

/// For how long the result of a check counts.
const COUNTS: Duration = Duration::from_secs(1);

/// When name servers last answered, and whether they do.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    answered_at: Mutex<Option<Instant>>,
    down: AtomicBool,
    /// The last check. Locked while one is made, so that there is one at a time.
    checked: AsyncMutex<Option<(Instant, bool)>>,
}

impl Pulse {
    /// Takes note of an answer about any name.
    pub(super) fn answered(&self) {
        *self.answer() = Some(Instant::now());
        self.set_down(false);
    }

    pub(super) fn answered_since(&self, moment: Instant) -> bool {
        self.answer().is_some_and(|at| at >= moment)
    }

    /// Returns whether name servers did not answer the last check, nor anything since.
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Acquire)
    }

    /// Returns whether name servers work: whether they have answered anything since `moment`, or else what `probe` finds.
    pub(super) async fn works<F: Future<Output = bool>>(
        &self,
        moment: Instant,
        probe: impl FnOnce() -> F,
    ) -> bool {
        if self.answered_since(moment) {
            return true;
        }
        let mut checked = self.checked.lock().await;
        // While this one waited for its turn.
        if self.answered_since(moment) {
            return true;
        }
        if let Some((at, works)) = *checked
            && at.elapsed() < COUNTS
        {
            return works;
        }
        let works = probe().await || self.answered_since(moment);
        *checked = Some((Instant::now(), works));
        self.set_down(!works);
        works
    }

    fn set_down(&self, down: bool) {
        if self.down.swap(down, Ordering::AcqRel) == down {
            return;
        }
        if down {
            tracing::warn!("name servers do not answer; names are resolved from earlier answers only");
        } else {
            tracing::info!("name servers answer again");
        }
    }

    fn answer(&self) -> MutexGuard<'_, Option<Instant>> {
        self.answered_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn any_answer_proves_that_name_servers_work() {
        let pulse = Pulse::default();
        let began = Instant::now();
        assert!(!pulse.works(began, async || false).await && pulse.is_down());
        assert!(!pulse.works(began, async || true).await, "the last check counts for a second");
        tokio::time::advance(COUNTS).await;
        assert!(pulse.works(began, async || true).await && !pulse.is_down());
        tokio::time::advance(COUNTS).await;
        let later = Instant::now();
        assert!(!pulse.works(later, async || false).await);
        pulse.answered();
        assert!(pulse.works(later, async || false).await && !pulse.is_down());
    }
}
