//! What statements about sandboxes, listeners, sessions and links to the portal cost must not grow with their tables.

use std::time::Duration;

use postrider_core::inside::new_token;
use postrider_core::script::{Script, Step};
use postrider_core::{KeyId, SystemRandom, TenantId};
use postrider_store::sandboxes::{NewSandbox, NewSandboxRequest, TakingSandbox};
use postrider_store::sessions::SessionsOf;
use postrider_testkit::TestDatabase;
use postrider_testkit::explain::Plans;
use sea_orm::ConnectionTrait as _;
use serde_json::json;

use crate::locks_inside::link;
use crate::sessions::session;
use crate::stage::Stage;

/// Many rows that the statements do not ask for.
const MANY: &str = "INSERT INTO sandboxes (tenant, id, token, url, script, created_at, expires_at)
        SELECT 'tenant' || n % 100, gen_random_uuid(), 't' || n, 'u', '[]', n, 9000000000000 FROM generate_series(1, 20000) AS n;
    INSERT INTO sandbox_requests (tenant, sandbox_id, number, method, headers, body, body_size, signatures, answer, received_at)
        SELECT tenant, id, 1, 'POST', '[]', '', 0, '[]', '200', 1 FROM sandboxes;
    INSERT INTO listeners (tenant, id, token, created_at, lease_until)
        SELECT 'tenant' || n % 100, gen_random_uuid(), 't' || n, n, 9000000000000 FROM generate_series(1, 20000) AS n;
    INSERT INTO handovers (tenant, listener_id, id, head, body, created_at, wait_until)
        SELECT tenant, id, gen_random_uuid(), '{}', '', 1, 9000000000000 FROM listeners;
    INSERT INTO sessions (id, key_id, key_hash, tenant, created_at, last_seen, expires_at, user_agent)
        SELECT sha256(n::text::bytea), gen_random_uuid(), sha256('k'), 'tenant' || n % 100, n, n, 9000000000000, '' FROM generate_series(1, 20000) AS n;
    INSERT INTO portal_links (id, tenant, key_hash, portal, session_ttl, expires_at)
        SELECT sha256(n::text::bytea), 'tenant' || n % 100, sha256('k'), '{}', 1, 9000000000000 FROM generate_series(1, 20000) AS n";

/// Before the tables are filled, afterwards with plans for few rows, and with plans for many.
const STATES: [(&str, &str); 3] =
    [("empty", "ANALYZE"), ("full, with plans for few rows", MANY), ("full", "ANALYZE")];

#[tokio::test]
async fn no_statement_about_sandboxes_listeners_or_sessions_scans_or_sorts_a_large_table() {
    let database = TestDatabase::postgres().await;
    let plans = Plans::of(&database).await;
    let stage = Stage::of(database).await;
    let mut faults = Vec::new();
    for (place, (tables, reached_by)) in (1..).zip(STATES) {
        for sql in reached_by.split(';') {
            stage.database.connection().execute_unprepared(sql).await.unwrap();
        }
        faults.extend(faults_of(&stage, &plans, tables, place).await);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

async fn faults_of(stage: &Stage, plans: &Plans, tables: &str, place: u8) -> Vec<String> {
    let store = stage.another_store().await;
    let acme: TenantId = format!("acme{place}").parse().unwrap();
    plans.take();
    let mut faults = Vec::new();
    let mut check = |statement: &str| {
        let taken = plans.take();
        assert!(!taken.is_empty(), "{tables}: {statement}: no plan was reported");
        for plan in taken {
            faults.extend(
                plan.faults().into_iter().map(|fault| format!("{tables}: {statement}: {fault}\n{plan}")),
            );
        }
    };
    let token = new_token(&SystemRandom);
    let url = format!("http://127.0.0.1:9/sandbox/{token}");
    let (script, ttl) = (Script::default(), Duration::from_hours(1));
    let new = NewSandbox { token: token.clone(), url: url.clone(), script, ttl };
    let sandbox = store.create_sandbox(&acme, new).await.unwrap().unwrap().id;
    store.sandboxes(&acme).await.unwrap();
    store.sandbox(&acme, sandbox).await.unwrap().unwrap();
    assert!(store.has_sandbox(&acme, &token, &url).await.unwrap());
    check("sandboxes");
    for taking in [TakingSandbox::Anybody, TakingSandbox::Delivery(&acme, &url)] {
        store.take_sandbox_request(&token, taking).await.unwrap();
    }
    let (headers, signatures, step) = (&[][..], &[][..], Step::status(200));
    let request = NewSandboxRequest { number: 1, method: "POST", headers, body: b"x", signatures, step };
    store.keep_sandbox_request(&acme, sandbox, request).await.unwrap();
    assert_eq!(store.sandbox_requests(&acme, sandbox, 0, 10).await.unwrap().len(), 1);
    assert_eq!(store.count_sandbox_requests(&acme, sandbox).await.unwrap(), 1);
    check("requests of sandboxes");
    assert!(store.delete_sandbox(&acme, sandbox).await.unwrap());
    store.remove_old_sandboxes().await.unwrap();
    check("removing sandboxes");

    let token = new_token(&SystemRandom);
    let listener = store.create_listener(&acme, &token).await.unwrap().unwrap();
    let subscriber = stage.subscribe(&acme, true).await;
    store.set_listener_subscriber(&acme, listener, subscriber).await.unwrap();
    store.listener(&acme, listener).await.unwrap().unwrap();
    let stream = store.ids().next_uuid();
    assert!(store.attend_listener(&acme, listener, stream).await.unwrap());
    assert!(store.extend_listener(&acme, listener, stream).await.unwrap());
    check("listeners");
    let wait = Duration::from_mins(1);
    let handover = store.hand_over(&acme, &token, &json!({}), b"x", wait).await.unwrap().unwrap();
    assert_eq!(store.take_handovers(&acme, listener).await.unwrap().len(), 1);
    assert!(store.answer_handover(&handover, &json!({})).await.unwrap());
    assert_eq!(store.handover_states(std::slice::from_ref(&handover)).await.unwrap().len(), 1);
    store.end_handover(&handover).await.unwrap();
    check("handovers");
    assert!(store.end_listener(&acme, listener).await.unwrap());
    store.end_old_listeners().await.unwrap();
    check("ending listeners");

    let key: KeyId = store.ids().next();
    for (number, key) in [(10 * place, None), (10 * place + 1, Some(key))] {
        let session = session(stage, number, key, Some(&acme));
        store.create_session(&session).await.unwrap();
        store.session(&session.id).await.unwrap().unwrap();
        for of in [SessionsOf::Everyone, SessionsOf::Tenant(&acme), SessionsOf::Key(key)] {
            store.sessions(of, 10).await.unwrap();
        }
        assert!(store.revoke_session(SessionsOf::Key(key), &session.id).await.unwrap());
    }
    check("sessions");
    let link = link(stage, place, &acme);
    assert!(store.create_portal_link(&link).await.unwrap());
    store.portal_link(&link.id).await.unwrap().unwrap();
    assert!(store.use_portal_link(&link, &session(stage, 10 * place + 2, None, Some(&acme))).await.unwrap());
    store.remove_expired_sessions().await.unwrap();
    check("links to the portal");
    faults
}
