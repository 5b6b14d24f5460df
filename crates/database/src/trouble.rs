//! What keeps the database from storing anything, such as a full disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait as _, DbErr};
use tokio::runtime::Handle;

use crate::begin::begin;
use crate::error::{cannot_write, own_words};
use crate::source::Source;
use crate::{DatabaseError, Dialect};

/// How long to wait before the database is asked again whether it can write.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the database cannot write; see [`Database::trouble`](crate::Database::trouble).
#[derive(Clone, Debug)]
pub struct Trouble {
    /// The database's own words, such as `database or disk is full`.
    pub words: String,
    /// When the first operation failed.
    pub since: Instant,
    /// The number of operations that have failed since then.
    pub failed: u64,
}

/// The trouble of a pool.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<Option<Trouble>>);

impl Watch {
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes note of a failed operation. The first one logs a line, and starts probes that end the trouble.
    pub(crate) fn note(self: &Arc<Self>, error: &DbErr, source: &Source) {
        if cannot_write(error) {
            self.begin(|| own_words(error), 1, source);
        }
    }

    /// Takes note of a server that says it accepts no writes, before any has failed.
    pub(crate) fn note_read_only(self: &Arc<Self>, source: &Source) {
        self.begin(|| "the server is read-only: transaction_read_only is on".to_owned(), 0, source);
    }

    fn begin(self: &Arc<Self>, words: impl FnOnce() -> String, failed: u64, source: &Source) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trouble) = now.as_mut() {
            trouble.failed += failed;
            return;
        }
        // Outside of a runtime no probe could end it.
        let Ok(runtime) = Handle::try_current() else { return };
        let words = words();
        tracing::error!(error = words, "the database cannot write");
        *now = Some(Trouble { words, since: Instant::now(), failed });
        runtime.spawn(probe_until_over(Arc::clone(self), source.clone()));
    }

    fn end(&self) {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Trouble { since, failed, .. }) = ended {
            tracing::info!(failed, seconds = since.elapsed().as_secs(), "the database can write again");
        }
    }
}

/// A load balancer sends no requests to a server that is not ready, so without a probe no request would show that it can write again.
async fn probe_until_over(watch: Arc<Watch>, source: Source) {
    loop {
        tokio::time::sleep(PROBE_INTERVAL).await;
        // Only this task is left, and the database is gone or closed.
        if Arc::strong_count(&watch) == 1 || source.is_closed() {
            return;
        }
        let probed = tokio::time::timeout(PROBE_TIMEOUT, probe(&source)).await;
        match probed {
            Ok(Ok(())) => return watch.end(),
            // Such as a role that may not create temporary tables. The next failure starts a new trouble.
            Ok(Err(error)) if !error.is_unavailable() => {
                tracing::debug!(%error, "the database could not be probed");
                return watch.end();
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// Commits a write that needs 256 KiB of new space, more than the batches that were written before it had left over, and
/// leaves nothing behind.
async fn probe(source: &Source) -> Result<(), DatabaseError> {
    /// PostgreSQL would reuse the space of a table of ours.
    const POSTGRES: [&str; 2] = [
        "SET LOCAL temp_tablespaces = ''",
        "CREATE TEMPORARY TABLE postrider_probe ON COMMIT DROP AS \
         SELECT repeat('x', 1000) AS filler FROM generate_series(1, 256)",
    ];
    /// A table that is dropped in the same transaction would not be written.
    const SQLITE: [&str; 3] = [
        "DROP TABLE IF EXISTS postrider_probe",
        "CREATE TABLE postrider_probe (filler blob)",
        "INSERT INTO postrider_probe VALUES (zeroblob(262144))",
    ];
    let run = async |statements: &[&str]| {
        let transaction = begin(source).await?;
        for statement in statements {
            transaction.execute_unprepared(statement).await?;
        }
        Ok(transaction.commit().await?)
    };
    match Dialect::of(&source.shared) {
        Dialect::Postgres => run(&POSTGRES).await,
        Dialect::Sqlite => {
            run(&SQLITE).await?;
            run(&SQLITE[..1]).await
        }
    }
}
