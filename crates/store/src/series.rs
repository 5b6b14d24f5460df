//! What came of attempts, step by step.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_core::{EventType, SubscriberId, TenantId, Timestamp};

use crate::attempt_rollup::{DAY, HOUR, MINUTE, Read};
use crate::stats::Percentiles;
use crate::tally::Tally;
use crate::{Store, StoreError};

const MILLIS: i64 = 60_000;

/// The longest step, in minutes.
const LONGEST: i64 = DAY;

/// How many minutes back there are rows of a width.
const KNOWN: [(i64, i64); 2] = [(MINUTE, 2 * DAY), (HOUR, 60 * DAY)];

/// A span of time in steps. Steps begin at whole multiples of their length since the Unix epoch, so
/// that the same step has the same numbers whoever asks: the first and the last reach out to those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    from: i64,
    to: i64,
    step: i64,
}

/// A span that has no steps, or not those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepsError {
    /// It ends before it begins, or as it begins.
    #[error("it must be before the end of the span")]
    Backwards,
    /// The step is not whole minutes, or not 1 minute to 1 day.
    #[error("a step is whole minutes, from 1 minute to 1 day")]
    Step,
    /// There are more steps than [`Steps::MOST`].
    #[error("that is {0} steps; at most {most} are answered: take a longer step", most = Steps::MOST)]
    TooMany(u64),
    /// What is so old is not known by the minute.
    #[error(
        "of more than 2 days ago whole hours are known, and of more than 60 days ago whole days: take such a step"
    )]
    TooFine,
}

impl Steps {
    /// How many steps a span may have.
    pub const MOST: u64 = 1_500;

    /// The steps of the time from `from` until `to`, as seen `now`.
    ///
    /// # Errors
    /// If there are none, too many, or such that nothing is known by so short a time any more.
    pub fn new(from: Timestamp, to: Timestamp, step: Duration, now: Timestamp) -> Result<Self, StepsError> {
        if from >= to {
            return Err(StepsError::Backwards);
        }
        let millis = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
        if step.subsec_nanos() != 0 || millis % MILLIS != 0 || !(1..=LONGEST).contains(&(millis / MILLIS)) {
            return Err(StepsError::Step);
        }
        let step = millis / MILLIS;
        let first = from.millis().div_euclid(millis);
        let last = to.millis().div_euclid(millis) + i64::from(to.millis().rem_euclid(millis) > 0);
        let steps = last.abs_diff(first);
        if steps > Self::MOST {
            return Err(StepsError::TooMany(steps));
        }
        let span = Self { from: first * step, to: last * step, step };
        let age = now.millis().saturating_sub(from.millis()) / MILLIS;
        if KNOWN.iter().any(|(width, known)| *width == span.width() && age > *known) {
            return Err(StepsError::TooFine);
        }
        Ok(span)
    }

    /// When the first step begins.
    pub fn from(&self) -> Timestamp {
        moment(self.from)
    }

    /// When the last step ends.
    pub fn to(&self) -> Timestamp {
        moment(self.to)
    }

    /// How long a step is.
    pub fn step(&self) -> Duration {
        Duration::from_secs(60 * self.step.unsigned_abs())
    }

    /// How many minutes the rows hold that are to be added up: the fewest rows that there are.
    fn width(&self) -> i64 {
        [DAY, HOUR].into_iter().find(|width| self.step % width == 0).unwrap_or(MINUTE)
    }
}

fn moment(minute: i64) -> Timestamp {
    Timestamp::from_millis(minute.saturating_mul(MILLIS))
}

/// What came of attempts, step by step, and in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Every step, in the order of time, also those in which nothing happened.
    pub points: Vec<(Timestamp, Attempts)>,
    /// All steps together. Percentiles are those of the whole span, not of the steps' percentiles.
    pub total: Attempts,
}

/// What came of attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// How many began.
    pub attempts: u64,
    /// How many of them succeeded.
    pub succeeded: u64,
    /// The others, by the word of their error kind; only kinds that there were.
    pub failed: BTreeMap<&'static str, u64>,
    /// How long they took.
    pub duration: Percentiles,
    /// How long deliveries that were made then waited for their first attempt.
    pub latency: Percentiles,
}

impl From<&Tally> for Attempts {
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
    /// What came of the tenant's attempts, step by step: of all, or of those to one subscriber, or of
    /// events of one type. An attempt counts in the step in which it began, as soon as it is recorded.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn series(
        &self,
        tenant: &TenantId,
        subscriber: Option<SubscriberId>,
        event: Option<&EventType>,
        steps: Steps,
    ) -> Result<Series, StoreError> {
        let Steps { from, to, step } = steps;
        let read =
            Read { tenant, subscriber, event: event.map(EventType::as_str), width: steps.width(), from, to };
        let mut tallies: BTreeMap<i64, Tally> = BTreeMap::new();
        let mut total = Tally::default();
        for (minute, tally) in self.tallies(read).await? {
            tallies.entry(minute.div_euclid(step)).or_default().merge(&tally);
            total.merge(&tally);
        }
        let none = Tally::default();
        let points = (from.div_euclid(step)..to.div_euclid(step))
            .map(|point| (moment(point * step), tallies.get(&point).unwrap_or(&none).into()));
        Ok(Series { points: points.collect(), total: (&total).into() })
    }
}
