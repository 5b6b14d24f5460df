//! API keys: stored, found, changed, rotated and revoked.

use std::time::Duration;

use postrider_core::audit::AuditAction;
use postrider_core::key::{KeyHash, KeyKind, KeyLimits, KeyRate, NewKey, Powers, Scope, Scopes};
use postrider_core::{TenantId, Timestamp};
use postrider_store::keys::{ApiKey, KeysOf, MAX_KEYS, TooManyPrevious};
use postrider_store::{PageRequest, StoreError};

use crate::stage::{Stage, on_both};
use postrider_database::Dialect;
use postrider_stage::direct;
use tokio::sync::mpsc;
use tokio::time::timeout;

on_both!(
    a_key_reads_back_as_it_was_stored,
    a_tenant_has_only_its_own_keys,
    keys_are_listed_newest_first,
    a_refused_change_of_a_key_changes_nothing,
    a_rotated_key_is_accepted_until_the_overlap_ends,
    a_revoked_key_keeps_its_first_moment,
    an_operator_has_a_key_only_while_one_is_valid,
    a_use_is_written_once_a_minute,
    a_tenant_has_a_bounded_number_of_keys_that_work,
    a_changed_key_is_heard_of_elsewhere,
);

/// A key to create, and its text.
pub(crate) fn key(stage: &Stage, tenant: Option<&TenantId>) -> (NewKey, ApiKey) {
    let kind = if tenant.is_some() { KeyKind::Tenant } else { KeyKind::Operator };
    let new = NewKey::generate(kind, stage.store.ids());
    let powers =
        Powers { tenant: tenant.cloned(), scopes: Scopes::of(&[Scope::EventsWrite]), ..Powers::all() };
    let key = ApiKey::new(&new, "a key".into(), powers, stage.now(), "environment".into());
    (new, key)
}

async fn created(stage: &Stage, tenant: Option<&TenantId>) -> (NewKey, ApiKey) {
    let (new, key) = key(stage, tenant);
    stage.store.create_key(&key).await.unwrap();
    (new, key)
}

async fn found(stage: &Stage, key: &ApiKey) -> ApiKey {
    stage.store.key(KeysOf::Everyone, key.id).await.unwrap().unwrap()
}

async fn a_key_reads_back_as_it_was_stored(stage: &Stage) {
    let (new, mut key) = key(stage, Some(&stage.tenant));
    key.powers.limits = KeyLimits {
        event_types: vec!["order.*".parse().unwrap()],
        subscribers: vec![stage.store.ids().next()],
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        rate: KeyRate::new(5, 10).ok(),
    };
    key.powers.expires_at = Some(stage.now() + Duration::from_hours(1));
    stage.store.create_key(&key).await.unwrap();
    let found = found(stage, &key).await;
    assert_eq!((&found.name, &found.powers, found.id), (&key.name, &key.powers, new.id()));
    assert_eq!((found.created_at, &*found.created_by), (key.created_at, "environment"));
    assert_eq!((found.revoked_at, found.last_used_at), (None, None));
    assert!(found.accepts(&new.hash(), stage.now()));
    assert!(!found.accepts(&KeyHash::of(b"another text"), stage.now()));
    assert!(!format!("{found:?}").contains(&new.expose()[31..]));
}

async fn a_tenant_has_only_its_own_keys(stage: &Stage) {
    let (acme, other): (TenantId, TenantId) = ("acme".parse().unwrap(), "other".parse().unwrap());
    let (_, key) = created(stage, Some(&acme)).await;
    let (_, operators) = created(stage, None).await;
    let of = async |of: KeysOf<'_>, key: &ApiKey| stage.store.key(of, key.id).await.unwrap().is_some();
    assert!(of(KeysOf::Tenant(&acme), &key).await && of(KeysOf::Everyone, &key).await);
    assert!(!of(KeysOf::Tenant(&other), &key).await && !of(KeysOf::Tenant(&acme), &operators).await);
    assert!(!stage.store.revoke_key(KeysOf::Tenant(&other), key.id).await.unwrap());
    assert!(!stage.store.revoke_key(KeysOf::Tenant(&acme), operators.id).await.unwrap());
    let change = |key: &mut ApiKey| {
        key.name = "changed".into();
        Ok::<_, StoreError>(())
    };
    assert!(
        stage
            .store
            .change_key(KeysOf::Tenant(&other), key.id, AuditAction::KeyChanged, change)
            .await
            .unwrap()
            .is_none()
    );
    let kept = found(stage, &key).await;
    assert_eq!((&*kept.name, kept.revoked_at), ("a key", None));
}

