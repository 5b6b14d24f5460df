//! Listeners: subscribers whose deliveries are handed to a program on another machine.
//!
//! A listener has a lease, which its stream extends, and a subscriber, whose URL ends in the listener's token. A worker that
//! makes an attempt at this URL writes a row into `handovers`; a server reads it for the stream and writes the answer into it,
//! and the worker removes it. Each row belongs to an attempt that has a worker slot, so there are never many.
//!
//! | file | what it does |
//! |---|---|
//! | `handover` | hands requests over, and answers back |
//! | `removal` | ends listeners whose lease is over |

mod handover;
mod removal;

use std::time::Duration;

use postrider_core::{ListenerId, SubscriberId, TenantId, Timestamp};
use postrider_database::sql::{column, execute, query_one};
use sea_orm::Value;
use uuid::Uuid;

pub use self::handover::{Handover, HandoverRequest, HandoverState, MAX_TAKEN};
use crate::row::millis;
use crate::{Store, StoreError};

/// How long a listener stays after its stream has broken.
pub const LISTENER_LEASE: Duration = Duration::from_mins(1);

/// The most listeners of a tenant.
pub const MAX_LISTENERS: u32 = 20;

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its id.
    pub id: ListenerId,
    /// Its subscriber; `None` until that is there.
    pub subscriber: Option<SubscriberId>,
    /// When its lease ends.
    pub lease_until: Timestamp,
}

impl Store {
    /// Creates a listener without a subscriber. Returns `None` if the tenant has [`MAX_LISTENERS`] already.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn create_listener(
        &self,
        tenant: &TenantId,
        token: &str,
    ) -> Result<Option<ListenerId>, StoreError> {
        let (id, now): (ListenerId, _) = (self.ids.next(), self.database.dialect().now());
        // Two that are created at once may be one too many.
        let sql = format!(
            "INSERT INTO listeners (tenant, id, token, created_at, lease_until) \
            SELECT $1, $2, $3, {now}, {now} + $4 \
            FROM (SELECT count(*) AS listeners FROM listeners WHERE tenant = $1) AS present \
            WHERE present.listeners < {MAX_LISTENERS}"
        );
        let lease = millis(LISTENER_LEASE);
        let values: [Value; 4] = [tenant.as_str().into(), id.uuid().into(), token.into(), lease.into()];
        let created = execute(self.database.connection(), sql, values).await? > 0;
        Ok(created.then_some(id))
    }

    /// Notes the subscriber of a listener.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn set_listener_subscriber(
        &self,
        tenant: &TenantId,
        id: ListenerId,
        subscriber: SubscriberId,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE listeners SET subscriber_id = $3 WHERE tenant = $1 AND id = $2";
        let [tenant, id] = name(tenant, id);
        execute(self.database.connection(), sql, [tenant, id, subscriber.uuid().into()]).await?;
        Ok(())
    }

    /// Returns a listener whose lease is not over.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn listener(&self, tenant: &TenantId, id: ListenerId) -> Result<Option<Listener>, StoreError> {
        let now = self.database.dialect().now();
        let sql = format!(
            "SELECT subscriber_id, lease_until FROM listeners WHERE tenant = $1 AND id = $2 AND lease_until > {now}"
        );
        let row = query_one(&self.database.reads(), sql, name(tenant, id)).await?;
        row.map(|row| {
            Ok(Listener {
                id,
                subscriber: column::<Option<Uuid>>(&row, "subscriber_id")?.map(SubscriberId::from_uuid),
                lease_until: Timestamp::from_millis(column(&row, "lease_until")?),
            })
        })
        .transpose()
    }

    /// Makes a stream the one that takes a listener's requests, and extends the lease. What an earlier stream has taken and
    /// not answered is handed over again. Returns whether there is such a listener.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn attend_listener(
        &self,
        tenant: &TenantId,
        id: ListenerId,
        stream: Uuid,
    ) -> Result<bool, StoreError> {
        let now = self.database.dialect().now();
        let sql = format!(
            "UPDATE listeners SET stream = $3, lease_until = {now} + $4 \
            WHERE tenant = $1 AND id = $2 AND lease_until > {now}"
        );
        let [tenant, listener] = name(tenant, id);
        let values = [tenant.clone(), listener.clone(), stream.into(), millis(LISTENER_LEASE).into()];
        if execute(self.database.connection(), sql, values).await? == 0 {
            return Ok(false);
        }
        let sql =
            "UPDATE handovers SET taken_at = NULL WHERE tenant = $1 AND listener_id = $2 AND answer IS NULL";
        execute(self.database.connection(), sql, [tenant, listener]).await?;
        Ok(true)
    }

    /// Extends the lease of a listener. Returns `false` if the listener has ended, or another stream takes its requests.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn extend_listener(
        &self,
        tenant: &TenantId,
        id: ListenerId,
        stream: Uuid,
    ) -> Result<bool, StoreError> {
        let now = self.database.dialect().now();
        let sql = format!(
            "UPDATE listeners SET lease_until = {now} + $4 \
            WHERE tenant = $1 AND id = $2 AND stream = $3 AND lease_until > {now}"
        );
        let [tenant, id] = name(tenant, id);
        let values = [tenant, id, stream.into(), millis(LISTENER_LEASE).into()];
        Ok(execute(self.database.connection(), sql, values).await? > 0)
    }
}

fn name(tenant: &TenantId, id: ListenerId) -> [Value; 2] {
    [tenant.as_str().into(), id.uuid().into()]
}
