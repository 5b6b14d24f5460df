//! Roll-ups that have piled up are folded in short statements, and a call ends before its caller gives up.

use std::time::{Duration, Instant};

use postrider_testkit::TestDatabase;
use postrider_testkit::sessions::Watch;
use sea_orm::{ConnectionTrait as _, DbBackend};

use crate::stage::{Stage, on_both};

on_both!(a_backlog_of_old_roll_ups_is_removed_step_by_step, a_backlog_of_deltas_is_folded_step_by_step);

/// Less than any caller waits.
const CALL: Duration = Duration::from_secs(10);

const SUBSCRIBERS: u32 = 2_000;

async fn a_backlog_of_old_roll_ups_is_removed_step_by_step(stage: &Stage) {
    remove_roll_ups(stage, 50_000).await;
}

async fn a_backlog_of_deltas_is_folded_step_by_step(stage: &Stage) {
    fold_deltas(stage, 10_000).await;
}

/// `cargo xtask test -- -p postrider-store --test it -- --ignored --nocapture full_size`
#[tokio::test]
#[ignore = "takes minutes"]
async fn a_backlog_of_old_roll_ups_is_removed_step_by_step_at_full_size() {
    remove_roll_ups(&Stage::of(TestDatabase::postgres().await).await, 5_000_000).await;
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn a_backlog_of_deltas_is_folded_step_by_step_at_full_size() {
    fold_deltas(&Stage::of(TestDatabase::postgres().await).await, 400_000).await;
}

/// Old days of many subscribers, and as many hours.
async fn remove_roll_ups(stage: &Stage, rows: u32) {
    let now = stage.now().millis() / 60_000;
    let (numbers, id) = series(stage, rows);
    let tally = if is_sqlite(stage) { "x'0a01900201'" } else { r"'\x0a01900201'::bytea" };
    let of = |span: u8, start: &str| {
        format!(
            "INSERT INTO rollups (tenant, subscriber_id, event_type, span, start, created, succeeded, dead, cancelled,
                spent, attempts, counts)
             SELECT 'default', {id}, '', {span}, {start}, 1, 1, 0, 0, 1, 1, {tally} FROM ({numbers}) AS series"
        )
    };
    let day = (now / 1440 - 403) * 1440;
    let watch = seeded(
        stage,
        &[
            of(3, &format!("{day} - n / {SUBSCRIBERS} * 1440")),
            of(4, &format!("{} - n / {SUBSCRIBERS} * 60", (now / 60 - 17 * 24) * 60)),
        ],
    )
    .await;

    let mut calls = Vec::new();
    while stage.count("SELECT count(*) AS n FROM rollups WHERE span <> 0").await > 0 {
        let began = Instant::now();
        stage.store.remove_old_statistics().await.unwrap();
        calls.push(began.elapsed());
    }
    short(watch, &calls);
    let counted = "SELECT CAST(sum(created * 3 - succeeded - attempts) AS bigint) AS n FROM rollups";
    assert_eq!(stage.count(counted).await, u64::from(rows));
    assert_eq!(stage.count("SELECT count(*) AS n FROM rollups").await, u64::from(SUBSCRIBERS.min(rows)));
}

/// Deltas of many subscribers, each of which leads to rows of its own.
async fn fold_deltas(stage: &Stage, rows: u32) {
    let now = stage.now().millis() / 60_000;
    let (numbers, id) = series(stage, rows);
    // The format, the event type, the minute before the last hour, one entry: its subscriber, minute, counts of one delivery
    // that succeeded, and tally.
    let mut first = Vec::new();
    let mut number = u64::try_from(now - 60).unwrap() << 1;
    while number >= 0x80 {
        first.push(format!("{:02x}", number & 0x7f | 0x80));
        number >>= 7;
    }
    let first = first.concat();
    let head = format!("01010d6f726465722e63726561746564{first}{number:02x}01");
    let end = "0202000002050a01900201";
    let bytes = if is_sqlite(stage) {
        format!("unhex('{head}' || hex({id}) || printf('00%02x', n % 60) || '{end}')")
    } else {
        format!(
            "decode('{head}' || replace({id}::text, '-', '') || '00' || lpad(to_hex(n % 60), 2, '0') || '{end}', 'hex')"
        )
    };
    let sql = format!(
        "INSERT INTO rollup_deltas (tenant, entries, counts) SELECT 'default', 1, {bytes} FROM ({numbers}) AS series"
    );
    let watch = seeded(stage, &[sql]).await;
    let before = stage.stats().await.deliveries;
    assert_eq!((before.total, before.succeeded), (u64::from(rows), u64::from(rows)));
    let mut calls = Vec::new();
    while stage.count("SELECT count(*) AS n FROM rollup_deltas").await > 0 {
        let began = Instant::now();
        assert_eq!(stage.store.fold_statistics().await.unwrap().unreadable, 0);
        calls.push(began.elapsed());
    }
    short(watch, &calls);
    assert_eq!(stage.stats().await.deliveries, before);
    let all = "SELECT CAST(sum(attempts) AS bigint) AS n FROM rollups WHERE span = 3 AND event_type = ''";
    assert_eq!(stage.count(all).await, 2 * u64::from(rows), "of each subscriber, and of all");
}

/// Fills tables, and watches the statements on PostgreSQL from then on.
async fn seeded(stage: &Stage, statements: &[String]) -> Option<Watch> {
    let began = Instant::now();
    for sql in statements {
        stage.database.connection().execute_unprepared(sql).await.unwrap();
    }
    println!("seeded in {:?}", began.elapsed());
    (!is_sqlite(stage)).then(|| Watch::over(&stage.database))
}

fn short(watch: Option<Watch>, calls: &[Duration]) {
    println!("{} calls, the longest took {:?}", calls.len(), calls.iter().max());
    assert!(calls.iter().all(|call| *call < CALL), "{calls:?}");
    if let Some(watch) = watch {
        let oldest = watch.oldest();
        println!("the longest statement took {:?}: {}", oldest.age, oldest.query);
        assert!(oldest.age < Duration::from_secs(1), "{oldest:?}");
    }
}

fn is_sqlite(stage: &Stage) -> bool {
    stage.database.connection().get_database_backend() == DbBackend::Sqlite
}

/// A table of numbers `n`, and the id of the subscriber of each.
fn series(stage: &Stage, rows: u32) -> (String, String) {
    let last = rows - 1;
    if is_sqlite(stage) {
        let numbers = format!(
            "WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {last}) SELECT n FROM s"
        );
        (numbers, format!("unhex(printf('%032x', n % {SUBSCRIBERS} + 1))"))
    } else {
        let numbers = format!("SELECT n FROM generate_series(0::bigint, {last}) AS s(n)");
        (numbers, format!("lpad(to_hex(n % {SUBSCRIBERS} + 1), 32, '0')::uuid"))
    }
}
