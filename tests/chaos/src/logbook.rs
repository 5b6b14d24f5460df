//! The programs' logs, and the attempts that workers logged there.

use std::{
    fs, io,
    path::Path,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use postrider_core::DeliveryId;
use serde_json::Value;
use uuid::Uuid;

use crate::incident::Who;

/// The logs of all processes, running and ended.
#[derive(Debug, Default)]
pub(crate) struct Logbook {
    logs: Mutex<Vec<Log>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) who: Who,
    /// Which process of this member it is, counted from 0.
    pub(crate) instance: usize,
    lines: Vec<String>,
}

/// An attempt whose end a worker logged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoggedAttempt {
    /// When the line was written.
    pub(crate) at: i64,
    pub(crate) started_at: i64,
    pub(crate) delivery: Uuid,
    pub(crate) number: i32,
    pub(crate) status: Option<i64>,
}

impl Logbook {
    pub(crate) fn keep(&self, who: Who, instance: usize, lines: Vec<String>) {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).push(Log { who, instance, lines });
    }

    pub(crate) fn logs(&self) -> Vec<Log> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes each log to a file of its own.
    pub(crate) fn write_to(&self, folder: &Path) -> io::Result<()> {
        for log in self.logs() {
            let path = folder.join(format!("{}-{}.log", log.who, log.instance));
            fs::write(path, log.lines.join("\n"))?;
        }
        Ok(())
    }

    /// The first line that reports a panic.
    pub(crate) fn panic(&self) -> Option<String> {
        let logs = self.logs();
        logs.iter().find_map(|log| {
            let line = log.lines.iter().find(|line| line.contains("panicked at"))?;
            Some(format!("{}: {line}", log.who))
        })
    }
}

impl Log {
    /// The attempts in this log.
    pub(crate) fn attempts(&self) -> impl Iterator<Item = LoggedAttempt> + '_ {
        self.lines.iter().filter(|line| line.contains("\"message\":\"attempt\"")).filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let at = humantime::parse_rfc3339(line["timestamp"].as_str()?).ok()?;
            let delivery: DeliveryId = line["delivery"].as_str()?.parse().ok()?;
            Some(LoggedAttempt {
                at: millis(at)?,
                started_at: line["started_at"].as_i64()?,
                delivery: delivery.uuid(),
                number: i32::try_from(line["attempt"].as_i64()?).ok()?,
                status: line["status"].as_i64(),
            })
        })
    }
}

fn millis(at: SystemTime) -> Option<i64> {
    i64::try_from(at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_millis()).ok()
}
