//! Receivers inside Postrider: sandboxes and listeners.

use std::time::Duration;

use postrider_core::inside::{listener_url, new_token};
use postrider_core::script::{Script, Step};
use postrider_core::{SystemRandom, TenantId};
use postrider_store::listeners::HandoverState;
use postrider_store::sandboxes::{
    MAX_REQUESTS, NewSandbox, NewSandboxRequest, Sandbox, TakenRequest, TakingSandbox,
};
use postrider_store::subscribers::NewSubscriber;
use serde_json::json;

use crate::stage::{Stage, on_both};

on_both!(
    a_sandbox_takes_requests_until_its_limit,
    a_sandbox_expires_and_is_removed,
    a_request_is_handed_over_and_answered_once,
    a_listener_ends_with_its_lease,
);

async fn created(stage: &Stage, script: serde_json::Value) -> (Sandbox, String) {
    let token = new_token(&SystemRandom);
    let new = NewSandbox {
        url: format!("http://127.0.0.1:9/sandbox/{token}"),
        token: token.clone(),
        script: Script::try_from(&script).unwrap(),
        ttl: Duration::from_hours(1),
    };
    (stage.store.create_sandbox(&stage.tenant, new).await.unwrap().unwrap(), token)
}

async fn taken(stage: &Stage, token: &str) -> Option<(u32, Step)> {
    match stage.store.take_sandbox_request(token, TakingSandbox::Anybody).await.unwrap() {
        TakenRequest::Taken { number, step, .. } => Some((number, step)),
        TakenRequest::Over => None,
        TakenRequest::Missing => panic!("the sandbox is there"),
    }
}

async fn a_sandbox_takes_requests_until_its_limit(stage: &Stage) {
    let (store, tenant) = (&stage.store, &stage.tenant);
    let (sandbox, token) = created(stage, json!([503, 200])).await;
    assert_eq!(taken(stage, &token).await, Some((1, Step::status(503))));
    let headers = [("webhook-id".to_owned(), "evt_1".to_owned())];
    let request = NewSandboxRequest {
        number: 1,
        method: "POST",
        headers: &headers,
        body: b"\xff",
        signatures: &[],
        step: Step::status(503),
    };
    store.keep_sandbox_request(tenant, sandbox.id, request.clone()).await.unwrap();
    let kept = store.sandbox_requests(tenant, sandbox.id, 0, 10).await.unwrap();
    assert_eq!(
        (kept.len(), kept[0].header("webhook-id"), &kept[0].body[..]),
        (1, Some("evt_1"), &b"\xff"[..])
    );
    assert_eq!(kept[0].step, Step::status(503));
    assert!(store.sandbox_requests(tenant, sandbox.id, 1, 10).await.unwrap().is_empty());

    // Another tenant has none with this token, and another URL is another receiver.
    let other: TenantId = "other".parse().unwrap();
    for (tenant, url) in [(&other, &*sandbox.url), (tenant, "http://elsewhere/sandbox/x")] {
        assert!(!store.has_sandbox(tenant, &token, url).await.unwrap());
        let taking = TakingSandbox::Delivery(tenant, url);
        let found = store.take_sandbox_request(&token, taking).await.unwrap();
        assert!(matches!(found, TakenRequest::Missing), "{found:?}");
    }
    assert!(store.has_sandbox(tenant, &token, &sandbox.url).await.unwrap());
    assert_eq!(store.sandbox(&other, sandbox.id).await.unwrap(), None);

    for number in 2..=MAX_REQUESTS {
        assert_eq!(taken(stage, &token).await, Some((number, Step::status(200))));
    }
    assert_eq!(taken(stage, &token).await, None, "it takes no more");
    assert_eq!(store.sandbox(tenant, sandbox.id).await.unwrap().unwrap().received, MAX_REQUESTS);

    assert!(store.delete_sandbox(tenant, sandbox.id).await.unwrap());
    assert!(!store.delete_sandbox(tenant, sandbox.id).await.unwrap());
    // Of a request that was being kept nothing remains.
    store.keep_sandbox_request(tenant, sandbox.id, request).await.unwrap();
    assert_eq!(stage.count("SELECT count(*) AS n FROM sandbox_requests").await, 0);
}

async fn a_sandbox_expires_and_is_removed(stage: &Stage) {
    let (store, tenant) = (&stage.store, &stage.tenant);
    let (sandbox, token) = created(stage, json!([])).await;
    let (number, step) = taken(stage, &token).await.unwrap();
    let request =
        NewSandboxRequest { number, method: "POST", headers: &[], body: b"", signatures: &[], step };
    store.keep_sandbox_request(tenant, sandbox.id, request).await.unwrap();
    assert!(!store.remove_old_sandboxes().await.unwrap());
    stage.database.advance(Duration::from_mins(61)).await;
    assert_eq!(taken(stage, &token).await, None, "it has expired");
    assert!(!store.remove_old_sandboxes().await.unwrap(), "it can still be read");
    stage.database.advance(Duration::from_hours(1)).await;
    while store.remove_old_sandboxes().await.unwrap() {}
    assert_eq!(
        stage
            .count("SELECT (SELECT count(*) FROM sandboxes) + (SELECT count(*) FROM sandbox_requests) AS n")
            .await,
        0
    );
}

