//! Between rows and types.

use postrider_core::replay::{ReplayFailure, ReplayMode, ReplayStatus};
use postrider_core::{ReplayId, TenantId, Timestamp};
use postrider_database::DatabaseError;
use postrider_database::sql::{column, query_one};
use sea_orm::{ConnectionTrait, QueryResult};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Replay;
use super::walk::Walk;
use crate::StoreError;
use crate::deliveries::DeliveryFilter;
use crate::row::{parse, timestamp};

/// The columns that [`read`] and [`read_open`] need.
pub(super) const COLUMNS: &str = "tenant, id, mode, filter, status, collected, frozen_at, reached, reached_within, total, \
    truncated, done, failed, failures, created_at, ended_at";

/// A replay on which a step works.
pub(super) struct Open {
    pub(super) tenant: TenantId,
    pub(super) replay: Replay,
    pub(super) walk: Walk,
}

/// Reads one replay of a tenant.
pub(super) async fn find(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    id: ReplayId,
    lock: &str,
) -> Result<Option<QueryResult>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM replays WHERE tenant = $1 AND id = $2{lock}");
    Ok(query_one(connection, sql, [tenant.as_str().into(), id.uuid().into()]).await?)
}

pub(super) fn read(row: &QueryResult) -> Result<Replay, StoreError> {
    read_with_rest(row).map(|(replay, _)| replay)
}

/// Reads a replay, and the name of a field of its filter that a later version has added.
fn read_with_rest(row: &QueryResult) -> Result<(Replay, Option<String>), StoreError> {
    let id = ReplayId::from_uuid(column(row, "id")?);
    let inconsistent = |column, reason: String| DatabaseError::inconsistent("replays", column, id, reason);
    let (mode, status): (i16, i16) = (column(row, "mode")?, column(row, "status")?);
    let count = |name| column::<i64>(row, name).map(|count| u64::try_from(count).unwrap_or(0));
    let filter: String = column(row, "filter")?;
    let failures: String = column(row, "failures")?;
    let (filter, unknown) = read_filter(&filter).map_err(|reason| inconsistent("filter", reason))?;
    let replay = Replay {
        id,
        mode: ReplayMode::from_code(mode)
            .ok_or_else(|| inconsistent("mode", format!("{mode} is not the code of a mode")))?,
        filter,
        status: ReplayStatus::from_code(status)
            .ok_or_else(|| inconsistent("status", format!("{status} is not the code of a status")))?,
        total: count("total")?,
        collected: column(row, "collected")?,
        truncated: column(row, "truncated")?,
        done: count("done")?,
        failed: count("failed")?,
        failures: read_failures(&failures).map_err(|error| inconsistent("failures", error.to_string()))?,
        created_at: Timestamp::from_millis(column(row, "created_at")?),
        ended_at: timestamp(column(row, "ended_at")?),
    };
    Ok((replay, unknown))
}

pub(super) fn read_open(row: &QueryResult) -> Result<Open, StoreError> {
    let (replay, unknown) = read_with_rest(row)?;
    if let Some(name) = unknown {
        // Without it, the filter would select more.
        let reason = format!("`{name}` is not known to this version");
        return Err(DatabaseError::inconsistent("replays", "filter", replay.id, reason).into());
    }
    let tenant: TenantId = parse(&column::<String>(row, "tenant")?, "replays", "tenant", replay.id)?;
    let walk = Walk {
        tenant: tenant.clone(),
        mode: replay.mode,
        filter: replay.filter.clone(),
        frozen_at: Timestamp::from_millis(column(row, "frozen_at")?),
        reached: column::<Uuid>(row, "reached")?,
        within: column::<Uuid>(row, "reached_within")?,
    };
    Ok(Open { tenant, replay, walk })
}

pub(super) fn filter_value(filter: &DeliveryFilter) -> Value {
    let DeliveryFilter { subscriber, event_type, event_id, status, response_status, .. } = filter;
    let DeliveryFilter { error_kind, dead_reason, min_attempts, max_attempts, since, until, .. } = filter;
    let all = json!({
        "subscriber_id": subscriber,
        "event": event_type,
        "event_id": event_id,
        "status": status,
        "response_code": response_status,
        "error_kind": error_kind,
        "dead_reason": dead_reason,
        "min_attempts": min_attempts,
        "max_attempts": max_attempts,
        "since": since.map(Timestamp::millis),
        "until": until.map(Timestamp::millis),
    });
    let Value::Object(all) = all else { return Value::Null };
    Value::Object(all.into_iter().filter(|(_, value)| !value.is_null()).collect())
}

fn read_filter(text: &str) -> Result<(DeliveryFilter, Option<String>), String> {
    let mut fields: Map<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let filter = DeliveryFilter {
        subscriber: take(&mut fields, "subscriber_id")?,
        event_type: take(&mut fields, "event")?,
        event_id: take(&mut fields, "event_id")?,
        status: take(&mut fields, "status")?,
        response_status: take(&mut fields, "response_code")?,
        error_kind: take(&mut fields, "error_kind")?,
        dead_reason: take(&mut fields, "dead_reason")?,
        min_attempts: take(&mut fields, "min_attempts")?,
        max_attempts: take(&mut fields, "max_attempts")?,
        since: take(&mut fields, "since")?.map(Timestamp::from_millis),
        until: take(&mut fields, "until")?.map(Timestamp::from_millis),
    };
    Ok((filter, fields.keys().next().cloned()))
}

fn take<T: DeserializeOwned>(fields: &mut Map<String, Value>, name: &str) -> Result<Option<T>, String> {
    fields.remove(name).map(serde_json::from_value).transpose().map_err(|error| error.to_string())
}

pub(super) fn failures_text(failures: &[(ReplayFailure, u64)]) -> String {
    let all = failures.iter().map(|(reason, count)| (reason.as_str().to_owned(), Value::from(*count)));
    Value::Object(all.collect()).to_string()
}

fn read_failures(text: &str) -> Result<Vec<(ReplayFailure, u64)>, serde_json::Error> {
    let all: Map<String, Value> = serde_json::from_str(text)?;
    let known = all.iter().filter_map(|(reason, count)| Some((reason.parse().ok()?, count.as_u64()?)));
    Ok(known.collect())
}

/// Adds to the count of a reason.
pub(super) fn add_failure(failures: &mut Vec<(ReplayFailure, u64)>, reason: ReplayFailure, count: u64) {
    match failures.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, known)) => *known += count,
        None => failures.push((reason, count)),
    }
}
