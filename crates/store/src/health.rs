//! How subscribers fare: circuit breakers, and the deactivation of subscribers that only fail.
//!
//! A subscriber that does well has no row here and costs no write. Failures that blame the receiver
//! are counted since its last success. At a threshold its breaker opens: its lane is paused, and
//! after the pause lets one delivery through at a time; if that fails the next pause is longer, if
//! it succeeds the lane runs as before. All workers share this, since it is in the database.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use postrider_core::{
    DeactivationReason, DeadReason, DeliveryId, EventId, EventType, SubscriberId, TenantId, Timestamp,
};
use postrider_database::{Batch, Column, Dialect, Kind};
use postrider_queue::LaneId;
use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult, Statement, Value};

use crate::outcome::{End, Outcome};
use crate::row::{column, timestamp, unsigned};
use crate::{Store, StoreError, subscriber};

/// When a breaker opens, and when a failing subscriber is deactivated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row that open its breaker; 0 is never.
    pub breaker_failures: u32,
    /// The first pause of an open breaker; each further one in a row is twice as long.
    pub breaker_pause: Duration,
    /// The longest pause of an open breaker.
    pub breaker_max_pause: Duration,
    /// A subscriber that fails for this long without a single success is deactivated; none is never.
    pub deactivate_after: Option<Duration>,
}

impl Default for BreakerPolicy {
    /// Ten failures; 30 s, doubling to 10 min; five days.
    fn default() -> Self {
        Self {
            breaker_failures: 10,
            breaker_pause: Duration::from_secs(30),
            breaker_max_pause: Duration::from_mins(10),
            deactivate_after: Some(Duration::from_hours(5 * 24)),
        }
    }
}

impl BreakerPolicy {
    /// The pause after the breaker has opened `openings` times in a row before.
    fn pause(&self, openings: u32) -> Duration {
        self.breaker_pause.saturating_mul(1 << openings.min(20)).min(self.breaker_max_pause)
    }
}

/// Something that an operator may want to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A breaker has opened.
    CircuitOpened {
        /// Whose subscriber.
        tenant: TenantId,
        /// Which one.
        subscriber: SubscriberId,
        /// Its failures in a row.
        failures: u32,
        /// How long its lane pauses.
        pause: Duration,
    },
    /// A breaker has closed.
    CircuitClosed {
        /// Whose subscriber.
        tenant: TenantId,
        /// Which one.
        subscriber: SubscriberId,
    },
    /// A subscriber was deactivated.
    Deactivated {
        /// Whose subscriber.
        tenant: TenantId,
        /// Which one.
        subscriber: SubscriberId,
        /// Why.
        reason: DeactivationReason,
    },
    /// A delivery was given up.
    Dead {
        /// Whose delivery.
        tenant: TenantId,
        /// Which one.
        delivery: DeliveryId,
        /// What was to be delivered.
        event_id: EventId,
        /// Its type.
        event_type: EventType,
        /// To whom.
        subscriber: SubscriberId,
        /// Attempts in all.
        attempts: u32,
        /// Why.
        reason: DeadReason,
    },
}

/// How a subscriber fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Failures in a row that blame the receiver.
    pub failures: u32,
    /// When the first of them was; none if there are none.
    pub failing_since: Option<Timestamp>,
    /// Its circuit breaker.
    pub breaker: Breaker,
}

/// A circuit breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Breaker {
    /// Deliveries go out.
    #[default]
    Closed,
    /// None goes out until then.
    Open(Timestamp),
    /// One goes out at a time, to see how it fares.
    HalfOpen,
}

impl Breaker {
    /// The word that the API and the metrics use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open(_) => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// How many breakers are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breakers {
    /// Closed: those of active subscribers whose lane is not held back.
    pub closed: u64,
    /// Open.
    pub open: u64,
    /// Half open.
    pub half_open: u64,
}

