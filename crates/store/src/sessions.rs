//! Sessions of the web console: a key that somebody has shown once, for a while.
//!
//! A session is stored as the hash of its token. It is valid for as long as its key accepts the text that was shown, which the
//! caller checks.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use postrider_core::audit::AuditAction;
use postrider_core::key::KeyHash;
use postrider_core::{KeyId, TenantId, Timestamp};
use postrider_database::sql::{column, execute, query_all, query_one};
use postrider_database::{DatabaseError, Dialect};
use sea_orm::{QueryResult, Value};
use serde_json::json;
use uuid::Uuid;

use crate::row::parse;
use crate::{Store, StoreError};

/// How many sessions a key may have. One more ends the oldest.
pub const MAX_SESSIONS: u32 = 100;

/// The most rows that one statement removes, and how long one call removes rows.
const REMOVED_AT_ONCE: i64 = 1_000;
const RUN: Duration = Duration::from_secs(3);

const MINUTE: i64 = 60_000;

const COLUMNS: &str = "id, key_id, key_hash, tenant, created_at, last_seen, expires_at, address, user_agent";

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    /// The SHA-256 of its token.
    pub id: [u8; 32],
    /// Its key; `None` for the key in the server's environment.
    pub key: Option<KeyId>,
    /// The hash of the text that was shown.
    pub key_hash: KeyHash,
    /// The tenant of its key; `None` if it is an operator's.
    pub tenant: Option<TenantId>,
    /// When it began.
    pub created_at: Timestamp,
    /// The minute in which it was last used.
    pub last_seen_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The address from which it began.
    pub address: Option<IpAddr>,
    /// The browser, as it calls itself.
    pub user_agent: String,
}

/// Whose sessions a call concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionsOf<'a> {
    /// Those of all keys.
    Everyone,
    /// Those of the keys of a tenant.
    Tenant(&'a TenantId),
    /// Those of a key, or of the key in the server's environment.
    Key(Option<KeyId>),
}

impl SessionsOf<'_> {
    fn has(self, session: &Session) -> bool {
        match self {
            Self::Everyone => true,
            Self::Tenant(tenant) => session.tenant.as_ref() == Some(tenant),
            Self::Key(key) => session.key == key,
        }
    }
}

