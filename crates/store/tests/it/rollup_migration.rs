//! The migration to one table of roll-ups keeps all counts.

use std::time::Duration;

use postrider_core::{SubscriberId, TenantId};
use postrider_migrations::{Migrator, migrate};
use postrider_store::stats::{Detail, StatsFilter, Steps};
use postrider_testkit::TestDatabase;
use sea_orm::{ConnectionTrait as _, DbBackend};
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use uuid::Uuid;

use crate::stage::Stage;

/// The schema before.
struct Before;

impl MigratorTrait for Before {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        Migrator::migrations().into_iter().take_while(|one| one.name() != "m0009_rollups").collect()
    }
}

#[tokio::test]
async fn counts_survive_the_migration_on_postgres() {
    survive(TestDatabase::postgres_with::<Before>().await).await;
}

#[tokio::test]
async fn counts_survive_the_migration_on_sqlite() {
    survive(TestDatabase::sqlite_with::<Before>().await).await;
}

/// Deliveries of two tenants: their minutes ago, shard, and the counts created, succeeded, dead, cancelled and spent. Those
/// of a day are in the row of its first minute. A retry took back what had been counted in another shard.
#[allow(clippy::type_complexity, reason = "a table")]
const DELIVERIES: [(&str, u128, &str, i64, u8, [i64; 5]); 8] = [
    ("default", 1, "a.b", 1, 3, [5, 0, 0, 0, 0]),
    ("default", 1, "a.b", 1, 70, [0, 4, 1, 0, 7]),
    ("default", 1, "a.c", 1, 70, [1, 1, -1, 0, 1]),
    ("default", 1, "a.c", 90, 0, [2, 1, 1, 0, 9]),
    ("default", 2, "a.b", 3 * 1440, 0, [10, 8, 1, 1, 15]),
    ("default", 2, "a.b", 100 * 1440, 0, [20, 20, 0, 0, 20]),
    ("default", 2, "a.b", 700 * 1440, 0, [40, 40, 0, 0, 40]),
    ("umbrella", 3, "a.b", 1, 3, [3, 0, 0, 3, 0]),
];

