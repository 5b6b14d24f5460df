//! Random calls, after each of which the queue's counts agree with what the test knows.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use fastrand::Rng;
use postrider_queue::{
    Claim, ClaimedJob, Fillable as _, Finish, Hold, JobId, JobQueue as _, LaneControl as _, LaneId,
    LaneSettings, LeaseToken, NewJob, RemoteQueue as _, Rescue,
};
use uuid::Uuid;

use crate::OverRedis;

const LANES: u128 = 6;
const CALLS: usize = 400;
const LEASE: Duration = Duration::from_secs(30);

fn lane(number: u128) -> LaneId {
    LaneId(Uuid::from_u128(number << 64 | number))
}

fn fresh(rng: &mut Rng) -> Uuid {
    Uuid::from_u128(rng.u128(1..))
}

/// What the test knows.
#[derive(Default)]
struct Model {
    /// All jobs that are not done, with their lanes.
    jobs: HashMap<JobId, LaneId>,
    held: Vec<ClaimedJob>,
    limits: HashMap<LaneId, usize>,
}

impl Model {
    fn running_in(&self, lane: LaneId) -> usize {
        self.held.iter().filter(|job| job.lease.lane == lane).count()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_and_limits_hold_after_any_calls() {
    for seed in 0..4 {
        let Some(fixture) = OverRedis::single().await else { return };
        let (queue, mut rng, mut model) = (&fixture.queue, Rng::with_seed(seed), Model::default());
        for call in 0..CALLS {
            act(&fixture, &mut rng, &mut model).await;
            let depth = queue.depth().await.unwrap();
            let all = depth.ready + depth.scheduled + depth.held + depth.running;
            assert_eq!(all, model.jobs.len() as u64, "seed {seed}, call {call}: {depth:?}");
            assert_eq!(depth.running, model.held.len() as u64, "seed {seed}, call {call}: {depth:?}");
        }
        // Whatever has happened, everything can be claimed and ended.
        let lanes: Vec<_> = (1..=LANES).map(lane).collect();
        queue.release(&lanes, Hold::Lane).await.unwrap();
        for lane in lanes {
            queue.resume(lane).await.unwrap();
        }
        fixture.queue.advance(Duration::from_hours(2));
        for _ in 0..1_000 {
            queue.promote(1_000).await.unwrap();
            queue.rescue(&rescue(&mut rng)).await.unwrap();
            let claimed = queue.claim(&claim(&mut rng)).await.unwrap();
            let done: Vec<_> = claimed.jobs.iter().map(|job| (job.lease, Finish::Done)).collect();
            queue.finish(&done).await.unwrap();
            for job in &claimed.jobs {
                assert!(model.jobs.remove(&job.lease.job).is_some(), "seed {seed}: {job:?}");
            }
            if model.jobs.is_empty() {
                break;
            }
        }
        assert!(model.jobs.is_empty(), "seed {seed}: {} jobs are left", model.jobs.len());
        assert_eq!(queue.depth().await.unwrap().running, 0, "seed {seed}");
    }
}

async fn act(fixture: &OverRedis, rng: &mut Rng, model: &mut Model) {
    let queue = &fixture.queue;
    let lane = lane(rng.u128(1..=LANES));
    match rng.u32(..100) {
        0..20 => {
            let delay = |rng: &mut Rng| Duration::from_secs(if rng.bool() { 0 } else { rng.u64(1..60) });
            let jobs: Vec<_> = (0..rng.usize(1..8))
                .map(|_| NewJob {
                    delay: delay(rng),
                    ..NewJob::now(JobId(fresh(rng)), lane, "acme", fresh(rng))
                })
                .collect();
            assert_eq!(queue.offer(&jobs).await.unwrap(), jobs.len() as u64);
            assert_eq!(queue.offer(&jobs).await.unwrap(), 0, "they are there");
            model.jobs.extend(jobs.iter().map(|job| (job.id, job.lane)));
        }
        20..45 => {
            let claimed = queue.claim(&claim(rng)).await.unwrap().jobs;
            for job in &claimed {
                assert!(model.held.iter().all(|held| held.lease.job != job.lease.job), "it is held: {job:?}");
            }
            let before: HashMap<_, _> =
                model.limits.keys().map(|lane| (*lane, model.running_in(*lane))).collect();
            model.held.extend(claimed);
            for (lane, limit) in &model.limits {
                let running = model.running_in(*lane);
                assert!(running <= (*limit).max(before[lane]), "{running} of {limit} run");
            }
        }
        45..70 => {
            let count = rng.usize(..=model.held.len());
            rng.shuffle(&mut model.held);
            let ended: Vec<_> = model.held.drain(..count).collect();
            let finishes: Vec<_> = ended
                .iter()
                .map(|job| {
                    let finish = match rng.u32(..4) {
                        0 => Finish::Release,
                        1 => Finish::RetryIn(Duration::from_secs(rng.u64(..40))),
                        2 => Finish::Bury,
                        _ => Finish::Done,
                    };
                    (job.lease, finish)
                })
                .collect();
            assert_eq!(queue.finish(&finishes).await.unwrap().len(), ended.len());
            assert_eq!(queue.finish(&finishes).await.unwrap().len(), 0, "their leases have ended");
            for (lease, finish) in finishes {
                if matches!(finish, Finish::Done | Finish::Bury) {
                    model.jobs.remove(&lease.job);
                }
            }
        }
        70..76 => drop(queue.promote(rng.u32(1..50)).await.unwrap()),
        76..80 => {
            fixture.queue.advance(Duration::from_secs(rng.u64(1..20)));
            let leases: Vec<_> = model.held.iter().map(|job| job.lease).collect();
            assert_eq!(queue.extend(&leases, LEASE).await.unwrap().len(), leases.len());
        }
        80..83 => {
            fixture.queue.advance(LEASE + Duration::from_secs(1));
            let rescued = queue.rescue(&rescue(rng)).await.unwrap();
            assert_eq!(rescued.returned, model.held.len() as u64);
            model.held.clear();
        }
        83..88 => {
            let limit = rng.usize(1..5);
            let concurrency = NonZeroU32::new(u32::try_from(limit).unwrap());
            let settings = LaneSettings { concurrency, ordered: rng.bool(), rate: None };
            model.limits.insert(lane, if settings.ordered { 1 } else { limit });
            queue.configure(lane, "acme", settings).await.unwrap();
        }
        88..91 => queue.pause(lane, Duration::from_secs(rng.u64(1..40))).await.unwrap(),
        91..94 => queue.resume(lane).await.unwrap(),
        94..96 => queue.hold(&[lane], "acme", Hold::Lane).await.unwrap(),
        96..98 => queue.release(&[lane], Hold::Lane).await.unwrap(),
        _ => {
            let waiting = queue.waiting(lane, 3).await.unwrap();
            let ids: Vec<_> = waiting.iter().map(|job| job.id).collect();
            queue.remove(lane, &ids).await.unwrap();
            for id in ids {
                assert_eq!(model.jobs.remove(&id), Some(lane));
            }
        }
    }
}

fn claim(rng: &mut Rng) -> Claim {
    Claim::new(LeaseToken(fresh(rng)), rng.u32(1..20), LEASE)
}

fn rescue(rng: &mut Rng) -> Rescue {
    Rescue { max: 10_000, max_rescues: 1_000, token: LeaseToken(fresh(rng)), lease: LEASE }
}
