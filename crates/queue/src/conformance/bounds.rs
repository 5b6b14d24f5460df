//! Rules about bounds: whole batches, whole delays, limits, and a crowd.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{Fixture, LEASE, claim, finish_all, ids, job, jobs, lane, rescue, take, take_all};
use crate::{Claim, Claimed, Depth, Finish, LaneId, LaneSettings, NewJob, Promoted, Rescue};

/// An id that is taken refuses all that came with it.
pub async fn a_batch_is_enqueued_whole_or_not_at_all(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let mut batch = jobs(lane(1), 3);
    batch.push(batch[0].clone());
    assert!(queue.enqueue(&batch).await.is_err());
    assert_eq!(queue.depth().await.unwrap(), Depth::default());
    queue.enqueue(&batch[..3]).await.unwrap();
    assert!(queue.enqueue(&[job(lane(2)), batch[1].clone()]).await.is_err());
    assert_eq!(take_all(&queue, 10).await.len(), 3);
}

/// To its end, by the clock, and not a moment less: of a new job, and of one that is tried again.
pub async fn a_delay_is_waited_for_to_its_end(fixture: &dyn Fixture) {
    const DELAY: Duration = Duration::from_millis(600);
    // Queues may count in milliseconds.
    const TICK: Duration = Duration::from_millis(2);
    let queue = fixture.queue();
    queue.enqueue(&[job(lane(1))]).await.unwrap();
    let tried = take(&queue, 10).await;
    let began = Instant::now();
    queue.enqueue(&[NewJob { delay: DELAY, ..job(lane(2)) }]).await.unwrap();
    assert_eq!(finish_all(&queue, &tried, Finish::RetryIn(DELAY)).await, 1);
    let mut promoted = 0;
    while promoted < 2 {
        assert!(began.elapsed() < DELAY * 50, "they never become due");
        let Promoted { jobs, next_due_in } = queue.promote(10).await.unwrap();
        assert!(jobs == 0 || began.elapsed() + TICK >= DELAY, "due after {:?}", began.elapsed());
        promoted += jobs;
        assert_eq!(take_all(&queue, 10).await.len() as u64, jobs);
        tokio::time::sleep(next_due_in.unwrap_or_default().min(Duration::from_millis(20))).await;
    }
}

/// The longest wait is of what nothing but a worker keeps waiting.
pub async fn what_its_lane_holds_back_waits_for_no_worker(fixture: &dyn Fixture) {
    const CALM: Duration = Duration::from_mins(10);
    const WAITED: Duration = Duration::from_mins(1);
    let queue = fixture.queue();
    let longest = async || queue.longest_wait(CALM).await.unwrap();
    assert_eq!(longest().await, None);
    let settings = LaneSettings { concurrency: NonZeroU32::new(2), ..LaneSettings::default() };
    queue.configure(lane(1), settings).await.unwrap();
    queue.enqueue(&jobs(lane(1), 5)).await.unwrap();
    fixture.advance(WAITED).await;
    assert!(longest().await.is_some_and(|waited| waited >= WAITED));
    assert_eq!(take(&queue, 10).await.len(), 2);
    assert_eq!(longest().await, None, "its lane is full");
    assert!(queue.depth().await.unwrap().oldest_ready.is_some_and(|waited| waited >= WAITED));

    queue.enqueue(&jobs(lane(2), 3)).await.unwrap();
    fixture.advance(WAITED).await;
    assert_eq!(take(&queue, 2).await.len(), 2);
    assert!(longest().await.is_some_and(|waited| waited >= WAITED), "the worker was full, and not the lane");
    queue.pause(lane(2), LEASE).await.unwrap();
    assert_eq!(longest().await, None, "its lane is paused");
    fixture.advance(CALM).await;
    assert!(
        longest().await.is_some_and(|waited| waited >= CALM),
        "full so long ago that nobody comes any more"
    );
}

/// What is over the limit waits for the next call, the longest waiting first.
pub async fn no_call_handles_more_than_it_was_asked_to(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let first = NewJob { delay: Duration::from_secs(10), ..job(lane(1)) };
    let second = NewJob { delay: Duration::from_secs(20), ..job(lane(1)) };
    queue.enqueue(&[second.clone(), first.clone()]).await.unwrap();
    fixture.advance(Duration::from_secs(30)).await;
    assert_eq!(queue.promote(1).await.unwrap().jobs, 1);
    assert_eq!(ids(&take(&queue, 10).await), [first.id]);
    assert_eq!(queue.promote(1).await.unwrap().jobs, 1);
    queue.enqueue(&jobs(lane(2), 3)).await.unwrap();
    assert_eq!(take(&queue, 3).await.len(), 3);
    assert_eq!(take(&queue, 3).await.len(), 1);
    fixture.advance(LEASE * 2).await;
    for returned in [2, 2, 1, 0] {
        assert_eq!(queue.rescue(&Rescue { max: 2, ..rescue(5) }).await.unwrap().returned, returned);
    }
}

