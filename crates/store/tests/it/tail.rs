//! What happens, for those who follow it.

use std::time::Duration;

use postrider_core::id::TailPlaceId;
use postrider_core::{DeadReason, DeliveryStatus, TenantId};
use postrider_store::attempt::End;
use postrider_store::tail::{TAIL_KEPT, TailDelivery, TailFrom, TailWhat};

use crate::stage::{Stage, on_both};

on_both!(what_happens_is_noted_while_somebody_follows, what_was_noted_goes_after_some_minutes);

async fn happened(stage: &Stage, tenant: &TenantId) -> Vec<TailDelivery> {
    let after = TailPlaceId::first_at(stage.now() - Duration::from_mins(1));
    let read = stage.store.read_tail(TailFrom { tenant, after, events: false }).await.unwrap();
    assert!(!read.more);
    let rows = read.rows.into_iter().map(|row| match row.what {
        TailWhat::Delivery(happened) => happened,
        other => panic!("{other:?}"),
    });
    rows.collect()
}

async fn what_happens_is_noted_while_somebody_follows(stage: &Stage) {
    use DeliveryStatus::{Cancelled, Dead, Pending, Succeeded};

    let one = stage.subscribe(&stage.tenant, true).await;
    let id = stage.dispatch(&stage.tenant, one, "a", stage.now()).await;
    stage.attempt(End::Succeeded).await;
    assert!(happened(stage, &stage.tenant).await.is_empty(), "nobody follows");

    stage.store.watch_tail(std::slice::from_ref(&stage.tenant)).await.unwrap();
    // As a worker in another process hears of it.
    let other = stage.another_store().await;
    other.read_watched().await.unwrap();
    stage.dispatch(&stage.tenant, one, "b", stage.now()).await;
    stage.attempt(End::RetryIn(Duration::from_secs(1))).await;
    stage.attempt(End::Dead(DeadReason::AttemptsUsedUp)).await;
    let cancelled = stage.dispatch(&stage.tenant, one, "c", stage.now()).await;
    stage.store.cancel(&stage.tenant, cancelled).await.unwrap();
    let quick = stage.dispatch(&stage.tenant, one, "d", stage.now()).await;
    let claimed = stage.claim().await;
    let (lease, delivery) = &claimed[0];
    stage.record(*lease, delivery, Duration::ZERO, End::Succeeded).await;
    let rows = happened(stage, &stage.tenant).await;
    let shown: Vec<_> =
        rows.iter().map(|row| (row.event_type.as_str().to_owned(), row.attempt, row.status)).collect();
    let expected = [
        ("b", Some(1), Pending),
        ("b", Some(2), Dead),
        ("b", None, Dead),
        ("c", None, Cancelled),
        ("d", Some(1), Succeeded),
        ("d", None, Succeeded),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(name, attempt, status)| ((*name).to_owned(), *attempt, *status)).collect();
    assert_eq!(shown, expected);
    assert!(rows.iter().all(|row| row.subscriber == one && row.delivery != id));
    for row in &rows {
        let detail = stage.store.tail_detail(&stage.tenant, row).await.unwrap().unwrap();
        assert_eq!(detail.delivery.id, row.delivery);
        assert_eq!(detail.attempt.map(|attempt| attempt.number), row.attempt);
    }
    assert_eq!(rows[5].delivery, quick);
    let other_tenant: TenantId = "other".parse().unwrap();
    assert!(happened(stage, &other_tenant).await.is_empty(), "tenants are apart");
    // Events are there whether anybody follows or not.
    let after = TailPlaceId::first_at(stage.now() - Duration::from_mins(1));
    let all = stage.store.read_tail(TailFrom { tenant: &stage.tenant, after, events: true }).await.unwrap();
    let events = all.rows.iter().filter(|row| matches!(row.what, TailWhat::Event(_))).count();
    assert_eq!((events, all.rows.len()), (4, 10));
    assert!(all.rows.is_sorted_by_key(|row| row.id));
}

async fn what_was_noted_goes_after_some_minutes(stage: &Stage) {
    let one = stage.subscribe(&stage.tenant, true).await;
    stage.store.watch_tail(std::slice::from_ref(&stage.tenant)).await.unwrap();
    stage.dispatch(&stage.tenant, one, "a", stage.now()).await;
    stage.attempt(End::Succeeded).await;
    assert!(!stage.store.remove_old_tail().await.unwrap());
    assert_eq!(stage.count("SELECT count(*) AS n FROM tail_rows").await, 2);
    stage.database.advance(TAIL_KEPT + Duration::from_secs(1)).await;
    stage.store.read_watched().await.unwrap();
    stage.dispatch(&stage.tenant, one, "a", stage.now()).await;
    stage.attempt(End::Succeeded).await;
    assert_eq!(stage.count("SELECT count(*) AS n FROM tail_rows").await, 2, "nobody follows any more");
    while stage.store.remove_old_tail().await.unwrap() {}
    assert_eq!(stage.count("SELECT count(*) AS n FROM tail_rows").await, 0);
    assert_eq!(stage.count("SELECT count(*) AS n FROM tail_watches").await, 0);
}
