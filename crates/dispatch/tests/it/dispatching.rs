//! What a dispatched event leaves: rows, ids and subscribers.

use postrider_core::event::{EventDataError, EventTypeError};
use postrider_core::{DeliveryId, TenantId};
use postrider_dispatch::{DispatchError, NewEvent, NewEventError};
use postrider_store::subscribers::SubscriberChange;
use sea_orm::FromQueryResult;
use sea_orm::prelude::Uuid;
use serde_json::json;

use crate::stage::{Stage, event, keyed, on_both};

on_both!(
    an_event_is_stored_with_its_deliveries_and_jobs,
    an_event_without_subscribers_succeeds_with_no_jobs,
    each_matching_subscriber_is_found_once,
    inactive_subscribers_get_no_delivery,
    changes_of_subscribers_take_effect_at_once,
    tenants_are_apart,
    a_batch_is_answered_in_order_with_a_result_for_each_event,
    a_batch_over_the_limit_is_split_into_transactions,
    concurrent_callers_share_transactions,
    an_invalid_trace_is_dropped,
);

#[derive(Debug, FromQueryResult)]
struct Stored {
    subscriber_id: Uuid,
    job_id: Uuid,
    subject: Uuid,
    lane: Uuid,
    delivery_id: Uuid,
    status: i16,
    attempts: i32,
}

const STORED: &str = "SELECT deliveries.subscriber_id, deliveries.job_id, jobs.subject, jobs.lane, \
    deliveries.id AS delivery_id, deliveries.status, deliveries.attempts \
    FROM deliveries JOIN jobs ON jobs.id = deliveries.job_id ORDER BY deliveries.id";

async fn an_event_is_stored_with_its_deliveries_and_jobs(stage: &Stage) {
    let subscribers = [stage.subscribe(&["order.created"]).await, stage.subscribe(&["order.created"]).await];
    let dispatched =
        stage.dispatcher().dispatch(event("order.created", &json!({ "total": 3 }))).await.unwrap();

    assert_eq!(dispatched.event_type.as_str(), "order.created");
    assert_eq!(dispatched.agent_id.as_str(), "default");
    assert_eq!(dispatched.subscribers, subscribers);
    assert_eq!(dispatched.jobs.len(), 2);
    assert!(!dispatched.duplicate);
    let now = stage.store.ids().clock().now();
    assert!(now.since(dispatched.timestamp).as_secs() < 60 && dispatched.timestamp.since(now).is_zero());

    let stored: Vec<Stored> = stage.all(STORED).await;
    assert_eq!(stored.len(), 2);
    for ((row, subscriber), job) in stored.iter().zip(&dispatched.subscribers).zip(&dispatched.jobs) {
        assert_eq!(DeliveryId::from_uuid(row.delivery_id).event(), dispatched.id);
        assert_eq!((row.subscriber_id, row.job_id), (subscriber.uuid(), job.uuid()));
        assert_eq!((row.lane, row.subject), (subscriber.uuid(), row.delivery_id));
        assert_eq!((row.status, row.attempts), (0, 0));
    }
    let seconds = dispatched.timestamp.seconds();
    let expected = format!(
        r#"{{"event":"order.created","timestamp":{seconds},"agent_id":"default","data":{{"total":3}}}}"#
    );
    assert_eq!(stage.envelopes().await, [expected]);
}

async fn an_event_without_subscribers_succeeds_with_no_jobs(stage: &Stage) {
    stage.subscribe(&["invoice.*"]).await;
    let dispatched = stage.dispatcher().dispatch(event("order.created", &json!([]))).await.unwrap();
    assert_eq!((dispatched.subscribers.len(), dispatched.jobs.len()), (0, 0));
    assert!(!dispatched.duplicate);
    let counts = stage.counts().await;
    assert_eq!((counts["events"], counts["deliveries"], counts["jobs"]), (1, 0, 0));
}

