//! Statistics of a tenant with a long history and many subscribers.

use std::time::{Duration, Instant};

use postrider_core::SubscriberId;
use postrider_store::stats::{Detail, StatsFilter, Steps};
use postrider_testkit::TestDatabase;
use sea_orm::prelude::Uuid;
use sea_orm::{ConnectionTrait as _, DbBackend};

use crate::stage::{Stage, on_both};

on_both!(statistics_read_few_rows_of_a_large_tenant);

/// The most rows that a statistic may add up, which takes some milliseconds.
const MOST_ROWS: u64 = 2_000;
const EVENT_TYPES: u32 = 3;
const DAYS: u32 = 400;

async fn statistics_read_few_rows_of_a_large_tenant(stage: &Stage) {
    read(stage, 2_000, 20, 24).await;
}

/// `cargo xtask test -- -p postrider-store --test it -- --ignored --nocapture full_size`
#[tokio::test]
#[ignore = "takes minutes"]
async fn statistics_read_few_rows_of_a_large_tenant_at_full_size() {
    read(&Stage::of(TestDatabase::postgres().await).await, 1_000_000, 3, 1).await;
}

/// Each subscriber had a delivery of one event type on each of the last days, and has rows for the last hours.
async fn read(stage: &Stage, subscribers: u32, days: u32, hours: u32) {
    let began = Instant::now();
    fill(stage, subscribers, days, hours).await;
    println!(
        "{} roll-ups, seeded in {:?}",
        stage.count("SELECT count(*) AS n FROM rollups").await,
        began.elapsed()
    );

    let one = SubscriberId::from_uuid(Uuid::from_u128(8));
    let event = "event.1".parse().unwrap();
    let all = u64::from(subscribers) * u64::from(days);
    let all_filters = StatsFilter::default();
    let of_one = StatsFilter { subscriber: Some(one), ..StatsFilter::default() };
    let day_ago = stage.now() - Duration::from_hours(24);
    for (what, filter, total) in [
        ("all", all_filters.clone(), Some(all)),
        ("one subscriber", of_one.clone(), Some(u64::from(days))),
        ("one event type", StatsFilter { event_type: Some(event), ..all_filters.clone() }, None),
        (
            "one event type of one subscriber",
            StatsFilter { event_type: Some("event.1".parse().unwrap()), ..of_one.clone() },
            Some(u64::from(days)),
        ),
        ("a day", StatsFilter { since: Some(day_ago), ..all_filters }, None),
        ("a day of one subscriber", StatsFilter { since: Some(day_ago), ..of_one }, None),
    ] {
        let (mut best, mut found) = (Duration::MAX, None);
        for _ in 0..10 {
            let started = Instant::now();
            found = Some(stage.store.stats(&stage.tenant, &filter).await.unwrap());
            best = best.min(started.elapsed());
        }
        println!("{what}: {best:?}");
        let found = found.unwrap();
        assert_eq!(found.subscribers.total, u64::from(subscribers));
        if let Some(total) = total {
            assert_eq!((found.deliveries.total, found.deliveries.pending), (total, 0), "{what}");
        }
    }
    let started = Instant::now();
    let breakers = stage.store.breakers().await.unwrap();
    println!("breakers: {:?}", started.elapsed());
    assert_eq!(breakers.closed, u64::from(subscribers));

    let now = stage.now();
    for (what, subscriber, span, step, steps) in [
        ("a day by the minute", None, Duration::from_hours(24), Duration::from_mins(1), 1441),
        ("a day of one subscriber", Some(one), Duration::from_hours(24), Duration::from_mins(1), 1441),
        ("two days by 5 minutes", None, Duration::from_hours(48), Duration::from_mins(5), 577),
        ("a year by the day", None, Duration::from_hours(365 * 24), Duration::from_hours(24), 366),
        (
            "a year of one subscriber",
            Some(one),
            Duration::from_hours(365 * 24),
            Duration::from_hours(24),
            366,
        ),
    ] {
        let asked = Steps::new(now - span, now, step, now, Detail::of(subscriber.is_some(), false)).unwrap();
        let started = Instant::now();
        let series = stage.store.series(&stage.tenant, subscriber, None, asked).await.unwrap();
        println!("{what}: {:?}", started.elapsed());
        assert!(series.points.len().abs_diff(steps) <= 1, "{what}: {}", series.points.len());
    }

    // The number of rows determines the cost. The time also depends on what else this machine does.
    let most = "SELECT max(rows) AS n FROM (SELECT count(*) AS rows FROM rollups WHERE span <> 1 \
        GROUP BY tenant, subscriber_id, event_type) AS selected";
    assert!(stage.count(most).await <= MOST_ROWS);
}

