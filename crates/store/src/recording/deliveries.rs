//! The new state of deliveries whose outcomes are recorded.

use std::collections::HashMap;

use postrider_core::{DeliveryStatus, ErrorKind};
use postrider_database::sql::{column, query_one};
use postrider_database::{Batch, Column, Dialect, Kind, Transaction};
use postrider_queue::JobId;
use sea_orm::Value;

use crate::StoreError;
use crate::attempt::{End, Outcome};
use crate::packed_response;
use crate::partitions::Tables;
use crate::row::{DEAD, PENDING, millis, signed, status, stored_status};

/// What recording an outcome did to its delivery.
#[derive(Clone, Copy, Debug)]
pub(super) struct Applied {
    /// The delivery's attempts including this one, which is also this one's number.
    pub(super) attempts: i32,
    pub(super) change: Change,
    /// Whether the subscriber may have failed since its last success.
    pub(super) failing: bool,
}

impl Applied {
    /// Returns whether the outcome's attempt was the delivery's first and is in the delivery's row.
    pub(super) fn is_first_in_row(self, outcome: &Outcome) -> bool {
        self.attempts == 1 && matches!(self.change, Change::Made) && outcome.first_success().is_some()
    }
}

/// The values of the columns `first_…` of a delivery's row: the attempt, if it goes there.
pub(super) fn first_columns(outcome: &Outcome) -> [Value; 6] {
    let first = outcome.first_success();
    [
        first.map(|(attempt, _)| attempt.started_at.millis()).into(),
        first.map(|(attempt, _)| attempt.first_micros()).into(),
        stored_status(first.map(|(_, response)| response.status)).into(),
        first.map(|(_, response)| packed_response::pack(response)).into(),
        first.and_then(|(attempt, _)| attempt.packed_exchange(outcome.delivery.id)).into(),
        first.and_then(|(attempt, _)| attempt.resent()).into(),
    ]
}

/// Whether an outcome changed the status of its delivery.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// It did.
    Made,
    /// It did not: the delivery is pending, but belongs to another job now.
    OfAnotherJob,
    /// It did not: the delivery had ended before, for example because a request cancelled it.
    AlreadyEnded,
}

/// What keeps a worker that has lost its job from recording it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fence {
    /// The queue, which ends the claim in the same transaction.
    Lease,
    /// The delivery's number of attempts: it changes with every record, and the queue learns of it only afterwards.
    Attempts,
}

/// Moves deliveries to the state that their outcomes ask for. Locks all of them first, in the order of their ids. A delivery
/// that has another job by now, was cancelled, or was recorded by another worker, does not change. Returns the changed ones
/// by their jobs.
pub(super) async fn update_deliveries(
    transaction: &Transaction,
    tables: &Tables,
    outcomes: &[&Outcome],
    fence: Fence,
) -> Result<HashMap<JobId, Applied>, StoreError> {
    const DELIVERY: &[Column] = &[
        Column::new("tenant", Kind::Text),
        Column::new("id", Kind::Uuid),
        Column::new("job", Kind::Uuid),
        Column::new("new_status", Kind::Small),
        Column::new("tried", Kind::Int),
        Column::new("before", Kind::Int),
        Column::nullable("delay", Kind::Big),
        Column::nullable("answered", Kind::Small),
        Column::nullable("failed", Kind::Small),
        Column::nullable("reason", Kind::Small),
        Column::nullable("started_at", Kind::Big),
        Column::nullable("duration_us", Kind::Int),
        Column::nullable("response_code", Kind::Small),
        Column::nullable("response", Kind::Bytes),
        Column::nullable("exchange", Kind::Bytes),
        Column::nullable("resent", Kind::Bool),
    ];
    let mut input = Batch::new(DELIVERY);
    let Named { lock, deliveries, locked, theirs } = named(Dialect::of(transaction), tables);
    for outcome in outcomes {
        let attempt = outcome.attempt.as_ref();
        let answered = attempt.and_then(|attempt| attempt.response.as_ref()).map(|response| response.status);
        let failed = attempt.and_then(|attempt| attempt.verdict.error_kind());
        let (delay, reason) = match outcome.end {
            // Added to the time of this statement, as the queue adds it for the job.
            End::RetryIn(delay) => (Some(millis(delay)), None),
            End::Dead(reason) => (None, Some(reason.code())),
            End::Succeeded | End::Cancelled => (None, None),
        };
        let [started_at, duration, code, response, exchange, resent] = first_columns(outcome);
        input.push([
            outcome.delivery.tenant.as_str().into(),
            outcome.delivery.id.uuid().into(),
            outcome.lease.job.0.into(),
            outcome.end.status().code().into(),
            i32::from(attempt.is_some()).into(),
            signed(outcome.delivery.attempts).into(),
            delay.into(),
            stored_status(answered).into(),
            failed.map(ErrorKind::code).into(),
            reason.into(),
            started_at,
            duration,
            code,
            response,
            exchange,
            resent,
        ]);
    }
    let fenced = match fence {
        Fence::Lease => "",
        Fence::Attempts => " AND deliveries.attempts IS NOT DISTINCT FROM input.before",
    };
    let now = Dialect::of(transaction).now();
    let sql = format!(
        "{lock}UPDATE {deliveries} SET \
            status = input.new_status, \
            attempts = deliveries.attempts + input.tried, \
            next_attempt_at = {now} + input.delay, \
            response_status = CASE WHEN input.tried = 1 THEN input.answered ELSE deliveries.response_status END, \
            error_kind = CASE WHEN input.tried = 1 THEN input.failed ELSE deliveries.error_kind END, \
            dead_reason = input.reason, \
            died_at = CASE WHEN input.new_status = {DEAD} THEN {now} END, \
            ended_at = CASE WHEN input.new_status <> {PENDING} THEN {now} END, \
            first_started_at = CASE WHEN deliveries.attempts = 0 THEN input.started_at ELSE first_started_at END, \
            first_duration_us = CASE WHEN deliveries.attempts = 0 THEN input.duration_us ELSE first_duration_us END, \
            first_status = CASE WHEN deliveries.attempts = 0 THEN input.response_code ELSE first_status END, \
            first_response = CASE WHEN deliveries.attempts = 0 THEN input.response ELSE first_response END, \
            first_exchange = CASE WHEN deliveries.attempts = 0 THEN input.exchange ELSE first_exchange END, \
            first_resent = CASE WHEN deliveries.attempts = 0 THEN input.resent ELSE first_resent END \
        FROM input \
        WHERE {locked}{theirs} \
            AND deliveries.status = {PENDING}{fenced} \
        RETURNING deliveries.job_id, deliveries.attempts, \
            CASE WHEN (SELECT 1 FROM health WHERE health.subscriber_id = deliveries.subscriber_id LIMIT 1) IS NOT NULL \
                THEN 1 ELSE 0 END AS failing"
    );
    let rows = input.query(transaction, &sql, []).await?;
    let applied = |row| {
        let attempts = column(row, "attempts")?;
        let failing = column::<i32>(row, "failing")? != 0;
        Ok((JobId(column(row, "job_id")?), Applied { attempts, change: Change::Made, failing }))
    };
    rows.iter().map(applied).collect()
}