impl Store {
    /// How many breakers of the whole deployment are closed, open and half open.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn breakers(&self) -> Result<Breakers, StoreError> {
        let now = self.database.dialect().now();
        let sql = format!(
            "SELECT (SELECT count(*) FROM health WHERE open_until > {now}) AS open, \
                (SELECT count(*) FROM health WHERE open_until <= {now}) AS half_open, \
                (SELECT count(*) FROM subscribers WHERE active AND NOT EXISTS ( \
                    SELECT 1 FROM health WHERE health.subscriber_id = subscribers.id AND open_until IS NOT NULL)) AS closed"
        );
        let connection = self.database.connection();
        let statement = Statement::from_string(connection.get_database_backend(), sql);
        let Some(row) = connection.query_one_raw(statement).await? else { return Ok(Breakers::default()) };
        let read = |name| column::<i64>(&row, name).map(|count| u64::try_from(count).unwrap_or(0));
        Ok(Breakers { closed: read("closed")?, open: read("open")?, half_open: read("half_open")? })
    }

    /// How these subscribers fare; those that do well are left out.
    pub(crate) async fn health_of(
        &self,
        subscribers: impl IntoIterator<Item = SubscriberId>,
    ) -> Result<BTreeMap<SubscriberId, Health>, StoreError> {
        let now = self.database.dialect().now();
        let sql = format!(
            "SELECT health.subscriber_id, failures, first_failed_at, open_until, open_until > {now} AS is_open \
             FROM input JOIN health ON health.subscriber_id = input.subscriber_id"
        );
        let rows = ids(subscribers).query(self.database.connection(), &sql, []).await?;
        rows.iter()
            .map(|row| {
                let until = timestamp(column(row, "open_until")?);
                let breaker = match (until, column::<Option<bool>>(row, "is_open")?) {
                    (None, _) => Breaker::Closed,
                    (Some(until), Some(true)) => Breaker::Open(until),
                    (Some(_), _) => Breaker::HalfOpen,
                };
                let health = Health {
                    failures: unsigned(column(row, "failures")?),
                    failing_since: timestamp(column(row, "first_failed_at")?),
                    breaker,
                };
                Ok((SubscriberId::from_uuid(column(row, "subscriber_id")?), health))
            })
            .collect()
    }

    /// Forgets a subscriber's failures, and opens its lane.
    pub(crate) async fn reset_health(
        &self,
        transaction: &DatabaseTransaction,
        id: SubscriberId,
    ) -> Result<(), StoreError> {
        ids([id])
            .execute(
                transaction,
                "DELETE FROM health WHERE subscriber_id IN (SELECT subscriber_id FROM input)",
                [],
            )
            .await?;
        Ok(self.queue.resume_in(transaction, LaneId(id.uuid())).await?)
    }

    /// Counts successes and failures, moves breakers, and deactivates subscribers; returns what happened.
    pub(crate) async fn judge_health(
        &self,
        transaction: &DatabaseTransaction,
        outcomes: &[&Outcome],
        failing: &HashSet<SubscriberId>,
        policy: &BreakerPolicy,
    ) -> Result<Vec<Notice>, StoreError> {
        let results = results(outcomes);
        let mut notices = self.reset_healthy(transaction, &results, failing).await?;
        notices.extend(self.open_breakers(transaction, &results, policy).await?);
        notices.extend(outcomes.iter().filter_map(|outcome| dead(outcome)));
        let gone: BTreeSet<_> = outcomes
            .iter()
            .filter(|one| one.end == End::Dead(DeadReason::Gone))
            .map(|one| (one.delivery.subscriber, one.delivery.tenant.clone()))
            .collect();
        for (id, tenant) in gone {
            notices
                .extend(self.deactivate_subscriber(transaction, tenant, id, DeactivationReason::Gone).await?);
        }
        Ok(notices)
    }

    /// Those that had a success: nothing is held against them any more.
    async fn reset_healthy(
        &self,
        transaction: &DatabaseTransaction,
        results: &Results<'_>,
        failing: &HashSet<SubscriberId>,
    ) -> Result<Vec<Notice>, StoreError> {
        let well = results
            .iter()
            .filter(|(id, results)| results.succeeded && failing.contains(id))
            .map(|(id, _)| *id);
        let sql = "DELETE FROM health WHERE subscriber_id IN (SELECT subscriber_id FROM input) \
            RETURNING subscriber_id, open_until";
        let mut notices = Vec::new();
        for row in ids(well).query(transaction, sql, []).await? {
            let id = SubscriberId::from_uuid(column(&row, "subscriber_id")?);
            if column::<Option<i64>>(&row, "open_until")?.is_some()
                && let Some(results) = results.get(&id)
            {
                self.queue.resume_in(transaction, LaneId(id.uuid())).await?;
                notices.push(Notice::CircuitClosed { tenant: results.tenant.clone(), subscriber: id });
            }
        }
        Ok(notices)
    }

    /// Those that failed since their last success.
    async fn open_breakers(
        &self,
        transaction: &DatabaseTransaction,
        results: &Results<'_>,
        policy: &BreakerPolicy,
    ) -> Result<Vec<Notice>, StoreError> {
        const FAILED: &[Column] =
            &[Column::new("subscriber_id", Kind::Uuid), Column::new("failures", Kind::Int)];
        let mut input = Batch::new(FAILED);
        for (id, results) in results.iter().filter(|(_, results)| results.failures > 0) {
            input.push([id.uuid().into(), results.failures.into()]);
        }
        let now = Dialect::of(transaction).now();
        let sql = format!(
            "INSERT INTO health (subscriber_id, failures, first_failed_at, openings) \
             SELECT subscriber_id, failures, {now}, 0 FROM input WHERE true \
             ON CONFLICT (subscriber_id) DO UPDATE SET failures = health.failures + excluded.failures \
             RETURNING subscriber_id, failures, first_failed_at, openings, opened_at, open_until, {now} AS now"
        );
        let mut notices = Vec::new();
        for row in input.query(transaction, &sql, []).await? {
            let state = BreakerRow::read(&row)?;
            let Some(results) = results.get(&state.id) else { continue };
            if policy.deactivate_after.is_some_and(|limit| state.now.since(state.failing_since) >= limit) {
                let tenant = results.tenant.clone();
                notices.extend(
                    self.deactivate_subscriber(transaction, tenant, state.id, DeactivationReason::Failing)
                        .await?,
                );
            } else if state.opens(results, policy) {
                let pause = policy.pause(state.openings);
                set_open(transaction, state.id, pause).await?;
                self.queue.pause_in(transaction, LaneId(state.id.uuid()), pause).await?;
                notices.push(Notice::CircuitOpened {
                    tenant: results.tenant.clone(),
                    subscriber: state.id,
                    failures: state.failures,
                    pause,
                });
            }
        }
        Ok(notices)
    }

    async fn deactivate_subscriber(
        &self,
        transaction: &DatabaseTransaction,
        tenant: TenantId,
        id: SubscriberId,
        reason: DeactivationReason,
    ) -> Result<Option<Notice>, StoreError> {
        if !subscriber::deactivate(transaction, id, reason).await? {
            return Ok(None);
        }
        self.expedite_lane(transaction, id).await?;
        Ok(Some(Notice::Deactivated { tenant, subscriber: id, reason }))
    }
}