async fn a_request_is_handed_over_and_answered_once(stage: &Stage) {
    let (store, tenant) = (&stage.store, &stage.tenant);
    let token = new_token(&SystemRandom);
    let (head, wait) = (json!({"method": "POST"}), Duration::from_secs(30));
    assert_eq!(store.hand_over(tenant, &token, &head, b"body", wait).await.unwrap(), None);
    let id = store.create_listener(tenant, &token).await.unwrap().unwrap();
    let other: TenantId = "other".parse().unwrap();
    assert_eq!(store.hand_over(&other, &token, &head, b"body", wait).await.unwrap(), None);
    let handover = store.hand_over(tenant, &token, &head, b"body", wait).await.unwrap().unwrap();
    let progress = async || {
        let mut states = store.handover_states(std::slice::from_ref(&handover)).await.unwrap();
        states.pop().map(|(_, state)| state)
    };
    assert!(matches!(progress().await, Some(HandoverState::Waiting)));

    let [first, second] = [store.ids().next_uuid(), store.ids().next_uuid()];
    assert!(store.attend_listener(tenant, id, first).await.unwrap());
    let requests = store.take_handovers(tenant, id).await.unwrap();
    assert_eq!((requests.len(), requests[0].id, &requests[0].body[..]), (1, handover.id, &b"body"[..]));
    assert_eq!(requests[0].head, head);
    assert!(requests[0].left > Duration::from_secs(20), "{:?}", requests[0].left);
    assert!(store.take_handovers(tenant, id).await.unwrap().is_empty(), "it was taken");
    assert!(matches!(progress().await, Some(HandoverState::Taken)));

    // The stream breaks, and the next one gets what was not answered.
    assert!(store.attend_listener(tenant, id, second).await.unwrap());
    assert_eq!(store.take_handovers(tenant, id).await.unwrap().len(), 1);
    assert!(!store.extend_listener(tenant, id, first).await.unwrap(), "another stream attends");
    assert!(store.extend_listener(tenant, id, second).await.unwrap());
    let answer = json!({"status": 200});
    assert!(store.answer_handover(&handover, &answer).await.unwrap());
    assert!(!store.answer_handover(&handover, &answer).await.unwrap(), "it was answered");
    assert!(matches!(progress().await, Some(HandoverState::Answered(given)) if given == answer));
    store.end_handover(&handover).await.unwrap();
    assert!(progress().await.is_none());

    // Upkeep removes what a worker has left.
    store.hand_over(tenant, &token, &head, b"", wait).await.unwrap().unwrap();
    assert!(!store.end_old_listeners().await.unwrap());
    stage.database.advance(Duration::from_secs(45)).await;
    store.end_old_listeners().await.unwrap();
    assert_eq!(stage.count("SELECT count(*) AS n FROM handovers").await, 0);
}

async fn a_listener_ends_with_its_lease(stage: &Stage) {
    let (store, tenant) = (&stage.store, &stage.tenant);
    for is_noted in [true, false] {
        let token = new_token(&SystemRandom);
        let id = store.create_listener(tenant, &token).await.unwrap().unwrap();
        let url = listener_url(&token).parse().unwrap();
        let new = NewSubscriber { url, ..postrider_stage::subscriber_of(&["*"]) };
        let subscriber = store.create_subscriber(tenant, new).await.unwrap().id;
        if is_noted {
            store.set_listener_subscriber(tenant, id, subscriber).await.unwrap();
        }
        stage.database.advance(Duration::from_secs(50)).await;
        assert!(store.attend_listener(tenant, id, store.ids().next_uuid()).await.unwrap());
        stage.database.advance(Duration::from_secs(50)).await;
        assert!(!store.end_old_listeners().await.unwrap(), "its lease was extended");
        stage.database.advance(Duration::from_secs(20)).await;
        assert_eq!(store.listener(tenant, id).await.unwrap(), None);
        assert!(!store.attend_listener(tenant, id, store.ids().next_uuid()).await.unwrap());
        assert!(store.end_old_listeners().await.unwrap());
        assert!(store.subscriber(tenant, subscriber).await.unwrap().is_none(), "noted: {is_noted}");
        assert_eq!(stage.count("SELECT count(*) AS n FROM listeners").await, 0);
    }
}
