//! A first attempt that succeeds is stored in the row of its delivery, all others are in rows of their own; readers see no
//! difference.

use std::time::Duration;

use bytes::Bytes;
use postrider_core::{DeliveryId, ErrorKind, Verdict, id};
use postrider_migrations::{Migrator, migrate};
use postrider_queue::Lease;
use postrider_store::PageRequest;
use postrider_store::attempt::{Attempt, DeliveryRef, End, Outcome, Response};
use postrider_store::deliveries::{Changed, RecordedAttempt};
use postrider_store::health::BreakerPolicy;
use postrider_testkit::TestDatabase;
use sea_orm::ConnectionTrait as _;
use sea_orm_migration::{MigrationTrait, MigratorTrait};

use crate::stage::{Stage, on_both};

on_both!(
    a_first_success_is_in_the_row_of_its_delivery,
    a_first_success_with_a_note_or_after_cancelling_has_a_row,
    later_attempts_have_rows_and_are_listed_before_the_first,
    a_response_can_be_erased_without_its_attempt,
);

fn attempt(delivery: &DeliveryRef, verdict: Verdict, body: impl Into<Bytes>) -> Attempt {
    let headers = vec![
        ("date".to_owned(), "Fri, 27 Nov 2026 12:00:00 GMT".into()),
        ("x-name".to_owned(), Bytes::from_static(b"caf\xe9")),
    ];
    let status = if verdict.is_success() { 201 } else { 500 };
    Attempt {
        started_at: delivery.created_at + Duration::from_millis(7),
        duration: Duration::from_micros(3456),
        response: Some(Response { status, headers, body: body.into(), truncated: true }),
        verdict,
        exchange: None,
    }
}

async fn record(stage: &Stage, (lease, delivery): &(Lease, DeliveryRef), attempt: Attempt, end: End) {
    let outcome = Outcome { lease: *lease, delivery: delivery.clone(), attempt: Some(attempt), end };
    if outcome.qualifies_for_fast_path() && stage.store.record_fast(&[&outcome]).await.unwrap() {
        return;
    }
    let recorded = stage.store.record(&[outcome], &[], &BreakerPolicy::default()).await.unwrap();
    assert!(recorded.lost.is_empty());
}

async fn dispatched(stage: &Stage) -> DeliveryId {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await
}

async fn claimed(stage: &Stage) -> (Lease, DeliveryRef) {
    stage.claim().await.into_iter().next().unwrap()
}

/// All attempts, read one by one.
async fn attempts(stage: &Stage, delivery: DeliveryId) -> Vec<RecordedAttempt> {
    let mut page = PageRequest::<id::Attempt> { limit: 1, before: None };
    let mut all = Vec::new();
    loop {
        let read = stage.store.attempts(&stage.tenant, delivery, page).await.unwrap();
        all.extend(read.items);
        let Some(next) = read.next else { return all };
        page.before = Some(next);
    }
}

async fn rows(stage: &Stage) -> u64 {
    stage.count("SELECT count(*) AS n FROM attempts").await
}

async fn a_first_success_is_in_the_row_of_its_delivery(stage: &Stage) {
    let id = dispatched(stage).await;
    let held = claimed(stage).await;
    let made = attempt(&held.1, Verdict::Success, &b"\0\xff"[..]);
    record(stage, &held, made.clone(), End::Succeeded).await;
    assert_eq!(rows(stage).await, 0);

    let all = attempts(stage, id).await;
    let [read] = &all[..] else { panic!("{all:?}") };
    assert_eq!((read.number, read.started_at, read.duration), (1, made.started_at, made.duration));
    assert_eq!((read.id.uuid(), read.response_status), (id.uuid(), Some(201)));
    assert_eq!((&read.verdict, read.response_truncated), (&Verdict::Success, true));
    assert_eq!(read.response_body, b"\0\xff"[..]);
    let headers = [("date", "Fri, 27 Nov 2026 12:00:00 GMT"), ("x-name", "café")];
    assert_eq!(read.response_headers, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));

    let has = async |attempt: &Attempt| stage.store.has_attempt(&stage.tenant, id, attempt).await.unwrap();
    assert!(has(&made).await);
    assert!(!has(&Attempt { duration: Duration::from_micros(3457), ..made.clone() }).await);
    assert!(!has(&Attempt { started_at: made.started_at + Duration::from_millis(1), ..made }).await);
}

async fn a_first_success_with_a_note_or_after_cancelling_has_a_row(stage: &Stage) {
    let noted = dispatched(stage).await;
    let held = claimed(stage).await;
    let verdict = Verdict::SuccessWithNote("the body was cut short".into());
    record(stage, &held, attempt(&held.1, verdict.clone(), "a"), End::Succeeded).await;
    let cancelled = dispatched(stage).await;
    let held = claimed(stage).await;
    assert!(matches!(stage.store.cancel(&stage.tenant, cancelled).await.unwrap(), Changed::Done(_)));
    record(stage, &held, attempt(&held.1, Verdict::Success, "b"), End::Succeeded).await;

    assert_eq!(rows(stage).await, 2);
    for (delivery, verdict) in [(noted, verdict), (cancelled, Verdict::Success)] {
        let all = attempts(stage, delivery).await;
        assert_eq!(all.iter().map(|one| (one.number, &one.verdict)).collect::<Vec<_>>(), [(1, &verdict)]);
    }
}

