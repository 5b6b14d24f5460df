//! Recording what came of claimed jobs, and ending them, in one transaction.
//!
//! The jobs' leases fence the record: if one was lost, nothing of that job is written, and the
//! others are written without it.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use postrider_core::{AttemptId, DeadReason, DeliveryStatus, ErrorKind, SubscriberId, Timestamp, Verdict};
use postrider_database::{Batch, Column, Dialect, Kind, Writes};
use postrider_queue::{Finish, JobId, LaneId, Lease};
use sea_orm::{ConnectionTrait as _, DatabaseTransaction, Statement};

use crate::health::{BreakerPolicy, Notice};
use crate::row::{column, status, stored_status};
use crate::work::DeliveryRef;
use crate::{Store, StoreError, attempt_rollup, rollup, subscriber};

/// What came of a claimed job.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The claim under which it came about.
    pub lease: Lease,
    /// The delivery.
    pub delivery: DeliveryRef,
    /// The request that was made, if one was.
    pub attempt: Option<Attempt>,
    /// What becomes of the delivery.
    pub end: End,
}

impl Outcome {
    /// Whether a request was made, and all went well, as it did before.
    pub fn qualifies_for_fast_path(&self) -> bool {
        self.end == End::Succeeded
            && self.attempt.as_ref().is_some_and(|attempt| attempt.verdict == Verdict::Success)
            && !self.delivery.failing
    }
}

/// What came of recording.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// The jobs whose lease was lost: nothing was written of those.
    pub lost: Vec<JobId>,
    /// What an operator may want to hear of.
    pub notices: Vec<Notice>,
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has arrived.
    Succeeded,
    /// It is tried again after this time.
    RetryIn(Duration),
    /// It is given up. If the receiver is [`DeadReason::Gone`], its subscriber is deactivated.
    Dead(DeadReason),
    /// It is no longer wanted.
    Cancelled,
}

/// A request that was made.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took in all.
    pub duration: Duration,
    /// The answer, if there was one.
    pub response: Option<Response>,
    /// Whether it succeeded, and why not.
    pub verdict: Verdict,
}

/// What is kept of an answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its headers, as they came.
    pub headers: Vec<(String, Bytes)>,
    /// The beginning of its body.
    pub body: Bytes,
    /// Whether there was more of the body.
    pub truncated: bool,
}

impl Store {
    /// Records outcomes and ends their jobs; ends `others`, of which there is nothing to record.
    ///
    /// # Errors
    /// If the database is away. Then nothing was written, and the same call may be made again.
    pub async fn record<O: Borrow<Outcome>>(
        &self,
        outcomes: &[O],
        others: &[(Lease, Finish)],
        policy: &BreakerPolicy,
    ) -> Result<Recorded, StoreError> {
        let mut lost: HashSet<JobId> = HashSet::new();
        let mut notices = Vec::new();
        loop {
            let outcomes = outcomes.iter().map(Borrow::borrow);
            let outcomes: Vec<&Outcome> = outcomes.filter(|one| !lost.contains(&one.lease.job)).collect();
            let others = others.iter().filter(|(lease, _)| !lost.contains(&lease.job)).copied();
            let ends: Vec<_> =
                outcomes.iter().map(|one| (one.lease, one.end.finish())).chain(others).collect();
            if ends.is_empty() {
                break;
            }
            let transaction = self.database.begin().await?;
            let failing = self.write(&transaction, &outcomes).await?;
            // Late, so that lanes are locked as shortly as can be.
            let held: HashSet<JobId> = self.queue.finish_in(&transaction, &ends).await?.into_iter().collect();
            if held.len() == ends.len() {
                // After the jobs are locked: whatever else locks lanes as well locks jobs before them.
                notices = self.judge_health(&transaction, &outcomes, &failing, policy).await?;
                let expedited = self.expedite_inactive(&transaction, &outcomes).await?;
                transaction.commit().await?;
                if expedited {
                    self.queue.wake();
                }
                break;
            }
            transaction.rollback().await?;
            let before = lost.len();
            lost.extend(ends.iter().map(|(lease, _)| lease.job).filter(|job| !held.contains(job)));
            if lost.len() == before {
                // The same job twice: a caller's mistake, which must not turn this into a loop.
                break;
            }
        }
        Ok(Recorded { lost: lost.into_iter().collect(), notices })
    }

