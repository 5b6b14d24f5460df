//! Pages of attempts, which are bounded in bytes as well as in number.

use postrider_core::{DeliveryId, id};
use postrider_store::PageRequest;
use sea_orm::{ConnectionTrait as _, DbBackend};

use crate::stage::{Stage, on_both};

on_both!(a_page_of_large_attempts_ends_early, a_page_of_small_attempts_holds_as_many_as_asked_for);

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
