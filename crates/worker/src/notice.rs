//! Notices about subscribers and deliveries: in the log, in the metrics, and as events of the tenant `operator`.

use postrider_core::{AgentId, EventData, TenantId, chain};
use postrider_dispatch::NewEvent;
use postrider_store::health::Notice;
use postrider_telemetry::metric;
use serde_json::{Value, json};

use crate::shared::Shared;

/// Logs notices and dispatches an event for each, after the change that it reports is committed. A crash in between loses
/// the event; the change itself stays.
///
/// Notices about the tenant `operator` itself cause no events. Otherwise a dead receiver of these events would cause more
/// of them without end.
pub(crate) async fn notify_operators(shared: &Shared, notices: Vec<Notice>) {
    let mut events = Vec::new();
    for notice in notices {
        log(&notice);
        let (tenant, event_type, data) = describe(&notice);
        if *tenant == TenantId::operator() {
            continue;
        }
        match new_event(event_type, &data) {
            Ok(event) => events.push(event),
            Err(error) => {
                tracing::error!(error = %chain(&*error), event_type, "event for operators could not be made");
            }
        }
    }
    if events.is_empty() {
        return;
    }
    for result in shared.dispatcher.dispatch_batch(wanted(shared, events).await).await {
        if let Err(error) = result {
            tracing::warn!(error = %chain(&error), "event for operators not dispatched");
        }
    }
}

/// Leaves out the events that nobody has subscribed to, which would only fill the table of events.
async fn wanted(shared: &Shared, events: Vec<NewEvent>) -> Vec<NewEvent> {
    let asked: Vec<_> = events.iter().map(|event| (TenantId::operator(), event.event_type.clone())).collect();
    match shared.store.subscribers_of(&shared.store.database().reads(), &asked).await {
        Ok(found) => {
            let both = events.into_iter().zip(found);
            both.filter(|(_, few)| few.as_ref().is_none_or(|few| !few.is_empty()))
                .map(|(event, _)| event)
                .collect()
        }
        // Dispatching will find the same, or work.
        Err(_) => events,
    }
}

fn new_event(event_type: &str, data: &Value) -> Result<NewEvent, Box<dyn std::error::Error>> {
    Ok(NewEvent {
        tenant: TenantId::operator(),
        agent_id: Some("postrider".parse::<AgentId>()?),
        data: EventData::from_value(data)?,
        ..NewEvent::new(event_type, data)?
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
        Notice::Dead { tenant, delivery, event_id, event_type, subscriber, attempts, reason } => (
            tenant,
            "delivery.dead",
            json!({
                "tenant": tenant, "delivery_id": delivery, "event_id": event_id, "event": event_type,
                "subscriber_id": subscriber, "attempts": attempts, "reason": reason,
            }),
        ),
    }
}

fn log(notice: &Notice) {
    match notice {
        Notice::CircuitOpened { tenant, subscriber, failures, pause } => {
            tracing::warn!(%tenant, %subscriber, failures, ?pause, "circuit breaker opened");
        }
        Notice::CircuitClosed { tenant, subscriber } => {
            tracing::info!(%tenant, %subscriber, "circuit breaker closed");
        }
        Notice::Deactivated { tenant, subscriber, reason } => {
            metrics::counter!(metric::SUBSCRIBERS_DEACTIVATED, metric::REASON => reason.as_str())
                .increment(1);
            tracing::warn!(%tenant, %subscriber, reason = reason.as_str(), "subscriber deactivated");
        }
        Notice::Dead { tenant, delivery, event_id, subscriber, attempts, reason, .. } => {
            tracing::warn!(
                %tenant, event = %event_id, %delivery, %subscriber, attempts, reason = reason.as_str(),
                "delivery dead"
            );
        }
    }
}
