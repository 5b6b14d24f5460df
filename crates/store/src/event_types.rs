//! Registered event types: what they mean, the schema of their data, and what becomes of events that do not match it.
//!
//! A type belongs to the whole deployment or to a tenant, whose own type counts instead of the deployment's of the same name.

use postrider_core::audit::AuditAction;
use postrider_core::event::SchemaMode;
use postrider_core::{EventType, TenantId, Timestamp};
use postrider_database::sql::{column, execute, lock_clause, query_all, query_one};
use postrider_database::{DatabaseError, Dialect, Transaction};
use sea_orm::{ConnectionTrait, QueryResult, Value};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::rollups::clock::{DAY, minute, start_of_row};
use crate::rollups::span::Span;
use crate::row::parse;
use crate::{Store, StoreError};

/// The most types of the deployment, and of each tenant, and the most bytes of their schemas and examples together.
pub const MAX_TYPES: u32 = 1_000;
const MAX_BYTES: i64 = 4 * 1024 * 1024;

/// How many types that were seen are listed, and the days of UTC in which they were.
const MAX_SEEN: u32 = 1_000;
const SEEN_DAYS: i64 = 30;

/// Whose event types.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TypesOf {
    /// Those of the whole deployment.
    Deployment,
    /// Those of a tenant.
    Tenant(TenantId),
}

impl TypesOf {
    /// No tenant has the empty name.
    fn column(&self) -> &str {
        match self {
            Self::Deployment => "",
            Self::Tenant(tenant) => tenant.as_str(),
        }
    }

    /// Who sees a change of these types in the audit trail.
    fn audited_by(&self) -> TenantId {
        match self {
            Self::Deployment => TenantId::operator(),
            Self::Tenant(tenant) => tenant.clone(),
        }
    }
}

/// A registered event type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredType {
    /// Its name.
    pub name: EventType,
    /// What it means.
    pub description: String,
    /// What it is listed under; may be empty.
    pub group: String,
    /// Whether publishers should no longer use it.
    pub deprecated: bool,
    /// The JSON Schema of its data, as JSON.
    pub schema: Option<String>,
    /// An example of its data, as JSON.
    pub example: Option<String>,
    /// What becomes of events that do not match the schema.
    pub mode: SchemaMode,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// The result of changing an event type.
#[derive(Clone, Debug)]
pub enum TypeChanged {
    /// It was registered.
    Created(RegisteredType),
    /// It was changed.
    Changed(RegisteredType),
    /// There are [`MAX_TYPES`] already, or their schemas and examples take 4 MiB.
    TooMany,
}

/// A type that occurred, whether it is registered or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenType {
    /// Its name.
    pub name: EventType,
    /// How many deliveries its events had in the last 30 days of UTC.
    pub deliveries: u64,
}

const COLUMNS: &str = "name, description, family, deprecated, schema, example, mode, created_at, updated_at";

impl Store {
    /// Returns how often any event type was changed.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn event_type_changes(&self) -> Result<i64, StoreError> {
        let row = query_one(&self.database.reads(), "SELECT number FROM event_type_changes WHERE id = 0", [])
            .await?;
        Ok(row.map(|row| column(&row, "number")).transpose()?.unwrap_or(0))
    }

    /// Returns all registered types of an owner, in the order of their names.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn event_types(&self, of: &TypesOf) -> Result<Vec<RegisteredType>, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM event_types WHERE tenant = $1 ORDER BY name LIMIT {MAX_TYPES}");
        let rows = query_all(&self.database.reads(), sql, [of.column().into()]).await?;
        rows.iter().map(read).collect()
    }

    /// Returns a registered type of an owner.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn event_type(
        &self,
        of: &TypesOf,
        name: &EventType,
    ) -> Result<Option<RegisteredType>, StoreError> {
        find(&self.database.reads(), of, name).await
    }

    /// Reads a type of an owner, passes it to `change`, and writes what that returns, if anything. All changes of event types
    /// take turns.
    ///
    /// # Errors
    /// Fails if the database is unavailable, or with the error of `change`.
    pub async fn change_event_type<E: From<StoreError>>(
        &self,
        of: &TypesOf,
        name: &EventType,
        change: impl FnOnce(Option<&RegisteredType>) -> Result<RegisteredType, E>,
    ) -> Result<TypeChanged, E> {
        let reading = async {
            let transaction = self.database.begin().await?;
            take_turn(&transaction).await?;
            let present = find(&transaction, of, name).await?;
            Ok::<_, StoreError>((transaction, present))
        };
        let (transaction, present) = reading.await?;
        let wanted = change(present.as_ref())?;
        let writing = async {
            let now = self.ids.clock().now();
            let created_at = present.as_ref().map_or(now, |present| present.created_at);
            let written = RegisteredType { name: name.clone(), created_at, updated_at: now, ..wanted };
            write(&transaction, of, &written).await?;
            if exceeds(&transaction, of).await? {
                return Ok(TypeChanged::TooMany);
            }
            let before = present.as_ref().map_or(Json::Null, described);
            let action = AuditAction::EventTypeChanged;
            self.audit(&transaction, &of.audited_by(), action, name, before, described(&written)).await?;
            transaction.commit().await?;
            Ok::<_, StoreError>(if present.is_some() {
                TypeChanged::Changed(written)
            } else {
                TypeChanged::Created(written)
            })
        };
        Ok(writing.await?)
    }

    /// Deletes a registered type. Returns whether there was one.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn delete_event_type(&self, of: &TypesOf, name: &EventType) -> Result<bool, StoreError> {
        let transaction = self.database.begin().await?;
        take_turn(&transaction).await?;
        let Some(present) = find(&transaction, of, name).await? else { return Ok(false) };
        let sql = "DELETE FROM event_types WHERE tenant = $1 AND name = $2";
        execute(&transaction, sql, [of.column().into(), name.as_str().into()]).await?;
        let (before, action) = (described(&present), AuditAction::EventTypeDeleted);
        self.audit(&transaction, &of.audited_by(), action, name, before, Json::Null).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Returns the types of a tenant's events in the last 30 days, in the order of their names; up to a thousand.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn seen_event_types(&self, tenant: &TenantId) -> Result<Vec<SeenType>, StoreError> {
        let since = start_of_row(minute(self.ids.clock().now()), DAY) - (SEEN_DAYS - 1) * DAY;
        // A walk from type to type over the key, and the days of each.
        let sql = format!(
            "WITH RECURSIVE walk(event_type, step) AS (
                 SELECT (SELECT event_type FROM rollups WHERE tenant = $1 AND subscriber_id = $2 AND event_type > ''
                     ORDER BY event_type LIMIT 1), 1
                 UNION ALL
                 SELECT (SELECT rollups.event_type FROM rollups WHERE rollups.tenant = $1 AND rollups.subscriber_id = $2
                     AND rollups.event_type > walk.event_type ORDER BY rollups.event_type LIMIT 1), step + 1
                 FROM walk WHERE walk.event_type IS NOT NULL AND step < {MAX_SEEN}
             )
             SELECT event_type, (
                 SELECT CAST(coalesce(sum(created), 0) AS bigint) FROM rollups WHERE rollups.tenant = $1
                     AND rollups.subscriber_id = $2 AND rollups.event_type = walk.event_type AND span = $3 AND start >= $4
             ) AS deliveries FROM walk WHERE event_type IS NOT NULL ORDER BY step"
        );
        let values = [tenant.as_str().into(), Uuid::nil().into(), Span::Day.code().into(), since.into()];
        let rows = query_all(&self.database.reads(), sql, values).await?;
        let mut seen = Vec::new();
        for row in &rows {
            let name: String = column(row, "event_type")?;
            let deliveries = u64::try_from(column::<i64>(row, "deliveries")?).unwrap_or(0);
            if deliveries > 0 {
                seen.push(SeenType { name: parse(&name, "rollups", "event_type", &name)?, deliveries });
            }
        }
        Ok(seen)
    }
}

