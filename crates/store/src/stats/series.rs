//! The results of attempts, in steps of time.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_core::{EventType, SubscriberId, TenantId, Timestamp};

use crate::rollups::clock::{DAY, MINUTE_MILLIS};
use crate::rollups::histogram::Percentiles;
use crate::rollups::reading::{self, Detail, Selection};
use crate::rollups::tally::Tally;
use crate::{Store, StoreError};

/// The longest step, in minutes.
const LONGEST_STEP: i64 = DAY;

/// A span of time in steps.
///
/// Steps begin at whole multiples of their length since the Unix epoch, so that two requests get the same numbers for
/// the same step. The first and the last step are extended to those boundaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// In minutes since the Unix epoch, as `to`.
    from: i64,
    to: i64,
    /// In minutes.
    step: i64,
}

/// Why a span cannot be divided into steps of that length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepsError {
    /// The span does not begin before its end.
    #[error("it must be before the end of the span")]
    Backwards,
    /// The step is not a whole number of minutes from 1 minute to 1 day.
    #[error("a step is a whole number of minutes, from 1 minute to 1 day")]
    Step,
    /// There are more steps than [`Steps::MOST`].
    #[error("the span has {0} steps, and at most {most} are allowed; use a longer step", most = Steps::MOST)]
    TooMany(u64),
    /// Statistics of this selection are not stored in steps this short, or not since the beginning of the span.
    #[error("{}", too_fine(*.0))]
    TooFine(Detail),
    /// The span begins before all that is stored.
    #[error("series reach back 400 days")]
    TooOld,
}

impl Steps {
    /// The most steps that a span may have.
    pub const MOST: u64 = 1_500;

    /// Divides the time from `from` to `to` into steps. `now` tells how far back the span reaches, and `detail` depends on
    /// what is selected.
    ///
    /// # Errors
    /// Fails if the span or the step is not allowed; see [`StepsError`].
    pub fn new(
        from: Timestamp,
        to: Timestamp,
        step: Duration,
        now: Timestamp,
        detail: Detail,
    ) -> Result<Self, StepsError> {
        if from >= to {
            return Err(StepsError::Backwards);
        }
        let millis = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
        if step.subsec_nanos() != 0
            || millis % MINUTE_MILLIS != 0
            || !(1..=LONGEST_STEP).contains(&(millis / MINUTE_MILLIS))
        {
            return Err(StepsError::Step);
        }
        let step = millis / MINUTE_MILLIS;
        let first = from.millis().div_euclid(millis);
        let last = to.millis().div_euclid(millis) + i64::from(to.millis().rem_euclid(millis) > 0);
        let steps = last.abs_diff(first);
        if steps > Self::MOST {
            return Err(StepsError::TooMany(steps));
        }
        let age = now.millis().saturating_sub(from.millis()) / MINUTE_MILLIS;
        match detail.finest(age) {
            Some(finest) if step % finest == 0 => Ok(Self { from: first * step, to: last * step, step }),
            Some(_) => Err(StepsError::TooFine(detail)),
            None => Err(StepsError::TooOld),
        }
    }

    /// When the first step begins.
    pub fn from(&self) -> Timestamp {
        moment(self.from)
    }

    /// When the last step ends.
    pub fn to(&self) -> Timestamp {
        moment(self.to)
    }

    /// The length of a step.
    pub fn step(&self) -> Duration {
        Duration::from_secs(60 * self.step.unsigned_abs())
    }
}

const fn too_fine(detail: Detail) -> &'static str {
    match detail {
        Detail::Fine => "minute steps reach back 2 days and hour steps 60 days; use a longer step",
        Detail::Subscriber => {
            "for one subscriber, steps of less than a day reach back 14 days; use a step of a day"
        }
        Detail::SubscriberAndEventType => {
            "for one event type of one subscriber, the step is a day; use a step of a day"
        }
    }
}

fn moment(minute: i64) -> Timestamp {
    Timestamp::from_millis(minute.saturating_mul(MINUTE_MILLIS))
}

/// The results of attempts, for each step and in total.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Every step with the moment at which it begins, in order of time, including steps without attempts.
    pub points: Vec<(Timestamp, AttemptCounts)>,
    /// All steps together. Its percentiles are those of all attempts, not of the steps' percentiles.
    pub total: AttemptCounts,
}

/// The results of attempts within some time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptCounts {
    /// The number of attempts that began.
    pub attempts: u64,
    /// The number of those that succeeded.
    pub succeeded: u64,
    /// The number of those that failed, by the word of their error kind. Kinds that did not occur are absent.
    pub failed: BTreeMap<&'static str, u64>,
    /// How long they took.
    pub duration: Percentiles,
    /// How long the deliveries created in that time waited for their first attempt.
    pub latency: Percentiles,
}

impl From<&Tally> for AttemptCounts {
    fn from(tally: &Tally) -> Self {
        let (attempts, failed) = (tally.attempts(), tally.failures());
        Self {
            attempts,
            succeeded: attempts.saturating_sub(failed.values().sum()),
            failed,
            duration: tally.durations(),
            latency: tally.waits(),
        }
    }
}

impl Store {
    /// Returns the results of the tenant's attempts, step by step; with `subscriber` or `event_type`, only those. An
    /// attempt counts in the step in which it began, as soon as it is recorded. The steps must have been made for that
    /// [`Detail`].
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn series(
        &self,
        tenant: &TenantId,
        subscriber: Option<SubscriberId>,
        event_type: Option<&EventType>,
        steps: Steps,
    ) -> Result<Series, StoreError> {
        let Steps { from, to, step } = steps;
        let selection = Selection { tenant, subscriber, event_type: event_type.map(EventType::as_str) };
        let mut tallies: BTreeMap<i64, Tally> = BTreeMap::new();
        let mut total = Tally::default();
        for (minute, counted) in reading::steps(&self.database, selection, step, (from, to)).await? {
            tallies.entry(minute.div_euclid(step)).or_default().merge(&counted.tally);
            total.merge(&counted.tally);
        }
        let none = Tally::default();
        let points = (from.div_euclid(step)..to.div_euclid(step))
            .map(|point| (moment(point * step), tallies.get(&point).unwrap_or(&none).into()));
        Ok(Series { points: points.collect(), total: (&total).into() })
    }
}
