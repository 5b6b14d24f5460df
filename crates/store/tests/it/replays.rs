//! Replays: frozen sets, steps, pauses, and what cannot be delivered again.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_core::policy::PolicyFields;
use postrider_core::replay::{ReplayFailure, ReplayMode, ReplayStatus};
use postrider_core::{DeadReason, DeliveryId, DeliveryStatus, Policy, ReplayId, SubscriberId, TenantId};
use postrider_store::PageRequest;
use postrider_store::attempt::End;
use postrider_store::deliveries::DeliveryFilter;
use postrider_store::intake::Everyone;
use postrider_store::replays::{MAX_OPEN, Replay, ReplayChange, ReplayChanged, Started};
use postrider_store::retention::{Age, Retention};
use postrider_store::subscribers::SubscriberChange;
use rand_free::Numbers;
use sea_orm::ConnectionTrait as _;

use crate::stage::{Stage, on_both};

on_both!(
    a_replay_delivers_what_had_ended_when_it_was_started,
    what_cannot_be_delivered_again_fails_with_a_reason,
    a_replay_is_paused_resumed_and_cancelled,
    missed_events_are_delivered_once,
    what_is_pending_and_matches_is_cancelled,
    steps_that_are_cut_off_deliver_nothing_twice,
    a_tenant_has_few_unfinished_replays,
    a_set_is_counted_without_a_replay,
    replays_are_removed_with_their_history,
);

const USED_UP: End = End::Dead(DeadReason::AttemptsUsedUp);

/// Numbers that look random.
mod rand_free {
    pub(super) struct Numbers(pub(super) u64);

    impl Numbers {
        pub(super) fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % end
        }
    }
}

async fn ended(stage: &Stage, subscriber: SubscriberId, event: &str, end: End) -> DeliveryId {
    let id = stage.dispatch(&stage.tenant, subscriber, event, stage.now()).await;
    stage.attempt(end).await;
    id
}

async fn start(stage: &Stage, mode: ReplayMode, filter: &DeliveryFilter) -> Replay {
    match stage.store.start_replay(&stage.tenant, mode, filter).await.unwrap() {
        Started::Replay(replay) => *replay,
        Started::TooMany => panic!("too many replays"),
    }
}

/// Takes steps until none is left.
async fn finish(stage: &Stage, id: ReplayId) -> Replay {
    postrider_testkit::eventually(Duration::from_secs(30), || async {
        while stage.store.step_replays(None, &Everyone).await.unwrap().is_some() {}
        // A step that was cut off may hold its lock for a moment.
        Some(get(stage, id).await).filter(|replay| replay.status.is_final())
    })
    .await
}

async fn get(stage: &Stage, id: ReplayId) -> Replay {
    stage.store.replay(&stage.tenant, id).await.unwrap().unwrap()
}

async fn status(stage: &Stage, id: DeliveryId) -> DeliveryStatus {
    stage.store.delivery(&stage.tenant, id).await.unwrap().unwrap().status
}

async fn jobs(stage: &Stage) -> u64 {
    stage.count("SELECT count(*) AS n FROM jobs").await
}

fn any() -> DeliveryFilter {
    DeliveryFilter::default()
}

