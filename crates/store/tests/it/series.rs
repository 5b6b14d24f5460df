//! Time series agree with the attempts that were made, whether their counts are folded or not.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_core::{DeadReason, ErrorKind, SubscriberId, TenantId, Timestamp, Verdict};
use postrider_queue::Finish;
use postrider_store::attempt::{Attempt, End, Outcome, Response};
use postrider_store::health::BreakerPolicy;
use postrider_store::stats::{AttemptCounts, Percentiles, Series, StatsFilter, Steps};
use sea_orm::{ConnectionTrait as _, Statement};

use crate::stage::{Stage, on_both};

on_both!(
    attempts_are_counted_in_the_minute_in_which_they_began,
    failures_are_counted_by_error_kind,
    folded_rows_and_deltas_are_added_up,
    hours_and_days_contain_their_minutes,
    series_can_be_filtered_by_subscriber_event_type_and_tenant,
    an_attempt_whose_lease_was_lost_is_in_no_series,
    concurrent_folding_during_writes_counts_each_attempt_once,
    old_minutes_and_hours_are_removed_and_days_stay,
    an_unreadable_delta_does_not_stop_folding,
    latency_since_a_moment_includes_folded_rows_and_deltas,
);

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// The beginning of the hour `hours` ago, so that no test runs across the end of an hour.
fn hours_ago(stage: &Stage, hours: u32) -> Timestamp {
    let now = stage.now().seconds();
    Timestamp::from_seconds(now - now % 3600) - hours * HOUR
}

async fn series(stage: &Stage, from: Timestamp, to: Timestamp, step: Duration) -> Series {
    let steps = Steps::new(from, to, step, stage.now()).unwrap();
    stage.store.series(&stage.tenant, None, None, steps).await.unwrap()
}

/// Records an attempt at a new delivery. `result` is the HTTP status, 0 for none, and the kind of failure.
async fn attempt(
    stage: &Stage,
    to: SubscriberId,
    at: Timestamp,
    waited: Duration,
    result: (u16, Option<ErrorKind>),
) {
    stage.dispatch(&stage.tenant, to, "a.b", at).await;
    let claimed = stage.claim().await;
    let (lease, delivery) = &claimed[0];
    let (status, kind) = result;
    let response = Response { status, headers: Vec::new(), body: "".into(), truncated: false };
    let attempt = Attempt {
        started_at: at + waited,
        duration: Duration::from_millis(8),
        response: (status != 0).then_some(response),
        verdict: kind.map_or(Verdict::Success, |kind| Verdict::failure(kind, "why")),
    };
    let end = if kind.is_none() { End::Succeeded } else { End::Dead(DeadReason::AttemptsUsedUp) };
    let outcome = Outcome { lease: *lease, delivery: delivery.clone(), attempt: Some(attempt), end };
    stage.store.record(&[outcome], &[], &without_breaker()).await.unwrap();
}

/// A policy that neither opens breakers nor deactivates subscribers.
fn without_breaker() -> BreakerPolicy {
    BreakerPolicy { breaker_failures: 0, deactivate_after: None, ..BreakerPolicy::default() }
}

fn counted(attempts: &AttemptCounts) -> (u64, u64) {
    (attempts.attempts, attempts.succeeded)
}

/// The steps with attempts: their index, the number of attempts, and the number that succeeded.
fn points(series: &Series) -> Vec<(usize, u64, u64)> {
    let points = series.points.iter().map(|(_, point)| counted(point)).enumerate();
    points
        .filter(|(_, counted)| *counted != (0, 0))
        .map(|(n, (all, succeeded))| (n, all, succeeded))
        .collect()
}

async fn attempts_are_counted_in_the_minute_in_which_they_began(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let start = hours_ago(stage, 3);
    // Deliveries of the first minute, with attempts in the first, the second and the fourth.
    attempt(stage, subscriber, start, Duration::from_millis(7), (200, None)).await;
    attempt(stage, subscriber, start, Duration::from_secs(59), (200, None)).await;
    attempt(stage, subscriber, start, MINUTE, (500, Some(ErrorKind::Status))).await;
    attempt(stage, subscriber, start, Duration::from_secs(239), (200, None)).await;

    let series = series(stage, start, start + 6 * MINUTE, MINUTE).await;
    assert_eq!(series.points.len(), 6, "including steps without attempts");
    assert_eq!(series.points[5].0, start + 5 * MINUTE);
    assert_eq!(points(&series), [(0, 2, 2), (1, 1, 0), (3, 1, 1)]);
    assert_eq!(counted(&series.total), (4, 3));
    let took = Percentiles { p50: Some(8), p95: Some(8), p99: Some(8) };
    assert_eq!((series.points[1].1.duration, series.points[2].1.duration), (took, Percentiles::default()));
    // The wait counts in the minute in which the delivery was created, as in the totals.
    let waited = series.points[0].1.latency;
    assert_eq!(waited.p50, Some(61_439));
    assert_eq!((series.points[1].1.latency, series.total.latency), (Percentiles::default(), waited));
    let stats = stage.stats().await;
    assert_eq!(stats.latency, waited);
}

