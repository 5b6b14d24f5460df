//! Rules about pausing and probing.

use std::collections::HashSet;
use std::time::Duration;

use super::{Fixture, LEASE, claim, finish_all, ids, jobs, lane, take_all};
use crate::{Depth, Finish, Hold, LaneId, LaneSettings};

/// No job during the pause, one at a time after it, and all again once the lane is resumed.
pub async fn a_paused_lane_is_closed_and_then_probes(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.enqueue(&jobs(lane(1), 10)).await.unwrap();
    queue.enqueue(&jobs(lane(2), 1)).await.unwrap();
    queue.pause(lane(1), Duration::from_secs(30)).await.unwrap();
    let others = queue.claim(&claim(10)).await.unwrap();
    assert_eq!(others.jobs.iter().map(|job| job.lease.lane).collect::<Vec<_>>(), [lane(2)]);
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

/// However many lanes are paused, claims find the open lanes between and behind them. When the pauses are over,
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
    let claimed = take_all(&queue, 4).await;
    let lanes: HashSet<LaneId> = claimed.iter().map(|job| job.lease.lane).collect();
    assert_eq!((claimed.len(), lanes), (4, HashSet::from(open)));
    let nothing = queue.claim(&claim(4)).await.unwrap();
    assert!(!nothing.more && nothing.opens_in.is_some_and(|wait| wait <= LEASE));
    fixture.advance(LEASE).await;
    assert_eq!(take_all(&queue, 100).await.len() as u128, LANES - 2);
}

/// Jobs of a paused lane count as held, and keep their order and their number.
pub async fn jobs_of_a_paused_lane_are_held_and_return_in_order(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let all = jobs(lane(1), 10);
    queue.enqueue(&all).await.unwrap();
    queue.pause(lane(1), Duration::from_secs(30)).await.unwrap();
    assert_eq!((queue.depth().await.unwrap().ready, queue.depth().await.unwrap().held), (0, 10));
    fixture.advance(Duration::from_secs(31)).await;
    assert_eq!((queue.depth().await.unwrap().ready, queue.depth().await.unwrap().held), (10, 0));
    let probe = take_all(&queue, 10).await;
    assert_eq!(ids(&probe), [all[0].id]);
    finish_all(&queue, &probe, Finish::Done).await;
    queue.resume(lane(1)).await.unwrap();
    let rest = take_all(&queue, 4).await;
    assert_eq!(ids(&rest), all[1..].iter().map(|job| job.id).collect::<Vec<_>>());
    finish_all(&queue, &rest, Finish::Done).await;
    assert_eq!(queue.depth().await.unwrap(), Depth::default());
}

/// However many lanes were paused, their jobs can be claimed as soon as they are resumed.
pub async fn many_paused_lanes_return_at_once(fixture: &dyn Fixture) {
    const LANES: u128 = 700;
    let queue = fixture.queue();
    let all: Vec<_> = (1..=LANES).flat_map(|number| jobs(lane(number), 1)).collect();
    queue.enqueue(&all).await.unwrap();
    for number in 1..=LANES {
        queue.pause(lane(number), LEASE).await.unwrap();
    }
    assert_eq!(take_all(&queue, 100).await.len(), 0);
    for number in 1..=LANES {
        queue.resume(lane(number)).await.unwrap();
    }
    assert_eq!(take_all(&queue, 100).await.len(), all.len());
}

/// Whatever else happens to the lane. What runs continues, what is enqueued waits, and the lane is found again at once.
pub async fn a_held_lane_gives_nothing_until_it_is_released(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.enqueue(&jobs(lane(1), 4)).await.unwrap();
    let running = take_all(&queue, 1).await;
    queue.hold(&[lane(1), lane(2)], "owner", Hold::Lane).await.unwrap();
    queue.enqueue(&jobs(lane(2), 2)).await.unwrap();
    finish_all(&queue, &running, Finish::RetryIn(Duration::from_secs(5))).await;
    queue.pause(lane(1), Duration::from_secs(30)).await.unwrap();
    fixture.advance(Duration::from_secs(31)).await;
    queue.promote(10).await.unwrap();
    assert_eq!(take_all(&queue, 10).await.len(), 0, "a pause ended");
    queue.resume(lane(1)).await.unwrap();
    let settings = LaneSettings { ordered: false, ..LaneSettings::default() };
    queue.configure(lane(1), "owner", settings).await.unwrap();
    assert_eq!(take_all(&queue, 10).await.len(), 0, "resumed and configured");
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.ready, depth.held), (0, 6));
    assert_eq!(queue.longest_wait(Duration::ZERO).await.unwrap(), None);
    queue.release(&[lane(1), lane(2)], Hold::Lane).await.unwrap();
    assert_eq!(take_all(&queue, 10).await.len(), 6);
}

/// Once for each reason, in any order.
pub async fn a_lane_that_is_held_twice_is_released_twice(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.enqueue(&jobs(lane(1), 2)).await.unwrap();
    for (first, second) in [(Hold::Lane, Hold::Owner), (Hold::Owner, Hold::Lane)] {
        queue.hold(&[lane(1)], "owner", Hold::Lane).await.unwrap();
        queue.hold(&[lane(1)], "owner", Hold::Owner).await.unwrap();
        queue.release(&[lane(1)], first).await.unwrap();
        assert_eq!(take_all(&queue, 10).await.len(), 0);
        queue.release(&[lane(1)], second).await.unwrap();
        let taken = queue.claim(&claim(1)).await.unwrap().jobs;
        assert_eq!(taken.len(), 1);
        finish_all(&queue, &taken, Finish::Done).await;
    }
}

/// However many there are.
pub async fn held_lanes_do_not_hide_open_ones(fixture: &dyn Fixture) {
    // More than a claim has to visit.
    const LANES: u128 = 700;
    let queue = fixture.queue();
    let open = [lane(LANES / 2), lane(LANES)];
    let all: Vec<_> = (1..=LANES).flat_map(|number| jobs(lane(number), 2)).collect();
    queue.enqueue(&all).await.unwrap();
    let held: Vec<_> = (1..=LANES).map(lane).filter(|lane| !open.contains(lane)).collect();
    queue.hold(&held, "owner", Hold::Owner).await.unwrap();
    let claimed = take_all(&queue, 4).await;
    let lanes: HashSet<LaneId> = claimed.iter().map(|job| job.lease.lane).collect();
    assert_eq!((claimed.len(), lanes), (4, HashSet::from(open)));
    assert!(!queue.claim(&claim(4)).await.unwrap().more);
    queue.release(&held, Hold::Owner).await.unwrap();
    assert_eq!(take_all(&queue, 100).await.len(), 2 * held.len());
}
