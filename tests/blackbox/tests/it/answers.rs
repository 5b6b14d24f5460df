//! Receivers' answers are stored and shown byte for byte, on both databases.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use postrider_testkit::{Api, Behaviour, Receiver};
use serde_json::{Value, json};

use crate::client::{attempts, dispatch, ended, subscribe_with, text};
use crate::deployment::Deployment;
use crate::dev::Dev;

/// How many bytes of a body are stored.
const LIMIT: usize = 5000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_bytes_are_shown_as_received_over_postgres() {
    let deployment = Deployment::start(1).await;
    any_bytes_are_shown_as_received(&deployment.api).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_bytes_are_shown_as_received_over_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path()).await;
    any_bytes_are_shown_as_received(&dev.api().await).await;
    dev.stop("TERM").await;
}

async fn any_bytes_are_shown_as_received(api: &Api) {
    let receiver = Receiver::start().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    // A two-byte character lies across the limit.
    let cut = ["x", &"é".repeat(LIMIT / 2)].concat().into_bytes();
    for (status, event, body, encoding) in [
        (200, "nul", b"a\0b\0".to_vec(), "utf-8"),
        (200, "no-text", b"\xff\xfe\0\x80".to_vec(), "base64"),
        (200, "every-byte", every_byte.clone(), "base64"),
        (500, "failed", every_byte, "base64"),
        (200, "cut", cut, "base64"),
    ] {
        let headers = vec![("x-odd".to_owned(), "caf\u{e9} \u{80}".to_owned())];
        let path = format!("/{event}");
        receiver.on(&path, Behaviour::Respond { status, headers, body: body.clone() });
        let policy = json!({"max_attempts": 1});
        subscribe_with(api, json!({"url": receiver.url(&path), "events": [event], "policy": policy})).await;

        let delivery = ended(api, &dispatch(api, event).await).await;
        let attempts = attempts(api, &delivery).await;
        assert_eq!(attempts.len(), 1);
        let response = &attempts[0]["response"];
        assert_eq!(response["status"], status, "{event}");
        assert_eq!(
            (&response["body_encoding"], &response["truncated"]),
            (&json!(encoding), &json!(body.len() > LIMIT))
        );
        assert!(shown(response) == body[..body.len().min(LIMIT)], "{event}: {response}");
        // Each byte of a header value is shown as the character with that code: here two for each two-byte character.
        let odd =
            response["headers"].as_array().unwrap().iter().find(|header| header["name"] == "x-odd").unwrap();
        assert_eq!(odd["value"], "caf\u{c3}\u{a9} \u{c2}\u{80}", "{event}");
    }
}

/// The bytes of a body in an API answer.
fn shown(response: &Value) -> Vec<u8> {
    let body = text(&response["body"]);
    match text(&response["body_encoding"]) {
        "utf-8" => body.as_bytes().to_vec(),
        "base64" => STANDARD.decode(body).unwrap(),
        other => panic!("{other} is not an encoding"),
    }
}
