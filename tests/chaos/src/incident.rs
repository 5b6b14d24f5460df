//! The faults that happened: which, to whom, and when.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::moment;

/// A program of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Who {
    Server(usize),
    Worker(usize),
    /// `postrider dev`: server and worker in one process.
    Whole,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(index) => write!(f, "server-{index}"),
            Self::Worker(index) => write!(f, "worker-{index}"),
            Self::Whole => f.write_str("whole"),
        }
    }
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// SIGKILL.
    Kill,
    /// It crashed at a failpoint.
    Crash(String),
    /// SIGTERM.
    Terminate,
    /// SIGSTOP, then SIGCONT.
    Stop,
    /// Its link to the database hung.
    Partition,
    /// Its link to the database was cut.
    Cut,
    /// PostgreSQL ended connections.
    Backends,
    /// PostgreSQL was crashed and restarted.
    Database,
    /// PgBouncer was killed and restarted.
    Pooler,
    /// Redis, which has the queue, or one master of its cluster, was killed and restarted.
    Queue,
    /// PostgreSQL refused writes, as a server does that has become a standby.
    ReadOnly,
    /// Clients of ours took all connections that the server allows.
    Crowd,
    /// PostgreSQL closed idle connections.
    Idle,
    /// The file system with the data was full.
    Full,
    /// The disk failed some writes and syncs.
    Broken,
    /// A column was added to each main table, or removed again.
    Column,
    /// Partitions were added and dropped.
    Days,
    /// Another client kept a transaction open.
    Snapshot,
    /// Another process held SQLite's write lock.
    Locked,
}

impl Fault {
    /// Whether the fault ended the process.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Kill | Self::Crash(_) | Self::Terminate)
    }

    /// Whether the fault keeps all programs from writing while it lasts. What only breaks connections does not: programs
    /// open new ones.
    pub(crate) fn stops_writing(&self) -> bool {
        match self {
            Self::Database
            | Self::Pooler
            | Self::Queue
            | Self::ReadOnly
            | Self::Crowd
            | Self::Full
            | Self::Broken
            | Self::Column
            | Self::Locked => true,
            Self::Kill
            | Self::Crash(_)
            | Self::Terminate
            | Self::Stop
            | Self::Partition
            | Self::Cut
            | Self::Backends
            | Self::Idle
            | Self::Days
            | Self::Snapshot => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill -9",
            Self::Crash(point) => return write!(f, "crash at `{point}`"),
            Self::Terminate => "SIGTERM",
            Self::Stop => "SIGSTOP, SIGCONT",
            Self::Partition => "partition from PostgreSQL",
            Self::Cut => "connections cut",
            Self::Backends => "backends ended",
            Self::Database => "PostgreSQL killed and restarted",
            Self::Pooler => "PgBouncer killed and restarted",
            Self::Queue => "Redis killed and restarted",
            Self::ReadOnly => "PostgreSQL read-only",
            Self::Crowd => "all connections taken",
            Self::Idle => "idle connections closed",
            Self::Full => "disk full",
            Self::Broken => "writes and syncs failed",
            Self::Column => "columns added or removed",
            Self::Days => "partitions added and dropped",
            Self::Snapshot => "transaction held open",
            Self::Locked => "write lock held by another process",
        })
    }
}

/// A fault with its period. Times are Unix milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Incident {
    pub(crate) fault: Fault,
    /// The program; `None` for the database, and so for all programs.
    pub(crate) who: Option<Who>,
    pub(crate) from: i64,
    pub(crate) until: i64,
}

/// All faults, and all violations found during the run.
#[derive(Debug, Default)]
pub(crate) struct Chronicle {
    incidents: Mutex<Vec<Incident>>,
    violations: Mutex<Vec<String>>,
}

impl Chronicle {
    /// Records a fault that began at `from` and ends now.
    pub(crate) fn note(&self, fault: Fault, who: Option<Who>, from: i64) {
        lock(&self.incidents).push(Incident { fault, who, from, until: moment::now() });
    }

    pub(crate) fn violation(&self, text: String) {
        let mut violations = lock(&self.violations);
        if !violations.contains(&text) {
            println!("chaos: VIOLATION: {text}");
        }
        violations.push(text);
    }

    pub(crate) fn incidents(&self) -> Vec<Incident> {
        lock(&self.incidents).clone()
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    /// How often each fault happened, to servers and to workers.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for incident in self.incidents() {
            let name = match incident.who {
                Some(Who::Server(_)) => format!("server: {}", incident.fault),
                Some(Who::Worker(_)) => format!("worker: {}", incident.fault),
                Some(Who::Whole) | None => incident.fault.to_string(),
            };
            *counts.entry(name).or_default() += 1;
        }
        counts
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
