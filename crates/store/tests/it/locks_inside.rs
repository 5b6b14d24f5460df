//! The lock order of what is not about deliveries: sandboxes, listeners, sessions and links to the portal. See `locks.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use postrider_core::inside::new_token;
use postrider_core::key::KeyHash;
use postrider_core::portal::{Portal, Theme};
use postrider_core::script::{Script, Step};
use postrider_core::{ListenerId, SubscriberId, SystemRandom, TenantId, chain};
use postrider_store::portal::PortalLink;
use postrider_store::sandboxes::{NewSandbox, NewSandboxRequest, Sandbox, TakenRequest, TakingSandbox};
use postrider_store::sessions::{Session, SessionsOf};
use postrider_testkit::TestDatabase;
use sea_orm::ConnectionTrait as _;
use serde_json::json;

use crate::sessions::session;
use crate::stage::Stage;

/// An operation that locks rows.
#[derive(Clone, Copy, Debug)]
enum Operation {
    TakeRequests,
    DeleteSandbox,
    RemoveOldSandboxes,
    HandOver,
    Attend,
    EndListener,
    EndOldListeners,
    UseLink,
    UseSession,
    RevokeSession,
    RemoveExpiredSessions,
    DeleteSubscriber,
    DeleteTenant,
}

use Operation::*;

const ALL: [Operation; 13] = [
    TakeRequests,
    DeleteSandbox,
    RemoveOldSandboxes,
    HandOver,
    Attend,
    EndListener,
    EndOldListeners,
    UseLink,
    UseSession,
    RevokeSession,
    RemoveExpiredSessions,
    DeleteSubscriber,
    DeleteTenant,
];

/// The tables whose rows rest while they are locked.
const TABLES: [&str; 8] = [
    "sandboxes",
    "sandbox_requests",
    "listeners",
    "handovers",
    "sessions",
    "portal_links",
    "subscribers",
    "tenants",
];

/// How many pairs run at the same time, each on rows of its own.
const AT_ONCE: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_operations_on_sandboxes_listeners_and_sessions_deadlock() {
    let stage = Arc::new(Stage::of(TestDatabase::postgres().await).await);
    let connection = stage.database.connection();
    let rest = "CREATE FUNCTION rest() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.002); \
        IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $$";
    connection.execute_unprepared(rest).await.unwrap();
    for table in TABLES {
        let trigger = format!(
            "CREATE TRIGGER rest BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION rest()"
        );
        connection.execute_unprepared(&trigger).await.unwrap();
    }
    let pairs = ALL.iter().enumerate();
    let pairs = pairs.flat_map(|(place, one)| ALL[place..].iter().map(move |two| (*one, *two)));
    let pairs: Arc<Vec<_>> = Arc::new(pairs.collect());
    let next = Arc::new(AtomicUsize::new(0));
    let mut running = Vec::new();
    for _ in 0..AT_ONCE {
        let (stage, pairs, next) = (Arc::clone(&stage), Arc::clone(&pairs), Arc::clone(&next));
        running.push(tokio::spawn(async move {
            let mut faults = Vec::new();
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some((one, two)) = pairs.get(place) else { return faults };
                let ground = Ground::new(&stage, &format!("tenant{place}").parse().unwrap()).await;
                let (first, second) = tokio::join!(ground.run(&stage, *one), ground.run(&stage, *two));
                for error in [first, second].into_iter().filter_map(Result::err) {
                    faults.push(format!("{one:?} with {two:?}: {error}"));
                }
            }
        }));
    }
    let mut faults = Vec::new();
    for running in running {
        faults.extend(running.await.unwrap());
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let deadlocks = "SELECT deadlocks AS n FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(stage.count(deadlocks).await, 0);
}

/// One of each, of a tenant that nobody else uses.
struct Ground {
    tenant: TenantId,
    sandbox: Sandbox,
    sandbox_token: String,
    listener: ListenerId,
    listener_token: String,
    subscriber: SubscriberId,
    session: Session,
    link: PortalLink,
}

impl Ground {
    async fn new(stage: &Stage, tenant: &TenantId) -> Self {
        static NUMBER: AtomicU8 = AtomicU8::new(0);
        let (store, number) = (&stage.store, NUMBER.fetch_add(1, Ordering::Relaxed));
        let [sandbox_token, listener_token] = [(); 2].map(|()| new_token(&SystemRandom));
        let new = NewSandbox {
            url: format!("http://127.0.0.1:9/sandbox/{sandbox_token}"),
            token: sandbox_token.clone(),
            script: Script::default(),
            ttl: Duration::from_hours(1),
        };
        let sandbox = store.create_sandbox(tenant, new).await.unwrap().unwrap();
        let listener = store.create_listener(tenant, &listener_token).await.unwrap().unwrap();
        let subscriber = stage.subscribe(tenant, true).await;
        store.set_listener_subscriber(tenant, listener, subscriber).await.unwrap();
        let session = session(stage, number, None, Some(tenant));
        store.create_session(&session).await.unwrap();
        let link = link(stage, number, tenant);
        assert!(store.create_portal_link(&link).await.unwrap());
        let tenant = tenant.clone();
        Self { tenant, sandbox, sandbox_token, listener, listener_token, subscriber, session, link }
    }

