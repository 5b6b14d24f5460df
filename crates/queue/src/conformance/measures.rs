//! Rules about depth and waiting times.

use std::num::NonZeroU32;
use std::time::Duration;

use uuid::Uuid;

use super::{Fixture, LEASE, finish_all, job, jobs, lane, take, take_all};
use crate::{Finish, JobId, LaneSettings, NewJob};

/// Jobs by state, and the age of the oldest ready one.
pub async fn depth_counts_by_state(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.enqueue(&jobs(lane(1), 5)).await.unwrap();
    queue.enqueue(&[NewJob { delay: LEASE, ..job(lane(1)) }]).await.unwrap();
    take(&queue, 2).await;
    fixture.advance(Duration::from_secs(10)).await;
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.ready, depth.scheduled, depth.held, depth.running), (3, 1, 0, 2));
    assert!(depth.oldest_ready.unwrap() >= Duration::from_secs(10));

    // The oldest may be a retry, which comes after the first tries of its lane.
    let all = take_all(&queue, 10).await;
    finish_all(&queue, &all, Finish::RetryIn(Duration::ZERO)).await;
    fixture.advance(Duration::from_mins(1)).await;
    queue
        .enqueue(&[NewJob { id: JobId(Uuid::from_u128(1_000)), ..job(lane(1)) }, job(lane(2))])
        .await
        .unwrap();
    assert!(queue.depth().await.unwrap().oldest_ready.unwrap() >= Duration::from_mins(1));
}

/// The longest wait is that of a job that only lacks a worker.
pub async fn the_longest_wait_ignores_jobs_that_their_lane_holds_back(fixture: &dyn Fixture) {
    const CALM: Duration = Duration::from_mins(10);
    const WAITED: Duration = Duration::from_mins(1);
    let queue = fixture.queue();
    let longest = async || queue.longest_wait(CALM).await.unwrap();
    assert_eq!(longest().await, None);
    let settings = LaneSettings { concurrency: NonZeroU32::new(2), ..LaneSettings::default() };
    queue.configure(lane(1), "acme", settings).await.unwrap();
    queue.enqueue(&jobs(lane(1), 5)).await.unwrap();
    fixture.advance(WAITED).await;
    assert!(longest().await.is_some_and(|waited| waited >= WAITED));
    assert_eq!(take(&queue, 10).await.len(), 2);
    assert_eq!(longest().await, None, "the lane is full");
    assert!(queue.depth().await.unwrap().oldest_ready.is_some_and(|waited| waited >= WAITED));

    queue.enqueue(&jobs(lane(2), 3)).await.unwrap();
    fixture.advance(WAITED).await;
    assert_eq!(take(&queue, 2).await.len(), 2);
    assert!(longest().await.is_some_and(|waited| waited >= WAITED), "the claim was full, not the lane");
    queue.pause(lane(2), LEASE).await.unwrap();
    assert_eq!(longest().await, None, "the lane is paused");
    fixture.advance(CALM).await;
    assert!(
        longest().await.is_some_and(|waited| waited >= CALM),
        "the lane has not been full for so long that workers are missing"
    );
}
