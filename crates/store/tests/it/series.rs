//! The series say what came of attempts, folded or not.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_core::{DeadReason, ErrorKind, SubscriberId, TenantId, Timestamp, Verdict};
use postrider_queue::Finish;
use postrider_store::attempt::{Attempt, End, Outcome, Response};
use postrider_store::health::BreakerPolicy;
use postrider_store::stats::Percentiles;
use postrider_store::stats::{AttemptCounts, Series, Steps};
use sea_orm::{ConnectionTrait as _, Statement};

use crate::stage::{Stage, on_both};

on_both!(
    attempts_are_counted_in_the_minute_in_which_they_began,
    failures_are_told_apart_by_kind,
    folded_and_not_yet_folded_are_added_up,
    hours_and_days_hold_their_minutes,
    by_subscriber_event_and_tenant_in_steps,
    a_lost_lease_is_in_no_series,
    folding_by_many_beside_writers_counts_each_once,
    what_is_too_old_is_removed_by_the_minute_and_kept_by_the_day,
    what_cannot_be_read_keeps_nothing_from_being_folded,
    latency_by_time_is_that_of_folded_rows_and_deltas,
);

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// The beginning of the hour that is so many hours ago: no test meets the end of an hour.
fn hours_ago(stage: &Stage, hours: u32) -> Timestamp {
    let now = stage.now().seconds();
    Timestamp::from_seconds(now - now % 3600) - hours * HOUR
}

async fn series(stage: &Stage, from: Timestamp, to: Timestamp, step: Duration) -> Series {
    let steps = Steps::new(from, to, step, stage.now()).unwrap();
    stage.store.series(&stage.tenant, None, None, steps).await.unwrap()
}

/// A delivery made at a moment and an attempt of it, which began so long after it.
async fn attempt(
    stage: &Stage,
    to: SubscriberId,
    at: Timestamp,
    waited: Duration,
    came: (u16, Option<ErrorKind>),
) {
    stage.dispatch(&stage.tenant, to, "a.b", at).await;
    let claimed = stage.claim().await;
    let (lease, delivery) = &claimed[0];
    let (status, kind) = came;
    let response = Response { status, headers: Vec::new(), body: "".into(), truncated: false };
    let attempt = Attempt {
        started_at: at + waited,
        duration: Duration::from_millis(8),
        response: (status != 0).then_some(response),
        verdict: kind.map_or(Verdict::Success, |kind| Verdict::failure(kind, "why")),
    };
    let end = if kind.is_none() { End::Succeeded } else { End::Dead(DeadReason::AttemptsUsedUp) };
    let outcome = Outcome { lease: *lease, delivery: delivery.clone(), attempt: Some(attempt), end };
    stage.store.record(&[outcome], &[], &patient()).await.unwrap();
}

/// No breaker: failures are wanted here.
fn patient() -> BreakerPolicy {
    BreakerPolicy { breaker_failures: 0, deactivate_after: None, ..BreakerPolicy::default() }
}

fn counted(attempts: &AttemptCounts) -> (u64, u64) {
    (attempts.attempts, attempts.succeeded)
}

/// The steps in which something happened, by their place.
fn points(series: &Series) -> Vec<(usize, u64, u64)> {
    let points = series.points.iter().map(|(_, point)| counted(point)).enumerate();
    points.filter(|(_, counted)| *counted != (0, 0)).map(|(n, (all, well))| (n, all, well)).collect()
}

