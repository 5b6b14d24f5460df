//! Jobs go in, and lanes are controlled.

use std::time::Duration;

use async_trait::async_trait;
use postrider_queue::{
    Fillable, Hold, Identity, JobId, JobSink, LaneControl, LaneHolds, LaneId, LaneSettings, LaneState,
    NewJob, QueueError, RemoteQueue, WaitingJob,
};
use uuid::Uuid;

use crate::arguments::Arguments;
use crate::error::of_call;
use crate::functions::Function;
use crate::queue::RedisQueue;
use crate::reading::Reader;

/// How many jobs or lanes a call takes: a few milliseconds of Redis.
const AT_ONCE: usize = 500;

#[async_trait]
impl JobSink for RedisQueue {
    /// All or none of each partition: a repeat completes what a failure has left half done.
    async fn enqueue(&self, jobs: &[NewJob]) -> Result<(), QueueError> {
        self.offer(jobs).await.map(drop)
    }
}

#[async_trait]
impl LaneControl for RedisQueue {
    async fn configure(&self, lane: LaneId, owner: &str, settings: LaneSettings) -> Result<(), QueueError> {
        let mut arguments = self.arguments();
        arguments.id(lane.0).text(owner);
        add_settings(&mut arguments, settings);
        self.tell(Function::Configure, lane, &arguments).await?;
        self.waker.wake();
        Ok(())
    }

    async fn pause(&self, lane: LaneId, duration: Duration) -> Result<(), QueueError> {
        let mut arguments = self.arguments();
        arguments.id(lane.0).millis(duration);
        self.tell(Function::Pause, lane, &arguments).await
    }

    async fn resume(&self, lane: LaneId) -> Result<(), QueueError> {
        let mut arguments = self.arguments();
        arguments.id(lane.0);
        self.tell(Function::Resume, lane, &arguments).await?;
        self.waker.wake();
        Ok(())
    }

    async fn hold(&self, lanes: &[LaneId], owner: &str, hold: Hold) -> Result<(), QueueError> {
        for (partition, lanes) in self.split(lanes, |lane| **lane) {
            for lanes in lanes.chunks(AT_ONCE) {
                let mut arguments = self.arguments();
                arguments.number(reason(hold)).text(owner);
                for lane in lanes {
                    arguments.id(lane.0);
                }
                self.call::<()>(Function::Hold, partition, &arguments).await.map_err(of_call)?;
            }
        }
        Ok(())
    }

    async fn release(&self, lanes: &[LaneId], hold: Hold) -> Result<(), QueueError> {
        for (partition, lanes) in self.split(lanes, |lane| **lane) {
            for lanes in lanes.chunks(AT_ONCE) {
                let mut arguments = self.arguments();
                arguments.number(reason(hold));
                for lane in lanes {
                    arguments.id(lane.0);
                }
                self.call::<()>(Function::Release, partition, &arguments).await.map_err(of_call)?;
            }
        }
        self.waker.wake();
        Ok(())
    }
}

#[async_trait]
impl Fillable for RedisQueue {
    async fn offer(&self, jobs: &[NewJob]) -> Result<u64, QueueError> {
        let mut new = 0;
        for (partition, jobs) in self.split(jobs, |job| job.lane) {
            for jobs in jobs.chunks(AT_ONCE) {
                let arguments = self.offered(jobs);
                new += self.call::<u64>(Function::Offer, partition, &arguments).await.map_err(of_call)?;
            }
        }
        self.waker.ring_here();
        Ok(new)
    }

    async fn offer_unordered(&self, jobs: &[NewJob]) -> Result<Vec<JobId>, QueueError> {
        let mut left_out = Vec::new();
        for (partition, jobs) in self.split(jobs, |job| job.lane) {
            for jobs in jobs.chunks(AT_ONCE) {
                let answer = self.call(Function::OfferUnordered, partition, &self.offered(jobs)).await;
                left_out.extend(answer.and_then(Reader::of).and_then(Reader::ids).map_err(of_call)?);
            }
        }
        self.waker.ring_here();
        Ok(left_out)
    }

