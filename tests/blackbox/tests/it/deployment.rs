//! A server and workers over one PostgreSQL, each as a separate process.

use std::{fs, net::SocketAddr, time::Duration};

use postrider_testkit::{Api, Process, Program, TestDatabase};

pub(crate) const ADMIN_KEY: &str = "operator-key-of-the-black-box-tests-0123456789";

/// The base64 of 32 bytes.
pub(crate) const SECRET_KEY: &str = "cG9zdHJpZGVyLWJsYWNrLWJveC10ZXN0LWtleS0wMDE=";

/// How long anything may take on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// The settings of all programs of a deployment.
pub(crate) fn settings(database_url: &str) -> Vec<(String, String)> {
    [
        ("POSTRIDER_DATABASE_URL", database_url),
        ("POSTRIDER_DATABASE_CONNECTIONS", "8"),
        ("POSTRIDER_LISTEN", "127.0.0.1:0"),
        ("POSTRIDER_TELEMETRY_LISTEN", "127.0.0.1:0"),
        ("POSTRIDER_ADMIN_KEY", ADMIN_KEY),
        ("POSTRIDER_SECRET_KEY", SECRET_KEY),
        ("POSTRIDER_ALLOW_NETS", "127.0.0.0/8"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// A program of a deployment; `own` settings override the common ones.
pub(crate) fn program(name: &str, database_url: &str, own: &[(&str, &str)]) -> Program {
    let common = settings(database_url);
    let program =
        common.into_iter().fold(Program::named(name), |program, (name, value)| program.env(name, value));
    own.iter().fold(program, |program, (name, value)| program.env(name, value))
}

/// A running program.
pub(crate) struct Member {
    pub(crate) process: Process,
    /// Its `/metrics`, `/healthz` and `/readyz`.
    pub(crate) telemetry: Api,
}

impl Member {
    pub(crate) async fn start(program: &Program) -> Self {
        let process = program.start();
        let is_telemetry = |line: &str| line.contains("listening") && line.contains("telemetry");
        let address = process.wait_for_address(is_telemetry, DEADLINE).await;
        Self { process, telemetry: Api::without_key(format!("http://{address}")) }
    }

    /// A client of a server's API, with the operator key.
    pub(crate) async fn api(&self) -> Api {
        Api::new(format!("http://{}", self.api_address().await), ADMIN_KEY).described().await
    }

    /// The address of a server's API.
    pub(crate) async fn api_address(&self) -> SocketAddr {
        let is_api = |line: &str| line.contains("listening") && line.contains(r#"service="api""#);
        self.process.wait_for_address(is_api, DEADLINE).await
    }

    /// Everything it has printed and logged so far.
    pub(crate) fn output(&self) -> String {
        [self.process.stdout(), self.process.stderr()].concat().join("\n")
    }

    /// The peak of its memory in KiB (proc(5)).
    pub(crate) fn peak_memory(&self) -> u64 {
        let process = self.process.id().expect("a program that runs");
        let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a Linux with /proc");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        peak.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }

    /// Sends SIGTERM, and checks that it exits with status 0.
    pub(crate) async fn stop(mut self) {
        self.process.terminate().await;
        let status = self.process.wait(DEADLINE).await;
        assert!(status.success(), "{status}: {}", self.output());
    }
}

/// A server, workers, and the database that they share. Dropping it ends all of them.
pub(crate) struct Deployment {
    pub(crate) api: Api,
    pub(crate) server: Member,
    pub(crate) workers: Vec<Member>,
    // Declared after the processes, so that it is dropped after them.
    pub(crate) database: TestDatabase,
}

impl Deployment {
    /// Starts a server and workers with default settings.
    pub(crate) async fn start(workers: usize) -> Self {
        Self::with(workers, &[]).await
    }

    /// Starts a server and workers with these settings.
    pub(crate) async fn with(workers: usize, own: &[(&str, &str)]) -> Self {
        let database = TestDatabase::postgres().await;
        let server = Member::start(&program("postrider-server", database.url(), own)).await;
        let api = server.api().await;
        let mut this = Self { api, server, workers: Vec::new(), database };
        for _ in 0..workers {
            this.add_worker(own).await;
        }
        this
    }

    pub(crate) async fn add_worker(&mut self, own: &[(&str, &str)]) {
        self.workers.push(Member::start(&program("postrider-worker", self.database.url(), own)).await);
    }

    /// The address of the API.
    pub(crate) async fn server_url(&self) -> String {
        format!("http://{}", self.server.api_address().await)
    }

    /// All processes.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        std::iter::once(&self.server).chain(&self.workers)
    }

    /// Stops all processes, workers first, and checks that they exit with status 0.
    pub(crate) async fn stop(self) -> TestDatabase {
        for worker in self.workers {
            worker.stop().await;
        }
        self.server.stop().await;
        self.database
    }
}
