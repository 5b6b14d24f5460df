//! The successes and failures of each subscriber in a batch of outcomes.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_core::{SubscriberId, TenantId};

use crate::attempt::Outcome;

/// The results of each subscriber, in the order of their ids, so that two batches lock rows in the same order and do
/// not deadlock.
pub(super) type Results<'a> = BTreeMap<SubscriberId, SubscriberResult<'a>>;

/// The results of one subscriber in a batch.
pub(super) struct SubscriberResult<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) succeeded: bool,
    /// The failures that blame the receiver, since the batch's last success.
    pub(super) failures: i32,
    /// The duration of the shortest of those failed attempts.
    pub(super) shortest_failure: Duration,
}

/// Attributes the outcomes of a batch to their subscribers.
pub(super) fn results<'a>(outcomes: &[&'a Outcome]) -> Results<'a> {
    let mut all = Results::new();
    for outcome in outcomes {
        let Some(attempt) = &outcome.attempt else { continue };
        let result = all.entry(outcome.delivery.subscriber).or_insert(SubscriberResult {
            tenant: &outcome.delivery.tenant,
            succeeded: false,
            failures: 0,
            shortest_failure: Duration::MAX,
        });
        match attempt.verdict.error_kind() {
            None => (result.succeeded, result.failures) = (true, 0),
            Some(kind) if kind.blames_receiver() => {
                result.failures += 1;
                result.shortest_failure = result.shortest_failure.min(attempt.duration);
            }
            Some(_) => {}
        }
    }
    all
}
