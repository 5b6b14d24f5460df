//! Requeued deliveries, and stale jobs.

use std::time::Duration;

use postrider_core::{DeadReason, DeliveryStatus};
use postrider_queue::{JobId, LaneId, NewJob};
use postrider_store::deliveries::Changed;
use postrider_store::stats::StatsFilter;
use postrider_testkit::{Behaviour, eventually, receiver::Gate};
use postrider_worker::Config;

use crate::stage::{DEADLINE, Stage, config, on_both, retry, tenant};

on_both!(
    a_requeued_delivery_has_a_full_round_of_attempts,
    an_attempt_of_an_earlier_round_spends_none_of_a_later_one,
    a_stale_job_ends_without_a_request,
);

async fn a_requeued_delivery_has_a_full_round_of_attempts(stage: &Stage) {
    stage.subscriber("/hook").await;
    stage.receiver.on("/hook", Behaviour::Status(500));
    let worker = stage.worker(Config { retry: retry(&[200], 2), ..config() }).await;
    let event = stage.dispatch().await.id;
    let dead = stage.ended(event).await;
    assert_eq!((dead.status, dead.attempts), (DeliveryStatus::Dead, 2));
    for (attempts, status, answer) in [(4, DeliveryStatus::Dead, 500), (5, DeliveryStatus::Succeeded, 200)] {
        // No attempt ends before both calls are made.
        let gate = Gate::closed();
        stage.receiver.on("/hook", Behaviour::Status(answer).behind(&gate));
        let Changed::Done(pending) = stage.store.retry(&tenant(), dead.id).await.unwrap() else {
            panic!("a delivery that has ended can be requeued")
        };
        assert_eq!((pending.status, pending.dead_reason), (DeliveryStatus::Pending, None));
        let again = stage.store.retry(&tenant(), dead.id).await.unwrap();
        assert!(matches!(again, Changed::Not(DeliveryStatus::Pending)), "{again:?}");
        gate.open();
        let ended = stage.ended(event).await;
        assert_eq!((ended.status, ended.attempts), (status, attempts));
        let reason = (status == DeliveryStatus::Dead).then_some(DeadReason::AttemptsUsedUp);
        assert_eq!(ended.dead_reason, reason);
    }
    stage.settled().await;
    worker.stop().await;
    let requests = stage.receiver.requests();
    assert_eq!(requests.len(), 5);
    assert!(requests.iter().all(|request| request.header("webhook-id") == Some(&event.to_string())));
    let attempts = stage.attempts(&dead).await;
    assert_eq!(attempts.iter().map(|one| one.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    for (before, after) in [(0, 1), (2, 3)] {
        let waited = requests[after].arrived - requests[before].arrived;
        assert!(
            waited >= Duration::from_millis(200),
            "the second round follows the schedule too: {waited:?}"
        );
    }
}

/// The delivery is cancelled and requeued while its first request is in flight.
async fn an_attempt_of_an_earlier_round_spends_none_of_a_later_one(stage: &Stage) {
    let gate = Gate::closed();
    stage.subscriber("/hook").await;
    let late = Behaviour::Status(500).behind(&gate);
    stage.receiver.on("/hook", Behaviour::Sequence(vec![late, Behaviour::sequence([500, 503, 200])]));
    let worker = stage.worker(Config { retry: retry(&[200], 3), ..config() }).await;
    let event = stage.dispatch().await.id;
    stage.receiver.wait_for(1, DEADLINE).await;
    let delivery = stage.delivery(event).await;
    assert!(matches!(stage.store.cancel(&tenant(), delivery.id).await.unwrap(), Changed::Done(_)));
    assert!(matches!(stage.store.retry(&tenant(), delivery.id).await.unwrap(), Changed::Done(_)));
    stage.attempted(event, 1).await;
    gate.open();
    stage.ended(event).await;
    stage.settled().await;
    worker.stop().await;
    assert_eq!(stage.receiver.requests().len(), 4, "the new round has its three attempts");
    let delivery = stage.delivery(event).await;
    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Succeeded, 4));
    let attempts = stage.attempts(&delivery).await;
    assert_eq!(
        attempts.iter().map(|one| one.number).collect::<Vec<_>>(),
        [1, 2, 3, 4],
        "no attempt number occurs twice"
    );
    let counted = stage.store.stats(&tenant(), &StatsFilter::default()).await.unwrap().deliveries;
    assert_eq!((counted.total, counted.succeeded, counted.cancelled), (1, 1, 0));
}

async fn a_stale_job_ends_without_a_request(stage: &Stage) {
    let subscriber = stage.subscriber("/hook").await;
    stage.receiver.on("/hook", Behaviour::Status(500));
    let worker = stage.worker(Config { retry: retry(&[300_000], 3), ..config() }).await;
    let event = stage.dispatch().await.id;
    let delivery = stage.attempted(event, 1).await;
    let stale_jobs: Vec<_> = [delivery.id.uuid(), stage.store.ids().next_uuid()]
        .into_iter()
        .map(|subject| {
            NewJob::now(JobId(stage.store.ids().next_uuid()), LaneId(subscriber.uuid()), "default", subject)
        })
        .collect();
    stage.store.queue().enqueue(&stale_jobs).await.unwrap();
    eventually(DEADLINE, || async {
        (stage.count("SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM scheduled_jobs)").await == 1)
            .then_some(())
    })
    .await;
    worker.stop().await;
    assert_eq!(stage.receiver.requests().len(), 1);
    let now = stage.delivery(event).await;
    assert_eq!((now.status, now.attempts, now.job), (DeliveryStatus::Pending, 1, delivery.job));
    stage.no_lane_is_running().await;
}
