//! The store's error type.

use postrider_core::keyring::KeyringError;
use postrider_database::DatabaseError;
use postrider_queue::QueueError;
use sea_orm::DbErr;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database failed, or holds a value that the program cannot read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A secret could not be encrypted or decrypted; probably the keyring lacks its key.
    #[error("cannot encrypt or decrypt a stored secret")]
    Keyring(#[from] KeyringError),
    /// A repeat of the request, with the same idempotency key, carries it out. This one has changed nothing.
    #[error("another request with the same idempotency key has taken over")]
    TakenOver,
    /// Another subscriber of the tenant has the uid.
    #[error("another subscriber of the tenant has this uid")]
    UidTaken,
    /// As many tenants as may have an egress proxy have one.
    #[error("10,000 tenants have an egress proxy, which is the most that there may be")]
    TooManyProxies,
    /// No plugin has the name that a subscriber is to use.
    #[error("no plugin of this name is installed")]
    PluginMissing,
}

impl StoreError {
    /// Returns whether the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Database(error) => error.is_unavailable(),
            Self::Queue(error) => error.is_unavailable(),
            Self::Keyring(_)
            | Self::TakenOver
            | Self::UidTaken
            | Self::TooManyProxies
            | Self::PluginMissing => false,
        }
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        Self::Database(error.into())
    }
}
