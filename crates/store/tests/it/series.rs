//! Time series agree with the attempts that were made, whether their counts are folded or not.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_core::{DeadReason, ErrorKind, SubscriberId, TenantId, Timestamp, Verdict};
use postrider_queue::Finish;
use postrider_store::attempt::{Attempt, End, Outcome, Response};
use postrider_store::health::BreakerPolicy;
use postrider_store::stats::{AttemptCounts, Detail, Percentiles, Series, StatsFilter, Steps, StepsError};
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
    days_beyond_their_retention_are_added_to_the_past,
    the_past_of_what_is_long_unused_is_removed,
    a_delivery_that_ends_after_months_is_counted_where_it_was_created,
    each_minute_of_a_subscriber_has_its_own_counts,
    counts_are_due_when_they_are_old_or_many,
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
    let steps = Steps::new(from, to, step, stage.now(), Detail::Fine).unwrap();
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
        exchange: None,
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
    assert!(stage.store.fold_statistics().await.unwrap().deltas >= 6);
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
            assert!(stage.store.fold_statistics().await.unwrap().deltas > 0);
            assert_eq!(points(&series(stage, start, start + 2 * HOUR, MINUTE).await), expected);
        }
    }
    let all = series(stage, start, start + 2 * HOUR, MINUTE).await;
    assert_eq!(points(&all), expected);
    assert_eq!(all.total.latency, Percentiles { p50: Some(2), p95: Some(4), p99: Some(4) });
    stage.store.fold_statistics().await.unwrap();
    assert_eq!(series(stage, start, start + 2 * HOUR, MINUTE).await, all);
    assert_eq!(stage.store.fold_statistics().await.unwrap().deltas, 0, "nothing is left to fold");
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
            stage.store.fold_statistics().await.unwrap();
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
            stage.store.fold_statistics().await.unwrap();
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
            let detail = Detail::of(subscriber.is_some(), event.is_some());
            let what = format!("{tenant} {subscriber:?} {event:?}, folded: {folded}");
            for (step, to) in [(MINUTE, start + HOUR), (HOUR, start + HOUR), (DAY, start + DAY)] {
                let steps = Steps::new(start, to, step, stage.now(), detail);
                if detail == Detail::SubscriberAndEventType && step < DAY {
                    assert_eq!(steps, Err(StepsError::TooFine(detail)));
                    continue;
                }
                let series =
                    stage.store.series(tenant, subscriber, event.as_ref(), steps.unwrap()).await.unwrap();
                assert_eq!(series.total.attempts, attempts, "{what}, step: {step:?}");
                assert_eq!(series.points[0].1, series.total, "{what}, step: {step:?}");
            }
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
                    store.fold_statistics().await.unwrap();
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
        stage.store.fold_statistics().await.unwrap();
        (rows(stage, "rollup_deltas").await == 0).then_some(())
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
    stage.store.fold_statistics().await.unwrap();
    let by_day = series(stage, stage.now() - 200 * DAY, stage.now(), DAY).await;
    assert_eq!(by_day.total.attempts, 3);
    let stats = stage.stats().await;
    let spans = async || stage.spans().await;
    // Days of the tenant, the event type, the subscriber, and the event type of the subscriber.
    assert_eq!(spans().await, [(1, 2), (2, 4), (3, 12), (4, 1)], "rows that are too old are not written");

    // Four days later, and twenty more.
    for (days, left) in [(4, [(2, 4), (3, 12), (4, 1)].to_vec()), (20, [(2, 4), (3, 12)].to_vec())] {
        stage.age(days).await;
        stage.store.remove_old_statistics().await.unwrap();
        assert_eq!(spans().await, left, "after {days} days");
    }
    assert_eq!(stage.stats().await, stats);
}

