//! Waking workers elsewhere by NOTIFY, and being woken.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use postrider_database::Database;
use sea_orm::sqlx::Executor as _;
use sea_orm::sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use crate::wake::{Bell, Wakeups};

const CHANNEL: &str = "postrider_jobs";

/// The shortest time between two notifications of one process.
const DEBOUNCE: Duration = Duration::from_millis(1);

/// How long to hear nothing before the connection is asked whether it lives.
const SILENCE: Duration = Duration::from_secs(20);

/// How long a connection may take to answer before it is given up.
const ANSWER: Duration = Duration::from_secs(5);

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
///
/// It keeps a connection, since the pool pings each one that is given back, and gives it up for a new one when anything
/// is wrong with it.
async fn send(database: Database, due: Arc<Notify>) {
    let mut kept: Option<PgListener> = None;
    let closing = database.connection().get_postgres_connection_pool().close_event();
    tokio::pin!(closing);
    loop {
        tokio::select! {
            () = due.notified() => {}
            // Whoever closes the pool waits for all that it has given out.
            () = &mut closing => return,
        }
        match answered(notify(&database, kept.take())).await {
            Ok(connection) => kept = Some(connection),
            // Workers poll; a lost hint costs them a moment.
            Err(error) => tracing::debug!(%error, "could not notify workers"),
        }
        tokio::time::sleep(DEBOUNCE).await;
    }
}

async fn notify(database: &Database, kept: Option<PgListener>) -> Result<PgListener, sea_orm::sqlx::Error> {
    let mut connection = match kept {
        Some(connection) => connection,
        None => PgListener::connect_with(database.connection().get_postgres_connection_pool()).await?,
    };
    connection.execute("NOTIFY postrider_jobs").await?;
    Ok(connection)
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
    let pool = database.connection().get_postgres_connection_pool();
    let listening = async {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(listener)
    };
    let mut listener = answered(listening).await?;
    loop {
        bell.ring();
        // Silence may be that of a network that swallows everything.
        while let Ok(heard) = tokio::time::timeout(SILENCE, listener.try_recv()).await {
            // `None`: the connection was lost, and is made again by the next call.
            heard?;
            bell.ring();
        }
        answered(listener.execute("SELECT 1")).await?;
    }
}

/// The network may swallow what is sent, and nothing would ever come back.
async fn answered<T>(
    asked: impl Future<Output = Result<T, sea_orm::sqlx::Error>>,
) -> Result<T, sea_orm::sqlx::Error> {
    tokio::time::timeout(ANSWER, asked).await.unwrap_or(Err(sea_orm::sqlx::Error::PoolTimedOut))
}
