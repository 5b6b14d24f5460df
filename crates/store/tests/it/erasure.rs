//! Erasing the payload of an event: its data at once, everything else in small steps.

use std::time::Duration;

use postrider_core::{DeadReason, DeliveryId, DeliveryStatus, EventId, SubscriberId, Verdict};
use postrider_database::Writes;
use postrider_queue::NewJob;
use postrider_store::PageRequest;
use postrider_store::attempt::{Attempt, DeliveryRef, End, Outcome, Response};
use postrider_store::dead_letters::{AttemptBudget, DeadFilter, Requeued};
use postrider_store::deliveries::Changed;
use postrider_store::erasure::PayloadGone;
use postrider_store::fan_out::{FanOutRow, FannedOut};
use postrider_store::health::BreakerPolicy;
use postrider_store::intake::{Crowd, DeliveryRow, Everyone};
use postrider_store::queue_ids::{lane_of, queued};
use sea_orm::ConnectionTrait as _;

use crate::stage::{Stage, on_both};

on_both!(
    the_data_of_an_erased_event_goes_at_once,
    the_responses_of_an_erased_event_go_and_those_of_others_stay,
    pending_deliveries_of_an_erased_event_are_cancelled_with_their_jobs,
    a_job_of_an_erased_event_is_not_delivered,
    a_response_that_comes_late_is_erased_an_hour_later,
    no_more_deliveries_are_made_of_an_erased_event,
    a_delivery_of_an_erased_event_is_not_retried,
    an_erasure_takes_small_steps_and_others_have_their_turn,
    deliveries_of_the_first_edition_are_erased,
);

const LATER: Duration = Duration::from_mins(61);

/// Takes all steps that are due. Returns how many deliveries were cancelled, and the number of steps.
async fn erase_all(stage: &Stage, max: u32) -> (u64, u32) {
    let (mut cancelled, mut steps) = (0, 0);
    while let Some(erasing) = stage.store.erase_responses(max).await.unwrap() {
        cancelled += erasing.cancelled.values().sum::<u64>();
        steps += 1;
    }
    (cancelled, steps)
}

async fn erase(stage: &Stage, event: EventId) {
    assert!(stage.store.erase_payload(&stage.tenant, event).await.unwrap());
}

async fn gone(stage: &Stage, event: EventId) -> Option<PayloadGone> {
    stage.store.event(&stage.tenant, event).await.unwrap().unwrap().payload_gone
}

/// Records an attempt with a response that has headers and a body.
async fn answer(stage: &Stage, end: End) {
    for (lease, delivery) in stage.claim().await {
        record(stage, lease, delivery, end).await;
    }
}

async fn record(stage: &Stage, lease: postrider_queue::Lease, delivery: DeliveryRef, end: End) {
    let response = Response {
        status: 500,
        headers: vec![("x-name".to_owned(), "Ada".into())],
        body: "Ada".into(),
        truncated: false,
    };
    let attempt = Attempt {
        started_at: delivery.created_at,
        duration: Duration::from_millis(3),
        response: Some(response),
        verdict: Verdict::Success,
        exchange: None,
    };
    let outcome = Outcome { lease, delivery, attempt: Some(attempt), end };
    stage.store.record(&[outcome], &[], &BreakerPolicy::default()).await.unwrap();
}

/// The status, the number of headers and the body of each attempt of a delivery.
async fn responses(stage: &Stage, id: DeliveryId) -> Vec<(Option<u16>, usize, String)> {
    let page = stage.store.attempts(&stage.tenant, id, PageRequest::default()).await.unwrap();
    let response = |attempt: &postrider_store::deliveries::RecordedAttempt| {
        let body = String::from_utf8_lossy(&attempt.response_body).into_owned();
        (attempt.response_status, attempt.response_headers.len(), body)
    };
    page.items.iter().map(response).collect()
}

