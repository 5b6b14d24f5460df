//! The circuit breaker in each transition between its states, with a clock that the test moves.

use std::time::Duration;

use postrider_core::ErrorKind::{self, Internal, Proxy, Status, TimeoutHeaders, Transform, Unprocessed};
use postrider_core::{DeliveryStatus, SubscriberId};
use postrider_queue::Lease;
use postrider_store::attempt::DeliveryRef;
use postrider_store::deliveries::DeliveryFilter;
use postrider_store::health::{Breaker, BreakerPolicy, Health, Notice};
use postrider_store::subscribers::SubscriberChange;
use postrider_store::{PageRequest, Store};

use crate::attempts::{Claimed, Ending, HOUR, claim, fail, record, succeed};
use crate::stage::{Stage, on_both};

on_both!(
    a_breaker_opens_at_the_tenth_failure_and_not_before,
    a_success_resets_the_failure_count,
    a_threshold_of_zero_disables_breakers,
    after_the_pause_the_lane_lets_one_probe_through,
    pauses_double_up_to_ten_minutes_while_probes_fail,
    a_successful_probe_closes_the_breaker,
    another_probe_follows_one_that_failed_on_our_side,
    an_attempt_in_flight_when_the_breaker_opened_is_not_a_probe,
    a_late_success_closes_the_breaker,
    reactivation_or_a_new_url_closes_the_breaker,
    all_workers_share_the_breaker,
);

const PAUSE: Duration = Duration::from_secs(30);

/// A subscriber with `waiting` pending deliveries.
async fn backlog(stage: &Stage, waiting: usize) -> SubscriberId {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    for _ in 0..waiting {
        stage.dispatch(&stage.tenant, subscriber, "a.b", stage.now()).await;
    }
    subscriber
}

/// A subscriber with an open breaker and `waiting` pending deliveries that have had no attempt.
async fn open(stage: &Stage, waiting: usize) -> SubscriberId {
    let subscriber = backlog(stage, 10 + waiting).await;
    let notices = fail(&stage.store, claim(&stage.store, 10).await).await;
    assert_eq!(notices, [opened(stage, subscriber, 10, PAUSE)]);
    subscriber
}

fn opened(stage: &Stage, subscriber: SubscriberId, failures: u32, pause: Duration) -> Notice {
    Notice::CircuitOpened { tenant: stage.tenant.clone(), subscriber, failures, pause }
}

fn closed(stage: &Stage, subscriber: SubscriberId) -> Notice {
    Notice::CircuitClosed { tenant: stage.tenant.clone(), subscriber }
}

async fn health(stage: &Stage, subscriber: SubscriberId) -> Health {
    stage.store.subscriber(&stage.tenant, subscriber).await.unwrap().unwrap().health
}

async fn assert_paused(stage: &Stage) {
    assert_eq!(claim(&stage.store, 100).await.len(), 0, "the lane is paused");
}

/// Checks that the lane stays paused for half of `pause`. Returns the probe that it lets through after all of it.
async fn probe_after(stage: &Stage, pause: Duration) -> Claimed {
    assert_paused(stage).await;
    stage.database.advance(pause / 2).await;
    assert_paused(stage).await;
    stage.database.advance(pause / 2).await;
    let probe = claim(&stage.store, 100).await;
    assert_eq!(probe.len(), 1, "only one probe at a time");
    probe
}

async fn a_breaker_opens_at_the_tenth_failure_and_not_before(stage: &Stage) {
    let subscriber = backlog(stage, 49).await;
    for failures in 1..=9 {
        // Failures of the proxy and of Postrider itself are not counted, nor connections that the receiver was allowed to end.
        for (kind, count) in [
            (Proxy, failures - 1),
            (Internal, failures - 1),
            (Unprocessed, failures - 1),
            (TimeoutHeaders, failures),
        ] {
            let notices = record(&stage.store, claim(&stage.store, 1).await, Ending::Failure(kind)).await;
            assert_eq!((notices.len(), health(stage, subscriber).await.failures), (0, count), "{kind:?}");
        }
        assert_eq!(health(stage, subscriber).await.breaker, Breaker::Closed);
    }
    let notices = fail(&stage.store, claim(&stage.store, 1).await).await;
    assert_eq!(notices, [opened(stage, subscriber, 10, PAUSE)]);
    let Health { failures, failing_since, breaker } = health(stage, subscriber).await;
    assert_eq!((failures, failing_since.is_some()), (10, true));
    assert!(matches!(breaker, Breaker::Open(_)), "{breaker:?}");
    assert_eq!((stage.store.breakers().await.unwrap().open, breaker.as_str()), (1, "open"));
    assert_paused(stage).await;
    // Waiting deliveries spend no attempts.
    assert_eq!(attempts(stage).await, [vec![0; 12], vec![1; 37]].concat());
}

