//! What all parts of a worker use.

use std::sync::{Arc, Mutex};

use postrider_core::TenantId;
use postrider_delivery::Client;
use postrider_dispatch::Dispatcher;
use postrider_queue::LaneId;
use postrider_shape::Shaper;
use postrider_store::Store;
use postrider_store::retention::Retention;
use postrider_telemetry::BoundedLabel;
use postrider_telemetry::clock::ClockMonitor;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::handovers::Handovers;
use crate::in_flight::InFlight;
use crate::pace::Signals;
use crate::payloads::Payloads;
use crate::presence::Presence;
use crate::proxies::Proxies;
use crate::reserve::Reserve;
use crate::shares::Shares;
use crate::trouble::TroubleMonitor;

/// What all parts of a worker use.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) client: Client,
    /// Makes the bodies that subscribers ask for.
    pub(crate) shaper: Shaper,
    pub(crate) labels: BoundedLabel,
    /// Dispatches events about subscribers and deliveries, to which operators subscribe.
    pub(crate) dispatcher: Dispatcher,
    /// The worker slots: a permit for each request that may be in flight.
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) in_flight: InFlight,
    /// How many of the slots each owner of jobs has.
    pub(crate) shares: Arc<Shares>,
    /// How many of the slots lanes that hang have.
    pub(crate) reserve: Arc<Reserve>,
    /// Its part among all workers.
    pub(crate) presence: Presence,
    /// The payloads that deliveries share.
    pub(crate) payloads: Payloads,
    pub(crate) clock: ClockMonitor,
    /// The lane after which draining goes on.
    pub(crate) drained: Mutex<Option<LaneId>>,
    /// The tenant after which replays go on.
    pub(crate) replayed: Mutex<Option<TenantId>>,
    /// The retention that was last logged.
    pub(crate) retention: Mutex<Option<Retention>>,
    /// The egress proxies of tenants.
    pub(crate) proxies: Proxies,
    /// The attempts that wait for listeners.
    pub(crate) handovers: Handovers,
    /// What this machine lacks.
    pub(crate) trouble: TroubleMonitor,
    /// The signals between the claimer and the recorder.
    pub(crate) signals: Signals,
}
