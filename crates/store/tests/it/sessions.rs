//! Sessions of the console: stored, found, listed, ended and removed.

use std::sync::Arc;
use std::time::Duration;

use postrider_core::key::KeyHash;
use postrider_core::{KeyId, TenantId};
use postrider_store::PageRequest;
use postrider_store::audit::{AuditFilter, Auditor};
use postrider_store::sessions::{MAX_SESSIONS, Session, SessionsOf};
use sea_orm::ConnectionTrait as _;

use crate::stage::{Stage, on_both};

on_both!(
    a_session_reads_back_as_it_was_stored,
    a_session_ends_when_it_expires_and_is_then_removed,
    sessions_are_listed_and_ended_by_those_who_may,
    a_key_has_a_bounded_number_of_sessions,
    sessions_are_in_the_audit_trail,
);

const HOURS: Duration = Duration::from_hours(12);

/// A session to create.
pub(crate) fn session(stage: &Stage, number: u8, key: Option<KeyId>, tenant: Option<&TenantId>) -> Session {
    let now = stage.now();
    Session {
        id: [number; 32],
        key,
        key_hash: KeyHash::of(b"a key"),
        tenant: tenant.cloned(),
        created_at: now,
        last_seen_at: now,
        expires_at: now + HOURS,
        address: Some("2001:db8::1".parse().unwrap()),
        user_agent: "a browser".to_owned(),
    }
}

async fn created(stage: &Stage, number: u8, key: Option<KeyId>, tenant: Option<&TenantId>) -> Session {
    let session = session(stage, number, key, tenant);
    stage.store.create_session(&session).await.unwrap();
    session
}

async fn a_session_reads_back_as_it_was_stored(stage: &Stage) {
    let key: KeyId = stage.store.ids().next();
    let stored = created(stage, 1, Some(key), Some(&stage.tenant)).await;
    let found = stage.store.session(&stored.id).await.unwrap().unwrap();
    assert_eq!(
        (found.key, found.tenant, found.created_at, found.expires_at),
        (Some(key), Some(stage.tenant.clone()), stored.created_at, stored.expires_at)
    );
    assert!(found.key_hash.matches(&stored.key_hash));
    assert_eq!((found.address, found.user_agent), (stored.address, stored.user_agent));
    assert!(stage.store.session(&[9; 32]).await.unwrap().is_none());
    // A use is noted to the minute.
    let seen = async || stage.count("SELECT last_seen AS n FROM sessions").await;
    let first = seen().await;
    assert_eq!(first % 60_000, 0);
    let connection = stage.database.connection();
    connection.execute_unprepared("UPDATE sessions SET last_seen = last_seen - 120000").await.unwrap();
    stage.store.session(&stored.id).await.unwrap();
    assert!(seen().await >= first);
}

async fn a_session_ends_when_it_expires_and_is_then_removed(stage: &Stage) {
    let new = created(stage, 2, None, None).await;
    assert_eq!(stage.store.remove_expired_sessions().await.unwrap(), 0);
    let old = Session { expires_at: stage.now(), ..session(stage, 1, None, None) };
    stage.store.create_session(&old).await.unwrap();
    assert!(stage.store.session(&old.id).await.unwrap().is_none());
    assert!(stage.store.session(&new.id).await.unwrap().is_some());
    assert_eq!(stage.store.sessions(SessionsOf::Everyone, 10).await.unwrap().len(), 1);
    assert_eq!(stage.store.remove_expired_sessions().await.unwrap(), 1);
    assert_eq!(stage.count("SELECT count(*) AS n FROM sessions").await, 1);
}

async fn sessions_are_listed_and_ended_by_those_who_may(stage: &Stage) {
    let (one, two): (KeyId, KeyId) = (stage.store.ids().next(), stage.store.ids().next());
    let other: TenantId = "other".parse().unwrap();
    created(stage, 1, None, None).await;
    created(stage, 2, Some(one), Some(&stage.tenant)).await;
    created(stage, 3, Some(one), Some(&stage.tenant)).await;
    created(stage, 4, Some(two), Some(&other)).await;
    let listed = async |of| {
        let found = stage.store.sessions(of, 10).await.unwrap();
        let mut numbers: Vec<u8> = found.iter().map(|session| session.id[0]).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(listed(SessionsOf::Everyone).await, [1, 2, 3, 4]);
    assert_eq!(listed(SessionsOf::Tenant(&stage.tenant)).await, [2, 3]);
    assert_eq!(listed(SessionsOf::Key(Some(two))).await, [4]);
    assert_eq!(listed(SessionsOf::Key(None)).await, [1]);
    assert_eq!(stage.store.sessions(SessionsOf::Everyone, 2).await.unwrap().len(), 2);
    let revoke = async |of, number: u8| stage.store.revoke_session(of, &[number; 32]).await.unwrap();
    for (of, number) in
        [(SessionsOf::Key(Some(one)), 4), (SessionsOf::Tenant(&other), 2), (SessionsOf::Key(Some(two)), 1)]
    {
        assert!(!revoke(of, number).await, "{of:?} {number}");
    }
    assert!(revoke(SessionsOf::Key(Some(one)), 2).await);
    assert!(!revoke(SessionsOf::Everyone, 2).await, "it has ended");
    assert!(revoke(SessionsOf::Tenant(&other), 4).await && revoke(SessionsOf::Everyone, 1).await);
    assert_eq!(listed(SessionsOf::Everyone).await, [3]);
}

async fn a_key_has_a_bounded_number_of_sessions(stage: &Stage) {
    let key: KeyId = stage.store.ids().next();
    created(stage, 255, None, None).await;
    for number in 0..=u8::try_from(MAX_SESSIONS).unwrap() {
        let mut session = session(stage, number, Some(key), Some(&stage.tenant));
        session.expires_at = session.expires_at + Duration::from_secs(number.into());
        stage.store.create_session(&session).await.unwrap();
    }
    let found = stage.store.sessions(SessionsOf::Key(Some(key)), 250).await.unwrap();
    assert_eq!(found.len(), MAX_SESSIONS as usize);
    assert!(found.iter().all(|session| session.id[0] != 0), "the oldest one was ended");
    assert_eq!(
        stage.store.sessions(SessionsOf::Key(None), 250).await.unwrap().len(),
        1,
        "not those of others"
    );
}

async fn sessions_are_in_the_audit_trail(stage: &Stage) {
    let auditor = Auditor::new("environment".into(), "environment".into(), None, None);
    let audited = stage.store.audited(Arc::new(auditor));
    let session = session(stage, 7, None, None);
    audited.create_session(&session).await.unwrap();
    audited.revoke_session(SessionsOf::Everyone, &session.id).await.unwrap();
    let trail = stage.store.audit_entries(&AuditFilter::default(), PageRequest::default()).await.unwrap();
    let actions: Vec<_> =
        trail.items.iter().map(|entry| (entry.action.as_str(), entry.target.as_str())).collect();
    let name = "session-0707070707070707";
    assert_eq!(actions, [("session.revoked", name), ("session.created", name)]);
    assert!(trail.items.iter().all(|entry| entry.tenant == TenantId::operator()));
}
