//! The register of tenants, and deleting one with all its data.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use postrider_core::replay::ReplayMode;
use postrider_core::{DeliveryStatus, Metadata, ProxyUrl, TenantId};
use postrider_database::Dialect;
use postrider_stage::subscriber_of;
use postrider_store::attempt::End;
use postrider_store::audit::{AuditFilter, Auditor};
use postrider_store::deliveries::DeliveryFilter;
use postrider_store::intake::Everyone;
use postrider_store::replays::Started;
use postrider_store::subscribers::{NewSubscriber, SubscriberChange};
use postrider_store::tenants::{
    Closed, Deletable, EgressProxy, NewTenant, Tenant, TenantCounts, TenantRetention,
};
use postrider_store::{PageRequest, StoreError};
use sea_orm::{ConnectionTrait as _, Statement};

use crate::stage::{Stage, on_both};

on_both!(
    a_tenant_is_registered_once_and_changed,
    an_egress_proxy_is_encrypted_and_masked,
    tenants_are_listed_from_the_last_one_on,
    a_failed_change_changes_nothing,
    a_deleted_tenant_leaves_no_row_and_others_keep_theirs,
    a_deletion_leaves_servers_time_to_hear_of_it,
    tenants_that_postrider_needs_are_not_deleted,
    the_lanes_of_an_inactive_tenant_are_held,
    many_lanes_are_held_and_released_in_steps,
    a_paused_subscriber_of_an_inactive_tenant_waits_for_both,
    tenants_are_counted,
);

fn tenant(id: &str) -> TenantId {
    id.parse().unwrap()
}

fn metadata(name: &str, text: &str) -> Metadata {
    BTreeMap::from([(name.to_owned(), text.to_owned())]).try_into().unwrap()
}

async fn a_tenant_is_registered_once_and_changed(stage: &Stage) {
    let (store, acme) = (&stage.store, tenant("acme"));
    assert_eq!(store.tenant(&acme).await.unwrap(), None);
    let retention =
        TenantRetention { payloads: Some(Duration::from_hours(24)), ..TenantRetention::default() };
    let new = NewTenant {
        name: "Acme".into(),
        metadata: metadata("a", "1"),
        retention,
        ..NewTenant::named(acme.clone())
    };
    assert!(store.register_tenant(&new).await.unwrap());
    assert!(!store.register_tenant(&NewTenant::named(acme.clone())).await.unwrap());
    let found = store.tenant(&acme).await.unwrap().unwrap();
    assert_eq!((found.name.as_str(), found.retention), ("Acme", retention));
    assert_eq!((&found.metadata, found.deletion), (&metadata("a", "1"), None));

    let changed = store
        .change_tenant(&acme, |tenant| {
            tenant.name = "Acme Ltd.".into();
            tenant.metadata = metadata("b", "2");
            tenant.retention.history = Some(Duration::from_hours(48));
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
    assert_eq!(changed, store.tenant(&acme).await.unwrap());
    let changed = changed.unwrap();
    assert_eq!((changed.name.as_str(), changed.metadata), ("Acme Ltd.", metadata("b", "2")));
    assert_eq!(changed.retention.history, Some(Duration::from_hours(48)));
    let unknown = store.change_tenant(&tenant("unknown"), |_| Ok::<_, StoreError>(())).await.unwrap();
    assert_eq!(unknown, None);
}

async fn an_egress_proxy_is_encrypted_and_masked(stage: &Stage) {
    let auditor = Auditor::new("actor".into(), "name".into(), None, None);
    let (store, acme) = (stage.store.audited(Arc::new(auditor)), tenant("acme"));
    let set = async |proxy: Option<&str>| {
        let proxy = proxy.map(|proxy| EgressProxy::Url(proxy.parse().unwrap()));
        let change = |tenant: &mut Tenant| {
            tenant.egress_proxy.clone_from(&proxy);
            Ok::<_, StoreError>(())
        };
        let changed = store.change_tenant(&acme, change).await.unwrap().unwrap();
        assert_eq!(changed.egress_proxy, proxy);
        assert_eq!(store.tenant(&acme).await.unwrap().unwrap().egress_proxy, proxy);
    };
    let first: ProxyUrl = "socks5h://acme:hunter2@proxy.test".parse().unwrap();
    let new = NewTenant { egress_proxy: Some(first.clone()), ..NewTenant::named(acme.clone()) };
    assert!(store.register_tenant(&new).await.unwrap() && !store.register_tenant(&new).await.unwrap());
    let all = store.egress_proxies().await.unwrap();
    assert_eq!(all, [(acme.clone(), EgressProxy::Url(first))].into());
    let mut changes = store.egress_proxy_changes().await.unwrap();
    for proxy in [Some("http://acme:hunter3@proxy.test:3128"), Some("http://proxy.test"), None] {
        set(proxy).await;
        let now = store.egress_proxy_changes().await.unwrap();
        assert!(now > changes, "{proxy:?}");
        changes = now;
        assert_eq!(store.egress_proxies().await.unwrap().len(), usize::from(proxy.is_some()));
        set(proxy).await;
        assert_eq!(store.egress_proxy_changes().await.unwrap(), now, "nothing was changed");
    }
    let page = PageRequest { limit: 100, before: None };
    let entries = store.audit_entries(&AuditFilter::default(), page).await.unwrap().items;
    let said: Vec<String> = entries.iter().map(|entry| format!("{entry:?}")).collect();
    assert!(said.iter().any(|entry| entry.contains("socks5h://***:***@proxy.test:1080")), "{said:#?}");
    assert!(said.iter().any(|entry| entry.contains("http://***:***@proxy.test:3128")), "{said:#?}");
    assert!(!said.concat().contains("hunter"), "{said:#?}");

    // A tenant of the same name does not inherit it.
    set(Some("http://proxy.test")).await;
    let before = store.egress_proxy_changes().await.unwrap();
    assert_eq!(store.delete_tenant(&acme).await.unwrap(), Deletable::Begun);
    stage.database.advance(Duration::from_mins(1)).await;
    while store.delete_tenant_data().await.unwrap().is_some() {}
    assert!(store.egress_proxy_changes().await.unwrap() > before);
    assert!(store.egress_proxies().await.unwrap().is_empty());
}

async fn tenants_are_listed_from_the_last_one_on(stage: &Stage) {
    for id in ["b", "c", "a"] {
        assert!(stage.store.register_tenant(&NewTenant::named(tenant(id))).await.unwrap());
    }
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = stage.store.tenants(PageRequest { limit: 2, before }).await.unwrap();
        found.extend(page.items.into_iter().map(|tenant| tenant.id.to_string()));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    // The migration has registered the last two, in some order.
    let (listed, first) = found.split_at(3);
    assert_eq!(listed, ["a", "c", "b"]);
    assert!(
        first.contains(&"default".to_owned()) && first.contains(&"operator".to_owned()) && first.len() == 2
    );
}

#[derive(Debug)]
struct Refused;
impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        panic!("{error}")
    }
}