async fn each_matching_subscriber_is_found_once(stage: &Stage) {
    let exact = stage.subscribe(&["order.item.added"]).await;
    let prefix = stage.subscribe(&["order.*"]).await;
    let everything = stage.subscribe(&["*"]).await;
    let thrice = stage.subscribe(&["*", "order.*", "order.item.added"]).await;
    stage.subscribe(&["order"]).await;
    stage.subscribe(&["orders.*", "order.item", "order.item.added.*"]).await;

    let dispatcher = stage.dispatcher();
    let found = dispatcher.dispatch(event("order.item.added", &json!({}))).await.unwrap();
    assert_eq!(found.subscribers, [exact, prefix, everything, thrice]);
    // `%` and `_` are no wildcards, and case matters.
    let found = dispatcher.dispatch(event("ORDER_item.added", &json!({}))).await.unwrap();
    assert_eq!(found.subscribers, [everything, thrice]);
}

async fn inactive_subscribers_get_no_delivery(stage: &Stage) {
    stage.subscribe_for(&"default".parse().unwrap(), &["*"], false).await;
    let active = stage.subscribe(&["*"]).await;
    let found = stage.dispatcher().dispatch(event("order.created", &json!({}))).await.unwrap();
    assert_eq!(found.subscribers, [active]);
}

/// Although a dispatcher caches the subscribers it found last.
async fn changes_of_subscribers_take_effect_at_once(stage: &Stage) {
    let tenant = TenantId::default();
    let dispatcher = stage.dispatcher();
    let found = async || {
        let first = dispatcher.dispatch(event("order.created", &json!({}))).await.unwrap().subscribers;
        let again = dispatcher.dispatch(event("order.created", &json!({}))).await.unwrap();
        assert_eq!(again.subscribers, first);
        assert_eq!(again.jobs.len(), first.len());
        first
    };
    let change = async |id, change| {
        stage.store.change_subscriber(&tenant, id, change).await.unwrap().unwrap();
    };
    let active = |active| SubscriberChange { active: Some(active), ..SubscriberChange::default() };
    let wants = |pattern: &str| {
        let events = Some(vec![pattern.parse().unwrap()]);
        SubscriberChange { events, ..SubscriberChange::default() }
    };

    assert_eq!(found().await, []);
    let one = stage.subscribe(&["order.created"]).await;
    assert_eq!(found().await, [one]);
    let two = stage.subscribe(&["order.*", "*"]).await;
    assert_eq!(found().await, [one, two]);
    change(one, active(false)).await;
    assert_eq!(found().await, [two]);
    change(one, active(true)).await;
    assert_eq!(found().await, [one, two]);
    change(two, wants("user.*")).await;
    assert_eq!(found().await, [one]);
    change(two, wants("order.created")).await;
    assert!(stage.store.delete_subscriber(&tenant, one).await.unwrap());
    assert_eq!(found().await, [two]);
    change(two, active(false)).await;
    assert_eq!(found().await, []);
    // Two each time, and nothing of what was written in vain.
    assert_eq!(stage.rows_of("deliveries").await, 2 * (1 + 2 + 1 + 2 + 1 + 1));
    assert_eq!(stage.rows_of("events").await, 16);
}

async fn tenants_are_apart(stage: &Stage) {
    let (acme, globex) = ("acme".parse().unwrap(), "globex".parse().unwrap());
    let of_acme = stage.subscribe_for(&acme, &["*"], true).await;
    let of_globex = stage.subscribe_for(&globex, &["*"], true).await;
    let dispatcher = stage.dispatcher();
    let for_tenant = |tenant: &_| NewEvent { tenant: Clone::clone(tenant), ..keyed("a.b", &json!({}), "k") };

    let results = dispatcher.dispatch_batch(vec![for_tenant(&acme), for_tenant(&globex)]).await;
    let [first, second] = &results[..] else { panic!("{results:?}") };
    let (first, second) = (first.as_ref().unwrap(), second.as_ref().unwrap());
    assert_eq!((&first.subscribers[..], &second.subscribers[..]), (&[of_acme][..], &[of_globex][..]));
    assert!(!second.duplicate && first.id != second.id, "a key is unique only within its tenant");
}

