//! Requests without a recorded attempt: only those in flight during a fault are allowed.

use std::collections::HashMap;

use super::Evidence;
use crate::{
    cluster::{LEASE, REQUEST_TIMEOUT},
    facts::{Attempt, Facts},
    incident::{Incident, Who},
    logbook::LoggedAttempt,
    moment::millis,
};

/// Allowed between an attempt's recorded start and the start of the clock that measures it.
const MEASURING: i64 = 250;
/// Allowed between an attempt's end and its record while there is no fault.
const RECORDING: i64 = 1500;
/// Allowed between the end of a fault and normal operation: back-offs and pools take a moment.
const RECOVERY: i64 = 2500;

/// How many requests were repeats, and how many may have been.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Repeats {
    /// Requests without a recorded attempt.
    pub(crate) found: u64,
    /// Rescued and released claims, each of which may have made one request.
    pub(crate) allowed: u64,
    /// Attempts whose request was sent a second time, as they recorded.
    pub(crate) resent: u64,
}

pub(super) fn check(evidence: Evidence<'_>) -> (Repeats, Vec<String>) {
    let incidents = evidence.chronicle.incidents();
    let mut wrong = Vec::new();
    let mut repeats = Repeats::default();
    for (id, delivery) in &evidence.facts.deliveries {
        let attempts = evidence.facts.attempts_of(*id);
        let (unrecorded, invented) = unmatched(evidence.facts.arrivals_of(delivery), attempts);
        repeats.found += unrecorded.len() as u64;
        let lost = evidence.facts.claims_of(*id).iter().filter(|claim| claim.is_lost()).count();
        repeats.allowed += lost as u64;
        repeats.resent += attempts.iter().filter(|attempt| attempt.resent).count() as u64;
        // An attempt that was not recorded may have sent its request a second time, too.
        let resets =
            evidence.facts.subscribers.get(&delivery.subscriber).is_some_and(|one| one.resets_connections());
        if evidence.knows_claims && unrecorded.len() > if resets { 2 * lost } else { lost } {
            wrong.push(format!(
                "delivery {id} had {} surplus requests, but only {lost} of its claims were lost",
                unrecorded.len()
            ));
        }
        let odd = unrecorded.iter().filter(|at| !incidents.iter().any(|incident| may_lose(incident, **at)));
        wrong.extend(odd.map(|at| {
            format!(
                "a request for delivery {id} at {at} was not recorded although there was no fault: {attempts:?}"
            )
        }));
        wrong.extend(invented.iter().map(|one| format!("no receiver got attempt {one:?} of delivery {id}")));
    }
    wrong.extend(dropped(evidence, &incidents));
    (repeats, wrong)
}

/// Returns arrivals without an attempt, and answered attempts without an arrival. An attempt whose request was sent again
/// accounts for two arrivals.
fn unmatched(arrivals: &[i64], attempts: &[Attempt]) -> (Vec<i64>, Vec<Attempt>) {
    let mut free = arrivals.to_vec();
    let mut invented = Vec::new();
    for attempt in attempts {
        let within = attempt.started_at - 5..=attempt.ended_at + MEASURING;
        match free.iter().position(|at| within.contains(at)) {
            Some(place) => {
                free.remove(place);
                if attempt.resent
                    && let Some(second) = free.iter().position(|at| within.contains(at))
                {
                    free.remove(second);
                }
            }
            None if attempt.status.is_some() => invented.push(*attempt),
            None => {}
        }
    }
    (free, invented)
}

fn hurts_workers(incident: &Incident) -> bool {
    match incident.who {
        Some(Who::Server(_)) => false,
        Some(Who::Worker(_) | Who::Whole) => true,
        None => incident.fault.stops_writing(),
    }
}

/// Whether a request that arrived at `at` may have been in flight during the fault.
fn may_lose(incident: &Incident, at: i64) -> bool {
    let timeout = millis(REQUEST_TIMEOUT);
    hurts_workers(incident)
        && (incident.from - timeout - RECORDING..=incident.until + timeout + RECOVERY).contains(&at)
}

/// Attempts whose end a worker logged and that are not recorded although that worker had no fault: another worker has
/// overwritten its claim.
fn dropped(evidence: Evidence<'_>, incidents: &[Incident]) -> Vec<String> {
    let mut told: HashMap<(Who, usize), Vec<LoggedAttempt>> = HashMap::new();
    for log in evidence.logbook.logs() {
        told.entry((log.who, log.instance)).or_default().extend(log.attempts());
    }
    let mut newest: HashMap<Who, usize> = HashMap::new();
    for (who, instance) in told.keys() {
        let newest = newest.entry(*who).or_default();
        *newest = (*newest).max(*instance);
    }
    let mut wrong = Vec::new();
    if told.values().all(Vec::is_empty) {
        wrong.push("no log tells of an attempt: its line has changed".to_owned());
    }
    for ((who, instance), told) in &told {
        let has_ended = newest.get(who).is_some_and(|newest| newest > instance);
        let last = told.iter().map(|told| told.at).max().unwrap_or(0);
        let unrecorded_from = unrecorded_from(last, incidents);
        let hurt = hurt(*who, incidents);
        for told in told.iter().filter(|told| !is_recorded(evidence.facts, told)) {
            let with_its_end = has_ended && told.at >= unrecorded_from;
            let while_hurt = hurt.iter().any(|(from, until)| (*from..=*until).contains(&told.at));
            if !with_its_end && !while_hurt {
                wrong.push(format!(
                    "{who} had no fault, but its attempt {} of delivery {} at {} ({:?}) is not recorded: {:?}",
                    told.number,
                    told.delivery,
                    told.at,
                    told.status,
                    evidence.facts.attempts_of(told.delivery),
                ));
            }
        }
    }
    wrong
}

