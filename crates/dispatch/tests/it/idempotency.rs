//! Idempotency keys: repeats are one event, also from several callers at once.

use postrider_dispatch::{Config, DispatchError, Dispatched, NewEvent, Transforms, hook};
use serde_json::json;

use crate::stage::{Stage, event, keyed, on_both};

on_both!(
    a_repeat_gets_the_first_answer,
    another_request_under_the_same_key_is_a_conflict,
    equal_keys_in_one_batch_are_one_event,
    each_request_of_a_batch_is_compared_with_the_stored_one,
    equal_keys_at_once_are_one_event,
    different_requests_at_once_are_one_event_and_conflicts,
    a_repeat_gets_the_first_answer_even_if_a_hook_now_fails,
    a_failed_event_leaves_its_key_free,
);

async fn a_repeat_gets_the_first_answer(stage: &Stage) {
    stage.subscribe(&["*"]).await;
    stage.subscribe(&["order.*"]).await;
    let dispatcher = stage.dispatcher();
    let request = || keyed("order.created", &json!({ "total": 3 }), "order-1");
    let first = dispatcher.dispatch(request()).await.unwrap();
    let counts = stage.counts().await;

    // The first answer does not include later subscribers.
    stage.subscribe(&["*"]).await;
    let again = dispatcher.dispatch(request()).await.unwrap();
    assert_eq!(again, Dispatched { duplicate: true, ..first });
    let lanes = counts["lanes"] + 1;
    let mut expected = counts;
    expected.insert("lanes", lanes);
    assert_eq!(stage.counts().await, expected);
}

async fn another_request_under_the_same_key_is_a_conflict(stage: &Stage) {
    let dispatcher = stage.dispatcher();
    let first = || keyed("order.created", &json!({ "total": 3 }), "order-1");
    dispatcher.dispatch(first()).await.unwrap();
    for other in [
        keyed("order.created", &json!({ "total": 4 }), "order-1"),
        keyed("order.changed", &json!({ "total": 3 }), "order-1"),
        NewEvent { agent_id: Some("someone".parse().unwrap()), ..first() },
    ] {
        let error = dispatcher.dispatch(other).await.unwrap_err();
        assert!(matches!(error, DispatchError::KeyConflict), "{error}");
        assert!(!error.is_unavailable());
    }
    // Without a key nothing is compared.
    dispatcher.dispatch(event("order.created", &json!({ "total": 3 }))).await.unwrap();
    assert_eq!(stage.rows_of("events").await, 2);
}

async fn equal_keys_in_one_batch_are_one_event(stage: &Stage) {
    stage.subscribe(&["*"]).await;
    let request = |total: u32| keyed("order.created", &json!({ "total": total }), "order-1");
    let results = stage.dispatcher().dispatch_batch(vec![request(3), request(4), request(3)]).await;
    let first = results[0].as_ref().unwrap();
    assert!(!first.duplicate);
    assert!(matches!(results[1], Err(DispatchError::KeyConflict)));
    assert_eq!(results[2].as_ref().unwrap(), &Dispatched { duplicate: true, ..first.clone() });
    let counts = stage.counts().await;
    assert_eq!((counts["events"], counts["jobs"], counts["idempotency_keys"]), (1, 1, 1));
}

async fn each_request_of_a_batch_is_compared_with_the_stored_one(stage: &Stage) {
    let request = |total: u32| keyed("order.created", &json!({ "total": total }), "order-1");
    let dispatcher = stage.dispatcher();
    let first = dispatcher.dispatch(request(3)).await.unwrap();
    let results = dispatcher.dispatch_batch(vec![request(4), request(3), request(4)]).await;
    assert!(matches!(results[0], Err(DispatchError::KeyConflict)));
    assert_eq!(results[1].as_ref().unwrap(), &Dispatched { duplicate: true, ..first });
    assert!(matches!(results[2], Err(DispatchError::KeyConflict)));
}

async fn equal_keys_at_once_are_one_event(stage: &Stage) {
    stage.subscribe(&["*"]).await;
    let dispatchers = [stage.dispatcher(), stage.another_dispatcher().await];
    for round in 0..5 {
        let key = format!("round-{round}");
        let tasks: Vec<_> = (0..40)
            .map(|n| {
                let (dispatcher, key) = (dispatchers[n % 2].clone(), key.clone());
                tokio::spawn(async move {
                    let request = keyed("order.created", &json!({ "total": 3 }), &key);
                    // Half of them in batches of their own, which share no transaction.
                    if n % 4 < 2 {
                        dispatcher.dispatch(request).await
                    } else {
                        dispatcher.dispatch_batch(vec![request]).await.remove(0)
                    }
                })
            })
            .collect();
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.await.unwrap().unwrap());
        }
        let first =
            results.iter().find(|result| !result.duplicate).cloned().expect("one of them is the first");
        assert_eq!(results.iter().filter(|result| !result.duplicate).count(), 1);
        for result in results {
            assert_eq!(Dispatched { duplicate: false, ..result }, first);
        }
    }
    let counts = stage.counts().await;
    assert_eq!((counts["events"], counts["deliveries"], counts["jobs"]), (5, 5, 5));
}

async fn different_requests_at_once_are_one_event_and_conflicts(stage: &Stage) {
    stage.subscribe(&["*"]).await;
    let dispatchers = [stage.dispatcher(), stage.another_dispatcher().await];
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let dispatcher = dispatchers[n % 2].clone();
            let request = keyed("order.created", &json!({ "total": n }), "order-1");
            tokio::spawn(async move { dispatcher.dispatch(request).await })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(dispatched) => {
                assert!(!dispatched.duplicate);
                done += 1;
            }
            Err(error) => assert!(matches!(error, DispatchError::KeyConflict), "{error}"),
        }
    }
    assert_eq!((done, stage.rows_of("events").await, stage.rows_of("jobs").await), (1, 1, 1));
}

async fn a_repeat_gets_the_first_answer_even_if_a_hook_now_fails(stage: &Stage) {
    stage.subscribe(&["*"]).await;
    let request = || keyed("order.created", &json!({ "total": 3 }), "order-1");
    let first = stage.dispatcher().dispatch(request()).await.unwrap();

    let mut transforms = Transforms::new();
    transforms.register("*", hook("refuse", |_| Err("never".into()))).unwrap();
    let strict = stage.dispatcher_with(Config { transforms, ..Config::default() });
    let again = strict.dispatch(request()).await.unwrap();
    assert_eq!(again, Dispatched { duplicate: true, ..first });
    let other = strict.dispatch(keyed("order.created", &json!({ "total": 4 }), "order-1")).await;
    assert!(matches!(other, Err(DispatchError::KeyConflict)), "{other:?}");
}

async fn a_failed_event_leaves_its_key_free(stage: &Stage) {
    stage.subscribe(&["*"]).await;
    let mut transforms = Transforms::new();
    transforms.register("*", hook("refuse", |_| Err("never".into()))).unwrap();
    let strict = stage.dispatcher_with(Config { transforms, ..Config::default() });
    let request = || keyed("order.created", &json!({ "total": 3 }), "order-1");
    let counts = stage.counts().await;
    strict.dispatch(request()).await.unwrap_err();
    assert_eq!(stage.counts().await, counts, "nothing is stored");
    assert!(!stage.dispatcher().dispatch(request()).await.unwrap().duplicate);
}
