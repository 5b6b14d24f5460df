//! What went wrong in the store.

use postrider_core::keyring::KeyringError;
use postrider_database::DatabaseError;
use postrider_queue::QueueError;
use sea_orm::DbErr;

/// What went wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database's.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The queue's.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A secret could not be sealed or opened: is it the right key?
    #[error("a stored secret cannot be read or written: {0}")]
    Keyring(#[from] KeyringError),
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Database(error) => error.is_unavailable(),
            Self::Queue(error) => error.is_unavailable(),
            Self::Keyring(_) => false,
        }
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        Self::Database(error.into())
    }
}
