//! Filters decide who gets an event, of those that match by type and channels.

use postrider_core::{EventData, Expression, SubscriberId, TenantId};
use postrider_dispatch::{Dispatcher, FanOut, NewEvent};
use postrider_stage::subscriber_of;
use postrider_store::subscribers::{NewSubscriber, SubscriberChange};
use postrider_testkit::eventually;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use serde_json::{Value, json};
use std::time::Duration;

use crate::stage::{Stage, event, on_both};

on_both!(
    an_event_goes_to_those_whose_filter_is_true,
    a_changed_filter_takes_effect_at_once,
    a_miss_writes_no_row,
    a_filter_that_fails_lets_the_event_pass,
    filters_see_channels_and_the_id_that_the_event_gets,
    a_wide_event_asks_each_filter,
    a_transaction_of_the_application_s_own_asks_filters,
    many_filters_and_large_data_are_asked_all_the_same,
);

#[allow(clippy::unnecessary_wraps, reason = "as the fields that it fills")]
fn filter(text: &str) -> Option<Expression> {
    Some(text.parse().unwrap())
}

async fn subscribe(stage: &Stage, text: &str) -> SubscriberId {
    let new = NewSubscriber { filter: filter(text), ..subscriber_of(&["order.*"]) };
    stage.store.create_subscriber(&stage.tenant, new).await.unwrap().id
}

async fn found(dispatcher: &Dispatcher, data: Value) -> Vec<SubscriberId> {
    dispatcher.dispatch(event("order.created", &data)).await.unwrap().subscribers
}

async fn an_event_goes_to_those_whose_filter_is_true(stage: &Stage) {
    let everyone = stage.subscribe(&["order.*"]).await;
    let large = subscribe(stage, "data.total > 100").await;
    let german = subscribe(stage, "has(data.country) && data.country == 'DE'").await;
    let other_type = stage.subscribe(&["user.*"]).await;
    let dispatcher = stage.dispatcher();
    // Twice each: the second time with what the first may have cached.
    for _ in 0..2 {
        assert_eq!(found(&dispatcher, json!({"total": 5})).await, [everyone]);
        assert_eq!(found(&dispatcher, json!({"total": 500})).await, [everyone, large]);
        assert_eq!(found(&dispatcher, json!({"total": 5, "country": "DE"})).await, [everyone, german]);
        assert_eq!(
            found(&dispatcher, json!({"total": 500, "country": "DE"})).await,
            [everyone, large, german]
        );
    }
    let named = dispatcher.dispatch_to(large, event("order.created", &json!({"total": 5}))).await.unwrap();
    assert_eq!(named.subscribers, [large], "whatever its filter says");
    assert!(!found(&dispatcher, json!({"total": 1})).await.contains(&other_type));
}

async fn a_changed_filter_takes_effect_at_once(stage: &Stage) {
    let subscriber = stage.subscribe(&["order.*"]).await;
    let (dispatcher, other) = (stage.dispatcher(), stage.another_dispatcher().await);
    let change =
        |filter: Option<Expression>| SubscriberChange { filter: Some(filter), ..SubscriberChange::default() };
    let steps = [
        (filter("data.n == 1"), [true, false]),
        (filter("data.n == 2"), [false, true]),
        (None, [true, true]),
    ];
    for round in 0..2 {
        for (step, (filter, expected)) in steps.clone().into_iter().enumerate() {
            stage.store.change_subscriber(&stage.tenant, subscriber, change(filter)).await.unwrap().unwrap();
            for dispatcher in [&dispatcher, &other] {
                let one = found(dispatcher, json!({"n": 1})).await == [subscriber];
                let two = found(dispatcher, json!({"n": 2})).await == [subscriber];
                assert_eq!([one, two], expected, "round {round}, step {step}");
            }
        }
    }
}

async fn a_miss_writes_no_row(stage: &Stage) {
    subscribe(stage, "false").await;
    let dispatcher = stage.dispatcher();
    for _ in 0..2 {
        let taken = dispatcher.dispatch(event("order.created", &json!({}))).await.unwrap();
        assert_eq!((taken.subscribers_found, taken.jobs_created), (0, 0));
    }
    let counts = stage.counts().await;
    assert_eq!((counts["events"], counts["deliveries"], counts["jobs"]), (2, 0, 0));
}