    /// Tells which subscribers have something held against them that a success would clear.
    async fn write(
        &self,
        transaction: &DatabaseTransaction,
        outcomes: &[&Outcome],
    ) -> Result<HashSet<SubscriberId>, StoreError> {
        let mut counted = update_deliveries(transaction, outcomes).await?;
        for outcome in outcomes {
            if outcome.attempt.is_some()
                && !counted.contains_key(&outcome.lease.job)
                && let Some(of_it) = count_late(transaction, outcome).await?
            {
                counted.insert(outcome.lease.job, of_it);
            }
        }
        let mut writes = Writes::new();
        self.insert_attempts(outcomes, &counted, &mut writes);
        self.count(outcomes, &counted, &mut writes);
        writes.execute(transaction).await?;
        let failing = outcomes.iter().filter(|one| counted.get(&one.lease.job).is_none_or(|one| one.failing));
        Ok(failing.map(|one| one.delivery.subscriber).collect())
    }

    /// What is to be tried again of a subscriber that is active no more need not wait to find that
    /// out: when it was deactivated, the job was running and not among those that were expedited then.
    /// Tells whether there is something.
    async fn expedite_inactive(
        &self,
        transaction: &DatabaseTransaction,
        outcomes: &[&Outcome],
    ) -> Result<bool, StoreError> {
        const ID: &[Column] = &[Column::new("id", Kind::Uuid)];
        let again = outcomes.iter().filter(|one| matches!(one.end, End::RetryIn(_)));
        let mut input = Batch::new(ID);
        for id in again.map(|one| one.delivery.subscriber).collect::<BTreeSet<_>>() {
            input.push([id.uuid().into()]);
        }
        let sql = "SELECT input.id FROM input \
            WHERE (SELECT 1 FROM subscribers WHERE subscribers.id = input.id AND active LIMIT 1) IS NULL ORDER BY input.id";
        let inactive = input.query(transaction, sql, []).await?;
        for row in &inactive {
            self.queue
                .expedite_in(transaction, LaneId(column(row, "id")?), subscriber::EXPEDITED_AT_ONCE)
                .await?;
        }
        Ok(!inactive.is_empty())
    }

