//! Counting a set without starting a replay.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use postrider_core::replay::ReplayMode;
use postrider_core::{SubscriberId, TenantId, Timestamp};
use postrider_database::sql::column;
use postrider_database::{Batch, Column, Dialect, Kind};

use super::MAX_TOTAL;
use super::change::now;
use super::walk::Walk;
use crate::deliveries::DeliveryFilter;
use crate::intake::Sift;
use crate::subscribers::stored::read_policy;
use crate::{Store, StoreError};

/// How many subscribers an estimate lists.
const LISTED: usize = 1_000;

/// What a replay would process.
#[derive(Clone, Debug, Default)]
pub struct Estimate {
    /// How many members its set would have.
    pub total: u64,
    /// Whether everything was counted. Otherwise there was no time for more, or there are more than a set may have.
    pub complete: bool,
    /// How many of them have succeeded already.
    pub succeeded: u64,
    /// When the oldest of their events was dispatched.
    pub oldest: Option<Timestamp>,
    /// When the newest of their events was dispatched.
    pub newest: Option<Timestamp>,
    /// How many subscribers they have.
    pub subscribers: u64,
    /// The subscribers with the most members, up to 1,000.
    pub listed: Vec<EstimateOf>,
    /// How long it takes at least, under the rate limits of the subscribers that are listed. Cancelling waits for none.
    pub at_least: Duration,
}

/// What a replay would deliver to one subscriber.
#[derive(Clone, Copy, Debug)]
pub struct EstimateOf {
    /// The subscriber.
    pub subscriber: SubscriberId,
    /// How many members of the set are its own.
    pub total: u64,
    /// How many of them have succeeded already.
    pub succeeded: u64,
    /// How long they take under its rate limit; `None` if it has none.
    pub at_least: Option<Duration>,
}

impl Store {
    /// Counts what a replay would deliver, for as long as `within` at most.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn estimate_replay(
        &self,
        tenant: &TenantId,
        mode: ReplayMode,
        filter: &DeliveryFilter,
        filters: &dyn Sift,
        within: Duration,
    ) -> Result<Estimate, StoreError> {
        let until = Instant::now() + within;
        let reads = self.database.reads();
        let mut walk = Walk::new(tenant, mode, filter, now(&reads).await?);
        let mut estimate = Estimate::default();
        let mut counts: HashMap<SubscriberId, EstimateOf> = HashMap::new();
        loop {
            let part = self.walk_on(&reads, &mut walk, filters).await?;
            for member in &part.members {
                estimate.total += 1;
                estimate.succeeded += u64::from(member.succeeded);
                estimate.oldest = Some(estimate.oldest.map_or(member.at, |oldest| oldest.min(member.at)));
                estimate.newest = Some(estimate.newest.map_or(member.at, |newest| newest.max(member.at)));
                let of = counts.entry(member.subscriber).or_insert(EstimateOf {
                    subscriber: member.subscriber,
                    total: 0,
                    succeeded: 0,
                    at_least: None,
                });
                of.total += 1;
                of.succeeded += u64::from(member.succeeded);
            }
            estimate.complete = part.is_last && estimate.total <= MAX_TOTAL;
            if part.is_last || estimate.total > MAX_TOTAL || Instant::now() >= until {
                break;
            }
        }
        estimate.subscribers = counts.len() as u64;
        estimate.listed = counts.into_values().collect();
        estimate.listed.sort_unstable_by_key(|of| (u64::MAX - of.total, of.subscriber));
        estimate.listed.truncate(LISTED);
        if mode != ReplayMode::Cancel {
            self.add_durations(tenant, &mut estimate).await?;
        }
        Ok(estimate)
    }

    async fn add_durations(&self, tenant: &TenantId, estimate: &mut Estimate) -> Result<(), StoreError> {
        const SUBSCRIBER: &[Column] = &[Column::new("id", Kind::Uuid)];
        let mut input = Batch::new(SUBSCRIBER);
        for of in &estimate.listed {
            input.push([of.subscriber.uuid().into()]);
        }
        let reads = self.database.reads();
        let subscriber = Dialect::of(&reads).look_up("subscribers", "subscribers.id = input.id");
        let sql = format!(
            "SELECT subscribers.id, subscribers.policy FROM input {subscriber} WHERE subscribers.tenant = $1"
        );
        let mut intervals = HashMap::new();
        for row in &input.query(&reads, &sql, [tenant.as_str().into()]).await? {
            let id = SubscriberId::from_uuid(column(row, "id")?);
            if let Some(limit) = read_policy(&column::<String>(row, "policy")?, id)?.rate_limit() {
                intervals.insert(id, limit);
            }
        }
        for of in &mut estimate.listed {
            of.at_least = intervals.get(&of.subscriber).map(|limit| {
                // As many as the burst may begin at once.
                let paced = of.total.saturating_sub(u64::from(limit.burst.get()));
                limit.interval.saturating_mul(u32::try_from(paced).unwrap_or(u32::MAX))
            });
            estimate.at_least = estimate.at_least.max(of.at_least.unwrap_or_default());
        }
        Ok(())
    }
}