async fn attempts_are_counted_in_the_minute_in_which_they_began(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let start = hours_ago(stage, 3);
    // Made in the first minute, tried in the first, the second and the fourth.
    attempt(stage, subscriber, start, Duration::from_millis(7), (200, None)).await;
    attempt(stage, subscriber, start, Duration::from_secs(59), (200, None)).await;
    attempt(stage, subscriber, start, MINUTE, (500, Some(ErrorKind::Status))).await;
    attempt(stage, subscriber, start, Duration::from_secs(239), (200, None)).await;

    let series = series(stage, start, start + 6 * MINUTE, MINUTE).await;
    assert_eq!(series.points.len(), 6, "also those in which nothing happened");
    assert_eq!(series.points[5].0, start + 5 * MINUTE);
    assert_eq!(points(&series), [(0, 2, 2), (1, 1, 0), (3, 1, 1)]);
    assert_eq!(counted(&series.total), (4, 3));
    let took = Percentiles { p50: Some(8), p95: Some(8), p99: Some(8) };
    assert_eq!((series.points[1].1.duration, series.points[2].1.duration), (took, Percentiles::default()));
    // Waiting belongs to the minute in which the delivery was made, as in the statistics.
    let waited = series.points[0].1.latency;
    assert_eq!(waited.p50, Some(61_439));
    assert_eq!((series.points[1].1.latency, series.total.latency), (Percentiles::default(), waited));
    let stats = stage.stats().await;
    assert_eq!(stats.latency, waited);
}

async fn failures_are_told_apart_by_kind(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let start = hours_ago(stage, 3);
    for came in [
        (500, Some(ErrorKind::Status)),
        (410, Some(ErrorKind::Status)),
        (0, Some(ErrorKind::TimeoutHeaders)),
        (0, Some(ErrorKind::Dns)),
        (0, Some(ErrorKind::Internal)),
        (204, None),
    ] {
        attempt(stage, subscriber, start, Duration::ZERO, came).await;
    }
    let kinds = BTreeMap::from([("status", 2), ("timeout_headers", 1), ("dns", 1), ("internal", 1)]);
    let before = series(stage, start, start + MINUTE, MINUTE).await;
    assert_eq!((&before.total.failed, counted(&before.total)), (&kinds, (6, 1)));
    assert_eq!(stage.store.fold_attempts().await.unwrap().deltas, 6);
    assert_eq!(series(stage, start, start + MINUTE, MINUTE).await, before);
}

async fn folded_and_not_yet_folded_are_added_up(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let start = hours_ago(stage, 3);
    let mut expected = Vec::new();
    for round in 1..=4_u64 {
        for minute in [0, 1, 59, 60] {
            let at = start + minute * MINUTE;
            attempt(stage, subscriber, at, Duration::from_millis(round), (200, None)).await;
        }
        // Every second round is folded onto the one before; the last is not.
        expected = [0, 1, 59, 60].map(|minute| (minute, round, round)).to_vec();
        assert_eq!(points(&series(stage, start, start + 2 * HOUR, MINUTE).await), expected);
        if round % 2 == 1 {
            assert!(stage.store.fold_attempts().await.unwrap().deltas > 0);
            assert_eq!(points(&series(stage, start, start + 2 * HOUR, MINUTE).await), expected);
        }
    }
    let all = series(stage, start, start + 2 * HOUR, MINUTE).await;
    assert_eq!(points(&all), expected);
    assert_eq!(all.total.latency, Percentiles { p50: Some(2), p95: Some(4), p99: Some(4) });
    stage.store.fold_attempts().await.unwrap();
    assert_eq!(series(stage, start, start + 2 * HOUR, MINUTE).await, all);
    assert_eq!(stage.store.fold_attempts().await.unwrap().deltas, 0, "once is enough");
}

async fn hours_and_days_hold_their_minutes(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let day = 24 * 3600;
    let today = Timestamp::from_seconds(stage.now().seconds() / day * day);
    let start = today - 40 * DAY;
    for (hours, minutes) in [(0, 0), (0, 59), (1, 0), (23, 59), (24, 0), (49, 30)] {
        let at = start + hours * HOUR + minutes * MINUTE;
        attempt(stage, subscriber, at, Duration::from_millis(5), (200, None)).await;
    }
    for folded in [false, true] {
        if folded {
            stage.store.fold_attempts().await.unwrap();
        }
        let days = series(stage, start, start + 3 * DAY, DAY).await;
        assert_eq!(points(&days), [(0, 4, 4), (1, 1, 1), (2, 1, 1)], "folded: {folded}");
        let hours = series(stage, start, start + 3 * DAY, HOUR).await;
        assert_eq!(points(&hours), [(0, 2, 2), (1, 1, 1), (23, 1, 1), (24, 1, 1), (49, 1, 1)]);
        let quarters = series(stage, start, start + 3 * DAY, 6 * HOUR).await;
        assert_eq!(points(&quarters), [(0, 3, 3), (3, 1, 1), (4, 1, 1), (8, 1, 1)]);
        // The first step and the last reach out to whole ones.
        let cut = series(stage, start + 90 * MINUTE, start + 25 * HOUR + MINUTE, HOUR).await;
        assert_eq!((cut.points[0].0, cut.points.len()), (start + HOUR, 25));
        assert_eq!(points(&cut), [(0, 1, 1), (22, 1, 1), (23, 1, 1)]);
    }
}

