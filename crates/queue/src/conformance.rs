//! The rules of a [`Queue`], as tests that every implementation passes.
//!
//! Implement [`Fixture`] and name it in [`suite!`](crate::conformance_suite):
//!
//! ```ignore
//! postrider_queue::conformance_suite!(in_memory, MyFixture::new().await);
//! ```
//!
//! Each rule becomes a `#[tokio::test]` of its own, over a fixture of its own.

// Test code: an assertion that fails is how it speaks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

mod bounds;

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    Claim, Claimed, ClaimedJob, Finish, JobId, LaneId, LaneRate, LaneSettings, Lease, LeaseToken, NewJob,
    Queue, Rescue,
};

pub use bounds::*;

/// An empty queue, and a hand on its clock.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The queue.
    fn queue(&self) -> Arc<dyn Queue>;

    /// Lets this much time pass for the queue, without waiting for it.
    async fn advance(&self, by: Duration);
}

/// Makes a module of tests, one for each rule, over the queue of a [`Fixture`].
#[macro_export]
macro_rules! conformance_suite {
    ($name:ident, $fixture:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::conformance_suite!(@rules $fixture =>
                each_job_is_claimed_once
                a_lane_keeps_its_order
                lanes_take_fair_turns
                no_lane_is_left_out
                a_lane_never_runs_more_than_it_allows
                a_job_is_not_claimed_before_it_is_due
                what_is_tried_again_comes_after_what_is_new
                an_expired_lease_is_rescued_and_fenced
                an_extended_lease_is_not_rescued
                a_released_job_comes_back_as_it_was
                what_is_done_or_buried_is_gone
                a_job_rescued_too_often_is_handed_over
                skipped_lanes_are_left_out
                an_ordered_lane_runs_one_at_a_time_in_order
                an_ordered_lane_waits_for_what_is_tried_again
                a_rate_is_kept
                a_paused_lane_rests_and_then_probes
                paused_lanes_hide_no_others
                jobs_of_a_paused_lane_are_set_aside_and_come_back
                many_lanes_come_back_bit_by_bit
                an_expedited_lane_waits_for_nothing
                depth_counts_by_state
                what_its_lane_holds_back_waits_for_no_worker
                a_wakeup_between_claiming_and_waiting_is_not_missed
                many_claimers_never_overlap
                a_batch_is_enqueued_whole_or_not_at_all
                a_delay_is_waited_for_to_its_end
                no_call_handles_more_than_it_was_asked_to
                little_room_is_shared_by_all_lanes
                a_lane_counts_what_it_runs_through_rescue_and_fencing
                a_hundred_thousand_jobs_are_each_done_once
            );
        }
    };
    (@rules $fixture:expr => $($rule:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $rule() {
            let fixture = $fixture;
            $crate::conformance::$rule(&fixture).await;
        }
    )*};
}

const LEASE: Duration = Duration::from_mins(1);

fn fresh() -> Uuid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Uuid::from_u128(u128::from(NEXT.fetch_add(1, Ordering::Relaxed)) << 32)
}

fn lane(number: u128) -> LaneId {
    LaneId(Uuid::from_u128(number << 96))
}

fn job(lane: LaneId) -> NewJob {
    NewJob::now(JobId(fresh()), lane, fresh())
}

fn jobs(lane: LaneId, count: usize) -> Vec<NewJob> {
    (0..count).map(|_| job(lane)).collect()
}

fn claim(max: u32) -> Claim {
    Claim::new(LeaseToken(fresh()), max, LEASE)
}

async fn take(queue: &Arc<dyn Queue>, max: u32) -> Vec<ClaimedJob> {
    queue.claim(&claim(max)).await.unwrap().jobs
}

