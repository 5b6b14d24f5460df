//! Old events go with their deliveries and attempts, except what must stay.

use std::time::Duration;

use postrider_core::{DeadReason, DeliveryId, SubscriberId, TenantId};
use postrider_store::PageRequest;
use postrider_store::attempt::End;
use postrider_store::intake::KeyRow;
use postrider_store::retention::{Age, Removed, Retention, RetentionSettings, Stays};
use postrider_testkit::{ATTEMPTS, TestDatabase};
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};

use crate::partitions::off;
use crate::stage::{Stage, on_both};

on_both!(
    old_events_go_with_all_that_belongs_to_them,
    an_event_with_a_pending_delivery_stays,
    an_event_stays_while_its_fan_out_goes_on,
    an_event_stays_as_long_as_its_dead_letter,
    history_is_kept_for_ninety_days_unless_a_setting_says_otherwise,
    old_idempotency_keys_go,
    payloads_are_kept_no_longer_than_the_history,
);

pub(crate) const DAY: Duration = Duration::from_hours(24);

pub(crate) const fn days(days: u32) -> Age {
    Age::For(Duration::from_hours(24 * days as u64))
}

pub(crate) const NINETY_DAYS: Retention = Retention { history: days(90), payloads: days(90), dead: days(90) };

/// Dispatches an event so many days ago, and ends its delivery.
pub(crate) async fn dispatch(
    stage: &Stage,
    tenant: &TenantId,
    subscriber: SubscriberId,
    ago: u32,
    end: Option<End>,
) -> DeliveryId {
    let store = off(stage, Duration::ZERO, ago * DAY);
    let moment = store.ids().clock().now();
    store.ensure_partition(store.database().connection(), moment).await.unwrap();
    let id = stage.dispatch_by(&store, tenant, subscriber, "a", moment).await;
    if let Some(end) = end {
        let claimed = stage.claim().await;
        let (lease, delivery) = claimed.iter().find(|(_, delivery)| delivery.id == id).unwrap();
        stage.record(*lease, delivery, Duration::ZERO, end).await;
    }
    id
}

pub(crate) async fn exist(stage: &Stage, id: DeliveryId) -> [bool; 3] {
    let delivery = stage.store.delivery(&stage.tenant, id).await.unwrap().is_some();
    let event = stage.store.event(&stage.tenant, id.event()).await.unwrap().is_some();
    let attempts = stage.store.attempts(&stage.tenant, id, PageRequest::default()).await.unwrap();
    [event, delivery, !attempts.items.is_empty()]
}

async fn old_events_go_with_all_that_belongs_to_them(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let other = TenantId::try_from("other".to_owned()).unwrap();
    let others = stage.subscribe(&other, true).await;
    let old = dispatch(stage, &stage.tenant, subscriber, 95, Some(End::Succeeded)).await;
    let of_another_tenant = dispatch(stage, &other, others, 95, Some(End::Cancelled)).await;
    let young = dispatch(stage, &stage.tenant, subscriber, 85, Some(End::Succeeded)).await;
    let kept = Retention { history: Age::Forever, payloads: Age::Forever, dead: Age::Forever };
    assert_eq!(stage.store.remove_expired(kept).await.unwrap(), Removed::default());
    assert_eq!(exist(stage, old).await, [true; 3]);
    let removed = stage.store.remove_expired(NINETY_DAYS).await.unwrap();
    assert_eq!(
        (removed.stay.len(), removed.partitions.len() as u64 + removed.events / 2),
        (0, 1),
        "{removed:?}"
    );
    assert_eq!(exist(stage, old).await, [false; 3]);
    assert!(stage.store.delivery(&other, of_another_tenant).await.unwrap().is_none());
    assert_eq!(exist(stage, young).await, [true; 3]);
    for table in ["events", "deliveries", ATTEMPTS] {
        assert_eq!(stage.count(&format!("SELECT count(*) AS n FROM {table}")).await, 1, "{table}");
    }
    assert_eq!(stage.store.remove_expired(NINETY_DAYS).await.unwrap(), Removed::default());
}

