//! Statistics over a million deliveries.

use std::time::{Duration, Instant};

use postrider_core::SubscriberId;
use postrider_store::stats::{DeliveryStats, StatsFilter};
use sea_orm::prelude::Uuid;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};

use crate::stage::{Stage, on_both};

on_both!(a_million_deliveries_are_counted_at_once);

const DELIVERIES: u64 = 1_000_000;
const SUBSCRIBERS: u64 = 20;
const EVENTS: u64 = 3;
/// What the issue allows.
const LIMIT: Duration = Duration::from_millis(50);

/// A month of little traffic to many, the worst there is: unfolded, hardly two deliveries would be in
/// one row. It is as workers leave it, who fold all the time.
async fn a_million_deliveries_are_counted_at_once(stage: &Stage) {
    fill(stage).await;
    assert_eq!(stage.store.fold_statistics().await.unwrap(), 0, "it is as folding leaves it");
    let (rollups, latencies) = (rows(stage, "rollups").await, rows(stage, "latencies").await);
    println!("{rollups} rows, {latencies} of latencies");
    // Built without optimisation, as tests are, SQLite takes many times as long.
    let is_slow = cfg!(debug_assertions) && stage.database.url().starts_with("sqlite");
    let limit = if is_slow { 4 * LIMIT } else { LIMIT };

    let one = SubscriberId::from_uuid(Uuid::from_u128(7));
    let event = "event.1".parse().unwrap();
    let day_ago = stage.now() - Duration::from_hours(24);
    let none = StatsFilter::default();
    for (what, filter, total) in [
        ("all", none.clone(), Some(DELIVERIES)),
        (
            "one subscriber",
            StatsFilter { subscriber: Some(one), ..none.clone() },
            Some(DELIVERIES / SUBSCRIBERS),
        ),
        ("one event type", StatsFilter { event: Some(event), ..none.clone() }, None),
        ("a day", StatsFilter { since: Some(day_ago), ..none }, None),
    ] {
        // The best of ten: other tests are busy beside this one.
        let mut best = Duration::MAX;
        let mut counted = DeliveryStats::default();
        for _ in 0..10 {
            let started = Instant::now();
            counted = stage.store.stats(&stage.tenant, &filter).await.unwrap().deliveries;
            best = best.min(started.elapsed());
        }
        println!("{what}: {best:?}");
        assert!(best < limit, "{what} took {best:?}");
        assert!(counted.total > 0 && counted.succeeded == counted.total, "{what}: {counted:?}");
        if let Some(total) = total {
            assert_eq!(counted.total, total, "{what}");
        }
    }
}

/// As folding leaves it: the last two hours by minute and by two processes (slots), then hours, then days.
async fn fill(stage: &Stage) {
    let now = stage.now().millis() / 60_000;
    let (hours, days) = ((now - 60) / 60 * 60, (now - 1440) / 1440 * 1440);
    let minutes = 30 * 1440;
    let cells = SUBSCRIBERS * EVENTS;
    let last = DELIVERIES - 1;
    let connection = stage.database.connection();
    let (series, id) = if connection.get_database_backend() == DbBackend::Sqlite {
        let series = format!(
            "WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {last}) SELECT n FROM s"
        );
        (series, format!("unhex(printf('%032x', n % {SUBSCRIBERS}))"))
    } else {
        let series = format!("SELECT n FROM generate_series(0::bigint, {last}) AS s(n)");
        (series, format!("lpad(to_hex(n % {SUBSCRIBERS}), 32, '0')::uuid"))
    };
    let made = format!(
        "SELECT n, {now} - (n / {cells}) * {minutes} / ({DELIVERIES} / {cells}) AS at FROM ({series}) AS series"
    );
    let deliveries = format!(
        "SELECT 'default' AS tenant, {id} AS subscriber_id, 'event.' || ((n / {SUBSCRIBERS}) % {EVENTS}) AS event_type, \
            CASE WHEN at < {days} THEN at - at % 1440 WHEN at < {hours} THEN at - at % 60 ELSE at END AS minute, \
            CASE WHEN at < {hours} THEN 0 ELSE (n / 7) % 2 END AS slot, 10 + (n / 11) % 6 AS bucket \
        FROM ({made}) AS made"
    );
    for sql in [
        format!(
            "INSERT INTO rollups (tenant, subscriber_id, event_type, minute, slot, created, succeeded, dead, cancelled, spent) \
            SELECT tenant, subscriber_id, event_type, minute, slot, count(*), count(*), 0, 0, count(*) \
            FROM ({deliveries}) AS deliveries GROUP BY 1, 2, 3, 4, 5"
        ),
        format!(
            "INSERT INTO latencies (tenant, subscriber_id, event_type, minute, slot, bucket, count) \
            SELECT tenant, subscriber_id, event_type, minute, slot, bucket, count(*) \
            FROM ({deliveries}) AS deliveries GROUP BY 1, 2, 3, 4, 5, 6"
        ),
        "ANALYZE".to_owned(),
    ] {
        connection.execute_unprepared(&sql).await.unwrap();
    }
}

async fn rows(stage: &Stage, table: &str) -> i64 {
    let connection = stage.database.connection();
    let sql = format!("SELECT count(*) AS rows FROM {table}");
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    connection.query_one_raw(statement).await.unwrap().unwrap().try_get("", "rows").unwrap()
}
