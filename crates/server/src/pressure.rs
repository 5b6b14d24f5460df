//! Backpressure: events are turned away while the queue, or the database, is too far behind.
//!
//! Off unless a limit is set. A task looks once a second; requests only read what it found.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use axum::http::{Method, StatusCode};
use postrider_store::Store;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::problem::Problem;
use crate::state::ApiState;

/// The time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// A look that takes long is followed by a pause of so many times that: walking over many
/// lanes costs the database something, and it is in trouble already.
const PAUSE: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// So many looks in a row must find nothing wrong before events are taken again.
const CALM: u32 = 3;

/// A lane that was full no longer ago than this holds its jobs back itself: longer than any request may
/// take, since one that is full is claimed from again when a request of it ends.
const FULL: Duration = Duration::from_secs(90);

/// The routes that take events in.
const INTAKE: [&str; 2] = ["/v1/events", "/v1/events/batch"];

/// When events are turned away with 503; what is not set does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shedding {
    /// When a job has waited for a worker for longer than this; 1 s to 24 h.
    ///
    /// What a subscriber holds back itself does not count: its limits, its breaker, its order.
    pub queue_age: Option<Duration>,
    /// When the database takes longer than this to answer, or events take longer than this to be
    /// written; 1 ms to 1 min.
    pub latency: Option<Duration>,
}

impl Shedding {
    fn is_off(&self) -> bool {
        self.queue_age.is_none() && self.latency.is_none()
    }
}

/// What is too far behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overload {
    Queue,
    Database,
}

impl Overload {
    fn problem(self) -> Problem {
        let detail = match self {
            Self::Queue => "too much is waiting to be delivered; try again in a moment",
            Self::Database => "the database is too slow at the moment; try again soon",
        };
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}

/// Whether events are turned away.
#[derive(Debug)]
pub(crate) struct Pressure {
    overload: watch::Receiver<Option<Overload>>,
    dispatches: Arc<Dispatches>,
    /// The task that looks; it ends with this.
    _looking: JoinSet<()>,
}

impl Pressure {
    /// Must be called within a tokio runtime, if anything is set.
    pub(crate) fn start(limits: Shedding, store: &Store) -> Self {
        let (sender, overload) = watch::channel(None);
        let dispatches = Arc::new(Dispatches::default());
        let mut looking = JoinSet::new();
        if !limits.is_off() {
            looking.spawn(look(limits, store.clone(), Arc::clone(&dispatches), sender));
        }
        Self { overload, dispatches, _looking: looking }
    }

    /// Notes how long a dispatch takes.
    pub(crate) async fn timed<T>(&self, dispatch: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let result = dispatch.await;
        self.dispatches.note(started.elapsed());
        result
    }
}

/// Turns events away while there is too much of them, before anything of them is read.
pub(crate) fn let_in(state: &ApiState, request: &Request) -> Result<(), Problem> {
    let overload = *state.pressure.overload.borrow();
    match overload {
        Some(overload) if is_intake(request) => Err(overload.problem()),
        _ => Ok(()),
    }
}

fn is_intake(request: &Request) -> bool {
    let route = request.extensions().get::<MatchedPath>();
    request.method() == Method::POST && route.is_some_and(|route| INTAKE.contains(&route.as_str()))
}

/// The dispatches since the last look.
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

    /// How long they took on average.
    fn take_mean(&self) -> Option<Duration> {
        let (count, micros) = (self.count.swap(0, Ordering::Relaxed), self.micros.swap(0, Ordering::Relaxed));
        micros.checked_div(count).map(Duration::from_micros)
    }
}

async fn look(
    limits: Shedding,
    store: Store,
    dispatches: Arc<Dispatches>,
    overload: watch::Sender<Option<Overload>>,
) {
    let mut hysteresis = Hysteresis::default();
    loop {
        let started = Instant::now();
        let found = find(limits, &store, &dispatches).await;
        let before = hysteresis.shedding;
        let now = hysteresis.judge(found);
        if before != now {
            match now {
                Some(Overload::Queue) => {
                    tracing::warn!(limit = ?limits.queue_age, "the queue is too far behind: events are turned away");
                }
                Some(Overload::Database) => {
                    tracing::warn!(limit = ?limits.latency, "the database is too slow: events are turned away");
                }
                None => tracing::info!("events are taken again"),
            }
            overload.send_replace(now);
        }
        sleep((started.elapsed() * PAUSE).clamp(INTERVAL, LONGEST_PAUSE)).await;
    }
}

async fn find(limits: Shedding, store: &Store, dispatches: &Dispatches) -> Option<Overload> {
    if let Some(limit) = limits.latency {
        let mean = dispatches.take_mean();
        // A database that does not answer at all is the slowest of all.
        let answered = timeout(limit, store.database().ping()).await.is_ok_and(|pinged| pinged.is_ok());
        if !answered || mean.is_some_and(|mean| mean > limit) {
            return Some(Overload::Database);
        }
    }
    let limit = limits.queue_age?;
    match store.database().answered(store.queue().longest_wait(FULL)).await {
        Ok(waited) => waited.filter(|waited| *waited > limit).map(|_| Overload::Queue),
        Err(error) => {
            // Requests find that out by themselves.
            tracing::debug!(%error, "the age of the queue is not known");
            None
        }
    }
}

/// Begins at once, and ends when all has been well for a while.
#[derive(Debug, Default)]
struct Hysteresis {
    shedding: Option<Overload>,
    calm: u32,
}

impl Hysteresis {
    fn judge(&mut self, found: Option<Overload>) -> Option<Overload> {
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
    fn it_begins_at_once_and_ends_after_a_calm() {
        let mut hysteresis = Hysteresis::default();
        let (queue, database) = (Some(Overload::Queue), Some(Overload::Database));
        let found = [None, queue, None, None, queue, None, None, database, None, None, None, None];
        let shedding = found.map(|found| hysteresis.judge(found));
        let expected =
            [None, queue, queue, queue, queue, queue, queue, database, database, database, None, None];
        assert_eq!(shedding, expected);
    }

    #[test]
    fn the_mean_is_of_the_dispatches_since_the_last_look() {
        let dispatches = Dispatches::default();
        assert_eq!(dispatches.take_mean(), None);
        dispatches.note(Duration::from_millis(10));
        dispatches.note(Duration::from_millis(30));
        assert_eq!(dispatches.take_mean(), Some(Duration::from_millis(20)));
        assert_eq!(dispatches.take_mean(), None);
    }
}
