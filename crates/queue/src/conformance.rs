//! The rules of a [`Queue`], as tests that every implementation passes.
//!
//! Implement [`Fixture`] and name it in [`suite!`](crate::conformance_suite):
//!
//! ```ignore
//! postrider_queue::conformance_suite!(in_memory, MyFixture::new().await);
//! ```
//!
//! Each rule becomes a `#[tokio::test]` of its own, over a fixture of its own. The suite asks for
//! [`JobQueue`](crate::JobQueue), [`LaneControl`](crate::LaneControl), [`JobSink`](crate::JobSink) and
//! [`QueueReads`](crate::QueueReads), and for no transactions, so a queue outside the database can run it.
//!
//! | module | rules about |
//! |---|---|
//! | `claiming` | the way of a job: enqueued, claimed, finished |
//! | `fairness` | the turns of lanes |
//! | `leases` | fencing, extending, rescuing |
//! | `limits` | concurrency, order, rate |
//! | `pauses` | pausing and probing |
//! | `measures` | depth and waiting times |
//! | `reads` | what people see: workers and lanes |
//! | `crowds` | many claimers at once |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "test code: a panic is a failed test"
)]

mod claiming;
mod crowds;
mod fairness;
mod leases;
mod limits;
mod measures;
mod pauses;
mod reads;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::{Claim, Claimed, ClaimedJob, Finish, JobId, LaneId, LeaseToken, NewJob, Queue, Rescue};

pub use claiming::*;
pub use crowds::*;
pub use fairness::*;
pub use leases::*;
pub use limits::*;
pub use measures::*;
pub use pauses::*;
pub use reads::*;

/// An empty queue whose clock the tests control.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The queue.
    fn queue(&self) -> Arc<dyn Queue>;

    /// Moves the queue's clock forward, without waiting.
    async fn advance(&self, by: Duration);
}

/// Makes a module of tests, one for each rule, over the queue of a [`Fixture`].
#[macro_export]
macro_rules! conformance_suite {
    ($name:ident, $fixture:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::conformance_suite!(@rules $fixture =>
                each_job_is_claimed_once
                a_lane_keeps_its_order
                a_job_is_not_claimed_before_it_is_due
                a_delayed_job_is_never_early
                retries_come_after_first_tries
                a_released_job_returns_as_it_was
                a_done_or_buried_job_is_removed
                calls_keep_to_their_maximum
                a_wakeup_between_claiming_and_waiting_is_not_missed
                lanes_take_fair_turns
                owners_take_fair_turns
                every_lane_is_served_in_turn
                a_small_claim_serves_every_lane
                a_claim_leaves_out_skipped_lanes
                a_claim_leaves_out_skipped_owners
                an_expired_lease_is_rescued_and_fenced
                an_extended_lease_is_not_rescued
                an_exhausted_job_is_leased_to_its_rescuer
                a_lane_counts_running_jobs_through_rescue_and_fencing
                a_lane_never_runs_more_than_it_allows
                a_worker_claims_ahead_of_a_lane_that_it_has_to_itself
                an_ordered_lane_runs_one_at_a_time_in_order
                an_ordered_lane_waits_for_its_retry
                a_lane_keeps_its_rate
                a_changed_rate_holds_at_once
                a_changed_rate_gives_no_second_burst
                changed_concurrency_holds_at_once
                a_lane_that_is_no_longer_ordered_does_not_wait_for_its_retry
                a_changed_limit_wakes_workers
                a_paused_lane_is_closed_and_then_probes
                a_changed_pause_holds_at_once
                paused_lanes_do_not_hide_open_ones
                jobs_of_a_paused_lane_are_held_and_return_in_order
                many_paused_lanes_return_at_once
                a_held_lane_gives_nothing_until_it_is_released
                a_lane_that_is_held_twice_is_released_twice
                held_lanes_do_not_hide_open_ones
                depth_counts_by_state
                the_longest_wait_ignores_jobs_that_their_lane_holds_back
                workers_are_listed_until_they_check_out
                lanes_are_listed_by_depth_and_by_age
                a_listed_lane_counts_its_jobs
                a_listed_lane_says_why_it_is_closed
                every_lane_is_listed_once
                many_claimers_never_overlap
                a_hundred_thousand_jobs_are_each_done_once
            );
        }
    };
    (@rules $fixture:expr => $($rule:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $rule() {
            let fixture = $fixture;
            $crate::conformance::$rule(&fixture).await;
        }
    )*};
}

const LEASE: Duration = Duration::from_mins(1);

fn fresh() -> Uuid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Uuid::from_u128(u128::from(NEXT.fetch_add(1, Ordering::Relaxed)) << 32)
}

fn lane(number: u128) -> LaneId {
    LaneId(Uuid::from_u128(number << 96))
}

fn job(lane: LaneId) -> NewJob {
    NewJob::now(JobId(fresh()), lane, "acme", fresh())
}

fn jobs(lane: LaneId, count: usize) -> Vec<NewJob> {
    (0..count).map(|_| job(lane)).collect()
}

fn claim(max: u32) -> Claim {
    Claim::new(LeaseToken(fresh()), max, LEASE)
}

async fn take(queue: &Arc<dyn Queue>, max: u32) -> Vec<ClaimedJob> {
    queue.claim(&claim(max)).await.unwrap().jobs
}

/// Claims until nothing more can be claimed.
async fn take_all(queue: &Arc<dyn Queue>, max: u32) -> Vec<ClaimedJob> {
    let mut all = Vec::new();
    loop {
        let Claimed { jobs, more, .. } = queue.claim(&claim(max)).await.unwrap();
        let nothing = jobs.is_empty();
        all.extend(jobs);
        if nothing && !more {
            return all;
        }
    }
}

async fn finish_all(queue: &Arc<dyn Queue>, jobs: &[ClaimedJob], finish: Finish) -> usize {
    let finished: Vec<_> = jobs.iter().map(|job| (job.lease, finish)).collect();
    queue.finish(&finished).await.unwrap().len()
}

fn ids(jobs: &[ClaimedJob]) -> Vec<JobId> {
    jobs.iter().map(|job| job.lease.job).collect()
}

fn rescue(max_rescues: u32) -> Rescue {
    Rescue { max: 100, max_rescues, token: LeaseToken(fresh()), lease: LEASE }
}
