//! API keys: created, found, changed, rotated and revoked.
//!
//! A key is stored as the hash of its text. Rotating gives it a new text; the hashes of earlier ones stay accepted for a
//! while. A revoked key stays listed, so that everyone can see what it was.
//!
//! | file | what it does |
//! |---|---|
//! | `describe` | what the audit trail says about a key |
//! | `stored` | between rows and keys |
//! | `used` | when keys were used last |

mod describe;
mod heard;
mod stored;
mod used;

use postrider_core::audit::AuditAction;
use postrider_core::key::{KeyHash, NewKey, Powers};
use postrider_core::{KeyId, TenantId, Timestamp, id};
use postrider_database::sql::{column, lock_clause, query_all, query_one};
use sea_orm::ConnectionTrait;
use serde_json::Value;

use self::describe::described;
use crate::page::{Page, PageRequest};
use crate::{Store, StoreError};

/// A key, without its text.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// A name for people.
    pub name: String,
    /// What it may do.
    pub powers: Powers,
    /// When it was created.
    pub created_at: Timestamp,
    /// Who created it: the id of a key, or another word.
    pub created_by: String,
    /// When it was revoked; `None` if it was not.
    pub revoked_at: Option<Timestamp>,
    /// The minute in which it was used last; `None` if it never was.
    pub last_used_at: Option<Timestamp>,
    hash: KeyHash,
    /// Hashes of earlier texts, and until when they are accepted.
    previous: Vec<(KeyHash, Timestamp)>,
}

/// There are too many earlier texts of a key that are still accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} earlier texts of the key are still accepted; wait until one of them is not",
    ApiKey::MOST_PREVIOUS
)]
pub struct TooManyPrevious;

impl ApiKey {
    /// The most earlier texts of a key that are accepted at once.
    pub const MOST_PREVIOUS: usize = 10;

    /// A key to create.
    pub fn new(
        key: &NewKey,
        name: String,
        powers: Powers,
        created_at: Timestamp,
        created_by: String,
    ) -> Self {
        Self {
            id: key.id(),
            name,
            powers,
            created_at,
            created_by,
            revoked_at: None,
            last_used_at: None,
            hash: key.hash(),
            previous: Vec::new(),
        }
    }

    /// Returns whether a text with this hash is this key's, now or since a rotation whose overlap goes on. Compares with
    /// all of them in constant time.
    pub fn accepts(&self, hash: &KeyHash, now: Timestamp) -> bool {
        let earlier = self.previous.iter().filter(|(_, until)| *until > now);
        earlier.fold(self.hash.matches(hash), |found, (earlier, _)| earlier.matches(hash) | found)
    }

    /// Gives the key a new text. The one before is accepted until `until`.
    ///
    /// # Errors
    /// Fails if too many earlier ones are still accepted. Then nothing has changed.
    pub fn rotate(&mut self, new: &NewKey, now: Timestamp, until: Timestamp) -> Result<(), TooManyPrevious> {
        let mut previous = self.previous.clone();
        previous.retain(|(_, until)| *until > now);
        if until > now {
            previous.push((self.hash, until));
        }
        if previous.len() > Self::MOST_PREVIOUS {
            return Err(TooManyPrevious);
        }
        (self.hash, self.previous) = (new.hash(), previous);
        Ok(())
    }
}

/// Whose keys a call concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysOf<'a> {
    /// Those of every tenant, and of operators.
    Everyone,
    /// Those of a tenant.
    Tenant(&'a TenantId),
}

impl KeysOf<'_> {
    fn has(self, key: &ApiKey) -> bool {
        match self {
            Self::Everyone => true,
            Self::Tenant(tenant) => key.powers.tenant.as_ref() == Some(tenant),
        }
    }
}

/// The most keys that a tenant, or the operators together, may have.
pub const MAX_KEYS: u32 = 1_000;

impl Store {
    /// Stores a new key. Returns `false`, and stores nothing, if its tenant or the operators have [`MAX_KEYS`] that are neither
    /// revoked nor expired. Several requests at once may exceed that a little.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn create_key(&self, key: &ApiKey) -> Result<bool, StoreError> {
        let transaction = self.database.begin().await?;
        // In the order of an index, so that no plan reads the keys of others.
        let ends = "coalesce(expires_at, 9223372036854775807)";
        let (of, order, name) = match &key.powers.tenant {
            Some(tenant) => ("tenant BETWEEN $2 AND $2", "tenant, id", tenant.as_str()),
            None => ("kind = 1 AND $2 = ''", ends, ""),
        };
        let sql = format!(
            "SELECT count(*) AS keys FROM (SELECT 1 FROM api_keys WHERE {of} AND revoked_at IS NULL AND {ends} > $1 \
                ORDER BY {order} LIMIT {MAX_KEYS}) AS valid"
        );
        let now = self.ids.clock().now().millis();
        let row = query_one(&transaction, sql, [now.into(), name.into()]).await?;
        if row.map(|row| column::<i64>(&row, "keys")).transpose()?.unwrap_or(0) >= i64::from(MAX_KEYS) {
            return Ok(false);
        }
        stored::insert(&transaction, key).await?;
        let (owner, after) = (owner(key), described(key));
        self.audit(&transaction, &owner, AuditAction::KeyCreated, key.id, Value::Null, after).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Returns a key.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn key(&self, of: KeysOf<'_>, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        Ok(find(&self.database.reads(), id, "").await?.filter(|key| of.has(key)))
    }