/// Claims until nothing more can be had.
async fn take_all(queue: &Arc<dyn Queue>, max: u32) -> Vec<ClaimedJob> {
    let mut all = Vec::new();
    loop {
        let Claimed { jobs, more, .. } = queue.claim(&claim(max)).await.unwrap();
        let nothing = jobs.is_empty();
        all.extend(jobs);
        if nothing && !more {
            return all;
        }
    }
}

async fn finish_all(queue: &Arc<dyn Queue>, jobs: &[ClaimedJob], finish: Finish) -> usize {
    let finished: Vec<_> = jobs.iter().map(|job| (job.lease, finish)).collect();
    queue.finish(&finished).await.unwrap().len()
}

fn ids(jobs: &[ClaimedJob]) -> Vec<JobId> {
    jobs.iter().map(|job| job.lease.job).collect()
}

/// A claimed job is no one else's, carries what it was enqueued with, and counts its claims.
pub async fn each_job_is_claimed_once(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    assert!(take(&queue, 10).await.is_empty());
    let traced = NewJob { trace: Some("00-abc-def-01".into()), ..job(lane(1)) };
    queue.enqueue(std::slice::from_ref(&traced)).await.unwrap();
    let claimed = take(&queue, 10).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!((claimed[0].lease.job, claimed[0].lane), (traced.id, traced.lane));
    assert_eq!((claimed[0].subject, &claimed[0].trace), (traced.subject, &traced.trace));
    assert_eq!((claimed[0].claims, claimed[0].rescues), (1, 0));
    assert!(take(&queue, 10).await.is_empty());
}

/// First in, first out.
pub async fn a_lane_keeps_its_order(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let first = jobs(lane(1), 20);
    let second = jobs(lane(1), 20);
    queue.enqueue(&first).await.unwrap();
    queue.enqueue(&second).await.unwrap();
    let mut order = Vec::new();
    while order.len() < 40 {
        let claimed = take(&queue, 7).await;
        assert!(!claimed.is_empty());
        order.extend(ids(&claimed));
        finish_all(&queue, &claimed, Finish::Done).await;
    }
    let expected: Vec<_> = first.iter().chain(&second).map(|job| job.id).collect();
    assert_eq!(order, expected);
}

/// A lane with a crowd does not keep others waiting.
pub async fn lanes_take_fair_turns(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.enqueue(&jobs(lane(1), 500)).await.unwrap();
    queue.enqueue(&jobs(lane(2), 3)).await.unwrap();
    queue.enqueue(&jobs(lane(3), 3)).await.unwrap();
    let claimed = take(&queue, 9).await;
    let mut by_lane: HashMap<LaneId, usize> = HashMap::new();
    for job in &claimed {
        *by_lane.entry(job.lane).or_default() += 1;
    }
    assert_eq!((by_lane[&lane(1)], by_lane[&lane(2)], by_lane[&lane(3)]), (3, 3, 3));
}

/// With more lanes than room, all have their turn, wherever they stand.
pub async fn no_lane_is_left_out(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let many: Vec<_> = (1..=50).flat_map(|number| jobs(lane(number), 40)).collect();
    queue.enqueue(&many).await.unwrap();
    let mut seen: HashMap<LaneId, usize> = HashMap::new();
    for _ in 0..25 {
        let claimed = take(&queue, 10).await;
        for job in &claimed {
            *seen.entry(job.lane).or_default() += 1;
        }
        finish_all(&queue, &claimed, Finish::Done).await;
    }
    assert_eq!(seen.len(), 50, "every lane was served");
    assert!(seen.values().all(|&served| (3..=7).contains(&served)), "about five turns each: {seen:?}");
}

