//! What was deleted is gone, and nothing else is. That no attempt or job of it is left is found with the others'.

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

/// Those whose deletion was acknowledged, and that are there.
fn back(deletions: &BTreeMap<Uuid, Deletion>, there: impl Fn(&Uuid) -> bool) -> Vec<String> {
    let done = deletions.iter().filter(|(_, deletion)| **deletion == Deletion::Acknowledged);
    done.filter(|(id, _)| there(id))
        .map(|(id, _)| format!("delivery {id} was deleted, and is there"))
        .collect()
}

/// Those that are gone though nobody asked for it, or that were no dead letters.
fn unasked(facts: &Facts, deletions: &BTreeMap<Uuid, Deletion>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, deleted) in &facts.deleted {
        if !deletions.contains_key(id) {
            wrong.push(format!("LOST: delivery {id} is gone, and nobody asked for that: {deleted:?}"));
        }
        if deleted.status != DEAD {
            wrong.push(format!("delivery {id} was deleted, and was no dead letter: {deleted:?}"));
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
        assert!(back(&deletions, |id| *id == asked).is_empty(), "its answer was lost: it may be either");
        assert_eq!(back(&deletions, |id| *id == gone).len(), 1);
    }
}
