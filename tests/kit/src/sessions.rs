//! The statements that programs run on a PostgreSQL database, as the server sees them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, Statement};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::TestDatabase;

const INTERVAL: Duration = Duration::from_millis(20);

const RUNNING: &str = "SELECT left(query, 200) AS query,
        extract(epoch FROM clock_timestamp() - query_start)::float8 AS seconds
    FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'postrider-2' AND state = 'active'
    ORDER BY query_start";

/// A statement that was seen running.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Its beginning.
    pub query: String,
    /// For how long it had run.
    pub age: Duration,
}

/// The statements that run now in sessions with the default application name, the oldest first.
pub async fn running(database: &TestDatabase) -> Vec<Seen> {
    read(&database.connection()).await
}

async fn read(connection: &DatabaseConnection) -> Vec<Seen> {
    let statement = Statement::from_string(DbBackend::Postgres, RUNNING);
    let rows = connection.query_all_raw(statement).await.expect("rows");
    let seen = |row: &sea_orm::QueryResult| Seen {
        query: row.try_get("", "query").expect("a query"),
        age: Duration::from_secs_f64(row.try_get::<f64>("", "seconds").expect("seconds").max(0.0)),
    };
    rows.iter().map(seen).collect()
}

/// Watches how long statements run, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    oldest: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Begins to watch.
    pub fn over(database: &TestDatabase) -> Self {
        let oldest = Arc::<Mutex<Seen>>::default();
        let (connection, noted) = (database.connection(), Arc::clone(&oldest));
        let task = tokio::spawn(async move {
            loop {
                if let Some(seen) = read(&connection).await.into_iter().next() {
                    let mut oldest = noted.lock().unwrap_or_else(PoisonError::into_inner);
                    if seen.age > oldest.age {
                        *oldest = seen;
                    }
                }
                sleep(INTERVAL).await;
            }
        });
        Self { oldest, task }
    }

    /// The statement that ran longest so far.
    pub fn oldest(&self) -> Seen {
        self.oldest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
