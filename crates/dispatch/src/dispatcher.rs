//! [`Dispatcher`]: takes events and commits them with their deliveries and jobs.

use std::sync::Arc;

use postrider_core::SubscriberId;
use postrider_database::InTransaction;
use postrider_store::Store;
use postrider_store::intake::Sift;
use postrider_telemetry::label::BoundedLabel;

use crate::commit::{Prepared, commit, write_in};
use crate::config::{Config, ConfigError};
use crate::error::DispatchError;
use crate::event::{Dispatched, NewEvent};
use crate::fan_out::FanOuts;
use crate::filters::Filters;
use crate::flush::Flushers;
use crate::shared::Shared;
use crate::subscriber_cache::SubscriberCache;

/// Takes events. Cheap to clone; clones share transactions.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    shared: Arc<Shared>,
    flushers: Flushers,
}

impl Dispatcher {
    /// The most events that [`Dispatcher::dispatch_batch`] prepares at once. Their deliveries are written 5,000 at a time.
    pub const MAX_BATCH: usize = 1000;

    /// Creates a dispatcher over `store`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Fails if a value of the configuration is out of bounds.
    pub fn new(store: Store, config: Config) -> Result<Self, ConfigError> {
        config.validate()?;
        let database = store.database().apart_from_api();
        let store = store.over(database);
        let filters = Filters::default();
        let fan_outs = FanOuts::start(&store, &filters);
        let shared = Arc::new(Shared {
            store,
            fan_outs,
            default_agent: config.default_agent,
            labels: BoundedLabel::default(),
            transforms: config.transforms,
            subscribers: SubscriberCache::default(),
            filters,
        });
        let flushers = Flushers::start(&shared, config.flushers, config.waiting);
        Ok(Self { shared, flushers })
    }

    /// Dispatches an event, and returns when it is durable.
    ///
    /// An event with more than a hundred subscribers is durable before its deliveries are made, which takes seconds. Any
    /// process with a dispatcher or a worker over the same database goes on with that if this one ends.
    ///
    /// # Errors
    /// Fails if the event's key was used for another event, a hook failed, or the store is unavailable. If the store is
    /// unavailable, the event may be stored all the same; otherwise nothing of it is.
    pub async fn dispatch(&self, event: NewEvent) -> Result<Dispatched, DispatchError> {
        self.flushers.dispatch(Prepared::new(&self.shared, event)).await
    }

    /// Dispatches an event to one subscriber of its tenant, whatever the subscriber's patterns say, and returns when
    /// it is durable. If the subscriber is inactive the delivery ends `cancelled`.
    ///
    /// # Errors
    /// As [`Dispatcher::dispatch`].
    pub async fn dispatch_to(
        &self,
        subscriber: SubscriberId,
        event: NewEvent,
    ) -> Result<Dispatched, DispatchError> {
        self.flushers.dispatch(Prepared::new(&self.shared, event).only_to(subscriber)).await
    }

    /// Dispatches events, in order, and returns when they are durable. Each has a result of its own: events with few
    /// subscribers share transactions of up to 5,000 deliveries, and one of these may fail after another has succeeded.
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

    /// Dispatches an event as part of the caller's own transaction: it exists if `transaction` commits.
    ///
    /// Call [`Dispatcher::wake`] after the commit; without it, workers find the jobs at their next poll, and begin with
    /// the deliveries of an event with more than a hundred subscribers some seconds later. Hooks run
    /// before anything is written. The event's counters stay locked until the transaction ends, so keep it short. On
    /// SQLite, begin it with [`Database::begin`](postrider_database::Database::begin), which takes the write lock at
    /// once: SQLite can refuse the write of a transaction that has read before.
    ///
    /// # Errors
    /// Fails if the event's key was used for another event, a hook failed, or the store is unavailable. After an error
    /// of the store the transaction must be rolled back; after the others it can go on, without the event.
    pub async fn dispatch_in(
        &self,
        transaction: &impl InTransaction,
        event: NewEvent,
    ) -> Result<Dispatched, DispatchError> {
        let prepared = Prepared::new(&self.shared, event);
        write_in(&self.shared, transaction, &prepared).await?
    }

    /// Hints to workers that jobs may be ready, and begins to make those of events with many subscribers.
    pub fn wake(&self) {
        self.shared.store.queue().wake(&[]);
        self.resume_fan_outs();
    }

    /// Makes the deliveries of events with many subscribers that are stored without them: in the background, until none
    /// is left. Needed only if the process that stored them may have died.
    pub fn resume_fan_outs(&self) {
        self.shared.fan_outs.wake();
    }

    /// Returns what asks the filters of subscribers about stored events, for replays of missed events.
    pub fn filters(&self) -> &dyn Sift {
        &self.shared.filters
    }

    /// Returns the store that events are written to.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }
}
