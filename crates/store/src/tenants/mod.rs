//! The register of tenants: what is noted about them, how long their data is kept, and their deletion.
//!
//! A tenant that is not registered has no data, except what an application dispatches without the server. The server
//! registers a tenant at its first write.
//!
//! | file | what it does |
//! |---|---|
//! | `describe` | what the audit trail says about a tenant |
//! | `counts` | what tenants have |
//! | `delete` | deletes all data of a tenant |
//! | `egress` | their egress proxies |
//! | `hold` | holds the lanes of a tenant that is not active |

mod counts;
mod delete;
mod describe;
mod egress;
mod hold;

use std::ops::RangeInclusive;
use std::time::Duration;

use postrider_core::audit::AuditAction;
use postrider_core::{Id, Metadata, ProxyUrl, TenantId, Timestamp, id};
use postrider_database::DatabaseError;
use postrider_database::sql::{column, execute, query_all, query_one};
use sea_orm::{ConnectionTrait, QueryResult, Value};
use serde_json::Value as Json;

pub use self::counts::TenantCounts;
pub use self::delete::{Closed, Deletable, Deleting};
use self::describe::described;
pub use self::egress::EgressProxy;
use crate::page::{Page, PageRequest};
use crate::row::{millis, parse};
use crate::{Store, StoreError};

/// A registered tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its name in requests.
    pub id: TenantId,
    /// Its place in lists.
    pub place: Id<id::TenantPlace>,
    /// A name for people.
    pub name: String,
    /// What applications have noted.
    pub metadata: Metadata,
    /// Whether its events are taken and delivered.
    pub active: bool,
    /// Whether its events of types that are not registered are refused.
    pub only_registered: bool,
    /// How long its data is kept.
    pub retention: TenantRetention,
    /// The proxy for its deliveries, instead of the deployment's.
    pub egress_proxy: Option<EgressProxy>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Its deletion, once it was requested.
    pub deletion: Option<Deletion>,
}

/// How long a tenant's data is kept, where that is shorter than in the rest of the deployment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantRetention {
    /// Events, deliveries and attempts.
    pub history: Option<Duration>,
    /// The data of events, and the responses to their deliveries.
    pub payloads: Option<Duration>,
    /// Dead letters.
    pub dead: Option<Duration>,
}

impl TenantRetention {
    /// The bounds of each of them.
    pub const AGE: RangeInclusive<Duration> = Duration::from_hours(1)..=Duration::from_hours(36_500 * 24);
}

/// The deletion of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// When it was requested.
    pub since: Timestamp,
    /// How many rows are gone so far.
    pub rows: u64,
}

/// A tenant to register.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// Its name in requests.
    pub id: TenantId,
    /// A name for people.
    pub name: String,
    /// What applications note.
    pub metadata: Metadata,
    /// How long its data is kept.
    pub retention: TenantRetention,
    /// The proxy for its deliveries, instead of the deployment's.
    pub egress_proxy: Option<ProxyUrl>,
}

impl NewTenant {
    /// A tenant about which nothing is noted.
    pub fn named(id: TenantId) -> Self {
        Self {
            id,
            name: String::new(),
            metadata: Metadata::default(),
            retention: TenantRetention::default(),
            egress_proxy: None,
        }
    }
}

const COLUMNS: &str = "id, number, name, metadata, active, only_registered, retain_history, retain_payloads, retain_dead, created_at, \
    deletion_requested_at, deleted_rows, egress_proxy";