    /// Returns a page of keys, newest first.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn keys(
        &self,
        of: KeysOf<'_>,
        page: PageRequest<id::Key>,
    ) -> Result<Page<ApiKey, id::Key>, StoreError> {
        let before: sea_orm::Value = page.before.map_or(uuid::Uuid::max(), postrider_core::Id::uuid).into();
        let (filter, values) = match of {
            KeysOf::Everyone => ("", vec![before]),
            KeysOf::Tenant(tenant) => ("tenant = $2 AND ", vec![before, tenant.as_str().into()]),
        };
        let (columns, limit) = (stored::COLUMNS, page.rows());
        let sql =
            format!("SELECT {columns} FROM api_keys WHERE {filter}id < $1 ORDER BY id DESC LIMIT {limit}");
        let rows = query_all(&self.database.reads(), sql, values).await?;
        let keys = rows.iter().map(stored::read).collect::<Result<_, _>>()?;
        Ok(Page::cut(keys, page.limit, |key| key.id))
    }

    /// Changes a key with what `change` makes of it, which is an `action`. Returns what it is then, or `None` if there is no
    /// such key.
    ///
    /// # Errors
    /// Fails if the database is unavailable, or with the error of `change`. Then nothing has changed.
    pub async fn change_key<E>(
        &self,
        of: KeysOf<'_>,
        id: KeyId,
        action: AuditAction,
        change: impl FnOnce(&mut ApiKey) -> Result<(), E>,
    ) -> Result<Option<ApiKey>, E>
    where
        E: From<StoreError>,
    {
        let finding = async {
            let transaction = self.database.begin().await?;
            let found = find(&transaction, id, lock_clause(self.database.dialect())).await?;
            Ok::<_, StoreError>((transaction, found.filter(|key| of.has(key))))
        };
        let (transaction, found) = finding.await?;
        let Some(mut key) = found else { return Ok(None) };
        let before = described(&key);
        change(&mut key)?;
        let writing = async {
            stored::update(&transaction, &key).await?;
            heard::tell(&transaction, id).await?;
            self.audit(&transaction, &owner(&key), action, id, before, described(&key)).await?;
            transaction.commit().await?;
            Ok::<_, StoreError>(())
        };
        writing.await?;
        Ok(Some(key))
    }

    /// Revokes a key. Returns `false` if there is no such key. May be repeated.
    ///
    /// # Errors
    /// Fails if the database is unavailable. The key may have been revoked all the same.
    pub async fn revoke_key(&self, of: KeysOf<'_>, id: KeyId) -> Result<bool, StoreError> {
        let revoke = |key: &mut ApiKey| {
            key.revoked_at = key.revoked_at.or(Some(self.ids.clock().now()));
            Ok::<_, StoreError>(())
        };
        Ok(self.change_key(of, id, AuditAction::KeyRevoked, revoke).await?.is_some())
    }

    /// Returns whether an operator has a key that is valid now.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn has_operator_key(&self) -> Result<bool, StoreError> {
        let now = self.ids.clock().now().millis();
        let sql = "SELECT 1 AS one FROM api_keys \
            WHERE kind = 1 AND revoked_at IS NULL AND coalesce(expires_at, 9223372036854775807) > $1 \
            ORDER BY coalesce(expires_at, 9223372036854775807) LIMIT 1";
        Ok(query_one(&self.database.reads(), sql, [now.into()]).await?.is_some())
    }
}

/// The tenant whose audit trail has what is done to a key.
fn owner(key: &ApiKey) -> TenantId {
    key.powers.tenant.clone().unwrap_or_else(TenantId::operator)
}

async fn find(
    connection: &impl ConnectionTrait,
    id: KeyId,
    lock: &str,
) -> Result<Option<ApiKey>, StoreError> {
    let sql = format!("SELECT {} FROM api_keys WHERE id = $1{lock}", stored::COLUMNS);
    query_one(connection, sql, [id.uuid().into()]).await?.as_ref().map(stored::read).transpose()
}
