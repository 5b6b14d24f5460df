//! A subscriber that fails for five days without a single success is deactivated. Its deliveries become dead letters,
//! which can be requeued; none is cancelled.

use std::time::Duration;

use postrider_core::{DeactivationReason, DeadReason, DeliveryStatus, ErrorKind, SubscriberId};
use postrider_store::PageRequest;
use postrider_store::attempt::End;
use postrider_store::dead_letters::{AttemptBudget, DeadFilter};
use postrider_store::deliveries::{Delivery, DeliveryFilter};
use postrider_store::health::{BreakerPolicy, Health, Notice};
use postrider_store::subscribers::{SubscriberChange, SubscriberState};

use crate::attempts::{Ending, HOUR, claim, outcomes, succeed};
use crate::stage::{Stage, on_both};

on_both!(
    five_days_of_failures_deactivate_a_subscriber,
    time_with_an_open_breaker_counts_towards_deactivation,
    a_success_restarts_the_five_days,
    without_a_limit_no_subscriber_is_deactivated,
    failures_on_our_side_deactivate_no_subscriber,
    deliveries_of_a_deactivated_subscriber_die_and_can_be_requeued,
);

const DAY: Duration = Duration::from_hours(24);

/// A policy without breakers, so that attempts continue.
fn breaker() -> BreakerPolicy {
    BreakerPolicy { breaker_failures: 0, ..BreakerPolicy::default() }
}

async fn subscriber(stage: &Stage, waiting: usize) -> SubscriberId {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    for _ in 0..waiting {
        stage.dispatch(&stage.tenant, subscriber, "a.b", stage.now()).await;
    }
    subscriber
}

/// Lets the next delivery fail, and returns the notices.
async fn fail(stage: &Stage, kind: ErrorKind, breaker: &BreakerPolicy) -> Vec<Notice> {
    let outcomes = outcomes(claim(&stage.store, 1).await, Ending::Failure(kind), Duration::ZERO);
    assert_eq!(outcomes.len(), 1);
    stage.store.record(&outcomes, &[], breaker).await.unwrap().notices
}

async fn state(stage: &Stage, subscriber: SubscriberId) -> SubscriberState {
    stage.store.subscriber(&stage.tenant, subscriber).await.unwrap().unwrap().state
}

fn deactivated(stage: &Stage, subscriber: SubscriberId) -> Notice {
    let reason = DeactivationReason::Failing;
    Notice::Deactivated { tenant: stage.tenant.clone(), subscriber, reason }
}

async fn five_days_of_failures_deactivate_a_subscriber(stage: &Stage) {
    let subscriber = subscriber(stage, 4).await;
    assert_eq!(fail(stage, ErrorKind::Status, &breaker()).await, []);
    stage.database.advance(4 * DAY + 23 * HOUR).await;
    assert_eq!(fail(stage, ErrorKind::Connect, &breaker()).await, []);
    assert_eq!(state(stage, subscriber).await, SubscriberState::Active);
    stage.database.advance(HOUR).await;
    let notices = fail(stage, ErrorKind::Status, &breaker()).await;
    assert_eq!(notices, [deactivated(stage, subscriber)]);
    let now = state(stage, subscriber).await;
    assert!(matches!(now, SubscriberState::Inactive { reason: DeactivationReason::Failing, .. }), "{now:?}");
}

async fn time_with_an_open_breaker_counts_towards_deactivation(stage: &Stage) {
    let subscriber = subscriber(stage, 12).await;
    let breaker = BreakerPolicy::default();
    for _ in 0..10 {
        fail(stage, ErrorKind::Status, &breaker).await;
    }
    stage.database.advance(5 * DAY).await;
    // This attempt is the probe.
    assert_eq!(fail(stage, ErrorKind::Status, &breaker).await, [deactivated(stage, subscriber)]);
    let now = stage.store.subscriber(&stage.tenant, subscriber).await.unwrap().unwrap();
    assert_eq!(now.health, Health::default(), "earlier failures do not count after a reactivation");
}