async fn survive(database: TestDatabase) {
    let connection = database.connection();
    let is_postgres = connection.get_database_backend() == DbBackend::Postgres;
    let id = |number: u128| {
        let id = Uuid::from_u128(number);
        if is_postgres { format!("'{id}'") } else { format!("x'{}'", id.simple()) }
    };
    // Attempts that took 10 ms, of deliveries that waited 16 ms.
    let tally = if is_postgres { r"'\x0a02900201'" } else { "x'0a02900201'" };
    let minute = minute_of(&connection).await;
    let mut statements = Vec::new();
    for (tenant, subscriber, event_type, ago, shard, [created, succeeded, dead, cancelled, spent]) in
        DELIVERIES
    {
        statements.push(format!(
            "INSERT INTO rollups VALUES ('{tenant}', {}, '{event_type}', {}, {shard}, \
                {created}, {succeeded}, {dead}, {cancelled}, {spent})",
            id(subscriber),
            minute - ago
        ));
    }
    // Two attempts of subscriber 1, folded, and two that are not.
    let at = minute - 1;
    for (subscriber, event_type) in [(1, "a.b"), (1, ""), (0, "a.b"), (0, "")] {
        for (width, start) in [(1, at), (60, at / 60 * 60), (1440, at / 1440 * 1440)] {
            statements.push(format!(
                "INSERT INTO attempt_rollups VALUES ('default', {}, '{event_type}', {width}, {start}, 2, {tally})",
                id(subscriber)
            ));
        }
    }
    statements.push(format!(
        "INSERT INTO attempt_deltas (tenant, subscriber_id, event_type, minute, attempts, counts) \
         VALUES ('default', {}, 'a.b', {at}, 2, {tally})",
        id(1)
    ));
    for sql in statements {
        connection.execute_unprepared(&sql).await.unwrap();
    }
    migrate(&connection).await.unwrap();
    let stage = Stage::of(database).await;

    let (one, two) = (Some(1), Some(2));
    for folded in [false, true] {
        if folded {
            assert_eq!(stage.store.fold_statistics().await.unwrap().deltas, 1);
            // Adds the oldest day to the past.
            stage.store.remove_old_statistics().await.unwrap();
            assert_eq!(stage.store.fold_statistics().await.unwrap().unreadable, 0);
        }
        for (subscriber, event_type, days, [total, succeeded, dead, cancelled]) in [
            (None, None, None, [78, 74, 2, 1]),
            (one, None, None, [8, 6, 1, 0]),
            (two, None, None, [70, 68, 1, 1]),
            (None, Some("a.b"), None, [75, 72, 2, 1]),
            (None, Some("a.c"), None, [3, 2, 0, 0]),
            (one, Some("a.c"), None, [3, 2, 0, 0]),
            (None, None, Some(101), [38, 34, 2, 1]),
            (None, None, Some(50), [18, 14, 2, 1]),
            (two, None, Some(101), [30, 28, 1, 1]),
            (two, None, Some(50), [10, 8, 1, 1]),
            (None, Some("a.b"), Some(50), [15, 12, 2, 1]),
            (two, Some("a.b"), Some(101), [30, 28, 1, 1]),
        ] {
            let filter = StatsFilter {
                subscriber: subscriber.map(|number| SubscriberId::from_uuid(Uuid::from_u128(number))),
                event_type: event_type.map(|event_type| event_type.parse().unwrap()),
                since: days.map(|days| stage.now() - Duration::from_hours(24 * days)),
            };
            let found = stage.deliveries(&filter).await;
            let counts = [found.total, found.succeeded, found.dead, found.cancelled];
            assert_eq!(counts, [total, succeeded, dead, cancelled], "{filter:?}, folded: {folded}");
        }
        assert_eq!(stage.stats().await.deliveries.avg_attempts, Some(92.0 / 77.0));
        let umbrella: TenantId = "umbrella".parse().unwrap();
        let theirs = stage.store.stats(&umbrella, &StatsFilter::default()).await.unwrap().deliveries;
        assert_eq!((theirs.total, theirs.cancelled), (3, 3));

        let day = Duration::from_hours(24);
        for (subscriber, event_type, step) in [
            (None, None, Duration::from_mins(1)),
            (None, Some("a.b"), Duration::from_hours(1)),
            (one, None, Duration::from_hours(1)),
            (one, None, day),
            (one, Some("a.b"), day),
        ] {
            let detail = Detail::of(subscriber.is_some(), event_type.is_some());
            let (from, now) = (stage.now() - Duration::from_hours(3), stage.now());
            let steps = Steps::new(from, now, step, now, detail).unwrap();
            let subscriber = subscriber.map(|number| SubscriberId::from_uuid(Uuid::from_u128(number)));
            let event_type = event_type.map(|event_type| event_type.parse().unwrap());
            let series =
                stage.store.series(&stage.tenant, subscriber, event_type.as_ref(), steps).await.unwrap();
            assert_eq!(series.total.attempts, 4, "{detail:?} {step:?}, folded: {folded}");
            assert_eq!(series.total.duration.p50, Some(10));
        }
    }
    let left = "SELECT count(*) AS n FROM rollups WHERE span = 0";
    assert_eq!(stage.count(left).await, 4);
}

/// The database's minute, as the migration sees it.
async fn minute_of(connection: &sea_orm::DatabaseConnection) -> i64 {
    let backend = connection.get_database_backend();
    let sql = match backend {
        DbBackend::Postgres => "SELECT extract(epoch FROM now())::bigint / 60 AS minute",
        _ => "SELECT unixepoch() / 60 AS minute",
    };
    let row = connection.query_one_raw(sea_orm::Statement::from_string(backend, sql)).await.unwrap();
    row.unwrap().try_get("", "minute").unwrap()
}
