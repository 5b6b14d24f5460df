//! Partitions: made ahead of time or when they are missing, and statements whose rows are in several.

use std::sync::Arc;
use std::time::Duration;

use postrider_core::{Clock, IdGenerator, Keyring, SystemClock, SystemRandom, Timestamp};
use postrider_store::attempt::End;
use postrider_store::{PageRequest, Store};
use postrider_testkit::TestDatabase;
use sea_orm::ConnectionTrait as _;

use crate::stage::Stage;

const DAY: Duration = Duration::from_hours(24);

/// A clock that is off.
struct Off {
    ahead: Duration,
    behind: Duration,
}

impl Clock for Off {
    fn now(&self) -> Timestamp {
        SystemClock.now() + self.ahead - self.behind
    }
}

async fn stage() -> Stage {
    Stage::of(TestDatabase::postgres().await).await
}

/// A store on the stage's database whose clock is off.
pub(crate) fn off(stage: &Stage, ahead: Duration, behind: Duration) -> Store {
    let keyring = Keyring::parse(&Keyring::generate_key(&SystemRandom)).unwrap();
    let ids = IdGenerator::new(Arc::new(Off { ahead, behind }), Arc::new(SystemRandom));
    Store::new(stage.store.database().clone(), Arc::clone(stage.store.queue()), keyring, ids)
}

