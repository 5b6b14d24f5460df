//! Statistics as the API shows them.

use postrider_api::stats::{DeliveryStatsView, PercentilesView, QueueView, SubscriberStatsView};
use postrider_queue::Depth;
use postrider_store::stats::{DeliveryStats, Percentiles, SubscriberStats};

pub(crate) fn subscriber_stats_view(
    SubscriberStats { total, active }: SubscriberStats,
) -> SubscriberStatsView {
    SubscriberStatsView { total, active }
}

pub(crate) fn delivery_stats_view(stats: DeliveryStats) -> DeliveryStatsView {
    let DeliveryStats { total, pending, succeeded, dead, cancelled, avg_attempts, success_rate } = stats;
    DeliveryStatsView { total, pending, succeeded, dead, cancelled, avg_attempts, success_rate }
}

pub(super) fn percentiles_view(Percentiles { p50, p95, p99 }: Percentiles) -> PercentilesView {
    PercentilesView { p50, p95, p99 }
}

pub(crate) fn queue_view(depth: Depth) -> QueueView {
    let Depth { ready, scheduled, held, running, oldest_ready } = depth;
    let oldest_ready_seconds = oldest_ready.unwrap_or_default().as_secs_f64();
    QueueView { ready, scheduled, held, running, oldest_ready_seconds }
}
