//! The states of deliveries and jobs, in random walks of workers' and operators' steps. `states.md` draws them.
//!
//! After each step the states must agree with each other, and every change must be one that is drawn.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use postrider_core::{Clock as _, DeadReason, DeliveryId, DeliveryStatus, ErrorKind, SubscriberId, Verdict};
use postrider_queue::{Claim, ClaimedJob, Finish, JobId, LaneId, Lease, LeaseToken, Place, Rescue};
use postrider_store::attempt::{Attempt, End, Outcome, Response};
use postrider_store::health::BreakerPolicy;
use postrider_store::loading::Loaded;
use postrider_store::subscribers::SubscriberChange;
use postrider_testkit::ATTEMPTS;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use crate::stage::{Stage, at_once, config, event, tenant};

const LEASE: Duration = Duration::from_mins(1);
const DELAY: Duration = Duration::from_secs(20);
const MAX_ATTEMPTS: u32 = 3;
const MAX_RESCUES: u32 = 2;
const AT_ONCE: u32 = 2;

/// A step of a walk. Its numbers pick from the deliveries, subscribers or leases that exist.
#[derive(Clone, Copy, Debug)]
enum Step {
    Dispatch,
    /// To one subscriber, active or not.
    DispatchTo(usize),
    Claim(u32),
    Record(usize, Answer),
    Release(usize),
    Pass(u64),
    Promote,
    Rescue,
    Cancel(usize),
    Requeue(usize),
    Activate(usize, bool),
    Pause(usize, u64),
    Resume(usize),
    Drain(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Success,
    Failure,
    Gone,
}

fn step() -> impl Strategy<Value = Step> {
    let answer = prop_oneof![4 => Just(Answer::Success), 6 => Just(Answer::Failure), 1 => Just(Answer::Gone)];
    prop_oneof![
        4 => Just(Step::Dispatch),
        2 => any::<usize>().prop_map(Step::DispatchTo),
        6 => (1_u32..4).prop_map(Step::Claim),
        8 => (any::<usize>(), answer).prop_map(|(which, answer)| Step::Record(which, answer)),
        1 => any::<usize>().prop_map(Step::Release),
        4 => (1_u64..90).prop_map(Step::Pass),
        3 => Just(Step::Promote),
        3 => Just(Step::Rescue),
        3 => any::<usize>().prop_map(Step::Cancel),
        2 => any::<usize>().prop_map(Step::Requeue),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, active)| Step::Activate(which, active)),
        1 => (any::<usize>(), 3_u64..90).prop_map(|(which, seconds)| Step::Pause(which, seconds)),
        1 => any::<usize>().prop_map(Step::Resume),
        2 => (1_u32..4).prop_map(Step::Drain),
    ]
}

impl Step {
    /// The operation as `states.md` calls it; `None` if it changes no state.
    const fn operation(self) -> Option<&'static str> {
        Some(match self {
            Self::Dispatch | Self::DispatchTo(_) => "dispatch",
            Self::Claim(_) => "claim",
            Self::Record(..) => "record",
            Self::Release(_) => "release",
            Self::Promote => "promote",
            Self::Rescue => "rescue",
            Self::Cancel(_) => "cancel",
            Self::Requeue(_) => "requeue",
            Self::Drain(_) => "drain",
            Self::Pass(_) | Self::Activate(..) | Self::Pause(..) | Self::Resume(_) => return None,
        })
    }
}

/// A transition of one of the two machines, and an operation that causes it. `[*]` is a row that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Transition {
    machine: &'static str,
    from: String,
    to: String,
    operation: String,
}