/// The lane's own limit, or the claim's where it has none; a finished job makes room.
pub async fn a_lane_never_runs_more_than_it_allows(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let settings = LaneSettings { concurrency: NonZeroU32::new(3), ..LaneSettings::default() };
    queue.configure(lane(1), settings).await.unwrap();
    queue.enqueue(&jobs(lane(1), 10)).await.unwrap();
    queue.enqueue(&jobs(lane(2), 10)).await.unwrap();
    let narrow = |max| Claim { lane_concurrency: NonZeroU32::new(4).unwrap(), ..claim(max) };
    let mut running = Vec::new();
    for _ in 0..5 {
        let claimed = queue.claim(&narrow(100)).await.unwrap();
        assert!(claimed.blocked);
        running.extend(claimed.jobs);
    }
    let of = |number| running.iter().filter(|job| job.lane == lane(number)).count();
    assert_eq!((of(1), of(2)), (3, 4));
    let ended: Vec<_> = running.iter().filter(|job| job.lane == lane(1)).take(2).cloned().collect();
    assert_eq!(finish_all(&queue, &ended, Finish::Done).await, 2);
    assert_eq!(queue.claim(&narrow(100)).await.unwrap().jobs.len(), 2);
}

/// A delay is waited for, and `promote` tells how long.
pub async fn a_job_is_not_claimed_before_it_is_due(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let later = NewJob { delay: Duration::from_secs(30), ..job(lane(1)) };
    queue.enqueue(std::slice::from_ref(&later)).await.unwrap();
    let promoted = queue.promote(100).await.unwrap();
    assert_eq!(promoted.jobs, 0);
    let due = promoted.next_due_in.unwrap();
    assert!(due > Duration::from_secs(20) && due <= Duration::from_secs(30), "{due:?}");
    assert!(take_all(&queue, 10).await.is_empty());
    fixture.advance(Duration::from_secs(31)).await;
    assert_eq!(queue.promote(100).await.unwrap().jobs, 1);
    assert_eq!(ids(&take(&queue, 10).await), [later.id]);
    assert_eq!(queue.promote(100).await.unwrap().next_due_in, None);
}

/// A backlog of second tries does not delay first ones.
pub async fn what_is_tried_again_comes_after_what_is_new(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.enqueue(&jobs(lane(1), 5)).await.unwrap();
    let failed = take(&queue, 5).await;
    finish_all(&queue, &failed, Finish::RetryIn(Duration::from_secs(5))).await;
    assert!(take_all(&queue, 10).await.is_empty());
    fixture.advance(Duration::from_secs(6)).await;
    assert_eq!(queue.promote(100).await.unwrap().jobs, 5);
    let new = jobs(lane(1), 2);
    queue.enqueue(&new).await.unwrap();
    let order = ids(&take(&queue, 10).await);
    assert_eq!(order[..2], new.iter().map(|job| job.id).collect::<Vec<_>>());
    assert_eq!(order[2..], ids(&failed));
}

/// Once another worker has the job, the first one's calls change nothing.
pub async fn an_expired_lease_is_rescued_and_fenced(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.enqueue(&jobs(lane(1), 1)).await.unwrap();
    let zombie = take(&queue, 1).await.remove(0);
    assert_eq!(queue.rescue(&rescue(5)).await.unwrap().returned, 0);
    fixture.advance(LEASE + Duration::from_secs(1)).await;
    assert_eq!(queue.rescue(&rescue(5)).await.unwrap().returned, 1);
    let owner = take(&queue, 1).await.remove(0);
    assert_eq!((owner.lease.job, owner.claims, owner.rescues), (zombie.lease.job, 2, 1));
    assert!(queue.extend(&[zombie.lease], LEASE).await.unwrap().is_empty());
    for finish in [Finish::Done, Finish::Bury, Finish::Release, Finish::RetryIn(LEASE)] {
        assert!(queue.finish(&[(zombie.lease, finish)]).await.unwrap().is_empty());
    }
    assert_eq!(queue.depth().await.unwrap().running, 1);
    assert_eq!(queue.finish(&[(owner.lease, Finish::Done)]).await.unwrap(), [owner.lease.job]);
    assert!(queue.finish(&[(owner.lease, Finish::Done)]).await.unwrap().is_empty());
}

