//! The client commands, as a user runs them against a real server.

mod apply;
mod completing;
mod described;
mod documented;
mod listening;
mod offline;
mod profiles;
mod resources;
mod sending;
mod terminal;
mod testing;

use std::process::Stdio;

use postrider_testkit::{Api, Process, Program, Receiver};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::client::text;
use crate::deployment::DEADLINE;

/// What a command has printed, and its exit status.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// What a command has printed that must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Its JSON.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// Checks that it failed like this, and printed this reason.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, reason: &str) {
        assert!(self.code == code && self.err.contains(reason), "{code} {reason}: {self:?}");
    }
}

/// Runs a program to its end, with this text on its standard input.
pub(crate) async fn run(program: &Program, input: &str) -> Ran {
    let mut command = program.command();
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().expect("a pipe");
    // The program may not read it.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = timeout(DEADLINE, child.wait_with_output()).await.expect("the command ends").unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    Ran { code: output.status.code().expect("an exit status"), out, err }
}

/// An ephemeral server, and a home of its own.
pub(crate) struct Stage {
    process: Process,
    pub(crate) home: TempDir,
    pub(crate) url: String,
    pub(crate) key: String,
    pub(crate) api: Api,
    pub(crate) receiver: Receiver,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let program = Program::named("postrider").args(["dev", "--ephemeral"]).env("TMPDIR", home.path());
        let process =
            program.env("POSTRIDER_RETRY_SCHEDULE", "50ms").env("POSTRIDER_MAX_ATTEMPTS", "2").start();
        let ready = process.wait_for_line(|line| line.starts_with('{'), DEADLINE).await;
        let ready: Value = serde_json::from_str(&ready).unwrap();
        let (url, key) = (text(&ready["url"]).to_owned(), text(&ready["key"]).to_owned());
        let api = Api::new(&url, &key).described().await;
        Self { process, home, url, key, api, receiver: Receiver::start().await }
    }

    /// A command with the server's URL and key.
    pub(crate) fn program(&self) -> Program {
        self.bare().env("POSTRIDER_URL", &self.url).env("POSTRIDER_KEY", &self.key)
    }

    /// A command that knows no server.
    pub(crate) fn bare(&self) -> Program {
        Program::named("postrider").env("HOME", self.home.path()).env("TMPDIR", self.home.path())
    }

    pub(crate) async fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "").await
    }

    pub(crate) async fn run_with(&self, args: &[&str], input: &str) -> Ran {
        run(&self.program().args(args), input).await
    }

    pub(crate) async fn json(&self, args: &[&str]) -> Value {
        self.run(&[args, &["-o", "json"]].concat()).await.json()
    }

    pub(crate) async fn stop(mut self) {
        self.process.terminate().await;
        assert!(self.process.wait(DEADLINE).await.success(), "{:?}", self.process.stderr());
    }
}