/// Locks the count of changes, and counts one.
pub(crate) async fn take_turn(transaction: &Transaction) -> Result<(), StoreError> {
    let lock = lock_clause(Dialect::of(transaction));
    query_one(transaction, format!("SELECT number FROM event_type_changes WHERE id = 0{lock}"), []).await?;
    execute(transaction, "UPDATE event_type_changes SET number = number + 1 WHERE id = 0", []).await?;
    Ok(())
}

/// Whether an owner has more types, or more in them, than it may.
async fn exceeds(connection: &impl ConnectionTrait, of: &TypesOf) -> Result<bool, StoreError> {
    let sql = "SELECT count(*) AS types, \
            CAST(coalesce(sum(coalesce(length(schema), 0) + coalesce(length(example), 0)), 0) AS bigint) AS bytes \
        FROM event_types WHERE tenant = $1";
    let Some(row) = query_one(connection, sql, [of.column().into()]).await? else { return Ok(false) };
    Ok(column::<i64>(&row, "types")? > i64::from(MAX_TYPES) || column::<i64>(&row, "bytes")? > MAX_BYTES)
}

async fn find(
    connection: &impl ConnectionTrait,
    of: &TypesOf,
    name: &EventType,
) -> Result<Option<RegisteredType>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM event_types WHERE tenant = $1 AND name = $2");
    let row = query_one(connection, sql, [of.column().into(), name.as_str().into()]).await?;
    row.as_ref().map(read).transpose()
}

async fn write(transaction: &Transaction, of: &TypesOf, written: &RegisteredType) -> Result<(), StoreError> {
    let values: [Value; 10] = [
        of.column().into(),
        written.name.as_str().into(),
        written.description.as_str().into(),
        written.group.as_str().into(),
        written.deprecated.into(),
        written.schema.clone().into(),
        written.example.clone().into(),
        written.mode.code().into(),
        written.created_at.millis().into(),
        written.updated_at.millis().into(),
    ];
    let sql = format!(
        "INSERT INTO event_types (tenant, {COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (tenant, name) DO UPDATE SET description = excluded.description, family = excluded.family,
             deprecated = excluded.deprecated, schema = excluded.schema, example = excluded.example,
             mode = excluded.mode, updated_at = excluded.updated_at"
    );
    execute(transaction, sql, values).await?;
    Ok(())
}

fn read(row: &QueryResult) -> Result<RegisteredType, StoreError> {
    let name: String = column(row, "name")?;
    let mode: i16 = column(row, "mode")?;
    let mode = SchemaMode::from_code(mode)
        .ok_or_else(|| DatabaseError::inconsistent("event_types", "mode", &name, "unknown"))?;
    Ok(RegisteredType {
        description: column(row, "description")?,
        group: column(row, "family")?,
        deprecated: column(row, "deprecated")?,
        schema: column(row, "schema")?,
        example: column(row, "example")?,
        mode,
        created_at: Timestamp::from_millis(column(row, "created_at")?),
        updated_at: Timestamp::from_millis(column(row, "updated_at")?),
        name: parse(&name, "event_types", "name", &name)?,
    })
}

/// What the audit trail says about a type.
fn described(registered: &RegisteredType) -> Json {
    let json = |text: &Option<String>| -> Json {
        text.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    };
    serde_json::json!({
        "description": registered.description,
        "group": registered.group,
        "deprecated": registered.deprecated,
        "schema": json(&registered.schema),
        "mode": registered.mode,
    })
}