/// Starts and ends, in the order of time.
async fn spans(stage: &Stage) -> Vec<(i64, i64)> {
    let rows = stage.rows("SELECT starts_at, ends_at FROM partitions ORDER BY starts_at").await;
    rows.iter()
        .map(|row| (row.try_get("", "starts_at").unwrap(), row.try_get("", "ends_at").unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_made_a_week_ahead_by_any_number_of_processes() {
    let stage = stage().await;
    let stores = [stage.another_store().await, stage.another_store().await, stage.another_store().await];
    let (a, b, c) =
        tokio::join!(stores[0].keep_partitions(), stores[1].keep_partitions(), stores[2].keep_partitions());
    for kept in [a, b, c] {
        let kept = kept.unwrap().unwrap();
        assert!((7 * DAY..8 * DAY).contains(&kept.ahead), "{kept:?}");
        assert!(stage.now().since(kept.oldest) < DAY, "{kept:?}");
    }
    let spans = spans(&stage).await;
    assert!((8..=9).contains(&spans.len()), "{spans:?}");
    assert!(spans.windows(2).all(|pair| pair[0].1 == pair[1].0), "without gaps: {spans:?}");
    let day = i64::try_from(DAY.as_millis()).unwrap();
    assert!(spans.iter().all(|(start, end)| start % day == 0 && end - start == day), "{spans:?}");
    let tables = "SELECT count(*) AS n FROM pg_inherits WHERE inhparent IN \
        ('events'::regclass, 'deliveries'::regclass, 'attempts'::regclass)";
    assert_eq!(stage.count(tables).await, 3 * spans.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_another_span_fill_the_gaps_between_those_that_exist() {
    let stage = stage().await;
    let later = off(&stage, 3 * DAY, Duration::ZERO);
    let connection = stage.store.database().connection();
    later.ensure_partition(connection, later.ids().clock().now()).await.unwrap();
    let store = stage.another_store().await.with_partitions_of(5 * DAY);
    store.keep_partitions().await.unwrap();
    let spans = spans(&stage).await;
    assert!(spans.windows(2).all(|pair| pair[0].1 == pair[1].0), "{spans:?}");
    let end = Timestamp::from_millis(spans.last().unwrap().1);
    assert!(end.since(stage.now()) >= 7 * DAY, "{spans:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_day_without_a_partition_makes_it() {
    let stage = stage().await;
    let store = off(&stage, 40 * DAY, Duration::ZERO);
    let moment = store.ids().clock().now();
    let transaction = store.database().begin().await.unwrap();
    store.ensure_partition(&transaction, moment).await.unwrap();
    transaction.commit().await.unwrap();
    let before = spans(&stage).await;
    assert!(before.iter().any(|(start, end)| (*start..*end).contains(&moment.millis())), "{before:?}");
    // The next event finds it without asking the database.
    stage.database.connection().execute_unprepared("DELETE FROM partitions").await.unwrap();
    store.ensure_partition(store.database().connection(), moment).await.unwrap();
}

/// Deliveries of today and of the days before and after are loaded and recorded together.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_may_have_deliveries_of_several_days() {
    let stage = stage().await;
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let mut made = Vec::new();
    for store in [
        off(&stage, Duration::ZERO, 2 * DAY),
        off(&stage, DAY, Duration::ZERO),
        off(&stage, Duration::ZERO, Duration::ZERO),
    ] {
        store.ensure_partition(store.database().connection(), store.ids().clock().now()).await.unwrap();
        for _ in 0..2 {
            made.push(stage.dispatch_by(&store, &stage.tenant, subscriber, "a", stage.now()).await);
        }
    }
    stage.store.keep_partitions().await.unwrap();
    let claimed = stage.claim().await;
    let mut loaded: Vec<_> = claimed.iter().map(|(_, delivery)| delivery.id).collect();
    loaded.sort();
    made.sort();
    assert_eq!(loaded, made);
    for (number, (lease, delivery)) in claimed.iter().enumerate() {
        let end = if number % 2 == 0 { End::Succeeded } else { End::RetryIn(DAY) };
        stage.record(*lease, delivery, Duration::ZERO, end).await;
        assert_eq!(delivery.id.event(), delivery.event_id);
        let found = stage.store.delivery(&stage.tenant, delivery.id).await.unwrap().unwrap();
        assert_eq!((found.attempts, found.event_id), (1, delivery.event_id));
        let attempts =
            stage.store.attempts(&stage.tenant, delivery.id, PageRequest::default()).await.unwrap();
        assert_eq!(attempts.items.len(), 1);
    }
}

/// A job outlives its delivery, whose partition was dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_dropped_partition_ends_without_a_request() {
    let stage = stage().await;
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let old = off(&stage, Duration::ZERO, 2 * DAY);
    old.ensure_partition(old.database().connection(), old.ids().clock().now()).await.unwrap();
    stage.dispatch_by(&old, &stage.tenant, subscriber, "a", stage.now()).await;
    stage.store.keep_partitions().await.unwrap();
    let oldest = stage.rows("SELECT suffix FROM partitions ORDER BY starts_at LIMIT 1").await;
    let suffix: String = oldest[0].try_get("", "suffix").unwrap();
    let drop = format!("DROP TABLE events_{suffix}, deliveries_{suffix}, attempts_{suffix}");
    stage.database.connection().execute_unprepared(&drop).await.unwrap();
    assert_eq!(stage.load_all().await, ["Nothing"]);
}

/// A role that may only read and write rows makes partitions, and can use them.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_the_right_to_change_the_schema_makes_partitions() {
    let stage = stage().await;
    let admin = stage.database.connection();
    let role = format!("writer_{}", std::process::id());
    let grant = format!(
        "CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}; \
         REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    );
    admin.execute_unprepared(&grant).await.unwrap();
    let as_role = |sql: String| {
        let (admin, role) = (admin.clone(), role.clone());
        async move {
            // As a session of the role: the function judges by the role that has logged in.
            let all = format!("SET SESSION AUTHORIZATION {role}; {sql}; RESET SESSION AUTHORIZATION");
            admin.execute_unprepared(&all).await
        }
    };
    let create = "CREATE TABLE mine (id int)".to_owned();
    assert!(as_role(create).await.is_err());
    admin.execute_unprepared("RESET SESSION AUTHORIZATION").await.unwrap();
    as_role("SELECT postrider_add_partition(1000000000000, 86400000)".to_owned()).await.unwrap();
    let direct = "UPDATE deliveries_20010909 SET attempts = 1; SELECT FROM events_20010909".to_owned();
    as_role(direct).await.unwrap();
    admin.execute_unprepared(&format!("REVOKE INSERT ON events FROM {role}")).await.unwrap();
    let refused = as_role("SELECT postrider_add_partition(900000000000, 86400000)".to_owned()).await;
    assert!(refused.unwrap_err().to_string().contains("needs the right to insert events"));
    let drop = format!("RESET SESSION AUTHORIZATION; DROP OWNED BY {role}; DROP ROLE {role}");
    admin.execute_unprepared(&drop).await.unwrap();
}