/// A worker that extends in time keeps its job.
pub async fn an_extended_lease_is_not_rescued(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.enqueue(&jobs(lane(1), 1)).await.unwrap();
    let held = take(&queue, 1).await.remove(0);
    for _ in 0..3 {
        fixture.advance(LEASE * 2 / 3).await;
        assert_eq!(queue.extend(&[held.lease], LEASE).await.unwrap(), [held.lease.job]);
        assert_eq!(queue.rescue(&rescue(5)).await.unwrap().returned, 0);
    }
    let stranger = Lease { token: LeaseToken(fresh()), ..held.lease };
    assert!(queue.extend(&[stranger], LEASE).await.unwrap().is_empty());
    assert_eq!(finish_all(&queue, &[held], Finish::Done).await, 1);
}

/// As if it had not been claimed: first in its lane, at once.
pub async fn a_released_job_comes_back_as_it_was(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let all = jobs(lane(1), 3);
    queue.enqueue(&all).await.unwrap();
    let first = take(&queue, 1).await;
    finish_all(&queue, &first, Finish::Release).await;
    assert_eq!(ids(&take(&queue, 3).await), all.iter().map(|job| job.id).collect::<Vec<_>>());
}

/// Nothing is left of them.
pub async fn what_is_done_or_buried_is_gone(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.enqueue(&jobs(lane(1), 2)).await.unwrap();
    let claimed = take(&queue, 2).await;
    let ends = [(claimed[0].lease, Finish::Done), (claimed[1].lease, Finish::Bury)];
    assert_eq!(queue.finish(&ends).await.unwrap().len(), 2);
    fixture.advance(LEASE * 10).await;
    assert_eq!(queue.rescue(&rescue(5)).await.unwrap().returned, 0);
    assert_eq!(queue.depth().await.unwrap(), crate::Depth::default());
}

/// A job that kills its workers is leased to its rescuer, who buries it.
pub async fn a_job_rescued_too_often_is_handed_over(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.enqueue(&jobs(lane(1), 1)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(take(&queue, 1).await.len(), 1);
        fixture.advance(LEASE + Duration::from_secs(1)).await;
        assert_eq!(queue.rescue(&rescue(2)).await.unwrap().returned, 1);
    }
    take(&queue, 1).await;
    fixture.advance(LEASE + Duration::from_secs(1)).await;
    let rescued = queue.rescue(&rescue(2)).await.unwrap();
    assert_eq!((rescued.returned, rescued.exhausted.len()), (0, 1));
    assert!(take_all(&queue, 1).await.is_empty());
    // The rescuer died before it buried the job: the next one gets it.
    fixture.advance(LEASE + Duration::from_secs(1)).await;
    let again = queue.rescue(&rescue(2)).await.unwrap();
    assert_eq!(finish_all(&queue, &rescued.exhausted, Finish::Bury).await, 0);
    assert_eq!(finish_all(&queue, &again.exhausted, Finish::Bury).await, 1);
    assert_eq!(queue.depth().await.unwrap(), crate::Depth::default());
    // The lane's count of running jobs went back to none.
    queue
        .configure(lane(1), LaneSettings { concurrency: NonZeroU32::new(1), ..LaneSettings::default() })
        .await
        .unwrap();
    queue.enqueue(&jobs(lane(1), 1)).await.unwrap();
    assert_eq!(take(&queue, 1).await.len(), 1);
}

fn rescue(max_rescues: u32) -> Rescue {
    Rescue { max: 100, max_rescues, token: LeaseToken(fresh()), lease: LEASE }
}

/// What the claim leaves out stays.
pub async fn skipped_lanes_are_left_out(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.enqueue(&jobs(lane(1), 2)).await.unwrap();
    queue.enqueue(&jobs(lane(2), 2)).await.unwrap();
    let claimed = queue.claim(&Claim { skip: vec![lane(1)], ..claim(10) }).await.unwrap();
    assert!(claimed.jobs.iter().all(|job| job.lane == lane(2)));
    assert_eq!(claimed.jobs.len(), 2);
    assert_eq!(take(&queue, 10).await.len(), 2);
}

