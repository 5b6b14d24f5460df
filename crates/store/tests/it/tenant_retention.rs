//! Tenants with a shorter retention than the deployment's.

use std::time::Duration;

use postrider_core::{DeadReason, DeliveryId, TenantId};
use postrider_store::attempt::End;
use postrider_store::deliveries::Changed;
use postrider_store::erasure::PayloadGone;
use postrider_store::retention::{Age, OfTenant, Retention, TenantSweep};
use postrider_store::tenants::{NewTenant, TenantRetention};
use sea_orm::ConnectionTrait as _;

use crate::retention::{NINETY_DAYS, dispatch};
use crate::stage::{Stage, on_both};

on_both!(
    a_tenants_old_events_go_before_those_of_others,
    a_tenants_old_payloads_go_before_its_events,
    a_pending_delivery_keeps_a_tenants_event,
    a_fan_out_keeps_a_tenants_event,
    a_dead_letter_keeps_a_tenants_event_as_long_as_the_deployment_says,
    a_wide_event_of_a_tenant_goes_in_steps,
    a_longer_retention_of_a_tenant_changes_nothing,
    more_events_than_a_step_takes_go,
);

const DEAD: End = End::Dead(DeadReason::AttemptsUsedUp);
const DAY: Duration = Duration::from_hours(24);

async fn acme(stage: &Stage, retention: TenantRetention) -> TenantId {
    let acme: TenantId = "acme".parse().unwrap();
    let new = NewTenant { retention, ..NewTenant::named(acme.clone()) };
    assert!(stage.store.register_tenant(&new).await.unwrap());
    acme
}

const WEEK: TenantRetention =
    TenantRetention { history: Some(Duration::from_hours(7 * 24)), payloads: None, dead: None };

/// Takes all steps of a run. Returns what they did and how many there were.
async fn sweep(stage: &Stage, retention: Retention) -> (OfTenant, u32) {
    let (mut sweep, mut all, mut steps) = (TenantSweep::default(), OfTenant::default(), 0);
    while let Some(step) = stage.store.remove_expired_of_tenants(retention, &mut sweep).await.unwrap() {
        assert!(steps < 1_000, "the run does not end");
        all.events += step.events;
        all.payloads += step.payloads;
        steps += 1;
    }
    (all, steps)
}

const fn done(events: u64, payloads: u64) -> OfTenant {
    OfTenant { events, payloads }
}

/// Whether the event, the delivery and its attempts are there.
async fn left(stage: &Stage, tenant: &TenantId, id: DeliveryId) -> [bool; 2] {
    let delivery = stage.store.delivery(tenant, id).await.unwrap().is_some();
    [stage.store.event(tenant, id.event()).await.unwrap().is_some(), delivery]
}

async fn gone(stage: &Stage, tenant: &TenantId, id: DeliveryId) -> Option<PayloadGone> {
    stage.store.event(tenant, id.event()).await.unwrap().unwrap().payload_gone
}

async fn a_tenants_old_events_go_before_those_of_others(stage: &Stage) {
    let acme = acme(stage, WEEK).await;
    let (own, other) = (stage.subscribe(&acme, true).await, stage.subscribe(&stage.tenant, true).await);
    let old = dispatch(stage, &acme, own, 8, Some(End::Cancelled)).await;
    let young = dispatch(stage, &acme, own, 6, Some(End::Cancelled)).await;
    let of_another = dispatch(stage, &stage.tenant, other, 8, Some(End::Cancelled)).await;
    assert_eq!(sweep(stage, NINETY_DAYS).await.0, done(1, 0));
    assert_eq!(left(stage, &acme, old).await, [false; 2]);
    assert_eq!(left(stage, &acme, young).await, [true; 2]);
    assert_eq!(left(stage, &stage.tenant, of_another).await, [true; 2]);
    assert_eq!(stage.count("SELECT count(*) AS n FROM attempts").await, 2);
    assert_eq!(sweep(stage, NINETY_DAYS).await.0, done(0, 0));
    // A deployment that keeps everything has tenants that do not.
    let forever = Retention { history: Age::Forever, payloads: Age::Forever, dead: Age::Forever };
    stage
        .store
        .change_tenant(&acme, |tenant| {
            tenant.retention.history = Some(5 * DAY);
            tenant.retention.dead = Some(5 * DAY);
            Ok::<_, postrider_store::StoreError>(())
        })
        .await
        .unwrap();
    assert_eq!(sweep(stage, forever).await.0, done(1, 0));
    assert_eq!(left(stage, &acme, young).await, [false; 2]);
}

