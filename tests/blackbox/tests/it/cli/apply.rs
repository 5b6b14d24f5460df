//! `apply` and `export`.

use serde_json::{Value, json};

use super::Stage;
use crate::client::read;

const FILE: &str = r#"
[[event_types]]
name = "order.created"
description = "An order was created"
mode = "warn"
schema = { type = "object", required = ["order"], properties = { order = { type = "integer" } } }
example = '{"order": 1, "note": null}'

[[tenants]]
id = "acme"
name = "Acme Ltd"
retention = { payloads = "7d" }

[[subscribers]]
uid = "billing"
url = "https://example.com/hook"
events = ["order.*"]
headers = { authorization = "Bearer s3cret" }
metadata = { team = "billing" }
filter = "data.order > 0"
[subscribers.policy]
max_attempts = 3
timeout = "60s"

[[subscribers]]
uid = "search"
url = "https://example.com/search"
events = ["*"]

[[keys]]
name = "shop"
tenant = "acme"
scopes = ["publisher", "events:read"]
expires_at = 2040-01-01T00:00:00Z
limits = { event_types = ["order.*"] }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_applied_once_and_then_changes_nothing() {
    let stage = Stage::start().await;
    let apply =
        async |file: &str, more: &[&str]| stage.run_with(&[&["apply", "-f", "-"], more].concat(), file).await;
    let dry = apply(FILE, &["--dry-run"]).await.ok();
    let created = "+ event_types order.created\n+ tenants acme\n+ subscribers billing\n+ subscribers search\n+ keys shop\n";
    assert_eq!(dry, created);
    assert_eq!(read(&stage.api, "/v1/subscribers").await["data"], json!([]));
    let made = apply(FILE, &[]).await.ok();
    assert!(made.contains("+ keys shop\n    key: prk_"), "{made}");
    assert_eq!(apply(FILE, &[]).await.ok(), "no changes\n");
    assert_eq!(apply(FILE, &["-o", "json", "--prune"]).await.json(), json!([]));
    let billing = read(&stage.api, "/v1/subscribers/billing").await;
    assert_eq!(
        (&billing["policy"]["max_attempts"], &billing["headers"]),
        (&json!(3), &json!(["authorization"]))
    );

    let changed = FILE
        .replace("https://example.com/hook", "https://example.com/new")
        .replace("metadata = { team = \"billing\" }", "metadata = { owner = \"x\" }")
        .replace(", properties = { order = { type = \"integer\" } }", "")
        .replace("mode = \"warn\"", "mode = \"warn\"\nforce = true")
        .replace("uid = \"search\"", "uid = \"find\"");
    apply(&changed.replace("force = true", ""), &[]).await.fails(4, "force");
    let lines = apply(&changed, &["--prune"]).await.ok();
    for line in [
        "~ event_types order.created",
        "    url: \"https://example.com/hook\" -> \"https://example.com/new\"",
        "    metadata: {\"team\":\"billing\"} -> {\"owner\":\"x\"}",
        "+ subscribers find",
        "- subscribers search",
    ] {
        assert!(lines.lines().any(|given| given == line), "{line}: {lines}");
    }
    assert!(!lines.contains("s3cret") && !lines.contains("keys"), "{lines}");
    assert_eq!(apply(&changed, &["--prune"]).await.ok(), "no changes\n");
    let billing = read(&stage.api, "/v1/subscribers/billing").await;
    assert_eq!(billing["metadata"], json!({"owner": "x"}), "what the file does not have is removed");

    exported(&stage).await;
    apply("[[subscribers]]\nurl = \"x\"", &[]).await.fails(2, "uid");
    apply("[[subscribers]]\nuid = \"bad\"\nurl = \"ftp://x\"\nevents = [\"*\"]", &[]).await.fails(4, "url");
    stage.run(&["apply", "-f", "/no/such/file"]).await.fails(2, "/no/such/file");
    stage.stop().await;
}

/// What was exported describes what there is.
async fn exported(stage: &Stage) {
    let file = stage.run(&["export"]).await.ok();
    for part in ["[[event_types]]", "uid = \"billing\"", "[[keys]]", "id = \"acme\""] {
        assert!(file.contains(part), "{part}: {file}");
    }
    assert!(!file.contains("s3cret"), "{file}");
    let again = stage.run_with(&["apply", "-f", "-", "--prune"], &file).await;
    assert_eq!(again.ok(), "no changes\n", "{file}");
    // Into another tenant.
    let other = stage
        .run_with(&["apply", "-f", "-", "--tenant", "acme", "--dry-run", "-o", "json"], &file)
        .await
        .json();
    let names: Vec<&Value> = other.as_array().unwrap().iter().map(|step| &step["name"]).collect();
    assert!(names.contains(&&json!("billing")), "{other}");
}
