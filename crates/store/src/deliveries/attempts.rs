//! Reading the attempts of a delivery.

use std::time::Duration;

use bytes::Bytes;
use postrider_core::{AttemptId, DeliveryId, TenantId, Timestamp, Verdict};
use postrider_database::DatabaseError;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::entity::attempts;
use crate::row::{error_kind, response_status, unsigned};
use crate::{Store, StoreError};

/// The most attempts that are returned of a delivery. A round has 30 at most, but the number of rounds is unlimited.
const MOST_ATTEMPTS: u64 = 1_000;

/// An attempt that was recorded.
#[derive(Clone, Debug)]
pub struct RecordedAttempt {
    /// The attempt's id.
    pub id: AttemptId,
    /// Its number within the delivery, from 1.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took in all.
    pub duration: Duration,
    /// The HTTP status, if the receiver responded.
    pub response_status: Option<u16>,
    /// The response's headers. Each byte of a value is the character with that number.
    pub response_headers: Vec<(String, String)>,
    /// The beginning of the response's body.
    pub response_body: Bytes,
    /// Whether the body was longer than that.
    pub response_truncated: bool,
    /// Whether it succeeded, and if not, why.
    pub verdict: Verdict,
}

impl Store {
    /// Returns the attempts of a delivery of the tenant, oldest first; the first 1,000 of them.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn attempts(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Vec<RecordedAttempt>, StoreError> {
        let query = attempts::Entity::find()
            .filter(attempts::Column::DeliveryId.eq(delivery.uuid()))
            .filter(attempts::Column::Tenant.eq(tenant.as_str()))
            .order_by_asc(attempts::Column::Id)
            .limit(MOST_ATTEMPTS);
        query.all(&self.database.reads()).await?.into_iter().map(read).collect()
    }
}

fn read(row: attempts::Model) -> Result<RecordedAttempt, StoreError> {
    let id = AttemptId::from_uuid(row.id);
    let headers = row.response_headers.as_deref().map(serde_json::from_slice).transpose();
    Ok(RecordedAttempt {
        id,
        number: unsigned(row.number),
        started_at: Timestamp::from_millis(row.started_at),
        duration: Duration::from_micros(u64::try_from(row.duration_us).unwrap_or(0)),
        response_status: response_status(row.response_status),
        response_headers: headers
            .map_err(|error| DatabaseError::inconsistent("attempts", "response_headers", id, error))?
            .unwrap_or_default(),
        response_body: row.response_body.unwrap_or_default().into(),
        response_truncated: row.response_truncated,
        verdict: Verdict::from_parts(error_kind(row.error_kind), row.error_detail),
    })
}
