//! The egress proxies of tenants, which are encrypted at rest.

use std::collections::HashMap;
use std::fmt;

use postrider_core::keyring::{Purpose, SealContext};
use postrider_core::{ProxyUrl, TenantId};
use postrider_database::sql::{column, execute, lock_clause, query_all, query_one};
use postrider_database::{Dialect, Transaction};
use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use crate::row::parse;
use crate::{Store, StoreError};

/// How many tenants may have an egress proxy.
const MOST: u32 = 10_000;

/// A tenant's egress proxy. `Display` masks its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EgressProxy {
    /// Its URL.
    Url(ProxyUrl),
    /// It cannot be decrypted with the keys that this program has. Nothing may be sent past it.
    Unreadable,
}

impl fmt::Display for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::Unreadable => f.write_str("***"),
        }
    }
}

impl Store {
    /// Returns how often an egress proxy of a tenant was changed.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn egress_proxy_changes(&self) -> Result<i64, StoreError> {
        let sql = "SELECT number FROM egress_proxy_changes WHERE id = 0";
        let row = query_one(&self.database.reads(), sql, []).await?;
        Ok(row.map(|row| column(&row, "number")).transpose()?.unwrap_or(0))
    }

    /// Returns the egress proxies of all tenants that have one.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn egress_proxies(&self) -> Result<HashMap<TenantId, EgressProxy>, StoreError> {
        let sql = format!(
            "SELECT id, number, egress_proxy FROM tenants WHERE egress_proxy IS NOT NULL ORDER BY id LIMIT {MOST}"
        );
        let rows = query_all(&self.database.reads(), sql, []).await?;
        let mut proxies = HashMap::with_capacity(rows.len());
        for row in &rows {
            let id: String = column(row, "id")?;
            let tenant: TenantId = parse(&id, "tenants", "id", &id)?;
            if let Some(proxy) = self.open_proxy(row, &tenant)? {
                proxies.insert(tenant, proxy);
            }
        }
        Ok(proxies)
    }

    /// Decrypts the egress proxy in a row of `tenants`.
    pub(super) fn open_proxy(
        &self,
        row: &QueryResult,
        tenant: &TenantId,
    ) -> Result<Option<EgressProxy>, StoreError> {
        let Some(sealed) = column::<Option<Vec<u8>>>(row, "egress_proxy")? else { return Ok(None) };
        let context = SealContext { tenant, id: column(row, "number")?, purpose: Purpose::EgressProxy };
        let opened = self.keyring.open(&context, &sealed).ok();
        let url =
            opened.and_then(|plain| std::str::from_utf8(&plain).ok()?.parse().ok()).map(EgressProxy::Url);
        Ok(Some(url.unwrap_or(EgressProxy::Unreadable)))
    }

    /// Stores a tenant's egress proxy, or removes it, with the tenant's row locked.
    pub(super) async fn write_proxy(
        &self,
        transaction: &Transaction,
        tenant: &TenantId,
        number: Uuid,
        proxy: Option<&ProxyUrl>,
    ) -> Result<(), StoreError> {
        take_turn(transaction).await?;
        let context = SealContext { tenant, id: number, purpose: Purpose::EgressProxy };
        let seal =
            |proxy: &ProxyUrl| self.keyring.seal(&**self.ids.random(), &context, proxy.expose().as_bytes());
        let sealed = proxy.map(seal).transpose()?;
        let values: [Value; 2] = [tenant.as_str().into(), sealed.into()];
        execute(transaction, "UPDATE tenants SET egress_proxy = $2 WHERE id = $1", values).await?;
        if proxy.is_some() {
            let sql = format!(
                "SELECT id FROM tenants WHERE egress_proxy IS NOT NULL ORDER BY id LIMIT 1 OFFSET {MOST}"
            );
            if query_one(transaction, sql, []).await?.is_some() {
                return Err(StoreError::TooManyProxies);
            }
        }
        Ok(())
    }

    /// Encrypts the egress proxies of tenants under the keyring's first key. Returns how many were encrypted under another
    /// one, or the tenant whose proxy cannot be decrypted.
    pub(crate) async fn rekey_proxies(&self) -> Result<Result<u64, TenantId>, StoreError> {
        let transaction = self.database.begin().await?;
        let lock = lock_clause(Dialect::of(&transaction));
        let sql = format!(
            "SELECT id, number, egress_proxy FROM tenants WHERE egress_proxy IS NOT NULL ORDER BY id LIMIT {MOST}{lock}"
        );
        let mut resealed = 0;
        for row in &query_all(&transaction, sql, []).await? {
            let id: String = column(row, "id")?;
            let tenant: TenantId = parse(&id, "tenants", "id", &id)?;
            let context =
                SealContext { tenant: &tenant, id: column(row, "number")?, purpose: Purpose::EgressProxy };
            let sealed: Vec<u8> = column(row, "egress_proxy")?;
            let Ok(changed) = self.keyring.reseal(&**self.ids.random(), &context, &sealed) else {
                return Ok(Err(tenant));
            };
            let Some(changed) = changed else { continue };
            let sql = "UPDATE tenants SET egress_proxy = $2 WHERE id = $1";
            execute(&transaction, sql, [id.into(), changed.into()]).await?;
            resealed += 1;
        }
        transaction.commit().await?;
        Ok(Ok(resealed))
    }
}

/// Locks the count of changes, and counts one.
pub(super) async fn take_turn(transaction: &Transaction) -> Result<(), StoreError> {
    let lock = lock_clause(Dialect::of(transaction));
    query_one(transaction, format!("SELECT number FROM egress_proxy_changes WHERE id = 0{lock}"), []).await?;
    execute(transaction, "UPDATE egress_proxy_changes SET number = number + 1 WHERE id = 0", []).await?;
    Ok(())
}
