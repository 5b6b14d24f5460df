//! Rules about leases: fencing, extending, rescuing.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{Fixture, LEASE, finish_all, fresh, jobs, lane, rescue, take, take_all};
use crate::{Depth, Finish, LaneSettings, Lease, LeaseToken};

/// Once another worker has the job, the first worker's calls change nothing.
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

/// A worker that extends its lease in time keeps its job.
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

/// A job whose workers die is leased to its rescuer, which buries it.
pub async fn an_exhausted_job_is_leased_to_its_rescuer(fixture: &dyn Fixture) {
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
    // The rescuer dies before it buries the job, and the next one gets it.
    fixture.advance(LEASE + Duration::from_secs(1)).await;
    let again = queue.rescue(&rescue(2)).await.unwrap();
    assert_eq!(finish_all(&queue, &rescued.exhausted, Finish::Bury).await, 0);
    assert_eq!(finish_all(&queue, &again.exhausted, Finish::Bury).await, 1);
    assert_eq!(queue.depth().await.unwrap(), Depth::default());
    // The lane's count of running jobs is back at zero.
    queue
        .configure(
            lane(1),
            "acme",
            LaneSettings { concurrency: NonZeroU32::new(1), ..LaneSettings::default() },
        )
        .await
        .unwrap();
    queue.enqueue(&jobs(lane(1), 1)).await.unwrap();
    assert_eq!(take(&queue, 1).await.len(), 1);
}

/// With room for one: a rescue frees it, the next claim takes it, and a call with a lost lease frees nothing.
pub async fn a_lane_counts_running_jobs_through_rescue_and_fencing(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let one = LaneSettings { concurrency: NonZeroU32::new(1), ..LaneSettings::default() };
    queue.configure(lane(1), "acme", one).await.unwrap();
    queue.enqueue(&jobs(lane(1), 3)).await.unwrap();
    let zombie = take(&queue, 10).await;
    assert_eq!(zombie.len(), 1);
    fixture.advance(LEASE + Duration::from_secs(1)).await;
    assert_eq!(queue.rescue(&rescue(5)).await.unwrap().returned, 1);
    let owner = take(&queue, 10).await;
    assert_eq!(owner.len(), 1);
    for finish in [Finish::Release, Finish::Done, Finish::RetryIn(Duration::ZERO)] {
        assert_eq!(finish_all(&queue, &zombie, finish).await, 0);
        assert!(take(&queue, 10).await.is_empty(), "the lane is still full");
    }
    assert_eq!(finish_all(&queue, &owner, Finish::Done).await, 1);
    assert_eq!(finish_all(&queue, &owner, Finish::Done).await, 0);
    assert_eq!(take(&queue, 10).await.len(), 1);
}
