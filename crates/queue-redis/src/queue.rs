//! The worker's half of the queue.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use postrider_queue::{
    CheckIn, Claim, Claimed, Depth, Duties, Finish, JobId, JobQueue, LaneId, Lease, Promoted, QueueError,
    Rescue, Rescued, Wakeups, WorkerId,
};
use redis::{FromRedisValue, RedisError, Value};

use crate::arguments::{Arguments, millis};
use crate::check::{Warning, check};
use crate::connection::Connection;
use crate::error::{RedisQueueError, of_call};
use crate::functions::Function;
use crate::partition::{self, FIRST, Partition};
use crate::reading::Reader;
use crate::url::RedisUrl;
use crate::wake::Waker;

/// A queue on Redis. Clones share one connection.
#[derive(Clone)]
pub struct RedisQueue {
    pub(crate) connection: Connection,
    pub(crate) partitions: Arc<Vec<Partition>>,
    pub(crate) waker: Arc<Waker>,
    channel: Arc<str>,
    warnings: Arc<Vec<Warning>>,
    /// By how many milliseconds the clock of Redis is moved.
    shift: Arc<AtomicI64>,
    /// The partition with which the next claim begins.
    turn: Arc<AtomicUsize>,
}

impl RedisQueue {
    /// Connects to Redis, checks that it can hold a queue, and loads the functions.
    ///
    /// Must be called within a tokio runtime. With `rediss://` it makes ring the process's default provider of rustls, unless
    /// there is one.
    ///
    /// # Errors
    /// Fails if Redis cannot be reached, is too old, or would remove jobs when its memory is full.
    pub async fn connect(url: &RedisUrl) -> Result<Self, RedisQueueError> {
        let connection = Connection::open(url).await.map_err(RedisQueueError::Connect)?;
        let warnings = check(&connection).await?;
        connection.load().await.map_err(RedisQueueError::Connect)?;
        let channel: Arc<str> = format!("{}:1:wake", url.prefix).into();
        Ok(Self {
            waker: Arc::new(Waker::new(connection.clone(), url.nodes.clone(), Arc::clone(&channel))),
            connection,
            partitions: Arc::new(Partition::all(&url.prefix, url.partitions)),
            channel,
            warnings: Arc::new(warnings),
            shift: Arc::default(),
            turn: Arc::default(),
        })
    }

    /// What operators should know about this Redis.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Moves the queue's clock forward, for tests.
    #[doc(hidden)]
    pub fn advance(&self, by: Duration) {
        self.shift.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn arguments(&self) -> Arguments {
        Arguments::new(self.shift.load(Ordering::Relaxed), &self.channel)
    }

    pub(crate) async fn call<T: FromRedisValue>(
        &self,
        function: Function,
        partition: usize,
        arguments: &Arguments,
    ) -> Result<T, RedisError> {
        // The index comes from `partition_of`, or counts the partitions.
        let partition =
            self.partitions.get(partition).ok_or((redis::ErrorKind::Client, "no such partition"))?;
        self.connection.call(function, partition, arguments).await
    }

    pub(crate) fn partition_of(&self, lane: LaneId) -> usize {
        partition::of_lane(lane, self.partitions.len())
    }

    /// Splits a list by the partitions of its lanes.
    pub(crate) fn split<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        lane: impl Fn(&T) -> LaneId,
    ) -> HashMap<usize, Vec<T>> {
        let mut split: HashMap<usize, Vec<T>> = HashMap::new();
        for item in items {
            split.entry(self.partition_of(lane(&item))).or_default().push(item);
        }
        split
    }

    /// Asks all partitions.
    pub(crate) async fn ask_all(
        &self,
        function: Function,
        arguments: &Arguments,
    ) -> Result<Vec<Value>, QueueError> {
        let asked = (0..self.partitions.len()).map(|partition| self.call(function, partition, arguments));
        join_all(asked).await.into_iter().collect::<Result<_, _>>().map_err(of_call)
    }