/// Reads the transitions that `states.md` draws.
fn drawn() -> BTreeSet<Transition> {
    let (mut machine, mut is_diagram) = ("", false);
    let mut transitions = BTreeSet::new();
    for line in include_str!("states.md").lines().map(str::trim) {
        match line {
            "## Delivery" => machine = "delivery",
            "## Job" => machine = "job",
            "```mermaid" => is_diagram = true,
            "```" => is_diagram = false,
            _ => {}
        }
        let Some((from, rest)) = line.split_once(" --> ").filter(|_| is_diagram) else { continue };
        let (to, operations) = rest.split_once(": ").expect("each transition has a label");
        transitions.extend(operations.split(", ").map(|operation| Transition {
            machine,
            from: from.to_owned(),
            to: to.to_owned(),
            operation: operation.to_owned(),
        }));
    }
    assert!(transitions.iter().any(|one| one.machine == "delivery"), "the page has a diagram of deliveries");
    assert!(transitions.iter().any(|one| one.machine == "job"), "the page has a diagram of jobs");
    transitions
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn states_agree_after_every_step_of_a_random_walk(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in steps {
                world.take(step).await;
                world.check().await;
            }
            world.drain().await;
        });
    }
}

/// Walks at random, with a fixed seed, until each drawn transition has been seen. The rarest comes first: a job that is
/// rescued too often.
#[tokio::test]
async fn every_drawn_transition_is_taken() {
    const MOST_STEPS: usize = 5_000;
    let mut runner = TestRunner::deterministic();
    let mut world = World::new().await;
    // What a walk takes seldom: cancelling what waits for its next attempt, and a delivery that is rescued too often.
    let failure = Step::Record(0, Answer::Failure);
    for step in [Step::Dispatch, Step::Claim(2), failure, failure, Step::Cancel(0), Step::Cancel(1)] {
        world.take(step).await;
    }
    world.take(Step::Dispatch).await;
    for _ in 0..=MAX_RESCUES {
        for step in [Step::Claim(2), Step::Pass(61), Step::Rescue] {
            world.take(step).await;
        }
    }
    for _ in 0..MOST_STEPS {
        if world.seen == world.drawn {
            return;
        }
        let step = step().new_tree(&mut runner).unwrap().current();
        world.take(step).await;
    }
    let never_seen: Vec<_> = world.drawn.difference(&world.seen).collect();
    panic!("drawn in states.md, but not seen in {MOST_STEPS} steps: {never_seen:#?}");
}

struct World {
    stage: Stage,
    subscribers: Vec<SubscriberId>,
    deliveries: Vec<DeliveryId>,
    /// Jobs that were claimed and not finished, by workers that may have lost their leases long ago.
    leased: Vec<(ClaimedJob, Loaded)>,
    drawn: BTreeSet<Transition>,
    seen: BTreeSet<Transition>,
}

impl World {
    async fn new() -> Self {
        let stage = Stage::sqlite().await;
        let subscribers = vec![stage.subscriber("/one").await, stage.subscriber("/two").await];
        Self {
            stage,
            subscribers,
            deliveries: Vec::new(),
            leased: Vec::new(),
            drawn: drawn(),
            seen: BTreeSet::new(),
        }
    }

    /// Takes a step, and checks that each change it makes is drawn.
    async fn take(&mut self, step: Step) {
        let before = self.states().await;
        self.apply(step).await;
        let after = self.states().await;
        let rows: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        for row in rows {
            let state = |states: &BTreeMap<_, &str>| states.get(row).map_or("[*]", |state| *state).to_owned();
            let (from, to) = (state(&before), state(&after));
            if from == to {
                continue;
            }
            let operation = step.operation().unwrap_or("a step that changes no state").to_owned();
            let transition = Transition { machine: row.0, from, to, operation };
            assert!(self.drawn.contains(&transition), "not drawn in states.md: {transition:?}");
            self.seen.insert(transition);
        }
    }

