//! What functions return.

use std::time::Duration;

use postrider_queue::{ClaimedJob, JobId, LaneId, Lease, LeaseToken, Place, WaitingJob};
use redis::{ErrorKind, FromRedisValue, ParsingError, RedisError, Value};
use uuid::Uuid;

/// The bytes of a packed job before its owner and its trace; see `pack_job` in `state.lua`.
const FIXED: usize = 16 + 16 + 8 + 8 + 4 + 4 + 1 + 2;

/// A list of values that is read from its beginning.
pub(crate) struct Reader(std::vec::IntoIter<Value>);

impl Reader {
    pub(crate) fn of(value: Value) -> Result<Self, RedisError> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            _ => Err(unexpected("a list")),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    pub(crate) fn next<T: FromRedisValue>(&mut self) -> Result<T, RedisError> {
        let value = self.0.next().ok_or_else(|| unexpected("another value"))?;
        T::from_redis_value(value).map_err(|error: ParsingError| RedisError::from(error))
    }

    pub(crate) fn list(&mut self) -> Result<Self, RedisError> {
        Self::of(self.next()?)
    }

    pub(crate) fn id(&mut self) -> Result<Uuid, RedisError> {
        let bytes: Vec<u8> = self.next()?;
        Uuid::from_slice(&bytes).map_err(|_| unexpected("an id of 16 bytes"))
    }

    /// Milliseconds, or an empty text.
    pub(crate) fn duration(&mut self) -> Result<Option<Duration>, RedisError> {
        let text: String = self.next()?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(|millis| Some(Duration::from_millis(millis))).map_err(|_| unexpected("milliseconds"))
    }

    /// Ids until the end.
    pub(crate) fn ids(mut self) -> Result<Vec<JobId>, RedisError> {
        let mut ids = Vec::with_capacity(self.0.len());
        while !self.is_empty() {
            ids.push(JobId(self.id()?));
        }
        Ok(ids)
    }

    /// Jobs that are leased now, until the end. `claims` are those that Redis has not counted yet.
    pub(crate) fn claimed(
        mut self,
        token: LeaseToken,
        uncounted: u32,
    ) -> Result<Vec<ClaimedJob>, RedisError> {
        let mut jobs = Vec::with_capacity(self.0.len() / 3);
        while !self.is_empty() {
            let (id, owner, packed) = (JobId(self.id()?), self.next()?, self.next::<Vec<u8>>()?);
            let job = Packed::read(&packed, owner).ok_or_else(|| unexpected("a job"))?;
            jobs.push(ClaimedJob {
                lease: Lease { job: id, token, lane: job.lane, place: Place::default() },
                owner: job.owner,
                subject: job.subject,
                claims: job.claims.saturating_add(uncounted),
                rescues: job.rescues,
                trace: job.trace,
            });
        }
        Ok(jobs)
    }

    /// Jobs that wait, until the end.
    pub(crate) fn waiting(mut self) -> Result<Vec<WaitingJob>, RedisError> {
        let mut jobs = Vec::with_capacity(self.0.len() / 4);
        while !self.is_empty() {
            let (id, owner, packed) = (JobId(self.id()?), self.next()?, self.next::<Vec<u8>>()?);
            let due = self.next::<u8>()? == 1;
            let job = Packed::read(&packed, owner).ok_or_else(|| unexpected("a job"))?;
            jobs.push(WaitingJob {
                id,
                owner: job.owner,
                subject: job.subject,
                place: Place::default(),
                due,
            });
        }
        Ok(jobs)
    }
}

struct Packed {
    lane: LaneId,
    subject: Uuid,
    claims: u32,
    rescues: u32,
    owner: String,
    trace: Option<String>,
}

impl Packed {
    /// Reads a job, whose owner is the given one unless it names another.
    fn read(bytes: &[u8], lane_owner: String) -> Option<Self> {
        let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let owner_length = usize::from(u16::from_be_bytes(bytes.get(FIXED - 2..FIXED)?.try_into().ok()?));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let owner = text(bytes.get(FIXED..FIXED + owner_length)?);
        let trace = text(bytes.get(FIXED + owner_length..)?);
        Some(Self {
            lane: LaneId(Uuid::from_slice(bytes.get(..16)?).ok()?),
            subject: Uuid::from_slice(bytes.get(16..32)?).ok()?,
            claims: number(48)?,
            rescues: number(52)?,
            owner: if owner.is_empty() { lane_owner } else { owner },
            trace: Some(trace).filter(|trace| !trace.is_empty()),
        })
    }
}

fn unexpected(expected: &'static str) -> RedisError {
    (ErrorKind::UnexpectedReturnType, "unexpected answer", format!("expected {expected}")).into()
}
