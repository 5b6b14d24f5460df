//! Real deliveries, verified by libraries that receivers use.

use std::{
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use postrider_testkit::{Receiver, receiver::ReceivedRequest};
use serde_json::{Value, json};
use tokio::{fs, process::Command, time::timeout};

use crate::client::{dispatch_with, idle, subscribe_with, text};
use crate::deployment::Deployment;

/// How long an installation may take before the registry counts as unreachable.
const INSTALLATION: Duration = Duration::from_mins(1);
const VERIFICATION: Duration = Duration::from_secs(30);

/// Verifies each delivery in the file with both libraries, and checks that they reject a changed one.
const NODE: &str = r#"
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";
import { verify } from "@octokit/webhooks-methods";

const refused = async (what, check) => {
    let passed = false;
    try { passed = (await check()) !== false; } catch { }
    if (passed) throw new Error(`${what} was not refused`);
};
for (const { secret, headers, body } of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
    const text = Buffer.from(body, "base64").toString("utf8");
    // The library expects other secrets as base64.
    const key = secret.startsWith("whsec_") ? secret : Buffer.from(secret, "utf8").toString("base64");
    new Webhook(key).verify(text, headers);
    await refused("a changed body", () => new Webhook(key).verify(text + " ", headers));
    await refused("another id", () => new Webhook(key).verify(text, { ...headers, "webhook-id": "evt_other" }));
    if (!(await verify(secret, text, headers["x-agent-signature"]))) throw new Error("octokit rejects it");
    await refused("a changed body", () => verify(secret, text + " ", headers["x-agent-signature"]));
    console.log("verified");
}
"#;

const PYTHON: &str = r#"
import base64, json, sys
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

for delivery in json.load(open(sys.argv[1])):
    body = base64.b64decode(delivery["body"])
    secret = delivery["secret"]
    # The library takes the bytes of other secrets as base64.
    key = secret if secret.startswith("whsec_") else base64.b64encode(secret.encode()).decode()
    Webhook(key).verify(body, delivery["headers"])
    try:
        Webhook(key).verify(body + b" ", delivery["headers"])
    except WebhookVerificationError:
        print("verified")
    else:
        raise SystemExit("a changed body was not rejected")
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_libraries_verify_real_deliveries() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deliveries.json");
    let deliveries = deliveries().await;
    fs::write(&file, Value::from(deliveries.clone()).to_string()).await.unwrap();
    let (node, python) = tokio::join!(node(folder.path(), &file), python(folder.path(), &file));
    for (name, verified) in [("node", node), ("python", python)] {
        match verified {
            Ok(output) => {
                let lines = String::from_utf8_lossy(&output.stdout)
                    .lines()
                    .filter(|line| *line == "verified")
                    .count();
                assert!(output.status.success() && lines == deliveries.len(), "{name}: {output:?}");
                println!("{name}: {lines} deliveries verified");
            }
            Err(reason) => println!("skipped: {name}: {reason}"),
        }
    }
}

/// Deliveries with each kind of secret, including a rotated one, in each format, and with plain and unusual bodies.
async fn deliveries() -> Vec<Value> {
    let deployment = Deployment::start(1).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    let mut secrets = Vec::new();
    for (path, given) in [
        ("/made", None),
        ("/chosen", Some("a client's secret, s3crét ✓")),
        ("/rotated", Some("before the rotation")),
    ] {
        let mut body = json!({"url": receiver.url(path), "events": ["*"]});
        if let Some(secret) = given {
            body["secret"] = json!(secret);
        }
        let subscriber = subscribe_with(api, body).await;
        let mut secret = subscriber["secret"].clone();
        if path == "/rotated" {
            let rotate = format!("/v1/subscribers/{}/secret/rotate", text(&subscriber["id"]));
            secret = api.post(&rotate, &json!({})).await.1["secret"].take();
        }
        secrets.push((path.to_owned(), secret));
    }
    // All but `form`: the libraries also parse the body as JSON.
    for format in ["standard", "data", "cloudevents", "cloudevents-binary", "slack"] {
        let path = format!("/{format}");
        let mut body = json!({"url": receiver.url(&path), "events": ["*"], "format": format});
        if format == "slack" {
            body["format_options"] = json!({"template": "{{event}}: {{data}}"});
        }
        let mut subscriber = subscribe_with(api, body).await;
        secrets.push((path, subscriber["secret"].take()));
    }
    for data in [
        json!({"conversation_id": "conv-123", "confidence": 0.95}),
        json!({"text": "\u{0} é ✓ 😀 \"</"}),
        json!([]),
    ] {
        dispatch_with(api, json!({"event": "ai.response", "agent_id": "my-agent", "data": data})).await;
    }
    idle(api).await;
    deployment.stop().await;

    let secret_of = |request: &ReceivedRequest| {
        secrets.iter().find(|(path, _)| *path == request.path()).map(|(_, secret)| secret.clone()).unwrap()
    };
    let requests = receiver.requests();
    assert_eq!(requests.len(), 24);
    requests.iter().map(|request| delivery(request, &secret_of(request))).collect()
}

fn delivery(request: &ReceivedRequest, secret: &Value) -> Value {
    let headers: serde_json::Map<String, Value> = request
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), json!(String::from_utf8_lossy(value))))
        .collect();
    json!({"secret": secret, "headers": headers, "body": STANDARD.encode(&request.body)})
}

/// The output of node, or why it could not run.
async fn node(folder: &Path, file: &Path) -> Result<Output, String> {
    let script = folder.join("verify.mjs");
    fs::write(&script, NODE).await.map_err(|error| error.to_string())?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
        .arg(folder)
        .args(["standardwebhooks", "@octokit/webhooks-methods"])
        .current_dir(folder);
    installed(npm).await?;
    let mut node = Command::new("node");
    node.arg(&script).arg(file).current_dir(folder);
    run(node, VERIFICATION).await
}

/// The output of Python, or why it could not run.
async fn python(folder: &Path, file: &Path) -> Result<Output, String> {
    let packages = python_packages(folder, &["standardwebhooks"]).await?;
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON]).arg(file).env("PYTHONPATH", &packages).current_dir(folder);
    run(python, VERIFICATION).await
}

/// Installs packages for Python into a folder.
pub(crate) async fn python_packages(folder: &Path, names: &[&str]) -> Result<PathBuf, String> {
    let packages = folder.join("python");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--target"])
        .arg(&packages)
        .args(names)
        .current_dir(folder);
    installed(pip).await?;
    Ok(packages)
}

async fn installed(command: Command) -> Result<(), String> {
    let output = run(command, INSTALLATION).await?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("the libraries cannot be installed: {}", errors.lines().next_back().unwrap_or_default()))
}

pub(crate) async fn run(mut command: Command, deadline: Duration) -> Result<Output, String> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    match timeout(deadline, command.kill_on_drop(true).output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => Err(format!("{program} cannot be run: {error}")),
        Err(_) => Err(format!("{program} did not end within {deadline:?}")),
    }
}
