//! The conformance suite over PostgreSQL, SQLite and memory, and over queues with flaws, which must fail it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "test code: a panic with a description is a failed test"
)]

mod abandoned;
mod buffered;
mod costs;
mod depth;
mod flaws;
mod memory;
mod migration;
mod notify;
mod plans;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postrider_database::{Config, Database};
use postrider_queue::conformance::Fixture;
use postrider_queue::{Queue, conformance_suite};
use postrider_testkit::TestDatabase;

struct OverDatabase {
    queue: Arc<dyn Queue>,
    database: TestDatabase,
}

impl OverDatabase {
    async fn new(database: TestDatabase) -> Self {
        let pool = Database::connect(Config::new(database.url().parse().unwrap())).await.unwrap();
        let queue = postrider_queue::open(&pool);
        Self { queue, database }
    }
}

#[async_trait]
impl Fixture for OverDatabase {
    fn queue(&self) -> Arc<dyn Queue> {
        Arc::clone(&self.queue)
    }

    async fn advance(&self, by: Duration) {
        self.database.advance(by).await;
    }
}

conformance_suite!(postgres, OverDatabase::new(TestDatabase::postgres().await).await);
conformance_suite!(sqlite, OverDatabase::new(TestDatabase::sqlite().await).await);
conformance_suite!(in_memory, memory::InMemory::new());
