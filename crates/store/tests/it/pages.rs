//! Pages of attempts, which are bounded in bytes as well as in number.

use postrider_core::{DeadReason, DeliveryId, id};
use postrider_store::PageRequest;
use postrider_store::dead_letters::DeadFilter;
use postrider_store::deliveries::DeliveryFilter;
use sea_orm::{ConnectionTrait as _, DbBackend};

use crate::stage::{Stage, on_both};

on_both!(
    a_page_of_large_attempts_ends_early,
    a_page_of_small_attempts_holds_as_many_as_asked_for,
    a_filter_that_matches_little_ends_a_page_early,
);

/// Makes attempts at one delivery, each with a response body of this size.
async fn delivery_with(stage: &Stage, attempts: u32, bytes: u32) -> DeliveryId {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let id = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    let connection = stage.database.connection();
    let (attempt, body) = match connection.get_database_backend() {
        DbBackend::Sqlite => ("unhex(printf('%032x', n))", format!("zeroblob({bytes})")),
        _ => ("lpad(to_hex(n), 32, '0')::uuid", format!("convert_to(repeat('x', {bytes}), 'UTF8')")),
    };
    let sql = format!(
        "INSERT INTO attempts (id, tenant, delivery_id, number, started_at, duration_us, response_status,
            response_body, response_truncated)
        WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {attempts})
        SELECT {attempt}, deliveries.tenant, deliveries.id, n, n, n, 500, {body}, false FROM deliveries, numbers"
    );
    connection.execute_unprepared(&sql).await.unwrap();
    id
}

/// The numbers of the attempts on each page.
async fn pages(stage: &Stage, delivery: DeliveryId, limit: u16) -> Vec<Vec<u32>> {
    let mut pages = Vec::new();
    let mut page = PageRequest::<id::Attempt> { limit, before: None };
    loop {
        let read = stage.store.attempts(&stage.tenant, delivery, page).await.unwrap();
        pages.push(read.items.iter().map(|attempt| attempt.number).collect());
        let Some(next) = read.next else { return pages };
        page.before = Some(next);
    }
}

async fn a_page_of_large_attempts_ends_early(stage: &Stage) {
    let delivery = delivery_with(stage, 40, 64 * 1024).await;
    let pages_of_a_mebibyte: Vec<Vec<u32>> =
        vec![(25..=40).rev().collect(), (9..=24).rev().collect(), (1..=8).rev().collect()];
    assert_eq!(pages(stage, delivery, 250).await, pages_of_a_mebibyte);
    assert_eq!(pages(stage, delivery, 16).await, pages_of_a_mebibyte);
}

async fn a_page_of_small_attempts_holds_as_many_as_asked_for(stage: &Stage) {
    let delivery = delivery_with(stage, 5, 10).await;
    assert_eq!(pages(stage, delivery, 2).await, [vec![5, 4], vec![3, 2], vec![1]]);
    assert_eq!(pages(stage, delivery, 5).await, [vec![5, 4, 3, 2, 1]]);
    let other =
        stage.dispatch(&stage.tenant, stage.subscribe(&stage.tenant, true).await, "a", stage.now()).await;
    assert_eq!(pages(stage, other, 5).await, [Vec::<u32>::new()]);
}

/// The oldest of forty thousand events, deliveries and dead letters matches, and no other.
async fn a_filter_that_matches_little_ends_a_page_early(stage: &Stage) {
    const OTHERS: u32 = 40_000;
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let oldest = stage.dispatch(&stage.tenant, subscriber, "rare", stage.now()).await;
    let connection = stage.database.connection();
    let id = match connection.get_database_backend() {
        DbBackend::Sqlite => "unhex(substr(hex(id), 1, 12) || '7fffbfff' || printf('%012x', n))",
        _ => "(left(id::text, 13) || '7fffbfff' || lpad(to_hex(n), 12, '0'))::uuid",
    };
    let numbers = format!(
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {OTHERS})"
    );
    for sql in [
        "UPDATE deliveries SET status = 2, dead_reason = 0, died_at = 1, response_status = 418".to_owned(),
        format!(
            "INSERT INTO events (id, tenant, event_type, agent_id, envelope, subscribers_found, dispatched_at) {numbers} \
            SELECT {id}, tenant, 'usual', agent_id, envelope, 1, n FROM events, numbers"
        ),
        format!(
            "INSERT INTO deliveries (id, tenant, subscriber_id, event_type, status, attempts, round_start, \
                dead_reason, died_at, response_status, created_at) {numbers} \
            SELECT {id}, tenant, subscriber_id, 'usual', 2, 1, 0, 1, 2, 500, n FROM deliveries, numbers"
        ),
    ] {
        connection.execute_unprepared(&sql).await.unwrap();
    }
    let (store, tenant) = (&stage.store, &stage.tenant);
    let rare = "rare".parse().unwrap();
    let (mut before, mut pages) = (None, Vec::new());
    while pages.len() < 4 {
        let filter = DeliveryFilter { response_status: Some(418..=418), ..DeliveryFilter::default() };
        let page = store.deliveries(tenant, &filter, PageRequest { limit: 10, before }).await.unwrap();
        let dead = DeadFilter { reason: Some(DeadReason::AttemptsUsedUp), ..DeadFilter::default() };
        let dead = store.dead_letters(tenant, &dead, PageRequest { limit: 10, before }).await.unwrap();
        let found: Vec<_> = page.items.iter().map(|delivery| delivery.id).collect();
        assert_eq!(dead.items.iter().map(|delivery| delivery.id).collect::<Vec<_>>(), found);
        assert_eq!(dead.next, page.next);
        pages.push(found);
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(pages, [vec![], vec![], vec![oldest]], "each page examines twenty thousand");
    let long_ago = DeliveryFilter {
        event_type: Some("rare".parse().unwrap()),
        until: Some(stage.now() - std::time::Duration::from_hours(1)),
        ..DeliveryFilter::default()
    };
    let page = store.deliveries(tenant, &long_ago, PageRequest::default()).await.unwrap();
    assert!(page.items.is_empty() && page.next.is_none(), "newer deliveries are not examined");
    let (mut before, mut pages) = (None, Vec::new());
    while pages.len() < 4 {
        let page = store.events(tenant, Some(&rare), PageRequest { limit: 10, before }).await.unwrap();
        pages.push(page.items.len());
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(pages, [0, 0, 1]);
}