/// The parts of an `UPDATE deliveries … FROM input(tenant, id, job) WHERE …`.
pub(crate) struct Named {
    /// Its beginning.
    pub(crate) lock: String,
    /// The table.
    pub(crate) deliveries: String,
    /// The beginning of its condition.
    pub(crate) locked: &'static str,
    /// The condition that a delivery is named by the input.
    pub(crate) theirs: &'static str,
}

/// Returns the parts of an update of deliveries in these tables.
///
/// On PostgreSQL it locks all these deliveries first, in the order of their ids, so that two batches with the same
/// deliveries wait for each other and do not deadlock. SQLite's only write transaction needs no order.
pub(crate) fn named(dialect: Dialect, tables: &Tables) -> Named {
    let deliveries = tables.deliveries_to_update();
    match dialect {
        // Arrays and ranges instead of equalities: PostgreSQL caches plans. A plan made while the table was small would
        // join it whole with the input, also when it is large; these can only be looked up in the index.
        Dialect::Postgres => Named {
            lock: format!(
                ", locked AS MATERIALIZED ( \
                    SELECT mine.id FROM (SELECT tenant, id FROM input ORDER BY id) AS given CROSS JOIN LATERAL ( \
                        SELECT deliveries.id FROM {} AS deliveries \
                        WHERE deliveries.tenant = given.tenant AND deliveries.id = given.id LIMIT 1 FOR NO KEY UPDATE \
                    ) AS mine \
                ) ",
                tables.deliveries()
            ),
            deliveries,
            locked: "(SELECT count(*) FROM locked) >= 0 AND ",
            theirs: "deliveries.tenant = ANY (ARRAY[input.tenant]) \
                AND deliveries.id BETWEEN input.id AND input.id AND deliveries.job_id BETWEEN input.job AND input.job",
        },
        // An equality instead of a range: for a range, SQLite would rather index all deliveries by their status each time.
        Dialect::Sqlite => Named {
            lock: String::new(),
            deliveries,
            locked: "",
            theirs: "deliveries.tenant = input.tenant AND deliveries.id = input.id AND deliveries.job_id = input.job",
        },
    }
}

/// Counts an attempt that finished after its delivery had been cancelled, and perhaps retried. It was made, so it gets
/// a number; but it changes no status and counts for no round. Returns `None` if the delivery was deleted.
///
/// Fenced by the number of attempts, it also returns `None` if another worker has recorded something, or may be about to.
pub(super) async fn count_late(
    transaction: &Transaction,
    tables: &Tables,
    outcome: &Outcome,
    fence: Fence,
) -> Result<Option<Applied>, StoreError> {
    let fenced = match fence {
        Fence::Lease => String::new(),
        Fence::Attempts => {
            format!(" AND status <> {PENDING} AND attempts = {}", signed(outcome.delivery.attempts))
        }
    };
    let sql = format!(
        "UPDATE {} SET attempts = attempts + 1, round_start = round_start + 1 \
        WHERE tenant = $1 AND id = $2{fenced} RETURNING status, attempts",
        tables.deliveries()
    );
    let id = outcome.delivery.id;
    let values = [outcome.delivery.tenant.as_str().into(), id.uuid().into()];
    let Some(row) = query_one(transaction, sql, values).await? else { return Ok(None) };
    let is_pending = status(column(&row, "status")?, id)? == DeliveryStatus::Pending;
    let change = if is_pending { Change::OfAnotherJob } else { Change::AlreadyEnded };
    Ok(Some(Applied { attempts: column(&row, "attempts")?, change, failing: true }))
}
