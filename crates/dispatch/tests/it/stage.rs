//! A database with subscribers, and access to its rows.

use std::collections::BTreeMap;
use std::ops::Deref;

use postrider_core::{SubscriberId, TenantId};
use postrider_dispatch::{Config, Dispatcher, IdempotencyKey, NewEvent};
use postrider_store::subscribers::NewSubscriber;
use postrider_testkit::TestDatabase;

pub(crate) use postrider_stage::on_both;
use postrider_stage::{direct, subscriber_of};

const TABLES: &[&str] =
    &["events", "idempotency_keys", "deliveries", "attempts", "rollups", "attempt_deltas", "lanes", "jobs"];

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
