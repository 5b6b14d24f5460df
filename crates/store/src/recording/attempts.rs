//! The log of attempts.

use std::collections::HashMap;

use bytes::Bytes;
use postrider_core::{AttemptId, ErrorKind, IdGenerator};
use postrider_database::{Batch, Column, Kind, Writes};
use postrider_queue::JobId;

use super::deliveries::Applied;
use crate::attempt::Outcome;
use crate::row::{characters, stored_status};

/// Adds the attempts of these outcomes to `writes`, except those that are in the rows of their deliveries. A deleted
/// delivery is not in `applied` and gets no attempt.
pub(super) fn insert(
    ids: &IdGenerator,
    outcomes: &[&Outcome],
    applied: &HashMap<JobId, Applied>,
    writes: &mut Writes,
) {
    const ATTEMPT: &[Column] = &[
        Column::new("id", Kind::Uuid),
        Column::new("tenant", Kind::Text),
        Column::new("delivery_id", Kind::Uuid),
        Column::new("number", Kind::Int),
        Column::new("started_at", Kind::Big),
        Column::new("duration_us", Kind::Big),
        Column::nullable("response_status", Kind::Small),
        Column::nullable("response_headers", Kind::Bytes),
        Column::nullable("response_body", Kind::Bytes),
        Column::new("response_truncated", Kind::Bool),
        Column::nullable("error_kind", Kind::Small),
        Column::nullable("error_detail", Kind::Text),
        Column::nullable("exchange", Kind::Bytes),
        Column::nullable("resent", Kind::Bool),
    ];
    let mut input = Batch::new(ATTEMPT);
    for outcome in outcomes {
        let Some(attempt) = &outcome.attempt else { continue };
        let Some(applied) = applied.get(&outcome.lease.job) else { continue };
        if applied.is_first_in_row(outcome) {
            continue;
        }
        let id: AttemptId = ids.next();
        let response = attempt.response.as_ref();
        // PostgreSQL's `text` cannot hold a NUL.
        let detail = attempt.verdict.detail().map(|detail| detail.replace('\0', "\u{fffd}"));
        input.push([
            id.uuid().into(),
            outcome.delivery.tenant.as_str().into(),
            outcome.delivery.id.uuid().into(),
            applied.attempts.into(),
            attempt.started_at.millis().into(),
            attempt.micros().into(),
            stored_status(response.map(|response| response.status)).into(),
            response.map(|response| headers_text(&response.headers)).into(),
            response.map(|response| response.body.to_vec()).into(),
            response.is_some_and(|response| response.truncated).into(),
            attempt.verdict.error_kind().map(ErrorKind::code).into(),
            detail.into(),
            attempt.packed_exchange(outcome.delivery.id).into(),
            attempt.resent().into(),
        ]);
    }
    let sql = "INSERT INTO attempts (id, tenant, delivery_id, number, started_at, duration_us, response_status, \
            response_headers, response_body, response_truncated, error_kind, error_detail, exchange, resent) \
        SELECT id, tenant, delivery_id, number, started_at, duration_us, response_status, \
            response_headers, response_body, response_truncated, error_kind, error_detail, exchange, resent FROM input";
    writes.push(input, sql);
}

/// Headers as JSON.
fn headers_text(headers: &[(String, Bytes)]) -> Vec<u8> {
    let pairs: Vec<(&str, String)> =
        headers.iter().map(|(name, value)| (name.as_str(), characters(value))).collect();
    serde_json::to_vec(&pairs).unwrap_or_default()
}
