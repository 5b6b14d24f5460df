//! The audit trail: written with the change, listed and removed.

use std::sync::Arc;
use std::time::Duration;

use postrider_core::{Secret, SystemRandom, TenantId};
use postrider_store::audit::{AuditEntry, AuditFilter, Auditor};
use postrider_store::keys::KeysOf;
use postrider_store::subscribers::{Rotated, SubscriberChange};
use postrider_store::tenants::NewTenant;
use postrider_store::{PageRequest, Store};
use sea_orm::ConnectionTrait as _;
use serde_json::Value;

use crate::stage::{Stage, on_both};

on_both!(
    a_change_and_its_row_are_there_together,
    a_secret_is_a_fingerprint_that_changes_with_it,
    nothing_is_written_without_an_auditor,
    what_concerns_tenants_is_in_the_trail_of_operators,
    rows_are_listed_newest_first_and_by_filters,
    old_rows_are_removed_in_batches,
);

fn auditor(actor: &str) -> Arc<Auditor> {
    let address = Some("203.0.113.7".parse().unwrap());
    Arc::new(Auditor::new(actor.into(), format!("name of {actor}"), address, Some("req".into())))
}

fn audited(stage: &Stage, actor: &str) -> Store {
    stage.store.audited(auditor(actor))
}

async fn entries(stage: &Stage, filter: &AuditFilter) -> Vec<AuditEntry> {
    stage.store.audit_entries(filter, PageRequest::default()).await.unwrap().items
}

fn actions(entries: &[AuditEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.action.as_str()).collect()
}

async fn a_change_and_its_row_are_there_together(stage: &Stage) {
    let auditor = auditor("key_a");
    let (store, tenant) = (stage.store.audited(Arc::clone(&auditor)), &stage.tenant);
    let subscriber =
        store.create_subscriber(tenant, postrider_stage::subscriber_of(&["order.*"])).await.unwrap();
    let change = SubscriberChange { description: Some("new".into()), ..SubscriberChange::default() };
    store.change_subscriber(tenant, subscriber.id, change).await.unwrap().unwrap();
    assert!(store.delete_subscriber(tenant, subscriber.id).await.unwrap());
    assert!(!store.delete_subscriber(tenant, subscriber.id).await.unwrap(), "it is not there any more");
    let found = entries(stage, &AuditFilter::default()).await;
    assert_eq!(actions(&found), ["subscriber.deleted", "subscriber.changed", "subscriber.created"]);
    let [deleted, changed, created] = &found[..] else { panic!("{found:?}") };
    for entry in &found {
        assert_eq!((&*entry.actor, &*entry.actor_name, &entry.tenant), ("key_a", "name of key_a", tenant));
        assert_eq!(entry.address.as_deref(), Some("203.0.113.7"));
        assert_eq!((entry.request_id.as_deref(), &entry.target), (Some("req"), &subscriber.id.to_string()));
    }
    assert_eq!((&created.before, &created.after["events"]), (&Value::Null, &serde_json::json!(["order.*"])));
    assert_eq!((&changed.before["description"], &changed.after["description"]), (&"".into(), &"new".into()));
    assert_eq!((&deleted.before, &deleted.after), (&changed.after, &Value::Null));
    let mut written = auditor.take_written();
    written.reverse();
    assert_eq!(written, found, "what was written is what is listed");

    // If the row cannot be written, nothing changes.
    let connection = stage.database.connection();
    connection.execute_unprepared("ALTER TABLE audit RENAME TO moved").await.unwrap();
    assert!(store.create_subscriber(tenant, postrider_stage::subscriber_of(&["*"])).await.is_err());
    let all = stage.store.subscribers(tenant, PageRequest::default()).await.unwrap();
    assert!(all.items.is_empty());
}

async fn a_secret_is_a_fingerprint_that_changes_with_it(stage: &Stage) {
    let (store, tenant) = (audited(stage, "key_a"), &stage.tenant);
    let new = postrider_stage::subscriber_of(&["*"]);
    let secrets = [new.secret.clone(), Secret::generate(&SystemRandom)];
    let id = store.create_subscriber(tenant, new).await.unwrap().id;
    let rotated = store.rotate_secret(tenant, id, &secrets[1], Duration::from_mins(1)).await.unwrap();
    assert!(matches!(rotated, Rotated::Done(_)));
    assert!(store.secret(tenant, id).await.unwrap().is_some());
    let (text, key) = crate::api_keys::key(stage, Some(tenant));
    store.create_key(&key).await.unwrap();
    let found = entries(stage, &AuditFilter::default()).await;
    assert_eq!(actions(&found), ["key.created", "secret.read", "secret.rotated", "subscriber.created"]);
    let fingerprint = |value: &Value| value["secret_fingerprint"].as_str().unwrap().to_owned();
    assert_ne!(fingerprint(&found[2].before), fingerprint(&found[2].after));
    assert_eq!(fingerprint(&found[2].before), fingerprint(&found[3].after));
    assert_eq!(found[0].after["key_fingerprint"].as_str().map(str::len), Some(16));
    let everything = format!("{found:?}");
    for secret in [secrets[0].expose(), secrets[1].expose(), &text.expose()[31..]] {
        assert!(!everything.contains(secret), "a secret is in the audit trail");
    }
}

