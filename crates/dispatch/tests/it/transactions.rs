//! Events in the application's own transaction: all or nothing.

use std::time::Duration;

use postrider_core::TenantId;
use postrider_dispatch::{Config, DispatchError, Transforms, hook};
use postrider_store::stats::StatsFilter;
use postrider_testkit::{TestDatabase, eventually};
use sea_orm::{ConnectionTrait as _, Statement, TransactionTrait as _};
use serde_json::json;
use tokio::time::timeout;

use crate::stage::{Stage, event, keyed, on_both};

on_both!(
    a_rollback_leaves_nothing,
    a_commit_stores_the_order_and_its_events,
    a_rejected_event_leaves_the_transaction_usable,
    an_event_is_invisible_before_the_commit,
);

async fn a_rollback_leaves_nothing(stage: &Stage) {
    stage.subscribe(&["order.*"]).await;
    let connection = stage.database.connection();
    connection.execute_unprepared("CREATE TABLE orders (number bigint)").await.unwrap();
    let dispatcher = stage.dispatcher();
    let before = stage.counts().await;

    for explicitly in [true, false] {
        let transaction = connection.begin().await.unwrap();
        transaction.execute_unprepared("INSERT INTO orders VALUES (1)").await.unwrap();
        let request = keyed("order.created", &json!({ "number": 1 }), "order-1");
        let undone = dispatcher.dispatch_in(&transaction, request).await.unwrap();
        assert_eq!(undone.jobs.len(), 1);
        if explicitly {
            transaction.rollback().await.unwrap();
        } else {
            drop(transaction);
        }
    }
    assert_eq!(stage.counts().await, before);
    let stats = stage.store.stats(&TenantId::default(), &StatsFilter::default()).await.unwrap();
    assert_eq!(stats.deliveries.total, 0);
    // The key is still free.
    let request = keyed("order.created", &json!({ "number": 2 }), "order-1");
    assert!(!dispatcher.dispatch(request).await.unwrap().duplicate);
}

async fn a_commit_stores_the_order_and_its_events(stage: &Stage) {
    stage.subscribe(&["order.*"]).await;
    stage.subscribe(&["*"]).await;
    let connection = stage.database.connection();
    connection.execute_unprepared("CREATE TABLE orders (number bigint)").await.unwrap();
    let dispatcher = stage.dispatcher();

    let transaction = connection.begin().await.unwrap();
    transaction.execute_unprepared("INSERT INTO orders VALUES (1)").await.unwrap();
    let request = keyed("order.created", &json!({ "number": 1 }), "order-1");
    let first = dispatcher.dispatch_in(&transaction, request).await.unwrap();
    dispatcher.dispatch_in(&transaction, event("order.priced", &json!({ "number": 1 }))).await.unwrap();
    transaction.commit().await.unwrap();

    let counts = stage.counts().await;
    let of = |table: &str| counts[table];
    assert_eq!((of("events"), of("deliveries"), of("jobs"), of("idempotency_keys")), (2, 4, 4, 1));
    let stats = stage.store.stats(&TenantId::default(), &StatsFilter::default()).await.unwrap();
    assert_eq!((stats.deliveries.total, stats.deliveries.pending), (4, 4));
    // A repeat in another transaction gets the first answer.
    let transaction = connection.begin().await.unwrap();
    let request = keyed("order.created", &json!({ "number": 1 }), "order-1");
    let again = dispatcher.dispatch_in(&transaction, request).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(again.duplicate && again.id == first.id && again.jobs == first.jobs);
}

async fn a_rejected_event_leaves_the_transaction_usable(stage: &Stage) {
    stage.subscribe(&["*"]).await;
    let mut transforms = Transforms::new();
    transforms.register("bad", hook("refuse", |_| Err("never".into()))).unwrap();
    let dispatcher = stage.dispatcher_with(Config { transforms, ..Config::default() });
    dispatcher.dispatch(keyed("good", &json!({ "n": 1 }), "taken")).await.unwrap();

    let transaction = stage.database.connection().begin().await.unwrap();
    let refused = dispatcher.dispatch_in(&transaction, event("bad", &json!({}))).await;
    assert!(matches!(refused, Err(DispatchError::Hook { .. })), "{refused:?}");
    let conflict = dispatcher.dispatch_in(&transaction, keyed("good", &json!({ "n": 2 }), "taken")).await;
    assert!(matches!(conflict, Err(DispatchError::KeyConflict)), "{conflict:?}");
    dispatcher.dispatch_in(&transaction, event("good", &json!({ "n": 3 }))).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!((stage.rows_of("events").await, stage.rows_of("jobs").await), (2, 2));
}

async fn an_event_is_invisible_before_the_commit(stage: &Stage) {
    stage.subscribe(&["*"]).await;
    let dispatcher = stage.dispatcher();
    let mut wakeups = stage.store.queue().wakeups();
    let transaction = stage.database.connection().begin().await.unwrap();
    dispatcher.dispatch_in(&transaction, event("a.b", &json!({}))).await.unwrap();
    assert_eq!((stage.rows_of("events").await, stage.rows_of("jobs").await), (0, 0));
    transaction.commit().await.unwrap();
    assert_eq!((stage.rows_of("events").await, stage.rows_of("jobs").await), (1, 1));
    dispatcher.wake();
    timeout(Duration::from_secs(10), wakeups.woken()).await.expect("workers are woken");
}

/// Two events of one batch wait for keys that an open transaction holds. A third event does not wait for them.
#[tokio::test]
async fn a_hanging_batch_does_not_delay_the_next() {
    let stage = Stage::of(TestDatabase::postgres().await).await;
    let dispatcher = stage.dispatcher();
    let connection = stage.database.connection();
    let transaction = connection.begin().await.unwrap();
    for key in ["one", "two"] {
        dispatcher.dispatch_in(&transaction, keyed("a.b", &json!({}), key)).await.unwrap();
    }
    // In one task, so that both events are waiting before a flusher runs.
    let repeating = dispatcher.clone();
    let mut repeated = tokio::spawn(async move {
        let repeat = |key| repeating.dispatch(keyed("a.b", &json!({}), key));
        tokio::join!(repeat("one"), repeat("two"))
    });
    let waits = "SELECT count(*)::int4 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually(Duration::from_secs(30), || async {
        let statement = Statement::from_string(connection.get_database_backend(), waits);
        let row = connection.query_one_raw(statement).await.unwrap().unwrap();
        (row.try_get_by_index::<i32>(0).unwrap() == 1).then_some(())
    })
    .await;
    let other = dispatcher.dispatch(event("a.b", &json!({})));
    assert!(
        !timeout(Duration::from_secs(10), other)
            .await
            .expect("the third event does not wait")
            .unwrap()
            .duplicate
    );
    assert!(timeout(Duration::ZERO, &mut repeated).await.is_err(), "the first two still wait");
    transaction.commit().await.unwrap();
    let (one, two) = repeated.await.unwrap();
    assert!(one.unwrap().duplicate && two.unwrap().duplicate);
}