    async fn put_lanes(&self, lanes: &[LaneState]) -> Result<(), QueueError> {
        for (partition, lanes) in self.split(lanes, |state| state.lane) {
            for lanes in lanes.chunks(AT_ONCE) {
                let mut arguments = self.arguments();
                for state in lanes {
                    arguments.id(state.lane.0).text(&state.owner);
                    add_settings(&mut arguments, state.settings);
                    arguments.millis(state.paused_for).flag(state.probing).number(holds(state.holds));
                }
                self.call::<()>(Function::Put, partition, &arguments).await.map_err(of_call)?;
            }
        }
        self.waker.ring_here();
        Ok(())
    }

    async fn identity(&self) -> Result<Identity, QueueError> {
        let mut runs = Vec::new();
        let mut markers = Vec::new();
        for answer in self.ask_all(Function::Identity, &self.arguments()).await? {
            let mut answer = Reader::of(answer).map_err(of_call)?;
            runs.push(answer.next::<String>().map_err(of_call)?);
            markers.push(answer.next::<String>().map_err(of_call)?);
        }
        // A partition that has lost its marker has lost its jobs.
        let marker = markers.first().filter(|first| markers.iter().all(|marker| marker == *first));
        let marker = marker.and_then(|marker| Uuid::parse_str(marker).ok());
        runs.sort_unstable();
        runs.dedup();
        Ok(Identity { run: runs.join(" "), marker })
    }

    async fn mark(&self, marker: Uuid) -> Result<(), QueueError> {
        let mut arguments = self.arguments();
        arguments.text(&marker.to_string());
        self.ask_all(Function::Mark, &arguments).await.map(drop)
    }
}

#[async_trait]
impl RemoteQueue for RedisQueue {
    async fn waiting(&self, lane: LaneId, max: u32) -> Result<Vec<WaitingJob>, QueueError> {
        let mut arguments = self.arguments();
        arguments.id(lane.0).number(max);
        let answer =
            self.call(Function::Waiting, self.partition_of(lane), &arguments).await.and_then(Reader::of);
        answer.and_then(Reader::waiting).map_err(of_call)
    }

    async fn remove(&self, lane: LaneId, jobs: &[JobId]) -> Result<(), QueueError> {
        for jobs in jobs.chunks(AT_ONCE) {
            let mut arguments = self.arguments();
            arguments.id(lane.0);
            for job in jobs {
                arguments.id(job.0);
            }
            self.tell(Function::Remove, lane, &arguments).await?;
        }
        Ok(())
    }
}

impl RedisQueue {
    fn offered(&self, jobs: &[&NewJob]) -> Arguments {
        let mut arguments = self.arguments();
        for job in jobs {
            arguments.id(job.id.0).id(job.lane.0).text(&job.owner).id(job.subject).millis(job.delay);
            arguments.text(job.trace.as_deref().unwrap_or_default());
        }
        arguments
    }

    async fn tell(&self, function: Function, lane: LaneId, arguments: &Arguments) -> Result<(), QueueError> {
        self.call::<redis::Value>(function, self.partition_of(lane), arguments)
            .await
            .map(drop)
            .map_err(of_call)
    }
}

fn add_settings(arguments: &mut Arguments, settings: LaneSettings) {
    let rate = settings.rate.map(|rate| (rate.interval.as_micros().max(1), rate.burst.get()));
    let (interval, burst) = rate.unwrap_or_default();
    arguments.number(settings.concurrency.map_or(0, std::num::NonZeroU32::get)).flag(settings.ordered);
    arguments.number(interval).number(burst);
}

fn holds(holds: LaneHolds) -> u8 {
    let LaneHolds { lane, owner, draining } = holds;
    u8::from(lane) * reason(Hold::Lane)
        + u8::from(owner) * reason(Hold::Owner)
        + u8::from(draining) * DRAINING
}

/// The code of a lane whose jobs end without being claimed.
pub(crate) const DRAINING: u8 = 4;

/// The code of a reason to hold a lane: `ALL_HOLDS` in `state.lua` adds them up.
pub(crate) fn reason(hold: Hold) -> u8 {
    match hold {
        Hold::Lane => 1,
        Hold::Owner => 2,
    }
}
