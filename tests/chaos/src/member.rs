//! A server or worker of the cluster: a process that is restarted whenever it ends.

use std::{
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use postrider_testkit::{
    Process, Program,
    proxy::{Link, Proxy},
};
use tokio::time::{Instant, sleep};

use crate::{
    incident::{Chronicle, Fault, Who},
    logbook::Logbook,
    moment,
};

/// How long a program may take to start once the database is available.
const START: Duration = Duration::from_mins(1);
/// How long a program may take to exit after SIGTERM: its shutdown grace, and waiting for the database.
const END: Duration = Duration::from_secs(30);
const SIGABRT: i32 = 6;

/// Failpoints of the worker (`crates/worker/src/point.rs`), and roughly how often each is passed before the crash.
const POINTS: [(&str, u32); 5] =
    [("claimed", 40), ("sent", 200), ("answered", 200), ("finishing", 60), ("recorded", 60)];

/// How to reach a member while it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Address(Arc<Mutex<Live>>);

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Live {
    pub(crate) process: Option<u32>,
    /// How many processes of this member ran before.
    pub(crate) instance: usize,
    /// The address of the API; `None` for a worker.
    pub(crate) api: Option<SocketAddr>,
}

impl Address {
    pub(crate) fn live(&self) -> Live {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, live: Live) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = live;
    }
}

/// A program of the cluster, with its link to the database.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) who: Who,
    /// `None` for a program without a network between itself and its database.
    link: Option<Proxy>,
    program: Program,
    process: Option<Process>,
    /// The failpoint at which the current process ends itself.
    crash: Option<String>,
    instance: usize,
    address: Address,
    chronicle: Arc<Chronicle>,
    logbook: Arc<Logbook>,
}

impl Member {
    pub(crate) fn new(
        who: Who,
        program: Program,
        link: Option<Proxy>,
        chronicle: &Arc<Chronicle>,
        logbook: &Arc<Logbook>,
    ) -> Self {
        Self {
            who,
            link,
            program,
            process: None,
            crash: None,
            instance: 0,
            address: Address::default(),
            chronicle: Arc::clone(chronicle),
            logbook: Arc::clone(logbook),
        }
    }

    pub(crate) fn address(&self) -> Address {
        self.address.clone()
    }

    /// Starts the program, repeatedly while the database is unavailable. With `crashes`, it may get a failpoint to crash at.
    pub(crate) async fn start(&mut self, crashes: Option<&mut Rng>) {
        let crash = crashes.and_then(|rng| {
            let (point, often) = POINTS[rng.usize(..POINTS.len())];
            (rng.u32(..10) < 7).then(|| (point.to_owned(), rng.u32(..often)))
        });
        let program = match &crash {
            Some((point, times)) => {
                self.program.clone().env("FAILPOINTS", format!("{point}={times}*off->return"))
            }
            None => self.program.clone(),
        };
        self.crash = crash.map(|(point, _)| point);
        let deadline = Instant::now() + START;
        loop {
            let mut process = program.start();
            // A worker logs that it is ready; a server is ready when its API has an address.
            let line = loop {
                let ready =
                    |line: &String| line.contains("worker started") || line.contains("\"service\":\"api\"");
                match process.stderr().into_iter().find(ready) {
                    Some(line) => break Some(line),
                    None if !process.is_running() => break None,
                    None if Instant::now() > deadline => break None,
                    None => sleep(Duration::from_millis(20)).await,
                }
            };
            if let Some(line) = line {
                let api = api_address(&line);
                self.address.set(Live { process: process.id(), instance: self.instance, api });
                self.process = Some(process);
                return;
            }
            // Without its database a program exits with an error, and its supervisor restarts it.
            let last = process.stderr().join("\n");
            if Instant::now() > deadline {
                self.chronicle.violation(format!("{} did not start: {last}", self.who));
                return;
            }
            self.logbook.keep(self.who, self.instance, process.stderr());
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Whether the process has a failpoint to crash at.
    pub(crate) fn is_armed(&self) -> bool {
        self.crash.is_some()
    }

    /// Whether the process runs. Records a violation if it ended for no known reason.
    pub(crate) async fn lives(&mut self) -> bool {
        let Some(process) = &mut self.process else { return false };
        if process.is_running() {
            return true;
        }
        let status = process.wait(END).await;
        let now = moment::now();
        match self.crash.take() {
            Some(point) if status.signal() == Some(SIGABRT) => {
                self.chronicle.note(Fault::Crash(point), Some(self.who), now - 100);
            }
            _ => {
                let last = process.stderr();
                let last = last[last.len().saturating_sub(5)..].join("\n");
                self.chronicle.violation(format!("{} exited on its own with {status}: {last}", self.who));
            }
        }
        self.ended();
        false
    }

    pub(crate) async fn kill(&mut self) {
        if !self.lives().await {
            return;
        }
        let Some(process) = &mut self.process else { return };
        let from = moment::now();
        process.signal("KILL").await;
        process.wait(END).await;
        self.chronicle.note(Fault::Kill, Some(self.who), from);
        self.ended();
    }

    /// Sends SIGTERM; the program has to exit in time with status 0.
    pub(crate) async fn terminate(&mut self) {
        if !self.lives().await {
            return;
        }
        let Some(process) = &mut self.process else { return };
        let from = moment::now();
        process.terminate().await;
        let started = Instant::now();
        while process.is_running() && started.elapsed() < END {
            sleep(Duration::from_millis(20)).await;
        }
        if process.is_running() {
            self.chronicle.violation(format!("{} is still running {END:?} after SIGTERM", self.who));
            process.signal("KILL").await;
        }
        let status = process.wait(END).await;
        let crashed = self.crash.is_some() && status.signal() == Some(SIGABRT);
        if !status.success() && !crashed {
            self.chronicle.violation(format!("{} exited with {status} after SIGTERM", self.who));
        }
        self.chronicle.note(Fault::Terminate, Some(self.who), from);
        self.ended();
    }

    /// Sends SIGSTOP or SIGCONT.
    pub(crate) async fn signal(&mut self, name: &str) {
        if let Some(process) = self.process.as_mut().filter(|process| process.id().is_some()) {
            process.signal(name).await;
        }
    }

    /// Changes the state of its link to the database.
    pub(crate) fn link(&self, link: Link) {
        if let Some(own) = &self.link {
            own.set(link);
        }
    }

    pub(crate) fn chronicle(&self) -> Arc<Chronicle> {
        Arc::clone(&self.chronicle)
    }

    /// Hands its logs so far to the checks.
    pub(crate) fn archive(&mut self) {
        if let Some(process) = &self.process {
            self.logbook.keep(self.who, self.instance, process.stderr());
        }
    }

    fn ended(&mut self) {
        self.archive();
        self.process = None;
        self.crash = None;
        self.instance += 1;
        self.address.set(Live::default());
    }
}

/// The address in a JSON log line.
fn api_address(line: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line["address"].as_str()?.parse().ok()
}