async fn keys_are_listed_newest_first(stage: &Stage) {
    let acme: TenantId = "acme".parse().unwrap();
    let mut all = Vec::new();
    for number in 0..7 {
        all.push(created(stage, (number % 2 == 0).then_some(&acme)).await.1.id);
    }
    all.reverse();
    let ids = async |of: KeysOf<'_>| {
        let mut ids = Vec::new();
        let mut before = None;
        loop {
            let page = stage.store.keys(of, PageRequest { limit: 3, before }).await.unwrap();
            ids.extend(page.items.iter().map(|key| key.id));
            before = page.next;
            if before.is_none() {
                return ids;
            }
        }
    };
    assert_eq!(ids(KeysOf::Everyone).await, all);
    let own: Vec<_> = all.iter().copied().step_by(2).collect();
    assert_eq!(ids(KeysOf::Tenant(&acme)).await, own);
    assert!(ids(KeysOf::Tenant(&TenantId::default())).await.is_empty());
}

async fn a_refused_change_of_a_key_changes_nothing(stage: &Stage) {
    #[derive(Debug)]
    struct Refused;
    impl From<StoreError> for Refused {
        fn from(error: StoreError) -> Self {
            panic!("{error}")
        }
    }
    let (_, key) = created(stage, None).await;
    let refuse = |key: &mut ApiKey| {
        key.name = "changed".into();
        Err(Refused)
    };
    assert!(stage.store.change_key(KeysOf::Everyone, key.id, AuditAction::KeyChanged, refuse).await.is_err());
    assert_eq!(found(stage, &key).await.name, "a key");
}

async fn a_rotated_key_is_accepted_until_the_overlap_ends(stage: &Stage) {
    let (first, key) = created(stage, None).await;
    let rotated = async |overlap: u64| {
        let new = NewKey::with_id(KeyKind::Operator, key.id, stage.store.ids().random());
        let now = stage.now();
        let rotate = |key: &mut ApiKey| {
            key.rotate(&new, now, now + Duration::from_secs(overlap)).unwrap();
            Ok::<_, StoreError>(())
        };
        stage
            .store
            .change_key(KeysOf::Everyone, key.id, AuditAction::KeyRotated, rotate)
            .await
            .unwrap()
            .unwrap();
        new
    };
    let second = rotated(100).await;
    let third = rotated(50).await;
    let key = found(stage, &key).await;
    let accepted = |after: u64| {
        let at = stage.now() + Duration::from_secs(after);
        [&first, &second, &third].map(|new| key.accepts(&new.hash(), at))
    };
    assert_eq!(accepted(0), [true, true, true]);
    assert_eq!(accepted(60), [true, false, true], "each has its own end");
    assert_eq!(accepted(101), [false, false, true]);
    let fourth = rotated(0).await;
    let key = found(stage, &key).await;
    assert!(key.accepts(&fourth.hash(), stage.now()) && !key.accepts(&third.hash(), stage.now()));

    let (mut many, now) = (key.clone(), Timestamp::from_millis(0));
    let new = || NewKey::with_id(KeyKind::Operator, key.id, stage.store.ids().random());
    let until = now + Duration::from_hours(1_000_000);
    let kept = (0..20).take_while(|_| many.rotate(&new(), now, until).is_ok()).count();
    assert!((8..=10).contains(&kept), "{kept}");
    assert_eq!(many.rotate(&new(), now, until), Err(TooManyPrevious));
    assert_eq!(many.rotate(&new(), until, until), Ok(()), "they have ended");
}