async fn failures_are_counted_by_error_kind(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let start = hours_ago(stage, 3);
    for result in [
        (500, Some(ErrorKind::Status)),
        (410, Some(ErrorKind::Status)),
        (0, Some(ErrorKind::TimeoutHeaders)),
        (0, Some(ErrorKind::Dns)),
        (0, Some(ErrorKind::Internal)),
        (204, None),
    ] {
        attempt(stage, subscriber, start, Duration::ZERO, result).await;
    }
    let kinds = BTreeMap::from([("status", 2), ("timeout_headers", 1), ("dns", 1), ("internal", 1)]);
    let before = series(stage, start, start + MINUTE, MINUTE).await;
    assert_eq!((&before.total.failed, counted(&before.total)), (&kinds, (6, 1)));
    assert_eq!(stage.store.fold_attempts().await.unwrap().deltas, 6);
    assert_eq!(series(stage, start, start + MINUTE, MINUTE).await, before);
}

async fn folded_rows_and_deltas_are_added_up(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let start = hours_ago(stage, 3);
    let mut expected = Vec::new();
    for round in 1..=4_u64 {
        for minute in [0, 1, 59, 60] {
            let at = start + minute * MINUTE;
            attempt(stage, subscriber, at, Duration::from_millis(round), (200, None)).await;
        }
        // Every second round is folded, together with the round before it. The last one is not.
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
    assert_eq!(stage.store.fold_attempts().await.unwrap().deltas, 0, "nothing is left to fold");
}

async fn hours_and_days_contain_their_minutes(stage: &Stage) {
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
        // The first and the last step are extended to whole hours.
        let cut = series(stage, start + 90 * MINUTE, start + 25 * HOUR + MINUTE, HOUR).await;
        assert_eq!((cut.points[0].0, cut.points.len()), (start + HOUR, 25));
        assert_eq!(points(&cut), [(0, 1, 1), (22, 1, 1), (23, 1, 1)]);
    }
}

async fn series_can_be_filtered_by_subscriber_event_type_and_tenant(stage: &Stage) {
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

async fn an_attempt_whose_lease_was_lost_is_in_no_series(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let start = hours_ago(stage, 3);
    stage.dispatch(&stage.tenant, subscriber, "a.b", start).await;
    let lost = stage.claim().await;
    stage.release(lost[0].0).await;
    let current = stage.claim().await;
    stage.record(lost[0].0, &lost[0].1, Duration::ZERO, End::Succeeded).await;
    assert_eq!(series(stage, start, start + HOUR, MINUTE).await.total, AttemptCounts::default());
    // A job that ends without a request is not counted either.
    stage.store.record(&[], &[(current[0].0, Finish::Release)], &without_breaker()).await.unwrap();
    assert_eq!(series(stage, start, start + HOUR, MINUTE).await.total, AttemptCounts::default());
}

async fn concurrent_folding_during_writes_counts_each_attempt_once(stage: &Stage) {
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
        // At every moment each attempt is counted once.
        let seen = series(stage, start, start + MINUTE, MINUTE).await.total.attempts;
        assert_eq!(usize::try_from(seen).unwrap(), n);
    }
    for folder in folders {
        assert!(!folder.is_finished(), "folding failed");
        folder.abort();
        let _ = folder.await;
    }
    // An aborted task holds its lock until the database notices that its connection is gone.
    postrider_testkit::eventually(Duration::from_mins(1), || async {
        stage.store.fold_attempts().await.unwrap();
        (rows(stage, "attempt_deltas").await == 0).then_some(())
    })
    .await;
    let total = series(stage, start, start + MINUTE, MINUTE).await.total;
    assert_eq!(usize::try_from(total.attempts).unwrap(), ATTEMPTS);
}

async fn old_minutes_and_hours_are_removed_and_days_stay(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    // These are stored by minute, hour and day; by hour and day; and by day.
    for days in [1, 30, 100] {
        let at = stage.now() - days * DAY;
        attempt(stage, subscriber, at, Duration::ZERO, (200, None)).await;
    }
    stage.store.fold_attempts().await.unwrap();
    // Each has rows for the subscriber and for all, combined with its event type and with all.
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

async fn an_unreadable_delta_does_not_stop_folding(stage: &Stage) {
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

async fn latency_since_a_moment_includes_folded_rows_and_deltas(stage: &Stage) {
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
            let filter = StatsFilter { since: since.map(|ago| now - ago), ..StatsFilter::default() };
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
