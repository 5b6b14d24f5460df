//! What waits for a subscriber that was deactivated or deleted ends in batches, whatever the limits of its lane.

use std::num::NonZeroU32;

use postrider_core::{DeliveryStatus, ErrorKind, SubscriberId};
use postrider_queue::{Claim, Finish, LaneRate, LaneSettings, LeaseToken};
use postrider_store::deliveries::Changed;
use postrider_store::health::BreakerPolicy;
use postrider_store::loading::Loaded;
use postrider_store::queue_ids::lane_of;
use postrider_store::subscribers::SubscriberChange;

use crate::attempts::{Ending, HOUR, claim, outcomes};
use crate::stage::{Stage, on_both};

on_both!(
    all_that_waits_ends_whatever_the_limits_of_the_lane,
    many_waiting_deliveries_end_in_batches,
    what_has_not_ended_is_delivered_after_reactivation,
    a_retry_of_an_inactive_subscriber_ends_without_waiting_for_its_time,
    a_delivery_that_came_too_late_marks_its_lane,
    other_lanes_are_claimed_while_one_drains,
    the_lane_of_a_deleted_subscriber_is_removed_an_hour_later,
    a_lane_with_a_running_job_is_not_removed,
    nothing_is_retried_for_a_subscriber_that_is_not_active,
    a_cancelled_delivery_takes_no_turn_of_its_lane,
);

async fn activate(stage: &Stage, subscriber: SubscriberId, active: bool) {
    let change = SubscriberChange { active: Some(active), ..SubscriberChange::default() };
    stage.store.change_subscriber(&stage.tenant, subscriber, change).await.unwrap().unwrap();
}

/// A lane that lets one job through each hour.
async fn slow(stage: &Stage, subscriber: SubscriberId) {
    let rate = LaneRate { interval: HOUR, burst: NonZeroU32::MIN };
    let settings = LaneSettings { rate: Some(rate), ordered: true, ..LaneSettings::default() };
    stage.store.queue().configure(lane_of(subscriber), stage.tenant.as_str(), settings).await.unwrap();
}

async fn dispatch(stage: &Stage, subscriber: SubscriberId, deliveries: usize) {
    let transaction = stage.store.database().begin().await.unwrap();
    for _ in 0..deliveries {
        stage.dispatch_in(&transaction, &stage.tenant, subscriber, "a.b", stage.now()).await;
    }
    transaction.commit().await.unwrap();
}

/// Drains until nothing is left, as the worker does. Returns the sizes of the batches.
async fn drain(stage: &Stage, max: u32) -> Vec<u64> {
    let mut batches = Vec::new();
    while let Some(drained) = stage.store.drain(None, max).await.unwrap() {
        batches.push(drained.deliveries.values().sum());
    }
    batches
}

async fn jobs(stage: &Stage) -> i64 {
    stage.rows("SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM scheduled_jobs) AS n").await[0]
        .try_get("", "n")
        .unwrap()
}

/// Pending and cancelled, by the roll-ups.
async fn counted(stage: &Stage) -> (u64, u64) {
    let counted = stage.stats().await.deliveries;
    (counted.pending, counted.cancelled)
}

async fn all_that_waits_ends_whatever_the_limits_of_the_lane(stage: &Stage) {
    for deleted in [false, true] {
        let subscriber = stage.subscribe(&stage.tenant, true).await;
        dispatch(stage, subscriber, 6).await;
        // One is scheduled, five are held.
        let one = outcomes(claim(&stage.store, 1).await, Ending::Failure(ErrorKind::Status), HOUR);
        stage.store.record(&one, &[], &BreakerPolicy::default()).await.unwrap();
        stage.store.queue().pause(lane_of(subscriber), 24 * HOUR).await.unwrap();
        slow(stage, subscriber).await;
        if deleted {
            assert!(stage.store.delete_subscriber(&stage.tenant, subscriber).await.unwrap());
        } else {
            activate(stage, subscriber, false).await;
        }
        assert!(
            stage
                .store
                .queue()
                .claim(&Claim::new(LeaseToken(stage.store.ids().next_uuid()), 9, HOUR))
                .await
                .unwrap()
                .jobs
                .is_empty()
        );
        assert_eq!(drain(stage, 100).await, [6]);
        assert_eq!(jobs(stage).await, 0);
    }
    assert_eq!(counted(stage).await, (0, 12));
}

async fn many_waiting_deliveries_end_in_batches(stage: &Stage) {
    const DELIVERIES: usize = 20_000;
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    slow(stage, subscriber).await;
    dispatch(stage, subscriber, 1).await;
    stage.multiply(DELIVERIES).await;
    activate(stage, subscriber, false).await;
    let batches = drain(stage, 1_000).await;
    assert_eq!(batches.iter().sum::<u64>(), DELIVERIES as u64);
    assert!(batches.iter().all(|batch| *batch <= 1_000), "{batches:?}");
    assert_eq!((jobs(stage).await, counted(stage).await), (0, (0, DELIVERIES as u64)));
}

async fn what_has_not_ended_is_delivered_after_reactivation(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    dispatch(stage, subscriber, 10).await;
    activate(stage, subscriber, false).await;
    assert_eq!(stage.store.drain(None, 4).await.unwrap().unwrap().deliveries.values().sum::<u64>(), 4);
    activate(stage, subscriber, true).await;
    assert!(stage.store.drain(None, 4).await.unwrap().is_none(), "the lane is open again");
    assert_eq!(claim(&stage.store, 100).await.len(), 6);
    assert_eq!(counted(stage).await, (6, 4));
}

