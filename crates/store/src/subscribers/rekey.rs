//! Encrypting the secrets, headers and authentication of subscribers under a new key.

use postrider_core::keyring::{Purpose, SealContext};
use postrider_core::{SubscriberId, TenantId};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Value};

use crate::entity::subscribers;
use crate::row::parse;
use crate::{Store, StoreError};

/// The most subscribers that one transaction re-encrypts.
const REKEYED_AT_ONCE: u64 = 200;

/// The result of [`Store::rekey`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rekeyed {
    /// Subscribers with a value that was re-encrypted.
    pub resealed: u64,
    /// Egress proxies of tenants that were re-encrypted.
    pub proxies: u64,
    /// Subscribers whose values were all encrypted under the first key already.
    pub current: u64,
}

/// Why re-encryption stopped. Earlier batches stay re-encrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RekeyError {
    /// A value of a subscriber cannot be decrypted with any key of the keyring.
    #[error("cannot decrypt a secret of {id} with any key of the keyring; is an older key missing?")]
    Unopened {
        /// The subscriber.
        id: SubscriberId,
        /// Why decryption failed.
        source: StoreError,
    },
    /// The egress proxy of a tenant cannot be decrypted with any key of the keyring.
    #[error(
        "cannot decrypt the egress proxy of the tenant {0} with any key of the keyring; is an older key missing?"
    )]
    UnopenedProxy(TenantId),
    /// The database failed, or holds a value that the program cannot read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Encrypts the secrets, headers and authentication of all subscribers, and the egress proxies of tenants, under the keyring's
    /// first key. It may run while programs
    /// that have both keys work, and may be repeated.
    ///
    /// # Errors
    /// Fails if the database is unavailable or a value cannot be decrypted with any of the keys.
    pub async fn rekey(&self) -> Result<Rekeyed, RekeyError> {
        let proxies = self.rekey_proxies().await?.map_err(RekeyError::UnopenedProxy)?;
        let mut rekeyed = Rekeyed { proxies, ..Rekeyed::default() };
        let mut after = None;
        loop {
            let rows = self.rekey_batch(after, &mut rekeyed).await?;
            let Some(last) = rows else { return Ok(rekeyed) };
            after = Some(last);
        }
    }

    /// Re-encrypts the values of the next subscribers, and returns the last of them; `None` if there were none.
    async fn rekey_batch(
        &self,
        after: Option<SubscriberId>,
        rekeyed: &mut Rekeyed,
    ) -> Result<Option<SubscriberId>, RekeyError> {
        let transaction = self.database.begin().await.map_err(StoreError::from)?;
        let mut query = subscribers::Entity::find()
            .order_by_asc(subscribers::Column::Id)
            .limit(REKEYED_AT_ONCE)
            // Makes a concurrent rotation wait, so that its secret is not overwritten.
            .lock_exclusive();
        if let Some(after) = after {
            query = query.filter(subscribers::Column::Id.gt(after.uuid()));
        }
        let rows = query.all(&transaction).await.map_err(StoreError::from)?;
        let last = rows.last().map(|row| SubscriberId::from_uuid(row.id));
        for row in rows {
            let id = SubscriberId::from_uuid(row.id);
            let resealed = self.reseal(id, &row).map_err(|source| RekeyError::Unopened { id, source })?;
            let Some([secret, previous, older, headers, auth]) = resealed else {
                rekeyed.current += 1;
                continue;
            };
            subscribers::Entity::update_many()
                .filter(subscribers::Column::Id.eq(row.id))
                .col_expr(subscribers::Column::Secret, Expr::val(Value::Bytes(secret)))
                .col_expr(subscribers::Column::PreviousSecret, Expr::val(Value::Bytes(previous)))
                .col_expr(subscribers::Column::OlderSecrets, Expr::val(Value::Bytes(older)))
                .col_expr(subscribers::Column::Headers, Expr::val(Value::Bytes(headers)))
                .col_expr(subscribers::Column::Auth, Expr::val(Value::Bytes(auth)))
                .exec(&transaction)
                .await
                .map_err(StoreError::from)?;
            rekeyed.resealed += 1;
        }
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(last)
    }

    /// The secret, the replaced secrets, the headers and the authentication, encrypted under the first key. `None` if they were already.
    fn reseal(
        &self,
        id: SubscriberId,
        row: &subscribers::Model,
    ) -> Result<Option<[Option<Vec<u8>>; 5]>, StoreError> {
        let tenant: TenantId = parse(&row.tenant, "subscribers", "tenant", id)?;
        let mut changed = false;
        let mut reseal = |purpose, sealed: Option<&[u8]>| -> Result<Option<Vec<u8>>, StoreError> {
            let Some(sealed) = sealed else { return Ok(None) };
            let context = SealContext { tenant: &tenant, id: id.uuid(), purpose };
            let resealed = self.keyring.reseal(&**self.ids.random(), &context, sealed)?;
            changed |= resealed.is_some();
            Ok(Some(resealed.unwrap_or_else(|| sealed.to_vec())))
        };
        let all = [
            reseal(Purpose::Secret, Some(&row.secret))?,
            reseal(Purpose::PreviousSecret, row.previous_secret.as_deref())?,
            reseal(Purpose::OlderSecrets, row.older_secrets.as_deref())?,
            reseal(Purpose::Headers, row.headers.as_deref())?,
            reseal(Purpose::Auth, row.auth.as_deref())?,
        ];
        Ok(changed.then_some(all))
    }
}
