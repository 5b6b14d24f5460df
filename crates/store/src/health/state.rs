//! A subscriber's health: how it is stored, read, counted and reset.

use std::collections::BTreeMap;

use postrider_core::{SubscriberId, Timestamp};
use postrider_database::sql::{column, query_one};
use postrider_database::{Batch, Column, Database, Dialect, Kind, Transaction};
use postrider_queue::TransactionalQueue;

use crate::queue_ids::lane_of;
use crate::row::{timestamp, unsigned};
use crate::subscribers::counts::ALL_TENANTS;
use crate::{Store, StoreError};

/// A subscriber's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The number of failures in a row that blame the receiver.
    pub failures: u32,
    /// When the first of them was; `None` if the subscriber is healthy.
    pub failing_since: Option<Timestamp>,
    /// The circuit breaker.
    pub breaker: Breaker,
}

/// The state of a circuit breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Breaker {
    /// The lane delivers.
    #[default]
    Closed,
    /// The lane is paused until this moment.
    Open(Timestamp),
    /// The pause is over; the lane lets one delivery through at a time, as a probe.
    HalfOpen,
}

impl Breaker {
    /// The word for the state in the API and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open(_) => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// The most breakers that are counted in one state.
const MOST_COUNTED: i64 = 50_000;

/// The number of circuit breakers in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breakers {
    /// Active subscribers whose breaker is closed.
    pub closed: u64,
    /// Subscribers whose breaker is open.
    pub open: u64,
    /// Subscribers whose breaker is half open.
    pub half_open: u64,
}

impl Store {
    /// Counts the circuit breakers of all tenants by their state: up to 50,000 open ones, and as many half-open ones.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn breakers(&self) -> Result<Breakers, StoreError> {
        let now = self.database.dialect().now();
        let sql = format!(
            "SELECT (SELECT count(*) FROM ( \
                    SELECT 1 FROM health WHERE open_until > {now} ORDER BY open_until LIMIT $1 \
                ) AS open) AS open, (SELECT count(*) FROM ( \
                    SELECT 1 FROM health WHERE open_until <= {now} ORDER BY open_until LIMIT $1 \
                ) AS half_open) AS half_open, ( \
                    SELECT CAST(coalesce(sum(active), 0) AS bigint) FROM subscriber_counts WHERE tenant = $2 \
                ) AS active"
        );
        let values = [MOST_COUNTED.into(), ALL_TENANTS.into()];
        let Some(row) = query_one(&self.database.reads(), sql, values).await? else {
            return Ok(Breakers::default());
        };
        let count = |name| column::<i64>(&row, name).map(|count| u64::try_from(count).unwrap_or(0));
        let (active, open, half_open) = (count("active")?, count("open")?, count("half_open")?);
        Ok(Breakers { closed: active.saturating_sub(open + half_open), open, half_open })
    }
}

/// Reads the health of these subscribers. Healthy ones are absent from the result.
pub(crate) async fn read(
    database: &Database,
    subscribers: impl IntoIterator<Item = SubscriberId>,
) -> Result<BTreeMap<SubscriberId, Health>, StoreError> {
    let now = database.dialect().now();
    let health = database.dialect().look_up("health", "health.subscriber_id = input.subscriber_id");
    let sql = format!(
        "SELECT health.subscriber_id, failures, first_failed_at, open_until, open_until > {now} AS is_open \
         FROM input {health}"
    );
    let rows = ids(subscribers).query(&database.reads(), &sql, []).await?;
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

/// Forgets a subscriber's failures and resumes its lane.
pub(crate) async fn reset(
    queue: &dyn TransactionalQueue,
    transaction: &Transaction,
    id: SubscriberId,
) -> Result<(), StoreError> {
    // The lane first: every transaction that locks rows of `health` has locked their lanes.
    queue.resume_in(transaction, lane_of(id)).await?;
    let sql = format!("DELETE FROM health WHERE {}", named(Dialect::of(transaction)));
    ids([id]).execute(transaction, &sql, []).await?;
    Ok(())
}

/// The condition on rows of `health` that [`ids`] names. On PostgreSQL each is looked up: a plan for a small table would
/// read all of a large one.
pub(crate) const fn named(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => "subscriber_id = ANY (ARRAY(SELECT subscriber_id FROM input))",
        Dialect::Sqlite => "subscriber_id IN (SELECT subscriber_id FROM input)",
    }
}

/// Subscribers as the rows of a statement, in the column `subscriber_id`.
pub(crate) fn ids(subscribers: impl IntoIterator<Item = SubscriberId>) -> Batch {
    const ID: &[Column] = &[Column::new("subscriber_id", Kind::Uuid)];
    let mut input = Batch::new(ID);
    for id in subscribers {
        input.push([id.uuid().into()]);
    }
    input
}
