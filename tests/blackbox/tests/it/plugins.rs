//! Plugins at the command line: tried, installed, listed and removed.

use std::fs;

use postrider_testkit::Program;
use serde_json::json;

use crate::deployment::{ADMIN_KEY, DEADLINE, Deployment};

/// Runs `postrider plugins`, and returns its exit status and what it printed.
async fn plugins(url: &str, key: &str, arguments: &[&str]) -> (i32, String) {
    let program = Program::named("postrider").env("POSTRIDER_URL", url).env("POSTRIDER_KEY", key);
    let mut process = program.arg("plugins").args(arguments).start();
    let status = process.wait(DEADLINE).await.code().expect("an exit status");
    (status, [process.stdout(), process.stderr()].concat().join("\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_is_tried_without_a_server() {
    let Some(redact) = postrider_testkit::plugin::redact() else { return };
    let redact = redact.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let event = file("event.json", br#"{"event":"user.created","data":{"id":1,"card":"4111","x":1e3}}"#);
    let test = async |arguments: &[&str]| plugins("", "", &[&["test"], arguments].concat()).await;
    let config = r#"{"fields":["card"]}"#;

    let (status, printed) = test(&[redact, "--event", &event, "--plugin-config", config]).await;
    assert_eq!(status, 0, "{printed}");
    for part in [r#"{"id":1,"x":1000.0}"#, "x-redacted: 1", "units of fuel", "compiled"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let (status, printed) = test(&[redact]).await;
    assert_eq!(status, 1, "{printed}");
    assert!(printed.contains("the plugin refused the event: config: missing field `fields`"), "{printed}");
    let no_module = file("text.wasm", b"text");
    let wrong_event = file("wrong.json", br#"{"event":"a.b"}"#);
    for (arguments, expected) in [
        (&[redact, "--plugin-config", "[]"][..], 2),
        (&[redact, "--event", &wrong_event], 2),
        (&["no-such-file.wasm"], 2),
        (&[&no_module], 4),
        (&[], 2),
    ] {
        let (status, printed) = test(arguments).await;
        assert_eq!(status, expected, "{arguments:?}: {printed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_is_installed_listed_and_removed() {
    let Some(redact) = postrider_testkit::plugin::redact() else { return };
    let redact = redact.to_str().unwrap();
    let deployment = Deployment::start(0).await;
    let url = format!("http://{}", deployment.server.api_address().await);
    let run = async |arguments: &[&str]| plugins(&url, ADMIN_KEY, arguments).await;

    let (status, printed) = run(&["add", redact, "--name", "redact", "--version", "1.0.0"]).await;
    assert_eq!(status, 0, "{printed}");
    assert!(printed.contains("installed redact 1.0.0: "), "{printed}");
    let (_, listed) = deployment.api.get("/v1/plugins").await;
    assert_eq!(
        (&listed["data"][0]["name"], &listed["data"][0]["version"]),
        (&json!("redact"), &json!("1.0.0"))
    );
    let (status, printed) = run(&["list"]).await;
    assert_eq!(status, 0, "{printed}");
    assert!(printed.contains(listed["data"][0]["checksum"].as_str().unwrap()), "{printed}");

    let (status, printed) = run(&["add", redact, "--name", "Not A Name", "--version", "1"]).await;
    assert_eq!(status, 4, "{printed}");
    assert!(printed.contains("name: must have 1 to 64 characters"), "{printed}");
    assert_eq!(run(&["remove", "redact"]).await.0, 0);
    let (status, printed) = run(&["remove", "redact"]).await;
    assert_eq!(status, 3, "{printed}");
    assert_eq!(run(&["remove", "a/../b"]).await.0, 3);

    let (status, printed) = plugins(&url, "a wrong key", &["list"]).await;
    assert_eq!(status, 4, "{printed}");
    assert!(!printed.contains("a wrong key"), "{printed}");
    let (status, printed) = plugins("http://127.0.0.1:1", ADMIN_KEY, &["list"]).await;
    assert_eq!(status, 1, "{printed}");
    assert!(printed.contains("the server at 127.0.0.1:1 cannot be reached"), "{printed}");
    for wrong in ["ftp://127.0.0.1", "127.0.0.1"] {
        assert_eq!(plugins(wrong, ADMIN_KEY, &["list"]).await.0, 2, "{wrong}");
    }
    deployment.stop().await;
}
