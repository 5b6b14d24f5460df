//! What people see of the queue: workers, and lanes in which jobs wait.

use std::cmp::Reverse;
use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use postrider_queue::{
    Hold, LaneCursor, LaneId, LaneOrder, LanePage, LanePause, LaneQuery, LaneRate, LaneSettings, LaneStatus,
    QueueError, QueueReads, WorkerId, WorkerStatus,
};
use redis::RedisError;

use crate::control::{DRAINING, reason};
use crate::error::of_call;
use crate::functions::Function;
use crate::partition::FIRST;
use crate::queue::RedisQueue;
use crate::reading::Reader;

/// How many lanes of each partition one page examines.
const EXAMINED: usize = 1_000;

#[async_trait]
impl QueueReads for RedisQueue {
    async fn workers(&self) -> Result<Vec<WorkerStatus>, QueueError> {
        let answer = self.call(Function::Workers, FIRST, &self.arguments()).await.and_then(Reader::of);
        let mut workers = answer.and_then(read_workers).map_err(of_call)?;
        workers.sort_unstable_by_key(|worker| (worker.started_at, worker.worker));
        Ok(workers)
    }

    async fn lanes(&self, query: &LaneQuery) -> Result<LanePage, QueueError> {
        let (after, most) = query.examined(EXAMINED);
        let cursor = LaneCursor { after, skip: query.after.map_or(0, |cursor| cursor.skip) };
        let mut arguments = self.arguments();
        arguments.id(after.0).number(most);
        let (mut found, mut more) = (Vec::new(), false);
        for answer in self.ask_all(Function::List, &arguments).await? {
            let lanes = Reader::of(answer).and_then(read_lanes).map_err(of_call)?;
            more |= lanes.len() == most && query.lane.is_none();
            found.extend(lanes);
        }
        // The next lanes of all partitions, in the order of their ids. Those behind them come on later pages.
        found.sort_unstable_by_key(|status| status.lane);
        more |= found.len() > EXAMINED;
        found.truncate(EXAMINED);
        let last = found.last().map(|status| status.lane).filter(|_| more);
        found.retain(|status| query.selects(status.lane, &status.owner));
        found.sort_unstable_by_key(|status| match query.order {
            LaneOrder::Depth => (Reverse(status.waiting), Reverse(status.oldest), status.lane),
            LaneOrder::Age => (Reverse(0), Reverse(status.oldest), status.lane),
        });
        let (skip, limit) = (cursor.skip as usize, usize::from(query.limit));
        let next = if found.len() > skip + limit {
            Some(LaneCursor { skip: cursor.skip.saturating_add(query.limit.into()), ..cursor })
        } else {
            last.map(|after| LaneCursor { after, skip: 0 })
        };
        Ok(LanePage { lanes: found.into_iter().skip(skip).take(limit).collect(), next })
    }
}

fn read_workers(mut answer: Reader) -> Result<Vec<WorkerStatus>, RedisError> {
    let mut workers = Vec::new();
    while !answer.is_empty() {
        workers.push(WorkerStatus {
            worker: WorkerId(answer.id()?),
            host: answer.next()?,
            version: answer.next()?,
            started_at: answer.next()?,
            seen_at: answer.next()?,
            in_flight: answer.next()?,
            silent: answer.flag()?,
        });
    }
    Ok(workers)
}

fn read_lanes(mut answer: Reader) -> Result<Vec<LaneStatus>, RedisError> {
    let mut lanes = Vec::new();
    while !answer.is_empty() {
        let (lane, owner) = (LaneId(answer.id()?), answer.next()?);
        let (limit, ordered) = (answer.next::<u32>()?, answer.flag()?);
        let (interval, burst) = (answer.next::<u64>()?, answer.next::<u32>()?);
        let rate = NonZeroU32::new(burst)
            .filter(|_| interval > 0)
            .map(|burst| LaneRate { interval: Duration::from_micros(interval), burst });
        let settings = LaneSettings { concurrency: NonZeroU32::new(limit), ordered, rate };
        let (waiting, scheduled, running) = (answer.next()?, answer.next()?, answer.next()?);
        let oldest = answer.duration()?.unwrap_or_default();
        let holds: u8 = answer.next()?;
        let (paused_for, probing) = (answer.duration()?.unwrap_or_default(), answer.flag()?);
        let pause = pause(holds, paused_for, probing);
        lanes.push(LaneStatus {
            lane,
            owner,
            settings,
            waiting,
            scheduled,
            more: false,
            running,
            oldest,
            pause,
        });
    }
    Ok(lanes)
}

/// An ordered lane that waits for a retry is paused, and does not probe.
fn pause(holds: u8, paused_for: Duration, probing: bool) -> Option<LanePause> {
    let is_held = |reason: u8| holds & reason != 0;
    match (paused_for.is_zero(), probing) {
        _ if is_held(DRAINING) => Some(LanePause::Draining),
        _ if is_held(reason(Hold::Lane)) => Some(LanePause::Held),
        _ if is_held(reason(Hold::Owner)) => Some(LanePause::OwnerHeld),
        (false, true) => Some(LanePause::Paused(paused_for)),
        (false, false) => Some(LanePause::AwaitsRetry(paused_for)),
        (true, true) => Some(LanePause::Probing),
        (true, false) => None,
    }
}
