//! A database with subscribers, and what is in it.

use std::collections::BTreeMap;

use postrider_core::{
    CustomHeaders, IdGenerator, Keyring, Policy, Secret, SubscriberId, SystemRandom, TenantId,
};
use postrider_database::{Config as DatabaseConfig, Database};
use postrider_dispatch::{Config, Dispatcher, IdempotencyKey, NewEvent};
use postrider_store::Store;
use postrider_store::subscriber::NewSubscriber;
use postrider_testkit::TestDatabase;
use sea_orm::{ConnectionTrait as _, FromQueryResult, Statement};

/// Runs tests, which take a [`TestDatabase`], on both databases.
macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(&crate::stage::Stage::of(postrider_testkit::TestDatabase::postgres().await).await).await;
            })+
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(&crate::stage::Stage::of(postrider_testkit::TestDatabase::sqlite().await).await).await;
            })+
        }
    };
}
pub(crate) use on_both;

const TABLES: &[&str] =
    &["events", "idempotency_keys", "deliveries", "attempts", "rollups", "attempt_deltas", "lanes", "jobs"];

pub(crate) struct Stage {
    pub(crate) database: TestDatabase,
    pub(crate) store: Store,
    keyring: Keyring,
}

impl Stage {
    pub(crate) async fn of(database: TestDatabase) -> Self {
        let keyring = Keyring::parse(&Keyring::generate_key(&SystemRandom)).unwrap();
        let store = open(&database, &keyring).await;
        Self { database, store, keyring }
    }

    pub(crate) fn dispatcher(&self) -> Dispatcher {
        self.dispatcher_with(Config::default())
    }

    pub(crate) fn dispatcher_with(&self, config: Config) -> Dispatcher {
        Dispatcher::new(self.store.clone(), config)
    }

    /// A dispatcher with a pool of its own, as another process would have.
    pub(crate) async fn another_dispatcher(&self) -> Dispatcher {
        Dispatcher::new(open(&self.database, &self.keyring).await, Config::default())
    }

    pub(crate) async fn subscribe(&self, patterns: &[&str]) -> SubscriberId {
        self.subscribe_for(&TenantId::default(), patterns, true).await
    }

    pub(crate) async fn subscribe_for(
        &self,
        tenant: &TenantId,
        patterns: &[&str],
        active: bool,
    ) -> SubscriberId {
        let new = NewSubscriber {
            url: "https://example.com/hook".parse().unwrap(),
            events: patterns.iter().map(|pattern| pattern.parse().unwrap()).collect(),
            secret: Secret::generate(&SystemRandom),
            description: String::new(),
            headers: CustomHeaders::default(),
            active,
            policy: Policy::default(),
        };
        self.store.create_subscriber(tenant, new).await.unwrap().id
    }

    /// How many rows each table has.
    pub(crate) async fn counts(&self) -> BTreeMap<&'static str, i64> {
        let mut counts = BTreeMap::new();
        for table in TABLES {
            let row = self.rows(&format!("SELECT count(*) AS count FROM {table}")).await.remove(0);
            counts.insert(*table, row.try_get("", "count").unwrap());
        }
        counts
    }

    pub(crate) async fn count(&self, table: &'static str) -> i64 {
        self.counts().await[table]
    }

    /// The envelopes of all events, in the order of dispatch.
    pub(crate) async fn envelopes(&self) -> Vec<String> {
        let rows = self.rows("SELECT envelope FROM events ORDER BY id").await;
        let envelope = |row: &sea_orm::QueryResult| row.try_get::<Vec<u8>>("", "envelope").unwrap();
        rows.iter().map(|row| String::from_utf8(envelope(row)).unwrap()).collect()
    }

    pub(crate) async fn all<T: FromQueryResult>(&self, sql: &str) -> Vec<T> {
        self.rows(sql).await.iter().map(|row| T::from_query_result(row, "").unwrap()).collect()
    }

    async fn rows(&self, sql: &str) -> Vec<sea_orm::QueryResult> {
        let connection = self.database.connection();
        let statement = Statement::from_string(connection.get_database_backend(), sql);
        connection.query_all_raw(statement).await.unwrap()
    }
}

async fn open(database: &TestDatabase, keyring: &Keyring) -> Store {
    let pool = Database::connect(DatabaseConfig::new(database.url().parse().unwrap())).await.unwrap();
    let queue = postrider_queue::open(&pool);
    Store::new(pool, queue, keyring.clone(), IdGenerator::system())
}

pub(crate) fn event(name: &str, data: &serde_json::Value) -> NewEvent {
    NewEvent::new(name, data).unwrap()
}

pub(crate) fn keyed(name: &str, data: &serde_json::Value, key: &str) -> NewEvent {
    NewEvent { key: Some(IdempotencyKey::parse(key).unwrap()), ..event(name, data) }
}
