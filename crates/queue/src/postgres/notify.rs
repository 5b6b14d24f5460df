//! Waking workers elsewhere by NOTIFY, and being woken.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use postrider_database::Database;
use sea_orm::ConnectionTrait;
use sea_orm::sqlx::Executor as _;
use sea_orm::sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use crate::wake::{Bell, Wakeups};

const CHANNEL: &str = "postrider_jobs";

/// The shortest time between two notifications of one process.
const DEBOUNCE: Duration = Duration::from_millis(5);

/// How long to hear nothing before the connection is asked whether it lives.
const SILENCE: Duration = Duration::from_secs(20);

/// How long to wait before listening is tried again.
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

    /// Rings here at once, and elsewhere soon.
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

/// Sends a notification for each time that one is due; those that become due meanwhile share the next.
async fn send(database: Database, due: Arc<Notify>) {
    loop {
        due.notified().await;
        let sent = database.connection().execute_unprepared("NOTIFY postrider_jobs").await;
        if let Err(error) = sent {
            // Workers poll; a lost hint costs them a moment.
            tracing::debug!(%error, "could not notify workers");
        }
        tokio::time::sleep(DEBOUNCE).await;
    }
}

/// Rings for each notification, and whenever some may have been missed.
async fn listen(database: Database, bell: Arc<Bell>) {
    loop {
        if let Err(error) = hear(&database, &bell).await {
            tracing::debug!(%error, "not listening for notifications; trying again");
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn hear(database: &Database, bell: &Bell) -> Result<(), sea_orm::sqlx::Error> {
    let mut listener = PgListener::connect_with(database.connection().get_postgres_connection_pool()).await?;
    listener.listen(CHANNEL).await?;
    loop {
        bell.ring();
        // Silence may be that of a network that swallows everything.
        while let Ok(heard) = tokio::time::timeout(SILENCE, listener.try_recv()).await {
            // `None`: the connection was lost, and is made again by the next call.
            heard?;
            bell.ring();
        }
        let alive = tokio::time::timeout(5 * RECONNECT, listener.execute("SELECT 1")).await;
        alive.map_err(|_| sea_orm::sqlx::Error::PoolTimedOut)??;
    }
}