async fn nothing_is_written_without_an_auditor(stage: &Stage) {
    stage.subscribe(&stage.tenant, true).await;
    stage.store.register_tenant(&NewTenant::named("acme".parse().unwrap())).await.unwrap();
    assert!(entries(stage, &AuditFilter::default()).await.is_empty());
}

async fn what_concerns_tenants_is_in_the_trail_of_operators(stage: &Stage) {
    let (store, acme): (_, TenantId) = (audited(stage, "key_a"), "acme".parse().unwrap());
    assert!(store.register_tenant(&NewTenant::named(acme.clone())).await.unwrap());
    assert!(!store.register_tenant(&NewTenant::named(acme.clone())).await.unwrap());
    store.delete_tenant(&acme).await.unwrap();
    let (_, operators) = crate::api_keys::key(stage, None);
    store.create_key(&operators).await.unwrap();
    assert!(store.revoke_key(KeysOf::Everyone, operators.id).await.unwrap());
    let of = |tenant: TenantId| AuditFilter { tenant: Some(tenant), ..AuditFilter::default() };
    let found = entries(stage, &of(TenantId::operator())).await;
    assert_eq!(actions(&found), ["key.revoked", "key.created", "tenant.deleted", "tenant.registered"]);
    assert_eq!(found[2].target, "acme");
    assert!(entries(stage, &of(acme.clone())).await.is_empty());
    // It stays when the tenant is gone.
    stage.database.advance(Duration::from_mins(1)).await;
    while stage.store.delete_tenant_data().await.unwrap().is_some() {}
    assert_eq!(stage.store.tenant(&acme).await.unwrap(), None);
    assert_eq!(entries(stage, &of(TenantId::operator())).await.len(), 4);
}

async fn rows_are_listed_newest_first_and_by_filters(stage: &Stage) {
    let other: TenantId = "other".parse().unwrap();
    let mut ids = Vec::new();
    for number in 0..6 {
        let store = audited(stage, if number % 2 == 0 { "key_a" } else { "key_b" });
        let tenant = if number < 3 { &stage.tenant } else { &other };
        let new = postrider_stage::subscriber_of(&["*"]);
        ids.push(store.create_subscriber(tenant, new).await.unwrap().id.to_string());
    }
    audited(stage, "key_a").audit_read(&other, "evt").await.unwrap();
    let targets = async |filter: AuditFilter| {
        let (mut targets, mut before) = (Vec::new(), None);
        loop {
            let page = stage.store.audit_entries(&filter, PageRequest { limit: 2, before }).await.unwrap();
            targets.extend(page.items.iter().map(|entry| entry.target.clone()));
            before = page.next;
            if before.is_none() {
                return targets;
            }
        }
    };
    let expected = |places: &[usize]| places.iter().map(|place| ids[*place].clone()).collect::<Vec<_>>();
    let all = targets(AuditFilter::default()).await;
    assert_eq!((all[0].as_str(), &all[1..]), ("evt", &expected(&[5, 4, 3, 2, 1, 0])[..]));
    let filter = AuditFilter::default();
    let by = |actor: &str| AuditFilter { actor: Some(actor.into()), ..filter.clone() };
    assert_eq!(targets(by("key_b")).await, expected(&[5, 3, 1]));
    let of = |tenant: &TenantId| AuditFilter { tenant: Some(tenant.clone()), ..filter.clone() };
    assert_eq!(targets(of(&stage.tenant)).await, expected(&[2, 1, 0]));
    assert_eq!(
        targets(AuditFilter { actor: Some("key_a".into()), ..of(&stage.tenant) }).await,
        expected(&[2, 0])
    );
    assert_eq!(targets(AuditFilter { action: Some("payload.read".into()), ..filter.clone() }).await, ["evt"]);
    assert_eq!(targets(AuditFilter { target: Some(ids[3].clone()), ..filter.clone() }).await, expected(&[3]));
    let entry = &entries(stage, &AuditFilter { target: Some(ids[2].clone()), ..filter.clone() }).await[0];
    let later = entry.id.made_at() + Duration::from_millis(1);
    let until = targets(AuditFilter { until: Some(later), ..filter.clone() }).await;
    let since = targets(AuditFilter { since: Some(later), ..filter.clone() }).await;
    assert!(until.contains(&ids[0]) && until.contains(&ids[2]), "{until:?}");
    assert_eq!([since, until].concat(), all, "the two halves are everything");
}

async fn old_rows_are_removed_in_batches(stage: &Stage) {
    let store = audited(stage, "key_a");
    for _ in 0..3 {
        store.audit_read(&stage.tenant, "evt").await.unwrap();
    }
    let now = stage.now();
    assert_eq!(stage.store.remove_old_audit(now - Duration::from_hours(1)).await.unwrap(), 0);
    assert_eq!(stage.store.remove_old_audit(now + Duration::from_secs(1)).await.unwrap(), 3);
    assert!(entries(stage, &AuditFilter::default()).await.is_empty());
}
