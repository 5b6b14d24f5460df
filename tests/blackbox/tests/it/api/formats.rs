use postrider_testkit::{Behaviour, Receiver, receiver::ReceivedRequest};
use serde_json::{Value, json};

use crate::client::{delivery_of, dispatch_with, idle, list, subscribe_with, text};
use crate::deployment::{DEADLINE, Deployment};
use crate::signature::{header, verify};

const DATA: &str = r#"{"order": {"id": "o<1>"}, "total": 9.50, "paid": true}"#;

fn body(request: &ReceivedRequest) -> &str {
    std::str::from_utf8(&request.body).unwrap()
}

/// One event for a subscriber of each format: each gets its own body, signed as it is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_subscriber_gets_the_format_that_it_asked_for() {
    let deployment = Deployment::start(1).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    let formats = ["postrider", "standard", "data", "cloudevents", "cloudevents-binary", "slack", "form"];
    let mut secrets = Vec::new();
    for format in formats {
        let mut wanted =
            json!({"url": receiver.url(&format!("/{format}")), "events": ["*"], "format": format});
        if format == "slack" {
            wanted["format_options"] = json!({"template": "Order {{data.order.id}} of {{agent_id}}"});
        }
        let created = subscribe_with(api, wanted.clone()).await;
        assert_eq!(created["format"], format);
        let options = if format == "slack" { wanted["format_options"].clone() } else { json!({}) };
        assert_eq!(created["format_options"], options);
        secrets.push(text(&created["secret"]).to_owned());
    }
    let raw = format!(r#"{{"event": "order.paid", "agent_id": "the shop", "data": {DATA}}}"#);
    let answer = api.post_raw("/v1/events", raw).await;
    let event = answer.json();
    assert_eq!(answer.status, 202, "{event}");
    idle(api).await;
    let id = text(&event["id"]);

    for (format, secret) in formats.iter().zip(&secrets) {
        let requests = receiver.requests_to(&format!("/{format}"));
        let [request] = &requests[..] else { panic!("{format}: {requests:?}") };
        verify(request, &[secret]);
        assert_eq!((header(request, "x-event-type"), header(request, "webhook-id")), ("order.paid", id));
        let content_type = match *format {
            "cloudevents" => "application/cloudevents+json",
            "form" => "application/x-www-form-urlencoded",
            _ => "application/json",
        };
        assert_eq!(header(request, "content-type"), content_type, "{format}");
        match *format {
            "postrider" => {
                let end = format!(r#""agent_id":"the shop","data":{DATA}}}"#);
                assert!(body(request).ends_with(&end), "{}", body(request));
            }
            "standard" => {
                assert!(
                    body(request).starts_with(r#"{"type":"order.paid","timestamp":""#),
                    "{}",
                    body(request)
                );
                assert!(body(request).ends_with(&format!(r#"Z","data":{DATA}}}"#)), "{}", body(request));
            }
            "data" => assert_eq!(body(request), DATA),
            "cloudevents" => {
                let value: Value = serde_json::from_slice(&request.body).unwrap();
                assert_eq!((&value["id"], &value["source"]), (&json!(id), &json!("/agents/the%20shop")));
                assert!(body(request).ends_with(&format!(r#""data":{DATA}}}"#)), "{}", body(request));
            }
            "cloudevents-binary" => {
                assert_eq!(body(request), DATA);
                assert_eq!((header(request, "ce-id"), header(request, "ce-specversion")), (id, "1.0"));
                assert_eq!(
                    (header(request, "ce-type"), header(request, "ce-source")),
                    ("order.paid", "/agents/the%2520shop")
                );
            }
            "slack" => assert_eq!(body(request), r#"{"text":"Order o&lt;1&gt; of the shop"}"#),
            _ => assert_eq!(body(request), "order=%7B%22id%22%3A+%22o%3C1%3E%22%7D&total=9.50&paid=true"),
        }
    }
    // The attempts show what was sent.
    let binary = format!("/v1/deliveries?event_id={id}");
    let mut shown = 0;
    for delivery in list(api, &binary).await {
        let attempts = list(api, &format!("/v1/deliveries/{}/attempts", text(&delivery["id"]))).await;
        let sent = &attempts[0]["request"];
        if sent["url"].as_str().unwrap().ends_with("/cloudevents-binary") {
            let wanted = json!({"name": "ce-type", "value": "order.paid"});
            assert!(sent["headers"].as_array().unwrap().contains(&wanted), "{sent}");
            shown += 1;
        }
    }
    assert_eq!(shown, 1);
    deployment.stop().await;
}

/// It counts from the next attempt on, also for what is waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_format_counts_from_the_next_attempt_on() {
    let deployment = Deployment::start(1).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    receiver.on("/", Behaviour::sequence([503, 200]));
    let slack = json!({"template": "{{event}}"});
    let wanted = json!({
        "url": receiver.url("/"), "events": ["*"], "format": "slack", "format_options": slack, "policy": {"schedule": ["3s"]},
    });
    let created = subscribe_with(api, wanted).await;
    let path = format!("/v1/subscribers/{}", text(&created["id"]));
    let event = dispatch_with(api, json!({"event": "order.paid", "data": {"a": 1}})).await;
    receiver.wait_for_path("/", 1, DEADLINE).await;
    let (status, changed) = api.patch(&path, &json!({"format": "data"})).await;
    assert_eq!(
        (status, &changed["format"], &changed["format_options"]),
        (200, &json!("data"), &json!({})),
        "{changed}"
    );
    let requests = receiver.wait_for_path("/", 2, DEADLINE).await;
    assert_eq!((body(&requests[0]), body(&requests[1])), (r#"{"text":"order.paid"}"#, r#"{"a":1}"#));
    idle(api).await;
    assert_eq!(delivery_of(api, &event).await["status"], "succeeded");
    let (_, reset) = api.patch(&path, &json!({"format": null})).await;
    assert_eq!(reset["format"], "postrider");
    deployment.stop().await;
}
