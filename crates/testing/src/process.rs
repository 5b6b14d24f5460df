//! The running program.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postrider_api::event::{DispatchedView, EventRequest};
use postrider_client::{Client, Config};
use postrider_core::EventId;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use url::Url;

use crate::{Error, Sandbox};

/// The variable that names the program.
const PROGRAM: &str = "POSTRIDER_TEST_PROGRAM";

/// How long the program may take to become ready.
const READY: Duration = Duration::from_secs(30);

/// How many of the last lines of standard error are kept.
const KEPT: usize = 20;

/// A server and a worker of its own for a test. It ends when this is dropped.
#[derive(Debug)]
pub struct Postrider {
    client: Client,
    url: String,
    key: String,
    child: Child,
}

/// What the program prints first.
#[derive(Deserialize)]
struct Greeting {
    url: String,
    key: String,
}

impl Postrider {
    /// Starts the program. Failed deliveries are attempted again after 100 ms, up to ten times.
    ///
    /// # Errors
    /// Fails if the program is missing, or does not become ready within 30 s.
    pub async fn start() -> Result<Self, Error> {
        Self::start_with(&[]).await
    }

    /// Starts the program with further settings, such as `("POSTRIDER_MAX_ATTEMPTS", "3")`.
    ///
    /// # Errors
    /// Fails as [`Postrider::start`] does, or if a setting is invalid.
    pub async fn start_with(settings: &[(&str, &str)]) -> Result<Self, Error> {
        let program = PathBuf::from(env::var_os(PROGRAM).unwrap_or_else(|| OsString::from("postrider")));
        let mut command = Command::new(&program);
        // Settings of the tester's own deployment must not reach it.
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("POSTRIDER_") {
                command.env_remove(name);
            }
        }
        command
            .args(["dev", "--ephemeral"])
            .envs([
                ("POSTRIDER_RETRY_SCHEDULE", "100ms"),
                ("POSTRIDER_MAX_ATTEMPTS", "10"),
                ("NO_COLOR", "1"),
            ])
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| Error::Start { program, source })?;
        let last = Arc::new(Mutex::new(Vec::new()));
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(keep_last(stderr, Arc::clone(&last)));
        }
        let line = match child.stdout.take() {
            Some(stdout) => first_line(stdout).await,
            None => None,
        };
        let Some(line) = line else {
            end(&child);
            let last = last.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
            return Err(Error::NotReady(last));
        };
        match of_greeting(&line) {
            Ok((client, Greeting { url, key })) => Ok(Self { client, url, key, child }),
            Err(error) => {
                end(&child);
                Err(error)
            }
        }
    }

    /// Returns the URL of the API, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns a key that may do everything.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns a client of the API.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Dispatches an event.
    ///
    /// # Errors
    /// Fails if the server refuses it, or the data has no JSON form.
    pub async fn dispatch(&self, event_type: &str, data: &impl Serialize) -> Result<EventId, Error> {
        let data = serde_json::value::to_raw_value(data).map_err(Error::Data)?;
        let event = EventRequest {
            event_type: Some(event_type.to_owned()),
            data: Some(data),
            agent_id: None,
            id: None,
            channels: None,
            metadata: None,
        };
        let dispatched: DispatchedView = self.client.post("/v1/events", &event).await?;
        Ok(dispatched.id)
    }

    /// Makes a receiver that always answers 200, and a subscriber of events that match one of these patterns.
    ///
    /// # Errors
    /// Fails if the server refuses a pattern.
    pub async fn sandbox(&self, events: &[&str]) -> Result<Sandbox, Error> {
        self.sandbox_with(events, Value::Array(Vec::new())).await
    }

    /// Makes a receiver that answers by a script, such as `json!([503, "reset", 200])`, and a subscriber of events that match one
    /// of these patterns.
    ///
    /// # Errors
    /// Fails if the server refuses a pattern or the script.
    pub async fn sandbox_with(&self, events: &[&str], script: Value) -> Result<Sandbox, Error> {
        Sandbox::create(self.client.clone(), events, script).await
    }

    /// Stops the program, and waits for its end. Dropping it does not wait.
    pub async fn stop(mut self) {
        end(&self.child);
        // It fails only if the process was waited for before.
        let _ = self.child.wait().await;
    }
}

impl Drop for Postrider {
    fn drop(&mut self) {
        end(&self.child);
    }
}

/// Asks the program to end, so that it removes its folder.
fn end(child: &Child) {
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(id) = id {
        // It may have ended by itself.
        let _ = kill_process(id, Signal::TERM);
    }
}

fn of_greeting(line: &str) -> Result<(Client, Greeting), Error> {
    let greeting: Greeting = serde_json::from_str(line).map_err(|error| Error::Greeting(error.into()))?;
    let url: Url = greeting.url.parse().map_err(|error: url::ParseError| Error::Greeting(error.into()))?;
    Ok((Client::new(Config::new(url, Some(&greeting.key)))?, greeting))
}

/// Returns the first line, and reads on, so that the program never waits for a reader.
async fn first_line(stdout: impl AsyncRead + Unpin + Send + 'static) -> Option<String> {
    let mut lines = BufReader::new(stdout).lines();
    let line = timeout(READY, lines.next_line()).await.ok()?.ok().flatten();
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    line
}

async fn keep_last(stderr: impl AsyncRead + Unpin, last: Arc<Mutex<Vec<String>>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == KEPT {
            last.remove(0);
        }
        last.push(line);
    }
}
