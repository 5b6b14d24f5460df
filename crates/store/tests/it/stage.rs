//! The stage of the store's tests: dispatches, claims and records deliveries.

use std::ops::Deref;
use std::time::Duration;

use postrider_core::Metadata;
use postrider_core::{
    AgentId, DeliveryId, ErrorKind, EventId, EventType, JobId, SubscriberId, TenantId, Timestamp,
};
use postrider_database::{Transaction, Writes};
use postrider_queue::{Claim, Finish, Lease, LeaseToken, NewJob};
use postrider_store::Store;
use postrider_store::attempt::{Attempt, DeliveryRef, End, Outcome, Response};
use postrider_store::exchange::{Exchange, Phases, SentRequest, SentValue};
use postrider_store::health::BreakerPolicy;
use postrider_store::intake::{DeliveryRow, EventRow};
use postrider_store::loading::Loaded;
use postrider_store::queue_ids::{lane_of, queued};
use postrider_store::recording::Recorded;
use postrider_store::stats::{DeliveryStats, Stats, StatsFilter};
use postrider_store::subscribers::NewSubscriber;
use postrider_testkit::TestDatabase;

pub(crate) use postrider_stage::on_both;
use postrider_stage::subscriber_of;

pub(crate) struct Stage(postrider_stage::Stage);