async fn days_beyond_their_retention_are_added_to_the_past(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let event = Some("a.b".parse().unwrap());
    let filters = [
        StatsFilter::default(),
        StatsFilter { subscriber: Some(subscriber), ..StatsFilter::default() },
        StatsFilter { event_type: event.clone(), ..StatsFilter::default() },
        StatsFilter { subscriber: Some(subscriber), event_type: event, since: None },
    ];
    let mut all = 0;
    // One after the other is older than 402 days, and then the past has rows to add them to.
    for days in [500, 450, 410] {
        for n in 0..3 {
            attempt(stage, subscriber, stage.now() - days * DAY + n * HOUR, n * MINUTE, (200, None)).await;
        }
        all += 3;
        let mut before = Vec::new();
        for filter in &filters {
            before.push(stage.store.stats(&stage.tenant, filter).await.unwrap());
        }
        stage.store.fold_statistics().await.unwrap();
        stage.store.remove_old_statistics().await.unwrap();
        assert_eq!(stage.spans().await, [(0, 4)]);
        for (filter, before) in filters.iter().zip(before) {
            let stats = stage.store.stats(&stage.tenant, filter).await.unwrap();
            assert_eq!((stats.deliveries.total, stats.deliveries.succeeded), (all, all), "{filter:?}");
            assert_eq!(stats, before, "{filter:?}");
        }
    }
    // The past has no single days.
    let since = |days| StatsFilter { since: Some(stage.now() - days * DAY), ..StatsFilter::default() };
    assert_eq!(stage.deliveries(&since(399)).await.total, 0);
    assert_eq!(stage.deliveries(&since(401)).await.total, all);
    let from = stage.now() - 405 * DAY;
    let steps = Steps::new(from, stage.now(), DAY, stage.now(), Detail::Fine);
    assert_eq!(steps, Err(StepsError::TooOld));
}

async fn the_past_of_what_is_long_unused_is_removed(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    attempt(stage, subscriber, stage.now() - 420 * DAY, Duration::ZERO, (200, None)).await;
    stage.store.fold_statistics().await.unwrap();
    for (days, rows) in [(0, 4), (380, 4), (10, 1)] {
        stage.age(days).await;
        stage.store.remove_old_statistics().await.unwrap();
        assert_eq!(stage.spans().await, [(0, rows)], "{days} days later");
    }
    assert_eq!(stage.stats().await.deliveries.succeeded, 1, "the tenant's total stays");
    // It goes on when the subscriber is used again.
    attempt(stage, subscriber, stage.now() - 410 * DAY, Duration::ZERO, (200, None)).await;
    stage.store.fold_statistics().await.unwrap();
    stage.store.remove_old_statistics().await.unwrap();
    assert_eq!((stage.spans().await, stage.stats().await.deliveries.succeeded), (vec![(0, 4)], 2));
}

async fn a_delivery_that_ends_after_months_is_counted_where_it_was_created(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let created = stage.now() - 100 * DAY;
    stage.dispatch(&stage.tenant, subscriber, "a.b", created).await;
    stage.store.fold_statistics().await.unwrap();
    stage.store.remove_old_statistics().await.unwrap();
    let claimed = stage.claim().await;
    stage.record(claimed[0].0, &claimed[0].1, 100 * DAY, End::Succeeded).await;
    for folded in [false, true] {
        if folded {
            stage.store.fold_statistics().await.unwrap();
            stage.store.remove_old_statistics().await.unwrap();
        }
        for (days, succeeded) in [(101, 1), (99, 0)] {
            for subscriber in [None, Some(subscriber)] {
                let since = Some(stage.now() - days * DAY);
                let found = stage.deliveries(&StatsFilter { subscriber, event_type: None, since }).await;
                let expected = (succeeded, succeeded, 0);
                assert_eq!(
                    (found.total, found.succeeded, found.pending),
                    expected,
                    "{days}, folded: {folded}"
                );
            }
        }
        // The attempt was made now.
        let now = series(stage, stage.now() - HOUR, stage.now() + MINUTE, MINUTE).await.total;
        assert_eq!((now.attempts, now.latency), (1, Percentiles::default()), "folded: {folded}");
    }
}

