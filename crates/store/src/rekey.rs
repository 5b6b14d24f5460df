//! Sealing anew what is sealed under an older key.

use postrider_core::keyring::{Purpose, SealContext};
use postrider_core::{SubscriberId, TenantId};
use postrider_database::Dialect;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Value};

use crate::entity::subscribers;
use crate::row::parse;
use crate::{Store, StoreError};

/// How many subscribers one transaction seals anew.
const BATCH: u64 = 200;

/// What came of sealing anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rekeyed {
    /// Subscribers of which something was sealed anew.
    pub resealed: u64,
    /// Subscribers of which all was sealed under the first key already.
    pub current: u64,
}

/// Why sealing anew stopped. The batches before stay sealed anew.
#[derive(Debug, thiserror::Error)]
pub enum RekeyError {
    /// What is stored of a subscriber opens under none of the keys.
    #[error(
        "what is stored of {id} opens under none of the keys in POSTRIDER_SECRET_KEY; is an older one missing?"
    )]
    Unopened {
        /// The subscriber.
        id: SubscriberId,
        /// Why.
        source: StoreError,
    },
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Seals the secrets and headers of all subscribers under the keyring's first key. May run while
    /// programs that know both keys work, and may be run again.
    ///
    /// # Errors
    /// If the database is away, or something opens under none of the keys.
    pub async fn rekey(&self) -> Result<Rekeyed, RekeyError> {
        let mut rekeyed = Rekeyed::default();
        let mut after = None;
        loop {
            let rows = self.rekey_batch(after, &mut rekeyed).await?;
            let Some(last) = rows else { return Ok(rekeyed) };
            after = Some(last);
        }
    }

    /// Returns the last subscriber of the batch; none if there was none.
    async fn rekey_batch(
        &self,
        after: Option<SubscriberId>,
        rekeyed: &mut Rekeyed,
    ) -> Result<Option<SubscriberId>, RekeyError> {
        let transaction = self.database.begin().await.map_err(StoreError::from)?;
        let mut query = subscribers::Entity::find().order_by_asc(subscribers::Column::Id).limit(BATCH);
        if let Some(after) = after {
            query = query.filter(subscribers::Column::Id.gt(after.uuid()));
        }
        if self.database.dialect() == Dialect::Postgres {
            // A rotation at the same time waits, and is not overwritten.
            query = query.lock_exclusive();
        }
        let rows = query.all(&transaction).await.map_err(StoreError::from)?;
        let last = rows.last().map(|row| SubscriberId::from_uuid(row.id));
        for row in rows {
            let id = SubscriberId::from_uuid(row.id);
            let resealed = self.reseal(id, &row).map_err(|source| RekeyError::Unopened { id, source })?;
            let Some([secret, previous, headers]) = resealed else {
                rekeyed.current += 1;
                continue;
            };
            subscribers::Entity::update_many()
                .filter(subscribers::Column::Id.eq(row.id))
                .col_expr(subscribers::Column::Secret, Expr::val(Value::Bytes(secret)))
                .col_expr(subscribers::Column::PreviousSecret, Expr::val(Value::Bytes(previous)))
                .col_expr(subscribers::Column::Headers, Expr::val(Value::Bytes(headers)))
                .exec(&transaction)
                .await
                .map_err(StoreError::from)?;
            rekeyed.resealed += 1;
        }
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(last)
    }

    /// The secret, the previous secret and the headers under the first key; none if they are already.
    fn reseal(
        &self,
        id: SubscriberId,
        row: &subscribers::Model,
    ) -> Result<Option<[Option<Vec<u8>>; 3]>, StoreError> {
        let tenant: TenantId = parse(&row.tenant, "subscribers", "tenant")?;
        let mut changed = false;
        let mut anew = |purpose, sealed: Option<&[u8]>| -> Result<Option<Vec<u8>>, StoreError> {
            let Some(sealed) = sealed else { return Ok(None) };
            let context = SealContext { tenant: &tenant, subscriber: id, purpose };
            let resealed = self.keyring.reseal(&**self.ids.random(), &context, sealed)?;
            changed |= resealed.is_some();
            Ok(Some(resealed.unwrap_or_else(|| sealed.to_vec())))
        };
        let all = [
            anew(Purpose::Secret, Some(&row.secret))?,
            anew(Purpose::PreviousSecret, row.previous_secret.as_deref())?,
            anew(Purpose::Headers, row.headers.as_deref())?,
        ];
        Ok(changed.then_some(all))
    }
}
