//! Local trouble: this machine lacks what requests need. No receiver is to blame, so jobs return to the queue without an
//! attempt, and the worker claims less until the trouble is over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postrider_delivery::LocalTrouble;
use tokio::time::Instant;

/// After how long a job that met local trouble returns to the queue.
pub(crate) const RETRY_IN: Duration = Duration::from_secs(1);
/// The same for a job whose tenant's egress proxy cannot be reached.
pub(crate) const PROXY_RETRY_IN: Duration = Duration::from_secs(5);
/// How long after the last trouble the worker claims more again, and how often it then doubles what it claims.
const CALM: Duration = Duration::from_secs(5);
const DOUBLE_EVERY: Duration = Duration::from_secs(1);

/// The local trouble of a worker. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct TroubleMonitor(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Whether `current` is `Some`, so that a claim without trouble takes no lock.
    troubled: AtomicBool,
    current: Mutex<Option<Current>>,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    trouble: LocalTrouble,
    last: Instant,
    /// How many jobs may be in flight.
    limit: usize,
}

impl TroubleMonitor {
    /// Returns what this machine lacks, or lacked a moment ago; `None` if it lacks nothing.
    pub fn current(&self) -> Option<LocalTrouble> {
        self.recent().map(|current| current.trouble)
    }

    /// Fails with what this machine lacks, for a readiness check.
    ///
    /// # Errors
    /// Fails while [`current`](Self::current) is `Some`.
    pub fn ready(&self) -> Result<(), String> {
        self.current().map_or(Ok(()), |trouble| Err(trouble.as_str().to_owned()))
    }

    /// Takes note of trouble while this many jobs are in flight, of `concurrency`. Fewer will be claimed from now on.
    pub(crate) fn note(&self, trouble: LocalTrouble, in_flight: usize, concurrency: usize) {
        let mut current = self.lock();
        let limit = current.map_or(in_flight, |current| current.limit.min(in_flight)) / 2;
        // Without name servers, receivers whose addresses are known can still be reached.
        let limit = if trouble == LocalTrouble::Resolver { limit.max(concurrency / 4) } else { limit };
        if current.is_none() {
            tracing::warn!(
                reason = trouble.as_str(),
                "requests cannot be made; their jobs return to the queue without an attempt"
            );
        }
        *current = Some(Current { trouble, last: Instant::now(), limit: limit.max(1) });
        self.0.troubled.store(true, Ordering::Release);
    }

    /// Returns how many jobs may be in flight: `concurrency` without trouble.
    pub(crate) fn limit(&self, concurrency: usize) -> usize {
        let Some(current) = self.recent() else { return concurrency };
        let calm = current.last.elapsed().saturating_sub(CALM);
        let doubled = u32::try_from(calm.as_millis() / DOUBLE_EVERY.as_millis()).unwrap_or(u32::MAX);
        let limit = current.limit.saturating_mul(2_usize.saturating_pow(doubled));
        if limit >= concurrency && doubled > 0 {
            self.end();
        }
        limit.min(concurrency)
    }

    fn recent(&self) -> Option<Current> {
        if self.0.troubled.load(Ordering::Acquire) { *self.lock() } else { None }
    }

    fn end(&self) {
        let mut current = self.lock();
        // Unless it has come back in between.
        if current.is_some_and(|current| current.last.elapsed() >= CALM) {
            *current = None;
            self.0.troubled.store(false, Ordering::Release);
            tracing::info!("requests can be made again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Current>> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn trouble_lowers_the_limit_which_rises_again_when_it_is_over() {
        let monitor = TroubleMonitor::default();
        assert_eq!((monitor.limit(100), monitor.current()), (100, None));
        for limit in [50, 25, 12] {
            monitor.note(LocalTrouble::Descriptors, 100, 100);
            assert_eq!((monitor.limit(100), monitor.current()), (limit, Some(LocalTrouble::Descriptors)));
        }
        tokio::time::advance(CALM).await;
        assert_eq!(monitor.limit(100), 12);
        for limit in [24, 48, 96] {
            tokio::time::advance(DOUBLE_EVERY).await;
            assert_eq!(monitor.limit(100), limit);
        }
        tokio::time::advance(DOUBLE_EVERY).await;
        assert_eq!((monitor.limit(100), monitor.current()), (100, None));
    }

    #[test]
    fn without_name_servers_a_quarter_is_left() {
        let monitor = TroubleMonitor::default();
        for limit in [50, 25, 25] {
            monitor.note(LocalTrouble::Resolver, 100, 100);
            assert_eq!(monitor.limit(100), limit);
        }
    }

    #[test]
    fn one_job_is_always_allowed() {
        let monitor = TroubleMonitor::default();
        for _ in 0..5 {
            monitor.note(LocalTrouble::Proxy, 0, 1);
        }
        assert_eq!(monitor.limit(1), 1);
    }
}
