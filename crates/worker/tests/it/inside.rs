//! Receivers inside Postrider: sandboxes, and listeners that another machine answers for.

use std::time::Duration;

use postrider_core::inside::{listener_url, new_token};
use postrider_core::script::Script;
use postrider_core::subscriber::{PolicyFields, Span};
use postrider_core::{DeadReason, DeliveryStatus, ErrorKind, Policy, Secret, SubscriberId, SystemRandom};
use postrider_store::listeners::Handover;
use postrider_store::sandboxes::{NewSandbox, Sandbox};
use postrider_store::subscribers::{NewSubscriber, SubscriberState};
use postrider_testkit::eventually;
use postrider_worker::Config;
use serde_json::{Value, json};

use crate::stage::{DEADLINE, SECRET, Stage, config, on_both, tenant};

on_both!(
    a_sandbox_plays_its_script,
    a_sandbox_that_is_over_ends_deliveries,
    a_listener_answers_attempts,
    a_sandbox_is_only_recognised_where_it_is_on,
);

/// An address that no worker may send to.
const FORBIDDEN: &str = "http://10.1.2.3:8080";

async fn sandbox(stage: &Stage, script: Value, ttl: Duration) -> (Sandbox, SubscriberId) {
    let token = new_token(&SystemRandom);
    let url = format!("{FORBIDDEN}/sandbox/{token}");
    let new = NewSandbox { token, url, script: Script::try_from(&script).unwrap(), ttl };
    let sandbox = stage.store.create_sandbox(&tenant(), new).await.unwrap().unwrap();
    let subscriber = subscribe(stage, &sandbox.url).await;
    (sandbox, subscriber)
}

async fn subscribe(stage: &Stage, url: &str) -> SubscriberId {
    let fields = PolicyFields {
        max_attempts: Some(10),
        timeout: Some(Span(Duration::from_secs(1))),
        schedule: Some(vec![Span(Duration::from_millis(10))]),
        ..PolicyFields::default()
    };
    let new = NewSubscriber {
        policy: Policy::try_from(fields).unwrap(),
        ..NewSubscriber::new(url.parse().unwrap(), vec!["*".parse().unwrap()], Secret::parse(SECRET).unwrap())
    };
    stage.store.create_subscriber(&tenant(), new).await.unwrap().id
}

fn with_sandboxes() -> Config {
    Config { sandbox: true, ..config() }
}

async fn a_sandbox_plays_its_script(stage: &Stage) {
    let script = json!([503, {"status": 429, "retry_after": 0}, {"delay": "5s"}, "reset", "redirect", "cut"]);
    let (sandbox, _) = sandbox(stage, script, Duration::from_hours(1)).await;
    let worker = stage.worker(with_sandboxes()).await;
    let event = stage.dispatch().await;
    let delivery = stage.ended(event.id).await;
    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Succeeded, 6));
    let attempts = stage.attempts(&delivery).await;
    let results: Vec<_> =
        attempts.iter().map(|attempt| (attempt.response_status, attempt.verdict.error_kind())).collect();
    let status = Some(ErrorKind::Status);
    let expected = [
        (Some(503), status),
        (Some(429), status),
        (None, Some(ErrorKind::TimeoutHeaders)),
        (None, Some(ErrorKind::Reset)),
        (Some(302), status),
        (Some(200), None),
    ];
    assert_eq!(results, expected);
    assert!(attempts[2].duration >= Duration::from_secs(1), "{:?}", attempts[2].duration);
    let note = format!("{:?}", attempts[5].verdict);
    assert!(note.contains("the connection was lost before the body was complete"), "{note}");

    let requests = stage.store.sandbox_requests(&tenant(), sandbox.id, 0, 200).await.unwrap();
    assert_eq!(requests.len(), 6);
    for request in &requests {
        assert_eq!(request.header("webhook-id"), Some(&*event.id.to_string()));
        let valid: Vec<_> = request.signatures.iter().map(|signature| signature.valid).collect();
        assert_eq!(valid, [true, true], "{:?}", request.signatures);
        assert!(String::from_utf8_lossy(&request.body).contains("\"data\""));
    }
    stage.settled().await;
    worker.stop().await;
}

async fn a_sandbox_that_is_over_ends_deliveries(stage: &Stage) {
    let (_, subscriber) = sandbox(stage, json!([]), Duration::ZERO).await;
    let worker = stage.worker(with_sandboxes()).await;
    let delivery = stage.ended(stage.dispatch().await.id).await;
    assert_eq!((delivery.status, delivery.dead_reason), (DeliveryStatus::Dead, Some(DeadReason::Gone)));
    let found = stage.store.subscriber(&tenant(), subscriber).await.unwrap().unwrap();
    assert_ne!(found.state, SubscriberState::Active, "nothing more is sent to it");
    stage.settled().await;
    worker.stop().await;
}

async fn a_sandbox_is_only_recognised_where_it_is_on(stage: &Stage) {
    let (sandbox, _) = sandbox(stage, json!([]), Duration::from_hours(1)).await;
    let worker = stage.worker(config()).await;
    let event = stage.dispatch().await;
    let delivery = stage.attempted(event.id, 1).await;
    let attempts = stage.attempts(&delivery).await;
    assert_eq!(attempts[0].verdict.error_kind(), Some(ErrorKind::Blocked), "it was sent like any other");
    worker.stop().await;
    let found = stage.store.sandbox(&tenant(), sandbox.id).await.unwrap().unwrap();
    assert_eq!(found.received, 0);
}

async fn a_listener_answers_attempts(stage: &Stage) {
    let token = new_token(&SystemRandom);
    let listener = stage.store.create_listener(&tenant(), &token).await.unwrap().unwrap();
    subscribe(stage, &listener_url(&token)).await;
    let stream = stage.store.ids().next_uuid();
    assert!(stage.store.attend_listener(&tenant(), listener, stream).await.unwrap());
    let worker = stage.worker(config()).await;
    let event = stage.dispatch().await;
    for answer in [
        json!({"status": 500, "headers": [{"name": "x-a", "value": "b"}], "body_base64": "bm8="}),
        json!({"error": "connect"}),
        Value::Null,
        json!({"status": 204}),
    ] {
        let request = eventually(DEADLINE, || async {
            stage.store.take_handovers(&tenant(), listener).await.unwrap().pop()
        })
        .await;
        assert_eq!(request.head["event_id"], event.id.to_string());
        let handover = Handover { tenant: tenant(), listener, id: request.id };
        if !answer.is_null() {
            assert!(stage.store.answer_handover(&handover, &answer).await.unwrap());
        }
    }
    let delivery = stage.ended(event.id).await;
    let attempts = stage.attempts(&delivery).await;
    let results: Vec<_> =
        attempts.iter().map(|attempt| (attempt.response_status, attempt.verdict.error_kind())).collect();
    let expected = [
        (Some(500), Some(ErrorKind::Status)),
        (None, Some(ErrorKind::Connect)),
        (None, Some(ErrorKind::TimeoutHeaders)),
        (Some(204), None),
    ];
    assert_eq!((delivery.status, results), (DeliveryStatus::Succeeded, expected.to_vec()));
    stage.settled().await;
    worker.stop().await;
    assert_eq!(stage.count("SELECT count(*) FROM handovers").await, 0, "each attempt removes its row");
}