    /// Claims up to `max` jobs of a partition.
    async fn claim_of(&self, partition: usize, claim: &Claim, max: u32) -> Result<Claimed, RedisError> {
        let mut arguments = self.arguments();
        arguments.id(claim.token.0).number(max).millis(claim.lease).number(claim.lane_concurrency);
        let skip: Vec<_> = claim.skip.iter().filter(|lane| self.partition_of(**lane) == partition).collect();
        arguments.number(skip.len());
        for lane in skip {
            arguments.id(lane.0);
        }
        for owner in &claim.skip_owners {
            arguments.text(owner);
        }
        let mut answer = Reader::of(self.call(Function::Claim, partition, &arguments).await?)?;
        let (more, full) = (answer.next::<u8>()? == 1, answer.next::<u64>()?);
        let opens_in = answer.duration()?;
        let jobs = answer.list()?.claimed(claim.token, 1)?;
        Ok(Claimed { jobs, more, blocked: full > 0, limits: HashMap::new(), opens_in })
    }
}

#[async_trait]
impl JobQueue for RedisQueue {
    async fn claim(&self, claim: &Claim) -> Result<Claimed, QueueError> {
        let count = self.partitions.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % count;
        let order: Vec<usize> = (0..count).map(|number| (first + number) % count).collect();
        let mut all = Claimed::default();
        let mut failed = None;
        // A fair part of each at first, and then what room is left, of those that have more.
        let part = claim.max.div_ceil(u32::try_from(count).unwrap_or(u32::MAX));
        let mut open = Vec::new();
        let mut left = claim.max;
        let parts = order.iter().map(|partition| {
            let most = part.min(left);
            left -= most;
            async move {
                (
                    *partition,
                    if most == 0 { None } else { Some(self.claim_of(*partition, claim, most).await) },
                )
            }
        });
        let parts: Vec<_> = parts.collect();
        for (partition, claimed) in join_all(parts).await {
            match claimed {
                None => open.push(partition),
                Some(Ok(claimed)) => {
                    if claimed.more {
                        open.push(partition);
                    }
                    join(&mut all, claimed);
                }
                Some(Err(error)) => failed = Some(error),
            }
        }
        all.more = false;
        for partition in open {
            let room = claim.max.saturating_sub(u32::try_from(all.jobs.len()).unwrap_or(u32::MAX));
            if room == 0 {
                all.more = true;
                break;
            }
            match self.claim_of(partition, claim, room).await {
                Ok(claimed) => {
                    let more = claimed.more;
                    join(&mut all, claimed);
                    all.more |= more;
                }
                Err(error) => failed = Some(error),
            }
        }
        // What one node does not answer, others may.
        match failed {
            Some(error) if all.jobs.is_empty() => Err(of_call(error)),
            _ => Ok(all),
        }
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<JobId>, QueueError> {
        let mut held = Vec::with_capacity(leases.len());
        for (partition, leases) in self.split(leases, |lease| lease.lane) {
            let mut arguments = self.arguments();
            arguments.millis(lease);
            for lease in leases {
                arguments.id(lease.token.0).id(lease.job.0);
            }
            let answer = self.call(Function::Extend, partition, &arguments).await.and_then(Reader::of);
            held.extend(answer.and_then(Reader::ids).map_err(of_call)?);
        }
        Ok(held)
    }

    async fn finish(&self, finished: &[(Lease, Finish)]) -> Result<Vec<JobId>, QueueError> {
        let mut held = Vec::with_capacity(finished.len());
        for (partition, finished) in self.split(finished, |(lease, _)| lease.lane) {
            let mut arguments = self.arguments();
            for (lease, finish) in finished {
                arguments.id(lease.token.0).id(lease.job.0);
                match finish {
                    Finish::Done | Finish::Bury => arguments.text("d"),
                    Finish::Release => arguments.text("r"),
                    Finish::RetryIn(delay) => arguments.millis(*delay),
                };
            }
            let answer = self.call(Function::Finish, partition, &arguments).await.and_then(Reader::of);
            held.extend(answer.and_then(Reader::ids).map_err(of_call)?);
        }
        Ok(held)
    }

    async fn promote(&self, max: u32) -> Result<Promoted, QueueError> {
        let mut promoted = Promoted::default();
        let first = self.turn.load(Ordering::Relaxed);
        for number in 0..self.partitions.len() {
            let mut arguments = self.arguments();
            let left = u64::from(max).saturating_sub(promoted.jobs);
            arguments.number(left);
            let partition = (first + number) % self.partitions.len();
            let mut answer = self
                .call(Function::Promote, partition, &arguments)
                .await
                .and_then(Reader::of)
                .map_err(of_call)?;
            promoted.jobs += answer.next::<u64>().map_err(of_call)?;
            let next = answer.duration().map_err(of_call)?;
            promoted.next_due_in = promoted.next_due_in.into_iter().chain(next).min();
        }
        Ok(promoted)
    }

    async fn rescue(&self, rescue: &Rescue) -> Result<Rescued, QueueError> {
        let mut rescued = Rescued::default();
        for partition in 0..self.partitions.len() {
            let found = rescued.returned.saturating_add(rescued.exhausted.len() as u64);
            let left = u64::from(rescue.max).saturating_sub(found);
            if left == 0 {
                break;
            }
            let mut arguments = self.arguments();
            arguments.number(left).number(rescue.max_rescues).id(rescue.token.0).millis(rescue.lease);
            let answer = self.call(Function::Rescue, partition, &arguments).await.and_then(Reader::of);
            let read =
                |mut answer: Reader| Ok((answer.next::<u64>()?, answer.list()?.claimed(rescue.token, 0)?));
            let (returned, exhausted) = answer.and_then(read).map_err(of_call)?;
            rescued.returned += returned;
            rescued.exhausted.extend(exhausted);
        }
        Ok(rescued)
    }

    /// Every worker serves all lanes, as Redis keeps their turns. The one that started first leads.
    async fn check_in(&self, worker: &CheckIn) -> Result<Duties, QueueError> {
        let mut arguments = self.arguments();
        arguments.id(worker.worker.0).text(&worker.host).text(&worker.version);
        arguments.number(worker.in_flight).millis(worker.lapse);
        let is_later: u8 = self.call(Function::CheckIn, FIRST, &arguments).await.map_err(of_call)?;
        Ok(Duties { leads: is_later == 0, ..Duties::default() })
    }

    async fn check_out(&self, worker: WorkerId) -> Result<(), QueueError> {
        let mut arguments = self.arguments();
        arguments.id(worker.0);
        self.call::<Value>(Function::CheckOut, FIRST, &arguments).await.map(drop).map_err(of_call)
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        let mut all = Depth::default();
        for answer in self.ask_all(Function::Depth, &self.arguments()).await? {
            let mut answer = Reader::of(answer).map_err(of_call)?;
            let mut number = || answer.next::<u64>().map_err(of_call);
            all.ready += number()?;
            all.scheduled += number()?;
            all.held += number()?;
            all.running += number()?;
            all.oldest_ready = all.oldest_ready.max(answer.duration().map_err(of_call)?);
        }
        Ok(all)
    }

    async fn longest_wait(&self, calm: Duration) -> Result<Option<Duration>, QueueError> {
        let mut arguments = self.arguments();
        arguments.number(millis(calm));
        let mut longest = None;
        for answer in self.ask_all(Function::LongestWait, &arguments).await? {
            let text = String::from_redis_value(answer).map_err(|error| of_call(error.into()))?;
            longest = longest.max(text.parse().ok().map(Duration::from_millis));
        }
        Ok(longest)
    }

    fn wake(&self, _lanes: &[LaneId]) {
        self.waker.wake();
    }

    fn wakeups(&self) -> Wakeups {
        self.waker.listen()
    }
}

/// Adds the claims of a partition to those of others. Whether there is more is the caller's to say.
fn join(all: &mut Claimed, claimed: Claimed) {
    all.jobs.extend(claimed.jobs);
    all.blocked |= claimed.blocked;
    all.opens_in = all.opens_in.into_iter().chain(claimed.opens_in).min();
}

impl fmt::Debug for RedisQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisQueue").field("partitions", &self.partitions.len()).finish_non_exhaustive()
    }
}