/// Since when outcomes may have been waiting to be recorded that a worker lost when it ended or a fault began at `end`: a
/// moment, or as long as the database, or another worker stopped inside a transaction, made it wait.
fn unrecorded_from(end: i64, incidents: &[Incident]) -> i64 {
    let from = end - RECORDING;
    let holds_up = |incident: &&Incident| {
        hurts_workers(incident)
            && !incident.fault.is_end()
            && incident.from <= end
            && incident.until + RECOVERY >= from
    };
    let held_up = incidents.iter().filter(holds_up).map(|incident| incident.from - RECORDING);
    held_up.chain([from]).min().unwrap_or(from)
}

fn is_recorded(facts: &Facts, told: &LoggedAttempt) -> bool {
    // It may have been recorded before its delivery was deleted.
    if facts.deleted.contains_key(&told.delivery) {
        return true;
    }
    // A late attempt of a delivery that was restarted gets its number when it is recorded.
    let anew = facts.deliveries.get(&told.delivery).is_some_and(|delivery| delivery.round_start > 0);
    facts.attempts_of(told.delivery).iter().any(|attempt| {
        (anew || attempt.number == told.number)
            && attempt.status.map(i64::from) == told.status
            && attempt.started_at == told.started_at
    })
}

/// When a worker may have lost leases because of faults: they kept it from the database so long in total
/// that the rest of a lease may have expired.
fn hurt(who: Who, incidents: &[Incident]) -> Vec<(i64, i64)> {
    let kept_away = |incident: &&Incident| {
        (incident.who == Some(who) && !incident.fault.is_end()) || incident.fault.stops_writing()
    };
    let mut spans: Vec<(i64, i64)> =
        incidents.iter().filter(kept_away).map(|one| (one.from, one.until + RECOVERY)).collect();
    spans.sort_unstable();
    let mut together: Vec<(i64, i64)> = Vec::new();
    for (from, until) in spans {
        match together.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(until),
            _ => together.push((from, until)),
        }
    }
    // Leases are extended every third of their length.
    let rest = millis(LEASE) * 2 / 3;
    together.retain(|(from, until)| until - from >= rest);
    let timeout = millis(REQUEST_TIMEOUT);
    together.iter().map(|(from, until)| (unrecorded_from(*from, incidents), until + timeout)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::Fault;

    fn incident(fault: Fault, who: Option<Who>, from: i64, until: i64) -> Incident {
        Incident { fault, who, from, until }
    }

    #[test]
    fn each_attempt_accounts_for_one_arrival() {
        let attempt = |started_at, status| Attempt {
            number: 1,
            started_at,
            ended_at: started_at + 100,
            status,
            resent: false,
        };
        let (free, invented) =
            unmatched(&[1010, 1020, 5000], &[attempt(1000, Some(200)), attempt(9000, None)]);
        assert_eq!(free, [1020, 5000]);
        assert!(invented.is_empty(), "a failed attempt may not have arrived");
        assert_eq!(unmatched(&[], &[attempt(1000, Some(500))]).1.len(), 1);
        let resent = Attempt { resent: true, ..attempt(1000, Some(200)) };
        assert_eq!(unmatched(&[1010, 1020, 1030], &[resent]).0, [1030], "it accounts for two");
    }

    #[test]
    fn a_worker_is_hurt_by_what_keeps_it_from_the_database_long_enough() {
        let (me, other) = (Who::Worker(0), Who::Worker(1));
        let short = incident(Fault::Stop, Some(me), 0, 500);
        let long = incident(Fault::Stop, Some(me), 20_000, 26_000);
        let others = incident(Fault::Stop, Some(other), 50_000, 60_000);
        let all = [short, long, others, incident(Fault::Backends, None, 80_000, 90_000)];
        assert_eq!(hurt(me, &all), [(18_500, 30_500)]);
        let both = [incident(Fault::Cut, Some(me), 0, 800), incident(Fault::Database, None, 900, 2000)];
        assert_eq!(hurt(me, &both), [(-1500, 6500)]);
        let held_up = [incident(Fault::Stop, Some(other), 19_000, 19_500), all[1].clone()];
        assert_eq!(hurt(me, &held_up), [(17_500, 30_500)]);
    }

    #[test]
    fn a_worker_takes_with_it_what_others_kept_it_from_recording() {
        let stop = |from, until| incident(Fault::Stop, Some(Who::Worker(1)), from, until);
        assert_eq!(unrecorded_from(10_000, &[]), 8500);
        assert_eq!(unrecorded_from(10_000, &[stop(9000, 20_000)]), 7500);
        assert_eq!(unrecorded_from(10_000, &[stop(0, 5000)]), 8500);
        assert_eq!(unrecorded_from(10_000, &[stop(11_000, 12_000)]), 8500);
    }
}
