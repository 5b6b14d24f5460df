//! Rules about the turns of lanes.

use std::collections::{HashMap, HashSet};

use super::{Fixture, claim, finish_all, jobs, lane, take};
use crate::{Claim, Finish, LaneId, NewJob};

/// A lane with many jobs does not delay the others.
pub async fn lanes_take_fair_turns(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.enqueue(&jobs(lane(1), 500)).await.unwrap();
    queue.enqueue(&jobs(lane(2), 3)).await.unwrap();
    queue.enqueue(&jobs(lane(3), 3)).await.unwrap();
    let claimed = take(&queue, 9).await;
    let mut by_lane: HashMap<LaneId, usize> = HashMap::new();
    for job in &claimed {
        *by_lane.entry(job.lease.lane).or_default() += 1;
    }
    assert_eq!((by_lane[&lane(1)], by_lane[&lane(2)], by_lane[&lane(3)]), (3, 3, 3));
}

/// An owner with many lanes does not delay another with one, whatever the position of their lanes. A queue may learn whose
/// they are from the first claim.
pub async fn owners_take_fair_turns(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let of = |owner: &str, lane: LaneId, count| {
        let jobs = jobs(lane, count).into_iter();
        jobs.map(|job| NewJob { owner: owner.to_owned(), ..job }).collect::<Vec<_>>()
    };
    let wide: Vec<_> = (2..=200).flat_map(|number| of("wide", lane(number), 2)).collect();
    queue.enqueue(&wide).await.unwrap();
    queue.enqueue(&of("first", lane(1), 80)).await.unwrap();
    queue.enqueue(&of("last", lane(300), 80)).await.unwrap();
    finish_all(&queue, &take(&queue, 30).await, Finish::Done).await;
    let mut served: HashMap<String, usize> = HashMap::new();
    for _ in 0..4 {
        let claimed = take(&queue, 30).await;
        for job in &claimed {
            *served.entry(job.owner.clone()).or_default() += 1;
        }
        finish_all(&queue, &claimed, Finish::Done).await;
    }
    assert!(served.values().all(|&jobs| (36..=44).contains(&jobs)), "a third of 120 each: {served:?}");
    assert_eq!(served.len(), 3);
}

/// The jobs of a skipped owner stay ready for other claims, and do not hide those of others.
pub async fn a_claim_leaves_out_skipped_owners(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let wide: Vec<_> = (1..=300).flat_map(|number| jobs(lane(number), 1)).collect();
    queue.enqueue(&wide).await.unwrap();
    let others = jobs(lane(400), 3).into_iter().map(|job| NewJob { owner: "other".to_owned(), ..job });
    queue.enqueue(&others.collect::<Vec<_>>()).await.unwrap();
    let skipping = || Claim { skip_owners: vec!["acme".to_owned()], ..claim(10) };
    let mut claimed = Vec::new();
    for _ in 0..3 {
        claimed.extend(queue.claim(&skipping()).await.unwrap().jobs);
    }
    assert_eq!(claimed.iter().map(|job| job.lease.lane).collect::<Vec<_>>(), [lane(400); 3]);
    assert_eq!(take(&queue, 10).await.len(), 10);
}

/// With more lanes than room, each lane has its turn, whatever its position.
pub async fn every_lane_is_served_in_turn(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let many: Vec<_> = (1..=50).flat_map(|number| jobs(lane(number), 40)).collect();
    queue.enqueue(&many).await.unwrap();
    let mut seen: HashMap<LaneId, usize> = HashMap::new();
    for _ in 0..25 {
        let claimed = take(&queue, 10).await;
        for job in &claimed {
            *seen.entry(job.lease.lane).or_default() += 1;
        }
        finish_all(&queue, &claimed, Finish::Done).await;
    }
    assert_eq!(seen.len(), 50, "every lane is served");
    assert!(seen.values().all(|&served| (3..=7).contains(&served)), "about five turns each: {seen:?}");
}

/// A claim with room for one and a half jobs of each lane serves every lane, whatever its position.
pub async fn a_small_claim_serves_every_lane(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    let many: Vec<_> = (1..=6).flat_map(|number| jobs(lane(number), 40)).collect();
    queue.enqueue(&many).await.unwrap();
    for _ in 0..5 {
        let claimed = take(&queue, 9).await;
        assert_eq!(claimed.len(), 9);
        let lanes: HashSet<LaneId> = claimed.iter().map(|job| job.lease.lane).collect();
        assert_eq!(lanes.len(), 6, "every lane is served");
        finish_all(&queue, &claimed, Finish::Done).await;
    }
}

/// The jobs of a skipped lane stay ready for other claims.
pub async fn a_claim_leaves_out_skipped_lanes(fixture: &dyn Fixture) {
    let queue = fixture.queue();
    queue.enqueue(&jobs(lane(1), 2)).await.unwrap();
    queue.enqueue(&jobs(lane(2), 2)).await.unwrap();
    let claimed = queue.claim(&Claim { skip: [lane(1)].into(), ..claim(10) }).await.unwrap();
    assert!(claimed.jobs.iter().all(|job| job.lease.lane == lane(2)));
    assert_eq!(claimed.jobs.len(), 2);
    assert_eq!(take(&queue, 10).await.len(), 2);
}
