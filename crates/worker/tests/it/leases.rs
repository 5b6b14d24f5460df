//! Lost leases, jobs that kill their workers, and outcomes that are recorded twice.

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use postrider_core::subscriber::{PolicyFields, Span};
use postrider_core::{Clock as _, DeadReason, DeliveryStatus, EventId};
use postrider_database::Dialect;
use postrider_queue::{Claim, ClaimedJob, LeaseToken, Rescue};
use postrider_store::attempt::{Attempt, End, Outcome};
use postrider_store::health::BreakerPolicy;
use postrider_store::loading::Loaded;
use postrider_store::stats::StatsFilter;
use postrider_testkit::receiver::Gate;
use postrider_testkit::{Behaviour, eventually};
use postrider_worker::Config;
use sea_orm::ConnectionTrait as _;

use crate::stage::{DEADLINE, Stage, config, on_both, tenant};

const LEASE: Duration = Duration::from_mins(1);

on_both!(
    "current_thread": a_worker_that_lost_its_lease_changes_nothing,
    a_job_that_kills_its_workers_ends_its_delivery,
    a_lease_is_extended_during_a_long_request,
    an_attempt_is_cancelled_when_its_lease_is_lost,
    an_outcome_is_recorded_once
);

/// On one thread, because the metrics recorder is local to the thread and must see both workers.
async fn a_worker_that_lost_its_lease_changes_nothing(stage: &Stage) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (late, later) = (Gate::closed(), Gate::closed());
    stage.subscriber("/hook").await;
    let answers = vec![Behaviour::Status(410).behind(&late), Behaviour::Status(200).behind(&later)];
    stage.receiver.on("/hook", Behaviour::Sequence(answers));
    // Extends its leases every 20 s, which does not happen during this test.
    let zombie = stage.worker(Config { lease: LEASE, ..config() }).await;
    let event = stage.dispatch().await.id;
    stage.receiver.wait_for(1, DEADLINE).await;
    zombie.stop.cancel();
    stage.database.advance(LEASE * 2).await;
    let rescuer = stage.worker(Config { lease: *Config::LEASE.start(), ..config() }).await;
    stage.receiver.wait_for(2, DEADLINE).await;
    late.open();
    // Before it stops it tries to record its outcome.
    zombie.stopped().await;
    let delivery = stage.delivery(event).await;
    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Pending, 0), "fenced");
    assert_eq!(stage.count("SELECT count(*) FROM jobs WHERE lease_token IS NOT NULL").await, 1);
    later.open();
    stage.ended(event).await;
    rescuer.stop().await;

    let delivery = stage.delivery(event).await;
    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Succeeded, 1));
    assert_eq!(delivery.response_status, Some(200));
    assert_eq!(
        stage.attempts(&delivery).await.len(),
        1,
        "the attempt of the worker that lost its lease is not stored"
    );
    assert_eq!(stage.receiver.requests().len(), 2);
    stage.settled().await;
    let counted = stage.store.stats(&tenant(), &StatsFilter::default()).await.unwrap().deliveries;
    assert_eq!((counted.total, counted.succeeded, counted.pending), (1, 1, 0));
    let text = metrics.render();
    assert!(text.lines().any(|line| line == "webhook_leases_lost_total 1"), "{text}");
    assert!(text.lines().any(|line| line == "webhook_jobs_rescued_total 1"), "{text}");
}

async fn a_job_that_kills_its_workers_ends_its_delivery(stage: &Stage) {
    stage.subscriber("/hook").await;
    let event = stage.dispatch().await.id;
    let max_rescues = config().max_rescues;
    assert_eq!(max_rescues, 5);
    for rescues in 0..max_rescues {
        let claimed = claim(stage).await;
        assert_eq!(claimed.rescues, rescues);
        stage.database.advance(LEASE * 2).await;
        let rescue = Rescue { max: 10, max_rescues, token: token(stage), lease: LEASE };
        assert_eq!(stage.store.queue().rescue(&rescue).await.unwrap().returned, 1);
    }
    claim(stage).await;
    stage.database.advance(LEASE * 2).await;
    let worker = stage.worker(Config { lease: *Config::LEASE.start(), ..config() }).await;
    let delivery = stage.ended(event).await;
    stage.settled().await;
    worker.stop().await;
    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Dead, 0));
    assert_eq!(delivery.dead_reason, Some(DeadReason::RescuedTooOften));
    assert!(stage.receiver.requests().is_empty());
}

async fn a_lease_is_extended_during_a_long_request(stage: &Stage) {
    let gate = Gate::closed();
    stage.subscriber("/hook").await;
    stage.receiver.on("/hook", Behaviour::Status(200).behind(&gate));
    let short = Config { lease: *Config::LEASE.start(), ..config() };
    let workers = [stage.worker(short.clone()).await, stage.worker(short).await];
    let event = stage.dispatch().await.id;
    stage.receiver.wait_for(1, DEADLINE).await;
    // Until it has been extended three times. Both workers look for expired leases all the time.
    let mut ends = Vec::new();
    while ends.len() < 4 {
        let end = stage.count("SELECT max(lease_until) FROM claims").await;
        if ends.last() != Some(&end) {
            ends.push(end);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gate.open();
    let delivery = stage.ended(event).await;
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Succeeded, 1));
    assert_eq!(stage.receiver.requests().len(), 1);
}