async fn a_retry_of_an_inactive_subscriber_ends_without_waiting_for_its_time(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    dispatch(stage, subscriber, 1).await;
    let running = claim(&stage.store, 1).await;
    activate(stage, subscriber, false).await;
    assert_eq!(drain(stage, 100).await, [0], "it is running");
    let failed = outcomes(running, Ending::Failure(ErrorKind::Status), HOUR);
    stage.store.record(&failed, &[], &BreakerPolicy::default()).await.unwrap();
    assert_eq!(drain(stage, 100).await, [1]);
    assert_eq!(counted(stage).await, (0, 1));
}

/// A transaction that found the subscriber active may enqueue after the lane has been drained.
async fn a_delivery_that_came_too_late_marks_its_lane(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    activate(stage, subscriber, false).await;
    assert_eq!(drain(stage, 100).await, [0]);
    slow(stage, subscriber).await;
    dispatch(stage, subscriber, 5).await;
    let token = LeaseToken(stage.store.ids().next_uuid());
    let claimed = stage.store.queue().claim(&Claim::new(token, 1, HOUR)).await.unwrap().jobs;
    let mut loaded = stage.store.load(&claimed).await.unwrap();
    let Loaded::Inactive(delivery, end) = loaded.remove(0) else { panic!("inactive") };
    stage.record_untried(claimed[0].lease, &delivery, end).await;
    assert_eq!(drain(stage, 100).await, [4]);
    assert_eq!(counted(stage).await, (0, 5));
}

async fn other_lanes_are_claimed_while_one_drains(stage: &Stage) {
    let (one, other) =
        (stage.subscribe(&stage.tenant, true).await, stage.subscribe(&stage.tenant, true).await);
    dispatch(stage, one, 10).await;
    dispatch(stage, other, 3).await;
    activate(stage, one, false).await;
    let claimed = claim(&stage.store, 100).await;
    assert_eq!(claimed.len(), 3);
    assert!(claimed.iter().all(|(_, delivery)| delivery.subscriber == other));
}

async fn lanes(stage: &Stage) -> i64 {
    stage.rows("SELECT count(*) AS n FROM lanes").await[0].try_get("", "n").unwrap()
}

async fn the_lane_of_a_deleted_subscriber_is_removed_an_hour_later(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    stage.subscribe(&stage.tenant, true).await;
    dispatch(stage, subscriber, 3).await;
    stage.store.delete_subscriber(&stage.tenant, subscriber).await.unwrap();
    stage.database.advance(2 * HOUR).await;
    assert_eq!(stage.store.queue().remove_lanes(100).await.unwrap(), 0, "it is draining");
    assert_eq!(drain(stage, 100).await, [3]);
    assert_eq!(stage.store.queue().remove_lanes(100).await.unwrap(), 1);
    assert_eq!(lanes(stage).await, 1);
}

async fn a_lane_with_a_running_job_is_not_removed(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    dispatch(stage, subscriber, 1).await;
    let claimed = claim(&stage.store, 1).await;
    stage.store.delete_subscriber(&stage.tenant, subscriber).await.unwrap();
    drain(stage, 100).await;
    stage.database.advance(2 * HOUR).await;
    assert_eq!(stage.store.queue().remove_lanes(100).await.unwrap(), 0);
    stage.store.record(&[], &[(claimed[0].0, Finish::Release)], &BreakerPolicy::default()).await.unwrap();
    assert_eq!(stage.store.queue().remove_lanes(100).await.unwrap(), 0, "its job waits");
    assert_eq!(drain(stage, 100).await, [1]);
    assert_eq!(stage.store.queue().remove_lanes(100).await.unwrap(), 1);
}

async fn nothing_is_retried_for_a_subscriber_that_is_not_active(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let delivery = stage.dispatch(&stage.tenant, subscriber, "a.b", stage.now()).await;
    let off = SubscriberChange { active: Some(false), ..SubscriberChange::default() };
    stage.store.change_subscriber(&stage.tenant, subscriber, off).await.unwrap();
    drain(stage, 100).await;
    let retry = async || stage.store.retry(&stage.tenant, delivery).await.unwrap();
    assert!(matches!(retry().await, Changed::Inactive));
    stage.store.delete_subscriber(&stage.tenant, subscriber).await.unwrap();
    assert!(matches!(retry().await, Changed::Inactive));
    let status = stage.store.delivery(&stage.tenant, delivery).await.unwrap().unwrap().status;
    assert_eq!(status, DeliveryStatus::Cancelled, "it stays what it was");
}

async fn a_cancelled_delivery_takes_no_turn_of_its_lane(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    slow(stage, subscriber).await;
    let first = stage.dispatch(&stage.tenant, subscriber, "a.b", stage.now()).await;
    let second = stage.dispatch(&stage.tenant, subscriber, "a.b", stage.now()).await;
    stage.store.cancel(&stage.tenant, first).await.unwrap();
    assert_eq!(jobs(stage).await, 1);
    assert_eq!(claim(&stage.store, 9).await[0].1.id, second);
    // One that is running keeps its job, which its worker finishes.
    stage.store.cancel(&stage.tenant, second).await.unwrap();
    assert_eq!(jobs(stage).await, 1);
}