    async fn run(&self, stage: &Stage, operation: Operation) -> Result<(), String> {
        let (store, tenant, sandbox) = (&stage.store, &self.tenant, self.sandbox.id);
        match operation {
            TakeRequests => {
                for _ in 0..3 {
                    let taken = store.take_sandbox_request(&self.sandbox_token, TakingSandbox::Anybody);
                    let TakenRequest::Taken { number, .. } = taken.await.map_err(text)? else { break };
                    let step = Step::status(200);
                    let (method, headers, body, signatures) = ("POST", &[][..], &b"x"[..], &[][..]);
                    let request = NewSandboxRequest { number, method, headers, body, signatures, step };
                    store.keep_sandbox_request(tenant, sandbox, request).await.map_err(text)?;
                }
            }
            DeleteSandbox => drop(store.delete_sandbox(tenant, sandbox).await.map_err(text)?),
            RemoveOldSandboxes => {
                self.expire(stage, "UPDATE sandboxes SET expires_at = 1").await?;
                while store.remove_old_sandboxes().await.map_err(text)? {}
            }
            HandOver => {
                let wait = Duration::from_secs(9);
                for _ in 0..3 {
                    let given = store.hand_over(tenant, &self.listener_token, &json!({}), b"x", wait).await;
                    let Some(handover) = given.map_err(text)? else { break };
                    store.take_handovers(tenant, self.listener).await.map_err(text)?;
                    store.answer_handover(&handover, &json!({})).await.map_err(text)?;
                    store.end_handover(&handover).await.map_err(text)?;
                }
            }
            Attend => {
                for _ in 0..3 {
                    let stream = store.ids().next_uuid();
                    store.attend_listener(tenant, self.listener, stream).await.map_err(text)?;
                    store.take_handovers(tenant, self.listener).await.map_err(text)?;
                    store.extend_listener(tenant, self.listener, stream).await.map_err(text)?;
                }
            }
            EndListener => drop(store.end_listener(tenant, self.listener).await.map_err(text)?),
            EndOldListeners => {
                self.expire(stage, "UPDATE listeners SET lease_until = 1").await?;
                while store.end_old_listeners().await.map_err(text)? {}
            }
            UseLink => {
                let mut session = self.session.clone();
                session.id[1] = 1;
                store.use_portal_link(&self.link, &session).await.map_err(text)?;
            }
            UseSession => {
                self.expire(stage, "UPDATE sessions SET last_seen = 1").await?;
                store.session(&self.session.id).await.map_err(text)?;
            }
            RevokeSession => {
                store.revoke_session(SessionsOf::Everyone, &self.session.id).await.map_err(text)?;
            }
            RemoveExpiredSessions => {
                self.expire(stage, "UPDATE portal_links SET expires_at = 1").await?;
                self.expire(stage, "UPDATE sessions SET expires_at = 1").await?;
                store.remove_expired_sessions().await.map_err(text)?;
            }
            DeleteSubscriber => drop(store.delete_subscriber(tenant, self.subscriber).await.map_err(text)?),
            DeleteTenant => crate::locks::delete_tenant(stage, tenant).await?,
        }
        Ok(())
    }

    /// Makes what belongs to the tenant old, as time does: without the triggers.
    async fn expire(&self, stage: &Stage, change: &str) -> Result<(), String> {
        let change = format!(
            "BEGIN; SET LOCAL session_replication_role = replica; {change} WHERE tenant = '{}'; COMMIT",
            self.tenant
        );
        stage.database.connection().execute_unprepared(&change).await.map_err(text).map(|_| ())
    }
}

/// A link of a tenant to the portal.
pub(crate) fn link(stage: &Stage, number: u8, tenant: &TenantId) -> PortalLink {
    PortalLink {
        id: [number; 32],
        tenant: tenant.clone(),
        key: None,
        key_hash: KeyHash::of(b"a key"),
        portal: Portal {
            scopes: Vec::new(),
            subscribers: Vec::new(),
            return_url: None,
            frame_ancestors: Vec::new(),
            theme: Theme::default(),
        },
        session_ttl: Duration::from_hours(1),
        expires_at: stage.now() + Duration::from_hours(1),
    }
}

fn text<E: std::error::Error + 'static>(error: E) -> String {
    chain(&error).to_string()
}
