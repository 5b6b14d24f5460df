//! Errors of connecting, and those of calls as the queue's trait names them.

use postrider_queue::QueueError;
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why a queue on Redis cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisQueueError {
    /// It cannot be reached, or refuses the account.
    #[error("cannot connect to Redis")]
    Connect(#[source] RedisError),
    /// It is too old.
    #[error("Redis {0} is too old: Postrider needs Redis 7.0 or Valkey 7.2 and later")]
    Version(String),
    /// It would remove jobs when its memory is full.
    #[error(
        "Redis removes keys when its memory is full (maxmemory-policy {0}); set maxmemory-policy noeviction"
    )]
    Evicts(String),
}

/// An error of a call, as the queue's trait names it.
pub(crate) fn of_call(error: RedisError) -> QueueError {
    if is_refused(&error) {
        QueueError::Refused(Box::new(error))
    } else {
        QueueError::Unavailable(Box::new(error))
    }
}

/// Returns whether the same call will fail again: its text is wrong, not its moment.
fn is_refused(error: &RedisError) -> bool {
    // Memory that is short, and a server that loads its data or has lost its master, are a matter of time.
    matches!(
        error.kind(),
        ErrorKind::Parse
            | ErrorKind::UnexpectedReturnType
            | ErrorKind::InvalidClientConfig
            | ErrorKind::Server(ServerErrorKind::CrossSlot)
    )
}