impl Store {
    /// Registers a tenant. Returns `false` if it is registered already, and changes nothing then.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn register_tenant(&self, new: &NewTenant) -> Result<bool, StoreError> {
        let number = self.ids.next::<id::TenantPlace>().uuid();
        let TenantRetention { history, payloads, dead } = new.retention;
        let values: [Value; 8] = [
            new.id.as_str().into(),
            number.into(),
            new.name.as_str().into(),
            text(&new.metadata).into(),
            history.map(millis).into(),
            payloads.map(millis).into(),
            dead.map(millis).into(),
            self.ids.clock().now().millis().into(),
        ];
        let sql = "INSERT INTO tenants (id, number, name, metadata, retain_history, retain_payloads, retain_dead, created_at) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING";
        let transaction = self.database.begin().await?;
        let registered = execute(&transaction, sql, values).await? > 0;
        if registered && new.egress_proxy.is_some() {
            self.write_proxy(&transaction, &new.id, number, new.egress_proxy.as_ref()).await?;
        }
        if registered && self.is_audited() {
            let after =
                self.find_tenant(&transaction, &new.id, "").await?.as_ref().map_or(Json::Null, described);
            let (operator, action) = (TenantId::operator(), AuditAction::TenantRegistered);
            self.audit(&transaction, &operator, action, &new.id, Json::Null, after).await?;
        }
        transaction.commit().await?;
        Ok(registered)
    }

    /// Returns a tenant.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn tenant(&self, tenant: &TenantId) -> Result<Option<Tenant>, StoreError> {
        self.find_tenant(&self.database.reads(), tenant, "").await
    }

    /// Returns a page of all tenants, those that were registered last first.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn tenants(
        &self,
        page: PageRequest<id::TenantPlace>,
    ) -> Result<Page<Tenant, id::TenantPlace>, StoreError> {
        let before = page.before.map_or(uuid::Uuid::max(), Id::uuid);
        let limit = page.rows();
        let sql =
            format!("SELECT {COLUMNS} FROM tenants WHERE number < $1 ORDER BY number DESC LIMIT {limit}");
        let rows = query_all(&self.database.reads(), sql, [before.into()]).await?;
        let tenants = rows.iter().map(|row| self.read_tenant(row)).collect::<Result<_, _>>()?;
        Ok(Page::cut(tenants, page.limit, |tenant| tenant.place))
    }

    /// Changes what is noted about a tenant, whether it is active and how long its data is kept, with what `change` makes of
    /// it. Returns what it is then, or `None` if it is not registered. If that changes whether it is active, call
    /// [`Store::hold_lanes_of`] afterwards until there is no other step; a worker takes those that are left.
    ///
    /// # Errors
    /// Fails if the database is unavailable, or with the error of `change`.
    pub async fn change_tenant<E>(
        &self,
        tenant: &TenantId,
        change: impl FnOnce(&mut Tenant) -> Result<(), E>,
    ) -> Result<Option<Tenant>, E>
    where
        E: From<StoreError>,
    {
        let changing = async {
            let transaction = self.database.begin().await?;
            let lock = postrider_database::sql::lock_clause(self.database.dialect());
            let found = self.find_tenant(&transaction, tenant, lock).await?;
            Ok::<_, StoreError>((transaction, found))
        };
        let (transaction, found) = changing.await?;
        let Some(mut found) = found else { return Ok(None) };
        let (before, was) = (described(&found), (found.active, found.only_registered));
        let proxy_before = found.egress_proxy.clone();
        change(&mut found)?;
        let writing = async {
            let TenantRetention { history, payloads, dead } = found.retention;
            let sql = "UPDATE tenants SET name = $2, metadata = $3, retain_history = $4, retain_payloads = $5, \
                    retain_dead = $6, active = $7, only_registered = $10, \
                    holding_after = CASE WHEN $8 THEN $9 ELSE holding_after END WHERE id = $1";
            let values: [Value; 10] = [
                tenant.as_str().into(),
                found.name.as_str().into(),
                text(&found.metadata).into(),
                history.map(millis).into(),
                payloads.map(millis).into(),
                dead.map(millis).into(),
                found.active.into(),
                (found.active != was.0).into(),
                uuid::Uuid::nil().into(),
                found.only_registered.into(),
            ];
            if found.only_registered != was.1 {
                crate::event_types::take_turn(&transaction).await?;
            }
            execute(&transaction, sql, values).await?;
            match &found.egress_proxy {
                proxy if *proxy == proxy_before => {}
                Some(EgressProxy::Unreadable) => {}
                None => self.write_proxy(&transaction, tenant, found.place.uuid(), None).await?,
                Some(EgressProxy::Url(proxy)) => {
                    self.write_proxy(&transaction, tenant, found.place.uuid(), Some(proxy)).await?;
                }
            }
            let (operator, after) = (TenantId::operator(), described(&found));
            self.audit(&transaction, &operator, AuditAction::TenantChanged, tenant, before, after).await?;
            transaction.commit().await?;
            Ok::<_, StoreError>(())
        };
        writing.await?;
        Ok(Some(found))
    }
}

impl Store {
    async fn find_tenant(
        &self,
        connection: &impl ConnectionTrait,
        tenant: &TenantId,
        lock: &str,
    ) -> Result<Option<Tenant>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM tenants WHERE id = $1{lock}");
        let row = query_one(connection, sql, [tenant.as_str().into()]).await?;
        row.as_ref().map(|row| self.read_tenant(row)).transpose()
    }

    fn read_tenant(&self, row: &QueryResult) -> Result<Tenant, StoreError> {
        let id: String = column(row, "id")?;
        let metadata: String = column(row, "metadata")?;
        let metadata = serde_json::from_str(&metadata)
            .map_err(|error| DatabaseError::inconsistent("tenants", "metadata", &id, error.to_string()))?;
        let age = |name| -> Result<Option<Duration>, StoreError> {
            let millis: Option<i64> = column(row, name)?;
            Ok(millis.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0))))
        };
        let since: Option<i64> = column(row, "deletion_requested_at")?;
        let rows = u64::try_from(column::<i64>(row, "deleted_rows")?).unwrap_or(0);
        let id: TenantId = parse(&id, "tenants", "id", &id)?;
        Ok(Tenant {
            place: Id::from_uuid(column(row, "number")?),
            name: column(row, "name")?,
            metadata,
            active: column(row, "active")?,
            only_registered: column(row, "only_registered")?,
            retention: TenantRetention {
                history: age("retain_history")?,
                payloads: age("retain_payloads")?,
                dead: age("retain_dead")?,
            },
            egress_proxy: self.open_proxy(row, &id)?,
            created_at: Timestamp::from_millis(column(row, "created_at")?),
            deletion: since.map(|since| Deletion { since: Timestamp::from_millis(since), rows }),
            id,
        })
    }
}

fn text(metadata: &Metadata) -> String {
    // Text by name: serialising it cannot fail.
    serde_json::to_string(metadata).unwrap_or_else(|_| "{}".to_owned())
}
