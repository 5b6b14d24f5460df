//! The worker: its parts, and the order in which they start and stop.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider_core::chain;
use postrider_database::{Purpose, comes_from_trouble};
use postrider_delivery::Client;
use postrider_dispatch::Dispatcher;
use postrider_queue::WorkerId;
use postrider_shape::Shaper;
use postrider_store::Store;
use postrider_telemetry::BoundedLabel;
use postrider_telemetry::clock::ClockMonitor;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::check_in;
use crate::claimer::Claimer;
use crate::config::{Config, ConfigError};
use crate::handovers::Handovers;
use crate::in_flight::InFlight;
use crate::pace::{Backoff, Signals};
use crate::payload_loader;
use crate::payloads::Payloads;
use crate::presence::Presence;
use crate::proxies::Proxies;
use crate::recorder::Recorder;
use crate::shared::Shared;
use crate::trouble::TroubleMonitor;
use crate::upkeep;

/// The least time that the last claim and the last batch of outcomes get at shutdown, even with a shorter grace period.
const MIN_SHUTDOWN: Duration = Duration::from_secs(1);

/// Delivers the jobs in the queue until it is stopped.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
}

impl Worker {
    /// Creates a worker over `store` and its queue that sends with `client`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Fails if a value of the configuration is out of bounds.
    pub fn new(store: Store, client: Client, config: Config) -> Result<Self, ConfigError> {
        config.validate()?;
        let database = store.database().serving(Purpose::Delivery);
        let store = store.over(database);
        client.keep_idle(config.concurrency.get() as usize);
        let slots = Arc::new(Semaphore::new(config.concurrency.get() as usize));
        let dispatcher = Dispatcher::new(store.clone(), postrider_dispatch::Config::default())?;
        let presence = Presence::new(WorkerId(store.ids().next_uuid()));
        let shared = Shared {
            shaper: Shaper::with_plugins(store.clone()),
            handovers: Handovers::new(store.clone()),
            store,
            dispatcher,
            client,
            slots,
            labels: BoundedLabel::default(),
            in_flight: InFlight::default(),
            shares: Arc::default(),
            reserve: Arc::default(),
            presence,
            payloads: Payloads::new(config.payload_memory, config.concurrency.get()),
            clock: ClockMonitor::default(),
            drained: Mutex::default(),
            replayed: Mutex::default(),
            retention: Mutex::default(),
            proxies: Proxies::default(),
            trouble: TroubleMonitor::default(),

            signals: Signals::default(),
            config,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Returns what tells whether this machine lacks what requests need.
    pub fn trouble(&self) -> TroubleMonitor {
        self.shared.trouble.clone()
    }

    /// Works until `shutdown` is cancelled. Then it stops claiming, lets requests in flight end within the grace
    /// period, gives the others back without spending an attempt, records the outcomes and returns.
    ///
    /// While the database is unavailable, the worker waits and retries. At shutdown it does so for at most the grace
    /// period in each of the last claim, the attempts and the last records. Jobs whose outcomes it could not record by
    /// then run again in another worker.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { shared } = self;
        let (mut recorder, completions) = Recorder::start(&shared);
        let attempts = TaskTracker::new();
        let background = CancellationToken::new();
        let upkeep = upkeep::start(&shared, &background);
        let loading = tokio::spawn(payload_loader::run(Arc::clone(&shared), background.clone()));
        let (joined, has_joined) = oneshot::channel();
        let presence = tokio::spawn(check_in::run(Arc::clone(&shared), shutdown.clone(), || {
            // The receiver has gone if the worker has stopped.
            let _ = joined.send(());
        }));

        tracing::info!(concurrency = shared.config.concurrency, "worker started");
        let grace = shared.config.shutdown_grace;
        let claimer = Claimer::new(&shared, attempts.clone(), completions.clone());
        let claim_deadline = async {
            shutdown.cancelled().await;
            tokio::time::sleep(grace.max(MIN_SHUTDOWN)).await;
        };
        tokio::select! {
            () = async {
                // Before it knows the others, it would claim what they serve.
                tokio::select! {
                    _ = has_joined => {}
                    () = shutdown.cancelled() => {}
                }
                // Before it knows the proxies, it would send past them.
                tokio::select! {
                    () = read_proxies(&shared) => {}
                    () = shutdown.cancelled() => {}
                }
                claimer.run(&shutdown).await;
            } => {}
            () = claim_deadline => {
                tracing::warn!("last claim did not end within the grace period; its jobs will be rescued");
            }
        }

        attempts.close();
        tracing::info!(in_flight = shared.in_flight.len(), "claiming stopped");
        if tokio::time::timeout(grace, attempts.wait()).await.is_err() {
            let jobs = shared.in_flight.cancel_all();
            tracing::warn!(jobs, "grace period ended; giving jobs in flight back to the queue");
        }
        // Attempts that have ended may still wait for the recorder, and the recorder for the database.
        let last_records = async {
            attempts.wait().await;
            recorder.finish(completions).await;
        };
        if tokio::time::timeout(grace.max(MIN_SHUTDOWN), last_records).await.is_err() {
            recorder.abort();
            tracing::error!(
                "database unavailable at shutdown; outcomes were lost and their jobs will run again"
            );
        }
        background.cancel();
        upkeep.wait().await;
        // The error is a panic, which the panic hook has printed.
        let _ = (loading.await, presence.await);
        tracing::info!("worker stopped");
    }
}

/// Reads the egress proxies of tenants, however long the database takes.
async fn read_proxies(shared: &Shared) {
    let mut backoff = Backoff::for_claims();
    while let Err(error) = shared.store.database().answered(shared.proxies.refresh(&shared.store)).await {
        if backoff.is_first() && !comes_from_trouble(&error) {
            tracing::warn!(error = %chain(&error), "egress proxies of tenants not read; retrying");
        }
        tokio::time::sleep(backoff.next()).await;
    }
}
