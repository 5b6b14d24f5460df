//! Handing requests to listeners, and their answers back.

use std::time::Duration;

use postrider_core::{HandoverId, Id, ListenerId, TenantId};
use postrider_database::sql::{column, execute, query_all, query_one};
use postrider_database::{Batch, Column, Dialect, Kind};
use sea_orm::Value;
use serde_json::Value as Json;

use super::name;
use crate::row::{millis, parse};
use crate::{Store, StoreError};

/// The most requests that one call takes.
pub const MAX_TAKEN: u32 = 16;

/// A request that is handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The tenant.
    pub tenant: TenantId,
    /// The listener.
    pub listener: ListenerId,
    /// Its id.
    pub id: HandoverId,
}

/// A request as a stream takes it.
#[derive(Clone, Debug)]
pub struct HandoverRequest {
    /// Its id.
    pub id: HandoverId,
    /// What belongs to it beside its body, in the words of those who write and read it.
    pub head: Json,
    /// Its body.
    pub body: Vec<u8>,
    /// How long its attempt waits for an answer.
    pub left: Duration,
}

/// How far a request has got.
#[derive(Clone, Debug)]
pub enum HandoverState {
    /// No stream has taken it.
    Waiting,
    /// A stream has taken it.
    Taken,
    /// It was answered.
    Answered(Json),
}

impl Store {
    /// Hands a request to the listener with this token, for as long as the attempt takes. Returns `None` if there is no such
    /// listener of the tenant.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn hand_over(
        &self,
        tenant: &TenantId,
        token: &str,
        head: &Json,
        body: &[u8],
        wait: Duration,
    ) -> Result<Option<Handover>, StoreError> {
        let (id, now): (HandoverId, _) = (self.ids.next(), self.database.dialect().now());
        let sql = format!(
            "INSERT INTO handovers (tenant, listener_id, id, head, body, created_at, wait_until) \
            SELECT tenant, id, $3, $4, $5, {now}, {now} + $6 FROM listeners \
            WHERE token = $1 AND tenant = $2 AND lease_until > {now} RETURNING listener_id"
        );
        let values: [Value; 6] = [
            token.into(),
            tenant.as_str().into(),
            id.uuid().into(),
            head.to_string().into(),
            body.to_vec().into(),
            millis(wait).into(),
        ];
        let row = query_one(self.database.connection(), sql, values).await?;
        row.map(|row| {
            let listener = ListenerId::from_uuid(column(&row, "listener_id")?);
            Ok(Handover { tenant: tenant.clone(), listener, id })
        })
        .transpose()
    }

    /// Returns how far these requests have got. One that was removed is missing.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn handover_states(
        &self,
        handovers: &[Handover],
    ) -> Result<Vec<(HandoverId, HandoverState)>, StoreError> {
        let connection = self.database.connection();
        let input = named(handovers);
        let handover = self.database.dialect().look_up(
            "handovers",
            "handovers.tenant = input.tenant AND handovers.listener_id = input.listener_id AND handovers.id = input.id",
        );
        let sql = format!("SELECT handovers.id, handovers.taken_at, handovers.answer FROM input {handover}");
        let rows = input.query(connection, &sql, []).await?;
        rows.iter()
            .map(|row| {
                let id = HandoverId::from_uuid(column(row, "id")?);
                let state = match column::<Option<String>>(row, "answer")? {
                    Some(text) => HandoverState::Answered(json(&text, "answer", id)?),
                    None if column::<Option<i64>>(row, "taken_at")?.is_some() => HandoverState::Taken,
                    None => HandoverState::Waiting,
                };
                Ok((id, state))
            })
            .collect()
    }

    /// Removes a request whose attempt has ended.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn end_handover(&self, handover: &Handover) -> Result<(), StoreError> {
        let sql = "DELETE FROM handovers WHERE tenant = $1 AND listener_id = $2 AND id = $3";
        let [tenant, listener] = name(&handover.tenant, handover.listener);
        execute(self.database.connection(), sql, [tenant, listener, handover.id.uuid().into()]).await?;
        Ok(())
    }

    /// Takes requests of a listener that no stream has taken, oldest first, up to [`MAX_TAKEN`].
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn take_handovers(
        &self,
        tenant: &TenantId,
        listener: ListenerId,
    ) -> Result<Vec<HandoverRequest>, StoreError> {
        let dialect = self.database.dialect();
        let now = dialect.now();
        let waiting = format!(
            "FROM handovers WHERE tenant = $1 AND listener_id = $2 AND taken_at IS NULL AND wait_until > {now}"
        );
        // A stream asks often, and there is seldom something to write.
        let sql = format!("SELECT 1 AS one {waiting} LIMIT 1");
        if query_one(&self.database.reads(), sql, name(tenant, listener)).await?.is_none() {
            return Ok(Vec::new());
        }
        let lock = match dialect {
            Dialect::Postgres => " FOR UPDATE SKIP LOCKED",
            Dialect::Sqlite => "",
        };
        let sql = format!(
            "UPDATE handovers SET taken_at = {now} WHERE tenant = $1 AND listener_id = $2 AND id IN ( \
                SELECT id {waiting} ORDER BY tenant, listener_id, id LIMIT {MAX_TAKEN}{lock}) \
            RETURNING id, head, body, wait_until - {now} AS wait_left"
        );
        let rows = query_all(self.database.connection(), sql, name(tenant, listener)).await?;
        let mut taken = rows
            .iter()
            .map(|row| {
                let id = HandoverId::from_uuid(column(row, "id")?);
                let head: String = column(row, "head")?;
                let left = u64::try_from(column::<i64>(row, "wait_left")?).unwrap_or(0);
                let left = Duration::from_millis(left);
                Ok(HandoverRequest { id, head: json(&head, "head", id)?, body: column(row, "body")?, left })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        taken.sort_unstable_by_key(|request| request.id);
        Ok(taken)
    }

    /// Answers a request. Returns whether its attempt still waits.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn answer_handover(&self, handover: &Handover, answer: &Json) -> Result<bool, StoreError> {
        let now = self.database.dialect().now();
        let sql = format!(
            "UPDATE handovers SET answer = $4 \
            WHERE tenant = $1 AND listener_id = $2 AND id = $3 AND answer IS NULL AND wait_until > {now}"
        );
        let [tenant, listener] = name(&handover.tenant, handover.listener);
        let values = [tenant, listener, handover.id.uuid().into(), answer.to_string().into()];
        Ok(execute(self.database.connection(), sql, values).await? > 0)
    }
}

fn named(handovers: &[Handover]) -> Batch {
    const ROW: &[Column] = &[
        Column::new("tenant", Kind::Text),
        Column::new("listener_id", Kind::Uuid),
        Column::new("id", Kind::Uuid),
    ];
    let mut input = Batch::new(ROW);
    for Handover { tenant, listener, id } in handovers {
        input.push([tenant.as_str().into(), listener.uuid().into(), id.uuid().into()]);
    }
    input
}

fn json<K: postrider_core::id::IdKind>(
    text: &str,
    column: &'static str,
    id: Id<K>,
) -> Result<Json, StoreError> {
    parse(text, "handovers", column, id)
}
