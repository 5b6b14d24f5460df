//! Logging never stops a program, whatever becomes of the process that reads its logs.

use std::io::{PipeReader, Read as _, pipe};
use std::net::SocketAddr;
use std::path::Path;

use postrider_testkit::{Api, Program, Receiver, TestDatabase};
use serde_json::{Value, json};
use tokio::process::Child;
use tokio::task::spawn_blocking;

use crate::client::{idle, subscribe};
use crate::deployment::{ADMIN_KEY, DEADLINE, program, settings};

/// More lines than a pipe and the program's own buffer hold, at the level `trace`.
const EVENTS: usize = 12_000;

/// A program whose standard output and error are one pipe, read by nobody once the program has started.
struct Unread {
    child: Child,
    reader: PipeReader,
    api: Option<SocketAddr>,
    telemetry: SocketAddr,
    greeting: String,
}

impl Unread {
    /// Reads until the program has said its addresses, and nothing after that.
    async fn start(program: &Program) -> Self {
        let (reader, writer) = pipe().unwrap();
        let child = program.command().stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
        spawn_blocking(move || read_addresses(child, reader)).await.unwrap()
    }

    async fn metric(&self, name: &str) -> f64 {
        let answer = Api::without_key(format!("http://{}", self.telemetry))
            .send(http::Method::GET, "/metrics", &[], "")
            .await;
        let text = answer.text();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    async fn stop(mut self) {
        let id = self.child.id().unwrap();
        let kill = tokio::process::Command::new("sh").args(["-c", &format!("kill -s TERM {id}")]).status();
        assert!(kill.await.unwrap().success());
        let status = tokio::time::timeout(DEADLINE, self.child.wait()).await.expect("it ends").unwrap();
        assert!(status.success(), "{status}");
    }
}

fn read_addresses(child: Child, mut reader: PipeReader) -> Unread {
    let (mut text, mut chunk) = (Vec::new(), [0; 512]);
    loop {
        let length = reader.read(&mut chunk).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&chunk[..length]);
        let greeting = String::from_utf8_lossy(&text).into_owned();
        let address = |service: &str| {
            let line = greeting.lines().find(|line| line.contains("listening") && line.contains(service))?;
            line.split("address=").nth(1)?.split_whitespace().next()?.parse().ok()
        };
        // Not any "worker": a migration has that in its name.
        let needs_api = !greeting.contains("worker started");
        let api = address(r#"service="api""#);
        if let Some(telemetry) = address(r#"service="telemetry""#)
            && (api.is_some() || !needs_api)
        {
            return Unread { child, reader, api, telemetry, greeting };
        }
    }
}

async fn dispatch_many(api: &Api) {
    for _ in 0..EVENTS / 100 {
        let events: Vec<Value> =
            (0..100).map(|number| json!({"event": "a", "data": {"number": number}})).collect();
        let (status, answer) = api.post("/v1/events/batch", &json!({"events": events})).await;
        assert_eq!(status, 202, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_that_nobody_reads_stop_neither_server_nor_worker() {
    for level in ["debug", "trace"] {
        let database = TestDatabase::postgres().await;
        let own = [("POSTRIDER_LOG", level)];
        let server = Unread::start(&program("postrider-server", database.url(), &own)).await;
        let api = Api::new(format!("http://{}", server.api.unwrap()), ADMIN_KEY);
        let worker = Unread::start(&program("postrider-worker", database.url(), &own)).await;
        let receiver = Receiver::start().await;
        subscribe(&api, &receiver.url("/")).await;

        dispatch_many(&api).await;
        receiver.wait_for(EVENTS, 2 * DEADLINE).await;
        idle(&api).await;
        if level == "trace" {
            assert!(worker.metric("webhook_log_lines_dropped_total").await > 0.0);
            let mut worker = worker;
            let reading = reading_until(worker.reader.try_clone().unwrap(), "log lines dropped");
            let line = reading.await;
            assert!(line.contains("lines="), "{line}");
            // A reader that goes away ends nothing either.
            let (reader, _) = pipe().unwrap();
            drop(std::mem::replace(&mut worker.reader, reader));
            dispatch_many(&api).await;
            receiver.wait_for(2 * EVENTS, 2 * DEADLINE).await;
            worker.stop().await;
        } else {
            worker.stop().await;
        }
        server.stop().await;
    }
}

/// Reads until a line with this text has arrived, and returns that line.
async fn reading_until(mut reader: PipeReader, text: &'static str) -> String {
    spawn_blocking(move || {
        let (mut read, mut chunk) = (Vec::new(), vec![0; 65536]);
        loop {
            let length = reader.read(&mut chunk).unwrap();
            assert!(length > 0, "no {text}");
            read.extend_from_slice(&chunk[..length]);
            let so_far = String::from_utf8_lossy(&read);
            if let Some(line) =
                so_far.lines().find(|line| line.contains(text) && line.contains("standard error"))
            {
                return line.to_owned();
            }
        }
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_that_nobody_reads_do_not_stop_dev() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Unread::start(&dev(folder.path())).await;
    let key = std::fs::read_to_string(folder.path().join("admin.key")).unwrap();
    let api = Api::new(format!("http://{}", dev.api.unwrap()), &key);
    let receiver = Receiver::start().await;
    subscribe(&api, &receiver.url("/")).await;
    dispatch_many(&api).await;
    receiver.wait_for(EVENTS, 2 * DEADLINE).await;
    assert!(!dev.greeting.is_empty());
    dev.stop().await;
}

fn dev(data: &Path) -> Program {
    let program = Program::named("postrider").args(["dev", "--data"]).arg(data);
    let own = settings("");
    let own = own.into_iter().filter(|(name, _)| name.ends_with("LISTEN"));
    own.fold(program.env("POSTRIDER_LOG", "trace"), |program, (name, value)| program.env(name, value))
}

/// A program that cannot start ends even if the pipe is already full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_nobody_reads_ends_the_program() {
    let (reader, writer) = pipe().unwrap();
    let mut filler = tokio::process::Command::new("sh");
    filler.args(["-c", "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done"]);
    let mut filler = filler
        .stdout(writer.try_clone().unwrap())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    for (name, value) in
        [("POSTRIDER_BODY_LIMIT", "none"), ("POSTRIDER_DATABASE_URL", "postgres://127.0.0.1:1/none")]
    {
        let program = program("postrider-server", "postgres://127.0.0.1:1/none", &[(name, value)]);
        let mut child = program
            .command()
            .stdout(writer.try_clone().unwrap())
            .stderr(writer.try_clone().unwrap())
            .spawn()
            .unwrap();
        let status = tokio::time::timeout(DEADLINE, child.wait()).await.expect("it ends").unwrap();
        assert!(!status.success());
    }
    filler.kill().await.unwrap();
    drop(reader);
}
