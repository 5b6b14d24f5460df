//! Nothing acknowledged is lost, and nothing exists in part.

use std::collections::HashMap;

use uuid::Uuid;

use super::Evidence;
use crate::facts::{ATTEMPTS_USED_UP, DEAD, Delivery, Facts, RESCUED_TOO_OFTEN, SUCCEEDED};

pub(super) fn check(evidence: Evidence<'_>) -> Vec<String> {
    let facts = evidence.facts;
    // Deleted deliveries count as having existed.
    let mut deliveries: HashMap<Uuid, usize> = HashMap::new();
    let deleted = facts.deleted.values().map(|delivery| delivery.event);
    for event in facts.deliveries.values().map(|delivery| delivery.event).chain(deleted) {
        *deliveries.entry(event).or_default() += 1;
    }
    let mut wrong = acknowledged(evidence, &deliveries);
    wrong.extend(whole(facts, &deliveries));
    wrong.extend(facts.deliveries.iter().filter_map(|(id, delivery)| {
        let problem = ended(facts, *id, delivery)?;
        Some(format!("delivery {id} {problem}: {delivery:?}"))
    }));
    wrong
}

/// An acknowledged event exists with as many deliveries as the answer said; an event with a key exists once.
fn acknowledged(evidence: Evidence<'_>, deliveries: &HashMap<Uuid, usize>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut events: HashMap<usize, usize> = HashMap::new();
    for event in evidence.facts.events.values() {
        *events.entry(event.number).or_default() += 1;
    }
    for (number, entry) in evidence.ledger.entries().iter().enumerate() {
        let made = events.get(&number).copied().unwrap_or(0);
        let most = if entry.keyed { 1 } else { entry.requests as usize };
        if made > most {
            wrong.push(format!("event {number} exists {made} times after {} requests", entry.requests));
        }
        let Some(acknowledged) = entry.acknowledged else {
            if entry.keyed {
                wrong.push(format!("event {number} was not acknowledged in {} requests", entry.requests));
            }
            continue;
        };
        let event = evidence.facts.events.get(&acknowledged.event);
        if event.is_none_or(|event| event.number != number) {
            wrong.push(format!("LOST: event {number}, acknowledged as {acknowledged:?}, does not exist"));
            continue;
        }
        let deliveries = deliveries.get(&acknowledged.event).copied().unwrap_or(0);
        let jobs_agree = if acknowledged.continues {
            acknowledged.jobs < deliveries
        } else {
            acknowledged.jobs == deliveries
        };
        if deliveries != acknowledged.subscribers || !jobs_agree {
            wrong.push(format!(
                "LOST: event {number}, acknowledged as {acknowledged:?}, has {deliveries} deliveries"
            ));
        }
    }
    wrong
}

/// Acknowledged or not: an event has all its deliveries, a delivery has its event, and a request has both.
fn whole(facts: &Facts, deliveries: &HashMap<Uuid, usize>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, event) in &facts.events {
        let made = deliveries.get(id).copied().unwrap_or(0);
        if usize::try_from(event.subscribers) != Ok(made) {
            wrong.push(format!(
                "event {id} found {} subscribers but has {made} deliveries",
                event.subscribers
            ));
        }
    }
    let without = facts.deliveries.values().filter(|delivery| !facts.events.contains_key(&delivery.event));
    wrong.extend(without.map(|delivery| format!("no event exists for {delivery:?}")));
    for (path, event) in facts.arrivals.keys() {
        if !facts.events.contains_key(event) {
            wrong.push(format!("{path} received event {event}, which does not exist"));
        }
    }
    if facts.nameless > 0 {
        wrong.push(format!("{} requests had no webhook-id", facts.nameless));
    }
    wrong
}

/// A delivery has succeeded, or is dead for a valid reason.
fn ended(facts: &Facts, id: Uuid, delivery: &Delivery) -> Option<&'static str> {
    let arrived = facts.attempts_of(id).iter().any(|attempt| attempt.status == Some(200));
    let of_round = delivery.attempts - delivery.round_start;
    let steady = facts.subscribers.get(&delivery.subscriber).is_some_and(|one| one.is_steady());
    let max = facts.max_attempts(delivery);
    match (delivery.status, delivery.dead_reason) {
        (SUCCEEDED, _) if facts.arrivals_of(delivery).is_empty() => {
            Some("LOST: succeeded, but no request arrived")
        }
        (SUCCEEDED, _) if !arrived => Some("succeeded, but none of its attempts did"),
        (DEAD, Some(ATTEMPTS_USED_UP)) if of_round != max => Some("is dead before its attempts were used up"),
        (DEAD, Some(ATTEMPTS_USED_UP)) if steady => Some("is dead although its receiver always answers 200"),
        (SUCCEEDED, _) | (DEAD, Some(ATTEMPTS_USED_UP | RESCUED_TOO_OFTEN)) => None,
        (DEAD, _) => Some("is dead for no valid reason"),
        _ => Some("has not ended"),
    }
}