async fn a_replay_delivers_what_had_ended_when_it_was_started(stage: &Stage) {
    let one = stage.subscribe(&stage.tenant, true).await;
    let two = stage.subscribe(&stage.tenant, true).await;
    let dead = ended(stage, one, "a", USED_UP).await;
    let other = ended(stage, two, "b", USED_UP).await;
    let succeeded = ended(stage, one, "a", End::Succeeded).await;
    let later = stage.dispatch(&stage.tenant, one, "a", stage.now()).await;
    let foreign: TenantId = "other".parse().unwrap();
    let other_subscriber = stage.subscribe(&foreign, true).await;

    let replay = start(stage, ReplayMode::Dead, &any()).await;
    let by_type = DeliveryFilter { event_type: Some("a".parse().unwrap()), ..any() };
    let of_one = DeliveryFilter { subscriber: Some(one), ..by_type };
    let all = start(stage, ReplayMode::All, &of_one).await;
    // What dies now does not belong to either set.
    stage.attempt(USED_UP).await;
    stage.dispatch(&foreign, other_subscriber, "a", stage.now()).await;
    stage.attempt(USED_UP).await;
    let step = stage.store.step_replay(&stage.tenant, replay.id, &Everyone).await.unwrap().unwrap();
    assert_eq!((step.status, step.collected), (ReplayStatus::Running, 2));
    let frozen = get(stage, replay.id).await;
    assert_eq!((frozen.total, frozen.collected, frozen.done), (2, true, 0));

    let done = finish(stage, replay.id).await;
    assert_eq!((done.status, done.total, done.done, done.failed), (ReplayStatus::Done, 2, 2, 0));
    assert!(done.ended_at.is_some() && !done.truncated, "{done:?}");
    // The dead one was restarted by the first replay, after the second was started.
    let all = get(stage, all.id).await;
    assert_eq!((all.status, all.total, all.done + all.failed), (ReplayStatus::Done, all.total, all.total));
    assert_eq!(status(stage, succeeded).await, DeliveryStatus::Pending);
    for (id, expected) in
        [(dead, DeliveryStatus::Pending), (other, DeliveryStatus::Pending), (later, DeliveryStatus::Dead)]
    {
        assert_eq!(status(stage, id).await, expected, "{id}");
    }
    assert_eq!(jobs(stage).await, 3, "one for each delivery that is pending");
    assert!(stage.store.replay(&foreign, replay.id).await.unwrap().is_none(), "tenants are apart");
    let changed = stage.store.change_replay(&foreign, replay.id, ReplayChange::Cancel).await.unwrap();
    assert!(matches!(changed, ReplayChanged::Missing), "{changed:?}");
    assert!(stage.store.replays(&foreign, PageRequest::default()).await.unwrap().items.is_empty());
    let listed = stage.store.replays(&stage.tenant, PageRequest { limit: 1, before: None }).await.unwrap();
    assert_eq!((listed.items[0].id, listed.next), (all.id, Some(all.id)), "newest first");
    // Delivered again, each keeps its earlier attempts.
    let again = stage.store.delivery(&stage.tenant, dead).await.unwrap().unwrap();
    assert_eq!((again.attempts, again.dead_reason), (1, None));
}

async fn what_cannot_be_delivered_again_fails_with_a_reason(stage: &Stage) {
    let one = stage.subscribe(&stage.tenant, true).await;
    let off = stage.subscribe(&stage.tenant, true).await;
    let mut dead = Vec::new();
    for _ in 0..5 {
        dead.push(ended(stage, one, "a", USED_UP).await);
    }
    ended(stage, off, "a", USED_UP).await;
    let replay = start(stage, ReplayMode::Dead, &any()).await;
    stage.store.step_replay(&stage.tenant, replay.id, &Everyone).await.unwrap().unwrap();
    assert_eq!(get(stage, replay.id).await.total, 6);

    stage.store.delete_dead_letter(&stage.tenant, dead[0]).await.unwrap();
    stage.store.retry(&stage.tenant, dead[1]).await.unwrap();
    stage.attempt(USED_UP).await;
    stage.store.retry(&stage.tenant, dead[2]).await.unwrap();
    stage.store.erase_payload(&stage.tenant, dead[3].event()).await.unwrap();
    let change = SubscriberChange { active: Some(false), ..SubscriberChange::default() };
    stage.store.change_subscriber(&stage.tenant, off, change).await.unwrap();

    let done = finish(stage, replay.id).await;
    assert_eq!((done.status, done.done, done.failed), (ReplayStatus::Done, 1, 5), "{done:?}");
    let failures: BTreeMap<_, _> = done.failures.iter().map(|(why, count)| (why.as_str(), *count)).collect();
    let expected = [
        (ReplayFailure::Changed, 2),
        (ReplayFailure::Inactive, 1),
        (ReplayFailure::PayloadErased, 1),
        (ReplayFailure::Removed, 1),
    ];
    assert_eq!(failures, expected.map(|(why, count)| (why.as_str(), count)).into());
    assert_eq!(status(stage, dead[4]).await, DeliveryStatus::Pending);
    assert_eq!(status(stage, dead[1]).await, DeliveryStatus::Dead, "it died again since");
    assert_eq!(jobs(stage).await, 2, "of the replay and of the retry");
}