/// On one thread, for the metrics recorder.
async fn an_attempt_is_cancelled_when_its_lease_is_lost(stage: &Stage) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let has = |line: &str| metrics.render().lines().any(|one| one == line);
    // The request would end long after this test.
    let long_timeout = PolicyFields { timeout: Some(Span(2 * DEADLINE)), ..PolicyFields::default() };
    stage.subscriber_with("/hook", long_timeout).await;
    stage.receiver.on("/hook", Behaviour::Hang);
    let worker = stage.worker(Config { lease: *Config::LEASE.start(), ..config() }).await;
    let event = stage.dispatch().await.id;
    stage.receiver.wait_for(1, DEADLINE).await;
    assert!(has("webhook_in_flight 1"), "{}", metrics.render());
    // From now on another worker has the job, for a minute.
    let token = token(stage).0.simple();
    let is_sqlite = stage.store.database().dialect() == Dialect::Sqlite;
    let token = if is_sqlite { format!("x'{token}'") } else { format!("'{token}'") };
    let sql = format!("UPDATE jobs SET lease_token = {token}");
    stage.database.connection().execute_unprepared(&sql).await.unwrap();
    eventually(DEADLINE, || async { has("webhook_leases_lost_total 1").then_some(()) }).await;
    eventually(DEADLINE, || async { has("webhook_in_flight 0").then_some(()) }).await;
    worker.stop().await;
    assert_eq!(
        stage.count("SELECT count(*) FROM jobs WHERE lease_token IS NOT NULL").await,
        1,
        "the worker changed nothing"
    );
    assert_eq!(stage.delivery(event).await.attempts, 0);
}

async fn an_outcome_is_recorded_once(stage: &Stage) {
    stage.subscriber("/hook").await;
    let event = stage.dispatch().await.id;
    let breaker = BreakerPolicy::default();
    let failed = outcome(stage, event, End::RetryIn(Duration::from_secs(5)), 500).await;
    for lost in [0, 1, 1] {
        let recorded = stage.store.record(std::slice::from_ref(&failed), &[], &breaker).await.unwrap();
        assert_eq!(recorded.lost.len(), lost);
    }
    let delivery = stage.delivery(event).await;
    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Pending, 1));
    stage.no_lane_is_running().await;

    stage.database.advance(Duration::from_secs(6)).await;
    assert_eq!(stage.store.queue().promote(10).await.unwrap().jobs, 1);
    let arrived = outcome(stage, event, End::Succeeded, 200).await;
    let arrived = std::slice::from_ref(&arrived);
    let (one, other) =
        tokio::join!(stage.store.record(arrived, &[], &breaker), stage.store.record(arrived, &[], &breaker));
    assert_eq!(one.unwrap().lost.len() + other.unwrap().lost.len(), 1, "one of the two");
    let delivery = eventually(DEADLINE, || async { Some(stage.delivery(event).await) }).await;
    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Succeeded, 2));
    assert_eq!(stage.attempts(&delivery).await.len(), 2);
    let counted = stage.store.stats(&tenant(), &StatsFilter::default()).await.unwrap().deliveries;
    assert_eq!((counted.total, counted.succeeded, counted.pending), (1, 1, 0));
    stage.settled().await;
}

fn token(stage: &Stage) -> LeaseToken {
    LeaseToken(stage.store.ids().next_uuid())
}

async fn claim(stage: &Stage) -> ClaimedJob {
    let claimed = stage.store.queue().claim(&Claim::new(token(stage), 1, LEASE)).await.unwrap();
    claimed.jobs.into_iter().next().expect("a job")
}

/// Claims the event's job as a worker would, and returns an outcome of its attempt.
async fn outcome(stage: &Stage, event: EventId, end: End, status: u16) -> Outcome {
    let job = claim(stage).await;
    let loaded = stage.store.load(std::slice::from_ref(&job)).await.unwrap().remove(0);
    let Loaded::Deliver(work) = loaded else { panic!("expected a delivery, got {loaded:?}") };
    assert_eq!(work.delivery.event_id, event);
    let response = postrider_store::attempt::Response {
        status,
        headers: Vec::new(),
        body: bytes::Bytes::new(),
        truncated: false,
    };
    let attempt = Attempt {
        started_at: stage.store.ids().clock().now(),
        duration: Duration::from_millis(1),
        response: Some(response),
        verdict: postrider_core::Verdict::Success,
        exchange: None,
    };
    Outcome { lease: job.lease, delivery: work.delivery, attempt: Some(attempt), end }
}
