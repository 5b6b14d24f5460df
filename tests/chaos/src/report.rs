//! The final report of a run.

use std::{env, fs, path::PathBuf, process, time::Duration};

use crate::{
    checks::{Evidence, Repeats},
    facts::DEAD,
};

/// How many violations are printed.
const PRINTED_VIOLATIONS: usize = 20;

/// Prints the violations and saves the logs of the run. Returns whether there are none.
pub(crate) fn violations(violations: &[String], seed: u64, evidence: Evidence<'_>) -> bool {
    if violations.is_empty() {
        return true;
    }
    for violation in violations.iter().take(PRINTED_VIOLATIONS) {
        eprintln!("chaos: WRONG: {violation}");
    }
    let folder = save_logs(seed, evidence);
    eprintln!("chaos: {} violations; logs and incidents are in {}", violations.len(), folder.display());
    false
}

/// Prints what happened in the run.
pub(crate) fn print(evidence: Evidence<'_>, repeats: Repeats, settled: Duration) {
    let facts = evidence.facts;
    let entries = evidence.ledger.entries();
    let acknowledged = entries.iter().filter(|entry| entry.acknowledged.is_some()).count();
    let attempts: usize = facts.attempts.values().map(Vec::len).sum();
    let requests: usize = facts.arrivals.values().map(Vec::len).sum();
    let dead = facts.deliveries.values().filter(|delivery| delivery.status == DEAD).count();
    println!(
        "events      {} requested, {acknowledged} acknowledged, {} stored",
        entries.len(),
        facts.events.len()
    );
    for (answer, count) in evidence.ledger.answers() {
        println!("            {count:>6} × {answer}");
    }
    println!("deliveries  {}, of which dead {dead}; {} deleted", facts.deliveries.len(), facts.deleted.len());
    println!("attempts    {attempts} recorded, {requests} requests received");
    println!("repeats     {}, of {} lost claims", repeats.found, repeats.allowed);
    println!("operator");
    for (what, count) in evidence.operator.done() {
        println!("            {count:>6} × {what}");
    }
    println!("faults");
    for (fault, count) in evidence.chronicle.counts() {
        println!("            {count:>6} × {fault}");
    }
    for ((who, instance), memory) in evidence.watch.memory() {
        if let (Some(first), Some(last), true) = (memory.first(), memory.last(), memory.len() > 10) {
            println!("memory      {who} (process {instance}): {first} to {last} KiB in {} s", memory.len());
        }
    }
    println!("settled     in {settled:.1?}");
}

/// Writes the logs and the incidents to a folder, for the search for a cause.
fn save_logs(seed: u64, evidence: Evidence<'_>) -> PathBuf {
    let folder = env::temp_dir().join(format!("postrider-chaos-{seed}-{}", process::id()));
    let mut incidents = evidence.chronicle.incidents();
    incidents.sort_by_key(|incident| incident.from);
    let lines: Vec<String> = incidents.iter().map(|incident| format!("{incident:?}")).collect();
    let saved = fs::create_dir_all(&folder)
        .and_then(|()| fs::write(folder.join("incidents"), lines.join("\n")))
        .and_then(|()| evidence.logbook.write_to(&folder));
    if let Err(error) = saved {
        eprintln!("chaos: cannot save the logs: {error}");
    }
    folder
}