async fn a_replay_is_paused_resumed_and_cancelled(stage: &Stage) {
    let one = stage.subscribe(&stage.tenant, true).await;
    ended(stage, one, "a", USED_UP).await;
    let change = async |id, change| stage.store.change_replay(&stage.tenant, id, change).await.unwrap();
    let is = |changed: ReplayChanged, status| match changed {
        ReplayChanged::Done(replay) => assert_eq!(replay.status, status),
        other => panic!("{other:?}"),
    };
    let replay = start(stage, ReplayMode::Dead, &any()).await.id;
    is(change(replay, ReplayChange::Pause).await, ReplayStatus::Paused);
    assert!(stage.store.step_replays(None, &Everyone).await.unwrap().is_none(), "no step is taken");
    assert!(stage.store.step_replay(&stage.tenant, replay, &Everyone).await.unwrap().is_none());
    assert!(matches!(change(replay, ReplayChange::Pause).await, ReplayChanged::Not(ReplayStatus::Paused)));
    is(change(replay, ReplayChange::Resume).await, ReplayStatus::Collecting);
    assert!(matches!(change(replay, ReplayChange::Resume).await, ReplayChanged::Not(_)));
    stage.store.step_replays(None, &Everyone).await.unwrap().unwrap();
    is(change(replay, ReplayChange::Pause).await, ReplayStatus::Paused);
    is(change(replay, ReplayChange::Resume).await, ReplayStatus::Running);
    is(change(replay, ReplayChange::Cancel).await, ReplayStatus::Cancelled);
    assert!(matches!(
        change(replay, ReplayChange::Resume).await,
        ReplayChanged::Not(ReplayStatus::Cancelled)
    ));
    assert!(stage.store.step_replays(None, &Everyone).await.unwrap().is_none());
    assert_eq!((jobs(stage).await, get(stage, replay).await.done), (0, 0));
    assert_eq!(stage.count("SELECT count(*) AS n FROM replay_rows").await, 1);
    while stage.store.clean_replays().await.unwrap() {}
    assert_eq!(stage.count("SELECT count(*) AS n FROM replay_rows").await, 0);
    // The dead letter is there for another one.
    let again = start(stage, ReplayMode::Dead, &any()).await.id;
    assert_eq!(finish(stage, again).await.done, 1);
    assert_eq!(stage.count("SELECT count(*) AS n FROM replay_rows").await, 0);
}