async fn by_subscriber_event_and_tenant_in_steps(stage: &Stage) {
    let (one, other) =
        (stage.subscribe(&stage.tenant, true).await, stage.subscribe(&stage.tenant, true).await);
    let foreign: TenantId = "other".parse().unwrap();
    let theirs = stage.subscribe(&foreign, true).await;
    let start = hours_ago(stage, 3);
    for (tenant, subscriber, event) in [
        (&stage.tenant, one, "a.b"),
        (&stage.tenant, one, "a.c"),
        (&stage.tenant, other, "a.b"),
        (&foreign, theirs, "a.b"),
    ] {
        stage.dispatch(tenant, subscriber, event, start).await;
        stage.attempt(End::Succeeded).await;
    }
    for folded in [false, true] {
        if folded {
            stage.store.fold_attempts().await.unwrap();
        }
        for (tenant, subscriber, event, attempts) in [
            (&stage.tenant, None, None, 3),
            (&stage.tenant, Some(one), None, 2),
            (&stage.tenant, Some(other), None, 1),
            (&stage.tenant, None, Some("a.b"), 2),
            (&stage.tenant, None, Some("a"), 0),
            (&stage.tenant, Some(one), Some("a.b"), 1),
            (&stage.tenant, Some(other), Some("a.c"), 0),
            (&stage.tenant, Some(theirs), None, 0),
            (&foreign, None, None, 1),
            (&foreign, Some(theirs), Some("a.b"), 1),
            (&foreign, Some(one), None, 0),
        ] {
            let event = event.map(|event| event.parse().unwrap());
            let steps = Steps::new(start, start + HOUR, MINUTE, stage.now()).unwrap();
            let series = stage.store.series(tenant, subscriber, event.as_ref(), steps).await.unwrap();
            let what = format!("{tenant} {subscriber:?} {event:?}, folded: {folded}");
            assert_eq!(series.total.attempts, attempts, "{what}");
            assert_eq!(series.points[0].1, series.total, "{what}");
        }
    }
}

async fn a_lost_lease_is_in_no_series(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let start = hours_ago(stage, 3);
    stage.dispatch(&stage.tenant, subscriber, "a.b", start).await;
    let lost = stage.claim().await;
    stage.release(lost[0].0).await;
    let held = stage.claim().await;
    stage.record(lost[0].0, &lost[0].1, Duration::ZERO, End::Succeeded).await;
    assert_eq!(series(stage, start, start + HOUR, MINUTE).await.total, AttemptCounts::default());
    // Nor is a job that ends without a request.
    stage.store.record(&[], &[(held[0].0, Finish::Release)], &patient()).await.unwrap();
    assert_eq!(series(stage, start, start + HOUR, MINUTE).await.total, AttemptCounts::default());
}