async fn each_minute_of_a_subscriber_has_its_own_counts(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let start = hours_ago(stage, 30);
    for round in 1..=2_u64 {
        for minute in [0, 7, 59, 60, 121] {
            let at = start + minute * MINUTE;
            attempt(stage, subscriber, at, Duration::from_millis(round), (200, None)).await;
        }
        // The second time the rows exist.
        stage.store.fold_statistics().await.unwrap();
        let steps = Steps::new(start, start + 3 * HOUR, MINUTE, stage.now(), Detail::Subscriber).unwrap();
        let found = stage.store.series(&stage.tenant, Some(subscriber), None, steps).await.unwrap();
        assert_eq!(points(&found), [0, 7, 59, 60, 121].map(|minute| (minute, round, round)));
        let all = series(stage, start, start + 3 * HOUR, MINUTE).await;
        assert_eq!(found, all, "of the only subscriber");
        for (minutes, left) in [(0, 5), (1, 4), (7, 4), (8, 3), (60, 2), (61, 1), (122, 0)] {
            let since = Some(start + minutes * MINUTE);
            let filter = StatsFilter { subscriber: Some(subscriber), event_type: None, since };
            assert_eq!(stage.deliveries(&filter).await.succeeded, left * round, "since {minutes}");
        }
    }
}

async fn counts_are_due_when_they_are_old_or_many(stage: &Stage) {
    let is_due = async || stage.store.statistics_are_due().await.unwrap();
    assert!(!is_due().await);
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    stage.dispatch(&stage.tenant, subscriber, "a.b", stage.now()).await;
    assert!(!is_due().await, "more may come");
    stage.database.advance(MINUTE).await;
    assert!(is_due().await);
    stage.store.fold_statistics().await.unwrap();
    assert!(!is_due().await);
    stage.dispatch(&stage.tenant, subscriber, "a.b", stage.now()).await;
    let many = "UPDATE rollup_deltas SET entries = 100000";
    stage.database.connection().execute_unprepared(many).await.unwrap();
    assert!(is_due().await);
}

impl Stage {
    /// The number of rows of each span.
    async fn spans(&self) -> Vec<(i16, i64)> {
        let rows = self.rows("SELECT span, count(*) AS rows FROM rollups GROUP BY span ORDER BY span").await;
        rows.iter().map(|row| (row.try_get("", "span").unwrap(), row.try_get("", "rows").unwrap())).collect()
    }

    /// Makes all rows older.
    async fn age(&self, days: u32) {
        let sql = format!("UPDATE rollups SET start = start - {days} * 1440 WHERE start < 9000000000");
        self.database.connection().execute_unprepared(&sql).await.unwrap();
    }
}

async fn an_unreadable_delta_does_not_stop_folding(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let start = hours_ago(stage, 3);
    attempt(stage, subscriber, start, Duration::ZERO, (200, None)).await;
    let connection = stage.store.database().connection();
    let damage = Statement::from_sql_and_values(
        connection.get_database_backend(),
        "UPDATE rollup_deltas SET counts = $1",
        [vec![0x80_u8].into()],
    );
    connection.execute_raw(damage).await.unwrap();
    attempt(stage, subscriber, start, Duration::ZERO, (200, None)).await;
    let folded = stage.store.fold_statistics().await.unwrap();
    assert_eq!((folded.deltas, folded.unreadable), (4, 2), "each was dispatched and recorded");
    assert_eq!(series(stage, start, start + MINUTE, MINUTE).await.total.attempts, 1);
}

async fn latency_since_a_moment_includes_folded_rows_and_deltas(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let now = stage.now();
    for (n, ago) in (1..).zip([Duration::ZERO, 5 * HOUR, 5 * DAY, 100 * DAY]) {
        attempt(stage, subscriber, now - ago, Duration::from_millis(n), (200, None)).await;
        if n % 2 == 0 {
            stage.store.fold_statistics().await.unwrap();
        }
    }
    for folded in [false, true] {
        if folded {
            stage.store.fold_statistics().await.unwrap();
            stage.store.remove_old_statistics().await.unwrap();
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
