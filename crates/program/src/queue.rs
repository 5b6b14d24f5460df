//! The queue that the settings name.

use std::sync::Arc;

use postrider_database::Database;
use postrider_queue::TransactionalQueue;
use postrider_settings::QueueArgs;

/// Why the queue that the settings name cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueUrlError {
    /// The URL is of no queue that this program knows.
    #[error(
        "POSTRIDER_QUEUE_URL must begin with redis://, rediss://, redis+cluster://, rediss+cluster:// or sqs://"
    )]
    Scheme,
    /// This program was built without the queue.
    #[error("this program was built without the feature {0}, which POSTRIDER_QUEUE_URL needs")]
    NotBuilt(&'static str),
    /// The URL is malformed.
    #[cfg(feature = "redis")]
    #[error("POSTRIDER_QUEUE_URL")]
    Redis(#[from] postrider_queue_redis::RedisUrlError),
    /// Redis cannot be used.
    #[cfg(feature = "redis")]
    #[error("cannot use {url}")]
    RedisQueue {
        /// The URL without its password.
        url: postrider_queue_redis::RedisUrl,
        /// What is wrong.
        source: postrider_queue_redis::RedisQueueError,
    },
    /// The URL is malformed.
    #[cfg(feature = "sqs")]
    #[error("POSTRIDER_QUEUE_URL")]
    Sqs(#[from] postrider_queue_sqs::SqsUrlError),
    /// SQS cannot be used.
    #[cfg(feature = "sqs")]
    #[error("cannot use {url}")]
    SqsQueue {
        /// The URL.
        url: Box<postrider_queue_sqs::SqsUrl>,
        /// What is wrong.
        source: postrider_queue_sqs::SqsError,
    },
}

/// Opens the queue that the settings name: the one in the database, or one outside that is filled through the database.
///
/// Must be called within a tokio runtime.
///
/// # Errors
/// Fails if the URL is malformed, or the queue is unavailable or cannot hold jobs.
pub async fn open_queue(
    database: &Database,
    args: &QueueArgs,
) -> Result<Arc<dyn TransactionalQueue>, QueueUrlError> {
    let Some(url) = args.url() else { return Ok(postrider_queue::open(database)) };
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    match scheme {
        "redis" | "rediss" | "redis+cluster" | "rediss+cluster" => open_redis(database, url).await,
        "sqs" => open_sqs(database, url).await,
        _ => Err(QueueUrlError::Scheme),
    }
}

#[cfg(feature = "redis")]
async fn open_redis(database: &Database, url: &str) -> Result<Arc<dyn TransactionalQueue>, QueueUrlError> {
    use postrider_queue::OutboxQueue;
    use postrider_queue_redis::{RedisQueue, RedisUrl};

    let url = RedisUrl::parse(url)?;
    let opened = RedisQueue::connect(&url).await;
    let queue = opened.map_err(|source| QueueUrlError::RedisQueue { url: url.clone(), source })?;
    for warning in queue.warnings() {
        tracing::warn!(queue = %url, "{warning}");
    }
    tracing::info!(queue = %url, "the queue is outside the database");
    Ok(Arc::new(OutboxQueue::new(database.clone(), Arc::new(queue))))
}

#[cfg(not(feature = "redis"))]
#[allow(clippy::unused_async, reason = "the other form is asynchronous")]
async fn open_redis(_: &Database, _: &str) -> Result<Arc<dyn TransactionalQueue>, QueueUrlError> {
    Err(QueueUrlError::NotBuilt("redis"))
}

#[cfg(feature = "sqs")]
async fn open_sqs(database: &Database, url: &str) -> Result<Arc<dyn TransactionalQueue>, QueueUrlError> {
    use postrider_queue::BufferedQueue;
    use postrider_queue_sqs::{SqsBuffer, SqsUrl};

    let url = SqsUrl::parse(url)?;
    let opened = SqsBuffer::connect(&url).await;
    let buffer = opened.map_err(|source| QueueUrlError::SqsQueue { url: Box::new(url.clone()), source })?;
    for warning in buffer.warnings() {
        tracing::warn!(queue = %url, "{warning}");
    }
    tracing::info!(queue = %url, "jobs wait on SQS until workers have room for them");
    Ok(Arc::new(BufferedQueue::new(database.clone(), Arc::new(buffer))))
}

#[cfg(not(feature = "sqs"))]
#[allow(clippy::unused_async, reason = "the other form is asynchronous")]
async fn open_sqs(_: &Database, _: &str) -> Result<Arc<dyn TransactionalQueue>, QueueUrlError> {
    Err(QueueUrlError::NotBuilt("sqs"))
}
