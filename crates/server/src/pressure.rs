//! Backpressure: the API rejects events while the queue or the database is too far behind.
//!
//! Off unless a limit is set. A task measures once per second; requests only read its result.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use postrider_core::chain;
use postrider_store::Store;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::problem::Problem;

/// The time between two measurements.
const INTERVAL: Duration = Duration::from_secs(1);

/// After a slow measurement, the pause is this many times its duration: walking over many lanes costs the database
/// something while it is already slow.
const PAUSE: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long a queue outside the database may take to answer.
const REMOTE: Duration = Duration::from_secs(1);

/// How many measurements in a row must be within the limits before the API accepts events again.
const CALM: u32 = 3;

/// A lane that was full within this span holds its own jobs back, so their waiting does not count. It is longer than any
/// request, because workers claim from a full lane again as soon as one of its requests ends.
const FULL: Duration = Duration::from_secs(90);

/// When the API rejects events with 503. `None` disables a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shedding {
    /// While a job has waited for a worker for longer than this; within [`Shedding::QUEUE_AGE`].
    ///
    /// Jobs that a subscriber holds back itself, by its limits, its circuit breaker or its order, do not count.
    pub queue_age: Option<Duration>,
    /// While a ping of the database, or the mean dispatch since the previous ping, takes longer than this; within
    /// [`Shedding::LATENCY`].
    pub latency: Option<Duration>,
    /// While a queue outside the database is unavailable. Otherwise its jobs wait in the database.
    pub without_queue: bool,
}

impl Shedding {
    /// The bounds of [`Shedding::queue_age`].
    pub const QUEUE_AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
    /// The bounds of [`Shedding::latency`].
    pub const LATENCY: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(1);

    fn is_off(&self) -> bool {
        self.queue_age.is_none() && self.latency.is_none() && !self.without_queue
    }
}

/// The component that is too far behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overload {
    Queue,
    Database,
    NoQueue,
}

impl Overload {
    fn problem(self) -> Problem {
        let detail = match self {
            Self::Queue => "too many deliveries are waiting; try again",
            Self::Database => "the database is too slow; try again",
            Self::NoQueue => "the queue is unavailable; try again",
        };
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}

/// Whether the API rejects events.
#[derive(Debug)]
pub(crate) struct Pressure {
    overload: watch::Receiver<Option<Overload>>,
    dispatches: Arc<Dispatches>,
    /// The task that measures. It ends when this is dropped.
    _measuring: JoinSet<()>,
}

impl Pressure {
    /// Starts measuring, if a limit is set. The caller must then be within a Tokio runtime.
    pub(crate) fn start(limits: Shedding, store: &Store) -> Self {
        let (sender, overload) = watch::channel(None);
        let dispatches = Arc::new(Dispatches::default());
        let mut measuring = JoinSet::new();
        if !limits.is_off() {
            measuring.spawn(measure(limits, store.clone(), Arc::clone(&dispatches), sender));
        }
        Self { overload, dispatches, _measuring: measuring }
    }

    /// Runs a dispatch and counts its duration.
    pub(crate) async fn timed<T>(&self, dispatch: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let result = dispatch.await;
        self.dispatches.note(started.elapsed());
        result
    }

    /// Rejects an event while there is too much to do. Called before the request's body is read.
    pub(crate) fn admit_event(&self) -> Result<(), Problem> {
        let overload = *self.overload.borrow();
        overload.map_or(Ok(()), |overload| Err(overload.problem()))
    }
}

/// The dispatches since the last measurement.
#[derive(Debug, Default)]
struct Dispatches {
    count: AtomicU64,
    micros: AtomicU64,
}

impl Dispatches {
    fn note(&self, took: Duration) {
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX / 2), Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Their mean duration, and starts counting again. `None` if there were none.
    fn take_mean(&self) -> Option<Duration> {
        let (count, micros) = (self.count.swap(0, Ordering::Relaxed), self.micros.swap(0, Ordering::Relaxed));
        micros.checked_div(count).map(Duration::from_micros)
    }
}

async fn measure(
    limits: Shedding,
    store: Store,
    dispatches: Arc<Dispatches>,
    overload: watch::Sender<Option<Overload>>,
) {
    let mut hysteresis = Hysteresis::default();
    loop {
        let started = Instant::now();
        let found = overload_now(limits, &store, &dispatches).await;
        let before = hysteresis.shedding;
        let now = hysteresis.update(found);
        if before != now {
            match now {
                Some(Overload::Queue) => {
                    tracing::warn!(limit = ?limits.queue_age, "rejecting events: the queue is too far behind");
                }
                Some(Overload::Database) => {
                    tracing::warn!(limit = ?limits.latency, "rejecting events: the database is too slow");
                }
                Some(Overload::NoQueue) => tracing::warn!("rejecting events: the queue is unavailable"),
                None => tracing::info!("accepting events again"),
            }
            overload.send_replace(now);
        }
        sleep((started.elapsed() * PAUSE).clamp(INTERVAL, LONGEST_PAUSE)).await;
    }
}

async fn overload_now(limits: Shedding, store: &Store, dispatches: &Dispatches) -> Option<Overload> {
    if let Some(limit) = limits.latency {
        let mean = dispatches.take_mean();
        // A database that does not answer counts as slow.
        let answered = timeout(limit, store.database().ping()).await.is_ok_and(|pinged| pinged.is_ok());
        if !answered || mean.is_some_and(|mean| mean > limit) {
            return Some(Overload::Database);
        }
    }
    if limits.without_queue
        && let Some(remote) = store.queue().remote()
        && !timeout(REMOTE, remote.identity()).await.is_ok_and(|identity| identity.is_ok())
    {
        return Some(Overload::NoQueue);
    }
    let limit = limits.queue_age?;
    match store.database().answered(store.queue().longest_wait(FULL)).await {
        Ok(waited) => waited.filter(|waited| *waited > limit).map(|_| Overload::Queue),
        Err(error) => {
            // Requests fail on their own if the database is unavailable.
            tracing::debug!(error = %chain(&error), "the age of the queue was not measured");
            None
        }
    }
}

/// Starts shedding at once, and stops after [`CALM`] measurements within the limits.
#[derive(Debug, Default)]
struct Hysteresis {
    shedding: Option<Overload>,
    calm: u32,
}

impl Hysteresis {
    fn update(&mut self, found: Option<Overload>) -> Option<Overload> {
        if found.is_some() {
            (self.shedding, self.calm) = (found, 0);
        } else {
            self.calm = self.calm.saturating_add(1);
            if self.calm >= CALM {
                self.shedding = None;
            }
        }
        self.shedding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shedding_starts_at_once_and_stops_after_three_calm_measurements() {
        let mut hysteresis = Hysteresis::default();
        let (queue, database) = (Some(Overload::Queue), Some(Overload::Database));
        let found = [None, queue, None, None, queue, None, None, database, None, None, None, None];
        let shedding = found.map(|found| hysteresis.update(found));
        let expected =
            [None, queue, queue, queue, queue, queue, queue, database, database, database, None, None];
        assert_eq!(shedding, expected);
    }

    #[test]
    fn the_mean_covers_the_dispatches_since_the_last_measurement() {
        let dispatches = Dispatches::default();
        assert_eq!(dispatches.take_mean(), None);
        dispatches.note(Duration::from_millis(10));
        dispatches.note(Duration::from_millis(30));
        assert_eq!(dispatches.take_mean(), Some(Duration::from_millis(20)));
        assert_eq!(dispatches.take_mean(), None);
    }
}
