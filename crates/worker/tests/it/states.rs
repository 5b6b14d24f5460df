//! The states of deliveries and jobs, under whatever comes in whatever order: a worker's steps and an
//! operator's, one by one, with what must hold after each.

use std::collections::HashMap;
use std::time::Duration;

use postrider_core::{Clock as _, DeadReason, DeliveryId, DeliveryStatus, ErrorKind, SubscriberId, Verdict};
use postrider_queue::{Claim, ClaimedJob, Finish, JobId, LaneId, Lease, LeaseToken, Rescue};
use postrider_store::attempt::{Attempt, End, Outcome};
use postrider_store::health::BreakerPolicy;
use postrider_store::loading::Loaded;
use postrider_store::subscribers::SubscriberChange;
use proptest::prelude::*;
use uuid::Uuid;

use crate::stage::{Stage, at_once, config, tenant};

const LEASE: Duration = Duration::from_mins(1);
const DELAY: Duration = Duration::from_secs(20);
const MAX_ATTEMPTS: u32 = 3;
const MAX_RESCUES: u32 = 2;
const AT_ONCE: u32 = 2;

/// Numbers pick from what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    Dispatch,
    Claim(u32),
    Answer(usize, Answered),
    Release(usize),
    Pass(u64),
    Promote,
    Rescue,
    Cancel(usize),
    Retry(usize),
    Activate(usize, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    Well,
    Badly,
    Gone,
}

