//! Sandboxes: receivers for tests, which answer by a script and keep what they received.
//!
//! A sandbox takes [`MAX_REQUESTS`] requests until it expires. From then on it answers 410, which ends deliveries to it, and
//! an hour later it is removed with its requests.
//!
//! | file | what it does |
//! |---|---|
//! | `requests` | takes, keeps and reads requests |
//! | `removal` | removes what has expired |

mod removal;
mod requests;

use std::time::Duration;

use postrider_core::audit::AuditAction;
use postrider_core::script::Script;
use postrider_core::{SandboxId, TenantId, Timestamp};
use postrider_database::sql::{column, execute, query_all, query_one};
use postrider_database::{DatabaseError, Dialect};
use sea_orm::{QueryResult, Value};
use serde_json::{Value as Json, json};

pub use self::requests::{
    MAX_BODY, NewSandboxRequest, SandboxRequest, SandboxSignature, TakenRequest, TakingSandbox,
};
use crate::{Store, StoreError};

/// The most sandboxes of a tenant, and the most requests of a sandbox.
pub const MAX_SANDBOXES: u32 = 50;
/// See [`MAX_SANDBOXES`].
pub const MAX_REQUESTS: u32 = 200;
/// The longest that a sandbox takes requests.
pub const MAX_TTL: Duration = Duration::from_hours(24);

/// A sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Its id.
    pub id: SandboxId,
    /// Its URL. Anyone who knows it can send to it.
    pub url: String,
    /// How it answers.
    pub script: Script,
    /// How many requests it has received.
    pub received: u32,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it stops taking requests.
    pub expires_at: Timestamp,
}

/// A sandbox to be created.
#[derive(Clone, Debug)]
pub struct NewSandbox {
    /// The random end of its URL.
    pub token: String,
    /// Its URL.
    pub url: String,
    /// How it answers.
    pub script: Script,
    /// How long it takes requests: at most [`MAX_TTL`].
    pub ttl: Duration,
}

const COLUMNS: &str = "id, url, script, received, created_at, expires_at";

impl Store {
    /// Creates a sandbox. Returns `None` if the tenant has [`MAX_SANDBOXES`] already.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn create_sandbox(
        &self,
        tenant: &TenantId,
        new: NewSandbox,
    ) -> Result<Option<Sandbox>, StoreError> {
        let now = self.ids.clock().now();
        let made = Sandbox {
            id: self.ids.next(),
            url: new.url,
            script: new.script,
            received: 0,
            created_at: now,
            expires_at: now + new.ttl.min(MAX_TTL),
        };
        let transaction = self.database.begin().await?;
        let count = "SELECT count(*) AS sandboxes FROM sandboxes WHERE tenant = $1";
        let row = query_one(&transaction, count, [tenant.as_str().into()]).await?;
        let present: i64 = row.map(|row| column(&row, "sandboxes")).transpose()?.unwrap_or(0);
        // Two that are created at once may be one too many.
        if present >= i64::from(MAX_SANDBOXES) {
            return Ok(None);
        }
        let values: [Value; 7] = [
            tenant.as_str().into(),
            made.id.uuid().into(),
            new.token.into(),
            made.url.as_str().into(),
            Json::from(&made.script).to_string().into(),
            made.created_at.millis().into(),
            made.expires_at.millis().into(),
        ];
        let sql = "INSERT INTO sandboxes (tenant, id, token, url, script, created_at, expires_at) \
            VALUES ($1, $2, $3, $4, $5, $6, $7)";
        execute(&transaction, sql, values).await?;
        let action = AuditAction::SandboxCreated;
        self.audit(&transaction, tenant, action, made.id, Json::Null, described(&made)).await?;
        transaction.commit().await?;
        Ok(Some(made))
    }

    /// Returns all sandboxes of a tenant, newest first.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn sandboxes(&self, tenant: &TenantId) -> Result<Vec<Sandbox>, StoreError> {
        let most = MAX_SANDBOXES * 2;
        let sql = format!(
            "SELECT {COLUMNS} FROM sandboxes WHERE tenant = $1 ORDER BY tenant DESC, id DESC LIMIT {most}"
        );
        let rows = query_all(&self.database.reads(), sql, [tenant.as_str().into()]).await?;
        rows.iter().map(read).collect()
    }

    /// Returns a sandbox.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn sandbox(&self, tenant: &TenantId, id: SandboxId) -> Result<Option<Sandbox>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM sandboxes WHERE tenant = $1 AND id = $2");
        let row = query_one(&self.database.reads(), sql, name(tenant, id)).await?;
        row.as_ref().map(read).transpose()
    }

    /// Returns whether a tenant has a sandbox with this token and URL.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn has_sandbox(&self, tenant: &TenantId, token: &str, url: &str) -> Result<bool, StoreError> {
        let sql = "SELECT 1 AS one FROM sandboxes WHERE token = $1 AND tenant = $2 AND url = $3";
        let values = [token.into(), tenant.as_str().into(), url.into()];
        Ok(query_one(&self.database.reads(), sql, values).await?.is_some())
    }

    /// Deletes a sandbox with its requests. Returns whether there was one.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn delete_sandbox(&self, tenant: &TenantId, id: SandboxId) -> Result<bool, StoreError> {
        let transaction = self.database.begin().await?;
        let sql = format!("DELETE FROM sandboxes WHERE tenant = $1 AND id = $2 RETURNING {COLUMNS}");
        let row = query_one(&transaction, sql, name(tenant, id)).await?;
        let Some(sandbox) = row.as_ref().map(read).transpose()? else { return Ok(false) };
        // A request that is being kept has the sandbox's row locked, or finds none.
        let sql = "DELETE FROM sandbox_requests WHERE tenant = $1 AND sandbox_id = $2";
        execute(&transaction, sql, name(tenant, id)).await?;
        let action = AuditAction::SandboxDeleted;
        self.audit(&transaction, tenant, action, id, described(&sandbox), Json::Null).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

fn name(tenant: &TenantId, id: SandboxId) -> [Value; 2] {
    [tenant.as_str().into(), id.uuid().into()]
}

fn read(row: &QueryResult) -> Result<Sandbox, StoreError> {
    let id = SandboxId::from_uuid(column(row, "id")?);
    let script: String = column(row, "script")?;
    let script = serde_json::from_str(&script);
    Ok(Sandbox {
        id,
        url: column(row, "url")?,
        script: script
            .map_err(|error| DatabaseError::inconsistent("sandboxes", "script", id, error.to_string()))?,
        received: u32::try_from(column::<i64>(row, "received")?).unwrap_or(0),
        created_at: Timestamp::from_millis(column(row, "created_at")?),
        expires_at: Timestamp::from_millis(column(row, "expires_at")?),
    })
}

/// What the audit trail says about a sandbox. Its URL is left out: it stands for a right to send to it.
fn described(sandbox: &Sandbox) -> Json {
    json!({"script": Json::from(&sandbox.script), "expires_at": sandbox.expires_at.millis()})
}

/// How a statement names rows to be removed, and leaves out those that are locked.
fn places(dialect: Dialect) -> (&'static str, &'static str, &'static str) {
    match dialect {
        Dialect::Postgres => ("ctid", "= ANY (ARRAY", " FOR UPDATE SKIP LOCKED"),
        Dialect::Sqlite => ("rowid", "IN (", ""),
    }
}
