//! Rules about the way of a job: enqueued, claimed, finished.

use std::time::{Duration, Instant};

use super::{Fixture, LEASE, finish_all, ids, job, jobs, lane, rescue, take, take_all};
use crate::{Depth, Finish, NewJob, Promoted, Rescue};

/// A claimed job belongs to one worker, carries the values that it was enqueued with, and counts its claims.
pub async fn each_job_is_claimed_once(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    assert!(take(&queue, 10).await.is_empty());
    let traced = NewJob { trace: Some("00-abc-def-01".into()), ..job(lane(1)) };
    queue.enqueue(std::slice::from_ref(&traced)).await.unwrap();
    let claimed = take(&queue, 10).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!((claimed[0].lease.job, claimed[0].lease.lane), (traced.id, traced.lane));
    assert_eq!(claimed[0].owner, traced.owner);
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

/// A delayed job waits, and `promote` returns for how long.
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

/// By the clock, a delayed job becomes due no moment too early, whether it is new or retried.
pub async fn a_delayed_job_is_never_early(fixture: &dyn Fixture) {
    const DELAY: Duration = Duration::from_millis(600);
    // A queue may count in milliseconds.
    const TICK: Duration = Duration::from_millis(2);
    let queue = fixture.queue();
    queue.enqueue(&[job(lane(1))]).await.unwrap();
    let tried = take(&queue, 10).await;
    let began = Instant::now();
    queue.enqueue(&[NewJob { delay: DELAY, ..job(lane(2)) }]).await.unwrap();
    assert_eq!(finish_all(&queue, &tried, Finish::RetryIn(DELAY)).await, 1);
    let mut promoted = 0;
    while promoted < 2 {
        assert!(began.elapsed() < DELAY * 50, "the jobs never become due");
        let Promoted { jobs, next_due_in } = queue.promote(10).await.unwrap();
        assert!(jobs == 0 || began.elapsed() + TICK >= DELAY, "due after {:?}", began.elapsed());
        promoted += jobs;
        assert_eq!(take_all(&queue, 10).await.len() as u64, jobs);
        tokio::time::sleep(next_due_in.unwrap_or_default().min(Duration::from_millis(20))).await;
    }
}

/// A backlog of retries does not delay first tries.
pub async fn retries_come_after_first_tries(fixture: &dyn Fixture) {
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

/// As if it had not been claimed: first in its lane, at once.
pub async fn a_released_job_returns_as_it_was(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let all = jobs(lane(1), 3);
    queue.enqueue(&all).await.unwrap();
    let first = take(&queue, 1).await;
    finish_all(&queue, &first, Finish::Release).await;
    assert_eq!(ids(&take(&queue, 3).await), all.iter().map(|job| job.id).collect::<Vec<_>>());
}

/// Neither rescuing nor counting finds such a job again.
pub async fn a_done_or_buried_job_is_removed(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.enqueue(&jobs(lane(1), 2)).await.unwrap();
    let claimed = take(&queue, 2).await;
    let ends = [(claimed[0].lease, Finish::Done), (claimed[1].lease, Finish::Bury)];
    assert_eq!(queue.finish(&ends).await.unwrap().len(), 2);
    fixture.advance(LEASE * 10).await;
    assert_eq!(queue.rescue(&rescue(5)).await.unwrap().returned, 0);
    assert_eq!(queue.depth().await.unwrap(), Depth::default());
}

/// Jobs above the maximum wait for the next call, the longest waiting first.
pub async fn calls_keep_to_their_maximum(fixture: &dyn Fixture) {
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

/// A worker that registers, claims and then waits misses no hint.
pub async fn a_wakeup_between_claiming_and_waiting_is_not_missed(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let mut wakeups = queue.wakeups();
    wakeups.mark_seen();
    assert!(take(&queue, 1).await.is_empty());
    queue.enqueue(&jobs(lane(1), 1)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), wakeups.woken()).await.expect("a wake-up");
    assert_eq!(take(&queue, 1).await.len(), 1);
}