/// Strict order, whatever the worker asks for.
pub async fn an_ordered_lane_runs_one_at_a_time_in_order(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.configure(lane(1), LaneSettings { ordered: true, ..LaneSettings::default() }).await.unwrap();
    let all = jobs(lane(1), 4);
    queue.enqueue(&all).await.unwrap();
    for expected in &all {
        let claimed = take_all(&queue, 10).await;
        assert_eq!(ids(&claimed), [expected.id]);
        finish_all(&queue, &claimed, Finish::Done).await;
    }
}

/// The one that failed keeps its place, and the lane pauses until it is due.
pub async fn an_ordered_lane_waits_for_what_is_tried_again(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.configure(lane(1), LaneSettings { ordered: true, ..LaneSettings::default() }).await.unwrap();
    let all = jobs(lane(1), 2);
    queue.enqueue(&all).await.unwrap();
    let first = take(&queue, 10).await;
    finish_all(&queue, &first, Finish::RetryIn(Duration::from_secs(20))).await;
    let paused = queue.claim(&claim(10)).await.unwrap();
    assert!(paused.jobs.is_empty());
    let opens = paused.opens_in.unwrap();
    assert!(opens > Duration::from_secs(10) && opens <= Duration::from_secs(20), "{opens:?}");
    fixture.advance(Duration::from_secs(21)).await;
    queue.promote(100).await.unwrap();
    assert_eq!(ids(&take_all(&queue, 10).await), [all[0].id]);
}

/// A burst at once, and then one each interval; what is over the rate waits in place.
pub async fn a_rate_is_kept(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    // An interval so long that no test takes it.
    let rate = LaneRate { interval: Duration::from_mins(50), burst: NonZeroU32::new(3).unwrap() };
    queue.configure(lane(1), LaneSettings { rate: Some(rate), ..LaneSettings::default() }).await.unwrap();
    queue.enqueue(&jobs(lane(1), 10)).await.unwrap();
    let long =
        |opens_in: Option<Duration>| opens_in.is_some_and(|opens_in| opens_in > Duration::from_secs(2000));
    let Claimed { jobs: claimed, more, opens_in, .. } = queue.claim(&claim(10)).await.unwrap();
    assert_eq!(claimed.len(), 3);
    assert!(more || long(opens_in), "it says when to come again: {opens_in:?}");
    finish_all(&queue, &claimed, Finish::Done).await;
    let closed = queue.claim(&claim(10)).await.unwrap();
    assert!(closed.jobs.is_empty());
    assert!(long(closed.opens_in), "{:?}", closed.opens_in);
    assert_eq!(queue.depth().await.unwrap().ready, 7);
}

/// Nothing during the pause, one at a time after it, and all again once it is resumed.
pub async fn a_paused_lane_rests_and_then_probes(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.enqueue(&jobs(lane(1), 10)).await.unwrap();
    queue.enqueue(&jobs(lane(2), 1)).await.unwrap();
    queue.pause(lane(1), Duration::from_secs(30)).await.unwrap();
    let others = queue.claim(&claim(10)).await.unwrap();
    assert_eq!(others.jobs.iter().map(|job| job.lane).collect::<Vec<_>>(), [lane(2)]);
    assert!(others.opens_in.unwrap() <= Duration::from_secs(30));
    fixture.advance(Duration::from_secs(31)).await;
    let probe = take_all(&queue, 10).await;
    assert_eq!(probe.len(), 1);
    finish_all(&queue, &probe, Finish::Done).await;
    queue.resume(lane(1)).await.unwrap();
    assert_eq!(take_all(&queue, 10).await.len(), 9);
}