async fn an_event_with_a_pending_delivery_stays(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let old = dispatch(stage, &stage.tenant, subscriber, 95, None).await;
    let removed = stage.store.remove_expired(NINETY_DAYS).await.unwrap();
    assert_eq!((removed.partitions.len(), removed.events), (0, 0));
    assert!(removed.stay.iter().all(|(_, why)| *why == Stays::Pending), "{removed:?}");
    assert_eq!(exist(stage, old).await, [true, true, false]);
    stage.store.cancel(&stage.tenant, old).await.unwrap();
    stage.store.remove_expired(NINETY_DAYS).await.unwrap();
    assert_eq!(exist(stage, old).await, [false; 3]);
}

async fn an_event_stays_while_its_fan_out_goes_on(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let old = dispatch(stage, &stage.tenant, subscriber, 95, Some(End::Succeeded)).await;
    let begin = "INSERT INTO fan_outs (tenant, event_id, event_type, dispatched_at, reached, last, jobs_created, \
            created_at, touched_at) \
        SELECT tenant, id, event_type, dispatched_at, id, id, 0, 0, 0 FROM events";
    stage.database.connection().execute_unprepared(begin).await.unwrap();
    let removed = stage.store.remove_expired(NINETY_DAYS).await.unwrap();
    assert!(removed.stay.iter().all(|(_, why)| *why == Stays::Pending), "{removed:?}");
    assert_eq!(exist(stage, old).await, [true; 3]);
    stage.database.connection().execute_unprepared("DELETE FROM fan_outs").await.unwrap();
    stage.store.remove_expired(NINETY_DAYS).await.unwrap();
    assert_eq!(exist(stage, old).await, [false; 3]);
}

async fn an_event_stays_as_long_as_its_dead_letter(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let dead = End::Dead(DeadReason::AttemptsUsedUp);
    let old = dispatch(stage, &stage.tenant, subscriber, 95, Some(dead)).await;
    // It has died just now.
    let removed = stage.store.remove_expired(NINETY_DAYS).await.unwrap();
    assert!(removed.stay.iter().all(|(_, why)| *why == Stays::DeadLetters), "{removed:?}");
    assert_eq!(exist(stage, old).await, [true; 3]);
    stage.database.advance(91 * DAY).await;
    let forever = Retention { dead: Age::Forever, ..NINETY_DAYS };
    stage.store.remove_expired(forever).await.unwrap();
    assert_eq!(exist(stage, old).await, [true; 3]);
    stage.store.remove_expired(NINETY_DAYS).await.unwrap();
    assert_eq!(exist(stage, old).await, [false; 3]);
}

async fn history_is_kept_for_ninety_days_unless_a_setting_says_otherwise(stage: &Stage) {
    let retention = async |history, dead| {
        stage.store.retention(RetentionSettings { history, dead, payloads: None }).await.unwrap()
    };
    assert_eq!(retention(None, None).await, NINETY_DAYS);
    assert_eq!(
        retention(Some(days(7)), None).await,
        Retention { history: days(7), payloads: days(7), dead: days(7) }
    );
    assert_eq!(retention(Some(days(7)), Some(days(3))).await.dead, days(7), "never shorter than the history");
    assert_eq!(retention(None, Some(Age::Forever)).await.dead, Age::Forever);
    let sql =
        "INSERT INTO partitions (starts_at, ends_at, suffix, converted) VALUES (0, 1000, 'converted', true)";
    stage.database.connection().execute_unprepared(sql).await.unwrap();
    assert_eq!(
        retention(None, None).await,
        Retention { history: Age::Forever, payloads: Age::Forever, dead: Age::Forever }
    );
    assert_eq!(retention(Some(days(7)), None).await.history, days(7));
}

