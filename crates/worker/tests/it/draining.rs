//! The deliveries of a deactivated subscriber end soon, however many there are, and others do not wait for them.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use postrider_database::Dialect;
use postrider_queue::{LaneRate, LaneSettings};
use postrider_store::queue_ids::lane_of;
use postrider_store::stats::StatsFilter;
use postrider_store::subscribers::SubscriberChange;
use postrider_testkit::eventually;
use sea_orm::ConnectionTrait as _;

use crate::stage::{DEADLINE, Stage, config, on_both, tenant};

on_both!(others_are_delivered_while_thousands_end, a_lane_that_cannot_be_drained_holds_up_no_other);

/// Prints how long the deliveries took to end, and how long those of another subscriber took at the same time.
async fn others_are_delivered_while_thousands_end(stage: &Stage) {
    const WAITING: usize = 20_000;
    let ended = stage.subscriber("/ended").await;
    let rate = LaneRate { interval: Duration::from_hours(1), burst: NonZeroU32::MIN };
    let slow = LaneSettings { rate: Some(rate), ordered: true, ..LaneSettings::default() };
    stage.store.queue().configure(lane_of(ended), "default", slow).await.unwrap();
    stage.dispatch().await;
    stage.multiply(WAITING).await;
    let change = SubscriberChange { active: Some(false), ..SubscriberChange::default() };
    stage.store.change_subscriber(&tenant(), ended, change).await.unwrap().unwrap();
    let other = stage.subscriber("/other").await;
    let workers = [stage.worker(config()).await, stage.worker(config()).await];

    let started = Instant::now();
    let filter = |subscriber| StatsFilter { subscriber: Some(subscriber), ..StatsFilter::default() };
    let mut waits = Vec::new();
    loop {
        let dispatched = Instant::now();
        stage.dispatch().await;
        stage.receiver.wait_for_path("/other", waits.len() + 1, DEADLINE).await;
        waits.push(dispatched.elapsed());
        let counted = stage.store.stats(&tenant(), &filter(ended)).await.unwrap().deliveries;
        if counted.pending == 0 {
            assert_eq!((counted.total, counted.cancelled), (WAITING as u64, WAITING as u64));
            break;
        }
        assert!(started.elapsed() < 4 * DEADLINE, "{} still wait", counted.pending);
    }
    let took = started.elapsed();
    stage.settled().await;
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(stage.receiver.requests_to("/ended").len(), 0, "no request starts for it");
    let delivered = stage.store.stats(&tenant(), &filter(other)).await.unwrap().deliveries.succeeded;
    assert_eq!(delivered, waits.len() as u64);
    waits.sort_unstable();
    println!(
        "{WAITING} deliveries ended in {took:?}; of {} others, half took {:?} and 99 % took {:?} at most",
        waits.len(),
        waits[waits.len() / 2],
        waits[waits.len() * 99 / 100]
    );
}

/// A row of the first lane is damaged.
async fn a_lane_that_cannot_be_drained_holds_up_no_other(stage: &Stage) {
    let (damaged, other) = (stage.subscriber("/damaged").await, stage.subscriber("/other").await);
    stage.dispatch().await;
    let change = SubscriberChange { active: Some(false), ..SubscriberChange::default() };
    let sql = match stage.store.database().dialect() {
        Dialect::Postgres => {
            format!("UPDATE deliveries SET event_type = '' WHERE subscriber_id = '{}'", damaged.uuid())
        }
        Dialect::Sqlite => {
            format!(
                "UPDATE deliveries SET event_type = '' WHERE subscriber_id = x'{}'",
                damaged.uuid().simple()
            )
        }
    };
    stage.database.connection().execute_unprepared(&sql).await.unwrap();
    for subscriber in [damaged, other] {
        stage.store.change_subscriber(&tenant(), subscriber, change.clone()).await.unwrap().unwrap();
    }
    let worker = stage.worker(config()).await;
    let pending = async |subscriber| {
        let filter = StatsFilter { subscriber: Some(subscriber), ..StatsFilter::default() };
        stage.store.stats(&tenant(), &filter).await.unwrap().deliveries.pending
    };
    eventually(DEADLINE, || async { (pending(other).await == 0).then_some(()) }).await;
    worker.stop().await;
    assert_eq!(pending(damaged).await, 1);
}
