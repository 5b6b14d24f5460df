//! Rules about what a lane allows: concurrency, order, rate.

use std::num::NonZeroU32;
use std::time::Duration;

use uuid::Uuid;

use super::{Fixture, LEASE, claim, finish_all, ids, jobs, lane, take, take_all};
use crate::{Claim, Claimed, Finish, LaneRate, LaneSettings, WorkerId};

/// The limit is that of the lane, or that of the claim if the lane has none. A finished job makes room.
pub async fn a_lane_never_runs_more_than_it_allows(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let settings = LaneSettings { concurrency: NonZeroU32::new(3), ..LaneSettings::default() };
    queue.configure(lane(1), "acme", settings).await.unwrap();
    queue.enqueue(&jobs(lane(1), 10)).await.unwrap();
    queue.enqueue(&jobs(lane(2), 10)).await.unwrap();
    let narrow = |max| Claim { lane_concurrency: NonZeroU32::new(4).unwrap(), ..claim(max) };
    let mut running = Vec::new();
    for _ in 0..5 {
        let claimed = queue.claim(&narrow(100)).await.unwrap();
        assert!(claimed.blocked);
        running.extend(claimed.jobs);
    }
    let of = |number| running.iter().filter(|job| job.lease.lane == lane(number)).count();
    assert_eq!((of(1), of(2)), (3, 4));
    let ended: Vec<_> = running.iter().filter(|job| job.lease.lane == lane(1)).take(2).cloned().collect();
    assert_eq!(finish_all(&queue, &ended, Finish::Done).await, 2);
    assert_eq!(queue.claim(&narrow(100)).await.unwrap().jobs.len(), 2);
}

/// Strict order, whatever limits the worker names.
pub async fn an_ordered_lane_runs_one_at_a_time_in_order(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue
        .configure(lane(1), "acme", LaneSettings { ordered: true, ..LaneSettings::default() })
        .await
        .unwrap();
    let all = jobs(lane(1), 4);
    queue.enqueue(&all).await.unwrap();
    for expected in &all {
        let claimed = take_all(&queue, 10).await;
        assert_eq!(ids(&claimed), [expected.id]);
        finish_all(&queue, &claimed, Finish::Done).await;
    }
}

