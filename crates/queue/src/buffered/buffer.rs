//! What a service that holds messages must be able to do.

use std::time::Duration;

use async_trait::async_trait;

use crate::error::QueueError;
use crate::job::{JobId, NewJob};

/// A job on its way into a buffer.
#[derive(Clone, Copy, Debug)]
pub struct BufferedJob<'a> {
    /// The job. Its delay is not for the buffer.
    pub job: &'a NewJob,
    /// The jobs of its lane must come out in the order in which they went in.
    pub ordered: bool,
}

/// What removes a message that was taken. It means something to its buffer only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt(pub String);

/// A job that was taken out of a buffer, and stays in it, out of sight, until its message is removed.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The job.
    pub job: NewJob,
    /// What removes its message.
    pub receipt: Receipt,
    /// How long it has waited.
    pub waited: Duration,
}

/// A service that holds messages: it gives each to one taker at a time, at least once, and lets it be removed.
///
/// It need not know of lanes, delays, limits or leases. Messages that are taken and not removed come back within a minute.
#[async_trait]
pub trait Buffer: std::fmt::Debug + Send + Sync + 'static {
    /// Whether it keeps the order of lanes. If not, jobs of ordered lanes are not put into it.
    fn keeps_order(&self) -> bool;

    /// Puts jobs in. Returns those that it will never take; what those before them in an ordered lane are not, these are not
    /// either.
    ///
    /// # Errors
    /// Fails if the buffer is unavailable. Some jobs may be in it all the same.
    async fn put(&self, jobs: &[BufferedJob<'_>]) -> Result<Vec<JobId>, QueueError>;

    /// From how many sources jobs are taken side by side.
    fn sources(&self) -> usize;

    /// Takes a few jobs from a source. Waits for some seconds if there are none, and then returns none.
    ///
    /// # Errors
    /// Fails if the buffer is unavailable. Jobs may have been taken all the same; they come back.
    async fn take(&self, source: usize) -> Result<Vec<Taken>, QueueError>;

    /// Removes messages that were taken from a source.
    ///
    /// # Errors
    /// Fails if the buffer is unavailable. Some messages may have been removed all the same; the others come back.
    async fn remove(&self, source: usize, receipts: &[Receipt]) -> Result<(), QueueError>;

    /// About how many messages wait.
    ///
    /// # Errors
    /// Fails if the buffer is unavailable.
    async fn waiting(&self) -> Result<u64, QueueError>;

    /// What changes when the buffer may have lost messages, and from time to time if it keeps them for a limited time.
    ///
    /// # Errors
    /// Fails if the buffer is unavailable.
    async fn run(&self) -> Result<String, QueueError>;
}
