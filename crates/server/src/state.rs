//! State that all handlers share.

use std::sync::Arc;

use axum::Router;
use postrider_delivery::Client;
use postrider_dispatch::Dispatcher;
use postrider_shape::Shaper;
use postrider_store::Store;
use postrider_telemetry::BoundedLabel;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::counts::Counts;
use crate::guesses::Guesses;
use crate::known_keys::KnownKeys;
use crate::known_types::KnownTypes;
use crate::pressure::Pressure;
use crate::receivers::Receivers;
use crate::registry::Registry;
use crate::room::Memory;
use crate::viewers::Viewers;

/// The most clients that follow listeners of this server.
const MAX_STREAMS: usize = 100;

/// The components that the API calls.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The store of subscribers, events and deliveries.
    pub store: Store,
    /// Stores events and their jobs.
    pub dispatcher: Dispatcher,
    /// Checks the URLs of subscribers when they are created or changed.
    pub targets: Client,
    /// Routes beside the API that require no key, such as the `health_routes` of `postrider_telemetry::listener`:
    /// `/healthz` and `/readyz`. [`Router::new`] adds none.
    pub telemetry: Router,
}

/// State shared by all requests.
#[derive(Clone, Debug)]
pub(crate) struct ApiState(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) targets: Client,
    /// Makes the bodies that subscribers ask for.
    pub(crate) shaper: Shaper,
    pub(crate) config: Config,
    /// One permit per request that may run at once.
    pub(crate) permits: Semaphore,
    /// The memory for bodies.
    pub(crate) memory: Memory,
    pub(crate) pressure: Pressure,
    pub(crate) tenants: Registry,
    pub(crate) types: KnownTypes,
    pub(crate) keys: KnownKeys,
    pub(crate) guesses: Guesses,
    /// Those who follow what happens.
    pub(crate) viewers: Viewers,
    /// Those who call sandboxes.
    pub(crate) receivers: Receivers,
    /// A permit for each client that may follow a listener.
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) counts: Counts,
    /// The event types that metrics distinguish.
    pub(crate) event_types: BoundedLabel,
    /// The task that writes uses of keys. It ends when this is dropped.
    _noting: JoinSet<()>,
}

impl ApiState {
    pub(crate) fn new(config: Config, parts: Parts) -> Self {
        let Parts { store, dispatcher, targets, telemetry: _ } = parts;
        let permits = Semaphore::new(config.requests);
        let memory = Memory::new(config.request_memory, config.requests);
        let pressure = Pressure::start(config.shedding, &store);
        let tenants = Registry::start(&store);
        let types = KnownTypes::start(&store);
        let (keys, noting) = KnownKeys::start(store.clone());
        let guesses = Guesses::new(config.wrong_keys);
        let event_types = BoundedLabel::default();
        let viewers = Viewers::new(store.clone());
        Self(Arc::new(Inner {
            shaper: Shaper::with_plugins(store.clone()),
            store,
            dispatcher,
            targets,

            config,
            permits,
            memory,
            pressure,
            tenants,
            types,
            keys,
            guesses,
            viewers,
            receivers: Receivers::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            counts: Counts::default(),
            event_types,
            _noting: noting,
        }))
    }
}

impl std::ops::Deref for ApiState {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}