async fn a_failed_change_changes_nothing(stage: &Stage) {
    let acme = tenant("acme");
    stage.store.register_tenant(&NewTenant::named(acme.clone())).await.unwrap();
    let refuse = |tenant: &mut Tenant| {
        tenant.name = "changed".into();
        Err(Refused)
    };
    assert!(stage.store.change_tenant(&acme, refuse).await.is_err());
    assert_eq!(stage.store.tenant(&acme).await.unwrap().unwrap().name, "");
}

/// How many rows of a tenant each table with a column `tenant` has, as the database's catalogue lists them.
async fn rows_of(stage: &Stage, tenant: &TenantId) -> BTreeMap<String, i64> {
    let connection = stage.store.database().connection();
    let backend = connection.get_database_backend();
    let tables = match stage.store.database().dialect() {
        Dialect::Postgres => {
            "SELECT relname::text AS name FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attname = 'tenant' \
            WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
        }
        Dialect::Sqlite => {
            "SELECT tables.name FROM sqlite_master AS tables JOIN pragma_table_info(tables.name) AS columns \
            ON columns.name = 'tenant' WHERE tables.type = 'table'"
        }
    };
    let mut rows = BTreeMap::new();
    for row in connection.query_all_raw(Statement::from_string(backend, tables)).await.unwrap() {
        let name: String = row.try_get("", "name").unwrap();
        let count = format!("SELECT CAST(count(*) AS bigint) FROM {name} WHERE tenant = '{tenant}'");
        let count = connection.query_one_raw(Statement::from_string(backend, count)).await.unwrap().unwrap();
        rows.insert(name, count.try_get_by_index(0).unwrap());
    }
    rows
}

/// Leaves a delivery that was retried.
async fn deliver(stage: &Stage, tenant: &TenantId) {
    let subscriber = stage.subscribe(tenant, true).await;
    stage.dispatch(tenant, subscriber, "order.created", stage.now()).await;
    stage.attempt(End::RetryIn(Duration::from_secs(1))).await;
    stage.attempt(End::Succeeded).await;
}

