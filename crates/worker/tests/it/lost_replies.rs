//! Records whose replies are lost, so that the worker does not know whether they were committed.

use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use postrider_core::DeliveryStatus;
use postrider_database::Config as DatabaseConfig;
use postrider_testkit::proxy::{Link, Proxy};
use postrider_testkit::receiver::Gate;
use postrider_testkit::{Behaviour, eventually};
use sea_orm::ConnectionTrait as _;

use crate::stage::{DEADLINE, Stage, config};

/// How long the worker waits for a reply before it repeats a call.
const ANSWER: Duration = Duration::from_secs(1);

/// Waits until the metrics have this line.
async fn has_line(metrics: &PrometheusHandle, line: &str) {
    eventually(DEADLINE, || async { metrics.render().lines().any(|it| it == line).then_some(()) }).await;
}

const SUCCEEDED: &str = r#"webhook_deliveries_total{event_type="order.created",status="succeeded"} 1"#;

/// On one thread, because the metrics recorder is local to the thread and must see the worker.
#[tokio::test]
async fn an_outcome_whose_reply_was_lost_is_recorded_and_counted_once() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let stage = Stage::postgres().await;
    let (link, url) = Proxy::before(stage.database.url()).await;
    let database = DatabaseConfig { answer_timeout: ANSWER, ..DatabaseConfig::new(url.parse().unwrap()) };
    let gate = Gate::closed();
    stage.subscriber("/hook").await;
    stage.receiver.on("/hook", Behaviour::Status(200).behind(&gate));
    let worker = stage.worker_over(database, config()).await;
    let event = stage.dispatch().await.id;
    stage.receiver.wait_for(1, DEADLINE).await;

    link.set(Link::Unheard);
    gate.open();
    let delivery = stage.ended(event).await;
    // From now on the worker can look it up over another connection.
    link.set(Link::Open);
    has_line(&metrics, SUCCEEDED).await;
    worker.stop().await;

    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Succeeded, 1));
    assert_eq!(stage.attempts(&delivery).await.len(), 1);
    assert_eq!(stage.receiver.requests().len(), 1);
    stage.settled().await;
    let text = metrics.render();
    assert!(!text.contains("webhook_leases_lost_total"), "no lease was lost: {text}");
}

/// The other reason for which a job may be gone when the record is repeated.
#[tokio::test]
async fn a_lease_lost_while_recording_fails_is_counted() {
    const REFUSE: &str = "CREATE SEQUENCE refused; \
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            PERFORM nextval('refused'); RAISE EXCEPTION 'not now' USING ERRCODE = '40001'; \
        END $$; \
        CREATE TRIGGER refuse BEFORE UPDATE ON deliveries FOR EACH ROW EXECUTE FUNCTION refuse()";
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let stage = Stage::postgres().await;
    stage.database.connection().execute_unprepared(REFUSE).await.unwrap();
    stage.subscriber("/hook").await;
    let worker = stage.worker(config()).await;
    let event = stage.dispatch().await.id;
    // A sequence keeps its value when its transaction is rolled back.
    let refused = "SELECT count(*) FROM refused WHERE is_called";
    eventually(DEADLINE, || async { (stage.count(refused).await == 1).then_some(()) }).await;
    // As if another worker had rescued and claimed the job. In one step, so that this worker cannot record in between. The
    // table comes first, as this worker's statement locks tables before rows.
    let anothers = "DROP TRIGGER refuse ON deliveries; UPDATE jobs SET lease_token = gen_random_uuid()";
    stage.database.connection().execute_unprepared(anothers).await.unwrap();
    has_line(&metrics, "webhook_leases_lost_total 1").await;
    worker.stop().await;

    let delivery = stage.delivery(event).await;
    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Pending, 0), "fenced");
    assert!(!metrics.render().contains(SUCCEEDED));
}
