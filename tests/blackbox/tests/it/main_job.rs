//! The main job: an event goes in, and signed deliveries arrive.

use postrider_testkit::{Api, Behaviour, Receiver, TestDatabase};
use ring::digest::{SHA256, digest};
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use serde_json::{Value, json};

use crate::client::{attempts, delivery_of, ended, idle, list, subscribe_with, text};
use crate::deployment::{DEADLINE, Deployment, Member, program};
use crate::signature::{header, verify};

/// No migrations, so that its databases are empty.
pub(crate) struct Nothing;

impl MigratorTrait for Nothing {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        Vec::new()
    }
}

/// JSON that many databases change: key order, duplicate keys, numbers beyond 64 bits, `\u0000`,
/// spaces, escapes.
const ODD_DATA: &str = "{ \"z\":12345678901234567890123456789, \"a\":1e400,\"a\":-0.10,\"text\":\"\\u0000\\ud83d\\ude00 \u{e9}\\/\",\n\t\"list\": [ ] }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_main_job() {
    // The server migrates the empty database before any worker starts.
    let database = TestDatabase::postgres_with::<Nothing>().await;
    let server = program("postrider-server", database.url(), &[]).arg("--migrate");
    let server = Member::start(&server).await;
    let api = server.api().await;
    let mut deployment = Deployment { api: api.clone(), server, workers: Vec::new(), database };
    for _ in 0..2 {
        deployment.add_worker(&[]).await;
    }
    let receiver = Receiver::start().await;
    receiver.on(
        "/hook",
        Behaviour::Respond {
            status: 202,
            headers: vec![("x-receiver".to_owned(), "it is me".to_owned())],
            body: b"thank you".to_vec(),
        },
    );

    let made = subscribe_with(&api, json!({"url": receiver.url("/hook?key=1"), "events": ["ai.*"]})).await;
    let chosen =
        json!({"url": receiver.url("/chosen"), "events": ["ai.response"], "secret": "client-secret"});
    subscribe_with(&api, chosen).await;
    subscribe_with(&api, json!({"url": receiver.url("/other"), "events": ["ai"]})).await;
    let request = format!(r#"{{"agent_id":"my-agent","data": {ODD_DATA} ,"event":"ai.response"}}"#);
    let answer = api.post_raw("/v1/events", request).await;
    let event = answer.json();
    assert_eq!(answer.status, 202, "{event}");
    assert_eq!((&event["subscribers_found"], &event["jobs_created"]), (&json!(2), &json!(2)));

    receiver.wait_for(2, DEADLINE).await;
    idle(&api).await;
    let deliveries = list(&api, &format!("/v1/deliveries?event_id={}", text(&event["id"]))).await;
    assert_eq!(deliveries.len(), 2);
    for delivery in &deliveries {
        assert_eq!(
            (&delivery["status"], &delivery["attempts"]),
            (&json!("succeeded"), &json!(1)),
            "{delivery}"
        );
    }
    let to_made = deliveries.iter().find(|delivery| delivery["subscriber_id"] == made["id"]).unwrap();
    let made_attempts = attempts(&api, to_made).await;
    assert_attempt(&made_attempts);
    assert_versions(&api, &made, &made_attempts[0]["request"]).await;

    // No more requests can arrive once all programs have ended.
    deployment.stop().await;
    let [hook, chosen] = &[receiver.requests_to("/hook"), receiver.requests_to("/chosen")];
    assert_eq!((hook.len(), chosen.len(), receiver.requests().len()), (1, 1, 2));
    let body = format!(
        r#"{{"event":"ai.response","timestamp":{},"agent_id":"my-agent","data":{ODD_DATA}}}"#,
        event["timestamp"]
    );
    for (request, secret) in [(&hook[0], text(&made["secret"])), (&chosen[0], "client-secret")] {
        assert_eq!(request.method, "POST");
        assert_eq!(String::from_utf8_lossy(&request.body), body);
        assert_headers(request, &event);
        verify(request, &[secret]);
    }
    assert_eq!(hook[0].target, "/hook?key=1");
    assert_sent(&made_attempts[0], &hook[0], &receiver);
}

/// An attempt names the secret and the policy that it used, also once others have taken their place.
async fn assert_versions(api: &Api, subscriber: &Value, sent: &Value) {
    let id = text(&subscriber["id"]);
    let created = list(api, &format!("/v1/audit?target={id}&action=subscriber.created")).await;
    assert_eq!(sent["secret_version"], created[0]["after"]["secret_fingerprint"], "{created:?}");
    assert_eq!(sent["policy_version"], subscriber["policy_version"]);
    let (status, changed) =
        api.patch(&format!("/v1/subscribers/{id}"), &json!({"policy": {"max_attempts": 3}})).await;
    assert_eq!(status, 200, "{changed}");
    assert_ne!(sent["policy_version"], changed["policy_version"]);
}