/// How the subscribers of a batch results; in the order of their ids, so that two batches do not deadlock.
type Results<'a> = BTreeMap<SubscriberId, SubscriberResult<'a>>;

struct SubscriberResult<'a> {
    tenant: &'a TenantId,
    succeeded: bool,
    /// Failures since the last success of the batch.
    failures: i32,
    /// How long the shortest of those attempts took.
    shortest: Duration,
}

fn results<'a>(outcomes: &[&'a Outcome]) -> Results<'a> {
    let mut all = Results::new();
    for outcome in outcomes {
        let Some(attempt) = &outcome.attempt else { continue };
        let failed = attempt.verdict.error_kind();
        let results = all.entry(outcome.delivery.subscriber).or_insert(SubscriberResult {
            tenant: &outcome.delivery.tenant,
            succeeded: false,
            failures: 0,
            shortest: Duration::MAX,
        });
        match failed {
            None => (results.succeeded, results.failures) = (true, 0),
            Some(kind) if kind.blames_receiver() => {
                results.failures += 1;
                results.shortest = results.shortest.min(attempt.duration);
            }
            Some(_) => {}
        }
    }
    all
}

/// A subscriber's row, after its failures were counted.
struct BreakerRow {
    id: SubscriberId,
    failures: u32,
    failing_since: Timestamp,
    openings: u32,
    opened_at: Option<Timestamp>,
    open_until: Option<Timestamp>,
    now: Timestamp,
}

impl BreakerRow {
    fn read(row: &QueryResult) -> Result<Self, StoreError> {
        Ok(Self {
            id: SubscriberId::from_uuid(column(row, "subscriber_id")?),
            failures: unsigned(column(row, "failures")?),
            failing_since: Timestamp::from_millis(column(row, "first_failed_at")?),
            openings: unsigned(column(row, "openings")?),
            opened_at: timestamp(column(row, "opened_at")?),
            open_until: timestamp(column(row, "open_until")?),
            now: Timestamp::from_millis(column(row, "now")?),
        })
    }

    /// Whether the breaker opens: for the first time at the threshold; again when a probe failed,
    /// which is an attempt that began after the last opening and ended after its pause. When it
    /// began is told by how long it took, since the worker's clock may differ from the database's.
    fn opens(&self, results: &SubscriberResult<'_>, policy: &BreakerPolicy) -> bool {
        match (self.opened_at, self.open_until) {
            _ if policy.breaker_failures == 0 => false,
            (Some(opened), Some(until)) => self.now >= until && self.now - results.shortest > opened,
            _ => self.failures >= policy.breaker_failures,
        }
    }
}

async fn set_open(
    transaction: &DatabaseTransaction,
    id: SubscriberId,
    pause: Duration,
) -> Result<(), StoreError> {
    let now = Dialect::of(transaction).now();
    let sql = format!(
        "UPDATE health SET openings = openings + 1, opened_at = {now}, open_until = {now} + $2 WHERE subscriber_id = $1"
    );
    let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX / 4);
    let values: [Value; 2] = [id.uuid().into(), pause.into()];
    let statement = Statement::from_sql_and_values(transaction.get_database_backend(), sql, values);
    transaction.execute_raw(statement).await?;
    Ok(())
}

fn dead(outcome: &Outcome) -> Option<Notice> {
    let End::Dead(reason) = outcome.end else { return None };
    let delivery = &outcome.delivery;
    Some(Notice::Dead {
        tenant: delivery.tenant.clone(),
        delivery: delivery.id,
        event_id: delivery.event_id,
        event_type: delivery.event_type.clone(),
        subscriber: delivery.subscriber,
        attempts: delivery.attempts + u32::from(outcome.attempt.is_some()),
        reason,
    })
}

fn ids(subscribers: impl IntoIterator<Item = SubscriberId>) -> Batch {
    const ID: &[Column] = &[Column::new("subscriber_id", Kind::Uuid)];
    let mut input = Batch::new(ID);
    for id in subscribers {
        input.push([id.uuid().into()]);
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy = BreakerPolicy::default();
        let pauses: Vec<_> = (0..7).map(|openings| policy.pause(openings).as_secs()).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
        assert_eq!(policy.pause(u32::MAX).as_secs(), 600);
    }
}
