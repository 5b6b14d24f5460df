//! Reading the attempts of a delivery.

use std::time::Duration;

use bytes::Bytes;
use postrider_core::id::{self, Id};
use postrider_core::{AttemptId, DeliveryId, TenantId, Timestamp, Verdict};
use postrider_database::DatabaseError;
use postrider_database::sql::{column, query_all, query_one};
use sea_orm::QueryResult;
use sea_orm::prelude::Uuid;

use crate::attempt::Attempt;
use crate::exchange::Exchange;
use crate::packed_exchange;
use crate::packed_response;
use crate::page::{Page, PageRequest};
use crate::row::{characters, error_kind, response_status, unsigned};
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
    /// What it sent, and where to; `None` if it made no request, or that was erased.
    pub exchange: Option<Exchange>,
    /// Whether its request was sent a second time although the receiver may have processed the first.
    pub resent: bool,
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
        // Lengths are stored apart from the bytes, so that only the rows of the page are read whole.
        let sql = format!(
            "SELECT {COLUMNS}, found FROM ( \
                SELECT {COLUMNS}, count(*) OVER () AS found, \
                    CAST(sum(size) OVER (ORDER BY id DESC) - size AS bigint) AS size_before \
                FROM ( \
                    SELECT {COLUMNS}, coalesce(length(response_headers), 0) + coalesce(length(response_body), 0) \
                        + coalesce(length(error_detail), 0) + coalesce(length(packed), 0) \
                        + coalesce(length(exchange), 0) AS size \
                    FROM ( \
                        SELECT {COLUMNS} FROM (SELECT *, CAST(NULL AS bytea) AS packed FROM attempts \
                            WHERE delivery_id = $1 AND tenant = $2 AND id < $3 ORDER BY id DESC LIMIT $4) AS later \
                        UNION ALL SELECT {IN_DELIVERY} FROM deliveries \
                            WHERE id = $1 AND tenant = $2 AND id < $3 AND first_started_at IS NOT NULL \
                    ) AS stored ORDER BY id DESC LIMIT $4 \
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
        let items = rows.iter().map(|row| read(row, delivery));
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
        let sql = "SELECT id FROM deliveries \
                WHERE id = $1 AND tenant = $2 AND first_started_at = $3 AND first_duration_us = $5 \
            UNION ALL SELECT id FROM attempts \
                WHERE delivery_id = $1 AND tenant = $2 AND started_at = $3 AND duration_us = $4 LIMIT 1";
        let values = [
            delivery.uuid().into(),
            tenant.as_str().into(),
            attempt.started_at.millis().into(),
            attempt.micros().into(),
            attempt.first_micros().into(),
        ];
        Ok(query_one(&self.database.reads(), sql, values).await?.is_some())
    }
}

/// The columns that are read, as `attempts` has them. A response from the row of a delivery is packed.
const COLUMNS: &str = "id, number, started_at, duration_us, response_status, response_headers, response_body, \
    response_truncated, error_kind, error_detail, packed, exchange, resent";

/// The same columns of the first attempt, if it is in the row of its delivery: a success whose id is the delivery's.
const IN_DELIVERY: &str = "id, 1, first_started_at, first_duration_us, first_status, NULL, NULL, false, NULL, NULL, \
    first_response, first_exchange, first_resent";

/// The headers, the body, and whether the body was longer.
type Unpacked = (Vec<(String, String)>, Bytes, bool);

fn unpack(id: AttemptId, status: u16, packed: &[u8]) -> Result<Unpacked, StoreError> {
    let response = packed_response::unpack(status, packed).ok_or_else(|| {
        DatabaseError::inconsistent("deliveries", "first_response", id, "not a packed response")
    })?;
    let headers = response.headers.into_iter().map(|(name, value)| (name, characters(&value)));
    Ok((headers.collect(), response.body, response.truncated))
}

/// Reads an exchange. It may be in a format that a newer version wrote, and the rest of its attempt is still worth showing.
fn exchange(
    packed: Option<Vec<u8>>,
    resent: bool,
    delivery: DeliveryId,
    started_at: Timestamp,
) -> Option<Exchange> {
    packed_exchange::unpack(&packed?, resent, delivery, started_at)
}

/// Reads the first attempt from the row of its delivery; `None` if it is not there.
pub(crate) fn read_first(row: &QueryResult) -> Result<Option<RecordedAttempt>, StoreError> {
    let started_at: Option<i64> = column(row, "first_started_at")?;
    let Some(started_at) = started_at else { return Ok(None) };
    let id = AttemptId::from_uuid(column(row, "id")?);
    let status = response_status(column(row, "first_status")?);
    let packed: Option<Vec<u8>> = column(row, "first_response")?;
    let (response_headers, response_body, response_truncated) = match (status, packed) {
        (Some(status), Some(packed)) => unpack(id, status, &packed)?,
        _ => Unpacked::default(),
    };
    let micros: Option<i32> = column(row, "first_duration_us")?;
    let resent = column::<Option<bool>>(row, "first_resent")?.unwrap_or(false);
    let started_at = Timestamp::from_millis(started_at);
    let delivery = DeliveryId::from_uuid(id.uuid());
    let exchange = exchange(column(row, "first_exchange")?, resent, delivery, started_at);
    Ok(Some(RecordedAttempt {
        id,
        number: 1,
        started_at,
        duration: Duration::from_micros(micros.map_or(0, |micros| unsigned(micros).into())),
        response_status: status,
        response_headers,
        response_body,
        response_truncated,
        verdict: Verdict::Success,
        exchange,
        resent,
    }))
}

/// Reads an attempt at `delivery` from a row of `attempts`, or from one like it with a packed response.
pub(crate) fn read(row: &QueryResult, delivery: DeliveryId) -> Result<RecordedAttempt, StoreError> {
    let id = AttemptId::from_uuid(column(row, "id")?);
    let status = response_status(column(row, "response_status")?);
    let packed: Option<Vec<u8>> = column(row, "packed")?;
    let (headers, body, truncated) = if let (Some(status), Some(packed)) = (status, packed) {
        unpack(id, status, &packed)?
    } else {
        let headers: Option<Vec<u8>> = column(row, "response_headers")?;
        let headers = headers.as_deref().map(serde_json::from_slice).transpose();
        let headers = headers
            .map_err(|error| DatabaseError::inconsistent("attempts", "response_headers", id, error))?;
        let body: Option<Vec<u8>> = column(row, "response_body")?;
        (headers.unwrap_or_default(), body.unwrap_or_default().into(), column(row, "response_truncated")?)
    };
    let started_at = Timestamp::from_millis(column(row, "started_at")?);
    let resent = column::<Option<bool>>(row, "resent")?.unwrap_or(false);
    Ok(RecordedAttempt {
        id,
        number: unsigned(column(row, "number")?),
        started_at,
        duration: Duration::from_micros(u64::try_from(column::<i64>(row, "duration_us")?).unwrap_or(0)),
        response_status: status,
        response_headers: headers,
        response_body: body,
        response_truncated: truncated,
        verdict: Verdict::from_parts(error_kind(column(row, "error_kind")?), column(row, "error_detail")?),
        exchange: exchange(column(row, "exchange")?, resent, delivery, started_at),
        resent,
    })
}
