//! The final report of a run.

use std::{cmp::Reverse, collections::BTreeMap, env, fs, path::PathBuf, process, time::Duration};

use crate::{
    checks::{Evidence, Repeats},
    facts::DEAD,
};

/// How many kinds of violations are printed, with one example each.
const PRINTED_KINDS: usize = 20;
/// How much of an example is printed.
const PRINTED_LENGTH: usize = 600;

/// Prints the violations and saves the logs of the run. Returns whether there are none.
pub(crate) fn violations(violations: &[String], seed: u64, evidence: Evidence<'_>) -> bool {
    if violations.is_empty() {
        return true;
    }
    for (count, example) in kinds(violations).into_iter().take(PRINTED_KINDS) {
        let end = example.char_indices().nth(PRINTED_LENGTH).map_or(example.len(), |(end, _)| end);
        eprintln!("chaos: WRONG: {count} × {}", &example[..end]);
    }
    let folder = save_logs(violations, seed, evidence);
    eprintln!("chaos: {} violations; logs and incidents are in {}", violations.len(), folder.display());
    false
}

/// How often each kind of violation was found, and the first one of it; losses first. Violations are of one kind if they
/// differ in numbers and ids only.
fn kinds(violations: &[String]) -> Vec<(usize, &str)> {
    let mut kinds: BTreeMap<String, (usize, &str)> = BTreeMap::new();
    for violation in violations {
        // What follows a colon shows the details of one case.
        let rule = violation
            .split_once(": ")
            .filter(|(rule, _)| *rule != "LOST")
            .map_or(&**violation, |(rule, _)| rule);
        let is_id = |word: &&str| word.chars().any(|letter| letter.is_ascii_digit());
        let kind = rule.split_whitespace().filter(|word| !is_id(word)).take(14).collect::<Vec<_>>().join(" ");
        kinds.entry(kind).or_insert((0, violation)).0 += 1;
    }
    let mut kinds: Vec<_> = kinds.into_values().collect();
    kinds.sort_by_key(|(count, example)| (!example.contains("LOST"), Reverse(*count)));
    kinds
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
    println!(
        "repeats     {}, of {} lost claims; {} attempts sent their request again",
        repeats.found, repeats.allowed, repeats.resent
    );
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

/// Writes the logs, the incidents and the violations to a folder, for the search for a cause.
fn save_logs(violations: &[String], seed: u64, evidence: Evidence<'_>) -> PathBuf {
    let folder = env::temp_dir().join(format!("postrider-chaos-{seed}-{}", process::id()));
    let mut incidents = evidence.chronicle.incidents();
    incidents.sort_by_key(|incident| incident.from);
    let lines: Vec<String> = incidents.iter().map(|incident| format!("{incident:?}")).collect();
    let saved = fs::create_dir_all(&folder)
        .and_then(|()| fs::write(folder.join("incidents"), lines.join("\n")))
        .and_then(|()| fs::write(folder.join("violations"), violations.join("\n")))
        .and_then(|()| evidence.logbook.write_to(&folder));
    if let Err(error) = saved {
        eprintln!("chaos: cannot save the logs: {error}");
    }
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_are_counted_by_kind_and_losses_come_first() {
        let found =
            ["delivery 1a has not ended: Delivery { a: 1 }", "delivery 2 has not ended: Delivery { a: 2 }"];
        let found =
            found.into_iter().chain(["LOST: event 7, acknowledged, does not exist"]).map(str::to_owned);
        let found: Vec<String> = found.collect();
        assert_eq!(kinds(&found), [(1, &*found[2]), (2, &*found[0])]);
    }
}
