//! `postrider listen`: deliveries reach a program on this machine.

use std::time::Duration;

use postrider_testkit::{Api, Behaviour, Process, Program, Receiver};
use serde_json::{Value, json};

use crate::client::{attempts, dispatch, ended, list, text};
use crate::deployment::DEADLINE;
use crate::signature::verify;

/// A server over a folder, at an address that it keeps.
async fn server(data: &std::path::Path, listen: &str) -> (Process, String, Api) {
    let key = "k".repeat(40);
    let program =
        Program::named("postrider").args(["dev", "--data"]).arg(data).env("POSTRIDER_LISTEN", listen);
    let program = program
        .env("POSTRIDER_TELEMETRY_LISTEN", "127.0.0.1:0")
        .env("POSTRIDER_ADMIN_KEY", &key)
        .env("POSTRIDER_RETRY_SCHEDULE", "200ms")
        .env("POSTRIDER_MAX_ATTEMPTS", "20")
        .env("POSTRIDER_SHUTDOWN_DELAY", "0s");
    let process = program.start();
    let is_api = |line: &str| line.contains("listening") && line.contains("api");
    let address = process.wait_for_address(is_api, DEADLINE).await.to_string();
    let api = Api::new(format!("http://{address}"), &key).described().await;
    (process, address, api)
}

async fn stopped(mut process: Process, signal: &str) {
    process.signal(signal).await;
    let status = process.wait(DEADLINE).await;
    assert!(status.success(), "{status}: {:?}", process.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_outlives_failures_and_a_restart_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let (process, address, api) = server(folder.path(), "127.0.0.1:0").await;
    let receiver = Receiver::start().await;
    receiver.on("/hooks", Behaviour::sequence([503, 200]));
    let (url, port) = (format!("http://{address}"), receiver.address().port().to_string());
    let listen = |args: &[&str]| {
        let program = Program::named("postrider").args(["listen"]).args(args).env("HOME", folder.path());
        program.env("POSTRIDER_URL", &url).env("POSTRIDER_KEY", "k".repeat(40))
    };
    let arguments = [&port, "--types", "order.*", "--path", "/hooks", "--print-secret", "-o", "jsonl"];
    let listening = listen(&arguments).start();
    let secret = listening.wait_for_line(|line| line.starts_with("secret "), DEADLINE).await;
    listening.wait_for_line(|line| line == "connected", DEADLINE).await;
    // Another one at the same time, to a program that is not running.
    let closed = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let second = listen(&[&closed.to_string(), "--types", "refused", "-o", "jsonl"]).start();
    second.wait_for_line(|line| line == "connected", DEADLINE).await;

    let event = dispatch(&api, "order.created").await;
    let delivery = ended(&api, &event).await;
    assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("succeeded"), &json!(2)), "{delivery}");
    let made = attempts(&api, &delivery).await;
    assert_eq!(made[0]["response"]["status"], 503, "the program's answer is recorded: {made:?}");
    for request in receiver.requests_to("/hooks") {
        verify(&request, &[secret.trim_start_matches("secret ")]);
    }
    let printed: Value =
        serde_json::from_str(&listening.wait_for_line(|line| line.contains("\"attempt\":2"), DEADLINE).await)
            .unwrap();
    assert_eq!((&printed["status"], &printed["event_id"]), (&json!(200), &event["id"]));
    dispatch(&api, "refused").await;
    second.wait_for_line(|line| line.contains("\"error\":\"connect\""), DEADLINE).await;

    // The server restarts. The listener is there again, and its subscriber is the same.
    let before = list(&api, "/v1/subscribers").await;
    stopped(process, "TERM").await;
    listening.wait_for_line(|line| line.contains("connecting again"), DEADLINE).await;
    let (process, _, api) = server(folder.path(), &address).await;
    listening.wait_for_line(|line| line == "connected again", DEADLINE).await;
    assert_eq!(list(&api, "/v1/subscribers").await.len(), before.len());
    let event = dispatch(&api, "order.paid").await;
    assert_eq!(ended(&api, &event).await["status"], "succeeded");
    receiver.wait_for_path("/hooks", 3, DEADLINE).await;

    // A replay and a retry of a delivery that has succeeded reach it.
    let replay = json!({"filter": {"event": "order.created"}, "mode": "all"});
    let (status, replay) = api.post("/v1/replays", &replay).await;
    assert_eq!(status, 202, "{replay}");
    receiver.wait_for_path("/hooks", 4, DEADLINE).await;
    let paid = ended(&api, &event).await;
    let (status, retried) =
        api.post(&format!("/v1/deliveries/{}/retry", text(&paid["id"])), &json!({})).await;
    assert_eq!(status, 202, "{retried}");
    let requests = receiver.wait_for_path("/hooks", 5, DEADLINE).await;
    let ids = [3, 4].map(|number: usize| requests[number].header("webhook-id"));
    assert_eq!(ids, [&delivery["event_id"], &event["id"]].map(Value::as_str));

    stopped(listening, "INT").await;
    assert_eq!(list(&api, "/v1/subscribers").await.len(), before.len() - 1, "its subscriber is gone");
    stopped(second, "INT").await;
    let (status, replay) = api.post("/v1/listeners", &json!({"events": ["*"]})).await;
    assert_eq!(status, 201, "{replay}");
    stopped(process, "TERM").await;
}

#[tokio::test]
async fn a_target_elsewhere_must_be_allowed() {
    let refused = Program::named("postrider")
        .args(["listen", "example.com:80"])
        .env("POSTRIDER_URL", "http://127.0.0.1:9");
    super::run(&refused, "").await.fails(2, "--allow-remote");
    let unreachable =
        Program::named("postrider").args(["listen", "9"]).env("POSTRIDER_URL", "http://127.0.0.1:9");
    let ran = tokio::time::timeout(Duration::from_secs(20), super::run(&unreachable, "")).await.unwrap();
    ran.fails(1, "cannot be reached");
}