/// The attempts of all deliveries, sorted.
async fn attempts(stage: &Stage) -> Vec<u32> {
    let page = PageRequest { limit: 250, before: None };
    let all = stage.store.deliveries(&stage.tenant, &DeliveryFilter::default(), page).await.unwrap().items;
    assert!(all.iter().all(|delivery| delivery.status == DeliveryStatus::Pending));
    let mut attempts: Vec<_> = all.iter().map(|delivery| delivery.attempts).collect();
    attempts.sort_unstable();
    attempts
}

async fn a_success_resets_the_failure_count(stage: &Stage) {
    let subscriber = backlog(stage, 29).await;
    assert_eq!(fail(&stage.store, claim(&stage.store, 9).await).await, []);
    assert_eq!(succeed(&stage.store, claim(&stage.store, 1).await).await, []);
    assert_eq!(health(stage, subscriber).await, Health::default());
    assert_eq!(fail(&stage.store, claim(&stage.store, 9).await).await, []);
    // Within a batch, only failures after the last success count.
    let mut batch = Vec::new();
    for (number, claimed) in (0..).zip(claim(&stage.store, 9).await) {
        let ending = if number == 3 { Ending::Success } else { Ending::Failure(Status) };
        batch.push((claimed, ending));
    }
    assert_eq!(record_all(&stage.store, batch).await, []);
    assert_eq!(health(stage, subscriber).await.failures, 5);
    assert_eq!(health(stage, subscriber).await.breaker, Breaker::Closed);
}

async fn a_threshold_of_zero_disables_breakers(stage: &Stage) {
    let subscriber = backlog(stage, 50).await;
    let never = BreakerPolicy { breaker_failures: 0, ..BreakerPolicy::default() };
    let outcomes =
        crate::attempts::outcomes(claim(&stage.store, 49).await, Ending::Failure(Status), Duration::ZERO);
    assert_eq!(stage.store.record(&outcomes, &[], &never).await.unwrap().notices, []);
    let health = health(stage, subscriber).await;
    assert_eq!((health.failures, health.breaker), (49, Breaker::Closed));
    assert_eq!(claim(&stage.store, 100).await.len(), 1);
}

async fn after_the_pause_the_lane_lets_one_probe_through(stage: &Stage) {
    let subscriber = open(stage, 20).await;
    let probe = probe_after(stage, PAUSE).await;
    assert_eq!(health(stage, subscriber).await.breaker, Breaker::HalfOpen);
    let breakers = stage.store.breakers().await.unwrap();
    assert_eq!((breakers.open, breakers.half_open), (0, 1));
    // No second probe while the first one is running.
    stage.database.advance(PAUSE / 2).await;
    assert_paused(stage).await;
    drop(probe);
}

async fn pauses_double_up_to_ten_minutes_while_probes_fail(stage: &Stage) {
    let subscriber = open(stage, 10).await;
    let mut pause = PAUSE;
    for (failures, seconds) in (11..).zip([60, 120, 240, 480, 600, 600]) {
        let probe = probe_after(stage, pause).await;
        pause = Duration::from_secs(seconds);
        let notices = fail(&stage.store, probe).await;
        assert_eq!(notices, [opened(stage, subscriber, failures, pause)]);
        assert!(matches!(health(stage, subscriber).await.breaker, Breaker::Open(_)));
    }
    assert_paused(stage).await;
    assert_eq!(attempts(stage).await, [vec![0; 4], vec![1; 16]].concat(), "only the probes made attempts");
}

async fn a_successful_probe_closes_the_breaker(stage: &Stage) {
    let subscriber = open(stage, 20).await;
    // Two failed probes: the next pause is two minutes, and the one after it would be four.
    for seconds in [30, 60] {
        let probe = probe_after(stage, Duration::from_secs(seconds)).await;
        fail(&stage.store, probe).await;
    }
    let probe = probe_after(stage, Duration::from_mins(2)).await;
    assert_eq!(succeed(&stage.store, probe).await, [closed(stage, subscriber)]);
    assert_eq!(health(stage, subscriber).await, Health::default());
    let all = claim(&stage.store, 100).await;
    assert_eq!(all.len(), 17, "the lane delivers everything that waited");
    // The count and the pause start from the beginning.
    let (nine, rest) = all.split_at(9);
    assert_eq!(fail(&stage.store, nine.to_vec()).await, []);
    assert_eq!(fail(&stage.store, rest[..1].to_vec()).await, [opened(stage, subscriber, 10, PAUSE)]);
}

async fn another_probe_follows_one_that_failed_on_our_side(stage: &Stage) {
    let subscriber = open(stage, 20).await;
    let mut probe = probe_after(stage, PAUSE).await;
    for kind in [Internal, Proxy, Unprocessed] {
        assert_eq!(record(&stage.store, probe, Ending::Failure(kind)).await, []);
        assert_eq!(health(stage, subscriber).await.breaker, Breaker::HalfOpen);
        probe = claim(&stage.store, 100).await;
        assert_eq!(probe.len(), 1, "still one at a time");
    }
    let notices = fail(&stage.store, probe).await;
    assert_eq!(notices, [opened(stage, subscriber, 11, PAUSE * 2)]);
}

