//! Off means off: once a deactivation is acknowledged, only requests for jobs claimed before it may still begin.

use uuid::Uuid;

use super::Evidence;
use crate::{
    audience::FICKLE,
    cluster::{LEASE, MAX_STANDSTILL, REQUEST_TIMEOUT},
    facts::Claim,
    moment::millis,
    operator::Off,
};

pub(super) fn check(evidence: Evidence<'_>) -> Vec<String> {
    let facts = evidence.facts;
    let is_fickle = |id: &Uuid| facts.subscribers.get(id).is_some_and(|one| one.path == FICKLE);
    let activations: Vec<i64> =
        facts.activations.iter().filter(|(subscriber, _)| is_fickle(subscriber)).map(|(_, at)| *at).collect();
    let mut wrong = Vec::new();
    for off in evidence.operator.offs() {
        let (until, by_itself) = end(off, &activations);
        if by_itself {
            wrong.push(format!("{FICKLE} became active at {until} without a request: {off:?}"));
        }
        let there = facts.deliveries.iter().map(|(id, one)| (*id, one.subscriber, one.event));
        let deleted = facts.deleted.iter().map(|(id, one)| (*id, one.subscriber, one.event));
        for (id, subscriber, event) in there.chain(deleted).filter(|(_, subscriber, _)| is_fickle(subscriber))
        {
            let claims = facts.claims_of(id);
            // A claim that nobody has seen may have begun before.
            let grace =
                if evidence.knows_claims { 0 } else { millis(LEASE + MAX_STANDSTILL + REQUEST_TIMEOUT) };
            for at in intruders(off.from + grace, until, facts.arrivals_at(subscriber, event), claims) {
                wrong.push(format!(
                    "{FICKLE} was inactive ({off:?}) but received delivery {id} at {at}: {claims:?}"
                ));
            }
        }
    }
    wrong
}

/// When the subscriber was active again, and whether that happened without a request: an earlier request to activate
/// it that went unanswered may take effect late.
fn end(off: Off, activations: &[i64]) -> (i64, bool) {
    let early = activations.iter().find(|at| (off.from..off.until).contains(*at));
    (early.copied().unwrap_or(off.until), early.is_some() && !off.in_doubt)
}

/// Requests in that period that no earlier claim explains.
fn intruders(from: i64, until: i64, arrivals: &[i64], claims: &[Claim]) -> Vec<i64> {
    if claims.iter().any(|claim| claim.may_send_from(from)) {
        return Vec::new();
    }
    arrivals.iter().copied().filter(|at| (from..until).contains(at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(claimed_at: i64, ended: Option<(&str, i64)>) -> Claim {
        let (ended, ended_at) = ended.unzip();
        Claim { claimed_at, ended: ended.map(str::to_owned), ended_at }
    }

    #[test]
    fn what_was_claimed_before_may_still_come() {
        for claims in [
            &[claim(900, None)][..],
            &[claim(900, Some(("finished", 1300)))],
            // Its holder was stopped and has not noticed.
            &[claim(100, Some(("rescued", 900))), claim(1100, None)],
        ] {
            assert!(intruders(1000, 2000, &[1200], claims).is_empty(), "{claims:?}");
        }
        assert!(intruders(1000, 2000, &[990, 2000], &[]).is_empty(), "it was active at that time");
    }

    #[test]
    fn what_was_claimed_after_or_had_ended_must_not_come() {
        for claims in [
            &[][..],
            &[claim(1001, None)],
            &[claim(900, Some(("finished", 950)))],
            &[claim(900, Some(("retried", 950))), claim(1100, None)],
            &[claim(-60_000, Some(("rescued", -50_000))), claim(1100, None)],
        ] {
            assert_eq!(intruders(1000, 2000, &[990, 1200, 2100], claims), [1200], "{claims:?}");
        }
    }

    #[test]
    fn it_is_on_again_when_it_became_active_and_that_has_a_cause() {
        let off = Off { from: 1000, until: 2000, in_doubt: false };
        assert_eq!(end(off, &[500, 2100]), (2000, false));
        assert_eq!(end(off, &[500, 1500, 1600]), (1500, true));
        assert_eq!(end(Off { in_doubt: true, ..off }, &[1500]), (1500, false));
    }
}
