//! Rules about many claimers at once.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Fixture, claim, finish_all, ids, job, lane, take_all};
use crate::{Claim, Claimed, Depth, Finish, JobId, LaneId, NewJob};

/// Racing claimers, some of which release or retry, never hold the same job at once.
pub async fn many_claimers_never_overlap(fixture: &dyn Fixture) {
    const JOBS: usize = 2_000;
    let queue = fixture.queue();
    let all: Vec<_> = (0..JOBS).map(|number| job(lane(number as u128 % 7 + 1))).collect();
    queue.enqueue(&all).await.unwrap();
    let held: Arc<std::sync::Mutex<HashSet<JobId>>> = Arc::default();
    let claimers = (0..6).map(|_| {
        let (queue, held) = (Arc::clone(&queue), Arc::clone(&held));
        tokio::spawn(async move {
            let mut done = Vec::new();
            let mut round = 0_usize;
            loop {
                let Claimed { jobs, more, blocked, .. } = queue.claim(&claim(16)).await.unwrap();
                if jobs.is_empty() && !more && !blocked {
                    return done;
                }
                for job in &jobs {
                    assert!(held.lock().unwrap().insert(job.lease.job), "two claimers hold the job");
                }
                tokio::task::yield_now().await;
                let mut ends = Vec::new();
                for job in &jobs {
                    held.lock().unwrap().remove(&job.lease.job);
                    round += 1;
                    let finish = match round % 5 {
                        0 => Finish::Release,
                        1 => Finish::RetryIn(Duration::ZERO),
                        _ => Finish::Done,
                    };
                    if finish == Finish::Done {
                        done.push(job.lease.job);
                    }
                    ends.push((job.lease, finish));
                }
                assert_eq!(queue.finish(&ends).await.unwrap().len(), ends.len());
            }
        })
    });
    let mut done = Vec::new();
    for claimer in claimers.collect::<Vec<_>>() {
        done.extend(claimer.await.unwrap());
    }
    done.extend(ids(&take_all(&queue, 100).await));
    let distinct: HashSet<_> = done.iter().copied().collect();
    assert_eq!((done.len(), distinct.len()), (JOBS, JOBS), "each job is done once, and none is left");
}

/// Four claimers work off many jobs: none is lost or done twice, and each lane keeps its order.
pub async fn a_hundred_thousand_jobs_are_each_done_once(fixture: &dyn Fixture) {
    const JOBS: usize = 100_000;
    const LANES: usize = 20;
    let queue = fixture.queue();
    // The subject is the job's place in its lane.
    let all: Vec<_> = (0..JOBS)
        .map(|number| NewJob {
            subject: Uuid::from_u128((number / LANES) as u128),
            ..job(lane((number % LANES) as u128 + 1))
        })
        .collect();
    for (number, batch) in (1_u64..).zip(all.chunks(5_000)) {
        queue.enqueue(batch).await.unwrap();
        let ready = queue.depth().await.unwrap().ready;
        match number {
            1 | 2 => assert_eq!(ready, number * 5_000),
            _ => assert!(ready > 10_000, "above that, a queue may estimate: {ready}"),
        }
    }
    let claimers = (0..4).map(|_| {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move {
            let mut done = Vec::new();
            let mut reached: HashMap<LaneId, Uuid> = HashMap::new();
            loop {
                let wide = Claim { lane_concurrency: NonZeroU32::new(10_000).unwrap(), ..claim(1_000) };
                let Claimed { jobs, more, blocked, .. } = queue.claim(&wide).await.unwrap();
                if jobs.is_empty() && !more && !blocked {
                    return done;
                }
                for job in &jobs {
                    let before = reached.insert(job.lease.lane, job.subject);
                    assert!(
                        before.is_none_or(|before| before < job.subject),
                        "jobs of a lane are out of order"
                    );
                }
                assert_eq!(finish_all(&queue, &jobs, Finish::Done).await, jobs.len());
                done.extend(ids(&jobs));
            }
        })
    });
    let mut done = Vec::with_capacity(JOBS);
    for claimer in claimers.collect::<Vec<_>>() {
        done.extend(claimer.await.unwrap());
    }
    assert_eq!(done.len(), JOBS);
    assert_eq!(done.into_iter().collect::<HashSet<_>>().len(), JOBS, "each job is done once");
    assert_eq!(queue.depth().await.unwrap(), Depth::default());
}
