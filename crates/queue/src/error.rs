//! Errors of a queue, and whether the same call may succeed later.

use postrider_database::DatabaseError;

/// An error of a queue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The database that holds the queue is unavailable or refused a statement.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A queue outside the database cannot be reached. The same call may succeed later.
    #[error("the queue is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A queue outside the database rejected a call. The same call will fail again.
    #[error("the queue refused a call")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl QueueError {
    /// Returns whether the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Database(error) => error.is_unavailable(),
            Self::Unavailable(_) => true,
            Self::Refused(_) => false,
        }
    }
}
