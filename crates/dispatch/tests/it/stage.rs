//! A database with subscribers, and access to its rows.

use std::collections::BTreeMap;
use std::ops::Deref;

use postrider_core::{SubscriberId, TenantId};
use postrider_database::Dialect;
use postrider_dispatch::{Config, Dispatcher, IdempotencyKey, NewEvent};
use postrider_store::subscribers::NewSubscriber;
use postrider_testkit::TestDatabase;
use sea_orm::ConnectionTrait as _;

pub(crate) use postrider_stage::on_both;
use postrider_stage::{direct, subscriber_of};

const TABLES: &[&str] = &[
    "events",
    "fan_outs",
    "idempotency_keys",
    "deliveries",
    "attempts",
    "rollups",
    "rollup_deltas",
    "lanes",
    "jobs",
];

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

    pub(crate) fn dispatcher(&self) -> Dispatcher {
        self.dispatcher_with(Config::default())
    }

    pub(crate) fn dispatcher_with(&self, config: Config) -> Dispatcher {
        Dispatcher::new(self.store.clone(), config).unwrap()
    }

    /// A dispatcher with a pool of its own, as another process would have.
    pub(crate) async fn another_dispatcher(&self) -> Dispatcher {
        Dispatcher::new(self.store_over(direct(&self.database)).await, Config::default()).unwrap()
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
        let new = NewSubscriber { active, ..subscriber_of(patterns) };
        self.store.create_subscriber(tenant, new).await.unwrap().id
    }

    /// Subscribes `count` subscribers to these patterns, quickly. Their secrets cannot be decrypted.
    pub(crate) async fn crowd(&self, tenant: &TenantId, patterns: &[&str], count: usize) {
        let first = self.subscribe_for(tenant, patterns, true).await.uuid().simple().to_string();
        let numbers = format!(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {}) ",
            count - 1
        );
        let (id, mine) = match self.store.database().dialect() {
            Dialect::Postgres => (
                format!("('{}' || lpad(to_hex(n), 15, '0'))::uuid", &first[..17]),
                format!("'{first}'::uuid"),
            ),
            Dialect::Sqlite => {
                (format!("unhex('{}' || printf('%015x', n))", &first[..17]), format!("x'{first}'"))
            }
        };
        for sql in [
            format!(
                "INSERT INTO subscribers (id, tenant, url, description, secret, policy, active, created_at, updated_at) \
                {numbers} SELECT {id}, tenant, url, description, secret, policy, active, created_at, updated_at \
                FROM subscribers, numbers WHERE id = {mine}"
            ),
            format!(
                "INSERT INTO subscriptions (tenant, pattern, subscriber_id) \
                {numbers} SELECT tenant, pattern, {id} FROM subscriptions, numbers WHERE subscriber_id = {mine}"
            ),
        ] {
            self.database.connection().execute_unprepared(&sql).await.unwrap();
        }
    }

    /// Returns the number of rows in each table.
    pub(crate) async fn counts(&self) -> BTreeMap<&'static str, i64> {
        let mut counts = BTreeMap::new();
        for table in TABLES {
            let row = self.rows(&format!("SELECT count(*) AS count FROM {table}")).await.remove(0);
            counts.insert(*table, row.try_get("", "count").unwrap());
        }
        counts
    }

    pub(crate) async fn rows_of(&self, table: &'static str) -> i64 {
        self.counts().await[table]
    }

    /// The envelopes of all events, in the order of dispatch.
    pub(crate) async fn envelopes(&self) -> Vec<String> {
        let rows = self.rows("SELECT envelope FROM events ORDER BY id").await;
        let envelope = |row: &sea_orm::QueryResult| row.try_get::<Vec<u8>>("", "envelope").unwrap();
        rows.iter().map(|row| String::from_utf8(envelope(row)).unwrap()).collect()
    }
}

pub(crate) fn event(name: &str, data: &serde_json::Value) -> NewEvent {
    NewEvent::new(name, data).unwrap()
}

pub(crate) fn keyed(name: &str, data: &serde_json::Value, key: &str) -> NewEvent {
    NewEvent { key: Some(IdempotencyKey::parse(key).unwrap()), ..event(name, data) }
}