/// Adds deliveries of an event, with jobs, to these subscribers.
async fn add_deliveries(stage: &Stage, event: EventId, subscribers: &[SubscriberId]) {
    let mut writes = Writes::new();
    let (mut rows, mut jobs) = (Vec::new(), Vec::new());
    for (number, subscriber) in (2..).zip(subscribers) {
        let (id, job) = (event.delivery(number).unwrap(), stage.store.ids().next());
        rows.push(DeliveryRow {
            id,
            tenant: stage.tenant.clone(),
            event_type: "a".parse().unwrap(),
            subscriber: *subscriber,
            job,
            created_at: stage.now(),
        });
        jobs.push(NewJob::now(queued(job), lane_of(*subscriber), stage.tenant.as_str(), id.uuid()));
    }
    stage.store.insert_with(Vec::new(), &rows, &mut writes);
    stage.store.queue().enqueue_with(&jobs, &mut writes);
    let transaction = stage.store.database().begin().await.unwrap();
    writes.execute(&transaction).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn the_data_of_an_erased_event_goes_at_once(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let event = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await.event();
    let other = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await.event();
    let unknown: EventId = stage.store.ids().next();
    assert!(!stage.store.erase_payload(&stage.tenant, unknown).await.unwrap());
    assert!(!stage.store.erase_payload(&"other".parse().unwrap(), event).await.unwrap());
    assert_eq!(gone(stage, event).await, None);
    erase(stage, event).await;
    erase(stage, event).await;
    assert_eq!((gone(stage, event).await, gone(stage, other).await), (Some(PayloadGone::Erased), None));
    let of = [(stage.tenant.clone(), event), (stage.tenant.clone(), other)];
    let found = stage.store.envelopes(&of).await.unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), [&other]);
    assert_eq!(stage.count("SELECT count(*) AS n FROM events WHERE length(envelope) > 0").await, 1);
    assert_eq!(stage.count("SELECT count(*) AS n FROM erasures").await, 1);
}

async fn the_responses_of_an_erased_event_go_and_those_of_others_stay(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let before = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    let erased = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    let after = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    answer(stage, End::Succeeded).await;
    erase(stage, erased.event()).await;
    erase_all(stage, 100).await;
    assert_eq!(responses(stage, erased).await, [(Some(500), 0, String::new())]);
    for other in [before, after] {
        assert_eq!(responses(stage, other).await, [(Some(500), 1, "Ada".to_owned())]);
    }
}

async fn pending_deliveries_of_an_erased_event_are_cancelled_with_their_jobs(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let ended = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    stage.attempt(End::Succeeded).await;
    let more = [stage.subscribe(&stage.tenant, true).await, stage.subscribe(&stage.tenant, true).await];
    add_deliveries(stage, ended.event(), &more).await;
    let other = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    erase(stage, ended.event()).await;
    assert_eq!(erase_all(stage, 100).await.0, 2);
    let deliveries = stage.stats().await.deliveries;
    assert_eq!((deliveries.cancelled, deliveries.succeeded, deliveries.pending), (2, 1, 1));
    let jobs: Vec<_> = stage.claim().await.into_iter().map(|(_, delivery)| delivery.id).collect();
    assert_eq!(jobs, [other]);
}

async fn a_job_of_an_erased_event_is_not_delivered(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let erased = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    erase(stage, erased.event()).await;
    assert_eq!(stage.load_all().await, ["PayloadGone", "Deliver"]);
}

async fn a_response_that_comes_late_is_erased_an_hour_later(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let erased = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    let [(lease, delivery)] = <[_; 1]>::try_from(stage.claim().await).unwrap();
    erase(stage, erased.event()).await;
    assert_eq!(erase_all(stage, 100).await.0, 1);
    record(stage, lease, delivery, End::Succeeded).await;
    assert_eq!(responses(stage, erased).await, [(Some(500), 1, "Ada".to_owned())]);
    assert_eq!(erase_all(stage, 100).await, (0, 0));
    stage.database.advance(LATER).await;
    erase_all(stage, 100).await;
    assert_eq!(responses(stage, erased).await, [(Some(500), 0, String::new())]);
    let delivery = stage.store.delivery(&stage.tenant, erased).await.unwrap().unwrap();
    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Cancelled, 1));
    assert_eq!(stage.count("SELECT count(*) AS n FROM erasures").await, 0);
}

