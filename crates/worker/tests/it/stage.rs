//! A database, a receiver, and workers between them.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::Deref;
use std::time::Duration;

use postrider_core::retry::Steps;
use postrider_core::subscriber::{PolicyFields, Span};
use postrider_core::{
    DeliveryStatus, EventId, Policy, RetryPolicy, RetrySchedule, Secret, SubscriberId, TenantId,
};
use postrider_database::Config as DatabaseConfig;
use postrider_delivery::{Client, Config as DeliveryConfig};
use postrider_dispatch::{Dispatched, Dispatcher, NewEvent};
use postrider_store::deliveries::{Delivery, DeliveryFilter, RecordedAttempt};
use postrider_store::health::BreakerPolicy;
use postrider_store::subscribers::NewSubscriber;
use postrider_store::{PageRequest, Store};
use postrider_testkit::{Receiver, TestDatabase, eventually};
use postrider_worker::{Config, TroubleMonitor, Worker};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use postrider_stage::on_both;

/// The longest that a test waits for anything, even on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The secret of every subscriber on this stage.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A database, a dispatcher over it, and a receiver.
pub(crate) struct Stage {
    base: postrider_stage::Stage,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) receiver: Receiver,
}

impl Deref for Stage {
    type Target = postrider_stage::Stage;

    fn deref(&self) -> &Self::Target {
        &self.base
    }
}

impl Stage {
    pub(crate) async fn postgres() -> Self {
        Self::of(TestDatabase::postgres().await).await
    }

    pub(crate) async fn sqlite() -> Self {
        Self::of(TestDatabase::sqlite().await).await
    }

    pub(crate) async fn of(database: TestDatabase) -> Self {
        let base = postrider_stage::Stage::of(database).await;
        let dispatcher = Dispatcher::new(base.store.clone(), postrider_dispatch::Config::default()).unwrap();
        Self { base, dispatcher, receiver: Receiver::start().await }
    }

    pub(crate) async fn worker(&self, config: Config) -> Running {
        start(self.another_store().await, config)
    }

    /// A worker that sends through an egress proxy.
    pub(crate) async fn worker_through(&self, proxy: SocketAddr, config: Config) -> Running {
        let proxy = Some(format!("http://{proxy}").parse().unwrap());
        start_with(self.another_store().await, DeliveryConfig { proxy, ..DeliveryConfig::default() }, config)
    }

    /// A worker with a database configuration of its own.
    pub(crate) async fn worker_over(&self, database: DatabaseConfig, config: Config) -> Running {
        start(self.store_over(database).await, config)
    }

    /// A subscriber of all events at a path of the receiver.
    pub(crate) async fn subscriber(&self, path: &str) -> SubscriberId {
        self.subscriber_with(path, PolicyFields::default()).await
    }

    pub(crate) async fn subscriber_with(&self, path: &str, policy: PolicyFields) -> SubscriberId {
        let new = NewSubscriber { policy: Policy::try_from(policy).unwrap(), ..self.new_subscriber(path) };
        self.store.create_subscriber(&tenant(), new).await.unwrap().id
    }

    pub(crate) fn new_subscriber(&self, path: &str) -> NewSubscriber {
        let url = self.receiver.url(path).parse().unwrap();
        NewSubscriber::new(url, vec!["*".parse().unwrap()], Secret::parse(SECRET).unwrap())
    }

    pub(crate) async fn dispatch(&self) -> Dispatched {
        self.dispatcher.dispatch(event(0)).await.unwrap()
    }

    pub(crate) async fn dispatch_many(&self, count: usize) -> Vec<Dispatched> {
        let results = self.dispatcher.dispatch_batch((0..count).map(event).collect()).await;
        results.into_iter().map(Result::unwrap).collect()
    }

    /// The event's deliveries, oldest first.
    pub(crate) async fn deliveries(&self, event: EventId) -> Vec<Delivery> {
        let filter = DeliveryFilter { event_id: Some(event), ..DeliveryFilter::default() };
        let page = PageRequest { limit: 250, before: None };
        let mut found = self.store.deliveries(&tenant(), &filter, page).await.unwrap().items;
        found.reverse();
        found
    }

