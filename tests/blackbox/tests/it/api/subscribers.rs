use postrider_testkit::{Api, Behaviour, Receiver, eventually};
use serde_json::{Value, json};

use crate::client::{delivery_of, dispatch, ended, idle, list, read, subscribe_with, text};
use crate::deployment::{DEADLINE, Deployment};
use crate::signature::{header, verify};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscribers_changes_apply_to_deliveries() {
    let deployment = Deployment::start(1).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    let created = subscribe_with(
        api,
        json!({
            "url": receiver.url("/one"), "events": ["order.*", "invoice.paid"], "description": "of the shop",
            "headers": {"x-shop": "number 7"}, "policy": {"max_attempts": 3, "schedule": ["1s", 5]},
        }),
    )
    .await;
    assert!(text(&created["id"]).starts_with("sub_") && text(&created["secret"]).starts_with("whsec_"));
    assert_eq!((&created["active"], &created["headers"]), (&json!(true), &json!(["x-shop"])));
    let path = format!("/v1/subscribers/{}", text(&created["id"]));
    let mut shown = created.clone();
    let secret = shown.as_object_mut().unwrap().remove("secret").unwrap();
    assert_eq!(read(api, &path).await, shown, "the same without the secret");
    assert_eq!(list(api, "/v1/subscribers").await, [shown]);
    assert_eq!(read(api, &format!("{path}/secret")).await, json!({"secret": secret}));

    assert_eq!(dispatch(api, "order.created").await["subscribers_found"], 1);
    let request = receiver.wait_for_path("/one", 1, DEADLINE).await.remove(0);
    assert_eq!(header(&request, "x-shop"), "number 7");

    // A change counts from the next attempt on; what is not given stays.
    let change = json!({"url": receiver.url("/two"), "events": ["order.paid"], "headers": null});
    let (status, changed) = api.patch(&path, &change).await;
    assert_eq!(status, 200, "{changed}");
    assert_eq!((&changed["headers"], &changed["description"]), (&json!([]), &json!("of the shop")));
    assert_eq!(changed["policy"], created["policy"]);
    assert_eq!(dispatch(api, "order.created").await["subscribers_found"], 0);
    assert_eq!(dispatch(api, "order.paid").await["subscribers_found"], 1);
    let request = receiver.wait_for_path("/two", 1, DEADLINE).await.remove(0);
    assert_eq!(request.header("x-shop"), None);

    for (action, active, found) in [("deactivate", false, 0), ("activate", true, 1)] {
        let (status, answer) = api.post(&format!("{path}/{action}"), &json!({})).await;
        assert_eq!((status, &answer["active"]), (200, &json!(active)), "{answer}");
        let reason = if active { Value::Null } else { json!("requested") };
        assert_eq!(answer["deactivation_reason"], reason);
        assert_eq!(read(api, &path).await["active"], active);
        assert_eq!(dispatch(api, "order.paid").await["subscribers_found"], found);
    }
    idle(api).await;
    assert_eq!(receiver.requests_to("/two").len(), 2);

    assert_eq!(api.delete(&path).await, (204, Value::Null));
    assert_eq!((api.get(&path).await.0, api.delete(&path).await.0), (404, 404));
    assert_eq!(list(api, "/v1/subscribers").await, Vec::<Value>::new());
    assert_eq!(dispatch(api, "order.paid").await["subscribers_found"], 0);
    assert_eq!(list(api, "/v1/deliveries").await.len(), 3, "its history stays");
    deployment.stop().await;
}

