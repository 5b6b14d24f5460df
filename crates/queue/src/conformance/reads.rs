//! Rules about what people see of a queue.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Fixture, LEASE, finish_all, job, jobs, lane, take};
use crate::{
    CheckIn, Finish, Hold, LaneCursor, LaneId, LaneOrder, LanePause, LaneQuery, LaneRate, LaneSettings,
    LaneStatus, NewJob, Queue, WorkerId,
};

/// Each with what it last said about itself, the oldest first.
pub async fn workers_are_listed_until_they_check_out(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let worker = |number: u128, in_flight| CheckIn {
        worker: WorkerId(Uuid::from_u128(number)),
        host: format!("host{number}"),
        version: "1.2.3".to_owned(),
        in_flight,
        busy: false,
        lapse: LEASE / 2,
    };
    assert_eq!(queue.workers().await.unwrap(), []);
    queue.check_in(&worker(1, 3)).await.unwrap();
    fixture.advance(Duration::from_secs(10)).await;
    queue.check_in(&worker(2, 0)).await.unwrap();
    queue.check_in(&worker(1, 7)).await.unwrap();
    let listed = queue.workers().await.unwrap();
    let shown: Vec<_> = listed
        .iter()
        .map(|listed| (listed.worker.0.as_u128(), listed.host.as_str(), listed.in_flight, listed.silent))
        .collect();
    assert_eq!(shown, [(1, "host1", 7, false), (2, "host2", 0, false)]);
    assert_eq!(listed[0].version, "1.2.3");
    assert!(listed[0].seen_at - listed[0].started_at >= 10_000, "{listed:?}");
    assert!(listed[1].started_at - listed[0].started_at >= 10_000, "{listed:?}");
    fixture.advance(LEASE * 3 / 4).await;
    assert!(queue.workers().await.unwrap().iter().all(|listed| listed.silent));
    queue.check_out(WorkerId(Uuid::from_u128(2))).await.unwrap();
    assert_eq!(queue.workers().await.unwrap().len(), 1);
    fixture.advance(LEASE * 2).await;
    assert_eq!(queue.workers().await.unwrap(), [], "a silent worker is forgotten");
}

/// The deepest lane or the one that has waited longest, of all owners or of one, whatever the size of a page.
pub async fn lanes_are_listed_by_depth_and_by_age(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    assert_eq!(list(&queue, None, LaneOrder::Depth, 10).await, []);
    queue.enqueue(&jobs(lane(1), 1)).await.unwrap();
    fixture.advance(Duration::from_secs(10)).await;
    queue.enqueue(&jobs(lane(2), 5)).await.unwrap();
    fixture.advance(Duration::from_secs(10)).await;
    let foreign: Vec<_> = (0..3).map(|_| NewJob { owner: "other".to_owned(), ..job(lane(3)) }).collect();
    queue.enqueue(&foreign).await.unwrap();
    // Nothing is due in it.
    queue.enqueue(&[NewJob { delay: LEASE, ..job(lane(4)) }]).await.unwrap();
    for limit in [1, 2, 10] {
        for (owner, by_depth, by_age) in [
            (None, vec![lane(2), lane(3), lane(1)], vec![lane(1), lane(2), lane(3)]),
            (Some("acme"), vec![lane(2), lane(1)], vec![lane(1), lane(2)]),
            (Some("other"), vec![lane(3)], vec![lane(3)]),
            (Some("acm"), vec![], vec![]),
        ] {
            assert_eq!(lanes_of(&list(&queue, owner, LaneOrder::Depth, limit).await), by_depth);
            assert_eq!(lanes_of(&list(&queue, owner, LaneOrder::Age, limit).await), by_age);
        }
    }
    let listed = list(&queue, Some("other"), LaneOrder::Age, 10).await;
    assert_eq!((listed[0].owner.as_str(), listed[0].waiting), ("other", 3));
    assert!(list(&queue, None, LaneOrder::Age, 10).await[0].oldest >= Duration::from_secs(20));
}

/// How many of its jobs wait, run and are not due yet.
pub async fn a_listed_lane_counts_its_jobs(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let rate = LaneRate { interval: Duration::from_millis(20), burst: NonZeroU32::new(5).unwrap() };
    let settings = LaneSettings { concurrency: NonZeroU32::new(3), ordered: false, rate: Some(rate) };
    queue.configure(lane(1), "acme", settings).await.unwrap();
    queue.enqueue(&jobs(lane(1), 10)).await.unwrap();
    let taken = take(&queue, 3).await;
    finish_all(&queue, &taken[..1], Finish::RetryIn(LEASE)).await;
    finish_all(&queue, &taken[1..2], Finish::RetryIn(Duration::ZERO)).await;
    for owner in [None, Some("acme")] {
        let listed = list(&queue, owner, LaneOrder::Depth, 10).await;
        assert_eq!(listed.len(), 1);
        let LaneStatus { waiting, scheduled, running, more, .. } = listed[0];
        assert_eq!((waiting, scheduled, running, more), (8, 1, 1, false));
        assert_eq!((listed[0].settings, listed[0].pause), (settings, None));
    }
}

