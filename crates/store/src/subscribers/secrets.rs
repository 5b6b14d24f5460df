//! Secrets and headers of subscribers, which are encrypted at rest.

use std::time::Duration;

use postrider_core::audit::AuditAction;
use postrider_core::keyring::{Purpose, SealContext};
use postrider_core::{
    CustomHeaders, IdGenerator, Keyring, ReceiverAuth, Secret, SubscriberId, TenantId, Timestamp,
};
use postrider_database::DatabaseError;
use sea_orm::sea_query::Expr;
use sea_orm::{EntityTrait, QueryOrder, QuerySelect, Value};
use serde_json::Value as Json;

use super::previous::{PreviousSecret, after_rotation, from_bytes, to_bytes};
use super::query::{find, update};
use super::subscriber::{NewAuth, Rotated};
use crate::entity::subscribers;
use crate::row::parse;
use crate::{Store, StoreError};

impl Store {
    /// Returns a subscriber's secret, and the replaced ones that still sign, newest first. With an auditor, they
    /// are returned only once it is written that they were read.
    ///
    /// # Errors
    /// Fails if the database is unavailable or a secret cannot be decrypted.
    pub async fn secret(
        &self,
        tenant: &TenantId,
        id: SubscriberId,
    ) -> Result<Option<(Secret, Vec<PreviousSecret>)>, StoreError> {
        let Some(row) = find(tenant, id).one(&self.database.reads()).await? else { return Ok(None) };
        let connection = self.database.connection();
        self.audit(connection, tenant, AuditAction::SecretRead, id, Json::Null, Json::Null).await?;
        let secret = open_secret(&self.keyring, tenant, id, Purpose::Secret, &row.secret)?;
        let now = self.ids.clock().now();
        let mut previous = open_previous(&self.keyring, tenant, id, &row)?;
        previous.retain(|previous| previous.until > now);
        Ok(Some((secret, previous)))
    }

