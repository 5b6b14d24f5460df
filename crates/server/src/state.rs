//! What every handler can reach.

use std::sync::Arc;

use axum::Router;
use postrider_delivery::Client;
use postrider_dispatch::Dispatcher;
use postrider_store::Store;
use postrider_telemetry::BoundedLabel;
use tokio::sync::Semaphore;

use crate::Config;
use crate::pressure::Pressure;

/// What the API works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where everything is kept.
    pub store: Store,
    /// What takes events in.
    pub dispatcher: Dispatcher,
    /// What judges subscribers' URLs when they are given.
    pub targets: Client,
    /// Routes that need no key and are answered beside the API: those of `postrider_telemetry::listener`,
    /// so that `/metrics`, `/healthz` and `/readyz` are on this address too; [`Router::new`] for none.
    pub telemetry: Router,
}

/// Shared by all requests.
#[derive(Clone, Debug)]
pub(crate) struct ApiState(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) targets: Client,
    pub(crate) config: Config,
    /// Requests that may be worked on now.
    pub(crate) room: Semaphore,
    pub(crate) pressure: Pressure,
    /// The event types that metrics tell apart.
    pub(crate) event_types: BoundedLabel,
}

impl ApiState {
    pub(crate) fn new(config: Config, parts: Parts) -> Self {
        let Parts { store, dispatcher, targets, telemetry: _ } = parts;
        let room = Semaphore::new(config.requests.min(Semaphore::MAX_PERMITS));
        let pressure = Pressure::start(config.shedding, &store);
        let event_types = BoundedLabel::default();
        Self(Arc::new(Inner { store, dispatcher, targets, config, room, pressure, event_types }))
    }
}

impl std::ops::Deref for ApiState {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}
