//! The migration of a database of the first edition, with data.

use std::fmt::Write as _;
use std::time::Duration;

use postrider_core::id::{self, Id, IdKind};
use postrider_core::{DeliveryId, DeliveryStatus, EventId, IdGenerator, JobId, Timestamp};
use postrider_database::{Config, Database};
use postrider_migrations::{Migrator, migrate};
use postrider_queue::NewJob;
use postrider_store::PageRequest;
use postrider_store::archive::{Removal, Row};
use postrider_store::attempt::End;
use postrider_store::dead_letters::{AttemptBudget, DeadFilter};
use postrider_store::deliveries::DeliveryFilter;
use postrider_store::queue_ids::{lane_of, queued};
use postrider_store::retention::{Age, Retention};
use postrider_testkit::TestDatabase;
use sea_orm::{ConnectionTrait as _, DbBackend};
use sea_orm_migration::prelude::*;

use crate::archive::settled_mark;
use crate::partitions::off;
use crate::stage::Stage;

/// The schema of the first edition.
struct Before;

impl MigratorTrait for Before {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        Migrator::migrations().into_iter().take_while(|one| one.name() != "m0007_partitions").collect()
    }
}

/// What was stored before: two events with a pending and a dead delivery each, of which each has an attempt.
struct Old {
    /// The id of the second ends in as many zeros as one of today.
    events: [EventId; 2],
    pending: [DeliveryId; 2],
    dead: [DeliveryId; 2],
    job: JobId,
}

impl Old {
    async fn insert(database: &TestDatabase) -> Self {
        let ids = IdGenerator::system();
        let old = Self {
            events: [old_id(&ids), ids.next()],
            pending: [old_id(&ids), old_id(&ids)],
            dead: [old_id(&ids), old_id(&ids)],
            job: ids.next(),
        };
        let connection = database.connection();
        let is_postgres = connection.get_database_backend() == DbBackend::Postgres;
        let literal = |id: sea_orm::prelude::Uuid| {
            if is_postgres { format!("'{id}'") } else { format!("x'{}'", id.simple()) }
        };
        let bytes =
            |text: &str| if is_postgres { format!("'{text}'") } else { format!("CAST('{text}' AS BLOB)") };
        let mut sql = String::new();
        for place in 0..2 {
            let event = literal(old.events[place].uuid());
            write!(
                sql,
                "INSERT INTO events (id, tenant, event_type, agent_id, envelope, subscribers_found, dispatched_at) \
                 VALUES ({event}, 'default', 'old', 'default', {}, 2, 1000);",
                bytes("{}")
            )
            .unwrap();
            for (delivery, values) in [(old.pending[place], "0, NULL"), (old.dead[place], "2, 5000")] {
                let (delivery, job) = (literal(delivery.uuid()), literal(old.job.uuid()));
                write!(
                    sql,
                    "INSERT INTO deliveries (id, tenant, event_id, subscriber_id, event_type, status, died_at, attempts, \
                         round_start, job_id, created_at, ended_at) \
                     VALUES ({delivery}, 'default', {event}, {delivery}, 'old', {values}, 1, 0, {job}, 1000, NULL); \
                     INSERT INTO attempts (id, tenant, delivery_id, number, started_at, duration_us, response_truncated) \
                     VALUES ({}, 'default', {delivery}, 1, 2000, 3000, false);",
                    literal(ids.next_uuid())
                )
                .unwrap();
            }
        }
        connection.execute_unprepared(&sql).await.unwrap();
        old
    }
}