fn step() -> impl Strategy<Value = Step> {
    let answered =
        prop_oneof![4 => Just(Answered::Well), 6 => Just(Answered::Badly), 1 => Just(Answered::Gone)];
    prop_oneof![
        4 => Just(Step::Dispatch),
        6 => (1_u32..4).prop_map(Step::Claim),
        8 => (any::<usize>(), answered).prop_map(|(which, answered)| Step::Answer(which, answered)),
        1 => any::<usize>().prop_map(Step::Release),
        4 => (1_u64..90).prop_map(Step::Pass),
        3 => Just(Step::Promote),
        3 => Just(Step::Rescue),
        3 => any::<usize>().prop_map(Step::Cancel),
        2 => any::<usize>().prop_map(Step::Retry),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, active)| Step::Activate(which, active)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_states_agree(steps in prop::collection::vec(step(), 1..60)) {
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

struct World {
    stage: Stage,
    subscribers: Vec<SubscriberId>,
    deliveries: Vec<DeliveryId>,
    /// What was claimed and not ended, by workers that may have lost it long ago.
    held: Vec<(ClaimedJob, Loaded)>,
}

impl World {
    async fn new() -> Self {
        let stage = Stage::sqlite().await;
        let subscribers = vec![stage.subscriber("/one").await, stage.subscriber("/two").await];
        Self { stage, subscribers, deliveries: Vec::new(), held: Vec::new() }
    }

    async fn take(&mut self, step: Step) {
        let store = &self.stage.store;
        match step {
            Step::Dispatch => {
                let event = self.stage.dispatch().await.id;
                self.deliveries.extend(self.stage.deliveries(event).await.iter().map(|delivery| delivery.id));
            }
            Step::Claim(max) => self.claim(max).await,
            Step::Answer(which, answered) => self.answer(which, answered).await,
            Step::Release(which) => {
                if let Some((job, _)) = self.take_held(which) {
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
            Step::Retry(which) => {
                if let Some(id) = pick(&self.deliveries, which) {
                    store.retry(&tenant(), id).await.unwrap();
                }
            }
            Step::Activate(which, active) => {
                let id = pick(&self.subscribers, which).unwrap();
                let change = SubscriberChange { active: Some(active), ..SubscriberChange::default() };
                store.change_subscriber(&tenant(), id, change).await.unwrap();
            }
        }
    }

    fn token(&self) -> LeaseToken {
        LeaseToken(self.stage.store.ids().next_uuid())
    }

    fn take_held(&mut self, which: usize) -> Option<(ClaimedJob, Loaded)> {
        let count = self.held.len();
        (count > 0).then(|| self.held.swap_remove(which % count))
    }

    async fn claim(&mut self, max: u32) {
        let claim = Claim { lane_concurrency: at_once(AT_ONCE), ..Claim::new(self.token(), max, LEASE) };
        let jobs = self.stage.store.queue().claim(&claim).await.unwrap().jobs;
        let loaded = self.stage.store.load(&jobs).await.unwrap();
        self.held.extend(jobs.into_iter().zip(loaded));
    }

    /// What a worker does when the receiver has answered.
    async fn answer(&mut self, which: usize, answered: Answered) {
        let Some((job, loaded)) = self.take_held(which) else { return };
        let (delivery, attempt, end) = match loaded {
            Loaded::Nothing => return self.finish(&[], &[(job.lease, Finish::Done)], job.lease).await,
            Loaded::NotDue(delay) => {
                return self.finish(&[], &[(job.lease, Finish::RetryIn(delay))], job.lease).await;
            }
            Loaded::Inactive(delivery, end) => (delivery, None, end),
            Loaded::Unreadable(_, error) => panic!("{error}"),
            Loaded::Deliver(work) => {
                let failed = work.delivery.attempts + 1 - work.delivery.round_start;
                let end = match answered {
                    Answered::Well => End::Succeeded,
                    Answered::Gone => End::Dead(DeadReason::Gone),
                    Answered::Badly if failed >= MAX_ATTEMPTS => End::Dead(DeadReason::AttemptsUsedUp),
                    Answered::Badly => End::RetryIn(DELAY),
                };
                let verdict = match answered {
                    Answered::Well => Verdict::Success,
                    _ => Verdict::failure(ErrorKind::Status, "the receiver answered badly"),
                };
                let started_at = self.stage.store.ids().clock().now();
                let duration = Duration::from_millis(1);
                (work.delivery, Some(Attempt { started_at, duration, response: None, verdict }), end)
            }
        };
        let outcome = Outcome { lease: job.lease, delivery, attempt, end };
        self.finish(&[outcome], &[], job.lease).await;
    }

    /// Records, and sees that it counts exactly if the lease is still held.
    async fn finish(&self, outcomes: &[Outcome], others: &[(Lease, Finish)], lease: Lease) {
        let held =
            self.jobs().await.iter().any(|job| job.id == lease.job && job.token == Some(lease.token.0));
        let attempts = self.stage.count("SELECT count(*) FROM attempts").await;
        let breaker = BreakerPolicy { breaker_failures: 0, deactivate_after: None, ..config().breaker };
        let recorded = self.stage.store.record(outcomes, others, &breaker).await.unwrap();
        assert_eq!(recorded.lost.is_empty(), held, "fenced by the lease and nothing else");
        if !held {
            assert_eq!(self.stage.count("SELECT count(*) FROM attempts").await, attempts);
        }
    }

    /// What a worker's upkeep does.
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
        self.check_who_would_send(&jobs, &deliveries).await;
        for job in &jobs {
            assert_eq!(job.is_running, job.token.is_some(), "a lease on what runs and nothing else");
        }
        for (lane, running) in self.lanes().await {
            let count = jobs.iter().filter(|job| job.lane == lane && job.is_running).count();
            assert_eq!(running, i64::try_from(count).unwrap(), "the lane's count of running jobs");
            assert!(running <= i64::from(AT_ONCE), "the lane's limit");
        }
        self.check_counts(&deliveries).await;
    }

    /// Of all jobs, only the live one of a pending delivery makes a request.
    async fn check_who_would_send(&self, jobs: &[Job], deliveries: &[Row]) {
        let token = self.token();
        let claimed: Vec<_> = jobs
            .iter()
            .map(|job| ClaimedJob {
                lease: Lease { job: job.id, token },
                lane: job.lane,
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

    /// The roll-ups say what counting would.
    async fn check_counts(&self, deliveries: &[Row]) {
        let rows = self
            .stage
            .rows(
                "SELECT coalesce(sum(created), 0) AS created, coalesce(sum(succeeded), 0) AS succeeded, \
                 coalesce(sum(dead), 0) AS dead, coalesce(sum(cancelled), 0) AS cancelled, \
                 coalesce(sum(spent), 0) AS spent FROM rollups",
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
        let attempts = self.stage.count("SELECT count(*) FROM attempts").await;
        assert_eq!(
            attempts,
            deliveries.iter().map(|one| one.attempts).sum::<i64>(),
            "each is a row, and counted"
        );
        let numbers = "SELECT count(*) FROM (SELECT DISTINCT delivery_id, number FROM attempts) AS numbers";
        assert_eq!(self.stage.count(numbers).await, attempts, "no number twice");
    }

    /// Left to a worker and a receiver that do well, all comes to an end.
    async fn drain(&mut self) {
        for _ in 0..200 {
            if self.jobs().await.is_empty() {
                let pending = "SELECT count(*) FROM deliveries WHERE status = 0";
                assert_eq!(self.stage.count(pending).await, 0, "pending without a job");
                return self.stage.no_lane_is_running().await;
            }
            for step in [Step::Pass(61), Step::Rescue, Step::Promote, Step::Claim(50)] {
                self.take(step).await;
            }
            while !self.held.is_empty() {
                self.answer(self.held.len() - 1, Answered::Well).await;
            }
            self.check().await;
        }
        panic!("jobs go round for ever: {:?}", self.jobs().await);
    }

    async fn jobs(&self) -> Vec<Job> {
        let rows = self.stage.rows("SELECT id, lane, subject, state, lease_token FROM jobs").await;
        let job = |row: &sea_orm::QueryResult| Job {
            id: JobId(row.try_get("", "id").unwrap()),
            lane: LaneId(row.try_get("", "lane").unwrap()),
            subject: row.try_get("", "subject").unwrap(),
            is_running: row.try_get::<i16>("", "state").unwrap() == 3,
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
    is_running: bool,
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