async fn payloads_are_kept_no_longer_than_the_history(stage: &Stage) {
    let payloads = async |history, payloads| {
        let settings = RetentionSettings { history, payloads, dead: None };
        stage.store.retention(settings).await.unwrap().payloads
    };
    assert_eq!(payloads(Some(days(7)), None).await, days(7));
    assert_eq!(payloads(Some(days(7)), Some(days(3))).await, days(3));
    assert_eq!(payloads(Some(days(7)), Some(days(8))).await, days(7));
    assert_eq!(payloads(Some(days(7)), Some(Age::Forever)).await, days(7));
    assert_eq!(payloads(Some(Age::Forever), Some(days(8))).await, days(8));
}

async fn old_idempotency_keys_go(stage: &Stage) {
    let key = |name: &str, ago: u32| KeyRow {
        tenant: stage.tenant.clone(),
        key: name.to_owned(),
        request_hash: [0; 32],
        event_id: stage.store.ids().next(),
        jobs: Vec::new(),
        created_at: stage.now() - ago * DAY,
    };
    let keys = [key("old", 91), key("young", 89)];
    stage.store.take_keys(stage.store.database().connection(), &keys).await.unwrap();
    stage.store.remove_expired(NINETY_DAYS).await.unwrap();
    let left = stage.rows("SELECT key FROM idempotency_keys").await;
    let left: Vec<String> = left.iter().map(|row| row.try_get("", "key").unwrap()).collect();
    assert_eq!(left, ["young"]);
}

/// Dropping does not wait behind a transaction that reads the tables, or others would wait behind it.
#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_partition_gives_way_to_readers() {
    let stage = Stage::of(TestDatabase::postgres().await).await;
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let old = dispatch(&stage, &stage.tenant, subscriber, 95, Some(End::Succeeded)).await;
    let reader = stage.database.connection().begin().await.unwrap();
    reader.execute_unprepared("SELECT count(*) FROM deliveries").await.unwrap();
    let given_way = Removed { more: true, ..Removed::default() };
    assert_eq!(stage.store.remove_expired(NINETY_DAYS).await.unwrap(), given_way);
    stage.dispatch(&stage.tenant, subscriber, "b", stage.now()).await;
    assert_eq!(exist(&stage, old).await, [true; 3]);
    reader.commit().await.unwrap();
    assert_eq!(stage.store.remove_expired(NINETY_DAYS).await.unwrap().partitions.len(), 1);
    assert_eq!(exist(&stage, old).await, [false; 3]);
    let expiring = stage.store.expiring(NINETY_DAYS).await.unwrap();
    assert!(
        expiring.iter().all(|one| one.bytes > 0 && one.goes_at == Some(one.ends_at + 90 * DAY)),
        "{expiring:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kept_a_partition_is_looked_up_without_stopping_writers() {
    let stage = Stage::of(TestDatabase::postgres().await).await;
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let first = dispatch(&stage, &stage.tenant, subscriber, 95, None).await;
    let second = dispatch(&stage, &stage.tenant, subscriber, 95, None).await;
    let removed = stage.store.remove_expired(NINETY_DAYS).await.unwrap();
    assert!(matches!(removed.stay[..], [(_, Stays::Pending)]), "{removed:?}");
    let remembered = "SELECT count(*) AS n FROM partitions WHERE pending_tenant = 'default' AND pending_delivery IS NOT NULL";
    assert_eq!(stage.count(remembered).await, 1);
    // Reading the whole partition would have to wait for this writer, and give way.
    let writer = stage.database.connection().begin().await.unwrap();
    writer.execute_unprepared("UPDATE deliveries SET attempts = attempts").await.unwrap();
    assert_eq!(stage.store.remove_expired(NINETY_DAYS).await.unwrap(), removed);
    writer.rollback().await.unwrap();
    // Whichever it remembered: the other one keeps the partition, and then nothing does.
    for (id, stays) in [(first, 1), (second, 0)] {
        stage.store.cancel(&stage.tenant, id).await.unwrap();
        assert_eq!(stage.store.remove_expired(NINETY_DAYS).await.unwrap().stay.len(), stays);
    }
    assert_eq!(exist(&stage, first).await, [false; 3]);
}