/// A job that is retried keeps its place, and the lane pauses until the job is due.
pub async fn an_ordered_lane_waits_for_its_retry(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue
        .configure(lane(1), "acme", LaneSettings { ordered: true, ..LaneSettings::default() })
        .await
        .unwrap();
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

/// A burst at once, then one job each interval. Jobs above the rate stay ready.
pub async fn a_lane_keeps_its_rate(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    // An interval longer than any test.
    let rate = LaneRate { interval: Duration::from_mins(50), burst: NonZeroU32::new(3).unwrap() };
    queue
        .configure(lane(1), "acme", LaneSettings { rate: Some(rate), ..LaneSettings::default() })
        .await
        .unwrap();
    queue.enqueue(&jobs(lane(1), 10)).await.unwrap();
    let long =
        |opens_in: Option<Duration>| opens_in.is_some_and(|opens_in| opens_in > Duration::from_secs(2000));
    let Claimed { jobs: claimed, more, opens_in, .. } = queue.claim(&claim(10)).await.unwrap();
    assert_eq!(claimed.len(), 3);
    assert!(more || long(opens_in), "the claim returns when the lane opens: {opens_in:?}");
    finish_all(&queue, &claimed, Finish::Done).await;
    let closed = queue.claim(&claim(10)).await.unwrap();
    assert!(closed.jobs.is_empty());
    assert!(long(closed.opens_in), "{:?}", closed.opens_in);
    assert_eq!(queue.depth().await.unwrap().ready, 7);
}

fn rated(interval: Duration, burst: u32) -> LaneSettings {
    let rate = LaneRate { interval, burst: NonZeroU32::new(burst).unwrap() };
    LaneSettings { rate: Some(rate), ..LaneSettings::default() }
}

/// What was claimed at the old rate does not hold back a lane whose rate is raised or removed.
pub async fn a_changed_rate_holds_at_once(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let slow = rated(Duration::from_mins(50), 1);
    for (number, faster) in [(1, rated(Duration::from_millis(1), 100)), (2, LaneSettings::default())] {
        queue.configure(lane(number), "acme", slow).await.unwrap();
        queue.enqueue(&jobs(lane(number), 10)).await.unwrap();
        assert_eq!(take_all(&queue, 10).await.len(), 1);
        queue.configure(lane(number), "acme", faster).await.unwrap();
        fixture.advance(Duration::from_millis(100)).await;
        assert_eq!(take_all(&queue, 10).await.len(), 9);
    }
    // A limit that was removed leaves nothing behind for the next one.
    queue.configure(lane(2), "acme", slow).await.unwrap();
    queue.enqueue(&jobs(lane(2), 10)).await.unwrap();
    assert_eq!(take_all(&queue, 10).await.len(), 1);
}

/// Nor does a change forget what was claimed: a lowered rate lets no second burst through, and setting a rate again
/// changes nothing.
pub async fn a_changed_rate_gives_no_second_burst(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.configure(lane(1), "acme", rated(Duration::from_mins(10), 5)).await.unwrap();
    queue.enqueue(&jobs(lane(1), 20)).await.unwrap();
    assert_eq!(take_all(&queue, 20).await.len(), 5);
    queue.configure(lane(1), "acme", rated(Duration::from_mins(10), 5)).await.unwrap();
    assert_eq!(take_all(&queue, 20).await.len(), 0);
    queue.configure(lane(1), "acme", rated(Duration::from_mins(50), 2)).await.unwrap();
    let closed = queue.claim(&claim(20)).await.unwrap();
    assert!(closed.jobs.is_empty());
    let opens_in = closed.opens_in.unwrap();
    assert!(opens_in > Duration::from_mins(45) && opens_in <= Duration::from_mins(50), "{opens_in:?}");
    queue.configure(lane(1), "acme", rated(Duration::from_mins(50), 4)).await.unwrap();
    assert_eq!(take_all(&queue, 20).await.len(), 2, "a larger burst, of which two are spent");
}

/// A raised limit lets jobs through at once, and under a lowered one none begins until enough have ended.
pub async fn changed_concurrency_holds_at_once(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let limit = |most| LaneSettings { concurrency: NonZeroU32::new(most), ..LaneSettings::default() };
    queue.configure(lane(1), "acme", limit(2)).await.unwrap();
    queue.enqueue(&jobs(lane(1), 10)).await.unwrap();
    let mut running = take_all(&queue, 10).await;
    assert_eq!(running.len(), 2);
    queue.configure(lane(1), "acme", limit(5)).await.unwrap();
    running.extend(take_all(&queue, 10).await);
    assert_eq!(running.len(), 5);
    queue.configure(lane(1), "acme", limit(1)).await.unwrap();
    finish_all(&queue, &running[..4], Finish::Done).await;
    assert_eq!(take_all(&queue, 10).await.len(), 0);
    finish_all(&queue, &running[4..], Finish::Done).await;
    assert_eq!(take_all(&queue, 10).await.len(), 1);
}

/// The jobs behind a retry run at once when their lane is no longer ordered. The retry itself is not early.
pub async fn a_lane_that_is_no_longer_ordered_does_not_wait_for_its_retry(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue
        .configure(lane(1), "acme", LaneSettings { ordered: true, ..LaneSettings::default() })
        .await
        .unwrap();
    let all = jobs(lane(1), 3);
    queue.enqueue(&all).await.unwrap();
    finish_all(&queue, &take(&queue, 10).await, Finish::RetryIn(LEASE)).await;
    assert_eq!(take_all(&queue, 10).await.len(), 0);
    queue.configure(lane(1), "acme", LaneSettings::default()).await.unwrap();
    assert_eq!(ids(&take_all(&queue, 10).await), [all[1].id, all[2].id]);
    fixture.advance(LEASE).await;
    queue.promote(10).await.unwrap();
    assert_eq!(ids(&take_all(&queue, 10).await), [all[0].id]);
}

/// A worker that waits until a lane opens hears that its limits have changed.
pub async fn a_changed_limit_wakes_workers(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let mut wakeups = queue.wakeups();
    wakeups.mark_seen();
    queue.configure(lane(1), "acme", LaneSettings::default()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), wakeups.woken()).await.expect("a wake-up");
}

/// A worker that has all claimed jobs of a lane may claim more than run, and no other worker may claim any then.
pub async fn a_worker_claims_ahead_of_a_lane_that_it_has_to_itself(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let four = LaneSettings { concurrency: NonZeroU32::new(4), ..LaneSettings::default() };
    queue.configure(lane(1), "acme", four).await.unwrap();
    queue.enqueue(&jobs(lane(1), 40)).await.unwrap();
    let by = |worker: u128, ahead: u32| Claim {
        worker: Some(WorkerId(Uuid::from_u128(worker))),
        ahead: [(lane(1), ahead)].into(),
        ..claim(100)
    };
    let mine = queue.claim(&by(1, 6)).await.unwrap();
    if mine.limits.is_empty() {
        // A queue need not.
        assert_eq!(mine.jobs.len(), 4);
        return;
    }
    assert_eq!((mine.jobs.len(), mine.limits[&lane(1)]), (10, 4));
    assert_eq!(queue.claim(&by(2, 6)).await.unwrap().jobs.len(), 0, "another worker cannot know what runs");
    assert_eq!(finish_all(&queue, &mine.jobs[..7], Finish::Done).await, 7);
    assert_eq!(queue.claim(&by(2, 6)).await.unwrap().jobs.len(), 1, "four may run");
    assert_eq!(finish_all(&queue, &mine.jobs[7..], Finish::Done).await, 3);
    assert_eq!(queue.claim(&by(1, 6)).await.unwrap().jobs.len(), 3, "the lane is shared");
    assert_eq!(queue.claim(&by(2, 6)).await.unwrap().jobs.len(), 0);
}