/// Leaves pending deliveries, and something in all other tables with a tenant's data.
async fn fill(stage: &Stage, tenant: &TenantId) {
    let auditor = Auditor::new("environment".into(), "environment".into(), None, None);
    let audited = stage.store.audited(Arc::new(auditor));
    audited.create_key(&crate::api_keys::key(stage, Some(tenant)).1).await.unwrap();
    let first = tenant.as_str().as_bytes()[0];
    stage.store.create_session(&crate::sessions::session(stage, first, None, Some(tenant))).await.unwrap();
    let (now, second) = (stage.now(), stage.subscribe(tenant, true).await);
    let in_channel = NewSubscriber { channels: Some("a".parse().unwrap()), ..subscriber_of(&["x"]) };
    stage.store.create_subscriber(tenant, in_channel).await.unwrap();
    for _ in 0..3 {
        stage.dispatch(tenant, second, "order.created", now).await;
    }
    let connection = stage.store.database().connection();
    let bytes = match stage.store.database().dialect() {
        Dialect::Postgres => "'\\x00'::bytea",
        Dialect::Sqlite => "x'00'",
    };
    let event = stage.store.events(tenant, None, PageRequest::default()).await.unwrap().items[0].id;
    assert!(stage.store.erase_payload(tenant, event).await.unwrap());
    for sql in [
        format!(
            "INSERT INTO fan_outs (tenant, event_id, event_type, dispatched_at, reached, last, jobs_created, created_at, \
                touched_at) SELECT tenant, id, 'x', 0, id, id, 0, 0, 0 FROM events WHERE tenant = '{tenant}' LIMIT 1"
        ),
        format!(
            "INSERT INTO request_keys (tenant, actor, key, request, token, lease_until, created_at) \
             SELECT '{tenant}', 'a', 'k', secret, id, 1, 1 FROM subscribers WHERE tenant = '{tenant}' LIMIT 1; \
             INSERT INTO event_types (tenant, name, description, family, deprecated, mode, created_at, updated_at) \
             VALUES ('{tenant}', 'a.b', '', '', false, 0, 1, 1); \
             INSERT INTO owner_notices (id, tenant, subscriber_id, channel, kind, data, attempts, due_at, created_at) \
             SELECT id, tenant, id, 0, 0, '{{}}', 0, 1, 1 FROM subscribers WHERE tenant = '{tenant}' LIMIT 1; \
             INSERT INTO sandboxes (tenant, id, token, url, script, created_at, expires_at) \
             SELECT tenant, id, '{tenant}', 'x', '[]', 1, 1 FROM subscribers WHERE tenant = '{tenant}' LIMIT 1; \
             INSERT INTO sandbox_requests (tenant, sandbox_id, number, received_at, method, headers, body, body_size, signatures, \
                answer) SELECT tenant, id, 1, 1, 'POST', '[]', {bytes}, 1, '[]', '200' FROM sandboxes WHERE tenant = '{tenant}'; \
             INSERT INTO listeners (tenant, id, token, created_at, lease_until) \
             SELECT tenant, id, token, 1, 1 FROM sandboxes WHERE tenant = '{tenant}'; \
             INSERT INTO handovers (tenant, listener_id, id, head, body, created_at, wait_until) \
             SELECT tenant, id, id, '{{}}', {bytes}, 1, 1 FROM listeners WHERE tenant = '{tenant}'; \
             INSERT INTO portal_links (id, tenant, key_hash, portal, session_ttl, expires_at) \
             SELECT secret, tenant, secret, '{{}}', 1, 1 FROM subscribers WHERE tenant = '{tenant}' LIMIT 1; \
             INSERT INTO idempotency_keys (tenant, key, request_hash, event_id, jobs, created_at) \
                SELECT tenant, 'k', {bytes}, id, {bytes}, 0 FROM events WHERE tenant = '{tenant}' LIMIT 1"
        ),
    ] {
        connection.execute_unprepared(&sql).await.unwrap();
    }
    let any = DeliveryFilter::default();
    let replay = stage.store.start_replay(tenant, ReplayMode::All, &any).await.unwrap();
    let Started::Replay(replay) = replay else { panic!("too many replays") };
    stage.store.step_replay(tenant, replay.id, &Everyone).await.unwrap().unwrap();
    stage.store.watch_tail(std::slice::from_ref(tenant)).await.unwrap();
    let pending = DeliveryFilter { status: Some(DeliveryStatus::Pending), ..any };
    let pending = stage.store.deliveries(tenant, &pending, PageRequest::default()).await.unwrap();
    stage.store.cancel(tenant, pending.items[0].id).await.unwrap();
}

