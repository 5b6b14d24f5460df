//! Processor time and memory of the programs, as counted by the kernel (proc(5)).

use std::{collections::BTreeMap, fs};

/// Clock ticks per second in `/proc/<pid>/stat`: a constant of Linux's interface on all platforms.
const TICKS: f64 = 100.0;

/// Processor seconds of a process and of its ended children.
pub(crate) fn cpu_seconds(process: u32) -> f64 {
    let Some(stat) = Stat::read(process) else { return 0.0 };
    stat.own + stat.ended_children
}

/// Processor seconds of a process and all its children, including ended ones.
pub(crate) fn family_cpu_seconds(parent: u32) -> f64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let children: f64 =
        ids.filter_map(Stat::read).filter(|stat| stat.parent == parent).map(|stat| stat.own).sum();
    children + cpu_seconds(parent)
}

/// The peak memory of a process, in MiB.
pub(crate) fn peak_memory(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let fields: BTreeMap<&str, &str> = status.lines().filter_map(|line| line.split_once(':')).collect();
    let peak = fields.get("VmHWM").and_then(|value| value.trim().strip_suffix("kB"));
    peak.and_then(|value| value.trim().parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

struct Stat {
    parent: u32,
    own: f64,
    ended_children: f64,
}

impl Stat {
    fn read(process: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The process name before the numbers is in parentheses and may contain anything.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        let ticks = |place: usize| fields.get(place)?.parse::<f64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: (ticks(11)? + ticks(12)?) / TICKS,
            ended_children: (ticks(13)? + ticks(14)?) / TICKS,
        })
    }
}
