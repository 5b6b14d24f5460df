//! The fast path: recording plain successes, which are most outcomes, in one round trip.

use std::collections::BTreeSet;

use postrider_database::{Batch, Column, Dialect, Guarded, Kind};

use super::deliveries::{Applied, Change, first_columns};
use super::{attempts, counts, finished};
use crate::attempt::Outcome;
use crate::partitions::Tables;
use crate::rollups;
use crate::row::{PENDING, SUCCEEDED, signed, stored_status};
use crate::{Store, StoreError};

impl Store {
    /// Records outcomes that qualify ([`Outcome::qualifies_for_fast_path`]) and ends their jobs, in one round trip.
    ///
    /// Returns `true` if it did. It returns `false`, and writes nothing, if a lease was lost, a delivery has changed
    /// since it was loaded, or a subscriber has failed since its last success; then [`Store::record`] must record them.
    ///
    /// # Errors
    /// Fails if the database is unavailable. The outcomes may have been recorded all the same.
    pub async fn record_fast(&self, outcomes: &[&Outcome]) -> Result<bool, StoreError> {
        let done: Vec<_> = outcomes.iter().map(|one| one.lease).collect();
        let mut guarded = Guarded::default();
        let tables = self.tables_of(outcomes.iter().map(|one| one.delivery.id));
        end_deliveries(&tables, outcomes, &mut guarded);
        let expected = |one: &&Outcome| {
            let attempts = signed(one.delivery.attempts).saturating_add(1);
            (one.lease.job, Applied { attempts, change: Change::Made, failing: false })
        };
        let applied = outcomes.iter().map(expected).collect();
        if !self.queue.done_with(&done, &mut guarded) {
            return Ok(false);
        }
        attempts::insert(&self.ids, outcomes, &applied, &mut guarded.writes);
        self.note_outcomes(outcomes, &applied, &mut guarded.writes);
        rollups::deltas::add(counts::of(outcomes, &applied), &mut guarded.writes);
        match guarded.execute(self.database.connection()).await {
            // The partition was dropped: no delivery was pending in it.
            Err(error) if error.is_missing_table() => {
                self.partitions.forget();
                Ok(false)
            }
            Ok(true) if !self.queue.fences() => {
                self.queue.finished(&finished(outcomes, &[])).await;
                Ok(true)
            }
            recorded => Ok(recorded?),
        }
    }
}

/// Ends deliveries that have succeeded, on condition that none has changed since it was loaded and that their
/// subscribers are healthy.
fn end_deliveries(tables: &Tables, outcomes: &[&Outcome], guarded: &mut Guarded) {
    const ENDED: &[Column] = &[
        Column::new("tenant_id", Kind::Text),
        Column::new("id", Kind::Uuid),
        Column::new("job", Kind::Uuid),
        Column::new("tried", Kind::Int),
        Column::new("subscriber", Kind::Uuid),
        Column::nullable("answered", Kind::Small),
        Column::nullable("started_at", Kind::Big),
        Column::nullable("duration_us", Kind::Int),
        Column::nullable("response_code", Kind::Small),
        Column::nullable("response", Kind::Bytes),
        Column::nullable("exchange", Kind::Bytes),
        Column::nullable("resent", Kind::Bool),
    ];
    const SUBSCRIBER: &[Column] = &[Column::new("id", Kind::Uuid)];
    let (mut ended, mut subscribers) = (Batch::new(ENDED), Batch::new(SUBSCRIBER));
    for outcome in outcomes {
        let delivery = &outcome.delivery;
        let response = outcome.attempt.as_ref().and_then(|attempt| attempt.response.as_ref());
        let [started_at, duration, code, packed, exchange, resent] = first_columns(outcome);
        ended.push([
            delivery.tenant.as_str().into(),
            delivery.id.uuid().into(),
            outcome.lease.job.0.into(),
            signed(delivery.attempts).into(),
            delivery.subscriber.uuid().into(),
            stored_status(response.map(|response| response.status)).into(),
            started_at,
            duration,
            code,
            packed,
            exchange,
            resent,
        ]);
    }
    for subscriber in outcomes.iter().map(|outcome| outcome.delivery.subscriber).collect::<BTreeSet<_>>() {
        subscribers.push([subscriber.uuid().into()]);
    }
    guarded.expect(
        subscribers,
        "NOT EXISTS (SELECT 1 FROM health WHERE subscriber_id = ANY (ARRAY(SELECT id FROM input)))",
    );
    // Arrays and ranges of one, and comparisons that PostgreSQL cannot turn into a join, so that it looks up each delivery in
    // the index: see ADR 14.
    let (now, deliveries) = (Dialect::Postgres.now(), tables.deliveries_to_update());
    let sql = format!(
        "UPDATE {deliveries} SET status = {SUCCEEDED}, attempts = attempts + 1, next_attempt_at = NULL, \
            response_status = answered, error_kind = NULL, dead_reason = NULL, died_at = NULL, ended_at = {now}, \
            first_started_at = coalesce(started_at, first_started_at), \
            first_duration_us = coalesce(duration_us, first_duration_us), \
            first_status = coalesce(response_code, first_status), first_response = coalesce(response, first_response), \
            first_exchange = coalesce(exchange, first_exchange), first_resent = coalesce(resent, first_resent) \
        FROM (SELECT * FROM input ORDER BY id) AS ended \
        WHERE deliveries.tenant = ANY (ARRAY[ended.tenant_id]) AND deliveries.id BETWEEN ended.id AND ended.id \
            AND status = {PENDING} AND job_id IS NOT DISTINCT FROM job AND attempts IS NOT DISTINCT FROM tried \
            AND subscriber_id IS NOT DISTINCT FROM subscriber"
    );
    guarded.push_exact(ended, sql);
}
