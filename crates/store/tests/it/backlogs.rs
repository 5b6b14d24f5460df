//! Roll-ups that have piled up are folded in short statements, and a call ends before its caller gives up.

use std::time::{Duration, Instant};

use postrider_testkit::TestDatabase;
use postrider_testkit::sessions::Watch;
use sea_orm::{ConnectionTrait as _, DbBackend};

use crate::stage::{Stage, on_both};

on_both!(a_backlog_of_roll_ups_is_folded_step_by_step, a_backlog_of_deltas_is_folded_step_by_step);

/// Less than any caller waits.
const CALL: Duration = Duration::from_secs(10);

const SUBSCRIBERS: u32 = 2_000;

async fn a_backlog_of_roll_ups_is_folded_step_by_step(stage: &Stage) {
    fold_roll_ups(stage, 100_000).await;
}

async fn a_backlog_of_deltas_is_folded_step_by_step(stage: &Stage) {
    fold_deltas(stage, 5_000).await;
}

/// `cargo xtask test -- -p postrider-store --test it -- --ignored --nocapture full_size`
#[tokio::test]
#[ignore = "takes minutes"]
async fn a_backlog_of_roll_ups_is_folded_step_by_step_at_full_size() {
    fold_roll_ups(&Stage::of(TestDatabase::postgres().await).await, 5_000_000).await;
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn a_backlog_of_deltas_is_folded_step_by_step_at_full_size() {
    fold_deltas(&Stage::of(TestDatabase::postgres().await).await, 200_000).await;
}

/// Minutes of the last days in two shards, of which no process has folded any.
async fn fold_roll_ups(stage: &Stage, rows: u32) {
    let now = stage.now().millis() / 60_000;
    let (series, id) = series(stage, rows);
    let sql = format!(
        "INSERT INTO rollups (tenant, subscriber_id, event_type, minute, slot, created, succeeded, dead, cancelled, spent)
         SELECT 'default', {id}, 'order.created', {now} - 120 - n / {SUBSCRIBERS} / 2, n / {SUBSCRIBERS} % 2 + 1,
            1, 1, 0, 0, 1 FROM ({series}) AS series"
    );
    let watch = seeded(stage, &sql).await;

    let hour = (now - 60) / 60 * 60;
    let left = format!(
        "SELECT count(*) AS n FROM rollups WHERE minute < {hour} AND (slot <> 0 OR minute % 60 <> 0)"
    );
    let mut calls = Vec::new();
    while stage.count(&left).await > 0 {
        let began = Instant::now();
        stage.store.fold_statistics().await.unwrap();
        calls.push(began.elapsed());
    }
    short(watch, &calls);
    let counted = "SELECT CAST(sum(created * 2 - succeeded) AS bigint) AS n FROM rollups";
    assert_eq!(stage.count(counted).await, u64::from(rows));
    // Nothing is left to do, at any place of the table.
    assert_eq!(stage.store.fold_statistics().await.unwrap(), 0);
}

/// Deltas of many subscribers, each of which leads to twelve rows.
async fn fold_deltas(stage: &Stage, rows: u32) {
    let now = stage.now().millis() / 60_000;
    let (series, id) = series(stage, rows);
    let tally = if is_sqlite(stage) { "x'0a01900201'" } else { r"'\x0a01900201'::bytea" };
    let sql = format!(
        "INSERT INTO attempt_deltas (tenant, subscriber_id, event_type, minute, attempts, counts)
         SELECT 'default', {id}, 'order.created', {now} - n % 60, 1, {tally} FROM ({series}) AS series"
    );
    let watch = seeded(stage, &sql).await;
    let mut calls = Vec::new();
    while stage.count("SELECT count(*) AS n FROM attempt_deltas").await > 0 {
        let began = Instant::now();
        stage.store.fold_attempts().await.unwrap();
        calls.push(began.elapsed());
    }
    short(watch, &calls);
    let all = "SELECT CAST(sum(attempts) AS bigint) AS n FROM attempt_rollups WHERE width = 1440 AND event_type = ''";
    assert_eq!(stage.count(all).await, 2 * u64::from(rows), "of each subscriber, and of all");
}

/// Fills a table, and watches the statements on PostgreSQL from then on.
async fn seeded(stage: &Stage, sql: &str) -> Option<Watch> {
    let began = Instant::now();
    stage.database.connection().execute_unprepared(sql).await.unwrap();
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