async fn a_deleted_tenant_leaves_no_row_and_others_keep_theirs(stage: &Stage) {
    let (gone, stays) = (tenant("gone"), tenant("stays"));
    for tenant in [&gone, &stays] {
        stage.store.register_tenant(&NewTenant::named(tenant.clone())).await.unwrap();
        deliver(stage, tenant).await;
    }
    stage.database.advance(Duration::from_mins(1)).await;
    stage.store.fold_statistics().await.unwrap();
    for tenant in [&gone, &stays] {
        fill(stage, tenant).await;
    }
    let (before, others) = (rows_of(stage, &gone).await, rows_of(stage, &stays).await);
    let missing: Vec<_> = before.iter().filter(|(_, rows)| **rows == 0).map(|(name, _)| name).collect();
    assert!(missing.is_empty(), "this test must also fill {missing:?}");

    assert_eq!(stage.store.delete_tenant(&gone).await.unwrap(), Deletable::Begun);
    assert_eq!(stage.store.closed_tenants(10).await.unwrap(), [(gone.clone(), Closed::BeingDeleted)]);
    stage.database.advance(Duration::from_mins(1)).await;
    let mut deleted = 0;
    while let Some(step) = stage.store.delete_tenant_data().await.unwrap() {
        assert_eq!(step.tenant, gone);
        deleted += step.rows;
        if !step.complete {
            assert!(stage.store.tenant(&gone).await.unwrap().unwrap().deletion.is_some());
        }
    }
    assert!(deleted > 10, "{deleted}");
    assert!(rows_of(stage, &gone).await.values().all(|rows| *rows == 0), "{:?}", rows_of(stage, &gone).await);
    assert_eq!(rows_of(stage, &stays).await, others);
    assert_eq!(stage.store.tenant(&gone).await.unwrap(), None);
    assert!(stage.store.tenant(&stays).await.unwrap().is_some());
    // Its jobs end with its lanes.
    while stage.store.drain(None, 100).await.unwrap().is_some() {}
    assert_eq!(stage.count("SELECT count(*) AS n FROM jobs WHERE owner = 'gone'").await, 0);
    assert!(rows_of(stage, &gone).await.values().all(|rows| *rows == 0), "{:?}", rows_of(stage, &gone).await);
}

async fn a_deletion_leaves_servers_time_to_hear_of_it(stage: &Stage) {
    let acme = tenant("acme");
    stage.store.register_tenant(&NewTenant::named(acme.clone())).await.unwrap();
    assert_eq!(stage.store.delete_tenant(&acme).await.unwrap(), Deletable::Begun);
    stage.database.advance(Duration::from_secs(20)).await;
    assert_eq!(stage.store.delete_tenant(&acme).await.unwrap(), Deletable::Begun, "repeating delays nothing");
    assert_eq!(stage.store.delete_tenant_data().await.unwrap(), None);
    stage.database.advance(Duration::from_secs(11)).await;
    assert!(stage.store.delete_tenant_data().await.unwrap().unwrap().complete);
    assert_eq!(stage.store.delete_tenant_data().await.unwrap(), None);
    assert_eq!(stage.store.delete_tenant(&acme).await.unwrap(), Deletable::Missing);
}

async fn tenants_that_postrider_needs_are_not_deleted(stage: &Stage) {
    for needed in [TenantId::default(), TenantId::operator()] {
        assert_eq!(stage.store.delete_tenant(&needed).await.unwrap(), Deletable::Needed);
    }
    stage.database.advance(Duration::from_hours(1)).await;
    assert_eq!(stage.store.delete_tenant_data().await.unwrap(), None);
}

/// Registers a tenant.
async fn registered(stage: &Stage, id: &str) -> TenantId {
    let tenant = tenant(id);
    assert!(stage.store.register_tenant(&NewTenant::named(tenant.clone())).await.unwrap());
    tenant
}

