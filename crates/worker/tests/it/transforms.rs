//! Transforms are applied at the attempt.

use postrider_core::{DeliveryStatus, ErrorKind, Transform};
use postrider_store::subscribers::{NewSubscriber, SubscriberChange};
use postrider_testkit::Behaviour;
use postrider_worker::Config;

use crate::stage::{Stage, config, on_both, retry, tenant};

on_both!(a_corrected_transform_reaches_waiting_deliveries, retries_under_one_version_send_the_same_bytes,);

#[allow(clippy::unnecessary_wraps, reason = "as the fields that it fills")]
fn transform(json: &str) -> Option<Transform> {
    Some(serde_json::from_str(json).unwrap())
}

async fn a_corrected_transform_reaches_waiting_deliveries(stage: &Stage) {
    // The events of the stage have a number, which has no members.
    let broken = transform(r#"{"steps": [{"op": "set", "path": "/number/x", "value": 1}]}"#);
    let new = NewSubscriber { transform: broken, ..stage.new_subscriber("/hook") };
    let subscriber = stage.store.create_subscriber(&tenant(), new).await.unwrap().id;
    let worker = stage.worker(Config { retry: retry(&[200], 30), ..config() }).await;
    let event = stage.dispatch().await.id;
    let delivery = stage.attempted(event, 6).await;
    assert_eq!(delivery.status, DeliveryStatus::Pending);
    assert_eq!(stage.receiver.requests().len(), 0, "nothing was sent");
    let attempts = stage.attempts(&delivery).await;
    assert!(attempts.iter().all(|attempt| attempt.verdict.error_kind() == Some(ErrorKind::Transform)));
    let detail = attempts[0].verdict.detail().unwrap();
    assert!(detail.starts_with("step 1 (set /number/x) does not fit the data"), "{detail}");
    let health = stage.store.subscriber(&tenant(), subscriber).await.unwrap().unwrap().health;
    assert_eq!(
        health.failures, 0,
        "six failures would have opened the breaker of a receiver that is to blame"
    );

    let good = transform(r#"{"steps": [{"op": "set", "path": "/seen", "value": true}]}"#);
    let version = good.as_ref().map(Transform::version);
    let change = SubscriberChange { transform: Some(good), ..SubscriberChange::default() };
    stage.store.change_subscriber(&tenant(), subscriber, change).await.unwrap().unwrap();
    let delivery = stage.ended(event).await;
    stage.settled().await;
    worker.stop().await;
    assert_eq!(delivery.status, DeliveryStatus::Succeeded);
    let requests = stage.receiver.requests();
    let body: serde_json::Value = serde_json::from_slice(&requests[0].body).unwrap();
    assert_eq!(body["data"]["seen"], true, "{body}");
    let last = stage.attempts(&delivery).await.pop().unwrap();
    assert_eq!(last.exchange.unwrap().request.transform, version);
}

async fn retries_under_one_version_send_the_same_bytes(stage: &Stage) {
    let project = r#"{"project": "{'data': {'z': data, 'a': {'c': 1, 'b': event.id}}, 'headers': {'x-number': string(data.number)}}"}"#;
    let new = NewSubscriber { transform: transform(project), ..stage.new_subscriber("/hook") };
    stage.store.create_subscriber(&tenant(), new).await.unwrap();
    stage.receiver.on(
        "/hook",
        Behaviour::Sequence(vec![Behaviour::Status(500), Behaviour::Status(500), Behaviour::Status(204)]),
    );
    let worker = stage.worker(Config { retry: retry(&[50], 5), ..config() }).await;
    let event = stage.dispatch().await.id;
    let delivery = stage.ended(event).await;
    stage.settled().await;
    worker.stop().await;
    let requests = stage.receiver.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request.body == requests[0].body));
    let body: serde_json::Value = serde_json::from_slice(&requests[0].body).unwrap();
    assert_eq!(body["data"]["a"]["b"], event.to_string());
    assert_eq!(requests[0].header("x-number"), Some(body["data"]["z"]["number"].to_string().as_str()));
    let versions: Vec<_> = stage.attempts(&delivery).await;
    let versions: Vec<_> = versions.into_iter().map(|attempt| attempt.exchange.unwrap().request).collect();
    assert!(
        versions
            .iter()
            .all(|request| request.transform.is_some() && request.body_sha256 == versions[0].body_sha256)
    );
}