/// What stands for a session in the audit trail.
fn name(id: &[u8; 32]) -> String {
    id[..8].iter().fold("session-".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

fn owner(session: &Session) -> TenantId {
    session.tenant.clone().unwrap_or_else(TenantId::operator)
}

impl Store {
    /// Stores a new session, and ends the oldest one of its key if there are too many.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn create_session(&self, session: &Session) -> Result<(), StoreError> {
        let transaction = self.database.begin().await?;
        let values: [Value; 9] = [
            session.id.to_vec().into(),
            session.key.map(postrider_core::Id::uuid).into(),
            session.key_hash.as_bytes().to_vec().into(),
            session.tenant.as_ref().map(|tenant| tenant.as_str().to_owned()).into(),
            session.created_at.millis().into(),
            minute(session.last_seen_at).into(),
            session.expires_at.millis().into(),
            session.address.map(|address| address.to_string()).into(),
            session.user_agent.as_str().into(),
        ];
        let sql = format!("INSERT INTO sessions ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)");
        execute(&transaction, sql, values).await?;
        let (of, values) = match session.key {
            Some(key) => ("key_id = $1", vec![key.uuid().into()]),
            None => ("key_id IS NULL", Vec::new()),
        };
        let sql = format!(
            "DELETE FROM sessions WHERE id IN \
                (SELECT id FROM sessions WHERE {of} ORDER BY key_id DESC, expires_at DESC LIMIT 10 OFFSET {MAX_SESSIONS})"
        );
        execute(&transaction, sql, values).await?;
        let after = json!({
            "expires_at": session.expires_at.millis(),
            "user_agent": session.user_agent,
        });
        let (owner, name) = (owner(session), name(&session.id));
        self.audit(&transaction, &owner, AuditAction::SessionCreated, name, serde_json::Value::Null, after)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Returns a session that has not expired, and notes that it is used.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn session(&self, id: &[u8; 32]) -> Result<Option<Session>, StoreError> {
        let now = self.ids.clock().now();
        let Some(session) = self.find_session(id).await?.filter(|session| session.expires_at > now) else {
            return Ok(None);
        };
        let minute = minute(now);
        if session.last_seen_at.millis() < minute {
            let sql = "UPDATE sessions SET last_seen = $2 WHERE id = $1 AND last_seen < $2";
            execute(self.database.connection(), sql, [id.to_vec().into(), minute.into()]).await?;
        }
        Ok(Some(session))
    }

    /// Returns the newest sessions that have not expired, at most `limit`.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn sessions(&self, of: SessionsOf<'_>, limit: u16) -> Result<Vec<Session>, StoreError> {
        let now: Value = self.ids.clock().now().millis().into();
        let (filter, order, values): (_, _, Vec<Value>) = match of {
            SessionsOf::Everyone => ("", "expires_at DESC", vec![now]),
            SessionsOf::Tenant(tenant) => {
                ("tenant = $2 AND ", "tenant DESC, expires_at DESC", vec![now, tenant.as_str().into()])
            }
            SessionsOf::Key(Some(key)) => {
                ("key_id = $2 AND ", "key_id DESC, expires_at DESC", vec![now, key.uuid().into()])
            }
            SessionsOf::Key(None) => ("key_id IS NULL AND ", "key_id DESC, expires_at DESC", vec![now]),
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM sessions WHERE {filter}expires_at > $1 ORDER BY {order} LIMIT {limit}"
        );
        let rows = query_all(&self.database.reads(), sql, values).await?;
        rows.iter().map(read).collect()
    }

    /// Ends a session. Returns `false` if there is no such session.
    ///
    /// # Errors
    /// Fails if the database is unavailable. The session may have ended all the same.
    pub async fn revoke_session(&self, of: SessionsOf<'_>, id: &[u8; 32]) -> Result<bool, StoreError> {
        let Some(session) = self.find_session(id).await?.filter(|session| of.has(session)) else {
            return Ok(false);
        };
        let transaction = self.database.begin().await?;
        let sql = "DELETE FROM sessions WHERE id = $1";
        if execute(&transaction, sql, [id.to_vec().into()]).await? == 0 {
            return Ok(false);
        }
        let before = json!({"created_at": session.created_at.millis(), "user_agent": session.user_agent});
        let (owner, name) = (owner(&session), name(id));
        self.audit(&transaction, &owner, AuditAction::SessionRevoked, name, before, serde_json::Value::Null)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Removes sessions that have expired, for a few seconds at most. Returns how many.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn remove_expired_sessions(&self) -> Result<u64, StoreError> {
        let (place, of, lock) = match self.database.dialect() {
            Dialect::Postgres => ("ctid", "= ANY (ARRAY", " FOR UPDATE SKIP LOCKED"),
            Dialect::Sqlite => ("rowid", "IN (", ""),
        };
        let old = format!(
            "SELECT {place} FROM sessions WHERE expires_at <= $1 ORDER BY expires_at LIMIT {REMOVED_AT_ONCE}{lock}"
        );
        let sql = format!("DELETE FROM sessions WHERE {place} {of}({old}))");
        let now = self.ids.clock().now().millis();
        let until = Instant::now() + RUN;
        let mut removed = 0;
        loop {
            let gone = execute(self.database.connection(), sql.as_str(), [now.into()]).await?;
            removed += gone;
            if gone < REMOVED_AT_ONCE.unsigned_abs() || Instant::now() >= until {
                return Ok(removed);
            }
        }
    }

    async fn find_session(&self, id: &[u8; 32]) -> Result<Option<Session>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM sessions WHERE id = $1");
        let row = query_one(&self.database.reads(), sql, [id.to_vec().into()]).await?;
        row.as_ref().map(read).transpose()
    }
}

fn minute(moment: Timestamp) -> i64 {
    moment.millis().div_euclid(MINUTE) * MINUTE
}

fn read(row: &QueryResult) -> Result<Session, StoreError> {
    let bytes = |name: &'static str| -> Result<[u8; 32], StoreError> {
        let bytes: Vec<u8> = column(row, name)?;
        let wrong = |_| DatabaseError::inconsistent("sessions", name, "a session", "not 32 bytes".to_owned());
        Ok(<[u8; 32]>::try_from(bytes).map_err(wrong)?)
    };
    let key: Option<Uuid> = column(row, "key_id")?;
    let hash = bytes("key_hash")?;
    let tenant: Option<String> = column(row, "tenant")?;
    let address: Option<String> = column(row, "address")?;
    let time = |name: &'static str| Ok::<_, StoreError>(Timestamp::from_millis(column(row, name)?));
    Ok(Session {
        id: bytes("id")?,
        key: key.map(KeyId::from_uuid),
        key_hash: KeyHash::from_bytes(&hash).ok_or_else(|| {
            DatabaseError::inconsistent("sessions", "key_hash", "a session", "not 32 bytes".to_owned())
        })?,
        tenant: tenant.map(|tenant| parse(&tenant, "sessions", "tenant", "a session")).transpose()?,
        created_at: time("created_at")?,
        last_seen_at: time("last_seen")?,
        expires_at: time("expires_at")?,
        address: address.map(|address| parse(&address, "sessions", "address", "a session")).transpose()?,
        user_agent: column(row, "user_agent")?,
    })
}
