//! Schemathesis (from PyPI) makes requests from the description of the API, and checks what comes back against it.

use std::fs;
use std::time::Duration;

use tokio::process::Command;

use crate::client::{dispatch, subscribe};
use crate::deployment::{ADMIN_KEY, Deployment};
use crate::verifiers::{python_packages, run};

const DEADLINE: Duration = Duration::from_mins(5);

/// All checks are on. What the description allows may be refused with 422 for what it cannot express, such as fields that exclude
/// each other; that each described field is accepted is checked in `crates/server/tests/it/description.rs`. Each event of a batch
/// has a result of its own, so a batch with wrong events is answered with 202. The answers of the live tail and
/// of listeners have no end.
const CONFIG: &str = r#"
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "422"]

[[operations]]
include-path = "/v1/events/batch"
checks.negative_data_rejection.expected-statuses = ["202", "4xx"]

[[operations]]
include-path = "/v1/tail"
enabled = false

[[operations]]
include-path = "/v1/listeners/{id}/requests"
enabled = false
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemathesis_finds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // One version, because another one may check more.
    let packages = match python_packages(folder.path(), &["schemathesis==4.32.5"]).await {
        Ok(packages) => packages,
        Err(reason) => {
            println!("skipped: schemathesis: {reason}");
            return;
        }
    };
    // It shows a wrong key to each operation.
    let deployment = Deployment::with(1, &[("POSTRIDER_WRONG_KEYS", "10000")]).await;
    subscribe(&deployment.api, "http://127.0.0.1:9/").await;
    dispatch(&deployment.api, "order.created").await;
    let config = folder.path().join("schemathesis.toml");
    fs::write(&config, CONFIG).unwrap();
    let description = format!("http://{}/openapi.json", deployment.server.api_address().await);
    let mut command = Command::new("python3");
    command
        .args(["-m", "schemathesis.cli", "--config-file"])
        .arg(&config)
        .args(["run", &description])
        .args(["--header", &format!("Authorization: Bearer {ADMIN_KEY}")])
        .args(["--phases", "examples,coverage", "--seed", "1"])
        .args(["--request-timeout", "30", "--warnings", "off", "--no-color"])
        .env("PYTHONPATH", &packages)
        .current_dir(folder.path());
    let output = run(command, DEADLINE).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Tested:"), "{text}");
    deployment.stop().await;
}