async fn a_success_restarts_the_five_days(stage: &Stage) {
    let subscriber = subscriber(stage, 6).await;
    assert_eq!(fail(stage, ErrorKind::Status, &breaker()).await, []);
    stage.database.advance(4 * DAY).await;
    succeed(&stage.store, claim(&stage.store, 1).await).await;
    stage.database.advance(4 * DAY).await;
    for _ in 0..2 {
        assert_eq!(fail(stage, ErrorKind::Status, &breaker()).await, []);
    }
    stage.database.advance(5 * DAY).await;
    assert_eq!(fail(stage, ErrorKind::Status, &breaker()).await, [deactivated(stage, subscriber)]);
}

async fn without_a_limit_no_subscriber_is_deactivated(stage: &Stage) {
    let subscriber = subscriber(stage, 3).await;
    let never = BreakerPolicy { deactivate_after: None, ..breaker() };
    for _ in 0..3 {
        assert_eq!(fail(stage, ErrorKind::Status, &never).await, []);
        stage.database.advance(365 * DAY).await;
    }
    assert_eq!(state(stage, subscriber).await, SubscriberState::Active);
}

async fn failures_on_our_side_deactivate_no_subscriber(stage: &Stage) {
    let subscriber = subscriber(stage, 6).await;
    for kind in [ErrorKind::Internal, ErrorKind::Proxy, ErrorKind::Internal] {
        assert_eq!(fail(stage, kind, &breaker()).await, []);
        stage.database.advance(6 * DAY).await;
    }
    assert_eq!(state(stage, subscriber).await, SubscriberState::Active);
}

async fn deliveries_of_a_deactivated_subscriber_die_and_can_be_requeued(stage: &Stage) {
    let subscriber = subscriber(stage, 6).await;
    fail(stage, ErrorKind::Status, &breaker()).await;
    stage.database.advance(5 * DAY).await;
    assert_eq!(fail(stage, ErrorKind::Status, &breaker()).await.len(), 1);

    // All deliveries end without a request, including those scheduled in an hour.
    let drained = stage.store.drain(None, 100).await.unwrap().unwrap();
    assert_eq!(drained.end, End::Dead(DeadReason::SubscriberFailing));
    assert_eq!((drained.deliveries.values().sum::<u64>(), drained.notices.len()), (6, 6));
    let dead = deliveries(stage, DeliveryStatus::Dead).await;
    assert_eq!(dead.len(), 6, "none is cancelled");
    assert!(dead.iter().all(|one| one.dead_reason == Some(DeadReason::SubscriberFailing)));
    assert_eq!(dead.iter().map(|one| one.attempts).sum::<u32>(), 2, "ending them spent no attempts");

    let filter = DeadFilter { subscriber: Some(subscriber), ..DeadFilter::default() };
    let again = || stage.store.requeue(&stage.tenant, &filter, AttemptBudget::FromZero, 100);
    assert_eq!(again().await.unwrap().deliveries, 0, "the subscriber is inactive");
    let active = SubscriberChange { active: Some(true), ..SubscriberChange::default() };
    stage.store.change_subscriber(&stage.tenant, subscriber, active).await.unwrap().unwrap();
    assert_eq!(again().await.unwrap().deliveries, 6);
    succeed(&stage.store, claim(&stage.store, 100).await).await;
    assert_eq!(deliveries(stage, DeliveryStatus::Succeeded).await.len(), 6);
}

async fn deliveries(stage: &Stage, status: DeliveryStatus) -> Vec<Delivery> {
    let filter = DeliveryFilter { status: Some(status), ..DeliveryFilter::default() };
    let page = PageRequest { limit: 250, before: None };
    stage.store.deliveries(&stage.tenant, &filter, page).await.unwrap().items
}