/// They leave those who claim in peace, and lose neither their order nor their number.
pub async fn jobs_of_a_paused_lane_are_set_aside_and_come_back(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let all = jobs(lane(1), 10);
    queue.enqueue(&all).await.unwrap();
    queue.pause(lane(1), Duration::from_secs(30)).await.unwrap();
    assert_eq!(queue.park(100).await.unwrap(), 0);
    assert_eq!((queue.depth().await.unwrap().ready, queue.depth().await.unwrap().parked), (0, 10));
    fixture.advance(Duration::from_secs(31)).await;
    assert_eq!(queue.park(100).await.unwrap(), 1, "one to probe with");
    assert_eq!(queue.park(100).await.unwrap(), 0);
    let probe = take_all(&queue, 10).await;
    assert_eq!(ids(&probe), [all[0].id]);
    finish_all(&queue, &probe, Finish::Done).await;
    queue.resume(lane(1)).await.unwrap();
    let mut order = Vec::new();
    while order.len() < 9 {
        queue.park(4).await.unwrap();
        let claimed = take_all(&queue, 10).await;
        order.extend(ids(&claimed));
        finish_all(&queue, &claimed, Finish::Done).await;
    }
    assert_eq!(order, all[1..].iter().map(|job| job.id).collect::<Vec<_>>());
    queue.park(4).await.unwrap();
    assert_eq!(queue.depth().await.unwrap(), crate::Depth::default());
}

/// Neither for a pause nor for delays.
pub async fn an_expedited_lane_waits_for_nothing(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.enqueue(&jobs(lane(1), 2)).await.unwrap();
    queue
        .enqueue(&[NewJob { delay: LEASE, ..job(lane(1)) }, NewJob { delay: LEASE, ..job(lane(2)) }])
        .await
        .unwrap();
    queue.pause(lane(1), LEASE).await.unwrap();
    assert_eq!(queue.expedite(lane(1), 100).await.unwrap(), 1);
    assert_eq!(take_all(&queue, 10).await.len(), 3);
    assert_eq!(queue.depth().await.unwrap().scheduled, 1, "other lanes wait as before");
}

/// By state, and how long the oldest ready one waits.
pub async fn depth_counts_by_state(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.enqueue(&jobs(lane(1), 5)).await.unwrap();
    queue.enqueue(&[NewJob { delay: LEASE, ..job(lane(1)) }]).await.unwrap();
    take(&queue, 2).await;
    fixture.advance(Duration::from_secs(10)).await;
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.ready, depth.scheduled, depth.parked, depth.running), (3, 1, 0, 2));
    assert!(depth.oldest_ready.unwrap() >= Duration::from_secs(10));

    // It may be one that is tried again, and comes after what is new in its lane.
    let all = take_all(&queue, 10).await;
    finish_all(&queue, &all, Finish::RetryIn(Duration::ZERO)).await;
    fixture.advance(Duration::from_mins(1)).await;
    queue
        .enqueue(&[NewJob { id: JobId(Uuid::from_u128(1_000)), ..job(lane(1)) }, job(lane(2))])
        .await
        .unwrap();
    assert!(queue.depth().await.unwrap().oldest_ready.unwrap() >= Duration::from_mins(1));
}

/// Register, look, wait: nothing falls in between.
pub async fn a_wakeup_between_claiming_and_waiting_is_not_missed(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let mut wakeups = queue.wakeups();
    wakeups.mark_seen();
    assert!(take(&queue, 1).await.is_empty());
    queue.enqueue(&jobs(lane(1), 1)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), wakeups.woken()).await.expect("a hint came");
    assert_eq!(take(&queue, 1).await.len(), 1);
}

/// Claimers that race, some of which release, retry or let go, never hold the same job at once.
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
                    assert!(held.lock().unwrap().insert(job.lease.job), "held by two");
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
    assert_eq!((done.len(), distinct.len()), (JOBS, JOBS), "each is done once, and none is left");
}
