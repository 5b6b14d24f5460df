//! Reading what happens.

use postrider_core::{DeliveryId, Id, SubscriberId, TenantId, id};
use postrider_database::sql::{column, query_all};
use sea_orm::QueryResult;
use uuid::Uuid;

use super::{MAX_READ, TailDelivery, TailDetail, TailFrom, TailRead, TailRow, TailWhat};
use crate::events::{read_row as read_event, row_columns_without_envelope};
use crate::page::PageRequest;
use crate::row::{parse, status, unsigned};
use crate::{Store, StoreError};

/// How many of a delivery's last attempts are looked at for one of them.
const ATTEMPTS: u16 = 5;

impl Store {
    /// Reads what happened after a place, oldest first, as much as one call may.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn read_tail(&self, from: TailFrom<'_>) -> Result<TailRead, StoreError> {
        let reads = self.database.reads();
        let values = || -> [sea_orm::Value; 2] { [from.tenant.as_str().into(), from.after.uuid().into()] };
        let sql = format!(
            "SELECT id, delivery_id, subscriber_id, event_type, status, attempt, left_out FROM tail_rows \
            WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT {MAX_READ}"
        );
        let found = query_all(&reads, sql, values()).await?;
        let mut more = found.len() as u64 >= MAX_READ;
        let mut rows = found.iter().map(read_row).collect::<Result<Vec<_>, StoreError>>()?;
        if from.events {
            let sql = format!(
                "SELECT {} FROM events WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT {MAX_READ}",
                row_columns_without_envelope()
            );
            let found = query_all(&reads, sql, values()).await?;
            more |= found.len() as u64 >= MAX_READ;
            for row in &found {
                let event = read_event(row)?;
                let id = Id::from_uuid(event.id.uuid());
                rows.push(TailRow { id, what: TailWhat::Event(Box::new(event)) });
            }
            rows.sort_by_key(|row| row.id);
        }
        Ok(TailRead { rows, more })
    }

    /// Reads all of something that happened to a delivery. `None` if the delivery or the attempt does not exist any more.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn tail_detail(
        &self,
        tenant: &TenantId,
        happened: &TailDelivery,
    ) -> Result<Option<TailDetail>, StoreError> {
        let Some(delivery) = self.delivery(tenant, happened.delivery).await? else { return Ok(None) };
        let Some(number) = happened.attempt else {
            return Ok(Some(TailDetail { delivery, attempt: None }));
        };
        let page: PageRequest<id::Attempt> = PageRequest { limit: ATTEMPTS, before: None };
        let attempts = self.attempts(tenant, happened.delivery, page).await?.items;
        let attempt = attempts.into_iter().find(|attempt| attempt.number == number);
        Ok(attempt.map(|attempt| TailDetail { delivery, attempt: Some(attempt) }))
    }
}

fn read_row(row: &QueryResult) -> Result<TailRow, StoreError> {
    let id: Id<id::TailPlace> = Id::from_uuid(column(row, "id")?);
    let Some(delivery) = column::<Option<Uuid>>(row, "delivery_id")?.map(DeliveryId::from_uuid) else {
        let left_out: Option<i32> = column(row, "left_out")?;
        return Ok(TailRow { id, what: TailWhat::LeftOut(left_out.map_or(0, unsigned).into()) });
    };
    let event_type: Option<String> = column(row, "event_type")?;
    let code: Option<i16> = column(row, "status")?;
    let subscriber: Option<Uuid> = column(row, "subscriber_id")?;
    let happened = TailDelivery {
        delivery,
        subscriber: SubscriberId::from_uuid(subscriber.unwrap_or_default()),
        event_type: parse(&event_type.unwrap_or_default(), "tail_rows", "event_type", id)?,
        status: status(code.unwrap_or(-1), delivery)?,
        attempt: column::<Option<i32>>(row, "attempt")?.map(unsigned),
    };
    Ok(TailRow { id, what: TailWhat::Delivery(happened) })
}