impl Deref for Stage {
    type Target = postrider_stage::Stage;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Stage {
    pub(crate) async fn of(database: TestDatabase) -> Self {
        Self(postrider_stage::Stage::of(database).await)
    }

    pub(crate) async fn subscribe(&self, tenant: &TenantId, active: bool) -> SubscriberId {
        let new = NewSubscriber { active, ..subscriber_of(&["*"]) };
        self.store.create_subscriber(tenant, new).await.unwrap().id
    }

    /// Inserts an event for one subscriber, dispatched at this moment.
    pub(crate) async fn dispatch(
        &self,
        tenant: &TenantId,
        subscriber: SubscriberId,
        event: &str,
        at: Timestamp,
    ) -> DeliveryId {
        self.dispatch_by(&self.store, tenant, subscriber, event, at).await
    }

    /// Inserts an event as [`Stage::dispatch`] does, with ids of another store.
    pub(crate) async fn dispatch_by(
        &self,
        store: &Store,
        tenant: &TenantId,
        subscriber: SubscriberId,
        event: &str,
        at: Timestamp,
    ) -> DeliveryId {
        let transaction = store.database().begin().await.unwrap();
        let id = insert(store, &transaction, tenant, subscriber, event, at).await;
        transaction.commit().await.unwrap();
        id
    }

    pub(crate) async fn dispatch_in(
        &self,
        transaction: &Transaction,
        tenant: &TenantId,
        subscriber: SubscriberId,
        event: &str,
        at: Timestamp,
    ) -> DeliveryId {
        insert(&self.store, transaction, tenant, subscriber, event, at).await
    }

    /// Claims all jobs that are ready, and returns the variants of what loading says about them.
    pub(crate) async fn load_all(&self) -> Vec<String> {
        let token = LeaseToken(self.store.ids().next_uuid());
        let claimed =
            self.store.queue().claim(&Claim::new(token, 100, Duration::from_mins(1))).await.unwrap();
        let loaded = self.store.load(&claimed.jobs).await.unwrap();
        let variant =
            |loaded: &Loaded| format!("{loaded:?}").split(['(', ' ']).next().unwrap_or_default().to_owned();
        loaded.iter().map(variant).collect()
    }
    /// Claims all jobs that are ready, and loads them.
    pub(crate) async fn claim(&self) -> Vec<(Lease, DeliveryRef)> {
        let token = LeaseToken(self.store.ids().next_uuid());
        let claimed =
            self.store.queue().claim(&Claim::new(token, 100, Duration::from_mins(1))).await.unwrap();
        let loaded = self.store.load(&claimed.jobs).await.unwrap();
        let deliveries = claimed.jobs.iter().zip(loaded).map(|(job, loaded)| match loaded {
            Loaded::Deliver(work) => (job.lease, work.delivery),
            other => panic!("{other:?}"),
        });
        deliveries.collect()
    }

    /// Claims the one delivery that is ready, and records an attempt that began at once.
    pub(crate) async fn attempt(&self, end: End) {
        let claimed = self.claim().await;
        let [(lease, delivery)] = &claimed[..] else { panic!("one delivery: {claimed:?}") };
        let recorded = self.record(*lease, delivery, Duration::ZERO, end).await;
        assert!(recorded.lost.is_empty());
        if matches!(end, End::RetryIn(_)) {
            self.database.advance(Duration::from_hours(1)).await;
            self.store.queue().promote(100).await.unwrap();
        }
    }

    /// Records an attempt that began `waited` after the dispatch.
    pub(crate) async fn record(
        &self,
        lease: Lease,
        delivery: &DeliveryRef,
        waited: Duration,
        end: End,
    ) -> Recorded {
        let status = if end == End::Succeeded { 200 } else { 500 };
        let response = Response { status, headers: Vec::new(), body: "".into(), truncated: false };
        let attempt = Attempt {
            started_at: delivery.created_at + waited,
            duration: Duration::from_millis(3),
            response: Some(response),
            verdict: postrider_core::Verdict::Success,
            exchange: Some(exchange(false)),
        };
        let outcome = Outcome { lease, delivery: delivery.clone(), attempt: Some(attempt), end };
        self.store.record(&[outcome], &[], &BreakerPolicy::default()).await.unwrap()
    }

    /// Records an attempt that failed, for which the receiver is to blame.
    pub(crate) async fn fail(&self, lease: Lease, delivery: &DeliveryRef, end: End) {
        let attempt = Attempt {
            started_at: delivery.created_at,
            duration: Duration::from_millis(3),
            response: None,
            verdict: postrider_core::Verdict::failure(ErrorKind::Status, "HTTP 500"),
            exchange: Some(exchange(false)),
        };
        let outcome = Outcome { lease, delivery: delivery.clone(), attempt: Some(attempt), end };
        self.store.record(&[outcome], &[], &BreakerPolicy::default()).await.unwrap();
    }

    /// Records an end without an attempt.
    pub(crate) async fn record_untried(&self, lease: Lease, delivery: &DeliveryRef, end: End) {
        let outcome = Outcome { lease, delivery: delivery.clone(), attempt: None, end };
        self.store.record(&[outcome], &[], &BreakerPolicy::default()).await.unwrap();
    }

    pub(crate) async fn release(&self, lease: Lease) {
        self.store.record(&[], &[(lease, Finish::Release)], &BreakerPolicy::default()).await.unwrap();
    }

    pub(crate) async fn stats(&self) -> Stats {
        self.store.stats(&self.tenant, &StatsFilter::default()).await.unwrap()
    }

    pub(crate) async fn deliveries(&self, filter: &StatsFilter) -> DeliveryStats {
        self.store.stats(&self.tenant, filter).await.unwrap().deliveries
    }
}

async fn insert(
    store: &Store,
    transaction: &Transaction,
    tenant: &TenantId,
    subscriber: SubscriberId,
    event: &str,
    at: Timestamp,
) -> DeliveryId {
    let event: EventType = event.parse().unwrap();
    let ids = store.ids();
    let (event_id, job): (EventId, JobId) = (ids.next(), ids.next());
    let id = event_id.delivery(1).unwrap();
    let event_row = EventRow {
        id: event_id,
        tenant: tenant.clone(),
        event_type: event.clone(),
        agent_id: AgentId::default(),
        envelope: "{}".into(),
        subscribers_found: 1,
        dispatched_at: at,
        channels: None,
        metadata: Metadata::default(),
        key: None,
    };
    let delivery =
        DeliveryRow { id, tenant: tenant.clone(), event_type: event, subscriber, job, created_at: at };
    let mut writes = Writes::new();
    store.insert_with(vec![event_row], &[delivery], &mut writes);
    let job = NewJob::now(queued(job), lane_of(subscriber), tenant.as_str(), id.uuid());
    store.queue().enqueue_with(&[job], &mut writes);
    writes.execute(transaction).await.unwrap();
    id
}

/// What an attempt could have sent.
pub(crate) fn exchange(resent: bool) -> Box<Exchange> {
    let shown = |value: &str| SentValue::Shown(value.to_owned());
    let headers = [
        ("content-type", shown("application/json")),
        ("x-agent-id", shown("billing")),
        ("webhook-signature", SentValue::Masked),
        ("x-api-key", SentValue::Masked),
    ];
    Box::new(Exchange {
        request: SentRequest {
            method: "POST".to_owned(),
            url: "https://example.com/hook?token=***".to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
            body_sha256: [9; 32],
            transform: None,
            versions: None,
        },
        remote: Some(([192, 0, 2, 1], 443).into()),
        phases: Phases { first_byte: Some(Duration::from_micros(700)), ..Phases::default() },
        resent,
        note: None,
    })
}
