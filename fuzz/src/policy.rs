//! Delivery policies.

use std::time::Duration;

use postrider_core::Policy;
use postrider_core::policy::PolicyFields;

/// An accepted policy is within its bounds, and serialises to JSON that parses to the same policy.
pub fn policy(data: &[u8]) {
    let Ok(fields) = serde_json::from_slice::<PolicyFields>(data) else { return };
    let Ok(policy) = Policy::try_from(fields) else { return };
    let shown = serde_json::to_vec(policy.fields()).expect("a policy is JSON");
    let again: PolicyFields = serde_json::from_slice(&shown).expect("a serialised policy parses");
    let again = Policy::try_from(again).expect("an accepted policy is accepted again");
    assert_eq!(again, policy);

    let retry = policy.retry(&postrider_core::RetryPolicy::default());
    assert!((1..=30).contains(&retry.max_attempts()));
    assert!(policy.timeout().is_none_or(|timeout| {
        (Duration::from_secs(1)..=Duration::from_mins(1)).contains(&timeout.duration())
    }));
    assert!(policy.concurrency().is_none_or(|limit| (1..=10_000).contains(&limit.get())));
    assert!(
        policy.rate_limit().is_none_or(|rate| rate.interval > Duration::ZERO && rate.burst.get() <= 10_000)
    );
}