async fn a_tenants_old_payloads_go_before_its_events(stage: &Stage) {
    let retention = TenantRetention { history: Some(20 * DAY), payloads: Some(7 * DAY), dead: None };
    let acme = acme(stage, retention).await;
    let own = stage.subscribe(&acme, true).await;
    let oldest = dispatch(stage, &acme, own, 21, Some(End::Cancelled)).await;
    let old = dispatch(stage, &acme, own, 8, Some(End::Succeeded)).await;
    let young = dispatch(stage, &acme, own, 6, Some(End::Succeeded)).await;
    assert_eq!(sweep(stage, NINETY_DAYS).await.0, done(1, 1));
    assert_eq!(left(stage, &acme, oldest).await, [false; 2]);
    assert_eq!(
        (gone(stage, &acme, old).await, gone(stage, &acme, young).await),
        (Some(PayloadGone::Expired), None)
    );
    assert_eq!(stage.count("SELECT count(*) AS n FROM deliveries WHERE first_response IS NOT NULL").await, 1);
    let retried = stage.store.retry(&acme, old).await.unwrap();
    assert!(matches!(retried, Changed::PayloadGone(PayloadGone::Expired)), "{retried:?}");
    assert_eq!(sweep(stage, NINETY_DAYS).await.0, done(0, 0));
}

async fn a_pending_delivery_keeps_a_tenants_event(stage: &Stage) {
    let acme = acme(stage, TenantRetention { payloads: Some(2 * DAY), ..WEEK }).await;
    let own = stage.subscribe(&acme, true).await;
    let pending = dispatch(stage, &acme, own, 8, None).await;
    let young = dispatch(stage, &acme, own, 3, None).await;
    assert_eq!(sweep(stage, NINETY_DAYS).await.0, done(0, 0));
    assert_eq!((gone(stage, &acme, pending).await, gone(stage, &acme, young).await), (None, None));
    for id in [pending, young] {
        stage.store.cancel(&acme, id).await.unwrap();
    }
    assert_eq!(sweep(stage, NINETY_DAYS).await.0, done(1, 1));
}

async fn a_fan_out_keeps_a_tenants_event(stage: &Stage) {
    let acme = acme(stage, WEEK).await;
    let own = stage.subscribe(&acme, true).await;
    dispatch(stage, &acme, own, 8, Some(End::Cancelled)).await;
    let begin = "INSERT INTO fan_outs (tenant, event_id, event_type, dispatched_at, reached, last, jobs_created, \
            created_at, touched_at) \
        SELECT tenant, id, event_type, dispatched_at, id, id, 0, 0, 0 FROM events";
    stage.database.connection().execute_unprepared(begin).await.unwrap();
    assert_eq!(sweep(stage, NINETY_DAYS).await.0, done(0, 0));
    stage.database.connection().execute_unprepared("DELETE FROM fan_outs").await.unwrap();
    assert_eq!(sweep(stage, NINETY_DAYS).await.0, done(1, 0));
}

