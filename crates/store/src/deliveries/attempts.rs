//! Reading the attempts of a delivery.

use std::time::Duration;

use bytes::Bytes;
use postrider_core::id::{self, Id};
use postrider_core::{AttemptId, DeliveryId, TenantId, Timestamp, Verdict};
use postrider_database::DatabaseError;
use postrider_database::sql::{column, query_all, query_one};
use sea_orm::prelude::Uuid;
use sea_orm::{FromQueryResult as _, IdenStatic as _, Iterable as _};

use crate::attempt::Attempt;
use crate::entity::attempts;
use crate::page::{Page, PageRequest};
use crate::row::{error_kind, response_status, unsigned};
use crate::{Store, StoreError};

/// How many bytes of responses and error messages a page holds. The attempt with which it exceeds them is its last.
const PAGE_BYTES: i64 = 1024 * 1024;

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
    /// Returns a page of the attempts of a delivery of the tenant, newest first. It has fewer than `page.limit` attempts
    /// if their responses are large: it ends with the attempt that makes it larger than 1 MiB.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn attempts(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
        page: PageRequest<id::Attempt>,
    ) -> Result<Page<RecordedAttempt, id::Attempt>, StoreError> {
        let columns = attempts::Column::iter().map(|column| column.as_str()).collect::<Vec<_>>().join(", ");
        // Lengths are stored apart from the bytes, so that only the rows of the page are read whole.
        let sql = format!(
            "SELECT {columns}, found FROM ( \
                SELECT {columns}, count(*) OVER () AS found, \
                    CAST(sum(size) OVER (ORDER BY id DESC) - size AS bigint) AS size_before \
                FROM ( \
                    SELECT {columns}, coalesce(length(response_headers), 0) + coalesce(length(response_body), 0) \
                        + coalesce(length(error_detail), 0) AS size \
                    FROM attempts WHERE delivery_id = $1 AND tenant = $2 AND id < $3 ORDER BY id DESC LIMIT $4 \
                ) AS newest \
            ) AS measured WHERE size_before < $5 ORDER BY id DESC"
        );
        let values = [
            delivery.uuid().into(),
            tenant.as_str().into(),
            page.before.map_or(Uuid::max(), Id::uuid).into(),
            i64::try_from(page.rows()).unwrap_or(i64::MAX).into(),
            PAGE_BYTES.into(),
        ];
        let rows = query_all(&self.database.reads(), sql, values).await?;
        let found: i64 = rows.first().map_or(Ok(0), |row| column(row, "found"))?;
        let items = rows.iter().map(|row| read(attempts::Model::from_query_result(row, "")?));
        let mut items = items.collect::<Result<Vec<_>, StoreError>>()?;
        items.truncate(usize::from(page.limit));
        let more = i64::try_from(items.len()).is_ok_and(|items| items < found);
        let next = if more { items.last().map(|attempt| attempt.id) } else { None };
        Ok(Page { items, next })
    }

    /// Returns whether this attempt at a delivery of the tenant is stored: one that began in the same millisecond and took
    /// as long, to the microsecond.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn has_attempt(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
        attempt: &Attempt,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT id FROM attempts \
            WHERE delivery_id = $1 AND tenant = $2 AND started_at = $3 AND duration_us = $4 LIMIT 1";
        let values = [
            delivery.uuid().into(),
            tenant.as_str().into(),
            attempt.started_at.millis().into(),
            i64::try_from(attempt.duration.as_micros()).unwrap_or(i64::MAX).into(),
        ];
        Ok(query_one(&self.database.reads(), sql, values).await?.is_some())
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