    /// The event's only delivery.
    pub(crate) async fn delivery(&self, event: EventId) -> Delivery {
        let mut found = self.deliveries(event).await;
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    /// The event's only delivery, once that has ended.
    pub(crate) async fn ended(&self, event: EventId) -> Delivery {
        eventually(DEADLINE, || async {
            let delivery = self.delivery(event).await;
            (delivery.status != DeliveryStatus::Pending).then_some(delivery)
        })
        .await
    }

    /// The event's only delivery, once it has had so many attempts.
    pub(crate) async fn attempted(&self, event: EventId, attempts: u32) -> Delivery {
        eventually(DEADLINE, || async {
            let delivery = self.delivery(event).await;
            (delivery.attempts >= attempts).then_some(delivery)
        })
        .await
    }

    /// The attempts at a delivery in their order.
    pub(crate) async fn attempts(&self, delivery: &Delivery) -> Vec<RecordedAttempt> {
        let page = self.store.attempts(&tenant(), delivery.id, PageRequest::default()).await.unwrap();
        page.items.into_iter().rev().collect()
    }

    /// Waits until there are no jobs, and checks that no lane counts one as running.
    pub(crate) async fn settled(&self) {
        eventually(DEADLINE, || async {
            (self.count("SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM scheduled_jobs)").await
                == 0)
                .then_some(())
        })
        .await;
        self.no_lane_is_running().await;
    }

    pub(crate) async fn no_lane_is_running(&self) {
        assert_eq!(
            self.count("SELECT count(*) FROM lanes WHERE running <> 0").await,
            0,
            "no lane counts a running job"
        );
    }
}

/// Starts a worker over a store that the test uses as well.
pub(crate) fn start(store: Store, config: Config) -> Running {
    start_with(store, DeliveryConfig::default(), config)
}

fn start_with(store: Store, mut delivery: DeliveryConfig, config: Config) -> Running {
    let here = vec!["127.0.0.1/32".parse().unwrap()];
    delivery.targets.addresses = delivery.targets.addresses.allowing(here);
    let worker = Worker::new(store, Client::new(delivery).unwrap(), config).unwrap();
    let stop = CancellationToken::new();
    let trouble = worker.trouble();
    Running { task: tokio::spawn(worker.run(stop.clone())), stop, trouble }
}

/// A worker that runs in this process.
pub(crate) struct Running {
    pub(crate) stop: CancellationToken,
    pub(crate) trouble: TroubleMonitor,
    task: JoinHandle<()>,
}

impl Running {
    /// Stops it, and waits until it has stopped.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.stopped().await;
    }

    /// Waits until it has stopped.
    pub(crate) async fn stopped(self) {
        tokio::time::timeout(DEADLINE, self.task).await.expect("it stops").expect("it does not panic");
    }
}

/// Three attempts in quick succession, and no breaker.
pub(crate) fn config() -> Config {
    Config {
        lease: Duration::from_mins(1),
        shutdown_grace: Duration::from_secs(5),
        poll: Duration::from_millis(250),
        retry: retry(&[200, 400], 3),
        breaker: BreakerPolicy { breaker_failures: 0, deactivate_after: None, ..BreakerPolicy::default() },
        ..Config::default()
    }
}

/// A policy with these delays in milliseconds, without jitter.
pub(crate) fn retry(delays: &[u64], max_attempts: u32) -> RetryPolicy {
    let steps = delays.iter().copied().map(Duration::from_millis).collect();
    RetryPolicy::try_new(RetrySchedule::Steps(Steps::try_new(steps).unwrap()), max_attempts, 0).unwrap()
}

pub(crate) fn delays(millis: &[u64]) -> Vec<Span> {
    millis.iter().copied().map(Duration::from_millis).map(Span).collect()
}

pub(crate) fn at_once(limit: u32) -> NonZeroU32 {
    NonZeroU32::new(limit).unwrap()
}

pub(crate) fn tenant() -> TenantId {
    TenantId::default()
}

pub(crate) fn event(number: usize) -> NewEvent {
    NewEvent::new("order.created", &json!({ "number": number })).unwrap()
}
