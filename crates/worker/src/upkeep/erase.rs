//! Erases the responses to deliveries of events whose payload was erased.

use std::collections::HashMap;
use std::time::Duration;

use postrider_core::{DeliveryStatus, EventType};
use postrider_store::StoreError;
use postrider_telemetry::metric;

use super::steps::Steps;
use crate::config::Config;
use crate::shared::Shared;

/// How many deliveries one transaction looks at.
const MAX: u32 = 100;

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_secs(1)
}

pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let mut steps = Steps::for_a_second();
    while steps.next().await {
        let Some(erasing) = shared.store.erase_responses(MAX).await? else { return Ok(()) };
        count_cancelled(shared, &erasing.cancelled);
        if erasing.complete {
            tracing::debug!(tenant = %erasing.tenant, event = %erasing.event, "erased an event's payload");
        }
    }
    Ok(())
}

/// Counts deliveries that were cancelled without an attempt.
pub(super) fn count_cancelled(shared: &Shared, cancelled: &HashMap<EventType, u64>) {
    let status = DeliveryStatus::Cancelled.as_str();
    for (event_type, deliveries) in cancelled {
        let label = shared.labels.value(event_type.as_str());
        metrics::counter!(metric::DELIVERIES, metric::EVENT_TYPE => label, metric::STATUS => status)
            .increment(*deliveries);
    }
}
