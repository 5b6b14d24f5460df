//! Replays that workers carry out.

use std::collections::BTreeMap;

use postrider_core::replay::{ReplayMode, ReplayStatus};
use postrider_store::deliveries::DeliveryFilter;
use postrider_store::replays::{Replay, Started};
use postrider_testkit::eventually;

use crate::stage::{DEADLINE, Stage, config, on_both, tenant};

on_both!(a_replay_is_carried_out_by_workers);

async fn replayed(stage: &Stage, mode: ReplayMode) -> Replay {
    let started = stage.store.start_replay(&tenant(), mode, &DeliveryFilter::default()).await.unwrap();
    let Started::Replay(replay) = started else { panic!("too many replays") };
    eventually(DEADLINE, || async {
        let replay = stage.store.replay(&tenant(), replay.id).await.unwrap().unwrap();
        (replay.status == ReplayStatus::Done).then_some(replay)
    })
    .await
}

async fn a_replay_is_carried_out_by_workers(stage: &Stage) {
    stage.subscriber("/early").await;
    let events = stage.dispatch_many(20).await;
    let (one, two) = (stage.worker(config()).await, stage.worker(config()).await);
    stage.receiver.wait_for(20, DEADLINE).await;
    stage.settled().await;
    let all = replayed(stage, ReplayMode::All).await;
    assert_eq!((all.total, all.done, all.failed), (20, 20, 0));
    stage.receiver.wait_for(40, DEADLINE).await;
    stage.settled().await;
    let mut arrived: BTreeMap<String, usize> = BTreeMap::new();
    for request in stage.receiver.requests() {
        *arrived.entry(request.header("webhook-id").unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(arrived, events.iter().map(|event| (event.id.to_string(), 2)).collect());

    stage.subscriber("/late").await;
    let missed = replayed(stage, ReplayMode::Missed).await;
    assert_eq!((missed.total, missed.done, missed.failed), (20, 20, 0));
    let late = stage.receiver.wait_for_path("/late", 20, DEADLINE).await;
    stage.settled().await;
    assert_eq!(late.len(), 20);
    assert_eq!(stage.receiver.requests().len(), 60);
    one.stop().await;
    two.stop().await;
}
