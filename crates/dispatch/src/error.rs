//! Why an event was not dispatched.

use std::sync::Arc;

use postrider_core::event::{EventDataError, EventTypeError};
use postrider_store::StoreError;

/// Why something is no event.
#[derive(Debug, thiserror::Error)]
pub enum NewEventError {
    /// Its type.
    #[error(transparent)]
    Type(#[from] EventTypeError),
    /// Its data.
    #[error(transparent)]
    Data(#[from] EventDataError),
}

/// Why an event was not dispatched. Nothing of it is stored then.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DispatchError {
    /// The idempotency key was used before, for another request.
    #[error("the idempotency key was used for another request; use a new key for a new event")]
    KeyConflict,
    /// A hook or a configured transform failed, or panicked.
    #[error("the hook `{name}` failed: {source}")]
    Hook {
        /// Its name; of a configured transform, its place in the settings.
        name: Box<str>,
        /// What it said. Of a panic, only that it was one.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The store's. Shared by all events of a batch.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// The dispatcher is shutting down, or was never able to run.
    #[error("the dispatcher is shutting down")]
    Closed,
}

impl DispatchError {
    /// Whether the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::KeyConflict | Self::Hook { .. } => false,
            Self::Store(error) => error.is_unavailable(),
            Self::Closed => true,
        }
    }
}

impl From<StoreError> for DispatchError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}
