//! Plugins of the deployment: WebAssembly modules that subscribers choose.

use postrider_core::audit::AuditAction;
use postrider_core::key::KeyHash;
use postrider_core::plugin::{PluginName, PluginVersion};
use postrider_core::{TenantId, Timestamp};
use postrider_database::sql::{column, execute, lock_clause, query_all, query_one};
use postrider_database::{DatabaseError, Dialect, Transaction};
use sea_orm::{ConnectionTrait, QueryResult, Value};
use serde_json::{Value as Json, json};

use crate::row::parse;
use crate::{Store, StoreError};

/// The most plugins of a deployment.
pub const MAX_PLUGINS: u32 = 100;

/// An installed plugin, without its module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// Its name.
    pub name: PluginName,
    /// Its version.
    pub version: PluginVersion,
    /// The SHA-256 of its module, in hexadecimal.
    pub checksum: String,
    /// The bytes of its module.
    pub size: u64,
    /// When this version was added.
    pub created_at: Timestamp,
}

/// The result of adding a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginAdded {
    /// It is new.
    Created(Plugin),
    /// It replaces one of the same name.
    Replaced(Plugin),
    /// This version of it has another module.
    VersionTaken,
    /// There are [`MAX_PLUGINS`] already.
    TooMany,
}

/// The result of removing a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginRemoved {
    /// It is removed.
    Done,
    /// There is none of this name.
    Missing,
    /// A subscriber uses it.
    InUse,
}

const COLUMNS: &str = "name, version, checksum, size, created_at";

impl Store {
    /// Returns all plugins, in the order of their names.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn plugins(&self) -> Result<Vec<Plugin>, StoreError> {
        // Two that are added at once may be one too many.
        let most = MAX_PLUGINS * 2;
        let sql = format!("SELECT {COLUMNS} FROM plugins ORDER BY name LIMIT {most}");
        query_all(&self.database.reads(), sql, []).await?.iter().map(read).collect()
    }

    /// Returns a plugin.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn plugin(&self, name: &PluginName) -> Result<Option<Plugin>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM plugins WHERE name = $1");
        let row = query_one(&self.database.reads(), sql, [name.as_str().into()]).await?;
        row.as_ref().map(read).transpose()
    }

    /// Returns a plugin and its module.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn plugin_module(&self, name: &PluginName) -> Result<Option<(Plugin, Vec<u8>)>, StoreError> {
        let sql = format!("SELECT {COLUMNS}, module FROM plugins WHERE name = $1");
        let row = query_one(&self.database.reads(), sql, [name.as_str().into()]).await?;
        row.map(|row| Ok((read(&row)?, column(&row, "module")?))).transpose()
    }

    /// Adds a plugin, or replaces the one of this name. The module must have been checked.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn add_plugin(
        &self,
        name: &PluginName,
        version: &PluginVersion,
        module: Vec<u8>,
    ) -> Result<PluginAdded, StoreError> {
        let added = Plugin {
            name: name.clone(),
            version: version.clone(),
            checksum: checksum(&module),
            size: module.len() as u64,
            created_at: self.ids.clock().now(),
        };
        let transaction = self.database.begin().await?;
        let present = lock(&transaction, name, lock_clause(Dialect::of(&transaction))).await?;
        match &present {
            Some(present) if present.version == added.version && present.checksum != added.checksum => {
                return Ok(PluginAdded::VersionTaken);
            }
            None if count(&transaction).await? >= i64::from(MAX_PLUGINS) => return Ok(PluginAdded::TooMany),
            _ => {}
        }
        let values: [Value; 6] = [
            name.as_str().into(),
            version.as_str().into(),
            added.checksum.as_str().into(),
            i64::try_from(added.size).unwrap_or(i64::MAX).into(),
            added.created_at.millis().into(),
            module.into(),
        ];
        let sql = format!(
            "INSERT INTO plugins ({COLUMNS}, module) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (name) DO UPDATE SET version = excluded.version, checksum = excluded.checksum,
                 size = excluded.size, created_at = excluded.created_at, module = excluded.module"
        );
        execute(&transaction, sql, values).await?;
        let before = present.as_ref().map_or(Json::Null, described);
        let (tenant, action) = (TenantId::operator(), AuditAction::PluginAdded);
        self.audit(&transaction, &tenant, action, name, before, described(&added)).await?;
        transaction.commit().await?;
        Ok(if present.is_some() { PluginAdded::Replaced(added) } else { PluginAdded::Created(added) })
    }

    /// Removes a plugin that no subscriber uses.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn remove_plugin(&self, name: &PluginName) -> Result<PluginRemoved, StoreError> {
        let transaction = self.database.begin().await?;
        // From here on no subscriber can choose it, and those that have done so are visible.
        let present = lock(&transaction, name, lock_clause(Dialect::of(&transaction))).await?;
        let Some(present) = present else { return Ok(PluginRemoved::Missing) };
        let used = "SELECT 1 AS used FROM subscribers WHERE plugin_name = $1 LIMIT 1";
        if query_one(&transaction, used, [name.as_str().into()]).await?.is_some() {
            return Ok(PluginRemoved::InUse);
        }
        execute(&transaction, "DELETE FROM plugins WHERE name = $1", [name.as_str().into()]).await?;
        let (tenant, action) = (TenantId::operator(), AuditAction::PluginRemoved);
        self.audit(&transaction, &tenant, action, name, described(&present), Json::Null).await?;
        transaction.commit().await?;
        Ok(PluginRemoved::Done)
    }
}

/// Keeps a plugin from being removed until the transaction ends.
pub(crate) async fn keep(transaction: &Transaction, name: &PluginName) -> Result<(), StoreError> {
    let shared = match Dialect::of(transaction) {
        Dialect::Postgres => " FOR SHARE",
        Dialect::Sqlite => "",
    };
    lock(transaction, name, shared).await?.map(|_| ()).ok_or(StoreError::PluginMissing)
}

async fn lock(
    transaction: &Transaction,
    name: &PluginName,
    clause: &str,
) -> Result<Option<Plugin>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM plugins WHERE name = $1{clause}");
    let row = query_one(transaction, sql, [name.as_str().into()]).await?;
    row.as_ref().map(read).transpose()
}

async fn count(connection: &impl ConnectionTrait) -> Result<i64, StoreError> {
    let row = query_one(connection, "SELECT count(*) AS plugins FROM plugins", []).await?;
    Ok(row.map(|row| column(&row, "plugins")).transpose()?.unwrap_or(0))
}

fn checksum(module: &[u8]) -> String {
    let hash = KeyHash::of(module);
    hash.as_bytes().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn read(row: &QueryResult) -> Result<Plugin, StoreError> {
    let name: String = column(row, "name")?;
    let version: String = column(row, "version")?;
    let size: i64 = column(row, "size")?;
    Ok(Plugin {
        version: parse(&version, "plugins", "version", &name)?,
        checksum: column(row, "checksum")?,
        size: u64::try_from(size)
            .map_err(|error| DatabaseError::inconsistent("plugins", "size", &name, error))?,
        created_at: Timestamp::from_millis(column(row, "created_at")?),
        name: parse(&name, "plugins", "name", &name)?,
    })
}

/// What the audit trail says about a plugin.
fn described(plugin: &Plugin) -> Json {
    json!({"version": plugin.version, "checksum": plugin.checksum, "size": plugin.size})
}