async fn no_more_deliveries_are_made_of_an_erased_event(stage: &Stage) {
    let mut subscribers =
        [stage.subscribe(&stage.tenant, true).await, stage.subscribe(&stage.tenant, true).await];
    subscribers.sort_unstable();
    // An event without deliveries so far, and the promise to make two.
    let event = stage.dispatch(&stage.tenant, subscribers[0], "a", stage.now()).await.event();
    for sql in ["DELETE FROM deliveries", "DELETE FROM jobs"] {
        stage.database.connection().execute_unprepared(sql).await.unwrap();
    }
    let promise = FanOutRow {
        event_id: event,
        tenant: stage.tenant.clone(),
        event_type: "a".parse().unwrap(),
        dispatched_at: stage.now(),
        channels: None,
        crowd: Crowd { size: 2, last: subscribers[1] },
        trace: None,
    };
    let mut writes = Writes::new();
    stage.store.promise_with(&[promise], &mut writes);
    let transaction = stage.store.database().begin().await.unwrap();
    writes.execute(&transaction).await.unwrap();
    transaction.commit().await.unwrap();
    let FannedOut::Step(step) = stage.store.fan_out(None, 1, &Everyone).await.unwrap() else {
        panic!("one is to come")
    };
    assert_eq!((step.jobs, step.complete), (1, false));
    erase(stage, event).await;
    assert_eq!(stage.store.fan_out(None, 1, &Everyone).await.unwrap(), FannedOut::Nothing);
    assert_eq!(erase_all(stage, 100).await.0, 1);
    let event = stage.store.event(&stage.tenant, event).await.unwrap().unwrap();
    assert_eq!((event.jobs_created, event.continues), (1, false));
    assert_eq!(stage.count("SELECT count(*) AS n FROM deliveries").await, 1);
}

async fn a_delivery_of_an_erased_event_is_not_retried(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let erased = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    let other = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    answer(stage, End::Dead(DeadReason::AttemptsUsedUp)).await;
    erase(stage, erased.event()).await;
    let retried = stage.store.retry(&stage.tenant, erased).await.unwrap();
    assert!(matches!(retried, Changed::PayloadGone(PayloadGone::Erased)), "{retried:?}");
    let filter = DeadFilter::default();
    for (deliveries, without_payload) in [(1, 1), (0, 1)] {
        let requeued =
            stage.store.requeue(&stage.tenant, &filter, AttemptBudget::FromZero, 10).await.unwrap();
        assert_eq!(requeued, Requeued { deliveries, without_payload, more: false });
    }
    let status = async |id| stage.store.delivery(&stage.tenant, id).await.unwrap().unwrap().status;
    assert_eq!((status(erased).await, status(other).await), (DeliveryStatus::Dead, DeliveryStatus::Pending));
}

async fn an_erasure_takes_small_steps_and_others_have_their_turn(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let wide = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await.event();
    let mut more = Vec::new();
    for _ in 0..4 {
        more.push(stage.subscribe(&stage.tenant, true).await);
    }
    add_deliveries(stage, wide, &more).await;
    let small = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await.event();
    erase(stage, wide).await;
    erase(stage, small).await;
    let mut steps = Vec::new();
    while let Some(step) = stage.store.erase_responses(2).await.unwrap() {
        steps.push((step.event, step.cancelled.values().sum::<u64>()));
        // So that moments differ.
        stage.database.advance(Duration::from_millis(5)).await;
    }
    let of_wide: Vec<_> = steps.iter().filter(|step| step.0 == wide).map(|step| step.1).collect();
    assert_eq!(of_wide, [2, 2, 1, 0], "{steps:?}");
    let of_small = steps.iter().position(|step| *step == (small, 1)).unwrap();
    assert!(of_small < steps.len() - 3, "it does not wait for the other: {steps:?}");
}

async fn deliveries_of_the_first_edition_are_erased(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let old = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    let between = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    answer(stage, End::Succeeded).await;
    // As if the delivery of a third event named the first one in its column.
    let third = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    answer(stage, End::Succeeded).await;
    let uuid = |id: DeliveryId| match stage.store.database().dialect() {
        postrider_database::Dialect::Postgres => format!("'{}'", id.uuid()),
        postrider_database::Dialect::Sqlite => format!("x'{}'", id.uuid().simple()),
    };
    let event = match stage.store.database().dialect() {
        postrider_database::Dialect::Postgres => format!("'{}'", old.event().uuid()),
        postrider_database::Dialect::Sqlite => format!("x'{}'", old.event().uuid().simple()),
    };
    for sql in [
        format!("DELETE FROM deliveries WHERE id = {}", uuid(old)),
        format!("UPDATE deliveries SET event_id = {event} WHERE id = {}", uuid(third)),
    ] {
        stage.database.connection().execute_unprepared(&sql).await.unwrap();
    }
    erase(stage, old.event()).await;
    erase_all(stage, 100).await;
    assert_eq!(responses(stage, third).await, [(Some(500), 0, String::new())]);
    assert_eq!(responses(stage, between).await, [(Some(500), 1, "Ada".to_owned())]);
}