/// Inserts rows as folding leaves them.
async fn fill(stage: &Stage, subscribers: u32, days: u32, hours: u32) {
    let minute = stage.now().millis() / 60_000;
    let (hour, today) = (minute / 60 * 60, minute / 1440 * 1440);
    let connection = stage.database.connection();
    let is_sqlite = connection.get_database_backend() == DbBackend::Sqlite;
    let numbers = |name: &str, below: u32| {
        if is_sqlite {
            let last = below - 1;
            format!(
                "(WITH RECURSIVE s({name}) AS (SELECT 0 UNION ALL SELECT {name} + 1 FROM s WHERE {name} < {last}) \
                SELECT {name} FROM s) AS of_{name}"
            )
        } else {
            format!("generate_series(0, {below} - 1) AS of_{name}({name})")
        }
    };
    // Ten milliseconds, for deliveries that waited 16 ms.
    let (id, nil, tally) = if is_sqlite {
        ("unhex(printf('%032x', s + 1))", "zeroblob(16)", "x'0a01900201'")
    } else {
        ("lpad(to_hex(s + 1), 32, '0')::uuid", "lpad('', 32, '0')::uuid", r"'\x0a01900201'::bytea")
    };
    let columns = "tenant, subscriber_id, event_type, span, start, created, succeeded, dead, cancelled, spent, \
        attempts, counts";
    let row = |subscriber: &str, event_type: &str, span: u8, start: &str, n: &str| {
        format!(
            "INSERT INTO rollups ({columns}) SELECT 'default', {subscriber}, {event_type}, {span}, {start}, \
                {n}, {n}, 0, 0, {n}, {n}, {tally}"
        )
    };
    let of_subscribers = numbers("s", subscribers);
    let of_days = numbers("d", days);
    let of_hours = numbers("h", hours);
    let of_minutes = numbers("m", 3 * 1440);
    let of_types = numbers("e", EVENT_TYPES);
    let all_days = numbers("d", DAYS);
    let of_type = format!("'event.' || (s % {EVENT_TYPES})");
    let each = format!("CASE WHEN d < {days} THEN {subscribers} ELSE 0 END");
    let day = format!("{today} - d * 1440");
    for sql in [
        format!("{} FROM {all_days}", row(nil, "''", 3, &day, &each)),
        format!("{} FROM {all_days}, {of_types}", row(nil, "'event.' || e", 3, &day, &each)),
        format!("{} FROM {of_minutes}", row(nil, "''", 1, &format!("{minute} - m"), "1")),
        format!("{} FROM {of_minutes}", row(nil, "''", 2, &format!("{hour} - m * 60"), "1"))
            .replace(&of_minutes, &numbers("m", 62 * 24)),
        format!("{} FROM {of_subscribers}, {of_days}", row(id, "''", 3, &day, "1")),
        format!("{} FROM {of_subscribers}, {of_days}", row(id, &of_type, 3, &day, "1")),
        format!("{} FROM {of_subscribers}, {of_hours}", row(id, "''", 4, &format!("{hour} - h * 60"), "1")),
        format!("INSERT INTO subscriber_counts VALUES ('default', 0, {subscribers}, {subscribers})"),
        format!(
            "UPDATE subscriber_counts SET total = {subscribers}, active = {subscribers} WHERE tenant = ''"
        ),
        "ANALYZE".to_owned(),
    ] {
        connection.execute_unprepared(&sql).await.unwrap();
    }
}
