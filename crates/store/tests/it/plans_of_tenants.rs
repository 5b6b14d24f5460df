//! What statements about tenants, keys and the audit trail cost must not grow with their tables.

use std::sync::Arc;

use postrider_core::TenantId;
use postrider_core::audit::AuditAction;
use postrider_store::audit::{AuditFilter, Auditor};
use postrider_store::keys::KeysOf;
use postrider_store::request_keys::RequestKey;
use postrider_store::tenants::{EgressProxy, NewTenant, Tenant};
use postrider_store::{PageRequest, StoreError};
use postrider_testkit::TestDatabase;
use postrider_testkit::explain::Plans;
use sea_orm::ConnectionTrait as _;

use crate::api_keys;
use crate::stage::Stage;

/// Many rows that the statements do not ask for.
const MANY: &str = "INSERT INTO tenants (id, number, created_at) SELECT 'tenant' || n, gen_random_uuid(), n FROM generate_series(1, 20000) AS n;
    INSERT INTO api_keys (id, kind, tenant, name, hash, scopes, created_at, created_by, revoked_at)
        SELECT gen_random_uuid(), n % 2, CASE n % 2 WHEN 0 THEN 'tenant' || n % 100 END, 'n', sha256(n::text::bytea), 'events:write', n, 'x', n
        FROM generate_series(1, 20000) AS n;
    INSERT INTO audit (tenant, id, created_at, actor, actor_name, action, target)
        SELECT 'tenant' || n % 100, gen_random_uuid(), n, 'a', 'a', 'key.created', 't' FROM generate_series(1, 20000) AS n;
    INSERT INTO request_keys (tenant, actor, key, request, token, lease_until, created_at)
        SELECT 'tenant' || n % 100, 'a', 'k' || n, '', gen_random_uuid(), 9000000000000, 9000000000000 FROM generate_series(1, 20000) AS n;
    INSERT INTO subscriber_counts (tenant, shard, total, active) SELECT 'tenant' || n, 0, 0, 0 FROM generate_series(1, 20000) AS n";

/// Before the tables are filled, afterwards with plans for few rows, and with plans for many.
const STATES: [(&str, &str); 3] =
    [("empty", "ANALYZE"), ("full, with plans for few rows", MANY), ("full", "ANALYZE")];

#[tokio::test]
async fn no_statement_about_tenants_or_keys_scans_or_sorts_a_large_table() {
    let database = TestDatabase::postgres().await;
    let plans = Plans::of(&database).await;
    let stage = Stage::of(database).await;
    let mut faults = Vec::new();
    for (place, (state, reached_by)) in STATES.into_iter().enumerate() {
        for sql in reached_by.split(';') {
            stage.database.connection().execute_unprepared(sql).await.unwrap();
        }
        faults.extend(faults_of(&stage, &plans, state, &format!("acme{place}")).await);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

async fn faults_of(stage: &Stage, plans: &Plans, name: &str, tenant: &str) -> Vec<String> {
    let store = stage.another_store().await;
    let acme: TenantId = tenant.parse().unwrap();
    plans.take();
    let mut faults = Vec::new();
    let mut check = |statement: &str| {
        let taken = plans.take();
        assert!(!taken.is_empty(), "{name}: {statement}: no plan was reported");
        for plan in taken {
            faults.extend(
                plan.faults().into_iter().map(|fault| format!("{name}: {statement}: {fault}\n{plan}")),
            );
        }
    };
    assert!(store.register_tenant(&NewTenant::named(acme.clone())).await.unwrap());
    store.tenant(&acme).await.unwrap().unwrap();
    store.tenants(PageRequest { limit: 2, before: None }).await.unwrap();
    store.tenant_counts([&acme, &TenantId::default()]).await.unwrap();
    check("tenants");
    stage.subscribe(&acme, true).await;
    for active in [false, true] {
        let change = |tenant: &mut Tenant| {
            tenant.active = active;
            Ok::<_, StoreError>(())
        };
        store.change_tenant(&acme, change).await.unwrap().unwrap();
        store.closed_tenants(10).await.unwrap();
        store.tenant_being_held().await.unwrap();
        while store.hold_lanes_of(&acme).await.unwrap() {}
    }
    check("hold lanes");
    for proxy in [Some("http://proxy.test"), None] {
        let change = |tenant: &mut Tenant| {
            tenant.egress_proxy = proxy.map(|proxy| EgressProxy::Url(proxy.parse().unwrap()));
            Ok::<_, StoreError>(())
        };
        store.change_tenant(&acme, change).await.unwrap().unwrap();
        store.egress_proxies().await.unwrap();
        store.egress_proxy_changes().await.unwrap();
    }
    check("egress proxies");
    let audited = store.audited(Arc::new(Auditor::new("actor".into(), "name".into(), None, None)));
    for tenant in [Some(&acme), None] {
        let (_, key) = api_keys::key(stage, tenant);
        audited.create_key(&key).await.unwrap();
        store.key(KeysOf::Everyone, key.id).await.unwrap().unwrap();
        store.note_key_uses(&[(key.id, stage.now())]).await.unwrap();
        audited.revoke_key(KeysOf::Everyone, key.id).await.unwrap();
    }
    for of in [KeysOf::Everyone, KeysOf::Tenant(&acme)] {
        store.keys(of, PageRequest { limit: 2, before: None }).await.unwrap();
    }
    store.has_operator_key().await.unwrap();
    check("keys");
    let action = Some(AuditAction::KeyCreated.as_str().to_owned());
    for tenant in [Some(acme.clone()), None] {
        for action in [action.clone(), None] {
            let filter = AuditFilter { tenant: tenant.clone(), action, ..AuditFilter::default() };
            store.audit_entries(&filter, PageRequest { limit: 2, before: None }).await.unwrap();
        }
    }
    store.remove_old_audit(postrider_core::Timestamp::from_seconds(0)).await.unwrap();
    check("audit");
    let key = RequestKey::new(acme.clone(), "actor".into(), "k".into(), store.ids().next_uuid());
    for _ in 0..2 {
        store.take_request_key(&key, &[0; 32]).await.unwrap();
    }
    store.keep_answer(&key, b"x").await.unwrap();
    store.give_back_request_key(&key).await.unwrap();
    store.remove_old_request_keys().await.unwrap();
    check("request keys");
    faults
}
