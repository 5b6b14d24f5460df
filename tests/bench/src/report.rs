//! The results as a table and as JSON.

use std::{fmt, fs, process::Command};

use serde_json::{Value, json};

use crate::{
    deployment::{Cpu, Deployment},
    latency::Latencies,
};

/// The results, and the correctness checks that failed.
#[derive(Debug)]
pub(crate) struct Report {
    machine: String,
    commit: String,
    lines: Vec<Line>,
    broken: Vec<String>,
}

#[derive(Debug)]
struct Line {
    bench: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
    goal: Option<Goal>,
}

/// The goal for a machine with two cores.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtLeast(f64),
    Under(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(goal) => value >= goal,
            Self::Under(goal) => value < goal,
        }
    }
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { machine: machine(), commit: commit(), lines: Vec::new(), broken: Vec::new() }
    }

    pub(crate) fn add(
        &mut self,
        bench: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
    ) {
        self.line(bench, what, value, unit, None);
    }

    pub(crate) fn with_goal(
        &mut self,
        bench: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        goal: Goal,
    ) {
        self.line(bench, what, value, unit, Some(goal));
    }

    /// Adds the median, the 99th percentile and the maximum, in milliseconds.
    pub(crate) fn latencies(
        &mut self,
        bench: &'static str,
        what: &str,
        times: &Latencies,
        goals: Option<(f64, f64)>,
    ) {
        let goal = |of: fn((f64, f64)) -> f64| goals.map(|goals| Goal::Under(of(goals)));
        self.line(bench, format!("{what}, p50"), times.percentile(50.0), "ms", goal(|(p50, _)| p50));
        self.line(bench, format!("{what}, p99"), times.percentile(99.0), "ms", goal(|(_, p99)| p99));
        self.line(bench, format!("{what}, worst"), times.percentile(100.0), "ms", None);
    }

    /// Adds processor seconds per thousand deliveries, and peak memory.
    pub(crate) fn usage(&mut self, bench: &'static str, deployment: &Deployment, cpu: Cpu, deliveries: f64) {
        for (part, seconds) in [
            ("server", cpu.server),
            ("worker", cpu.worker),
            ("PostgreSQL", cpu.postgres),
            ("Redis", cpu.redis),
            ("load and receiver", cpu.bench),
        ] {
            if part == "Redis" && seconds == 0.0 {
                continue;
            }
            self.add(
                bench,
                format!("processor time of {part}, per 1,000 deliveries"),
                seconds / deliveries * 1e6,
                "ms",
            );
        }
        let (server, worker) = deployment.peak_memory();
        self.with_goal(bench, "memory of the server, peak", server, "MiB", Goal::Under(80.0));
        self.with_goal(bench, "memory of the worker, peak", worker, "MiB", Goal::Under(80.0));
    }

    /// Checks the correctness of a run, never its speed.
    pub(crate) fn must(&mut self, held: bool, otherwise: impl Into<String>) {
        if !held {
            self.broken.push(otherwise.into());
        }
    }

    pub(crate) fn held(&self) -> bool {
        self.broken.is_empty()
    }

    pub(crate) fn json(&self) -> Value {
        let lines = self.lines.iter().map(|line| {
            json!({
                "bench": line.bench, "what": line.what, "value": line.value, "unit": line.unit,
                "goal": line.goal.map(|goal| goal.to_string()),
                "met": line.goal.map(|goal| goal.is_met(line.value)),
            })
        });
        json!({
            "machine": self.machine, "commit": self.commit,
            "results": lines.collect::<Vec<_>>(), "broken": self.broken,
        })
    }

    fn line(
        &mut self,
        bench: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        goal: Option<Goal>,
    ) {
        let line = Line { bench, what: what.into(), value, unit, goal };
        eprintln!("bench: {line}");
        self.lines.push(line);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Machine: {}; commit {}.\n", self.machine, self.commit)?;
        writeln!(f, "| bench | what | result | goal |\n|---|---|---:|---|")?;
        for line in &self.lines {
            let goal = match line.goal {
                Some(goal) if goal.is_met(line.value) => format!("{goal}: met"),
                Some(goal) => format!("{goal}: missed"),
                None => String::new(),
            };
            writeln!(
                f,
                "| {} | {} | {} {} | {goal} |",
                line.bench,
                line.what,
                number(line.value),
                line.unit
            )?;
        }
        for broken in &self.broken {
            writeln!(f, "\nFAILED: {broken}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {} {}", self.bench, self.what, number(self.value), self.unit)
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(goal) => write!(f, "at least {}", number(*goal)),
            Self::Under(goal) => write!(f, "under {}", number(*goal)),
        }
    }
}

/// Formats a value with three significant digits.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        ..1.0 => 3,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!("{cores} cores, {}", model.map_or("unknown model", |(_, model)| model.trim()))
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain"]).is_some_and(|status| !status.is_empty());
    let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    if changed { format!("{commit} with changes") } else { commit }
}
