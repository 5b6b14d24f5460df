//! The dispatcher.

use std::sync::Arc;

use postrider_core::{AgentId, SubscriberId};
use postrider_store::Store;
use postrider_telemetry::label::BoundedLabel;
use sea_orm::DatabaseTransaction;

use crate::commit::{Prepared, commit, write};
use crate::error::DispatchError;
use crate::event::{Dispatched, NewEvent};
use crate::flush::Flushers;
use crate::known::Known;
use crate::transform::Transforms;

/// How a dispatcher works.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who emits an event that does not say.
    pub default_agent: AgentId,
    /// How many batches may be committed at once: 1 to 16. More overlap their waits for the disk,
    /// fewer make larger batches.
    pub flushers: usize,
    /// How many events may wait for a batch before callers wait for room.
    pub waiting: usize,
    /// What changes an event's data before it is stored.
    pub transforms: Transforms,
}

impl Default for Config {
    fn default() -> Self {
        Self { default_agent: AgentId::default(), flushers: 2, waiting: 4096, transforms: Transforms::new() }
    }
}

/// Takes events in. Cheap to clone; clones share transactions.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    shared: Arc<Shared>,
    flushers: Flushers,
}

/// What every dispatch needs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) default_agent: AgentId,
    pub(crate) labels: BoundedLabel,
    pub(crate) transforms: Transforms,
    pub(crate) known: Known,
}

impl Dispatcher {
    /// The most events that one call of [`Dispatcher::dispatch_batch`] writes in one transaction.
    pub const MAX_BATCH: usize = 1000;

    /// A dispatcher over `store`. Must be called within a tokio runtime.
    pub fn new(store: Store, config: Config) -> Self {
        let shared = Arc::new(Shared {
            store,
            default_agent: config.default_agent,
            labels: BoundedLabel::default(),
            transforms: config.transforms,
            known: Known::default(),
        });
        let flushers = Flushers::start(&shared, config.flushers.clamp(1, 16), config.waiting.max(1));
        Self { shared, flushers }
    }

    /// Dispatches an event, and returns when it is durable.
    ///
    /// # Errors
    /// If its key was used for another event, a hook failed, or the store is away. Nothing of it is
    /// stored then.
    pub async fn dispatch(&self, event: NewEvent) -> Result<Dispatched, DispatchError> {
        self.flushers.dispatch(Prepared::new(&self.shared, event)).await
    }

    /// Dispatches an event to one subscriber of its tenant's, whatever that asked for, and returns
    /// when it is durable. If the subscriber is not active the delivery ends `cancelled`.
    ///
    /// # Errors
    /// As those of [`Dispatcher::dispatch`].
    pub async fn dispatch_to(
        &self,
        subscriber: SubscriberId,
        event: NewEvent,
    ) -> Result<Dispatched, DispatchError> {
        self.flushers.dispatch(Prepared::new(&self.shared, event).only_to(subscriber)).await
    }

    /// Dispatches events, in order, and returns when they are durable. Each has a result of its own.
    ///
    /// Up to [`Dispatcher::MAX_BATCH`] of them are one transaction: if the store fails, all of those fail.
    pub async fn dispatch_batch(&self, events: Vec<NewEvent>) -> Vec<Result<Dispatched, DispatchError>> {
        let mut results = Vec::with_capacity(events.len());
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let batch: Vec<_> = events.by_ref().take(Self::MAX_BATCH).collect();
            let batch: Vec<_> = batch.into_iter().map(|event| Prepared::new(&self.shared, event)).collect();
            results.extend(commit(&self.shared, &batch).await);
        }
        results
    }

    /// Dispatches an event when `transaction`, the caller's own, commits; if it rolls back, nothing
    /// has happened.
    ///
    /// Call [`Dispatcher::wake`] after the commit, or workers find the jobs with their next poll.
    /// Hooks run before anything is written. Locks of the counters that the event adds to are held until
    /// the transaction ends, so let it be short. On SQLite, begin it with
    /// [`Database::begin`](postrider_database::Database::begin), which takes the write lock at once: a
    /// transaction that has read before it writes can be refused there.
    ///
    /// # Errors
    /// If the event's key was used for another event, a hook failed, or the store is away. After an
    /// error of the store the transaction must be rolled back; after the others it goes on, without
    /// the event.
    pub async fn dispatch_in(
        &self,
        transaction: &DatabaseTransaction,
        event: NewEvent,
    ) -> Result<Dispatched, DispatchError> {
        let prepared = Prepared::new(&self.shared, event);
        let mut results = write(&self.shared, transaction, &[prepared]).await?;
        results.pop().unwrap_or(Err(DispatchError::Closed))
    }

    /// Tells workers that there may be something to do.
    pub fn wake(&self) {
        self.shared.store.queue().wake();
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }
}
