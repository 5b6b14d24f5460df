//! What a worker does about a tenant that is to be deleted.

use std::time::Duration;

use postrider_core::TenantId;
use postrider_store::tenants::{Deletable, NewTenant, TenantRetention};
use postrider_testkit::eventually;
use sea_orm::{ConnectionTrait as _, DbBackend};

use crate::stage::{DEADLINE, Stage, config, on_both};

on_both!(a_worker_deletes_a_tenant_with_its_subscribers, a_worker_removes_what_a_tenant_keeps_no_longer,);

async fn a_worker_deletes_a_tenant_with_its_subscribers(stage: &Stage) {
    let acme: TenantId = "acme".parse().unwrap();
    assert!(stage.store.register_tenant(&NewTenant::named(acme.clone())).await.unwrap());
    stage.store.create_subscriber(&acme, stage.new_subscriber("/hook")).await.unwrap();
    assert_eq!(stage.store.delete_tenant(&acme).await.unwrap(), Deletable::Begun);
    stage.database.advance(Duration::from_mins(1)).await;
    let worker = stage.worker(config()).await;
    eventually(DEADLINE, || async { stage.store.tenant(&acme).await.unwrap().is_none().then_some(()) }).await;
    worker.stop().await;
    assert_eq!(stage.count("SELECT count(*) FROM subscribers").await, 0);
}

async fn a_worker_removes_what_a_tenant_keeps_no_longer(stage: &Stage) {
    let acme: TenantId = "acme".parse().unwrap();
    let day = Duration::from_hours(24);
    let retention = TenantRetention { history: Some(7 * day), ..TenantRetention::default() };
    let new = NewTenant { retention, ..NewTenant::named(acme.clone()) };
    assert!(stage.store.register_tenant(&new).await.unwrap());
    let then = stage.store.ids().clock().now() - 8 * day;
    stage.store.ensure_partition(stage.store.database().connection(), then).await.unwrap();
    let id = format!("{:012x}70008000000000000000", then.millis());
    let connection = stage.database.connection();
    let (before, after) =
        if connection.get_database_backend() == DbBackend::Postgres { ("'", "'") } else { ("x'", "'") };
    let insert = format!(
        "INSERT INTO events (tenant, id, event_type, agent_id, envelope, subscribers_found, dispatched_at) \
        SELECT id, {before}{id}{after}, 'a', 'default', {before}{after}, 0, 0 FROM tenants WHERE id IN ('acme', 'default')"
    );
    connection.execute_unprepared(&insert).await.unwrap();
    assert_eq!(stage.count("SELECT count(*) FROM events").await, 2);
    let worker = stage.worker(config()).await;
    let of_acme = "SELECT count(*) FROM events WHERE tenant = 'acme'";
    eventually(DEADLINE, || async { (stage.count(of_acme).await == 0).then_some(()) }).await;
    worker.stop().await;
    assert_eq!(stage.count("SELECT count(*) FROM events").await, 1);
}