/// The reason for which claims take nothing.
pub async fn a_listed_lane_says_why_it_is_closed(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    for number in 1..=5 {
        queue.enqueue(&jobs(lane(number), 2)).await.unwrap();
    }
    queue.hold(&[lane(1), lane(2)], "acme", Hold::Owner).await.unwrap();
    queue.hold(&[lane(2)], "acme", Hold::Lane).await.unwrap();
    queue.pause(lane(3), LEASE).await.unwrap();
    queue.pause(lane(4), Duration::from_secs(5)).await.unwrap();
    fixture.advance(Duration::from_secs(6)).await;
    queue.promote(10).await.unwrap();
    let listed = list(&queue, None, LaneOrder::Age, 10).await;
    let pause = |lane| listed.iter().find(|listed| listed.lane == lane).unwrap().pause;
    assert_eq!(pause(lane(1)), Some(LanePause::OwnerHeld));
    assert_eq!(pause(lane(2)), Some(LanePause::Held), "for its own sake as well");
    let left = LEASE * 9 / 10;
    assert!(matches!(pause(lane(3)), Some(LanePause::Paused(time)) if time <= left && time > left / 2));
    assert_eq!(pause(lane(4)), Some(LanePause::Probing));
    assert_eq!(pause(lane(5)), None);

    let ordered = LaneSettings { ordered: true, ..LaneSettings::default() };
    queue.configure(lane(6), "acme", ordered).await.unwrap();
    queue.hold(&[lane(5)], "acme", Hold::Lane).await.unwrap();
    queue.enqueue(&jobs(lane(6), 2)).await.unwrap();
    let first = super::take_all(&queue, 1).await;
    let first: Vec<_> = first.into_iter().filter(|job| job.lease.lane == lane(6)).collect();
    assert_eq!(finish_all(&queue, &first, Finish::RetryIn(LEASE)).await, 1);
    let listed = list(&queue, None, LaneOrder::Age, 10).await;
    let last = listed.iter().find(|listed| listed.lane == lane(6)).unwrap();
    assert!(matches!(last.pause, Some(LanePause::AwaitsRetry(time)) if time <= LEASE), "{last:?}");
    assert_eq!(last.waiting, 2, "the job that is retried keeps its place");
}

/// Page by page, each once.
pub async fn every_lane_is_listed_once(fixture: &dyn Fixture) {
    // More than a queue has to examine for one page.
    const LANES: u128 = 1_200;
    let queue = fixture.queue();
    let all: Vec<_> = (1..=LANES).flat_map(|number| jobs(lane(number), 1)).collect();
    queue.enqueue(&all).await.unwrap();
    for owner in [None, Some("acme")] {
        for order in [LaneOrder::Depth, LaneOrder::Age] {
            let listed = list(&queue, owner, order, 250).await;
            assert_eq!(listed.len() as u128, LANES);
            let distinct: HashSet<LaneId> = lanes_of(&listed).into_iter().collect();
            assert_eq!(distinct.len() as u128, LANES);
            // And each by itself, whatever comes before and behind it.
            for (wanted, there) in [(1, true), (700, true), (LANES, true), (LANES + 1, false)] {
                let (owner, one) = (owner.map(str::to_owned), Some(lane(wanted)));
                let query = LaneQuery { owner, lane: one, order, after: None, limit: 50 };
                let page = queue.lanes(&query).await.unwrap();
                let expected = if there { vec![lane(wanted)] } else { Vec::new() };
                assert_eq!((lanes_of(&page.lanes), page.next), (expected, None));
            }
        }
    }
    let foreign = LaneQuery {
        owner: Some("other".to_owned()),
        lane: Some(lane(1)),
        order: LaneOrder::Depth,
        after: None,
        limit: 50,
    };
    assert_eq!(queue.lanes(&foreign).await.unwrap().lanes, []);
}

/// All pages of a list.
async fn list(queue: &Arc<dyn Queue>, owner: Option<&str>, order: LaneOrder, limit: u16) -> Vec<LaneStatus> {
    let mut all = Vec::new();
    let mut after: Option<LaneCursor> = None;
    loop {
        let query = LaneQuery { owner: owner.map(str::to_owned), lane: None, order, after, limit };
        let page = queue.lanes(&query).await.unwrap();
        assert!(page.lanes.len() <= usize::from(limit));
        all.extend(page.lanes);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

fn lanes_of(listed: &[LaneStatus]) -> Vec<LaneId> {
    listed.iter().map(|listed| listed.lane).collect()
}