async fn what_is_pending_and_matches_is_cancelled(stage: &Stage) {
    let one = stage.subscribe(&stage.tenant, true).await;
    let two = stage.subscribe(&stage.tenant, true).await;
    let dead = ended(stage, one, "a", USED_UP).await;
    let mut mine = Vec::new();
    for _ in 0..3 {
        mine.push(stage.dispatch(&stage.tenant, one, "a", stage.now()).await);
    }
    let others = [
        stage.dispatch(&stage.tenant, one, "b", stage.now()).await,
        stage.dispatch(&stage.tenant, two, "a", stage.now()).await,
    ];
    let filter = DeliveryFilter { subscriber: Some(one), event_type: Some("a".parse().unwrap()), ..any() };
    let within = Duration::from_secs(30);
    let counted = stage.store.estimate_replay(&stage.tenant, ReplayMode::Cancel, &filter, &Everyone, within);
    assert_eq!(counted.await.unwrap().total, 3);

    let job = start(stage, ReplayMode::Cancel, &filter).await.id;
    stage.store.step_replay(&stage.tenant, job, &Everyone).await.unwrap();
    assert_eq!((get(stage, job).await.total, get(stage, job).await.collected), (3, true));
    // What is dispatched now does not join the set, and what ends now keeps its outcome.
    let later = stage.dispatch(&stage.tenant, one, "a", stage.now()).await;
    stage.store.cancel(&stage.tenant, mine[0]).await.unwrap();
    assert_eq!(jobs(stage).await, 5);

    let step = stage.store.step_replay(&stage.tenant, job, &Everyone).await.unwrap().unwrap();
    assert_eq!(step.cancelled, [("a".parse().unwrap(), 2)].into());
    let done = finish(stage, job).await;
    assert_eq!((done.status, done.total, done.done), (ReplayStatus::Done, 3, 2));
    assert_eq!(done.failures, [(ReplayFailure::Changed, 1)]);
    for id in mine {
        assert_eq!(status(stage, id).await, DeliveryStatus::Cancelled);
    }
    for id in [others[0], others[1], later] {
        assert_eq!(status(stage, id).await, DeliveryStatus::Pending);
    }
    assert_eq!(status(stage, dead).await, DeliveryStatus::Dead);
    assert_eq!(jobs(stage).await, 3, "their jobs go with them");
    let again = start(stage, ReplayMode::Cancel, &filter).await.id;
    assert_eq!(finish(stage, again).await.done, 1);
}

async fn missed_events_are_delivered_once(stage: &Stage) {
    let early = stage.subscribe(&stage.tenant, true).await;
    let first = stage.dispatch(&stage.tenant, early, "a.b", stage.now()).await;
    let second = stage.dispatch(&stage.tenant, early, "b", stage.now()).await;
    stage.dispatch(&stage.tenant, early, "postrider.test", stage.now()).await;
    let erased = stage.dispatch(&stage.tenant, early, "c", stage.now()).await;
    stage.store.erase_payload(&stage.tenant, erased.event()).await.unwrap();
    let late = stage.subscribe(&stage.tenant, true).await;
    let also = stage.subscribe(&stage.tenant, true).await;
    stage.subscribe(&stage.tenant, false).await;
    let of_late = DeliveryFilter { subscriber: Some(late), ..any() };
    let replay = start(stage, ReplayMode::Missed, &of_late).await;
    let done = finish(stage, replay.id).await;
    assert_eq!((done.status, done.total, done.done, done.failed), (ReplayStatus::Done, 2, 2, 0), "{done:?}");
    let of_event = |id: DeliveryId| DeliveryFilter { event_id: Some(id.event()), ..any() };
    for id in [first, second] {
        let found =
            stage.store.deliveries(&stage.tenant, &of_event(id), PageRequest::default()).await.unwrap();
        let found: Vec<_> = found.items.iter().rev().map(|one| (one.id.number(), one.subscriber)).collect();
        assert_eq!(found, [(1, early), (2, late)]);
        let event = stage.store.event(&stage.tenant, id.event()).await.unwrap().unwrap();
        assert_eq!((event.subscribers_found, event.jobs_created), (2, 2));
    }
    // Everybody's: two replays at a time deliver each once.
    let (one, two) =
        (start(stage, ReplayMode::Missed, &any()).await, start(stage, ReplayMode::Missed, &any()).await);
    for replay in [&one, &two] {
        stage.store.step_replay(&stage.tenant, replay.id, &Everyone).await.unwrap().unwrap();
    }
    finish(stage, one.id).await;
    let (one, two) = (get(stage, one.id).await, get(stage, two.id).await);
    assert_eq!((one.total, two.total), (2, 2), "of the third subscriber");
    assert_eq!((one.done + two.done, one.failed + two.failed), (2, 2), "{one:?} {two:?}");
    let found =
        stage.store.deliveries(&stage.tenant, &of_event(first), PageRequest::default()).await.unwrap();
    assert_eq!((found.items[0].id.number(), found.items[0].subscriber), (3, also));
    assert_eq!(jobs(stage).await, 8, "four of before, and four that were missed");
    let nothing = start(stage, ReplayMode::Missed, &any()).await;
    let nothing = finish(stage, nothing.id).await;
    assert_eq!((nothing.status, nothing.total), (ReplayStatus::Done, 0));
    // Their workers find everything that they need.
    assert_eq!(stage.load_all().await.iter().filter(|loaded| *loaded == "Deliver").count(), 7);
}

