//! Waking workers in other processes by NOTIFY, and listening for their notifications.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use postrider_database::Database;
use postrider_database::sql::execute;
use sea_orm::DatabaseConnection;
use sea_orm::sqlx::Executor as _;
use sea_orm::sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use crate::wake::{Bell, Wakeups};

const CHANNEL: &str = "postrider_jobs";
const NOTIFY: &str = "NOTIFY postrider_jobs";

/// The shortest time between two notifications of one process.
const DEBOUNCE: Duration = Duration::from_millis(1);

/// After how long without a notification the connection is pinged.
const SILENCE: Duration = Duration::from_secs(20);

/// How long a connection may take to answer before it is closed.
const ANSWER: Duration = Duration::from_secs(5);

/// How long to wait before listening again after an error.
const RECONNECT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Notifier {
    database: Database,
    due: Arc<Notify>,
    bell: Arc<Bell>,
    _sender: AbortOnDropHandle<()>,
    listener: OnceLock<AbortOnDropHandle<()>>,
}

impl Notifier {
    pub(super) fn new(database: Database) -> Self {
        let due = Arc::new(Notify::new());
        let sender = tokio::spawn(send(database.clone(), Arc::clone(&due)));
        Self {
            database,
            due,
            bell: Arc::new(Bell::new()),
            _sender: AbortOnDropHandle::new(sender),
            listener: OnceLock::new(),
        }
    }

    /// Wakes workers in this process at once, and in others soon.
    pub(super) fn wake(&self) {
        self.bell.ring();
        self.due.notify_one();
    }

    pub(super) fn wakeups(&self) -> Wakeups {
        self.listener.get_or_init(|| {
            AbortOnDropHandle::new(tokio::spawn(listen(self.database.clone(), Arc::clone(&self.bell))))
        });
        self.bell.listen()
    }
}

/// Sends a notification whenever one is due. Those that become due while one is sent share the next.
async fn send(database: Database, due: Arc<Notify>) {
    loop {
        due.notified().await;
        if let Err(error) = database.answered(execute(database.connection(), NOTIFY, [])).await {
            // Workers poll, so a lost hint costs little.
            tracing::debug!(%error, "could not notify workers");
        }
        tokio::time::sleep(DEBOUNCE).await;
    }
}

/// Wakes workers for each notification, and whenever one may have been missed.
async fn listen(database: Database, bell: Arc<Bell>) {
    // Behind a pooler without a direct way, workers in this process are woken, and the others poll. So they do where there
    // is only one connection, as the one that listens is open all the time.
    let Some(connection) = database.listening() else { return };
    if !database.give_up_one() {
        return;
    }
    loop {
        if let Err(error) = hear(connection, &bell).await {
            tracing::debug!(%error, "listening for notifications failed");
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn hear(connection: &DatabaseConnection, bell: &Bell) -> Result<(), sea_orm::sqlx::Error> {
    let pool = connection.get_postgres_connection_pool();
    let listening = async {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(listener)
    };
    let mut listener = answered(listening).await?;
    loop {
        bell.ring();
        // The silence may be that of a network that drops all packets.
        while let Ok(heard) = tokio::time::timeout(SILENCE, listener.try_recv()).await {
            // `None`: the connection was lost, and the next call reconnects.
            heard?;
            bell.ring();
        }
        answered(listener.execute("SELECT 1")).await?;
    }
}

/// Limits how long an operation may take: if the network drops its packets, no answer would ever arrive.
async fn answered<T>(
    asked: impl Future<Output = Result<T, sea_orm::sqlx::Error>>,
) -> Result<T, sea_orm::sqlx::Error> {
    tokio::time::timeout(ANSWER, asked).await.unwrap_or(Err(sea_orm::sqlx::Error::PoolTimedOut))
}
