//! The conformance suite over one Redis and over a cluster, and what Redis alone can do to a queue.
//!
//! Without Redis these tests print that they are skipped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "test code: a panic with a description is a failed test"
)]

mod outbox;
mod random;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use postrider_queue::Queue;
use postrider_queue::conformance::Fixture;
use postrider_queue::conformance_suite;
use postrider_queue_redis::{RedisQueue, RedisUrl};
use postrider_testkit::redis::{Keeps, RedisCluster, RedisServer};

/// What tests share for as long as one of them runs.
struct Shared<T>(Mutex<Weak<T>>);

impl<T> Shared<T> {
    const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    fn get(&self, start: impl FnOnce() -> Option<T>) -> Option<Arc<T>> {
        let mut shared = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Some(running);
        }
        let started = Arc::new(start()?);
        *shared = Arc::downgrade(&started);
        Some(started)
    }
}

static SERVER: Shared<RedisServer> = Shared::new();
static CLUSTER: Shared<RedisCluster> = Shared::new();

/// A queue with a prefix of its own.
struct OverRedis {
    queue: Arc<RedisQueue>,
    /// Runs for as long as the queue is used.
    _server: Arc<dyn std::any::Any + Send + Sync>,
}

impl OverRedis {
    async fn single() -> Option<Self> {
        let server = SERVER.get(|| RedisServer::start(Keeps::Nothing))?;
        let queue = connect(&format!("{}?prefix={}", server.url(), prefix())).await;
        Some(Self { queue, _server: server })
    }

    async fn cluster(partitions: u16) -> Option<Self> {
        let cluster = CLUSTER.get(RedisCluster::start)?;
        let queue = connect(&format!("{}&partitions={partitions}&prefix={}", cluster.url(), prefix())).await;
        Some(Self { queue, _server: cluster })
    }
}

async fn connect(url: &str) -> Arc<RedisQueue> {
    Arc::new(RedisQueue::connect(&RedisUrl::parse(url).unwrap()).await.unwrap())
}

fn prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

#[async_trait]
impl Fixture for OverRedis {
    fn queue(&self) -> Arc<dyn Queue> {
        Arc::clone(&self.queue) as Arc<dyn Queue>
    }

    async fn advance(&self, by: Duration) {
        self.queue.advance(by);
    }
}

conformance_suite!(single, {
    let Some(fixture) = OverRedis::single().await else { return };
    fixture
});
conformance_suite!(cluster, {
    let Some(fixture) = OverRedis::cluster(1).await else { return };
    fixture
});

/// All rules but those about turns, which are fair within a partition.
mod partitions {
    use super::*;

    conformance_suite!(@rules {
        let Some(fixture) = OverRedis::cluster(4).await else { return };
        fixture
    } =>
        a_job_is_not_claimed_before_it_is_due
        retries_come_after_first_tries
        calls_keep_to_their_maximum
        every_lane_is_served_in_turn
        a_claim_leaves_out_skipped_lanes
        an_expired_lease_is_rescued_and_fenced
        an_exhausted_job_is_leased_to_its_rescuer
        paused_lanes_do_not_hide_open_ones
        held_lanes_do_not_hide_open_ones
        depth_counts_by_state
        many_claimers_never_overlap
        a_hundred_thousand_jobs_are_each_done_once
    );
}