/// A claim with room for one and a half jobs of each lane leaves no lane out, whichever comes last.
pub async fn little_room_is_shared_by_all_lanes(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let many: Vec<_> = (1..=6).flat_map(|number| jobs(lane(number), 40)).collect();
    queue.enqueue(&many).await.unwrap();
    for _ in 0..5 {
        let claimed = take(&queue, 9).await;
        assert_eq!(claimed.len(), 9);
        let lanes: HashSet<LaneId> = claimed.iter().map(|job| job.lane).collect();
        assert_eq!(lanes.len(), 6, "each lane has its turn");
        finish_all(&queue, &claimed, Finish::Done).await;
    }
}

/// One slot: a rescue frees it, the next claim takes it, and what a lost lease ends frees nothing.
pub async fn a_lane_counts_what_it_runs_through_rescue_and_fencing(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let one = LaneSettings { concurrency: NonZeroU32::new(1), ..LaneSettings::default() };
    queue.configure(lane(1), one).await.unwrap();
    queue.enqueue(&jobs(lane(1), 3)).await.unwrap();
    let zombie = take(&queue, 10).await;
    assert_eq!(zombie.len(), 1);
    fixture.advance(LEASE + Duration::from_secs(1)).await;
    assert_eq!(queue.rescue(&rescue(5)).await.unwrap().returned, 1);
    let owner = take(&queue, 10).await;
    assert_eq!(owner.len(), 1);
    for finish in [Finish::Release, Finish::Done, Finish::RetryIn(Duration::ZERO)] {
        assert_eq!(finish_all(&queue, &zombie, finish).await, 0);
        assert!(take(&queue, 10).await.is_empty(), "the slot is still taken");
    }
    assert_eq!(finish_all(&queue, &owner, Finish::Done).await, 1);
    assert_eq!(finish_all(&queue, &owner, Finish::Done).await, 0);
    assert_eq!(take(&queue, 10).await.len(), 1);
}

/// Four claimers work a crowd off: nothing is lost, nothing done twice, and each lane keeps its order.
pub async fn a_hundred_thousand_jobs_are_each_done_once(fixture: &dyn Fixture) {
    const JOBS: usize = 100_000;
    const LANES: usize = 20;
    let queue = fixture.queue();
    // The subject tells a job's place in its lane.
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
            _ => assert!(ready > 10_000, "what is above that may be estimated: {ready}"),
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
                    let before = reached.insert(job.lane, job.subject);
                    assert!(before.is_none_or(|before| before < job.subject), "out of order");
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
    assert_eq!(done.into_iter().collect::<HashSet<_>>().len(), JOBS, "each is done once");
    assert_eq!(queue.depth().await.unwrap(), Depth::default());
}

/// However many lanes are paused, one claim finds what stands between them and behind them; and when their pauses are
/// over, all of them are found, each for its probe.
pub async fn paused_lanes_hide_no_others(fixture: &dyn Fixture) {
    // More than a claim need look at.
    const LANES: u128 = 700;
    let queue = fixture.queue();
    let open = [lane(LANES / 2), lane(LANES)];
    let all: Vec<_> = (1..=LANES).flat_map(|number| jobs(lane(number), 2)).collect();
    queue.enqueue(&all).await.unwrap();
    for paused in (1..=LANES).map(lane).filter(|lane| !open.contains(lane)) {
        queue.pause(paused, LEASE).await.unwrap();
    }
    let claimed = queue.claim(&claim(4)).await.unwrap();
    let lanes: HashSet<LaneId> = claimed.jobs.iter().map(|job| job.lane).collect();
    assert_eq!((claimed.jobs.len(), lanes), (4, HashSet::from(open)));
    assert!(claimed.opens_in.is_some_and(|wait| wait <= LEASE));
    fixture.advance(LEASE).await;
    assert_eq!(take_all(&queue, 100).await.len() as u128, LANES - 2);
}

/// What comes back in batches comes back whole, though one lane alone may fill a batch.
pub async fn many_lanes_come_back_bit_by_bit(fixture: &dyn Fixture) {
    const LANES: u128 = 5;
    let queue = fixture.queue();
    let all: Vec<_> = (1..=LANES).flat_map(|number| jobs(lane(number), 4)).collect();
    queue.enqueue(&all).await.unwrap();
    for number in 1..=LANES {
        queue.pause(lane(number), LEASE).await.unwrap();
    }
    while queue.depth().await.unwrap().parked < all.len() as u64 {
        queue.park(3).await.unwrap();
    }
    for number in 1..=LANES {
        queue.resume(lane(number)).await.unwrap();
    }
    while queue.park(3).await.unwrap() > 0 {}
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.ready, depth.parked), (all.len() as u64, 0));
}
