//! `postrider dev` and `postrider demo`: everything in one process, over SQLite.

use std::{path::Path, time::Duration};

use postrider_testkit::{Api, Behaviour, Process, Program, Receiver};
use serde_json::{Value, json};
use tokio::{process::Command, time::timeout};

use crate::client::{attempts, dispatch_with, ended, list, read, subscribe_with, text};
use crate::deployment::DEADLINE;
use crate::signature::{header, verify};

/// How long the demo may take.
const DEMO: Duration = Duration::from_secs(15);

/// `postrider dev`, and the values from its greeting.
pub(crate) struct Dev {
    process: Process,
    url: String,
    key: String,
}

impl Dev {
    pub(crate) async fn start(data: &Path) -> Self {
        Self::with(data, &[]).await
    }

    /// Starts it with these settings.
    pub(crate) async fn with(data: &Path, own: &[(&str, &str)]) -> Self {
        let program = Program::named("postrider")
            .args(["dev", "--data"])
            .arg(data)
            .env("POSTRIDER_LISTEN", "127.0.0.1:0")
            .env("POSTRIDER_TELEMETRY_LISTEN", "127.0.0.1:0")
            .env("POSTRIDER_RETRY_SCHEDULE", "50ms");
        let process = own.iter().fold(program, |program, (name, value)| program.env(*name, *value)).start();
        // The last line of the greeting.
        process.wait_for_line(|line| line.contains("/v1/subscribers"), DEADLINE).await;
        process.wait_for_line(|line| line.contains(r#""events":["order.*"]"#), DEADLINE).await;
        let greeting = process.stdout();
        let after = |label: &str| {
            let line = greeting.iter().find_map(|line| line.trim().strip_prefix(label));
            line.unwrap_or_else(|| panic!("no {label} in {greeting:?}")).trim().to_owned()
        };
        let url = after("API").trim_end_matches("/docs").to_owned();
        let key = after("key");
        Self { process, url, key }
    }

    /// The URL of the API.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The operator's key.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) async fn api(&self) -> Api {
        Api::new(&self.url, &self.key).described().await
    }

    /// Its telemetry address.
    pub(crate) async fn telemetry(&self) -> Api {
        let is_telemetry = |line: &str| line.contains("listening") && line.contains("telemetry");
        Api::without_key(format!("http://{}", self.process.wait_for_address(is_telemetry, DEADLINE).await))
    }

    /// Everything that it has printed.
    pub(crate) fn lines(&self) -> Vec<String> {
        [self.process.stdout(), self.process.stderr()].concat()
    }

    /// The first command of the greeting.
    fn curl(&self) -> String {
        let greeting = self.process.stdout();
        let lines = greeting.iter().skip_while(|line| !line.contains("curl")).take(2);
        lines.map(|line| line.trim().trim_end_matches('\\')).collect::<Vec<_>>().join(" ")
    }

    pub(crate) async fn stop(mut self, signal: &str) {
        self.process.signal(signal).await;
        let status = self.process.wait(DEADLINE).await;
        assert!(status.success(), "{status}: {:?}", self.process.stderr());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_does_the_main_job_and_keeps_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("made by dev");
    let receiver = Receiver::start().await;
    receiver.on("/hook", Behaviour::sequence([500, 200]));

    let dev = Dev::start(&data).await;
    let api = dev.api().await;
    assert_eq!(Api::new(&dev.url, &"x".repeat(40)).get("/v1/events").await.0, 401);
    let subscriber = subscribe_with(&api, json!({"url": receiver.url("/hook"), "events": ["order.*"]})).await;
    let event =
        dispatch_with(&api, json!({"event": "order.created", "data": {"order": 1}, "id": "one"})).await;
    let delivery = ended(&api, &event).await;
    assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("succeeded"), &json!(2)), "{delivery}");
    for request in receiver.requests() {
        verify(&request, &[text(&subscriber["secret"])]);
        assert_eq!(header(&request, "webhook-id"), text(&event["id"]));
        assert_eq!(request.json()["data"], json!({"order": 1}));
    }
    let [before, attempts_before] =
        [read(&api, "/v1/subscribers").await, attempts(&api, &delivery).await.into()];
    curl_works(&dev).await;
    let (key, events) = (dev.key.clone(), list(&api, "/v1/events").await);
    dev.stop("INT").await;

    // Restarted with the same data and the same key at another address.
    let again = Dev::start(&data).await;
    let api = again.api().await;
    assert_eq!(again.key, key);
    assert_eq!(list(&api, "/v1/events").await, events);
    assert_eq!(read(&api, "/v1/subscribers").await, before);
    assert_eq!(Value::from(attempts(&api, &delivery).await), attempts_before);
    let repeat =
        dispatch_with(&api, json!({"event": "order.created", "data": {"order": 1}, "id": "one"})).await;
    assert_eq!((&repeat["id"], &repeat["duplicate"]), (&event["id"], &json!(true)));
    let sent = receiver.requests().len();
    let next = dispatch_with(&api, json!({"event": "order.paid", "data": {}})).await;
    assert_eq!(ended(&api, &next).await["status"], "succeeded");
    assert_eq!(receiver.requests().len(), sent + 1, "the repeat was not sent");
    again.stop("TERM").await;
}

