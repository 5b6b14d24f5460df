//! Starting, pausing, resuming, cancelling and reading replays.

use postrider_core::audit::AuditAction;
use postrider_core::replay::{ReplayMode, ReplayStatus};
use postrider_core::{ReplayId, TenantId, Timestamp, id};
use postrider_database::Transaction;
use postrider_database::sql::{column, execute, lock_clause, query_all};
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use uuid::Uuid;

use super::stored::{COLUMNS, filter_value, find, read};
use super::walk::Walk;
use super::{MAX_OPEN, Replay};
use crate::deliveries::DeliveryFilter;
use crate::page::{Page, PageRequest};
use crate::{Store, StoreError};

/// The result of starting a replay.
#[derive(Clone, Debug)]
pub enum Started {
    /// It was started.
    Replay(Box<Replay>),
    /// The tenant has [`MAX_OPEN`] unfinished replays already.
    TooMany,
}

/// What is done to a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayChange {
    /// No further step is taken until it is resumed.
    Pause,
    /// Steps are taken again.
    Resume,
    /// No further step is ever taken.
    Cancel,
}

/// The result of changing a replay.
#[derive(Clone, Debug)]
pub enum ReplayChanged {
    /// It was changed. This is its new state.
    Done(Box<Replay>),
    /// That is not possible in its status, which this is.
    Not(ReplayStatus),
    /// The tenant has no such replay.
    Missing,
}

impl ReplayChange {
    fn action(self) -> AuditAction {
        match self {
            Self::Pause => AuditAction::ReplayPaused,
            Self::Resume => AuditAction::ReplayResumed,
            Self::Cancel => AuditAction::ReplayCancelled,
        }
    }

    /// The status after it; `None` if it is not possible.
    fn applied_to(self, replay: &Replay) -> Option<ReplayStatus> {
        match (self, replay.status) {
            (_, ReplayStatus::Done | ReplayStatus::Cancelled)
            | (Self::Pause, ReplayStatus::Paused)
            | (Self::Resume, ReplayStatus::Collecting | ReplayStatus::Running) => None,
            (Self::Pause, _) => Some(ReplayStatus::Paused),
            (Self::Resume, _) if replay.collected => Some(ReplayStatus::Running),
            (Self::Resume, _) => Some(ReplayStatus::Collecting),
            (Self::Cancel, _) => Some(ReplayStatus::Cancelled),
        }
    }
}

impl Store {
    /// Starts a replay of what matches `filter` and has ended, or was dispatched, by now. Steps collect and deliver it:
    /// [`Store::step_replay`].
    ///
    /// # Errors
    /// Fails if the database is unavailable. The replay may have been started all the same.
    pub async fn start_replay(
        &self,
        tenant: &TenantId,
        mode: ReplayMode,
        filter: &DeliveryFilter,
    ) -> Result<Started, StoreError> {
        let id: ReplayId = self.ids.next();
        let transaction = self.database.begin().await?;
        let frozen_at = now(&transaction).await?;
        let walk = Walk::new(tenant, mode, filter, frozen_at);
        let sql = format!(
            "INSERT INTO replays (tenant, id, mode, filter, status, collected, place, frozen_at, reached, \
                reached_within, total, truncated, done, failed, failures, created_at, touched_at, cleaning) \
            VALUES ($1, $2, $3, $4, {}, false, $5, $6, $7, $8, 0, false, 0, 0, '{{}}', $6, $6, false) \
            ON CONFLICT DO NOTHING",
            ReplayStatus::Collecting.code()
        );
        let mut taken = places(&transaction, tenant).await?;
        loop {
            let Some(place) = (0..MAX_OPEN).find(|place| !taken.contains(place)) else {
                transaction.rollback().await?;
                return Ok(Started::TooMany);
            };
            let values: [sea_orm::Value; 8] = [
                tenant.as_str().into(),
                id.uuid().into(),
                mode.code().into(),
                filter_value(filter).to_string().into(),
                place.into(),
                frozen_at.millis().into(),
                walk.reached.into(),
                Uuid::nil().into(),
            ];
            if execute(&transaction, &sql, values).await? == 1 {
                break;
            }
            // Another request has just taken it.
            taken.push(place);
        }
        let after = json!({"mode": mode, "filter": filter_value(filter)});
        self.audit(&transaction, tenant, AuditAction::ReplayStarted, id, Value::Null, after).await?;
        transaction.commit().await?;
        Ok(Started::Replay(Box::new(Replay {
            id,
            mode,
            filter: filter.clone(),
            status: ReplayStatus::Collecting,
            total: 0,
            collected: false,
            truncated: false,
            done: 0,
            failed: 0,
            failures: Vec::new(),
            created_at: frozen_at,
            ended_at: None,
        })))
    }