/// An id as the first edition made them, random to the last bit.
fn old_id<K: IdKind>(ids: &IdGenerator) -> Id<K> {
    let made = ids.next_uuid().as_u128();
    Id::from_uuid(sea_orm::prelude::Uuid::from_u128(made | 1))
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_the_first_edition_survives_the_migration_on_postgres() {
    survives(TestDatabase::postgres_with::<Before>().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_the_first_edition_survives_the_migration_on_sqlite() {
    survives(TestDatabase::sqlite_with::<Before>().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_the_first_edition_is_one_old_day_on_postgres() {
    is_one_old_day(TestDatabase::postgres_with::<Before>().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_the_first_edition_is_one_old_day_on_sqlite() {
    is_one_old_day(TestDatabase::sqlite_with::<Before>().await).await;
}

/// It is read and removed as any other day.
async fn is_one_old_day(database: TestDatabase) {
    let old = Old::insert(&database).await;
    migrate(&database.connection()).await.unwrap();
    let stage = Stage::of(database).await;
    let end = "UPDATE deliveries SET status = 3, died_at = NULL";
    stage.database.connection().execute_unprepared(end).await.unwrap();
    let in_half_a_year = off(&stage, Duration::from_hours(180 * 24), Duration::ZERO);
    let history = Age::For(Duration::from_hours(90 * 24));
    let retention = Retention { history, payloads: history, dead: history };
    let from = Timestamp::from_millis(0);
    let day = in_half_a_year.next_old_day(retention, from).await.unwrap().unwrap();
    assert_eq!((&*day.name, day.starts_at), ("converted", from));
    let mut rows = in_half_a_year.rows_of(&day);
    let (mut events, mut deliveries, mut attempts) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let page = rows.next().await.unwrap();
        if page.is_empty() {
            break;
        }
        for row in page {
            match row {
                Row::Event { event, .. } => events.push(event.id),
                Row::Delivery { delivery, .. } => deliveries.push((delivery.event_id, delivery.id)),
                Row::Attempt { delivery, .. } => attempts.push(delivery),
            }
        }
    }
    let mut expected: Vec<_> = (0..2)
        .flat_map(|place| [old.pending[place], old.dead[place]].map(|id| (old.events[place], id)))
        .collect();
    expected.sort_by_key(|(_, id)| *id);
    assert_eq!((events, &deliveries), (old.events.to_vec(), &expected));
    assert_eq!(attempts, expected.iter().map(|(_, id)| *id).collect::<Vec<_>>());
    let removal = if stage.store.database().dialect() == postrider_database::Dialect::Postgres {
        in_half_a_year.drop_day(&day, settled_mark(&stage, &day).await).await
    } else {
        in_half_a_year.delete_day(&day, &mut |_| true).await
    };
    assert_eq!(removal.unwrap(), Removal::Removed);
    for table in ["events", "deliveries", "attempts"] {
        assert_eq!(stage.count(&format!("SELECT count(*) AS n FROM {table}")).await, 0, "{table}");
    }
    assert_eq!(
        in_half_a_year.next_old_day(retention, from).await.unwrap().map(|day| day.starts_at > from),
        {
            // The partitions of today have become old, too. SQLite has none.
            let is_postgres = stage.store.database().dialect() == postrider_database::Dialect::Postgres;
            is_postgres.then_some(true)
        }
    );
}

async fn survives(database: TestDatabase) {
    let old = Old::insert(&database).await;
    migrate(&database.connection()).await.unwrap();
    let stage = Stage::of(database).await;
    let (store, tenant) = (&stage.store, &stage.tenant);
    store.keep_partitions().await.unwrap();
    let subscriber = stage.subscribe(tenant, true).await;
    let literal = if store.database().dialect() == postrider_database::Dialect::Postgres {
        format!("'{}'", subscriber.uuid())
    } else {
        format!("x'{}'", subscriber.uuid().simple())
    };
    let ours = format!("UPDATE deliveries SET subscriber_id = {literal}");
    stage.database.connection().execute_unprepared(&ours).await.unwrap();

    for place in 0..2 {
        let (event, pending, dead) = (old.events[place], old.pending[place], old.dead[place]);
        assert_eq!(store.event(tenant, event).await.unwrap().unwrap().event_type.as_str(), "old");
        let filter = DeliveryFilter { event_id: Some(event), ..DeliveryFilter::default() };
        let mut before = None;
        for expected in [dead, pending] {
            let page = PageRequest { limit: 1, before };
            let page = store.deliveries(tenant, &filter, page).await.unwrap();
            assert_eq!(page.items.iter().map(|found| found.id).collect::<Vec<_>>(), [expected]);
            assert_eq!(page.items[0].event_id, event);
            before = page.next;
            let attempts = store.attempts(tenant, expected, PageRequest::default()).await.unwrap();
            assert_eq!(attempts.items.len(), 1);
        }
        assert_eq!(before, None);
        let found = store.delivery(tenant, dead).await.unwrap().unwrap();
        assert_eq!((found.status, found.event_id), (DeliveryStatus::Dead, event));
    }

    // A pending one is delivered, and the dead ones are again.
    let job = NewJob::now(queued(old.job), lane_of(subscriber), tenant.as_str(), old.pending[0].uuid());
    store.queue().enqueue(&[job]).await.unwrap();
    let requeued = store.requeue(tenant, &DeadFilter::default(), AttemptBudget::FromZero, 10).await.unwrap();
    assert_eq!(requeued.deliveries, 2);
    let new = stage.dispatch(tenant, subscriber, "new", stage.now()).await;
    let claimed = stage.claim().await;
    assert_eq!(claimed.len(), 4);
    for (lease, delivery) in &claimed {
        let place = old.pending.iter().position(|id| *id == delivery.id);
        let place = place.or_else(|| old.dead.iter().position(|id| *id == delivery.id));
        let event = place.map_or_else(|| new.event(), |place| old.events[place]);
        assert_eq!(delivery.event_id, event);
        stage.record(*lease, delivery, Duration::ZERO, End::Succeeded).await;
        let now = store.delivery(tenant, delivery.id).await.unwrap().unwrap();
        assert_eq!((now.status, now.event_id), (DeliveryStatus::Succeeded, event));
    }
    let all = store.deliveries(tenant, &DeliveryFilter::default(), PageRequest::default()).await.unwrap();
    assert_eq!(all.items.len(), 5);
    assert_eq!(stage.count("SELECT count(*) AS n FROM partitions WHERE converted").await, 1);
    let _: Option<Id<id::Delivery>> = all.next;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_data_has_no_converted_partition() {
    for database in
        [TestDatabase::postgres_with::<Before>().await, TestDatabase::sqlite_with::<Before>().await]
    {
        migrate(&database.connection()).await.unwrap();
        let stage = Stage::of(database).await;
        assert_eq!(stage.count("SELECT count(*) AS n FROM partitions WHERE converted").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_migration_refuses_to_run_beside_an_older_program() {
    let database = TestDatabase::postgres_with::<Before>().await;
    let old = Old::insert(&database).await;
    let named = |name: &str| Config {
        application_name: name.to_owned(),
        ..Config::new(database.url().parse().unwrap())
    };
    let newer = Database::connect(named("postrider-2")).await.unwrap();
    newer.ping().await.unwrap();
    let older = Database::connect(named("postrider")).await.unwrap();
    older.ping().await.unwrap();
    let refused = migrate(&database.connection()).await.unwrap_err().to_string();
    assert!(refused.contains("stop all servers and workers"), "{refused}");
    older.close().await;
    postrider_testkit::eventually(Duration::from_secs(30), || async {
        migrate(&database.connection()).await.ok()
    })
    .await;
    newer.close().await;
    let stage = Stage::of(database).await;
    assert!(stage.store.event(&stage.tenant, old.events[0]).await.unwrap().is_some());
}

/// What a role was granted on the tables of the first edition, it may do with those of today.
#[tokio::test(flavor = "multi_thread")]
async fn grants_survive_the_migration() {
    let database = TestDatabase::postgres_with::<Before>().await;
    Old::insert(&database).await;
    let role = format!("reader_{}", std::process::id());
    let admin = database.connection();
    let grant = format!("CREATE ROLE {role}; GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}");
    admin.execute_unprepared(&grant).await.unwrap();
    migrate(&admin).await.unwrap();
    let mut allowed = Vec::new();
    let stage = Stage::of(database).await;
    for table in ["events", "deliveries", "attempts", "partitions", "deliveries_converted"] {
        for privilege in ["SELECT", "UPDATE", "INSERT"] {
            let sql =
                format!("SELECT has_table_privilege('{role}', '{table}', '{privilege}')::int::bigint AS n");
            allowed.push(stage.count(&sql).await);
        }
    }
    admin.execute_unprepared(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
    assert_eq!(allowed, [1, 1, 0].repeat(5));
}