/// A process can end anywhere in a step. What it has not committed is not there.
async fn steps_that_are_cut_off_deliver_nothing_twice(stage: &Stage) {
    let one = stage.subscribe(&stage.tenant, true).await;
    stage.dispatch(&stage.tenant, one, "a", stage.now()).await;
    stage.multiply(1_500).await;
    let sql = "UPDATE deliveries SET status = 2, died_at = 1, dead_reason = 1, ended_at = 1";
    stage.database.connection().execute_unprepared(sql).await.unwrap();
    stage.database.connection().execute_unprepared("DELETE FROM jobs").await.unwrap();
    let replay = start(stage, ReplayMode::Dead, &any()).await;
    let mut numbers = Numbers(17);
    let mut cut = 0;
    for _ in 0..40 {
        let store = stage.store.clone();
        let step = tokio::spawn(async move { store.step_replays(None, &Everyone).await });
        tokio::time::sleep(Duration::from_micros(numbers.below(20_000))).await;
        cut += u32::from(!step.is_finished());
        step.abort();
        let _ = step.await;
        let counted = "SELECT (SELECT count(*) FROM deliveries WHERE status = 0) - done AS n FROM replays";
        assert_eq!(stage.count(counted).await, 0);
        assert_eq!(stage.count("SELECT (SELECT count(*) FROM jobs) - done AS n FROM replays").await, 0);
    }
    assert!(cut > 0, "no step was cut off");
    let done = finish(stage, replay.id).await;
    assert_eq!((done.status, done.total, done.done), (ReplayStatus::Done, 1_500, 1_500), "{done:?}");
    assert_eq!(stage.count("SELECT count(DISTINCT subject) AS n FROM jobs").await, 1_500);
    assert_eq!(jobs(stage).await, 1_500);
}

async fn a_tenant_has_few_unfinished_replays(stage: &Stage) {
    let starting = (0..MAX_OPEN + 5).map(|_| {
        let (store, tenant) = (stage.store.clone(), stage.tenant.clone());
        tokio::spawn(async move {
            store.start_replay(&tenant, ReplayMode::Dead, &DeliveryFilter::default()).await
        })
    });
    let mut started = Vec::new();
    for starting in starting.collect::<Vec<_>>() {
        if let Started::Replay(replay) = starting.await.unwrap().unwrap() {
            started.push(replay.id);
        }
    }
    assert_eq!(started.len(), usize::try_from(MAX_OPEN).unwrap());
    let other: TenantId = "other".parse().unwrap();
    let foreign = stage.store.start_replay(&other, ReplayMode::Dead, &any()).await.unwrap();
    assert!(matches!(foreign, Started::Replay(_)), "tenants are apart");
    // Tenants take turns.
    let mut last = None;
    let mut tenants = Vec::new();
    for _ in 0..2 {
        let step = stage.store.step_replays(last.as_ref(), &Everyone).await.unwrap().unwrap();
        tenants.push(step.tenant.clone());
        last = Some(step.tenant);
    }
    tenants.sort_unstable();
    assert_eq!(tenants, [stage.tenant.clone(), other]);
    finish(stage, started[0]).await;
    start(stage, ReplayMode::Dead, &any()).await;
}