    pub(crate) fn insert_attempts(
        &self,
        outcomes: &[&Outcome],
        counted: &HashMap<JobId, Counted>,
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
        ];
        let mut input = Batch::new(ATTEMPT);
        for outcome in outcomes {
            let Some(attempt) = &outcome.attempt else { continue };
            // A delivery that exists no more has no attempts either.
            let Some(counted) = counted.get(&outcome.lease.job) else { continue };
            let id: AttemptId = self.ids.next();
            let response = attempt.response.as_ref();
            // PostgreSQL's text holds no NUL.
            let detail = attempt.verdict.detail().map(|detail| detail.replace('\0', "\u{fffd}"));
            input.push([
                id.uuid().into(),
                outcome.delivery.tenant.as_str().into(),
                outcome.delivery.id.uuid().into(),
                counted.attempts.into(),
                attempt.started_at.millis().into(),
                i64::try_from(attempt.duration.as_micros()).unwrap_or(i64::MAX).into(),
                stored_status(response.map(|response| response.status)).into(),
                response.map(|response| headers_text(&response.headers)).into(),
                response.map(|response| response.body.to_vec()).into(),
                response.is_some_and(|response| response.truncated).into(),
                attempt.verdict.error_kind().map(ErrorKind::code).into(),
                detail.into(),
            ]);
        }
        let sql = "INSERT INTO attempts (id, tenant, delivery_id, number, started_at, duration_us, response_status, \
                response_headers, response_body, response_truncated, error_kind, error_detail) \
            SELECT id, tenant, delivery_id, number, started_at, duration_us, response_status, \
                response_headers, response_body, response_truncated, error_kind, error_detail FROM input";
        writes.push(input, sql);
    }

    pub(crate) fn count(
        &self,
        outcomes: &[&Outcome],
        counted: &HashMap<JobId, Counted>,
        writes: &mut Writes,
    ) {
        let mut counts: HashMap<rollup::Key, rollup::Counts> = HashMap::new();
        let mut tallies = HashMap::new();
        for outcome in outcomes {
            let delivery = &outcome.delivery;
            let Some(counted) = counted.get(&outcome.lease.job) else { continue };
            if let Some(attempt) = &outcome.attempt {
                attempt_rollup::count(&mut tallies, delivery, attempt, counted.attempts == 1);
            }
            let key = rollup::Key::new(
                &delivery.tenant,
                delivery.subscriber,
                &delivery.event_type,
                delivery.created_at,
            );
            // A delivery that ended otherwise meanwhile, as by being cancelled, was counted then, but
            // for this attempt.
            match counted.kind {
                Applied::Ended => {
                    counts.entry(key).or_default().spent += 1;
                    continue;
                }
                Applied::Pending => continue,
                Applied::Changed if matches!(outcome.end, End::RetryIn(_)) => continue,
                Applied::Changed => {}
            }
            let counts = counts.entry(key).or_default();
            counts.spent += i64::from(counted.attempts);
            match outcome.end {
                End::Succeeded => counts.succeeded += 1,
                End::Dead(_) => counts.dead += 1,
                End::Cancelled => counts.cancelled += 1,
                End::RetryIn(_) => {}
            }
        }
        rollup::add(self.shards.next(), counts, writes);
        attempt_rollup::add(tallies, writes);
    }
}

impl End {
    fn finish(self) -> Finish {
        match self {
            Self::Succeeded | Self::Cancelled => Finish::Done,
            Self::RetryIn(delay) => Finish::RetryIn(delay),
            Self::Dead(_) => Finish::Bury,
        }
    }

    /// The status that the delivery gets.
    pub fn status(self) -> DeliveryStatus {
        match self {
            Self::Succeeded => DeliveryStatus::Succeeded,
            Self::RetryIn(_) => DeliveryStatus::Pending,
            Self::Dead(_) => DeliveryStatus::Dead,
            Self::Cancelled => DeliveryStatus::Cancelled,
        }
    }
}

/// What became of a delivery when an outcome was recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    /// Its attempts, this one included; so also this one's number.
    pub(crate) attempts: i32,
    pub(crate) kind: Applied,
    /// Whether its subscriber may have failed since its last success.
    pub(crate) failing: bool,
}

/// Whether the outcome is the delivery's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Applied {
    /// It is.
    Changed,
    /// Another job works on the delivery by now.
    Pending,
    /// The delivery had ended before, as by being cancelled.
    Ended,
}

/// An attempt that ends when its delivery has been cancelled, and perhaps begun anew: it was made, and
/// so has a number of its own, but it changes no status and is of no round.
async fn count_late(
    transaction: &DatabaseTransaction,
    outcome: &Outcome,
) -> Result<Option<Counted>, StoreError> {
    let sql = "UPDATE deliveries SET attempts = attempts + 1, round_start = round_start + 1 \
        WHERE id = $1 RETURNING status, attempts";
    let values = [outcome.delivery.id.uuid().into()];
    let statement = Statement::from_sql_and_values(transaction.get_database_backend(), sql, values);
    let Some(row) = transaction.query_one_raw(statement).await? else { return Ok(None) };
    let is_pending = status(column(&row, "status")?)? == DeliveryStatus::Pending;
    let kind = if is_pending { Applied::Pending } else { Applied::Ended };
    Ok(Some(Counted { attempts: column(&row, "attempts")?, kind, failing: true }))
}