async fn a_filter_that_fails_lets_the_event_pass(stage: &Stage) {
    let absent = subscribe(stage, "data.missing.deep > 1").await;
    let no_boolean = subscribe(stage, "data.text").await;
    // As an application could store it that does not compile filters.
    let broken = subscribe(stage, "no cel at all").await;
    let never = subscribe(stage, "data.text == 'y'").await;
    let dispatcher = stage.dispatcher();
    for _ in 0..2 {
        assert_eq!(found(&dispatcher, json!({"text": "x"})).await, [absent, no_boolean, broken]);
    }
    let data = EventData::from_json(r#"{"text": "\ud800"}"#).unwrap();
    let unreadable = NewEvent { data, ..event("order.created", &json!({})) };
    let found = dispatcher.dispatch(unreadable).await.unwrap().subscribers;
    assert_eq!(found, [absent, no_boolean, broken, never], "data that no filter can read");
}

async fn filters_see_channels_and_the_id_that_the_event_gets(stage: &Stage) {
    let text = "event.event_type == 'order.created' && event.agent_id == 'shop' && event.channels == ['eu', 'vip'] \
        && event.timestamp > 1700000000 && event.id.matches('^evt_[0-9a-z]{26}$')";
    let all = subscribe(stage, text).await;
    let dispatcher = stage.dispatcher();
    let mut new = event("order.created", &json!({}));
    new.agent_id = Some("shop".parse().unwrap());
    new.channels = Some(vec!["vip".to_owned(), "eu".to_owned()].try_into().unwrap());
    let taken = dispatcher.dispatch(new).await.unwrap();
    assert_eq!(taken.subscribers, [all]);
    let by_id = subscribe(stage, &format!("event.id != '{}'", taken.id)).await;
    assert_eq!(found(&dispatcher, json!({})).await, [by_id]);
}

async fn a_wide_event_asks_each_filter(stage: &Stage) {
    let tenant = TenantId::default();
    stage.crowd(&tenant, &["order.*"], 150).await;
    let large = subscribe(stage, "data.total > 100").await;
    subscribe(stage, "data.total <= 100").await;
    let broken = subscribe(stage, "data.missing > 1").await;
    let dispatcher = stage.dispatcher();
    let taken = dispatcher.dispatch(event("order.created", &json!({"total": 500}))).await.unwrap();
    assert_eq!(taken.fan_out, FanOut::Continuing);
    eventually(Duration::from_secs(30), async || (stage.rows_of("fan_outs").await == 0).then_some(())).await;
    assert_eq!(
        stage.rows_of("deliveries").await,
        152,
        "150 without a filter, and two whose filter lets it pass"
    );
    let filtered =
        stage.rows("SELECT subscriber_id FROM deliveries ORDER BY subscriber_id DESC LIMIT 2").await;
    let filtered: Vec<sea_orm::prelude::Uuid> =
        filtered.iter().map(|row| row.try_get("", "subscriber_id").unwrap()).collect();
    assert_eq!(filtered, [broken.uuid(), large.uuid()]);
    let stored = stage.store.event(&tenant, taken.id).await.unwrap().unwrap();
    assert_eq!(stored.jobs_created, 152);
}

async fn a_transaction_of_the_application_s_own_asks_filters(stage: &Stage) {
    let large = subscribe(stage, "data.total > 100").await;
    let dispatcher = stage.dispatcher();
    for (total, expected) in [(500, vec![large]), (5, Vec::new())] {
        let transaction = stage.store.database().sea_orm().begin().await.unwrap();
        let event = event("order.created", &json!({"total": total}));
        let taken = dispatcher.dispatch_in(&transaction, event).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(taken.subscribers, expected);
    }
}

async fn many_filters_and_large_data_are_asked_all_the_same(stage: &Stage) {
    let mut even = Vec::new();
    for number in 0..90 {
        let subscriber = subscribe(stage, &format!("data.n % 2 == {} && {number} >= 0", number % 2)).await;
        if number % 2 == 0 {
            even.push(subscriber);
        }
    }
    let dispatcher = stage.dispatcher();
    for _ in 0..2 {
        assert_eq!(found(&dispatcher, json!({"n": 2})).await, even);
        assert_eq!(found(&dispatcher, json!({"n": 2, "text": "x".repeat(100_000)})).await, even);
    }
    let sql = "UPDATE subscribers SET filter = NULL, filter_id = NULL";
    stage.database.connection().execute_unprepared(sql).await.unwrap();
    assert_eq!(found(&dispatcher, json!({"n": 2})).await.len(), 90, "a filter that was taken away");
}
