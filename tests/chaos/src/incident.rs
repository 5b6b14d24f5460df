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
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(index) => write!(f, "server-{index}"),
            Self::Worker(index) => write!(f, "worker-{index}"),
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
}

impl Fault {
    /// Whether the fault ended the process.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Kill | Self::Crash(_) | Self::Terminate)
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
        println!("chaos: VIOLATION: {text}");
        lock(&self.violations).push(text);
    }

    pub(crate) fn incidents(&self) -> Vec<Incident> {
        lock(&self.incidents).clone()
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    /// Whether this fault has not happened yet.
    pub(crate) fn is_without(&self, fault: &Fault) -> bool {
        !lock(&self.incidents).iter().any(|incident| incident.fault == *fault)
    }

    /// How often each fault happened, to servers and to workers.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for incident in self.incidents() {
            let name = match incident.who {
                Some(Who::Server(_)) => format!("server: {}", incident.fault),
                Some(Who::Worker(_)) => format!("worker: {}", incident.fault),
                None => incident.fault.to_string(),
            };
            *counts.entry(name).or_default() += 1;
        }
        counts
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