async fn a_set_is_counted_without_a_replay(stage: &Stage) {
    let one = stage.subscribe(&stage.tenant, true).await;
    let two = stage.subscribe(&stage.tenant, true).await;
    for _ in 0..3 {
        ended(stage, one, "a", USED_UP).await;
    }
    ended(stage, one, "a", End::Succeeded).await;
    ended(stage, two, "b", End::Succeeded).await;
    let fields: PolicyFields =
        serde_json::from_str(r#"{"rate_limit": {"per_second": 0.5, "burst": 1}}"#).unwrap();
    let change =
        SubscriberChange { policy: Some(Policy::try_from(fields).unwrap()), ..SubscriberChange::default() };
    stage.store.change_subscriber(&stage.tenant, one, change).await.unwrap();
    let count = async |mode, filter: &DeliveryFilter| {
        let within = Duration::from_secs(5);
        stage.store.estimate_replay(&stage.tenant, mode, filter, &Everyone, within).await.unwrap()
    };
    let dead = count(ReplayMode::Dead, &any()).await;
    assert_eq!((dead.total, dead.complete, dead.succeeded, dead.subscribers), (3, true, 0, 1));
    assert!(dead.oldest < dead.newest && dead.oldest.is_some());
    // One at once, then one every two seconds.
    assert_eq!(
        (dead.at_least, dead.listed[0].at_least),
        (Duration::from_secs(4), Some(Duration::from_secs(4)))
    );
    let all = count(ReplayMode::All, &any()).await;
    assert_eq!((all.total, all.succeeded, all.subscribers), (5, 2, 2));
    assert_eq!((all.listed[0].subscriber, all.listed[0].total, all.listed[0].succeeded), (one, 4, 1));
    assert_eq!((all.listed[1].subscriber, all.listed[1].at_least), (two, None));
    let succeeded = DeliveryFilter { status: Some(DeliveryStatus::Succeeded), ..any() };
    assert_eq!(count(ReplayMode::All, &succeeded).await.total, 2);
    let of_two = DeliveryFilter { subscriber: Some(two), ..any() };
    assert_eq!(count(ReplayMode::All, &of_two).await.total, 1);
    assert_eq!(count(ReplayMode::Missed, &of_two).await.total, 4, "the events of the other one");
    let later = DeliveryFilter { since: Some(stage.now() + Duration::from_hours(2)), ..any() };
    assert_eq!(count(ReplayMode::All, &later).await.total, 0);
    let before = DeliveryFilter { until: Some(stage.now() - Duration::from_hours(2)), ..any() };
    assert_eq!(count(ReplayMode::All, &before).await.total, 0);
    assert_eq!(stage.count("SELECT count(*) AS n FROM replays").await, 0);
}

async fn replays_are_removed_with_their_history(stage: &Stage) {
    let one = stage.subscribe(&stage.tenant, true).await;
    ended(stage, one, "a", USED_UP).await;
    let done =
        start(stage, ReplayMode::Dead, &DeliveryFilter { event_type: Some("b".parse().unwrap()), ..any() })
            .await;
    finish(stage, done.id).await;
    let left = start(stage, ReplayMode::Dead, &any()).await;
    stage.store.step_replay(&stage.tenant, left.id, &Everyone).await.unwrap();
    stage.store.change_replay(&stage.tenant, left.id, ReplayChange::Pause).await.unwrap();
    let day = Retention {
        history: Age::For(Duration::from_hours(24)),
        payloads: Age::For(Duration::from_hours(24)),
        dead: Age::For(Duration::from_hours(24)),
    };
    assert!(!stage.store.remove_old_replays(day).await.unwrap(), "nothing is old");
    stage.database.advance(Duration::from_hours(25)).await;
    assert!(stage.store.remove_old_replays(day).await.unwrap());
    assert!(stage.store.replay(&stage.tenant, done.id).await.unwrap().is_none());
    assert_eq!(get(stage, left.id).await.status, ReplayStatus::Cancelled);
    while stage.store.clean_replays().await.unwrap() {}
    while stage.store.remove_old_replays(day).await.unwrap() {}
    assert!(stage.store.replay(&stage.tenant, left.id).await.unwrap().is_none());
    assert_eq!(stage.count("SELECT count(*) AS n FROM replay_rows").await, 0);
}
