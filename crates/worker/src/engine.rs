//! The worker: its parts, and the order in which they start and stop.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use postrider_core::RetryPolicy;
use postrider_delivery::Client;
use postrider_dispatch::Dispatcher;
use postrider_store::Store;
use postrider_store::health::BreakerPolicy;
use postrider_telemetry::BoundedLabel;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::claimer::Claimer;
use crate::due::Due;
use crate::in_flight::InFlight;
use crate::recorder::Recorder;
use crate::upkeep;

/// How long the last claim and the last record may take at shutdown, however short the grace period is.
const LEAST_TO_END: Duration = Duration::from_secs(1);

/// How a worker works.
#[derive(Clone, Debug)]
pub struct Config {
    /// Requests in flight at once in this worker.
    pub concurrency: NonZeroU32,
    /// Requests in flight at once to one subscriber, over all workers, where its policy does not say.
    pub subscriber_concurrency: NonZeroU32,
    /// How long a claim lasts without being extended.
    pub lease: Duration,
    /// How long requests in flight may take to end at shutdown; what has not ended by then is given
    /// back without spending an attempt.
    pub shutdown_grace: Duration,
    /// How often to look for jobs when nothing hints at any.
    pub poll: Duration,
    /// When a failed delivery is tried again, where its subscriber's policy does not say.
    pub retry: RetryPolicy,
    /// A job that was taken back from lost workers this often is given up.
    pub max_rescues: u32,
    /// When breakers open, and failing subscribers are deactivated.
    pub breaker: BreakerPolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            concurrency: NonZeroU32::MIN.saturating_add(511),
            subscriber_concurrency: NonZeroU32::MIN.saturating_add(31),
            lease: Duration::from_secs(90),
            shutdown_grace: Duration::from_secs(30),
            poll: Duration::from_secs(1),
            retry: RetryPolicy::default(),
            max_rescues: 5,
            breaker: BreakerPolicy::default(),
        }
    }
}

/// Why a configuration is nonsense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The lease is so short that a slow database would lose it.
    #[error("a lease lasts at least 1 s")]
    Lease,
    /// The poll interval is zero, or longer than a minute.
    #[error("the poll interval is above 0 and at most 1 min")]
    Poll,
    /// The configuration of the worker's dispatcher is invalid.
    #[error(transparent)]
    Dispatcher(#[from] postrider_dispatch::ConfigError),
}

/// Delivers what the queue holds, until it is told to stop.
#[derive(Debug)]
pub struct Worker {
    pub(crate) shared: Arc<Shared>,
}

/// What all parts of a worker use.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) client: Client,
    pub(crate) labels: BoundedLabel,
    /// Takes the events about subscribers and deliveries that operators subscribe to.
    pub(crate) dispatcher: Dispatcher,
    /// A permit for each request that may be in flight.
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) in_flight: InFlight,
    /// When the next job becomes due, as far as this worker knows.
    pub(crate) due: Due,
    /// Rings when jobs were ended, which may have made room in their lanes.
    pub(crate) ended: Notify,
    /// Whether the last claim left jobs behind that wait for others of their lane to end.
    pub(crate) crowded: AtomicBool,
}

impl Worker {
    /// A worker over `store` and its queue, sending with `client`. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// If the configuration is nonsense.
    pub fn new(store: Store, client: Client, config: Config) -> Result<Self, ConfigError> {
        if config.lease < Duration::from_secs(1) {
            return Err(ConfigError::Lease);
        }
        if config.poll.is_zero() || config.poll > Duration::from_mins(1) {
            return Err(ConfigError::Poll);
        }
        let slots = Arc::new(Semaphore::new(config.concurrency.get() as usize));
        let dispatcher = Dispatcher::new(store.clone(), postrider_dispatch::Config::default())?;
        let shared = Shared {
            store,
            dispatcher,
            client,
            slots,
            config,
            labels: BoundedLabel::default(),
            in_flight: InFlight::default(),
            due: Due::default(),
            crowded: AtomicBool::default(),
            ended: Notify::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Works until `shutdown` is cancelled; then claims no more, lets requests in flight end within
    /// the grace period, gives the others back unspent, records, and returns.
    ///
    /// Trouble with the database is waited out, not returned; but at shutdown no longer than the
    /// grace period for each of the last claim, the attempts and their records. What could not be
    /// recorded by then runs again elsewhere.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { shared } = self;
        let (mut recorder, outcomes) = Recorder::start(&shared);
        let attempts = TaskTracker::new();
        let background = CancellationToken::new();
        let upkeep = upkeep::start(&shared, &background);

        tracing::info!(concurrency = shared.config.concurrency, "working");
        let grace = shared.config.shutdown_grace;
        let claimer = Claimer::new(&shared, attempts.clone(), outcomes.clone());
        let seen_through = async {
            shutdown.cancelled().await;
            tokio::time::sleep(grace.max(LEAST_TO_END)).await;
        };
        tokio::select! {
            () = claimer.run(&shutdown) => {}
            () = seen_through => tracing::warn!("the last claim does not end; its jobs will be taken back"),
        }

        attempts.close();
        let left = shared.in_flight.len();
        tracing::info!(in_flight = left, "stopping: no more jobs are claimed");
        if tokio::time::timeout(grace, attempts.wait()).await.is_err() {
            let unfinished = shared.in_flight.abort_all();
            tracing::warn!(unfinished, "the grace period has ended; jobs in flight are given back");
        }
        // Attempts that have ended may still wait for the recorder, and it for the database.
        let last = async {
            attempts.wait().await;
            recorder.finish(outcomes).await;
        };
        if tokio::time::timeout(grace.max(LEAST_TO_END), last).await.is_err() {
            recorder.give_up();
            tracing::error!("the database is away: outcomes are lost, and their jobs will run again");
        }
        background.cancel();
        upkeep.wait().await;
        tracing::info!("stopped");
    }
}