async fn an_attempt_in_flight_when_the_breaker_opened_is_not_a_probe(stage: &Stage) {
    let subscriber = backlog(stage, 20).await;
    let (mut first, mut second) = (claim(&stage.store, 12).await, Vec::new());
    second.push(first.pop().unwrap());
    let during = first.pop().unwrap();
    assert_eq!(fail(&stage.store, first).await.len(), 1);
    let before = health(stage, subscriber).await.breaker;
    // It took an hour, so it began before the breaker opened.
    assert_eq!(fail_slowly(&stage.store, vec![during]).await, []);
    assert_eq!(health(stage, subscriber).await.breaker, before, "the pause has not changed");
    stage.database.advance(PAUSE).await;
    assert_eq!(fail_slowly(&stage.store, second).await, []);
    assert_eq!(health(stage, subscriber).await.breaker, Breaker::HalfOpen);
    let probe = claim(&stage.store, 100).await;
    assert_eq!(probe.len(), 1);
    assert_eq!(fail(&stage.store, probe).await, [opened(stage, subscriber, 13, PAUSE * 2)]);
}

async fn fail_slowly(store: &Store, claimed: Claimed) -> Vec<Notice> {
    let outcomes = crate::attempts::outcomes(claimed, Ending::Failure(Status), HOUR);
    store.record(&outcomes, &[], &BreakerPolicy::default()).await.unwrap().notices
}

async fn a_late_success_closes_the_breaker(stage: &Stage) {
    let subscriber = backlog(stage, 20).await;
    let mut claimed = claim(&stage.store, 11).await;
    let late = vec![claimed.pop().unwrap()];
    assert_eq!(fail(&stage.store, claimed).await.len(), 1);
    assert_paused(stage).await;
    assert_eq!(succeed(&stage.store, late).await, [closed(stage, subscriber)]);
    assert_eq!(claim(&stage.store, 100).await.len(), 9);
}

async fn reactivation_or_a_new_url_closes_the_breaker(stage: &Stage) {
    let change = |subscriber, change| async move {
        stage.store.change_subscriber(&stage.tenant, subscriber, change).await.unwrap().unwrap()
    };
    let active = |active| SubscriberChange { active: Some(active), ..SubscriberChange::default() };
    let url = Some("https://example.com/another".parse().unwrap());
    for closes in [
        active(true),
        SubscriberChange { url, ..SubscriberChange::default() },
        SubscriberChange { forget_failures: true, ..SubscriberChange::default() },
    ] {
        let subscriber = open(stage, 5).await;
        // What is so already changes nothing.
        let url = Some(stage.store.subscriber(&stage.tenant, subscriber).await.unwrap().unwrap().url);
        for same in [active(true), SubscriberChange { url, ..SubscriberChange::default() }] {
            assert_eq!(change(subscriber, same).await.health.failures, 10);
        }
        assert_paused(stage).await;
        if closes.active.is_some() {
            change(subscriber, active(false)).await;
        }
        let changed = change(subscriber, closes).await;
        assert_eq!(changed.health, Health::default());
        let waiting = claim(&stage.store, 100).await;
        assert_eq!(waiting.len(), 5);
        succeed(&stage.store, waiting).await;
    }
}

async fn all_workers_share_the_breaker(stage: &Stage) {
    let subscriber = backlog(stage, 30).await;
    let (one, other) = (&stage.store, &stage.another_store().await);
    for _ in 0..5 {
        assert_eq!(fail(one, claim(one, 1).await).await.len(), 0);
        let notices = fail(other, claim(other, 1).await).await;
        assert!(notices.is_empty() || health(stage, subscriber).await.failures == 10, "{notices:?}");
    }
    for store in [one, other] {
        assert_eq!(claim(store, 100).await.len(), 0);
    }
    stage.database.advance(PAUSE).await;
    let (mine, theirs) = tokio::join!(claim(one, 100), claim(other, 100));
    assert_eq!(mine.len() + theirs.len(), 1, "one probe for both workers");
    let probe = [mine, theirs].concat();
    assert_eq!(succeed(other, probe).await, [closed(stage, subscriber)]);
    assert_eq!(claim(one, 100).await.len(), 19);
}

async fn record_all(store: &Store, batch: Vec<((Lease, DeliveryRef), Ending)>) -> Vec<Notice> {
    let outcomes: Vec<_> = batch
        .into_iter()
        .flat_map(|(claimed, ending)| {
            crate::attempts::outcomes(vec![claimed], ending, Duration::from_millis(3))
        })
        .collect();
    store.record(&outcomes, &[], &BreakerPolicy::default()).await.unwrap().notices
}

#[test]
fn only_failures_that_are_not_the_receivers_do_not_blame_it() {
    let not_the_receivers: Vec<_> =
        ErrorKind::ALL.iter().copied().filter(|kind| !kind.blames_receiver()).collect();
    assert_eq!(not_the_receivers, [Proxy, Internal, Unprocessed, Transform]);
}