/// What a paused subscriber has received, and what a tenant has that is not active, waits and is delivered in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_delays_deliveries_and_loses_none() {
    let deployment = Deployment::start(2).await;
    let acme = deployment.api.clone().with_header("x-tenant-id", "acme");
    let receiver = Receiver::start().await;
    let paused = subscribe_with(&acme, json!({"url": receiver.url("/paused"), "events": ["*"]})).await;
    let beside = receiver.url("/beside");
    subscribe_with(&acme, json!({"url": beside, "events": ["*"]})).await;
    let path = format!("/v1/subscribers/{}", text(&paused["id"]));
    ended_all(&acme, &dispatch(&acme, "a").await).await;

    let (status, answer) = acme.post(&format!("{path}/pause"), &json!(null)).await;
    assert_eq!((status, &answer["active"]), (200, &json!(true)), "{answer}");
    assert!(answer["paused_at"].is_string());
    let waiting = dispatch(&acme, "b").await;
    receiver.wait_for_path("/beside", 2, DEADLINE).await;
    // The other one came after it, so a worker has passed it over.
    assert_eq!(receiver.requests_to("/paused").len(), 1);
    let (_, answer) = acme.post(&format!("{path}/resume"), &json!(null)).await;
    assert_eq!(answer["paused_at"], Value::Null, "{answer}");
    ended_all(&acme, &waiting).await;
    assert_eq!(receiver.requests_to("/paused").len(), 2);

    // Retries wait as well: the tenant is deactivated while one is due.
    receiver.on("/paused", Behaviour::Status(503));
    let (_, changed) = acme.patch(&path, &json!({"policy": {"schedule": ["1s"]}})).await;
    assert_eq!(changed["policy"]["schedule"], json!(["1s"]), "{changed}");
    let retried = dispatch(&acme, "c").await;
    receiver.wait_for_path("/paused", 3, DEADLINE).await;
    let (status, tenant) = deployment.api.patch("/v1/tenants/acme", &json!({"active": false})).await;
    assert_eq!((status, &tenant["active"]), (200, &json!(false)), "{tenant}");
    receiver.on("/paused", Behaviour::Status(200));
    let before = receiver.requests_to("/paused").len();
    // Another tenant's delivery with the same delay comes later than the retry would.
    subscribe_with(
        &deployment.api,
        json!({"url": receiver.url("/other"), "events": ["*"], "policy": {"schedule": ["2s"]}}),
    )
    .await;
    receiver.on("/other", Behaviour::Status(503));
    dispatch(&deployment.api, "d").await;
    receiver.wait_for_path("/other", 2, DEADLINE).await;
    assert_eq!(receiver.requests_to("/paused").len(), before);
    deployment.api.patch("/v1/tenants/acme", &json!({"active": true})).await;
    ended_all(&acme, &retried).await;
    deployment.stop().await;
}

/// Waits until all deliveries of an event have succeeded.
async fn ended_all(api: &Api, event: &Value) {
    let path = format!("/v1/deliveries?event_id={}", text(&event["id"]));
    let succeeded = || async {
        let deliveries = list(api, &path).await;
        deliveries.iter().all(|delivery| delivery["status"] == "succeeded").then_some(())
    };
    eventually(DEADLINE, succeeded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_secrets_sign_while_one_is_rotated() {
    let deployment = Deployment::start(1).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    let created =
        subscribe_with(api, json!({"url": receiver.url("/"), "events": ["*"], "secret": "the first secret"}))
            .await;
    let path = format!("/v1/subscribers/{}/secret", text(&created["id"]));
    let rotate = format!("{path}/rotate");

    ended(api, &dispatch(api, "a").await).await;
    let (status, second) = api.post(&rotate, &json!({})).await;
    assert_eq!(status, 200, "{second}");
    assert!(text(&second["secret"]).starts_with("whsec_"));
    let shown = read(api, &path).await;
    assert_eq!(
        (&shown["secret"], &shown["previous"][0]["secret"]),
        (&second["secret"], &json!("the first secret"))
    );
    ended(api, &dispatch(api, "a").await).await;
    // No overlap: from now on the new one alone signs.
    let (status, third) =
        api.post(&rotate, &json!({"secret": "the third secret", "overlap_seconds": 0})).await;
    assert_eq!((status, &third["secret"]), (200, &json!("the third secret")));
    ended(api, &dispatch(api, "a").await).await;

    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    verify(&requests[0], &["the first secret"]);
    verify(&requests[1], &[text(&second["secret"]), "the first secret"]);
    verify(&requests[2], &["the third secret"]);

    for body in [json!({"overlap_seconds": 604_801}), json!({"secret": "short"}), json!({"secrets": "x"})] {
        assert_eq!(api.post(&rotate, &body).await.0, 422, "{body}");
    }
    assert_eq!(read(api, &path).await, json!({"secret": "the third secret"}));
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pending_is_cancelled_with_its_subscriber() {
    let deployment = Deployment::start(1).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    receiver.on("/hook", Behaviour::Status(500));
    for action in ["deactivate", "delete"] {
        let subscriber = subscribe_with(
            api,
            json!({"url": receiver.url("/hook"), "events": ["*"], "policy": {"schedule": ["1h"]}}),
        )
        .await;
        let before = receiver.requests().len();
        let event = dispatch(api, "a").await;
        receiver.wait_for(before + 1, DEADLINE).await;
        eventually(DEADLINE, || async {
            (delivery_of(api, &event).await["next_attempt_at"] != Value::Null).then_some(())
        })
        .await;
        let path = format!("/v1/subscribers/{}", text(&subscriber["id"]));
        let status = match action {
            "delete" => api.delete(&path).await.0,
            _ => api.post(&format!("{path}/{action}"), &json!({})).await.0,
        };
        assert!((200..300).contains(&status), "{action}: {status}");
        // Long before the hour has passed.
        let delivery = ended(api, &event).await;
        assert_eq!(
            (&delivery["status"], &delivery["attempts"]),
            (&json!("cancelled"), &json!(1)),
            "{action}"
        );
    }
    idle(api).await;
    deployment.stop().await;
    assert_eq!(receiver.requests().len(), 2);
}