async fn a_revoked_key_keeps_its_first_moment(stage: &Stage) {
    let (_, key) = created(stage, None).await;
    assert!(stage.store.revoke_key(KeysOf::Everyone, key.id).await.unwrap());
    stage.database.advance(Duration::from_hours(1)).await;
    let revoked_at = found(stage, &key).await.revoked_at;
    assert!(revoked_at.is_some());
    assert!(stage.store.revoke_key(KeysOf::Everyone, key.id).await.unwrap(), "repeating does no harm");
    assert_eq!(found(stage, &key).await.revoked_at, revoked_at);
    assert!(!stage.store.revoke_key(KeysOf::Everyone, stage.store.ids().next()).await.unwrap());
}

async fn an_operator_has_a_key_only_while_one_is_valid(stage: &Stage) {
    let has = async || stage.store.has_operator_key().await.unwrap();
    created(stage, Some(&stage.tenant)).await;
    assert!(!has().await, "a tenant's does not count");
    let (_, first) = created(stage, None).await;
    assert!(has().await);
    stage.store.revoke_key(KeysOf::Everyone, first.id).await.unwrap();
    assert!(!has().await);
    let (_, mut second) = key(stage, None);
    second.powers.expires_at = Some(stage.now() + Duration::from_mins(5));
    stage.store.create_key(&second).await.unwrap();
    assert!(has().await);
    stage.database.advance(Duration::from_mins(6)).await;
    assert!(!has().await);
}

async fn a_use_is_written_once_a_minute(stage: &Stage) {
    let (_, first) = created(stage, None).await;
    let (_, second) = created(stage, Some(&stage.tenant)).await;
    let at = |seconds: i64| Timestamp::from_millis(1_700_000_040_000 + seconds * 1000);
    let note = async |used: &[_]| stage.store.note_key_uses(used).await.unwrap();
    assert_eq!(note(&[]).await, 0);
    assert_eq!(note(&[(first.id, at(5)), (second.id, at(6))]).await, 2);
    assert_eq!(note(&[(first.id, at(59)), (second.id, at(60))]).await, 1, "the minute of one is known");
    assert_eq!(note(&[(first.id, at(-60))]).await, 0, "another server is behind");
    assert_eq!(found(stage, &first).await.last_used_at, Some(at(0)));
    assert_eq!(found(stage, &second).await.last_used_at, Some(at(60)));
    assert_eq!(note(&[(stage.store.ids().next(), at(0))]).await, 0, "an unknown key");
}

async fn a_tenant_has_a_bounded_number_of_keys_that_work(stage: &Stage) {
    let (tenant, other) = ("acme".parse().unwrap(), "other".parse().unwrap());
    let (_, first) = key(stage, Some(&tenant));
    assert!(stage.store.create_key(&first).await.unwrap());
    for _ in 1..MAX_KEYS {
        assert!(stage.store.create_key(&key(stage, Some(&tenant)).1).await.unwrap());
    }
    assert!(!stage.store.create_key(&key(stage, Some(&tenant)).1).await.unwrap());
    for beside in [Some(&other), None] {
        assert!(stage.store.create_key(&key(stage, beside).1).await.unwrap(), "others are not concerned");
    }
    assert!(stage.store.revoke_key(KeysOf::Everyone, first.id).await.unwrap());
    assert!(stage.store.create_key(&key(stage, Some(&tenant)).1).await.unwrap());
}

async fn a_changed_key_is_heard_of_elsewhere(stage: &Stage) {
    let other = stage.store_over(direct(&stage.database)).await;
    let (heard, mut received) = mpsc::unbounded_channel();
    let hearing = tokio::spawn(async move { other.hear_changed_keys(|id| _ = heard.send(id)).await });
    if stage.store.database().dialect() == Dialect::Sqlite {
        return hearing.await.unwrap();
    }
    // What is changed before it listens is not heard.
    let heard = timeout(Duration::from_secs(30), async {
        loop {
            let (_, key) = created(stage, Some(&stage.tenant)).await;
            assert!(stage.store.revoke_key(KeysOf::Everyone, key.id).await.unwrap());
            if let Ok(heard) = timeout(Duration::from_millis(500), received.recv()).await {
                return heard == Some(key.id);
            }
        }
    });
    assert!(heard.await.unwrap());
    hearing.abort();
}