async fn a_batch_is_answered_in_order_with_a_result_for_each_event(stage: &Stage) {
    let subscriber = stage.subscribe(&["good.*"]).await;
    let dispatcher = stage.dispatcher();
    dispatcher.dispatch(keyed("good.first", &json!({ "n": 0 }), "taken")).await.unwrap();

    let batch = vec![
        event("good.one", &json!({ "n": 1 })),
        keyed("good.two", &json!({ "n": 2 }), "taken"),
        event("lonely", &json!({ "n": 3 })),
        keyed("good.first", &json!({ "n": 0 }), "taken"),
        event("good.four", &json!([4])),
    ];
    let results = dispatcher.dispatch_batch(batch).await;
    assert_eq!(results.len(), 5);
    assert_eq!(results[0].as_ref().unwrap().subscribers, [subscriber]);
    assert!(matches!(results[1], Err(DispatchError::KeyConflict)), "{:?}", results[1]);
    assert!(results[2].as_ref().unwrap().subscribers.is_empty());
    assert!(results[3].as_ref().unwrap().duplicate);
    assert_eq!(results[4].as_ref().unwrap().event_type.as_str(), "good.four");
    let counts = stage.counts().await;
    assert_eq!((counts["events"], counts["deliveries"], counts["jobs"]), (4, 3, 3));
    assert!(dispatcher.dispatch_batch(Vec::new()).await.is_empty());
}

async fn a_batch_over_the_limit_is_split_into_transactions(stage: &Stage) {
    stage.subscribe(&["*"]).await;
    let events = (0..1001).map(|n| event("many", &json!({ "n": n }))).collect();
    let results = stage.dispatcher().dispatch_batch(events).await;
    assert_eq!(results.len(), 1001);
    assert!(results.iter().all(|result| result.as_ref().is_ok_and(|one| one.jobs.len() == 1)));
    let envelopes = stage.envelopes().await;
    for (n, envelope) in envelopes.iter().enumerate() {
        assert!(envelope.ends_with(&format!(r#""data":{{"n":{n}}}}}"#)), "{n}: {envelope}");
    }
    assert_eq!(stage.rows_of("jobs").await, 1001);
}

async fn concurrent_callers_share_transactions(stage: &Stage) {
    let subscriber = stage.subscribe(&["*"]).await;
    let dispatcher = stage.dispatcher();
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let dispatcher = dispatcher.clone();
            tokio::spawn(async move { dispatcher.dispatch(event("a.b", &json!({ "n": n }))).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().subscribers, [subscriber]);
    }
    let counts = stage.counts().await;
    assert_eq!((counts["events"], counts["deliveries"], counts["jobs"]), (200, 200, 200));
}

async fn an_invalid_trace_is_dropped(stage: &Stage) {
    #[derive(FromQueryResult)]
    struct Trace {
        trace: Option<String>,
    }
    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    stage.subscribe(&["*"]).await;
    let with = |trace: &str| NewEvent { trace: Some(trace.to_owned()), ..event("a.b", &json!({})) };
    // PostgreSQL rejects NUL in text.
    let results = stage.dispatcher().dispatch_batch(vec![with("a\0b"), with(GOOD)]).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let stored: Vec<Trace> = stage.all("SELECT trace FROM jobs ORDER BY seq").await;
    assert_eq!(stored.iter().map(|row| row.trace.as_deref()).collect::<Vec<_>>(), [None, Some(GOOD)]);
}

#[test]
fn an_invalid_event_is_a_typed_error() {
    let error = |name: &str, data: &serde_json::Value| NewEvent::new(name, data).unwrap_err();
    assert!(matches!(error("", &json!({})), NewEventError::Type(EventTypeError::Empty)));
    assert!(matches!(error("order created", &json!({})), NewEventError::Type(EventTypeError::Character)));
    for data in [json!("text"), json!(1), json!(true), json!(null)] {
        let error = error("order.created", &data);
        assert!(matches!(error, NewEventError::Data(EventDataError::NotAContainer)), "{data}");
        assert_eq!(error.to_string(), "data must be an object or an array");
    }
}
