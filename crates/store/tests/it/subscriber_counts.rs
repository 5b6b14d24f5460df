//! The counts of subscribers agree with the subscribers, whatever changes them.

use std::time::Duration;

use postrider_core::{DeadReason, SubscriberId, TenantId};
use postrider_migrations::{Migrator, migrate};
use postrider_store::attempt::End;
use postrider_store::health::Breakers;
use postrider_store::stats::SubscriberStats;
use postrider_store::subscribers::SubscriberChange;
use postrider_testkit::TestDatabase;
use sea_orm::ConnectionTrait as _;
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use uuid::Uuid;

use crate::stage::{Stage, on_both};

on_both!(
    subscribers_are_counted_through_every_change,
    subscribers_changed_at_the_same_time_are_counted,
    a_deactivated_subscriber_is_counted_as_inactive,
    a_failure_of_a_deleted_subscriber_leaves_no_row,
);

async fn counted(stage: &Stage, tenant: &TenantId) -> (u64, u64) {
    let filter = postrider_store::stats::StatsFilter::default();
    let SubscriberStats { total, active } = stage.store.stats(tenant, &filter).await.unwrap().subscribers;
    let log = "SELECT count(*) AS n FROM subscribers WHERE tenant";
    let rows = stage.count(&format!("{log} = '{tenant}'")).await;
    let active_rows = stage.count(&format!("{log} = '{tenant}' AND active")).await;
    assert_eq!((total, active), (rows, active_rows));
    (total, active)
}

fn activity(active: bool) -> SubscriberChange {
    SubscriberChange { active: Some(active), ..SubscriberChange::default() }
}

async fn subscribers_are_counted_through_every_change(stage: &Stage) {
    let (tenant, other): (_, TenantId) = (&stage.tenant, "other".parse().unwrap());
    assert_eq!(counted(stage, tenant).await, (0, 0));
    let one = stage.subscribe(tenant, true).await;
    let two = stage.subscribe(tenant, false).await;
    stage.subscribe(&other, true).await;
    assert_eq!((counted(stage, tenant).await, counted(stage, &other).await), ((2, 1), (1, 1)));
    for (id, active, expected) in
        [(one, false, (2, 0)), (one, false, (2, 0)), (one, true, (2, 1)), (two, true, (2, 2))]
    {
        stage.store.change_subscriber(tenant, id, activity(active)).await.unwrap().unwrap();
        assert_eq!(counted(stage, tenant).await, expected);
    }
    // Nothing is counted about a subscriber of another tenant.
    assert!(stage.store.change_subscriber(&other, one, activity(false)).await.unwrap().is_none());
    assert!(!stage.store.delete_subscriber(&other, one).await.unwrap());
    assert_eq!((counted(stage, tenant).await, counted(stage, &other).await), ((2, 2), (1, 1)));
    let breakers = stage.store.breakers().await.unwrap();
    assert_eq!(breakers, Breakers { closed: 3, open: 0, half_open: 0 });
    for (left, id) in [(1, one), (0, two)] {
        assert!(stage.store.delete_subscriber(tenant, id).await.unwrap());
        assert!(!stage.store.delete_subscriber(tenant, id).await.unwrap());
        assert_eq!(counted(stage, tenant).await, (left, left));
    }
    assert_eq!(stage.store.breakers().await.unwrap().closed, 1);
}

async fn subscribers_changed_at_the_same_time_are_counted(stage: &Stage) {
    let mut ids = Vec::new();
    for n in 0..24 {
        ids.push(stage.subscribe(&stage.tenant, n % 2 == 0).await);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for (n, id) in ids.into_iter().enumerate() {
        for active in [n % 3 == 0, n % 3 != 0] {
            let (store, tenant) = (stage.store.clone(), stage.tenant.clone());
            tasks.spawn(async move {
                let changed = store.change_subscriber(&tenant, id, activity(active)).await.unwrap();
                if n % 5 == 0 {
                    store.delete_subscriber(&tenant, id).await.unwrap();
                }
                changed.is_some()
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(counted(stage, &stage.tenant).await.0, 19);
}

async fn a_deactivated_subscriber_is_counted_as_inactive(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    stage.subscribe(&stage.tenant, true).await;
    stage.dispatch(&stage.tenant, subscriber, "a.b", stage.now()).await;
    stage.attempt(End::Dead(DeadReason::Gone)).await;
    assert_eq!(counted(stage, &stage.tenant).await, (2, 1));
}

async fn a_failure_of_a_deleted_subscriber_leaves_no_row(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let delivery = stage.dispatch(&stage.tenant, subscriber, "a.b", stage.now()).await;
    let claimed = stage.claim().await;
    assert_eq!(claimed[0].1.id, delivery);
    assert!(stage.store.delete_subscriber(&stage.tenant, subscriber).await.unwrap());
    stage.fail(claimed[0].0, &claimed[0].1, End::RetryIn(Duration::from_secs(1))).await;
    assert_eq!(stage.count("SELECT count(*) AS n FROM health").await, 0);
    assert_eq!(stage.count("SELECT count(*) AS n FROM attempts").await, 1);
}

/// The schema before.
struct Before;

impl MigratorTrait for Before {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let all = Migrator::migrations().into_iter();
        all.take_while(|one| one.name() != "m0008_subscriber_counts").collect()
    }
}

#[tokio::test]
async fn the_migration_counts_subscribers_on_postgres() {
    migrated(TestDatabase::postgres_with::<Before>().await).await;
}

#[tokio::test]
async fn the_migration_counts_subscribers_on_sqlite() {
    migrated(TestDatabase::sqlite_with::<Before>().await).await;
}

async fn migrated(database: TestDatabase) {
    let connection = database.connection();
    let is_postgres = connection.get_database_backend() == sea_orm::DbBackend::Postgres;
    for (n, tenant, active) in
        [(1, "default", true), (2, "default", true), (3, "default", false), (4, "umbrella", true)]
    {
        let id = Uuid::from_u128(n);
        let id = if is_postgres { format!("'{id}'") } else { format!("x'{}'", id.simple()) };
        let sql = format!(
            "INSERT INTO subscribers (id, tenant, url, description, secret, policy, active, created_at, updated_at)
             VALUES ({id}, '{tenant}', 'http://x', '', 'x', '{{}}', {active}, 0, 0)"
        );
        connection.execute_unprepared(&sql).await.unwrap();
    }
    migrate(&connection).await.unwrap();
    let stage = Stage::of(database).await;
    assert_eq!(counted(&stage, &stage.tenant).await, (3, 2));
    assert_eq!(stage.store.breakers().await.unwrap().closed, 3);
    // Also after one of them is deleted, whose count is in another row.
    let two = SubscriberId::from_uuid(Uuid::from_u128(2));
    assert!(stage.store.delete_subscriber(&stage.tenant, two).await.unwrap());
    assert_eq!(counted(&stage, &stage.tenant).await, (2, 1));
}
