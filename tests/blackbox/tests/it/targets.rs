//! Which targets deliveries may go to.

use postrider_testkit::{Behaviour, Receiver};
use serde_json::{Value, json};

use crate::client::{attempts, dispatch, ended, fields, idle, list, read, subscribe, subscribe_with, text};
use crate::deployment::{DEADLINE, Deployment};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_answers_gone_receives_nothing_more() {
    // One at a time, so that other deliveries are pending when it answers 410.
    let settings = [("POSTRIDER_SUBSCRIBER_CONCURRENCY", "1")];
    let deployment = Deployment::with(1, &settings).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    let gate = postrider_testkit::receiver::Gate::closed();
    receiver.on("/gone", Behaviour::Status(410).behind(&gate));
    let gone = subscribe(api, &receiver.url("/gone")).await;
    subscribe(api, &receiver.url("/here")).await;

    let first = dispatch(api, "a").await;
    receiver.wait_for_path("/gone", 1, DEADLINE).await;
    dispatch(api, "a").await;
    gate.open();
    idle(api).await;

    let path = format!("/v1/subscribers/{}", text(&gone["id"]));
    let subscriber = read(api, &path).await;
    assert_eq!((&subscriber["active"], &subscriber["deactivation_reason"]), (&json!(false), &json!("gone")));
    assert!(subscriber["deactivated_at"].is_string(), "{subscriber}");
    let of_gone = format!("/v1/deliveries?subscriber_id={}", text(&gone["id"]));
    let deliveries = list(api, &of_gone).await;
    let ends: Vec<_> =
        deliveries.iter().map(|delivery| [&delivery["status"], &delivery["dead_reason"]]).collect();
    assert_eq!(ends, [[&json!("cancelled"), &Value::Null], [&json!("dead"), &json!("gone")]], "newest first");
    assert_eq!(deliveries[1]["event_id"], first["id"]);
    assert_eq!(attempts(api, &deliveries[1]).await[0]["response"]["status"], 410);

    assert_eq!(dispatch(api, "a").await["subscribers_found"], 1, "only the other");
    idle(api).await;
    assert_eq!((receiver.requests_to("/gone").len(), receiver.requests_to("/here").len()), (1, 3));

    // Once activated again, it receives new events.
    receiver.on("/gone", Behaviour::Status(200));
    assert_eq!(api.post(&format!("{path}/activate"), &json!({})).await.0, 200);
    assert_eq!(dispatch(api, "a").await["subscribers_found"], 2);
    idle(api).await;
    deployment.stop().await;
    assert_eq!(receiver.requests_to("/gone").len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forbidden_target_is_rejected_at_creation() {
    let deployment = Deployment::with(0, &[("POSTRIDER_ALLOW_NETS", "")]).await;
    let api = &deployment.api;
    let allowed = json!({"url": "https://192.0.66.2/", "events": ["*"]});
    let (_, subscriber) = api.post("/v1/subscribers", &allowed).await;
    let path = format!("/v1/subscribers/{}", text(&subscriber["id"]));
    for url in [
        "http://127.0.0.1/",
        "http://127.0.0.1:8080/hook",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://0.0.0.0/",
        "http://10.1.2.3/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[fd00:ec2::254]/",
        // Names that resolve to this machine.
        "http://localhost/",
        "http://localhost:8080/",
    ] {
        let (status, problem) = api.post("/v1/subscribers", &json!({"url": url, "events": ["*"]})).await;
        assert_eq!((status, fields(&problem)), (422, vec!["url"]), "{url}: {problem}");
        let (status, problem) = api.patch(&path, &json!({"url": url})).await;
        assert_eq!((status, fields(&problem)), (422, vec!["url"]), "{url}: {problem}");
    }
    assert_eq!(list(api, "/v1/subscribers").await.len(), 1);
    assert_eq!(read(api, &path).await["url"], allowed["url"]);
    deployment.stop().await;
}

/// A worker does not connect to a forbidden target even if the server's settings accepted it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_does_not_connect_to_a_forbidden_target() {
    let mut deployment = Deployment::start(0).await;
    let settings = [
        ("POSTRIDER_ALLOW_NETS", "10.0.0.0/8"),
        ("POSTRIDER_MAX_ATTEMPTS", "2"),
        ("POSTRIDER_RETRY_SCHEDULE", "50ms"),
    ];
    deployment.add_worker(&settings).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    let port = receiver.address().port();
    for (event, url) in [("address", receiver.url("/")), ("name", format!("http://localhost:{port}/"))] {
        subscribe_with(api, json!({"url": url, "events": [event]})).await;
        let delivery = ended(api, &dispatch(api, event).await).await;
        assert_eq!(
            (&delivery["status"], &delivery["error_kind"]),
            (&json!("dead"), &json!("blocked")),
            "{delivery}"
        );
        for attempt in attempts(api, &delivery).await {
            assert_eq!(attempt["response"], Value::Null);
            let message = text(&attempt["error"]["message"]);
            assert!(
                !message.contains("127.0.0.1") && !message.contains("::1"),
                "an internal address: {message}"
            );
        }
    }
    deployment.stop().await;
    assert_eq!(receiver.requests().len(), 0);
}
