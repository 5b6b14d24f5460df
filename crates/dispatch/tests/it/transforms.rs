//! Transforms of dispatched events: their order, their failures and their results.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use postrider_core::{EventData, chain};
use postrider_dispatch::{Config, DispatchError, Dispatcher, EventDraft, NewEvent, Transforms, hook};
use serde_json::{Value, json};

use crate::stage::{Stage, event, keyed, on_both};

on_both!(
    transforms_run_once_and_in_order,
    a_failed_hook_is_named_and_nothing_is_stored,
    a_panicking_hook_fails_its_event,
    a_failed_hook_fails_only_its_own_event,
    unchanged_data_stays_byte_for_byte,
    a_key_stands_for_the_request_before_transforms,
);

fn with(stage: &Stage, transforms: &Transforms) -> Dispatcher {
    stage.dispatcher_with(Config { transforms: transforms.clone(), ..Config::default() })
}

fn note(event: &mut EventDraft, step: &str) -> Result<(), postrider_dispatch::transform::HookError> {
    Ok(event.set("/steps/-", step)?)
}

async fn transforms_run_once_and_in_order(stage: &Stage) {
    for _ in 0..3 {
        stage.subscribe(&["*"]).await;
    }
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let mut transforms = Transforms::new();
    let config: toml::Table = r#"
        [[transforms]]
        event = "*"
        rename = { "/configured/event" = "/configured/every" }
        [[transforms]]
        event = "order.created"
        set = { "/configured/event" = "event came first", "/steps/-" = "configured" }
        [[transforms]]
        event = "order.other"
        set = { "/other" = true }
    "#
    .parse()
    .unwrap();
    transforms.configure(config["transforms"].clone()).unwrap();
    transforms
        .register("order.created", hook("event 1", |event| note(event, "event 1")))
        .unwrap()
        .register(
            "*",
            hook("every 1", move |event| {
                counted.fetch_add(1, Ordering::SeqCst);
                assert_eq!((event.tenant().as_str(), event.agent_id().as_str()), ("default", "default"));
                note(event, &format!("every 1 of {}", event.event_type().clone()))
            }),
        )
        .unwrap()
        .register("order.created", hook("event 2", |event| note(event, "event 2")))
        .unwrap()
        .register("order.other", hook("other", |event| note(event, "other")))
        .unwrap()
        .register("*", hook("every 2", |event| note(event, "every 2")))
        .unwrap();

    let dispatched = with(stage, &transforms).dispatch(event("order.created", &json!({ "steps": [] }))).await;
    assert_eq!(dispatched.unwrap().jobs.len(), 3);
    assert_eq!(runs.load(Ordering::SeqCst), 1, "once per event, not per subscriber");
    let envelope: Value = serde_json::from_str(&stage.envelopes().await[0]).unwrap();
    let expected = json!({
        "steps": ["every 1 of order.created", "every 2", "event 1", "event 2", "configured"],
        "configured": { "every": "event came first" },
    });
    assert_eq!(envelope["data"], expected);
}

async fn a_failed_hook_is_named_and_nothing_is_stored(stage: &Stage) {
    stage.subscribe(&["*"]).await;
    let before = stage.counts().await;
    let mut transforms = Transforms::new();
    transforms
        .register("*", hook("fine", |event| Ok(event.set("/seen", &true)?)))
        .unwrap()
        .register("order.created", hook("credit-check", |_| Err("no credit left".into())))
        .unwrap();
    let dispatcher = with(stage, &transforms);
    let error = dispatcher.dispatch(keyed("order.created", &json!({}), "k")).await.unwrap_err();
    let DispatchError::Hook { name, source } = &error else { panic!("{error}") };
    assert_eq!((&**name, source.to_string().as_str()), ("credit-check", "no credit left"));
    assert_eq!(chain(&error).to_string(), "the hook `credit-check` failed: no credit left");
    assert!(!error.is_unavailable());
    assert_eq!(stage.counts().await, before);
    dispatcher.dispatch(event("order.other", &json!({}))).await.unwrap();
}

