//! The driver of the browser: its process, and the session of `WebDriver` that it serves.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::eventually;

/// Where distributions put the driver.
const DRIVERS: [&str; 3] =
    ["/usr/bin/chromedriver", "/usr/lib/chromium/chromedriver", "/usr/local/bin/chromedriver"];

/// Where distributions put the browser.
const BROWSERS: [&str; 3] = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/// The line with which the driver says where it listens.
const STARTED: &str = "ChromeDriver was started successfully on port ";

/// How long the driver and the browser may take to start on a busy machine.
const START: Duration = Duration::from_mins(1);

/// How long one call may take. A page must load in less.
const CALL: Duration = Duration::from_secs(30);

/// Runs the driver until the end of the shell's input, which also comes when this process is killed. Then kills the browser,
/// whose processes name their profile.
const UNTIL_END_OF_INPUT: &str = r#"
folder=$1; shift
"$@" <&- >"$folder/log" 2>&1 & driver=$!
cat >/dev/null
kill -9 $driver
for process in /proc/[0-9]*; do
    grep -qs -- "--user-data-dir=$folder" "$process/cmdline" && kill -9 "${process#/proc/}" 2>/dev/null
done
wait
"#;

/// A driver with one session.
#[derive(Debug)]
pub(super) struct Driver {
    process: Child,
    client: Client<HttpConnector, Full<Bytes>>,
    /// The URL of the session, with a slash at its end.
    session: String,
    folder: TempDir,
}

impl Driver {
    /// Starts the driver and the browser. `None` if one of them is not installed.
    pub(super) async fn start() -> Option<Self> {
        let (Some(driver), Some(browser)) = (first(&DRIVERS), first(&BROWSERS)) else {
            println!("skipped: there is no chromium with its chromedriver");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let process = run(&driver, folder.path());
        let port = port(&folder.path().join("log")).await;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut this = Self { process, client, session: format!("http://127.0.0.1:{port}/"), folder };
        let capabilities = capabilities(&browser, &this.profile());
        let session = timeout(START, this.try_call(Method::POST, "session", Some(&capabilities))).await;
        let session = session.expect("the browser starts in time").unwrap_or_else(|error| panic!("{error}"));
        let id = session["sessionId"].as_str().expect("the id of the session");
        this.session = format!("http://127.0.0.1:{port}/session/{id}/");
        Some(this)
    }

    /// The folder of the browser's profile.
    pub(super) fn profile(&self) -> PathBuf {
        self.folder.path().join("profile")
    }

    /// Makes one call of the session, which must succeed, and returns its value.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let answer = timeout(CALL, self.try_call(method, path, body)).await;
        let Ok(answer) = answer else { panic!("the browser did not answer {path} within {CALL:?}") };
        answer.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn try_call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.session))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| format!("{path}: {error}"))?;
        let answer = self.client.request(request).await.map_err(|error| format!("{path}: {error}"))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| format!("{path}: {error}"))?.to_bytes();
        let mut answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let value = answer["value"].take();
        if status.is_success() { Ok(value) } else { Err(format!("{path}: {}", value["message"])) }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn first(paths: &[&str]) -> Option<PathBuf> {
    paths.iter().map(PathBuf::from).find(|path| path.is_file())
}

fn run(driver: &Path, folder: &Path) -> Child {
    Command::new("sh")
        .args(["-c", UNTIL_END_OF_INPUT, "sh"])
        .arg(folder)
        .arg(driver)
        .args(["--port=0", "--disable-dev-shm-usage"])
        // Settings, caches and crash reports.
        .env("HOME", folder)
        .env("XDG_CONFIG_HOME", folder)
        .env("XDG_CACHE_HOME", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell")
}

/// Waits for the driver to say on which port it listens.
async fn port(log: &Path) -> u16 {
    eventually(START, async || {
        let text = tokio::fs::read_to_string(log).await.unwrap_or_default();
        let (_, rest) = text.split_once(STARTED)?;
        let (port, _) = rest.split_once('.')?;
        port.parse().ok()
    })
    .await
}

fn capabilities(browser: &Path, profile: &Path) -> Value {
    let mut flags = vec![
        format!("--user-data-dir={}", profile.display()),
        // No name leads out of this machine, so a page that asks another host fails.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE [::1]"
            .to_owned(),
    ];
    let more = [
        "--headless=new",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-extensions",
        "--disable-sync",
        "--no-first-run",
        "--no-default-browser-check",
        "--no-proxy-server",
        "--hide-scrollbars",
        "--force-device-scale-factor=1",
        "--font-render-hinting=none",
        "--lang=en-GB",
    ];
    flags.extend(more.map(str::to_owned));
    // Containers run tests as root, for whom Chromium has no sandbox. The pages are our own.
    flags.push("--no-sandbox".to_owned());
    json!({"capabilities": {"alwaysMatch": {
        "browserName": "chrome",
        "timeouts": {"implicit": 0, "pageLoad": 20_000, "script": 20_000},
        "unhandledPromptBehavior": "ignore",
        "goog:chromeOptions": {"binary": browser, "args": flags},
        "goog:loggingPrefs": {"browser": "ALL"},
    }}})
}