    /// Pauses, resumes or cancels a replay. A step that is being taken ends before.
    ///
    /// # Errors
    /// Fails if the database is unavailable. The replay may have been changed all the same.
    pub async fn change_replay(
        &self,
        tenant: &TenantId,
        id: ReplayId,
        change: ReplayChange,
    ) -> Result<ReplayChanged, StoreError> {
        let transaction = self.database.begin().await?;
        let lock = lock_clause(self.database.dialect());
        let Some(row) = find(&transaction, tenant, id, lock).await? else {
            transaction.rollback().await?;
            return Ok(ReplayChanged::Missing);
        };
        let before = read(&row)?;
        let Some(status) = change.applied_to(&before) else {
            transaction.rollback().await?;
            return Ok(ReplayChanged::Not(before.status));
        };
        let now = self.database.dialect().now();
        let end = if status.is_final() {
            format!(", ended_at = {now}, place = NULL, cleaning = true")
        } else {
            String::new()
        };
        let sql =
            format!("UPDATE replays SET status = $3, touched_at = {now}{end} WHERE tenant = $1 AND id = $2");
        execute(&transaction, sql, [tenant.as_str().into(), id.uuid().into(), status.code().into()]).await?;
        let (was, is) = (json!({"status": before.status}), json!({"status": status}));
        self.audit(&transaction, tenant, change.action(), id, was, is).await?;
        let row = find(&transaction, tenant, id, "").await?;
        transaction.commit().await?;
        Ok(match row {
            Some(row) => ReplayChanged::Done(Box::new(read(&row)?)),
            None => ReplayChanged::Missing,
        })
    }

    /// Returns a replay of the tenant.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn replay(&self, tenant: &TenantId, id: ReplayId) -> Result<Option<Replay>, StoreError> {
        find(&self.database.reads(), tenant, id, "").await?.as_ref().map(read).transpose()
    }

    /// Returns a page of the tenant's replays, newest first.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn replays(
        &self,
        tenant: &TenantId,
        page: PageRequest<id::Replay>,
    ) -> Result<Page<Replay, id::Replay>, StoreError> {
        let before = page.before.map_or(Uuid::max(), ReplayId::uuid);
        let sql = format!(
            "SELECT {COLUMNS} FROM replays WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT {}",
            page.rows()
        );
        let rows = query_all(&self.database.reads(), sql, [tenant.as_str().into(), before.into()]).await?;
        let items = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(items, page.limit, |replay| replay.id))
    }
}

/// The places that unfinished replays of the tenant have.
async fn places(transaction: &Transaction, tenant: &TenantId) -> Result<Vec<i16>, StoreError> {
    let sql = "SELECT place FROM replays WHERE tenant = $1 AND place IS NOT NULL";
    let rows = query_all(transaction, sql, [tenant.as_str().into()]).await?;
    rows.iter().map(|row| Ok(column(row, "place")?)).collect()
}

/// The time of the database's clock, which also sets when deliveries end.
pub(super) async fn now(connection: &impl ConnectionTrait) -> Result<Timestamp, StoreError> {
    let sql = format!("SELECT {} AS now", postrider_database::Dialect::of(connection).now());
    let rows = query_all(connection, sql, []).await?;
    let now = rows.first().map(|row| column(row, "now")).transpose()?;
    Ok(Timestamp::from_millis(now.unwrap_or_default()))
}