async fn a_dead_letter_keeps_a_tenants_event_as_long_as_the_deployment_says(stage: &Stage) {
    let acme = acme(stage, TenantRetention { payloads: Some(DAY), ..WEEK }).await;
    let own = stage.subscribe(&acme, true).await;
    let dead = dispatch(stage, &acme, own, 30, Some(DEAD)).await;
    // It has died just now, and dead letters are kept for 90 days.
    stage.database.advance(20 * DAY).await;
    assert_eq!(sweep(stage, NINETY_DAYS).await.0, done(0, 0));
    assert_eq!((left(stage, &acme, dead).await, gone(stage, &acme, dead).await), ([true; 2], None));
    stage
        .store
        .change_tenant(&acme, |tenant| {
            tenant.retention.dead = Some(19 * DAY);
            Ok::<_, postrider_store::StoreError>(())
        })
        .await
        .unwrap();
    assert_eq!(sweep(stage, NINETY_DAYS).await.0, done(1, 0));
    assert_eq!(left(stage, &acme, dead).await, [false; 2]);
}

async fn a_wide_event_of_a_tenant_goes_in_steps(stage: &Stage) {
    let acme =
        acme(stage, TenantRetention { history: Some(20 * DAY), payloads: Some(DAY), dead: None }).await;
    let own = stage.subscribe(&acme, true).await;
    dispatch(stage, &acme, own, 10, None).await;
    stage.multiply(1_200).await;
    let settle = "UPDATE deliveries SET status = 3, ended_at = 1; DELETE FROM jobs; UPDATE events SET subscribers_found = 1200";
    stage.database.connection().execute_unprepared(settle).await.unwrap();
    assert_eq!(sweep(stage, NINETY_DAYS).await.0, done(0, 1));
    assert_eq!(stage.count("SELECT count(*) AS n FROM erasures").await, 1);
    stage
        .store
        .change_tenant(&acme, |tenant| {
            tenant.retention.history = Some(7 * DAY);
            Ok::<_, postrider_store::StoreError>(())
        })
        .await
        .unwrap();
    let (all, steps) = sweep(stage, NINETY_DAYS).await;
    assert_eq!(all, done(1, 0));
    assert!(steps >= 3, "{steps}");
    for table in ["events", "deliveries"] {
        assert_eq!(stage.count(&format!("SELECT count(*) AS n FROM {table}")).await, 0, "{table}");
    }
}

async fn a_longer_retention_of_a_tenant_changes_nothing(stage: &Stage) {
    let year = Some(365 * DAY);
    let acme = acme(stage, TenantRetention { history: year, payloads: year, dead: year }).await;
    let own = stage.subscribe(&acme, true).await;
    let old = dispatch(stage, &acme, own, 100, Some(End::Cancelled)).await;
    assert_eq!(sweep(stage, NINETY_DAYS).await, (done(0, 0), 0));
    stage.store.remove_expired(NINETY_DAYS).await.unwrap();
    assert_eq!(left(stage, &acme, old).await, [false; 2]);
}

async fn more_events_than_a_step_takes_go(stage: &Stage) {
    let acme = acme(stage, WEEK).await;
    let own = stage.subscribe(&acme, true).await;
    let old = dispatch(stage, &acme, own, 8, Some(End::Cancelled)).await;
    // Events that differ in the bits between the time and the number of the delivery.
    let numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 250)";
    let id = match stage.database.connection().get_database_backend() {
        sea_orm::DbBackend::Postgres => "(left(id::text, 24) || lpad(to_hex(n), 7, '0') || '00000')::uuid",
        _ => "unhex(substr(hex(id), 1, 20) || printf('%07x', n) || '00000')",
    };
    let copies = format!(
        "INSERT INTO events (id, tenant, event_type, agent_id, envelope, subscribers_found, dispatched_at) \
        {numbers} SELECT {id}, tenant, event_type, agent_id, envelope, 0, dispatched_at FROM events, numbers"
    );
    stage.database.connection().execute_unprepared(&copies).await.unwrap();
    let (all, steps) = sweep(stage, NINETY_DAYS).await;
    assert_eq!(all, done(251, 0));
    assert!(steps >= 4, "{steps}");
    assert_eq!(left(stage, &acme, old).await, [false; 2]);
}
