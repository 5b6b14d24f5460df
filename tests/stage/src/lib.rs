//! The stage on which tests of Postrider's crates play: a database of either kind, and a store over it.
//!
//! A test takes a stage as its argument, and [`on_both!`] runs it on PostgreSQL and on SQLite. A crate whose tests need
//! more (a dispatcher, a worker, a receiver) wraps [`Stage`] in a `Stage` of its own that dereferences to this one.
//!
//! Everything here panics when it cannot do its work: that is how a test says so.
#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code: a panic with a description is a failed test"
)]

use std::time::Duration;

use postrider_core::{Clock as _, IdGenerator, Keyring, Secret, SystemRandom, TenantId, Timestamp};
use postrider_database::{Config, Database, Dialect};
use postrider_store::Store;
use postrider_store::subscribers::NewSubscriber;
#[doc(no_inline)]
pub use postrider_testkit::TestDatabase;
use sea_orm::{ConnectionTrait as _, FromQueryResult, QueryResult, Statement};

/// Runs tests on both databases. Each test is an `async fn` that takes a `&Stage`.
///
/// The test binary has a module `stage` with a type `Stage` and a function `Stage::of(TestDatabase)`.
/// Tests run on two threads, or with `"current_thread":` in front on the test's own.
#[macro_export]
#[allow(clippy::crate_in_macro_def, reason = "`crate` is the test binary, which has the module `stage`")]
macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {
        $crate::on_both!("multi_thread": $($test),+);
    };
    ($flavor:literal: $($test:ident),+ $(,)?) => {
        mod postgres {
            $(#[tokio::test(flavor = $flavor)]
            async fn $test() {
                let database = $crate::TestDatabase::postgres().await;
                super::$test(&crate::stage::Stage::of(database).await).await;
            })+
        }
        mod sqlite {
            $(#[tokio::test(flavor = $flavor)]
            async fn $test() {
                let database = $crate::TestDatabase::sqlite().await;
                super::$test(&crate::stage::Stage::of(database).await).await;
            })+
        }
    };
}

/// A migrated database of the test's own, with a store over it.
#[derive(Debug)]
pub struct Stage {
    /// The database, and the clock of everything that waits in it.
    pub database: TestDatabase,
    /// The store that the test shares with what it tests.
    pub store: Store,
    /// The tenant that tests use unless they are about tenants: the default one.
    pub tenant: TenantId,
    keyring: Keyring,
}

impl Stage {
    /// A store over `database`, with a new key for its secrets.
    pub async fn of(database: TestDatabase) -> Self {
        let keyring = Keyring::parse(&Keyring::generate_key(&SystemRandom)).unwrap();
        let store = open(direct(&database), &keyring).await;
        // As dispatching does; the second in case that midnight is near.
        let now = store.ids().clock().now();
        for moment in [now, now + Duration::from_hours(1)] {
            store.ensure_partition(store.database().connection(), moment).await.unwrap();
        }
        Self { database, store, tenant: TenantId::default(), keyring }
    }

    /// A store with connections of its own, as another process has.
    ///
    /// SQLite serves one process, whose parts share a store: there it is the test's own.
    pub async fn another_store(&self) -> Store {
        match self.store.database().dialect() {
            Dialect::Postgres => self.store_over(direct(&self.database)).await,
            Dialect::Sqlite => self.store.clone(),
        }
    }

    /// A store that reaches the database as `config` says, for example through a proxy.
    pub async fn store_over(&self, config: Config) -> Store {
        open(config, &self.keyring).await
    }

    /// The present moment by the store's clock.
    pub fn now(&self) -> Timestamp {
        self.store.ids().clock().now()
    }

    /// Copies the only delivery and its job, until there are `deliveries`.
    pub async fn multiply(&self, deliveries: usize) {
        let numbers = format!(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {}) ",
            deliveries - 1
        );
        // The job and the delivery of a number share their id.
        let id = match self.store.database().dialect() {
            Dialect::Postgres => "(left({id}::text, 31) || lpad(to_hex(n + 1), 5, '0'))::uuid",
            Dialect::Sqlite => "unhex(substr(hex({id}), 1, 27) || printf('%05x', n + 1))",
        };
        let (delivery, job) = (id.replace("{id}", "id"), id.replace("{id}", "subject"));
        for sql in [
            format!(
                "INSERT INTO deliveries (id, tenant, subscriber_id, event_type, status, attempts, round_start, \
                    job_id, created_at) \
                {numbers} SELECT {delivery}, tenant, subscriber_id, event_type, status, attempts, round_start, \
                    {delivery}, created_at FROM deliveries, numbers"
            ),
            format!(
                "INSERT INTO jobs (id, lane, owner, subject, priority, available_at, claims, rescues) \
                {numbers} SELECT {job}, lane, owner, {job}, priority, available_at, 0, 0 FROM jobs, numbers"
            ),
            format!("UPDATE rollups SET created = {deliveries} WHERE created > 0"),
        ] {
            self.store.fold_statistics().await.unwrap();
            self.database.connection().execute_unprepared(&sql).await.unwrap();
        }
    }

    /// The number that an SQL expression selects.
    pub async fn count(&self, sql: &str) -> i64 {
        let rows = self.rows(&format!("SELECT ({sql}) AS count")).await;
        rows[0].try_get("", "count").unwrap()
    }

    /// The rows that a statement returns, each read as a `T`.
    pub async fn all<T: FromQueryResult>(&self, sql: &str) -> Vec<T> {
        self.rows(sql).await.iter().map(|row| T::from_query_result(row, "").unwrap()).collect()
    }

    /// The rows that a statement returns, read through the test's own connections.
    pub async fn rows(&self, sql: &str) -> Vec<QueryResult> {
        let connection = self.database.connection();
        let statement = Statement::from_string(connection.get_database_backend(), sql);
        connection.query_all_raw(statement).await.unwrap()
    }
}

/// A subscriber of these patterns at `https://example.com/hook`, with a secret of its own.
pub fn subscriber_of(patterns: &[&str]) -> NewSubscriber {
    let events = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
    NewSubscriber::new("https://example.com/hook".parse().unwrap(), events, Secret::generate(&SystemRandom))
}

/// Connects straight to a test's database.
pub fn direct(database: &TestDatabase) -> Config {
    Config::new(database.url().parse().unwrap())
}

async fn open(config: Config, keyring: &Keyring) -> Store {
    let database = Database::connect(config).await.unwrap();
    let queue = postrider_queue::open(&database);
    Store::new(database, queue, keyring.clone(), IdGenerator::system())
}