    /// Gives a subscriber a new secret. During `overlap` deliveries are also signed with the present one, and with those
    /// before it for as long as was asked for then; without an overlap with none of them.
    ///
    /// If the keyring lacks the key of the present secret, nothing can be signed with it, and there is no overlap.
    ///
    /// # Errors
    /// Fails if the database is unavailable or a secret cannot be encrypted.
    pub async fn rotate_secret(
        &self,
        tenant: &TenantId,
        id: SubscriberId,
        secret: &Secret,
        overlap: Duration,
    ) -> Result<Rotated, StoreError> {
        let now = self.ids.clock().now();
        let transaction = self.database.begin().await?;
        // Of two concurrent rotations, the second must see the secret of the first.
        let Some(row) = find(tenant, id).lock_exclusive().one(&transaction).await? else {
            return Ok(Rotated::Missing);
        };
        let present = if_opened(open_secret(&self.keyring, tenant, id, Purpose::Secret, &row.secret))?;
        let previous = if_opened(open_previous(&self.keyring, tenant, id, &row))?.unwrap_or_default();
        let Some(previous) = after_rotation(present, previous, overlap, now) else {
            return Ok(Rotated::TooManyPrevious);
        };
        let seal = |purpose, plain: &[u8]| seal(&self.keyring, &self.ids, tenant, id, purpose, plain);
        let (newest, older) = match previous.split_first() {
            Some((newest, older)) => (Some(newest), older),
            None => (None, &[][..]),
        };
        let sealed_newest = newest
            .map(|newest| seal(Purpose::PreviousSecret, newest.secret.expose().as_bytes()))
            .transpose()?;
        let sealed_older = match older {
            [] => None,
            older => Some(seal(Purpose::OlderSecrets, &to_bytes(older))?),
        };
        let newest_until = newest.map(|newest| newest.until.millis());
        let older_until = older.iter().map(|older| older.until.millis()).max();
        let before = self.subscriber_json(&transaction, tenant, id).await?;
        update(tenant, id)
            .col_expr(
                subscribers::Column::Secret,
                Expr::val(seal(Purpose::Secret, secret.expose().as_bytes())?),
            )
            .col_expr(subscribers::Column::PreviousSecret, Expr::val(Value::Bytes(sealed_newest)))
            .col_expr(subscribers::Column::PreviousSecretUntil, Expr::val(Value::BigInt(newest_until)))
            .col_expr(subscribers::Column::OlderSecrets, Expr::val(Value::Bytes(sealed_older)))
            .col_expr(subscribers::Column::OlderSecretsUntil, Expr::val(Value::BigInt(older_until)))
            .col_expr(subscribers::Column::UpdatedAt, Expr::val(now.millis()))
            .exec(&transaction)
            .await?;
        let after = self.subscriber_json(&transaction, tenant, id).await?;
        self.audit(&transaction, tenant, AuditAction::SecretRotated, id, before, after).await?;
        transaction.commit().await?;
        Ok(Rotated::Done(previous))
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

/// What was decrypted; `None` if the keyring lacks the key.
fn if_opened<T>(opened: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(StoreError::Keyring(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Decrypts the replaced secrets of a subscriber, newest first. Some may have stopped signing.
fn open_previous(
    keyring: &Keyring,
    tenant: &TenantId,
    id: SubscriberId,
    row: &subscribers::Model,
) -> Result<Vec<PreviousSecret>, StoreError> {
    let mut all = Vec::new();
    if let (Some(sealed), Some(until)) = (&row.previous_secret, row.previous_secret_until) {
        let secret = open_secret(keyring, tenant, id, Purpose::PreviousSecret, sealed)?;
        all.push(PreviousSecret { secret, until: Timestamp::from_millis(until) });
    }
    if let Some(sealed) = &row.older_secrets {
        all.extend(open_older(keyring, tenant, id, sealed)?);
    }
    Ok(all)
}

/// Decrypts the secrets that were replaced before the previous one, newest first.
pub(crate) fn open_older(
    keyring: &Keyring,
    tenant: &TenantId,
    id: SubscriberId,
    sealed: &[u8],
) -> Result<Vec<PreviousSecret>, StoreError> {
    let plain =
        keyring.open(&SealContext { tenant, id: id.uuid(), purpose: Purpose::OlderSecrets }, sealed)?;
    from_bytes(&plain).ok_or_else(|| {
        DatabaseError::inconsistent("subscribers", "older_secrets", id, "not a list of secrets").into()
    })
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
    let context = SealContext { tenant, id: id.uuid(), purpose };
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

/// Encrypts how a subscriber's receiver is authenticated to. `None` if it is not.
pub(super) fn seal_auth(
    keyring: &Keyring,
    ids: &IdGenerator,
    tenant: &TenantId,
    id: SubscriberId,
    new: Option<&NewAuth>,
) -> Result<Option<Vec<u8>>, StoreError> {
    new.map(|new| seal(keyring, ids, tenant, id, Purpose::Auth, &new.auth.to_bytes())).transpose()
}

/// Decrypts how a subscriber's receiver is authenticated to.
pub(crate) fn open_auth(
    keyring: &Keyring,
    tenant: &TenantId,
    id: SubscriberId,
    sealed: Option<&[u8]>,
) -> Result<Option<ReceiverAuth>, StoreError> {
    let Some(sealed) = sealed else { return Ok(None) };
    let plain = keyring.open(&SealContext { tenant, id: id.uuid(), purpose: Purpose::Auth }, sealed)?;
    let unreadable = || DatabaseError::inconsistent("subscribers", "auth", id, "not an authentication");
    Ok(Some(ReceiverAuth::from_bytes(&plain).ok_or_else(unreadable)?))
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
    let plain = keyring.open(&SealContext { tenant, id: id.uuid(), purpose }, sealed)?;
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
    let plain = keyring.open(&SealContext { tenant, id: id.uuid(), purpose: Purpose::Headers }, sealed)?;
    CustomHeaders::from_bytes(&plain)
        .map_err(|error| DatabaseError::inconsistent("subscribers", "headers", id, error).into())
}
