//! Events for the tenant `operator` about the subscribers and deliveries of other tenants.

use std::time::Duration;

use postrider_core::signing::Verifier;
use postrider_core::subscriber::PolicyFields;
use postrider_core::{Clock as _, Policy, SubscriberId, SystemClock, TenantId};
use postrider_store::health::{Breaker, BreakerPolicy};
use postrider_store::subscribers::{NewSubscriber, Subscriber, SubscriberState};
use postrider_testkit::receiver::ReceivedRequest;
use postrider_testkit::{Behaviour, eventually};
use postrider_worker::Config;
use serde_json::{Value, json};

use crate::stage::{DEADLINE, SECRET, Stage, config, on_both, retry};

on_both!(
    operators_are_notified_of_breakers_deactivations_and_dead_letters,
    deliveries_to_operators_cause_no_notifications,
    nothing_is_stored_for_operators_that_did_not_subscribe,
);

const FIVE_DAYS: Duration = Duration::from_hours(5 * 24);

fn one_at_a_time() -> PolicyFields {
    PolicyFields { concurrency: Some(1), ..PolicyFields::default() }
}

async fn operator(stage: &Stage) -> SubscriberId {
    let policy = Policy::try_from(one_at_a_time()).unwrap();
    let new = NewSubscriber { policy, ..stage.new_subscriber("/operator") };
    stage.store.create_subscriber(&TenantId::operator(), new).await.unwrap().id
}

/// Waits until the operator has got this many events of a type, and returns their data.
async fn received(stage: &Stage, event_type: &str, times: usize) -> Vec<Value> {
    let is_of_type = |request: &ReceivedRequest| request.header("x-event-type") == Some(event_type);
    let requests = eventually(DEADLINE, || async {
        let requests = stage.receiver.requests_to("/operator");
        let found: Vec<_> = requests.into_iter().filter(|request| is_of_type(request)).collect();
        (found.len() >= times).then_some(found)
    })
    .await;
    assert_eq!(requests.len(), times, "{event_type}");
    let verifier = Verifier::new(SECRET).unwrap();
    for request in &requests {
        verifier.verify(|name| request.header(name), &request.body, SystemClock.now()).unwrap();
        assert_eq!(request.header("x-agent-id"), Some("postrider"));
    }
    requests.iter().map(|request| request.json()["data"].take()).collect()
}

async fn operators_are_notified_of_breakers_deactivations_and_dead_letters(stage: &Stage) {
    operator(stage).await;
    let subscriber = stage.subscriber_with("/hook", one_at_a_time()).await;
    let breaker = BreakerPolicy { breaker_failures: 3, ..BreakerPolicy::default() };
    let worker = stage.worker(Config { breaker, retry: retry(&[1000], 1), ..config() }).await;
    let with = |more: Value| {
        let mut all = json!({"tenant": "default", "subscriber_id": subscriber});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };

    stage.receiver.on("/hook", Behaviour::Status(500));
    let events = stage.dispatch_many(4).await;
    let opened = received(stage, "subscriber.circuit_opened", 1).await;
    assert_eq!(opened, [with(json!({"failures": 3, "pause_seconds": 30}))]);
    let dead = received(stage, "delivery.dead", 3).await;
    for event in &events[..3] {
        let delivery = stage.delivery(event.id).await;
        let expected = json!({
            "delivery_id": delivery.id, "event_id": event.id, "event": "order.created",
            "attempts": 1, "reason": "attempts_used_up",
        });
        assert!(dead.contains(&with(expected)), "{dead:?}");
    }

    // Advancing the clock must not expire a lease.
    eventually(DEADLINE, || async {
        (stage.count("SELECT count(*) FROM jobs WHERE lease_token IS NOT NULL").await == 0).then_some(())
    })
    .await;
    stage.receiver.on("/hook", Behaviour::Status(200));
    stage.database.advance(Duration::from_secs(30)).await;
    assert_eq!(received(stage, "subscriber.circuit_closed", 1).await, [with(json!({}))]);
    stage.settled().await;

    stage.receiver.on("/hook", Behaviour::Status(500));
    stage.dispatch().await;
    received(stage, "delivery.dead", 4).await;
    stage.settled().await;
    stage.database.advance(FIVE_DAYS).await;
    stage.dispatch().await;
    let deactivated = received(stage, "subscriber.deactivated", 1).await;
    assert_eq!(deactivated, [with(json!({"reason": "failing"}))]);
    received(stage, "delivery.dead", 5).await;
    stage.settled().await;
    worker.stop().await;
    assert_eq!(stage.receiver.requests_to("/operator").len(), 5 + 1 + 1 + 1);
}

async fn nothing_is_stored_for_operators_that_did_not_subscribe(stage: &Stage) {
    stage.subscriber("/hook").await;
    stage.receiver.on("/hook", Behaviour::Status(500));
    let worker = stage.worker(Config { retry: retry(&[1000], 1), ..config() }).await;
    stage.dispatch().await;
    stage.settled().await;
    worker.stop().await;
    assert_eq!(stage.count("SELECT count(*) FROM deliveries WHERE status = 2").await, 1);
    assert_eq!(stage.count("SELECT count(*) FROM events WHERE tenant = 'operator'").await, 0);
}

/// Otherwise a dead receiver of these events would cause more of them without end.
async fn deliveries_to_operators_cause_no_notifications(stage: &Stage) {
    const EVENTS: &str = "SELECT count(*) FROM events WHERE tenant = 'operator'";
    let operator = operator(stage).await;
    stage.subscriber("/hook").await;
    stage.receiver.on("/hook", Behaviour::Status(500));
    stage.receiver.on("/operator", Behaviour::sequence([500, 200, 410]));
    let breaker = BreakerPolicy { breaker_failures: 1, ..BreakerPolicy::default() };
    let worker = stage.worker(Config { breaker, retry: retry(&[1000], 1), ..config() }).await;

    // A dead letter and an open breaker: two events. The delivery of the first dies and opens the operator's own
    // breaker, which the second closes.
    stage.dispatch().await;
    eventually(DEADLINE, || async {
        let now = of_operator(stage, operator).await;
        matches!(now.health.breaker, Breaker::Open(_)).then_some(())
    })
    .await;
    stage.database.advance(Duration::from_secs(30)).await;
    stage.settled().await;
    assert_eq!(of_operator(stage, operator).await.health.breaker, Breaker::Closed);
    assert_eq!(stage.count(EVENTS).await, 2);

    // The same again, but now the operator's receiver answers 410: the first delivery dies, the subscriber is
    // deactivated, and the second delivery is cancelled.
    stage.dispatch().await;
    stage.receiver.wait_for_path("/operator", 3, DEADLINE).await;
    stage.settled().await;
    worker.stop().await;
    assert!(matches!(of_operator(stage, operator).await.state, SubscriberState::Inactive { .. }));
    assert_eq!(stage.receiver.requests_to("/operator").len(), 3);
    assert_eq!(stage.count(EVENTS).await, 4);
}

async fn of_operator(stage: &Stage, id: SubscriberId) -> Subscriber {
    stage.store.subscriber(&TenantId::operator(), id).await.unwrap().unwrap()
}