/// The command that `dev` prints works: its event goes to the existing subscriber.
async fn curl_works(dev: &Dev) {
    let shell = Command::new("sh").args(["-c", "command -v curl"]).output().await.unwrap();
    if !shell.status.success() {
        println!("skipped: curl is not installed");
        return;
    }
    let curl = Command::new("sh").args(["-c", &dev.curl()]).output();
    let output = timeout(DEADLINE, curl).await.expect("curl ends").unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error} of {output:?} of {}", dev.curl()));
    assert!(text(&answer["id"]).starts_with("evt_"), "{answer}");
    assert_eq!((&answer["event"], &answer["subscribers_found"]), (&json!("order.created"), &json!(1)));
    ended(&dev.api().await, &answer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_of_dev_is_private_and_its_own() {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mode = |file: &Path| std::fs::metadata(file).unwrap().permissions().mode() & 0o777;
    let dev = Dev::start(&data).await;
    let is_private = || {
        assert_eq!(mode(&data), 0o700);
        for file in std::fs::read_dir(&data).unwrap() {
            let file = file.unwrap().path();
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    };
    is_private();
    let refused = async |name: &str, value: &str| {
        let program = Program::named("postrider").args(["dev", "--data"]).arg(&data);
        let mut process = program.env("POSTRIDER_LISTEN", "127.0.0.1:0").env(name, value).start();
        assert!(!process.wait(DEADLINE).await.success(), "{name}");
        process.stderr().join("\n")
    };
    let second = refused("POSTRIDER_TELEMETRY_LISTEN", "127.0.0.1:0").await;
    assert!(second.contains("another `postrider` uses the folder"), "{second}");
    dev.stop("TERM").await;
    let unused = refused("POSTRIDER_DATABASE_URL", "postgres://127.0.0.1/postrider").await;
    assert!(unused.contains("POSTRIDER_DATABASE_URL has no effect"), "{unused}");
    for (name, value) in
        [("POSTRIDER_QUEUE_URL", "redis://127.0.0.1:1/0"), ("POSTRIDER_QUEUE_DOWN", "refuse")]
    {
        let unused = refused(name, value).await;
        assert!(unused.contains(&format!("{name} has no effect")), "{unused}");
    }

    // As earlier versions made them.
    std::fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(data.join("postrider.db"), Permissions::from_mode(0o644)).unwrap();
    let again = Dev::start(&data).await;
    is_private();
    again.stop("TERM").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ephemeral_dev_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let program = Program::named("postrider").args(["dev", "--ephemeral"]).env("TMPDIR", place.path());
    for signal in ["INT", "TERM"] {
        let mut process = program.start();
        process.wait_for_line(|line| line.starts_with('{'), DEADLINE).await;
        let ready: Value = serde_json::from_str(&process.stdout()[0]).unwrap();
        assert!(
            !text(&ready["url"]).ends_with('/') && text(&ready["console"]).ends_with("/console"),
            "{ready}"
        );
        let api = Api::new(text(&ready["url"]), text(&ready["key"])).described().await;
        dispatch_with(&api, json!({"event": "order.created", "data": {}})).await;
        assert_ne!(std::fs::read_dir(place.path()).unwrap().count(), 0, "its folder is there");
        process.signal(signal).await;
        assert!(process.wait(DEADLINE).await.success(), "SIG{signal}: {:?}", process.stderr());
        assert_eq!(process.stdout().len(), 1, "logs go to standard error");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "SIG{signal}");
    }
    let mut refused = program.clone().args(["--data", "x"]).start();
    assert_eq!(refused.wait(DEADLINE).await.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn demo_checks_every_delivery_and_passes() {
    let mut demo = Program::named("postrider").arg("demo").start();
    let status = demo.wait(DEMO).await;
    let table = demo.stdout();
    assert!(status.success(), "{status}: {table:?} {:?}", demo.stderr());
    for (receiver, numbers) in [
        ("healthy", ["5", "5", "0", "5", "5", "5"]),
        ("flaky", ["5", "5", "0", "15", "15", "15"]),
        ("dead", ["5", "0", "5", "20", "20", "20"]),
    ] {
        let is_row = |line: &&String| line.starts_with(receiver) && line.ends_with("  ok");
        let row = table.iter().find(is_row).unwrap_or_else(|| panic!("no row of {receiver} in {table:?}"));
        assert_eq!(row.split_whitespace().skip(1).take(6).collect::<Vec<_>>(), numbers, "{row}");
    }
    assert!(table.iter().any(|line| line.starts_with("All checks passed")), "{table:?}");
}