/// Activates a tenant or not, and takes all steps. Returns how many there were.
async fn set_active(stage: &Stage, tenant: &TenantId, active: bool) -> u32 {
    let change = |tenant: &mut Tenant| {
        tenant.active = active;
        Ok::<_, StoreError>(())
    };
    stage.store.change_tenant(tenant, change).await.unwrap().unwrap();
    assert_eq!(stage.store.tenant_being_held().await.unwrap().as_ref(), Some(tenant));
    let mut steps = 1;
    while stage.store.hold_lanes_of(tenant).await.unwrap() {
        steps += 1;
    }
    assert_eq!(stage.store.tenant_being_held().await.unwrap(), None);
    steps
}

/// Also those of subscribers that are created later, and those that have no job yet.
async fn the_lanes_of_an_inactive_tenant_are_held(stage: &Stage) {
    let (acme, other) = (registered(stage, "acme").await, registered(stage, "other").await);
    let (first, idle) = (stage.subscribe(&acme, true).await, stage.subscribe(&acme, true).await);
    let beside = stage.subscribe(&other, true).await;
    stage.dispatch(&acme, first, "a", stage.now()).await;
    set_active(stage, &acme, false).await;
    assert_eq!(stage.store.closed_tenants(10).await.unwrap(), [(acme.clone(), Closed::Inactive)]);
    let late = stage.subscribe(&acme, true).await;
    for subscriber in [first, idle, late] {
        stage.dispatch(&acme, subscriber, "b", stage.now()).await;
    }
    stage.dispatch(&other, beside, "c", stage.now()).await;
    let claimed = stage.claim().await;
    assert_eq!(claimed.iter().map(|(_, delivery)| delivery.subscriber).collect::<Vec<_>>(), [beside]);
    set_active(stage, &acme, true).await;
    assert_eq!(stage.store.closed_tenants(10).await.unwrap(), []);
    assert_eq!(stage.claim().await.len(), 4);
}

async fn many_lanes_are_held_and_released_in_steps(stage: &Stage) {
    let acme = registered(stage, "acme").await;
    let mut subscribers = Vec::new();
    for _ in 0..1001 {
        subscribers.push(stage.subscribe(&acme, true).await);
    }
    assert_eq!(set_active(stage, &acme, false).await, 3);
    let held = "SELECT count(*) AS n FROM lanes WHERE owner_held AND owner = 'acme'";
    assert_eq!(stage.count(held).await, 1001);
    stage.dispatch(&acme, subscribers[1000], "a", stage.now()).await;
    assert!(stage.claim().await.is_empty());
    assert_eq!(set_active(stage, &acme, true).await, 3);
    assert_eq!(stage.count(held).await, 0);
    assert_eq!(stage.claim().await.len(), 1);
}

async fn a_paused_subscriber_of_an_inactive_tenant_waits_for_both(stage: &Stage) {
    let acme = registered(stage, "acme").await;
    let subscriber = stage.subscribe(&acme, true).await;
    let pause = async |paused| {
        let change = SubscriberChange { paused: Some(paused), ..SubscriberChange::default() };
        stage.store.change_subscriber(&acme, subscriber, change).await.unwrap().unwrap().paused_at
    };
    let since = pause(true).await;
    assert!(since.is_some());
    stage.database.advance(Duration::from_mins(1)).await;
    assert_eq!(pause(true).await, since, "paused already");
    stage.dispatch(&acme, subscriber, "a", stage.now()).await;
    assert!(stage.claim().await.is_empty());
    set_active(stage, &acme, false).await;
    set_active(stage, &acme, true).await;
    assert!(stage.claim().await.is_empty(), "still paused");
    set_active(stage, &acme, false).await;
    assert_eq!(pause(false).await, None);
    assert!(stage.claim().await.is_empty(), "still inactive");
    set_active(stage, &acme, true).await;
    assert_eq!(stage.claim().await.len(), 1);
}

async fn tenants_are_counted(stage: &Stage) {
    let (acme, idle) = (registered(stage, "acme").await, registered(stage, "idle").await);
    deliver(stage, &acme).await;
    stage.subscribe(&acme, false).await;
    stage.database.advance(Duration::from_mins(2)).await;
    stage.store.fold_statistics().await.unwrap();
    let counts = stage.store.tenant_counts([&acme, &idle]).await.unwrap();
    let of_acme = counts[&acme];
    assert_eq!((of_acme.subscribers.total, of_acme.subscribers.active), (2, 1));
    assert_eq!((of_acme.deliveries.total, of_acme.deliveries.succeeded), (1, 1));
    assert_eq!(counts[&idle], TenantCounts::default());
    assert!(stage.store.tenant_counts([]).await.unwrap().is_empty());
}