/// The delivery of a job that is no longer its own, or that has been cancelled meanwhile, stays as it is.
/// Returns those that were changed, by their jobs.
async fn update_deliveries(
    transaction: &DatabaseTransaction,
    outcomes: &[&Outcome],
) -> Result<HashMap<JobId, Counted>, StoreError> {
    const DELIVERY: &[Column] = &[
        Column::new("id", Kind::Uuid),
        Column::new("job", Kind::Uuid),
        Column::new("new_status", Kind::Small),
        Column::new("tried", Kind::Int),
        Column::nullable("delay", Kind::Big),
        Column::nullable("answered", Kind::Small),
        Column::nullable("failed", Kind::Small),
        Column::nullable("reason", Kind::Small),
    ];
    let mut input = Batch::new(DELIVERY);
    for outcome in outcomes {
        let attempt = outcome.attempt.as_ref();
        let answered = attempt.and_then(|attempt| attempt.response.as_ref()).map(|response| response.status);
        let failed = attempt.and_then(|attempt| attempt.verdict.error_kind());
        let (delay, reason) = match outcome.end {
            // Never early: the delay is counted from now on, as the job's is.
            End::RetryIn(delay) => (Some(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX / 4)), None),
            End::Dead(reason) => (None, Some(reason.code())),
            End::Succeeded | End::Cancelled => (None, None),
        };
        input.push([
            outcome.delivery.id.uuid().into(),
            outcome.lease.job.0.into(),
            outcome.end.status().code().into(),
            i32::from(attempt.is_some()).into(),
            delay.into(),
            stored_status(answered).into(),
            failed.map(ErrorKind::code).into(),
            reason.into(),
        ]);
    }
    let now = Dialect::of(transaction).now();
    // Each is looked up by a range of one. PostgreSQL keeps plans, and one made for a small table would join with all
    // of a large one; but of a range it can only ask the index.
    let sql = format!(
        "UPDATE deliveries SET \
            status = input.new_status, \
            attempts = deliveries.attempts + input.tried, \
            next_attempt_at = {now} + input.delay, \
            response_status = CASE WHEN input.tried = 1 THEN input.answered ELSE deliveries.response_status END, \
            error_kind = CASE WHEN input.tried = 1 THEN input.failed ELSE deliveries.error_kind END, \
            dead_reason = input.reason, \
            died_at = CASE WHEN input.new_status = 2 THEN {now} END, \
            ended_at = CASE WHEN input.new_status <> 0 THEN {now} END \
        FROM input \
        WHERE deliveries.id BETWEEN input.id AND input.id AND deliveries.job_id BETWEEN input.job AND input.job \
            AND deliveries.status = 0 \
        RETURNING deliveries.job_id, deliveries.attempts, \
            CASE WHEN EXISTS (SELECT 1 FROM health WHERE health.subscriber_id = deliveries.subscriber_id) \
                THEN 1 ELSE 0 END AS failing"
    );
    let rows = input.query(transaction, &sql, []).await?;
    let counted = |row| {
        let attempts = column(row, "attempts")?;
        let failing = column::<i32>(row, "failing")? != 0;
        Ok((JobId(column(row, "job_id")?), Counted { attempts, kind: Applied::Changed, failing }))
    };
    rows.iter().map(counted).collect()
}

/// A byte of a value becomes the character of that number (ISO 8859-1, as headers were once defined):
/// nothing is lost, whatever the receiver sent.
fn headers_text(headers: &[(String, Bytes)]) -> Vec<u8> {
    let pairs: Vec<(&str, String)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.iter().map(|&byte| char::from(byte)).collect()))
        .collect();
    serde_json::to_vec(&pairs).unwrap_or_default()
}
