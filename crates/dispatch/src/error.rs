//! Why an event was not dispatched.

use std::sync::Arc;

use postrider_core::event::{EventDataError, EventTypeError};
use postrider_store::StoreError;

/// Why a [`NewEvent`](crate::NewEvent) could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NewEventError {
    /// The event type is invalid.
    #[error(transparent)]
    Type(#[from] EventTypeError),
    /// The data cannot be the data of an event.
    #[error(transparent)]
    Data(#[from] EventDataError),
}

/// Why an event was not dispatched, as far as is known. After [`DispatchError::Store`] it may be stored all the same; after
/// the others it is not.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DispatchError {
    /// The idempotency key was used before, for another request.
    #[error("the idempotency key was used for another request; use a new key for a new event")]
    KeyConflict,
    /// More subscribers than an event can have deliveries ([`EventId::MAX_DELIVERIES`](postrider_core::EventId)).
    #[error("the event has more than {} subscribers", postrider_core::EventId::MAX_DELIVERIES)]
    TooManySubscribers,
    /// A hook or a configured transform does not fit the event's data.
    #[error("the hook `{name}` failed")]
    Hook {
        /// The hook's name; for a configured transform, its place in the settings.
        name: Box<str>,
        /// The hook's own error.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A hook panicked.
    #[error("the hook `{name}` panicked")]
    HookPanicked {
        /// The hook's name.
        name: Box<str>,
    },
    /// The store failed, or did not answer in time. Events that were written together share the error.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// The dispatcher is shutting down, or its tokio runtime has ended.
    #[error("the dispatcher is shutting down; send the event again to a running one")]
    Closed,
}

impl DispatchError {
    /// Returns whether the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::KeyConflict | Self::TooManySubscribers | Self::Hook { .. } | Self::HookPanicked { .. } => {
                false
            }
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
