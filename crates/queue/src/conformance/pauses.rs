//! Rules about pausing, probing and parking.

use std::collections::HashSet;
use std::time::Duration;

use super::{Fixture, LEASE, claim, finish_all, ids, jobs, lane, take_all};
use crate::{Depth, Finish, LaneId};

/// No job during the pause, one at a time after it, and all again once the lane is resumed.
pub async fn a_paused_lane_is_closed_and_then_probes(fixture: &dyn Fixture) {
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

/// Of two pauses the later one holds, also if it is shorter.
pub async fn a_changed_pause_holds_at_once(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.enqueue(&jobs(lane(1), 2)).await.unwrap();
    queue.pause(lane(1), Duration::from_hours(1)).await.unwrap();
    queue.pause(lane(1), Duration::from_secs(30)).await.unwrap();
    assert_eq!(take_all(&queue, 10).await.len(), 0);
    fixture.advance(Duration::from_secs(31)).await;
    assert_eq!(take_all(&queue, 10).await.len(), 1);
}

/// However many lanes are paused, one claim finds the open lanes between and behind them. When the pauses are over,
/// each lane lets one job through as a probe.
pub async fn paused_lanes_do_not_hide_open_ones(fixture: &dyn Fixture) {
    // More than a claim has to visit.
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

/// Parked jobs are out of the way of claims, and keep their order and their number.
pub async fn jobs_of_a_paused_lane_are_parked_and_return(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let all = jobs(lane(1), 10);
    queue.enqueue(&all).await.unwrap();
    queue.pause(lane(1), Duration::from_secs(30)).await.unwrap();
    assert_eq!(queue.park(100).await.unwrap(), 0);
    assert_eq!((queue.depth().await.unwrap().ready, queue.depth().await.unwrap().parked), (0, 10));
    fixture.advance(Duration::from_secs(31)).await;
    assert_eq!(queue.park(100).await.unwrap(), 1, "one job as a probe");
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
    assert_eq!(queue.depth().await.unwrap(), Depth::default());
}

/// Parked jobs return in batches until none is left, even though one lane alone may fill a batch.
pub async fn parked_jobs_of_many_lanes_return_in_batches(fixture: &dyn Fixture) {
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