/// The API shows what was sent, without secrets.
fn assert_sent(attempt: &Value, request: &postrider_testkit::receiver::ReceivedRequest, receiver: &Receiver) {
    let sent = &attempt["request"];
    assert_eq!((&sent["method"], &sent["url"]), (&json!("POST"), &json!(receiver.url("/hook?key=***"))));
    assert_eq!(sent["body_sha256"], hex::encode(digest(&SHA256, &request.body)));
    let address = receiver.url("/").trim_start_matches("http://").trim_end_matches('/').to_owned();
    assert_eq!((&attempt["remote_addr"], &attempt["resent"]), (&json!(address), &json!(false)));
    let timings = &attempt["timings_ms"];
    assert!(timings["first_byte"].as_f64().unwrap() > 0.0 && timings["body"].is_number(), "{timings}");
    assert_eq!(timings["tls"], Value::Null);
    for shown in sent["headers"].as_array().unwrap() {
        let name = text(&shown["name"]);
        let masked = name.ends_with("signature");
        let value = if masked { "***" } else { header(request, name) };
        assert_eq!(shown["value"], value, "{name}");
    }
    assert_eq!(sent["headers"].as_array().unwrap().len(), 9);
}

fn assert_headers(request: &postrider_testkit::receiver::ReceivedRequest, event: &Value) {
    assert_eq!(header(request, "Content-Type"), "application/json");
    assert_eq!(header(request, "User-Agent"), "AI-Agent-Webhook/1.0");
    assert_eq!(header(request, "X-Agent-ID"), "my-agent");
    assert_eq!(header(request, "X-Event-Type"), "ai.response");
    assert_eq!(header(request, "webhook-id"), text(&event["id"]));
    assert_eq!(header(request, "content-length"), request.body.len().to_string());
    assert_eq!(request.header("accept-encoding"), None);
    let dispatched = event["timestamp"].as_i64().unwrap();
    let sent: i64 = header(request, "webhook-timestamp").parse().unwrap();
    assert!((dispatched..=dispatched + 60).contains(&sent), "{sent} for {dispatched}");
    let traceparent: Vec<_> = header(request, "traceparent").split('-').map(str::len).collect();
    assert_eq!(traceparent, [2, 32, 16, 2]);
}

fn assert_attempt(attempts: &[Value]) {
    let [attempt] = attempts else { panic!("one attempt: {attempts:?}") };
    assert_eq!((&attempt["number"], &attempt["error"]), (&json!(1), &Value::Null), "{attempt}");
    let response = &attempt["response"];
    assert_eq!((&response["status"], &response["truncated"]), (&json!(202), &json!(false)), "{attempt}");
    assert_eq!((&response["body"], &response["body_encoding"]), (&json!("thank you"), &json!("utf-8")));
    let headers = response["headers"].as_array().unwrap();
    assert!(headers.contains(&json!({"name": "x-receiver", "value": "it is me"})), "{headers:?}");
    assert!(attempt["duration_ms"].as_f64().unwrap() > 0.0 && text(&attempt["started_at"]).ends_with('Z'));
}

/// The API shows the event's data byte for byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_read_back_as_it_was_given() {
    let deployment = Deployment::start(1).await;
    let receiver = Receiver::start().await;
    let api = &deployment.api;
    subscribe_with(api, json!({"url": receiver.url("/"), "events": ["*"]})).await;
    let answer = api.post_raw("/v1/events", format!(r#"{{"event":"a","data":{ODD_DATA}}}"#)).await;
    let event = answer.json();
    assert_eq!((answer.status, ended(api, &event).await["status"].take()), (202, json!("succeeded")));

    let path = format!("/v1/events/{}", text(&event["id"]));
    let shown = api.send(http::Method::GET, &path, &[], "").await;
    assert_eq!(shown.status, 200);
    assert!(shown.text().contains(&format!(r#""data":{ODD_DATA}"#)), "{}", shown.text());
    // The test's own JSON parser rejects the huge number.
    let delivery = delivery_of(api, &event).await;
    assert!(shown.text().contains(&format!(r#""id":{}"#, delivery["id"])), "{}", shown.text());
    assert_eq!(event["agent_id"], "default");
    deployment.stop().await;
}
