//! Requests that are carried out once, however often they are repeated.
//!
//! A request takes its key, is carried out, and leaves its answer for repeats. Its change and the note that it is done are
//! one transaction, which also checks that no repeat has taken the key over. So a change happens at most once, whatever
//! becomes of the server. Only the answer can be lost, if the server dies right after the commit.

use std::time::{Duration, Instant};

use postrider_core::keyring::{Purpose, SealContext};
use postrider_database::Dialect;
use postrider_database::sql::{column, execute, query_one};
use sea_orm::{ConnectionTrait, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

pub use crate::auditor::RequestKey;
use crate::{Store, StoreError};

/// For how long nobody else carries a request out. Longer than a request may take.
const LEASE: Duration = Duration::from_mins(2);

/// For how long answers are kept.
const RETENTION: Duration = Duration::from_hours(24);

/// The most rows that one statement removes, and how long one call removes rows.
const REMOVED_AT_ONCE: i64 = 1_000;
const RUN: Duration = Duration::from_secs(3);

/// What is known of a request.
#[derive(Debug)]
pub enum TakenKey {
    /// Nothing: carry it out.
    New,
    /// It was answered.
    Answered(Zeroizing<Vec<u8>>),
    /// It is being carried out.
    Running,
    /// It was carried out. Its answer is lost.
    AnswerLost,
    /// The key was used for another request.
    Other,
}

impl RequestKey {
    fn name(&self) -> [Value; 3] {
        [self.tenant.as_str().into(), self.actor.as_str().into(), self.key.as_str().into()]
    }

    fn context(&self, token: Uuid) -> SealContext<'_> {
        SealContext { tenant: &self.tenant, id: token, purpose: Purpose::Answer }
    }
}

impl Store {
    /// Takes the key of a request, whose hash is `request`, or tells what is known of it.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn take_request_key(
        &self,
        key: &RequestKey,
        request: &[u8; 32],
    ) -> Result<TakenKey, StoreError> {
        let (now, lease, age) = (self.database.dialect().now(), LEASE.as_millis(), RETENTION.as_millis());
        let sql = format!(
            "INSERT INTO request_keys (tenant, actor, key, request, token, lease_until, created_at)
             VALUES ($1, $2, $3, $4, $5, {now} + {lease}, {now})
             ON CONFLICT (tenant, actor, key) DO UPDATE SET request = excluded.request, token = excluded.token,
                 lease_until = excluded.lease_until, done = false, answer = NULL, created_at = excluded.created_at
             WHERE request_keys.created_at < {now} - {age} OR NOT request_keys.done AND request_keys.lease_until < {now}"
        );
        let [tenant, actor, name] = key.name();
        let values = [tenant, actor, name, request.to_vec().into(), key.token.into()];
        if execute(self.database.connection(), sql, values).await? > 0 {
            return Ok(TakenKey::New);
        }
        let sql = format!(
            "SELECT request, token, done AND lease_until < {now} AS is_lost, answer FROM request_keys
             WHERE tenant = $1 AND actor = $2 AND key = $3"
        );
        // Removed in this moment: the caller repeats.
        let row = query_one(self.database.connection(), sql, key.name()).await?;
        let Some(row) = row else { return Ok(TakenKey::Running) };
        if column::<Vec<u8>>(&row, "request")? != request {
            return Ok(TakenKey::Other);
        }
        let token: Uuid = column(&row, "token")?;
        if let Some(sealed) = column::<Option<Vec<u8>>>(&row, "answer")? {
            // The key that sealed it may have been replaced.
            let opened = self.keyring.open(&key.context(token), &sealed);
            return Ok(opened.map_or(TakenKey::AnswerLost, TakenKey::Answered));
        }
        Ok(if column(&row, "is_lost")? { TakenKey::AnswerLost } else { TakenKey::Running })
    }

    /// Keeps the answer to a request that was carried out.
    ///
    /// # Errors
    /// Fails if the database is unavailable or the answer cannot be encrypted.
    pub async fn keep_answer(&self, key: &RequestKey, answer: &[u8]) -> Result<(), StoreError> {
        let sealed = self.keyring.seal(&**self.ids.random(), &key.context(key.token), answer)?;
        let sql = "UPDATE request_keys SET done = true, answer = $5 \
            WHERE tenant = $1 AND actor = $2 AND key = $3 AND token = $4";
        let [tenant, actor, name] = key.name();
        let values = [tenant, actor, name, key.token.into(), sealed.into()];
        execute(self.database.connection(), sql, values).await?;
        Ok(())
    }

    /// Gives a key back whose request has changed nothing.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn give_back_request_key(&self, key: &RequestKey) -> Result<(), StoreError> {
        let sql = "DELETE FROM request_keys \
            WHERE tenant = $1 AND actor = $2 AND key = $3 AND token = $4 AND NOT done";
        let [tenant, actor, name] = key.name();
        execute(self.database.connection(), sql, [tenant, actor, name, key.token.into()]).await?;
        Ok(())
    }

    /// Notes in the transaction of a change that its request is done.
    ///
    /// # Errors
    /// Fails with [`StoreError::TakenOver`] if a repeat of the request has taken its key.
    pub(crate) async fn fence(
        &self,
        transaction: &impl ConnectionTrait,
        key: &RequestKey,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE request_keys SET done = true \
            WHERE tenant = $1 AND actor = $2 AND key = $3 AND token = $4";
        let [tenant, actor, name] = key.name();
        let noted = execute(transaction, sql, [tenant, actor, name, key.token.into()]).await?;
        if noted == 0 { Err(StoreError::TakenOver) } else { Ok(()) }
    }

    /// Removes keys of requests that were taken more than 24 hours ago, for a few seconds at most. Returns how many.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn remove_old_request_keys(&self) -> Result<u64, StoreError> {
        let (place, of, lock) = match self.database.dialect() {
            Dialect::Postgres => ("ctid", "= ANY (ARRAY", " FOR UPDATE SKIP LOCKED"),
            Dialect::Sqlite => ("rowid", "IN (", ""),
        };
        let (now, age) = (self.database.dialect().now(), RETENTION.as_millis());
        let old = format!(
            "SELECT {place} FROM request_keys WHERE created_at < {now} - {age} ORDER BY created_at LIMIT {REMOVED_AT_ONCE}{lock}"
        );
        let sql = format!("DELETE FROM request_keys WHERE {place} {of}({old}))");
        let until = Instant::now() + RUN;
        let mut removed = 0;
        loop {
            let gone = execute(self.database.connection(), sql.as_str(), []).await?;
            removed += gone;
            if gone < REMOVED_AT_ONCE.unsigned_abs() || Instant::now() >= until {
                return Ok(removed);
            }
        }
    }
}
