//! Postrider's job queue on Redis 7, Valkey 8, or a cluster of either.
//!
//! [`RedisQueue`] keeps every rule of [`postrider_queue::JobQueue`]: fenced leases, limits that are exact over all workers,
//! fair turns of owners and lanes, rates, pauses and order. It runs as a library of Redis functions, so that each call is
//! atomic and takes one round trip. It is a [`RemoteQueue`](postrider_queue::RemoteQueue): it cannot take part in a
//! transaction of a database, and may lose what Redis loses. The store fills it through an outbox, and again from its
//! deliveries after a loss.
//!
//! ```no_run
//! use std::time::Duration;
//! use postrider_queue::{Claim, Finish, JobId, JobQueue, JobSink, LaneId, LeaseToken, NewJob};
//! use postrider_queue_redis::{RedisQueue, RedisUrl};
//! use uuid::Uuid;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let queue = RedisQueue::connect(&RedisUrl::parse("redis://127.0.0.1:6379/0?prefix=shop")?).await?;
//! queue.enqueue(&[NewJob::now(JobId(Uuid::from_u128(1)), LaneId(Uuid::from_u128(7)), "acme", Uuid::from_u128(42))]).await?;
//! let claimed = queue.claim(&Claim::new(LeaseToken(Uuid::from_u128(99)), 10, Duration::from_secs(90))).await?;
//! for job in &claimed.jobs {
//!     // … do what `job.subject` names …
//!     queue.finish(&[(job.lease, Finish::Done)]).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Partitions
//!
//! Lanes are spread over partitions by a hash of their ids; there is one partition unless the URL says otherwise. The keys of a
//! partition share a hash tag, so a cluster keeps them on one node, and more partitions use more nodes. Turns are fair within
//! a partition, and each partition gets an equal part of a claim first. The number of partitions must stay the same for as
//! long as the queue has jobs.
//!
//! # Versions
//!
//! The functions' names end in a checksum of their code. A program loads its own when it starts, and again when Redis has
//! lost them, so programs of two versions can run at once.

mod arguments;
mod check;
mod connection;
mod control;
mod error;
mod functions;
mod partition;
mod queue;
mod reading;
mod url;
mod wake;

pub use check::Warning;
pub use error::RedisQueueError;
pub use queue::RedisQueue;
pub use url::{RedisUrl, RedisUrlError};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
