//! Statistics over a million deliveries.

use std::time::{Duration, Instant};

use postrider_core::SubscriberId;
use postrider_store::stats::{DeliveryStats, StatsFilter, Steps};
use sea_orm::prelude::Uuid;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};

use crate::stage::{Stage, on_both};

on_both!(a_million_deliveries_are_counted_quickly);

const DELIVERIES: u64 = 1_000_000;
const SUBSCRIBERS: u64 = 20;
const EVENTS: u64 = 3;
/// The most roll-up rows that a query may add up, which takes about 10 ms.
const MOST_ROWS: i64 = 25_000;
/// For how long minutes of attempts are stored: three days.
const MINUTES: u64 = 3 * 1440;

/// A month of little traffic to many subscribers, which is the worst case: without folding, hardly any row would count
/// two deliveries. The rows are folded, as workers leave them.
async fn a_million_deliveries_are_counted_quickly(stage: &Stage) {
    fill(stage).await;
    stage.store.fold_statistics().await.unwrap();
    let (rollups, attempts) = (rows(stage, "rollups").await, rows(stage, "attempt_rollups").await);
    println!("{rollups} rows, {attempts} of attempts");
    // The number of rows determines the cost. The time also depends on what else this machine does.
    assert!(rollups < MOST_ROWS, "{rollups} rows are too many to add up");

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
        ("one event type", StatsFilter { event_type: Some(event), ..none.clone() }, None),
        ("a day", StatsFilter { since: Some(day_ago), ..none }, None),
    ] {
        // The best of ten, because other tests run at the same time.
        let mut best = Duration::MAX;
        let mut counted = DeliveryStats::default();
        for _ in 0..10 {
            let started = Instant::now();
            counted = stage.store.stats(&stage.tenant, &filter).await.unwrap().deliveries;
            best = best.min(started.elapsed());
        }
        println!("{what}: {best:?}");
        assert!(counted.total > 0 && counted.succeeded == counted.total, "{what}: {counted:?}");
        if let Some(total) = total {
            assert_eq!(counted.total, total, "{what}");
        }
    }

    let now = stage.now();
    for (what, subscriber, span, step, steps) in [
        ("a day by the minute", None, Duration::from_hours(24), Duration::from_mins(1), 1441),
        ("of one subscriber", Some(one), Duration::from_hours(1), Duration::from_mins(1), 61),
        ("two days by 5 minutes", None, Duration::from_hours(48), Duration::from_mins(5), 577),
        ("a month by the day", None, Duration::from_hours(30 * 24), Duration::from_hours(24), 31),
    ] {
        let steps_asked = Steps::new(now - span, now, step, now).unwrap();
        let started = Instant::now();
        let series = stage.store.series(&stage.tenant, subscriber, None, steps_asked).await.unwrap();
        println!("{what}: {:?}", started.elapsed());
        assert!(series.points.len().abs_diff(steps) <= 1, "{what}: {}", series.points.len());
        assert!(subscriber.is_some() || series.total.attempts > 0, "{what}");
    }
}

/// Inserts rows as folding leaves them: the last two hours by minute and in two shards, then hours, then days.
async fn fill(stage: &Stage) {
    let now = stage.now().millis() / 60_000;
    let (hours, days) = ((now - 60) / 60 * 60, (now - 1440) / 1440 * 1440);
    let minutes = 30 * 1440;
    let cells = SUBSCRIBERS * EVENTS;
    let last = DELIVERIES - 1;
    let connection = stage.database.connection();
    let (series, id, all, tally) = if connection.get_database_backend() == DbBackend::Sqlite {
        let series = format!(
            "WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {last}) SELECT n FROM s"
        );
        (series, format!("unhex(printf('%032x', n % {SUBSCRIBERS}))"), "zeroblob(16)", "x'0a01900201'")
    } else {
        let series = format!("SELECT n FROM generate_series(0::bigint, {last}) AS s(n)");
        let id = format!("lpad(to_hex(n % {SUBSCRIBERS}), 32, '0')::uuid");
        (series, id, "lpad('', 32, '0')::uuid", r"'\x0a01900201'::bytea")
    };
    let moments = format!(
        "SELECT n, {now} - (n / {cells}) * {minutes} / ({DELIVERIES} / {cells}) AS at FROM ({series}) AS series"
    );
    let deliveries = format!(
        "SELECT 'default' AS tenant, {id} AS subscriber_id, 'event.' || ((n / {SUBSCRIBERS}) % {EVENTS}) AS event_type, \
            CASE WHEN at < {days} THEN at - at % 1440 WHEN at < {hours} THEN at - at % 60 ELSE at END AS minute, \
            CASE WHEN at < {hours} THEN 0 ELSE (n / 7) % 2 END AS slot \
        FROM ({moments}) AS moments"
    );
    for sql in [
        format!(
            "INSERT INTO rollups (tenant, subscriber_id, event_type, minute, slot, created, succeeded, dead, cancelled, spent) \
            SELECT tenant, subscriber_id, event_type, minute, slot, count(*), count(*), 0, 0, count(*) \
            FROM ({deliveries}) AS deliveries GROUP BY 1, 2, 3, 4, 5"
        ),
        // Three days of attempts by the minute, each of 10 ms, for deliveries that waited 16 ms.
        format!(
            "INSERT INTO attempt_rollups (tenant, subscriber_id, event_type, width, start, attempts, counts) \
            SELECT 'default', {id}, 'event.' || ((n / {SUBSCRIBERS}) % {EVENTS}), 1, {now} - n / {cells}, 1, {tally} \
            FROM ({series}) AS series WHERE n < {cells} * {MINUTES}"
        ),
        format!(
            "INSERT INTO attempt_rollups (tenant, subscriber_id, event_type, width, start, attempts, counts) \
            SELECT 'default', {all}, '', 1, {now} - n, {cells}, {tally} \
            FROM ({series}) AS series WHERE n < {MINUTES}"
        ),
        format!(
            "INSERT INTO attempt_rollups (tenant, subscriber_id, event_type, width, start, attempts, counts) \
            SELECT 'default', {all}, '', 1440, ({now} - n) / 1440 * 1440, 1, {tally} \
            FROM ({series}) AS series WHERE n < 30 * 1440 AND n % 1440 = 0"
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
