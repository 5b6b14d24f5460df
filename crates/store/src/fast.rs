//! Recording what went well, which most does, in one round trip.

use std::collections::BTreeSet;

use postrider_database::{Batch, Column, Dialect, Guarded, Kind};
use postrider_queue::LaneId;

use crate::outcome::{Applied, Counted, Outcome};
use crate::row::stored_status;
use crate::{Store, StoreError};

impl Store {
    /// Records outcomes that are [`Outcome::qualifies_for_fast_path`] and ends their jobs, in one round trip, if that is all there is to
    /// it: their leases are held, their deliveries are as they were loaded, and nothing is held against their
    /// subscribers that a success would clear. Tells whether it was; if not, nothing was written, and
    /// [`Store::record`] has to do it.
    ///
    /// # Errors
    /// If the database is away. Whether something was written is not known then.
    pub async fn record_fast(&self, outcomes: &[&Outcome]) -> Result<bool, StoreError> {
        let done: Vec<_> =
            outcomes.iter().map(|one| (one.lease, LaneId(one.delivery.subscriber.uuid()))).collect();
        let mut guarded = Guarded::default();
        if !self.queue.done_with(&done, &mut guarded) {
            return Ok(false);
        }
        end_deliveries(outcomes, &mut guarded);
        let expected = |one: &&Outcome| {
            let attempts = i32::try_from(one.delivery.attempts).unwrap_or(i32::MAX).saturating_add(1);
            (one.lease.job, Counted { attempts, kind: Applied::Changed, failing: false })
        };
        let counted = outcomes.iter().map(expected).collect();
        self.insert_attempts(outcomes, &counted, &mut guarded.writes);
        self.count(outcomes, &counted, &mut guarded.writes);
        Ok(guarded.execute(&self.database.dedicated()).await?)
    }
}

/// Ends deliveries that have succeeded, if all of them are as they were loaded, and their subscribers do well.
fn end_deliveries(outcomes: &[&Outcome], guarded: &mut Guarded) {
    const ENDED: &[Column] = &[
        Column::new("id", Kind::Uuid),
        Column::new("job", Kind::Uuid),
        Column::new("tried", Kind::Int),
        Column::new("subscriber", Kind::Uuid),
        Column::nullable("answered", Kind::Small),
    ];
    const SUBSCRIBER: &[Column] = &[Column::new("id", Kind::Uuid)];
    let (mut ended, mut subscribers) = (Batch::new(ENDED), Batch::new(SUBSCRIBER));
    for outcome in outcomes {
        let delivery = &outcome.delivery;
        let response = outcome.attempt.as_ref().and_then(|attempt| attempt.response.as_ref());
        ended.push([
            delivery.id.uuid().into(),
            outcome.lease.job.0.into(),
            i32::try_from(delivery.attempts).unwrap_or(i32::MAX).into(),
            delivery.subscriber.uuid().into(),
            stored_status(response.map(|response| response.status)).into(),
        ]);
    }
    for subscriber in outcomes.iter().map(|outcome| outcome.delivery.subscriber).collect::<BTreeSet<_>>() {
        subscribers.push([subscriber.uuid().into()]);
    }
    guarded.expect(
        subscribers,
        "NOT EXISTS (SELECT 1 FROM health WHERE subscriber_id = ANY (ARRAY(SELECT id FROM input)))",
    );
    // Asked of the index by ranges of one, and compared in a way for which no join is made: see ADR 14.
    let now = Dialect::Postgres.now();
    let sql = format!(
        "UPDATE deliveries SET status = 1, attempts = attempts + 1, next_attempt_at = NULL, \
            response_status = answered, error_kind = NULL, dead_reason = NULL, died_at = NULL, ended_at = {now} \
        FROM (SELECT * FROM input ORDER BY id) AS ended WHERE deliveries.id BETWEEN ended.id AND ended.id \
            AND status = 0 AND job_id IS NOT DISTINCT FROM job AND attempts IS NOT DISTINCT FROM tried \
            AND subscriber_id IS NOT DISTINCT FROM subscriber"
    );
    guarded.push_exact(ended, sql);
}
