//! A server inside the test.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use axum::Router;
use postrider_core::target::TargetPolicy;
use postrider_core::{AddressPolicy, IdGenerator, Keyring, SystemRandom};
use postrider_database::{Config as DatabaseConfig, Database};
use postrider_delivery::{Client, Config as DeliveryConfig};
use postrider_dispatch::transform::Transforms;
use postrider_dispatch::{Config as DispatchConfig, Dispatcher};
use postrider_server::{Config, Parts, Server};
use postrider_store::Store;
use postrider_testkit::api::Description;
use postrider_testkit::{Api, TestDatabase};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const KEY: &str = "operator-key-operator-key-operator-key";

/// A server, until it is dropped.
pub(crate) struct TestServer {
    pub(crate) api: Api,
    pub(crate) address: SocketAddr,
    pub(crate) store: Store,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) database: Database,
    pub(crate) test_database: Arc<TestDatabase>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<bool>,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::with(|config| config).await
    }

    pub(crate) async fn with(change: impl FnOnce(Config) -> Config) -> Self {
        let file = TestDatabase::sqlite().await;
        let database = DatabaseConfig::new(file.url().parse().unwrap());
        Self::over(file, database, |_| Router::new(), change).await
    }

    /// Starts a server over the test's database, reached with the given configuration.
    pub(crate) async fn over(
        test_database: TestDatabase,
        database: DatabaseConfig,
        telemetry: impl FnOnce(&Database) -> Router,
        change: impl FnOnce(Config) -> Config,
    ) -> Self {
        let database = Database::connect(database).await.unwrap();
        let keyring = Keyring::parse(&Keyring::generate_key(&SystemRandom)).unwrap();
        let queue = postrider_queue::open(&database);
        let store = Store::new(database.clone(), queue, keyring, IdGenerator::system());
        Self::of(Arc::new(test_database), store, telemetry(&database), DispatchConfig::default(), change)
            .await
    }

    /// Starts a server whose dispatcher has these transforms.
    pub(crate) async fn transforming(transforms: Transforms) -> Self {
        let other = Self::start().await;
        let dispatch = DispatchConfig { transforms, ..DispatchConfig::default() };
        let database = Arc::clone(&other.test_database);
        Self::of(database, other.store.clone(), Router::new(), dispatch, |config| config).await
    }

    /// Starts another server over the same store.
    pub(crate) async fn beside(other: &Self) -> Self {
        let database = Arc::clone(&other.test_database);
        Self::of(database, other.store.clone(), Router::new(), DispatchConfig::default(), |config| config)
            .await
    }

    async fn of(
        test_database: Arc<TestDatabase>,
        store: Store,
        telemetry: Router,
        dispatch: DispatchConfig,
        change: impl FnOnce(Config) -> Config,
    ) -> Self {
        let database = store.database().clone();
        // Loopback is allowed; other private addresses are not.
        let addresses = AddressPolicy::public_only().allowing(vec!["127.0.0.0/8".parse().unwrap()]);
        let targets = TargetPolicy { addresses, https_only: false };
        let dispatcher = Dispatcher::new(store.clone(), dispatch).unwrap();
        let parts = Parts {
            store: store.clone(),
            dispatcher: dispatcher.clone(),
            targets: Client::new(DeliveryConfig { targets, ..DeliveryConfig::default() }).unwrap(),
            telemetry,
        };
        let config = change(Config::new(KEY.parse().unwrap()));
        let server = Server::bind(([127, 0, 0, 1], 0).into(), config, parts).await.unwrap();
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(async move {
            let _ = stopped.await;
        }));
        let api = Api::new(format!("http://{address}"), KEY).with_description(description());
        Self { api, address, store, dispatcher, database, test_database, stop: Some(stop), serving }
    }

    pub(crate) fn without_key(&self) -> Api {
        Api::without_key(format!("http://{}", self.address)).with_description(description())
    }

    /// A client with this key.
    pub(crate) fn with_key(&self, key: &str) -> Api {
        Api::new(format!("http://{}", self.address), key).with_description(description())
    }

    pub(crate) fn tenant(&self, tenant: &str) -> Api {
        self.api.clone().with_header("x-tenant-id", tenant)
    }

    /// Asks the server to stop, without waiting for it.
    pub(crate) fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Whether every request finished before the grace ended.
    pub(crate) async fn stopped(mut self) -> bool {
        self.begin_stop();
        self.serving.await.unwrap()
    }

    /// Creates a subscriber to `events`, and returns the answer.
    pub(crate) async fn subscriber(&self, events: &[&str]) -> Value {
        let body = json!({"url": "http://127.0.0.1:9/hook", "events": events});
        let (status, subscriber) = self.api.post("/v1/subscribers", &body).await;
        assert_eq!(status, 201, "{subscriber}");
        subscriber
    }

    /// Dispatches an event, and returns the answer.
    pub(crate) async fn event(&self, event: &str) -> Value {
        let (status, dispatched) =
            self.api.post("/v1/events", &json!({"event": event, "data": {"n": 1}})).await;
        assert_eq!(status, 202, "{dispatched}");
        dispatched
    }

    /// Checks that every table is empty.
    pub(crate) async fn assert_empty(&self, why: &str) {
        for list in ["/v1/events", "/v1/subscribers", "/v1/deliveries"] {
            let (status, page) = self.api.get(list).await;
            assert_eq!((status, page), (200, json!({"data": [], "next_cursor": null})), "{list} after {why}");
        }
        let depth = self.store.queue().depth().await.unwrap();
        assert_eq!(depth.ready + depth.scheduled + depth.held + depth.running, 0, "jobs after {why}");
    }
}

/// The description of the API, which every response must match.
fn description() -> Arc<Description> {
    static DESCRIPTION: LazyLock<Arc<Description>> = LazyLock::new(|| {
        let api = serde_json::from_str(&postrider_server::openapi_json()).unwrap();
        Arc::new(Description::new(api))
    });
    Arc::clone(&DESCRIPTION)
}

/// The fields that a problem document names.
pub(crate) fn fields(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    errors.iter().map(|error| error["field"].as_str().unwrap()).collect()
}
