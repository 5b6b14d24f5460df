//! Notices that have not been sent.

use std::time::Duration;

use postrider_core::subscriber::{NoticeChannel, NoticeKind};
use postrider_core::{EventId, EventType, IdGenerator, SubscriberId, TenantId, Timestamp};
use postrider_database::sql::{column, execute, query_all};
use postrider_database::{Batch, Column, Dialect, Kind, Transaction};
use sea_orm::QueryResult;

use crate::row::{millis, parse, unsigned};
use crate::{Store, StoreError};

/// A notice to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerNotice {
    /// The id of the event that it reports, the same whenever it is sent.
    pub id: EventId,
    /// The subscriber's tenant.
    pub tenant: TenantId,
    /// The subscriber.
    pub subscriber: SubscriberId,
    /// How to send it.
    pub channel: NoticeChannel,
    /// What it reports.
    pub kind: NoticeKind,
    /// The event's data: a JSON object.
    pub data: String,
    /// How often it was taken, this time included.
    pub attempts: u32,
    /// When it was written.
    pub created_at: Timestamp,
}

/// After how long a notice that nobody has taken is removed.
const STALE: Duration = Duration::from_hours(48);

impl Store {
    /// Takes up to `max` notices that are due, for `lease`: nobody else sends them for that long. Mail only if `with_email`.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn take_notices(
        &self,
        with_email: bool,
        max: u32,
        lease: Duration,
    ) -> Result<Vec<OwnerNotice>, StoreError> {
        let dialect = self.database.dialect();
        let now = dialect.now();
        let channels = if with_email { "" } else { "AND channel <> 2" };
        let due = format!("SELECT id FROM owner_notices WHERE due_at <= {now} {channels} ORDER BY due_at");
        if query_all(&self.database.reads(), format!("{due} LIMIT 1"), []).await?.is_empty() {
            return Ok(Vec::new());
        }
        let named = match dialect {
            Dialect::Postgres => format!("id = ANY (ARRAY({due} LIMIT {max} FOR UPDATE SKIP LOCKED))"),
            Dialect::Sqlite => format!("id IN ({due} LIMIT {max})"),
        };
        let sql = format!(
            "UPDATE owner_notices SET due_at = {now} + $1, attempts = attempts + 1 WHERE {named} \
             RETURNING id, tenant, subscriber_id, channel, kind, data, attempts, created_at"
        );
        let rows = query_all(self.database.connection(), sql, [millis(lease).into()]).await?;
        // One of a later release stays, and is removed with those that were never sent.
        Ok(rows.iter().map(read).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// Removes a notice that was sent, or that will not be sent any more.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn remove_notice(&self, id: EventId) -> Result<(), StoreError> {
        let sql = "DELETE FROM owner_notices WHERE id = $1";
        execute(self.database.connection(), sql, [id.uuid().into()]).await?;
        Ok(())
    }

    /// Removes notices that have been due for two days and that nobody has taken, such as mail without a relay.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn remove_stale_notices(&self) -> Result<(), StoreError> {
        let now = self.database.dialect().now();
        let sql = format!("DELETE FROM owner_notices WHERE due_at < {now} - $1");
        execute(self.database.connection(), sql, [millis(STALE).into()]).await?;
        Ok(())
    }

    /// Puts a notice off that could not be sent.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn put_notice_off(&self, id: EventId, delay: Duration) -> Result<(), StoreError> {
        let now = self.database.dialect().now();
        let sql = format!("UPDATE owner_notices SET due_at = {now} + $2 WHERE id = $1");
        execute(self.database.connection(), sql, [id.uuid().into(), millis(delay).into()]).await?;
        Ok(())
    }

    /// Returns up to `max` active subscribers that name an event type, or a prefix of it. Those of all events are not among
    /// them.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn subscribers_by_name(
        &self,
        tenant: &TenantId,
        event_type: &EventType,
        max: u32,
    ) -> Result<Vec<SubscriberId>, StoreError> {
        let mut found = Vec::new();
        for pattern in event_type.matching_patterns().filter(|pattern| pattern.as_str() != "*") {
            let sql = format!(
                "SELECT subscriber_id FROM subscriptions WHERE tenant = $1 AND pattern = $2 \
                 AND (SELECT 1 FROM subscribers WHERE id = subscriber_id AND active LIMIT 1) IS NOT NULL \
                 LIMIT {max}"
            );
            let values = [tenant.as_str().into(), pattern.as_str().into()];
            for row in query_all(&self.database.reads(), sql, values).await? {
                found.push(SubscriberId::from_uuid(column(&row, "subscriber_id")?));
            }
        }
        found.sort_unstable();
        found.dedup();
        found.truncate(usize::try_from(max).unwrap_or(usize::MAX));
        Ok(found)
    }
}

/// Notices to be written.
pub(super) struct Outbox<'a> {
    ids: &'a IdGenerator,
    rows: Batch,
}

impl<'a> Outbox<'a> {
    pub(super) fn new(ids: &'a IdGenerator) -> Self {
        const NOTICE: &[Column] = &[
            Column::new("id", Kind::Uuid),
            Column::new("tenant", Kind::Text),
            Column::new("subscriber_id", Kind::Uuid),
            Column::new("channel", Kind::Small),
            Column::new("kind", Kind::Small),
            Column::new("data", Kind::Text),
        ];
        Self { ids, rows: Batch::new(NOTICE) }
    }

    pub(super) fn push(
        &mut self,
        tenant: &TenantId,
        subscriber: SubscriberId,
        channel: NoticeChannel,
        kind: NoticeKind,
        data: &str,
    ) {
        let id: EventId = self.ids.next();
        self.rows.push([
            id.uuid().into(),
            tenant.as_str().into(),
            subscriber.uuid().into(),
            channel.code().into(),
            kind.code().into(),
            data.into(),
        ]);
    }

    pub(super) async fn write(self, transaction: &Transaction) -> Result<(), StoreError> {
        let now = Dialect::of(transaction).now();
        let sql = format!(
            "INSERT INTO owner_notices (id, tenant, subscriber_id, channel, kind, data, attempts, due_at, created_at) \
             SELECT id, tenant, subscriber_id, channel, kind, data, 0, {now}, {now} FROM input"
        );
        self.rows.execute(transaction, &sql, []).await?;
        Ok(())
    }
}

fn read(row: &QueryResult) -> Result<Option<OwnerNotice>, StoreError> {
    let id = EventId::from_uuid(column(row, "id")?);
    let channel = NoticeChannel::from_code(column(row, "channel")?);
    let kind = NoticeKind::from_code(column(row, "kind")?);
    let (Some(channel), Some(kind)) = (channel, kind) else { return Ok(None) };
    Ok(Some(OwnerNotice {
        id,
        tenant: parse(&column::<String>(row, "tenant")?, "owner_notices", "tenant", id)?,
        subscriber: SubscriberId::from_uuid(column(row, "subscriber_id")?),
        channel,
        kind,
        data: column(row, "data")?,
        attempts: unsigned(column(row, "attempts")?),
        created_at: Timestamp::from_millis(column(row, "created_at")?),
    }))
}
