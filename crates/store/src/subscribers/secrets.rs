//! Secrets and headers of subscribers, which are encrypted at rest.

use std::time::Duration;

use postrider_core::keyring::{Purpose, SealContext};
use postrider_core::{CustomHeaders, IdGenerator, Keyring, Secret, SubscriberId, TenantId};
use postrider_database::DatabaseError;
use sea_orm::sea_query::Expr;
use sea_orm::{EntityTrait, QueryOrder, QuerySelect, Value};

use super::query::{find, update};
use crate::entity::subscribers;
use crate::row::parse;
use crate::{Store, StoreError};

impl Store {
    /// Returns a subscriber's secret.
    ///
    /// # Errors
    /// Fails if the database is unavailable or the secret cannot be decrypted.
    pub async fn secret(&self, tenant: &TenantId, id: SubscriberId) -> Result<Option<Secret>, StoreError> {
        let row = find(tenant, id).one(&self.database.reads()).await?;
        row.map(|row| open_secret(&self.keyring, tenant, id, Purpose::Secret, &row.secret)).transpose()
    }

    /// Gives a subscriber a new secret. During `overlap` deliveries are also signed with the old one.
    ///
    /// Returns whether the tenant has the subscriber.
    ///
    /// # Errors
    /// Fails if the database is unavailable or a secret cannot be encrypted or decrypted.
    pub async fn rotate_secret(
        &self,
        tenant: &TenantId,
        id: SubscriberId,
        secret: &Secret,
        overlap: Duration,
    ) -> Result<bool, StoreError> {
        let now = self.ids.clock().now();
        let transaction = self.database.begin().await?;
        // Of two concurrent rotations, the second must see the secret of the first.
        let Some(row) = find(tenant, id).lock_exclusive().one(&transaction).await? else { return Ok(false) };
        let old = open_secret(&self.keyring, tenant, id, Purpose::Secret, &row.secret)?;
        let seal = |purpose, secret: &Secret| {
            seal(&self.keyring, &self.ids, tenant, id, purpose, secret.expose().as_bytes())
        };
        let previous = if overlap.is_zero() { None } else { Some(seal(Purpose::PreviousSecret, &old)?) };
        let until = previous.is_some().then(|| (now + overlap).millis());
        update(tenant, id)
            .col_expr(subscribers::Column::Secret, Expr::val(seal(Purpose::Secret, secret)?))
            .col_expr(subscribers::Column::PreviousSecret, Expr::val(Value::Bytes(previous)))
            .col_expr(subscribers::Column::PreviousSecretUntil, Expr::val(Value::BigInt(until)))
            .col_expr(subscribers::Column::UpdatedAt, Expr::val(now.millis()))
            .exec(&transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Checks that the keyring decrypts what is stored, so that a wrong key is found at start-up rather than by the
    /// first delivery. It tries the newest subscriber's secret.
    ///
    /// # Errors
    /// Fails if the database is unavailable or that secret cannot be decrypted.
    pub async fn check_keyring(&self) -> Result<(), StoreError> {
        let newest = subscribers::Entity::find().order_by_desc(subscribers::Column::Id);
        if let Some(row) = newest.one(&self.database.reads()).await? {
            let id = SubscriberId::from_uuid(row.id);
            let tenant: TenantId = parse(&row.tenant, "subscribers", "tenant", id)?;
            open_secret(&self.keyring, &tenant, id, Purpose::Secret, &row.secret)?;
        }
        Ok(())
    }
}

/// Encrypts a value of a subscriber.
pub(super) fn seal(
    keyring: &Keyring,
    ids: &IdGenerator,
    tenant: &TenantId,
    id: SubscriberId,
    purpose: Purpose,
    plain: &[u8],
) -> Result<Vec<u8>, StoreError> {
    let context = SealContext { tenant, subscriber: id, purpose };
    Ok(keyring.seal(&**ids.random(), &context, plain)?)
}

/// Encrypts the headers of a subscriber. `None` if there are no headers.
pub(super) fn seal_headers(
    keyring: &Keyring,
    ids: &IdGenerator,
    tenant: &TenantId,
    id: SubscriberId,
    headers: &CustomHeaders,
) -> Result<Option<Vec<u8>>, StoreError> {
    if headers.is_empty() {
        return Ok(None);
    }
    seal(keyring, ids, tenant, id, Purpose::Headers, &headers.to_bytes()).map(Some)
}

/// Decrypts a secret of a subscriber.
pub(crate) fn open_secret(
    keyring: &Keyring,
    tenant: &TenantId,
    id: SubscriberId,
    purpose: Purpose,
    sealed: &[u8],
) -> Result<Secret, StoreError> {
    // The error of the parser is left out, because it could reveal a part of the secret.
    let inconsistent = |reason| DatabaseError::inconsistent("subscribers", "secret", id, reason);
    let plain = keyring.open(&SealContext { tenant, subscriber: id, purpose }, sealed)?;
    let text = std::str::from_utf8(&plain).map_err(|_| inconsistent("not UTF-8"))?;
    Ok(Secret::parse(text).map_err(|_| inconsistent("not a secret"))?)
}

/// Decrypts the headers of a subscriber.
pub(crate) fn open_headers(
    keyring: &Keyring,
    tenant: &TenantId,
    id: SubscriberId,
    sealed: Option<&[u8]>,
) -> Result<CustomHeaders, StoreError> {
    let Some(sealed) = sealed else { return Ok(CustomHeaders::default()) };
    let plain = keyring.open(&SealContext { tenant, subscriber: id, purpose: Purpose::Headers }, sealed)?;
    CustomHeaders::from_bytes(&plain)
        .map_err(|error| DatabaseError::inconsistent("subscribers", "headers", id, error).into())
}