async fn folding_by_many_beside_writers_counts_each_once(stage: &Stage) {
    const ATTEMPTS: usize = 60;
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let start = hours_ago(stage, 3);
    let folders: Vec<_> = (0..3)
        .map(|_| {
            let store = stage.store.clone();
            tokio::spawn(async move {
                loop {
                    store.fold_attempts().await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for n in 1..=ATTEMPTS {
        attempt(stage, subscriber, start, Duration::ZERO, (200, None)).await;
        // While they fold, all is there, and nothing twice.
        let seen = series(stage, start, start + MINUTE, MINUTE).await.total.attempts;
        assert_eq!(usize::try_from(seen).unwrap(), n);
    }
    for folder in folders {
        assert!(!folder.is_finished(), "folding failed");
        folder.abort();
        let _ = folder.await;
    }
    // A folder that was cut off keeps its lock until the database hears of it.
    postrider_testkit::eventually(Duration::from_mins(1), || async {
        stage.store.fold_attempts().await.unwrap();
        (rows(stage, "attempt_deltas").await == 0).then_some(())
    })
    .await;
    let total = series(stage, start, start + MINUTE, MINUTE).await.total;
    assert_eq!(usize::try_from(total.attempts).unwrap(), ATTEMPTS);
}

async fn what_is_too_old_is_removed_by_the_minute_and_kept_by_the_day(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    // By minute, hour and day; by hour and day; by day.
    for days in [1, 30, 100] {
        let at = stage.now() - days * DAY;
        attempt(stage, subscriber, at, Duration::ZERO, (200, None)).await;
    }
    stage.store.fold_attempts().await.unwrap();
    // Each for the subscriber and for all, of that event type and of all.
    assert_eq!(rows(stage, "attempt_rollups").await, 4 * 9);
    let by_day = series(stage, stage.now() - 200 * DAY, stage.now(), DAY).await;
    assert_eq!(by_day.total.attempts, 3);
    let stats = stage.stats().await;

    stage.store.fold_statistics().await.unwrap();
    assert_eq!(rows(stage, "attempt_rollups").await, 4 * (3 + 2 + 1));
    assert_eq!(series(stage, stage.now() - 200 * DAY, stage.now(), DAY).await, by_day);
    let by_hour = series(stage, stage.now() - 59 * DAY, stage.now(), HOUR).await;
    assert_eq!(by_hour.total.attempts, 2);
    let by_minute = series(stage, stage.now() - 47 * HOUR, stage.now(), 2 * MINUTE).await;
    assert_eq!(by_minute.total.attempts, 1);
    assert_eq!(stage.stats().await, stats);
}

async fn what_cannot_be_read_keeps_nothing_from_being_folded(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let start = hours_ago(stage, 3);
    attempt(stage, subscriber, start, Duration::ZERO, (200, None)).await;
    let connection = stage.store.database().connection();
    let damage = Statement::from_sql_and_values(
        connection.get_database_backend(),
        "UPDATE attempt_deltas SET counts = $1",
        [vec![0x80_u8].into()],
    );
    connection.execute_raw(damage).await.unwrap();
    attempt(stage, subscriber, start, Duration::ZERO, (200, None)).await;
    let folded = stage.store.fold_attempts().await.unwrap();
    assert_eq!((folded.deltas, folded.unreadable), (2, 1));
    assert_eq!(series(stage, start, start + MINUTE, MINUTE).await.total.attempts, 1);
}

async fn latency_by_time_is_that_of_folded_rows_and_deltas(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let now = stage.now();
    for (n, ago) in (1..).zip([Duration::ZERO, 5 * HOUR, 5 * DAY, 100 * DAY]) {
        attempt(stage, subscriber, now - ago, Duration::from_millis(n), (200, None)).await;
        if n % 2 == 0 {
            stage.store.fold_attempts().await.unwrap();
        }
    }
    for folded in [false, true] {
        if folded {
            stage.store.fold_attempts().await.unwrap();
            stage.store.fold_statistics().await.unwrap();
        }
        for (since, p99) in
            [(Some(MINUTE), 1), (Some(6 * HOUR), 2), (Some(6 * DAY), 3), (Some(101 * DAY), 4), (None, 4)]
        {
            let filter = postrider_store::stats::StatsFilter {
                since: since.map(|ago| now - ago),
                ..postrider_store::stats::StatsFilter::default()
            };
            let stats = stage.store.stats(&stage.tenant, &filter).await.unwrap();
            assert_eq!(stats.latency.p99, Some(p99), "{since:?}, folded: {folded}");
        }
    }
}

async fn rows(stage: &Stage, table: &str) -> i64 {
    let connection = stage.store.database().connection();
    let sql = format!("SELECT count(*) AS rows FROM {table}");
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    connection.query_one_raw(statement).await.unwrap().unwrap().try_get("", "rows").unwrap()
}