    /// The states of all deliveries and jobs, by machine and id.
    async fn states(&self) -> BTreeMap<(&'static str, Uuid), &'static str> {
        const JOB: [&str; 3] = ["ready", "scheduled", "running"];
        let id = |row: &sea_orm::QueryResult| row.try_get::<Uuid>("", "id").unwrap();
        let jobs = self
            .stage
            .rows(
                "SELECT id, CASE WHEN lease_token IS NULL THEN 0 ELSE 2 END AS state FROM jobs \
            UNION ALL SELECT id, 1 FROM scheduled_jobs",
            )
            .await;
        let state = |row: &sea_orm::QueryResult| {
            JOB[usize::try_from(row.try_get::<i32>("", "state").unwrap()).unwrap()]
        };
        let jobs = jobs.iter().map(|row| (("job", id(row)), state(row)));
        let deliveries = self.rows().await;
        let deliveries = deliveries.iter().map(|row| (("delivery", row.id), row.status.as_str()));
        jobs.chain(deliveries).collect()
    }

    async fn apply(&mut self, step: Step) {
        let store = &self.stage.store;
        match step {
            Step::Dispatch => {
                let event = self.stage.dispatch().await.id;
                self.deliveries.extend(self.stage.deliveries(event).await.iter().map(|delivery| delivery.id));
            }
            Step::DispatchTo(which) => {
                let id = pick(&self.subscribers, which).unwrap();
                let dispatched = self.stage.dispatcher.dispatch_to(id, event(0)).await.unwrap();
                let deliveries = self.stage.deliveries(dispatched.id).await;
                self.deliveries.extend(deliveries.iter().map(|delivery| delivery.id));
            }
            Step::Claim(max) => self.claim(max).await,
            Step::Record(which, answer) => self.record(which, answer).await,
            Step::Release(which) => {
                if let Some((job, _)) = self.take_leased(which) {
                    self.finish(&[], &[(job.lease, Finish::Release)], job.lease).await;
                }
            }
            Step::Pass(seconds) => self.stage.database.advance(Duration::from_secs(seconds)).await,
            Step::Promote => drop(store.queue().promote(100).await.unwrap()),
            Step::Rescue => self.rescue().await,
            Step::Cancel(which) => {
                if let Some(id) = pick(&self.deliveries, which) {
                    store.cancel(&tenant(), id).await.unwrap();
                }
            }
            Step::Requeue(which) => {
                if let Some(id) = pick(&self.deliveries, which) {
                    store.retry(&tenant(), id).await.unwrap();
                }
            }
            Step::Activate(which, active) => {
                let id = pick(&self.subscribers, which).unwrap();
                let change = SubscriberChange { active: Some(active), ..SubscriberChange::default() };
                store.change_subscriber(&tenant(), id, change).await.unwrap();
            }
            Step::Pause(which, seconds) => {
                store.queue().pause(self.lane(which), Duration::from_secs(seconds)).await.unwrap();
            }
            Step::Resume(which) => store.queue().resume(self.lane(which)).await.unwrap(),
            Step::Drain(max) => drop(store.drain(None, max).await.unwrap()),
        }
    }

    fn lane(&self, which: usize) -> LaneId {
        LaneId(pick(&self.subscribers, which).unwrap().uuid())
    }

    fn token(&self) -> LeaseToken {
        LeaseToken(self.stage.store.ids().next_uuid())
    }

    fn take_leased(&mut self, which: usize) -> Option<(ClaimedJob, Loaded)> {
        let count = self.leased.len();
        (count > 0).then(|| self.leased.swap_remove(which % count))
    }

    async fn claim(&mut self, max: u32) {
        let claim = Claim { lane_concurrency: at_once(AT_ONCE), ..Claim::new(self.token(), max, LEASE) };
        let jobs = self.stage.store.queue().claim(&claim).await.unwrap().jobs;
        let loaded = self.stage.store.load(&jobs).await.unwrap();
        self.leased.extend(jobs.into_iter().zip(loaded));
    }

    /// Does what a worker does after the receiver's answer.
    async fn record(&mut self, which: usize, answer: Answer) {
        let Some((job, loaded)) = self.take_leased(which) else { return };
        let (delivery, attempt, end) = match loaded {
            Loaded::Nothing => return self.finish(&[], &[(job.lease, Finish::Done)], job.lease).await,
            Loaded::NotDue(delay) => {
                return self.finish(&[], &[(job.lease, Finish::RetryIn(delay))], job.lease).await;
            }
            Loaded::Inactive(delivery, end) => (delivery, None, end),
            Loaded::Unreadable(_, error) => panic!("{error}"),
            Loaded::PayloadGone(delivery) => panic!("{delivery:?}"),
            Loaded::Deliver(work) => {
                let failed = work.delivery.attempts + 1 - work.delivery.round_start;
                let end = match answer {
                    Answer::Success => End::Succeeded,
                    Answer::Gone => End::Dead(DeadReason::Gone),
                    Answer::Failure if failed >= MAX_ATTEMPTS => End::Dead(DeadReason::AttemptsUsedUp),
                    Answer::Failure => End::RetryIn(DELAY),
                };
                let verdict = match answer {
                    Answer::Success => Verdict::Success,
                    _ => Verdict::failure(ErrorKind::Status, "the receiver answered 500"),
                };
                let started_at = self.stage.store.ids().clock().now();
                let duration = Duration::from_millis(1);
                let answer =
                    |status| Response { status, headers: Vec::new(), body: "".into(), truncated: false };
                let response = Some(answer(if verdict.is_success() { 200 } else { 500 }));
                (
                    work.delivery,
                    Some(Attempt { started_at, duration, response, verdict, exchange: None }),
                    end,
                )
            }
        };
        let outcome = Outcome { lease: job.lease, delivery, attempt, end };
        self.finish(&[outcome], &[], job.lease).await;
    }

    /// Records, and checks that this has an effect exactly if the job still has the lease.
    async fn finish(&self, outcomes: &[Outcome], others: &[(Lease, Finish)], lease: Lease) {
        let is_leased =
            self.jobs().await.iter().any(|job| job.id == lease.job && job.token == Some(lease.token.0));
        let attempts = self.attempts().await;
        let breaker = BreakerPolicy { breaker_failures: 0, deactivate_after: None, ..config().breaker };
        let recorded = self.stage.store.record(outcomes, others, &breaker).await.unwrap();
        assert_eq!(recorded.lost.is_empty(), is_leased, "fenced by the lease and nothing else");
        if !is_leased {
            assert_eq!(self.attempts().await, attempts);
        }
    }

    async fn attempts(&self) -> i64 {
        self.stage.count(&format!("SELECT count(*) FROM {ATTEMPTS}")).await
    }

    /// Does what a worker's periodic rescue does.
    async fn rescue(&mut self) {
        let rescue = Rescue { max: 100, max_rescues: MAX_RESCUES, token: self.token(), lease: LEASE };
        let store = &self.stage.store;
        let exhausted = store.queue().rescue(&rescue).await.unwrap().exhausted;
        for (job, loaded) in exhausted.iter().zip(store.load(&exhausted).await.unwrap()) {
            let delivery = match loaded {
                Loaded::Deliver(work) => work.delivery,
                Loaded::Inactive(delivery, _) => delivery,
                Loaded::NotDue(delay) => {
                    self.finish(&[], &[(job.lease, Finish::RetryIn(delay))], job.lease).await;
                    continue;
                }
                Loaded::Nothing => {
                    self.finish(&[], &[(job.lease, Finish::Bury)], job.lease).await;
                    continue;
                }
                Loaded::Unreadable(_, error) => panic!("{error}"),
                Loaded::PayloadGone(delivery) => panic!("{delivery:?}"),
            };
            let end = End::Dead(DeadReason::RescuedTooOften);
            let outcome = Outcome { lease: job.lease, delivery, attempt: None, end };
            self.finish(&[outcome], &[], job.lease).await;
        }
    }

    async fn check(&self) {
        let (jobs, deliveries) = (self.jobs().await, self.rows().await);
        for delivery in &deliveries {
            let spent = delivery.attempts - delivery.round_start;
            assert!((0..=i64::from(MAX_ATTEMPTS)).contains(&spent), "attempts of a round: {delivery:?}");
            let live = jobs.iter().filter(|job| delivery.job == Some(job.id.0)).count();
            let is_pending = delivery.status == DeliveryStatus::Pending;
            if is_pending {
                assert_eq!(live, 1, "a pending delivery has one live job: {delivery:?}");
            }
            assert_eq!(is_pending, delivery.ended_at.is_none(), "{delivery:?}");
            let is_dead = delivery.status == DeliveryStatus::Dead;
            assert_eq!(
                (is_dead, is_dead),
                (delivery.reason.is_some(), delivery.died_at.is_some()),
                "{delivery:?}"
            );
        }
        self.check_senders(&jobs, &deliveries).await;
        for (lane, running) in self.lanes().await {
            let count = jobs.iter().filter(|job| job.lane == lane && job.token.is_some()).count();
            assert_eq!(running, i64::try_from(count).unwrap(), "the lane's count of running jobs");
            assert!(running <= i64::from(AT_ONCE), "the lane's limit");
        }
        self.check_counts(&deliveries).await;
    }

    /// Checks that of all jobs only the live one of a pending delivery would make a request.
    async fn check_senders(&self, jobs: &[Job], deliveries: &[Row]) {
        let token = self.token();
        let claimed: Vec<_> = jobs
            .iter()
            .map(|job| ClaimedJob {
                lease: Lease { job: job.id, token, lane: job.lane, place: Place::default() },
                owner: "default".to_owned(),
                subject: job.subject,
                claims: 1,
                rescues: 0,
                trace: None,
            })
            .collect();
        let mut senders: HashMap<Uuid, usize> = HashMap::new();
        for (job, loaded) in jobs.iter().zip(self.stage.store.load(&claimed).await.unwrap()) {
            let delivery = deliveries.iter().find(|delivery| delivery.id == job.subject).unwrap();
            if let Loaded::Deliver(_) | Loaded::NotDue(_) | Loaded::Inactive(..) = loaded {
                assert_eq!((delivery.status, delivery.job), (DeliveryStatus::Pending, Some(job.id.0)));
                *senders.entry(job.subject).or_default() += 1;
            }
        }
        assert!(senders.values().all(|count| *count == 1), "one job for a delivery: {senders:?}");
    }

    /// Checks that the roll-ups equal a count of the rows.
    async fn check_counts(&self, deliveries: &[Row]) {
        self.stage.store.fold_statistics().await.unwrap();
        let rows = self
            .stage
            .rows(
                "SELECT coalesce(sum(created), 0) AS created, coalesce(sum(succeeded), 0) AS succeeded, \
                 coalesce(sum(dead), 0) AS dead, coalesce(sum(cancelled), 0) AS cancelled, \
                 coalesce(sum(spent), 0) AS spent FROM rollups \
                 WHERE span = 3 AND event_type = '' AND subscriber_id IN (SELECT subscriber_id FROM deliveries)",
            )
            .await;
        let rolled = |name: &str| rows[0].try_get::<i64>("", name).unwrap();
        let count =
            |status| i64::try_from(deliveries.iter().filter(|one| one.status == status).count()).unwrap();
        assert_eq!(rolled("created"), i64::try_from(deliveries.len()).unwrap());
        assert_eq!(rolled("succeeded"), count(DeliveryStatus::Succeeded));
        assert_eq!(rolled("dead"), count(DeliveryStatus::Dead));
        assert_eq!(rolled("cancelled"), count(DeliveryStatus::Cancelled));
        let ended = deliveries.iter().filter(|one| one.status != DeliveryStatus::Pending);
        assert_eq!(rolled("spent"), ended.map(|one| one.attempts).sum::<i64>());
        let attempts = self.attempts().await;
        assert_eq!(
            attempts,
            deliveries.iter().map(|one| one.attempts).sum::<i64>(),
            "each attempt is stored and is counted"
        );
        let numbers =
            format!("SELECT count(*) FROM (SELECT DISTINCT delivery_id, number FROM {ATTEMPTS}) AS numbers");
        assert_eq!(self.stage.count(&numbers).await, attempts, "no attempt number occurs twice");
    }

    /// With a working worker and receiver, every delivery ends.
    async fn drain(&mut self) {
        for _ in 0..200 {
            if self.jobs().await.is_empty() {
                let pending = "SELECT count(*) FROM deliveries WHERE status = 0";
                assert_eq!(self.stage.count(pending).await, 0, "pending without a job");
                return self.stage.no_lane_is_running().await;
            }
            let open = [Step::Resume(0), Step::Resume(1), Step::Drain(100), Step::Drain(100)];
            for step in open.into_iter().chain([Step::Pass(61), Step::Rescue, Step::Promote, Step::Claim(50)])
            {
                self.take(step).await;
            }
            while !self.leased.is_empty() {
                self.take(Step::Record(self.leased.len() - 1, Answer::Success)).await;
            }
            self.check().await;
        }
        panic!("jobs that never end: {:?}", self.jobs().await);
    }

    async fn jobs(&self) -> Vec<Job> {
        let rows = self
            .stage
            .rows(
                "SELECT id, lane, subject, lease_token FROM jobs \
            UNION ALL SELECT id, lane, subject, NULL FROM scheduled_jobs",
            )
            .await;
        let job = |row: &sea_orm::QueryResult| Job {
            id: JobId(row.try_get("", "id").unwrap()),
            lane: LaneId(row.try_get("", "lane").unwrap()),
            subject: row.try_get("", "subject").unwrap(),
            token: row.try_get("", "lease_token").unwrap(),
        };
        rows.iter().map(job).collect()
    }

    async fn lanes(&self) -> Vec<(LaneId, i64)> {
        let rows = self.stage.rows("SELECT id, running FROM lanes").await;
        let lane = |row: &sea_orm::QueryResult| {
            (LaneId(row.try_get("", "id").unwrap()), row.try_get("", "running").unwrap())
        };
        rows.iter().map(lane).collect()
    }

    async fn rows(&self) -> Vec<Row> {
        let sql = "SELECT id, status, attempts, round_start, job_id, dead_reason, died_at, ended_at FROM deliveries";
        let read = |row: &sea_orm::QueryResult| Row {
            id: row.try_get("", "id").unwrap(),
            status: DeliveryStatus::from_code(row.try_get("", "status").unwrap()).unwrap(),
            attempts: row.try_get("", "attempts").unwrap(),
            round_start: row.try_get("", "round_start").unwrap(),
            job: row.try_get("", "job_id").unwrap(),
            reason: row.try_get("", "dead_reason").unwrap(),
            died_at: row.try_get("", "died_at").unwrap(),
            ended_at: row.try_get("", "ended_at").unwrap(),
        };
        self.stage.rows(sql).await.iter().map(read).collect()
    }
}

#[derive(Debug)]
struct Job {
    id: JobId,
    lane: LaneId,
    subject: Uuid,
    token: Option<Uuid>,
}

#[derive(Debug)]
struct Row {
    id: Uuid,
    status: DeliveryStatus,
    attempts: i64,
    round_start: i64,
    job: Option<Uuid>,
    reason: Option<i16>,
    died_at: Option<i64>,
    ended_at: Option<i64>,
}

fn pick<T: Copy>(from: &[T], which: usize) -> Option<T> {
    (!from.is_empty()).then(|| from[which % from.len()])
}
