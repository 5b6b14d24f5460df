//! Hearing of keys that are changed in other processes, so that a revocation need not wait until what is known of a key is old.
//!
//! This is a hint: a notification may be lost. Behind a pooler without a direct URL, on SQLite, and with a single connection
//! nothing is heard.

use std::time::Duration;

use postrider_core::KeyId;
use postrider_database::Dialect;
use postrider_database::sql::execute;
use sea_orm::ConnectionTrait;
use sea_orm::sqlx::Executor as _;
use sea_orm::sqlx::postgres::PgListener;
use tokio::time::{sleep, timeout};

use crate::{Store, StoreError};

const CHANNEL: &str = "postrider_keys";

/// How long to wait before the next connection.
const RECONNECT: Duration = Duration::from_secs(1);

/// After how long without a notification the connection is pinged: silence may be that of a network that drops all packets.
const SILENCE: Duration = Duration::from_secs(30);

/// How long the database may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

impl Store {
    /// Calls `changed` for each key that any process changes, for as long as the future is polled. Takes a connection of the
    /// pool for itself.
    pub async fn hear_changed_keys(&self, mut changed: impl FnMut(KeyId) + Send) {
        let Some(connection) = self.database.listening() else { return };
        if self.database.dialect() == Dialect::Sqlite || !self.database.give_up_one() {
            return;
        }
        loop {
            let pool = connection.get_postgres_connection_pool();
            if let Err(error) = hear(pool, &mut changed).await {
                tracing::debug!(%error, "listening for changed keys failed");
            }
            sleep(RECONNECT).await;
        }
    }
}

async fn hear(
    pool: &sea_orm::sqlx::PgPool,
    changed: &mut (impl FnMut(KeyId) + Send),
) -> Result<(), sea_orm::sqlx::Error> {
    let mut listener = answered(PgListener::connect_with(pool)).await?;
    answered(listener.listen(CHANNEL)).await?;
    loop {
        let Ok(heard) = timeout(SILENCE, listener.try_recv()).await else {
            answered(listener.execute("SELECT 1")).await?;
            continue;
        };
        // None: the connection was lost, and the next call connects again.
        if let Some(notification) = heard?
            && let Ok(id) = notification.payload().parse()
        {
            changed(id);
        }
    }
}

async fn answered<T>(
    asked: impl Future<Output = Result<T, sea_orm::sqlx::Error>>,
) -> Result<T, sea_orm::sqlx::Error> {
    timeout(ANSWER, asked).await.unwrap_or(Err(sea_orm::sqlx::Error::PoolTimedOut))
}

/// Tells other processes of a changed key, if the transaction commits.
pub(super) async fn tell(transaction: &impl ConnectionTrait, id: KeyId) -> Result<(), StoreError> {
    if Dialect::of(transaction) == Dialect::Postgres {
        let sql = "SELECT pg_notify('postrider_keys', $1)";
        execute(transaction, sql, [id.to_string().into()]).await?;
    }
    Ok(())
}