async fn later_attempts_have_rows_and_are_listed_before_the_first(stage: &Stage) {
    let id = dispatched(stage).await;
    let held = claimed(stage).await;
    record(stage, &held, attempt(&held.1, Verdict::Success, "first"), End::Succeeded).await;
    let failure = Verdict::failure(ErrorKind::Status, "the receiver answered 500");
    let ends = [
        (failure, "x".repeat(1_100_000), End::RetryIn(Duration::from_secs(1))),
        (Verdict::Success, "third".into(), End::Succeeded),
    ];
    for (verdict, body, end) in ends {
        if verdict.is_success() {
            stage.database.advance(Duration::from_mins(1)).await;
            stage.store.queue().promote(10).await.unwrap();
        } else {
            assert!(matches!(stage.store.retry(&stage.tenant, id).await.unwrap(), Changed::Done(_)));
        }
        let held = claimed(stage).await;
        record(stage, &held, attempt(&held.1, verdict, body), end).await;
    }

    assert_eq!(rows(stage).await, 2);
    let all = attempts(stage, id).await;
    let read: Vec<_> =
        all.iter().map(|one| (one.number, one.response_status, one.response_body.len())).collect();
    assert_eq!(read, [(3, Some(201), 5), (2, Some(500), 1_100_000), (1, Some(201), 5)]);
    // The second exceeds what a page holds, so the first is on the next one.
    let page = stage.store.attempts(&stage.tenant, id, PageRequest::default()).await.unwrap();
    assert_eq!(page.items.iter().map(|one| one.number).collect::<Vec<_>>(), [3, 2]);
    let rest = PageRequest { before: page.next, ..PageRequest::default() };
    let rest = stage.store.attempts(&stage.tenant, id, rest).await.unwrap();
    assert_eq!((rest.items.len(), rest.items[0].number, rest.next), (1, 1, None));
}

async fn a_response_can_be_erased_without_its_attempt(stage: &Stage) {
    let id = dispatched(stage).await;
    let held = claimed(stage).await;
    record(stage, &held, attempt(&held.1, Verdict::Success, "secret"), End::Succeeded).await;
    let erase = "UPDATE deliveries SET first_response = NULL";
    stage.database.connection().execute_unprepared(erase).await.unwrap();
    let all = attempts(stage, id).await;
    assert_eq!((all.len(), all[0].response_status), (1, Some(201)));
    assert!(all[0].response_headers.is_empty() && all[0].response_body.is_empty());
}

/// Otherwise the end of a delivery would change its indexes as well.
#[tokio::test]
async fn a_delivery_ends_in_its_page() {
    const DELIVERIES: u32 = 90;
    let stage = Stage::of(TestDatabase::postgres().await).await;
    for _ in 0..DELIVERIES {
        dispatched(&stage).await;
    }
    let pages = async || {
        let sql = "SELECT CAST(id AS text) AS id, (ctid::text::point)[0] AS page FROM deliveries ORDER BY id";
        let rows = stage.rows(sql).await;
        let page = |row: &sea_orm::QueryResult| -> (String, f64) {
            (row.try_get("", "id").unwrap(), row.try_get("", "page").unwrap())
        };
        rows.iter().map(page).collect::<Vec<_>>()
    };
    let before = pages().await;
    let body = "x".repeat(100);
    let outcomes: Vec<_> = stage
        .claim()
        .await
        .into_iter()
        .map(|(lease, delivery)| {
            let attempt = Some(attempt(&delivery, Verdict::Success, body.clone()));
            Outcome { lease, delivery, attempt, end: End::Succeeded }
        })
        .collect();
    assert_eq!(outcomes.len(), DELIVERIES as usize);
    assert!(stage.store.record_fast(&outcomes.iter().collect::<Vec<_>>()).await.unwrap());
    let after = pages().await;
    assert!(after.last().unwrap().1 > 1.0, "there are several pages: {after:?}");
    assert_eq!(before, after);
}

/// The schema before.
struct Before;

impl MigratorTrait for Before {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let all = Migrator::migrations().into_iter();
        all.take_while(|one| one.name() != "m0013_first_attempts").collect()
    }
}

/// Partitions that there are, and those that are made later, have room for attempts and compress fast.
#[tokio::test]
async fn all_partitions_have_room_and_compress_with_lz4() {
    let database = TestDatabase::postgres_with::<Before>().await;
    let add = |days: u32| {
        format!(
            "SELECT postrider_add_partition((extract(epoch FROM now()) * 1000)::bigint + {days} * 86400000, 86400000)"
        )
    };
    database.connection().execute_unprepared(&add(0)).await.unwrap();
    migrate(&database.connection()).await.unwrap();
    database.connection().execute_unprepared(&add(1)).await.unwrap();
    let stage = Stage::of(database).await;
    let with_room = "SELECT count(*) AS n FROM pg_class \
        WHERE relispartition AND relname ~ '^deliveries_2' AND 'fillfactor=30' = ANY (reloptions) AND relkind = 'r'";
    assert_eq!(stage.count(with_room).await, 2);
    let with_lz4 = "SELECT count(*) AS n FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid \
        WHERE relispartition AND attname IN ('envelope', 'first_response', 'response_body') AND attcompression = 'l'";
    let is_possible = "SELECT count(*) AS n FROM pg_settings \
        WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)";
    assert_eq!(stage.count(with_lz4).await, 6 * stage.count(is_possible).await);
}
