//! A job queue with lanes and fenced leases.
//!
//! A *job* names its subject, such as a delivery, and nothing more. It is in a *lane*. The lane's properties (how many
//! jobs run at once, a rate, a pause, strict order) decide when its jobs can be claimed, and do not affect other lanes. A
//! worker *claims* jobs for the duration of a *lease* and names the lease's token in every later call, so that a worker
//! that has lost its lease changes nothing.
//!
//! | trait | what it is for |
//! |---|---|
//! | [`JobQueue`] | the worker's half: claim, extend, finish, promote, rescue, measure, wake |
//! | [`LaneControl`] | limits and pauses of lanes |
//! | [`JobSink`] | enqueues jobs outside any transaction |
//! | [`QueueReads`] | what people see: the workers, and the lanes in which jobs wait |
//! | [`Queue`] | all four; what the suite behind the feature `conformance` tests |
//! | [`TransactionalQueue`] | a queue in the store's own database, which joins the caller's transactions |
//!
//! [`PostgresQueue`] and [`SqliteQueue`] are transactional queues over tables of the same shape. A queue that lives
//! elsewhere implements the first four traits and [`RemoteQueue`]; an [`OutboxQueue`] makes it transactional. A service that
//! only holds messages implements [`Buffer`]; a [`BufferedQueue`] keeps there what no worker has room for, and the rest in
//! the tables.
//!
//! ```no_run
//! use std::time::Duration;
//! use postrider_database::{Config, Database};
//! use postrider_queue::{
//!     Claim, Finish, JobId, JobQueue, JobSink, LaneId, LeaseToken, NewJob, PostgresQueue,
//! };
//! use uuid::Uuid;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let database = Database::connect(Config::new("postgres://localhost/app".parse()?)).await?;
//! let queue = PostgresQueue::new(database);
//!
//! queue.enqueue(&[NewJob::now(JobId(Uuid::from_u128(1)), LaneId(Uuid::from_u128(7)), "acme", Uuid::from_u128(42))]).await?;
//! let claimed = queue.claim(&Claim::new(LeaseToken(Uuid::from_u128(99)), 10, Duration::from_secs(90))).await?;
//! for job in &claimed.jobs {
//!     // … do what `job.subject` names …
//!     queue.finish(&[(job.lease, Finish::Done)]).await?;
//! }
//! # Ok(())
//! # }
//! ```

mod adopt;
mod buffered;
mod check_in;
mod claiming;
mod drain;
mod enqueue;
mod error;
mod hold;
mod job;
mod join;
mod lane;
mod lanes;
mod measure;
mod outbox;
mod postgres;
mod queue;
mod remote;
mod search;
mod sqlite;
mod tables;
mod transactional;
mod turns;
mod view;
mod wake;
mod workers;

#[cfg(feature = "conformance")]
pub mod conformance;

use std::sync::Arc;

use postrider_database::{Database, Dialect};

pub use buffered::{Buffer, BufferedJob, BufferedQueue, Receipt, Taken};
pub use error::QueueError;
pub use job::{
    CheckIn, Claim, Claimed, ClaimedJob, Depth, Draining, Duties, Finish, Hold, JobId, LaneId, LaneRate,
    LaneSettings, Lease, LeaseToken, NewJob, Place, Promoted, Rescue, Rescued, WaitingJob, WorkerId,
};
pub use join::{Join, Joined, Reads};
pub use outbox::OutboxQueue;
pub use postgres::PostgresQueue;
pub use queue::{JobQueue, JobSink, LaneControl, Queue, QueueReads};
pub use remote::{Backlog, Fillable, Finished, Identity, LaneHolds, LaneState, Relayed, RemoteQueue};
pub use sqlite::SqliteQueue;
pub use transactional::TransactionalQueue;
pub use view::{LaneCursor, LaneOrder, LanePage, LanePause, LaneQuery, LaneStatus, WorkerStatus};
pub use wake::{Bell, Wakeups};

/// Opens the queue in the tables of `database`.
///
/// Must be called within a tokio runtime.
pub fn open(database: &Database) -> Arc<dyn TransactionalQueue> {
    match database.dialect() {
        Dialect::Postgres => Arc::new(PostgresQueue::new(database.clone())),
        Dialect::Sqlite => Arc::new(SqliteQueue::new(database.clone())),
    }
}

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
