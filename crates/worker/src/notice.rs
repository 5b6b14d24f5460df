//! Telling the operator: in the log, in the metrics, and by events of the tenant `operator`.

use postrider_core::{AgentId, EventData, TenantId};
use postrider_dispatch::NewEvent;
use postrider_store::health::Notice;
use postrider_telemetry::metric;
use serde_json::{Value, json};

use crate::engine::Shared;

/// Tells what happened. The events are dispatched like any other; what happens to *their* deliveries
/// makes no events, or a dead receiver of them would make more and more.
///
/// They are sent after what they tell is committed: a crash in between loses the event, not the fact.
pub(crate) async fn tell(shared: &Shared, notices: Vec<Notice>) {
    let mut events = Vec::new();
    for notice in notices {
        log(&notice);
        let (tenant, event, data) = describe(&notice);
        if *tenant == TenantId::operator() {
            continue;
        }
        match new_event(event, &data) {
            Ok(event) => events.push(event),
            Err(error) => tracing::error!(error = &*error, event, "an event for operators cannot be made"),
        }
    }
    if events.is_empty() {
        return;
    }
    for result in shared.dispatcher.dispatch_batch(events).await {
        if let Err(error) = result {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "an event for operators was not dispatched"
            );
        }
    }
}

fn new_event(event: &str, data: &Value) -> Result<NewEvent, Box<dyn std::error::Error>> {
    Ok(NewEvent {
        tenant: TenantId::operator(),
        agent_id: Some("postrider".parse::<AgentId>()?),
        data: EventData::from_value(data)?,
        ..NewEvent::new(event, data)?
    })
}

fn describe(notice: &Notice) -> (&TenantId, &'static str, Value) {
    match notice {
        Notice::CircuitOpened { tenant, subscriber, failures, pause } => (
            tenant,
            "subscriber.circuit_opened",
            json!({"tenant": tenant, "subscriber_id": subscriber, "failures": failures, "pause_seconds": pause.as_secs()}),
        ),
        Notice::CircuitClosed { tenant, subscriber } => {
            (tenant, "subscriber.circuit_closed", json!({"tenant": tenant, "subscriber_id": subscriber}))
        }
        Notice::Deactivated { tenant, subscriber, reason } => (
            tenant,
            "subscriber.deactivated",
            json!({"tenant": tenant, "subscriber_id": subscriber, "reason": reason}),
        ),
        Notice::Dead { tenant, delivery, event_id, event_type: event, subscriber, attempts, reason } => (
            tenant,
            "delivery.dead",
            json!({
                "tenant": tenant, "delivery_id": delivery, "event_id": event_id, "event": event,
                "subscriber_id": subscriber, "attempts": attempts, "reason": reason,
            }),
        ),
    }
}

fn log(notice: &Notice) {
    match notice {
        Notice::CircuitOpened { tenant, subscriber, failures, pause } => {
            tracing::warn!(%tenant, %subscriber, failures, ?pause, "a circuit breaker has opened");
        }
        Notice::CircuitClosed { tenant, subscriber } => {
            tracing::info!(%tenant, %subscriber, "a circuit breaker has closed");
        }
        Notice::Deactivated { tenant, subscriber, reason } => {
            metrics::counter!(metric::SUBSCRIBERS_DEACTIVATED, metric::REASON => reason.as_str())
                .increment(1);
            tracing::warn!(%tenant, %subscriber, reason = reason.as_str(), "a subscriber was deactivated");
        }
        Notice::Dead { tenant, delivery, event_id, subscriber, attempts, reason, .. } => {
            tracing::warn!(
                %tenant, event = %event_id, %delivery, %subscriber, attempts, reason = reason.as_str(),
                "a delivery is dead"
            );
        }
    }
}
