//! Deleted dead letters are gone, and nothing else is. Other checks find attempts or jobs that a deletion left behind.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Evidence;
use crate::{
    facts::{DEAD, Facts},
    operator::Deletion,
};

pub(super) fn check(evidence: Evidence<'_>) -> Vec<String> {
    let there = |id: &Uuid| evidence.facts.deliveries.contains_key(id);
    let mut wrong = back(&evidence.operator.deletions(), there);
    wrong.extend(unasked(evidence.facts, &evidence.operator.deletions()));
    wrong
}

/// Deliveries that still exist although their deletion was acknowledged.
fn back(deletions: &BTreeMap<Uuid, Deletion>, there: impl Fn(&Uuid) -> bool) -> Vec<String> {
    let done = deletions.iter().filter(|(_, deletion)| **deletion == Deletion::Acknowledged);
    done.filter(|(id, _)| there(id))
        .map(|(id, _)| format!("delivery {id} was deleted but still exists"))
        .collect()
}

/// Deliveries that are gone without a request, or that were not dead letters.
fn unasked(facts: &Facts, deletions: &BTreeMap<Uuid, Deletion>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, deleted) in &facts.deleted {
        if !deletions.contains_key(id) {
            wrong.push(format!("LOST: delivery {id} is gone without a request to delete it: {deleted:?}"));
        }
        if deleted.status != DEAD {
            wrong.push(format!("delivery {id} was deleted although it was not a dead letter: {deleted:?}"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_acknowledged_has_to_be_gone() {
        let [gone, asked] = [1, 2].map(Uuid::from_u128);
        let deletions = BTreeMap::from([(gone, Deletion::Acknowledged), (asked, Deletion::Asked)]);
        assert!(back(&deletions, |id| *id == asked).is_empty(), "after a lost answer either is allowed");
        assert_eq!(back(&deletions, |id| *id == gone).len(), 1);
    }
}
