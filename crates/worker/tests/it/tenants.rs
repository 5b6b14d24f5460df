//! What a worker does about a tenant that is to be deleted.

use std::time::Duration;

use postrider_core::TenantId;
use postrider_store::tenants::{Deletable, NewTenant};
use postrider_testkit::eventually;

use crate::stage::{DEADLINE, Stage, config, on_both};

on_both!(a_worker_deletes_a_tenant_with_its_subscribers,);

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