async fn a_panicking_hook_fails_its_event(stage: &Stage) {
    stage.subscribe(&["*"]).await;
    let before = stage.counts().await;
    let mut transforms = Transforms::new();
    transforms
        .register("text", hook("text", |_| panic!("secret-in-a-panic")))
        .unwrap()
        .register("value", hook("value", |_| std::panic::panic_any(PanicsOnDrop)))
        .unwrap();
    let dispatcher = with(stage, &transforms);
    for name in ["text", "value"] {
        let error = dispatcher.dispatch(event(name, &json!({}))).await.unwrap_err();
        assert_eq!(chain(&error).to_string(), format!("the hook `{name}` panicked"));
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
    assert_eq!(stage.counts().await, before);
    dispatcher.dispatch(event("calm", &json!({}))).await.unwrap();
}

struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("once more");
    }
}

async fn a_failed_hook_fails_only_its_own_event(stage: &Stage) {
    stage.subscribe(&["*"]).await;
    let mut transforms = Transforms::new();
    let picky = hook("odd", |event| match event.get::<u32>("/n")? {
        Some(n) if n % 2 == 0 => Ok(()),
        _ => Err("n must be even".into()),
    });
    transforms.register("*", picky).unwrap();
    let dispatcher = with(stage, &transforms);
    let number = |n: u32| event("a.b", &json!({ "n": n }));
    let results = dispatcher.dispatch_batch((0..6).map(number).collect()).await;
    assert_eq!(
        results.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, true, false, true, false]
    );

    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let dispatcher = dispatcher.clone();
            tokio::spawn(async move { (n, dispatcher.dispatch(event("a.b", &json!({ "n": n }))).await) })
        })
        .collect();
    for task in tasks {
        let (n, result) = task.await.unwrap();
        assert_eq!(result.is_ok(), n % 2 == 0, "{n}: {result:?}");
    }
    assert_eq!(stage.rows_of("events").await, 3 + 25);
}

async fn unchanged_data_stays_byte_for_byte(stage: &Stage) {
    const ODD: &str = r#"{ "b":1e400,  "a" : 12345678901234567890.10, "a":"\ud800\u0041", "c":[ ] }"#;
    stage.subscribe(&["*"]).await;
    let mut transforms = Transforms::new();
    transforms
        .register(
            "*",
            hook("read-only", |event| {
                assert_eq!(event.to_json(), ODD);
                assert!(!event.remove("/nothing")?);
                assert_eq!(event.get::<Value>("/c")?, Some(json!([])));
                Ok(())
            }),
        )
        .unwrap();
    let odd = NewEvent { data: EventData::from_json(ODD).unwrap(), ..event("a.b", &json!({})) };
    stage.dispatcher().dispatch(odd.clone()).await.unwrap();
    with(stage, &transforms).dispatch(odd).await.unwrap();
    for envelope in stage.envelopes().await {
        assert!(envelope.ends_with(&format!(r#""data":{ODD}}}"#)), "{envelope}");
    }
}

async fn a_key_stands_for_the_request_before_transforms(stage: &Stage) {
    stage.subscribe(&["*"]).await;
    let number = Arc::new(AtomicUsize::new(0));
    let mut transforms = Transforms::new();
    transforms
        .register(
            "*",
            hook("number", move |event| Ok(event.set("/number", &number.fetch_add(1, Ordering::SeqCst))?)),
        )
        .unwrap();
    let dispatcher = with(stage, &transforms);
    let first = dispatcher.dispatch(keyed("a.b", &json!({ "n": 1 }), "k")).await.unwrap();
    // The hook's result differs this time, but the request is the same.
    let again = dispatcher.dispatch(keyed("a.b", &json!({ "n": 1 }), "k")).await.unwrap();
    assert!(again.duplicate && again.id == first.id);
    assert!(stage.envelopes().await[0].ends_with(r#""data":{"n":1,"number":0}}"#));
    // A request with the hook's result is another request.
    let other = dispatcher.dispatch(keyed("a.b", &json!({ "n": 1, "number": 0 }), "k")).await;
    assert!(matches!(other, Err(DispatchError::KeyConflict)), "{other:?}");
}
