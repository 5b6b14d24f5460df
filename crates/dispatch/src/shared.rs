//! What every dispatch needs.

use postrider_core::AgentId;
use postrider_store::Store;
use postrider_telemetry::label::BoundedLabel;

use crate::fan_out::FanOuts;
use crate::filters::Filters;
use crate::subscriber_cache::SubscriberCache;
use crate::transform::Transforms;

/// The parts that all clones of a dispatcher share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) default_agent: AgentId,
    pub(crate) labels: BoundedLabel,
    pub(crate) transforms: Transforms,
    pub(crate) subscribers: SubscriberCache,
    pub(crate) filters: Filters,
    /// Makes the deliveries of events with many subscribers.
    pub(crate) fan_outs: FanOuts,
}
