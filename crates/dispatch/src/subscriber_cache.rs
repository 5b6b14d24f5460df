//! The subscribers last found for each event type, so that most events are written without a query before.
//!
//! The cache may be stale. The statement that writes an event also checks that the cached list still holds, filters included,
//! and writes nothing if it does not. That an event type has many subscribers is checked by counting them.
//!
//! Only what events without channels find is cached. There may be as many channels as an application has customers, and each
//! would take the place of an event type.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postrider_core::{EventType, TenantId};
use postrider_store::intake::{Audience, Match};

/// An event type of one tenant.
pub(crate) type TenantEventType = (TenantId, EventType);

/// What the events of a batch ask for, each once.
pub(crate) struct Distinct<T> {
    pub(crate) distinct: Vec<T>,
    /// For each event of the batch, the index in `distinct` of what it asks for.
    pub(crate) indexes: Vec<usize>,
}

/// The event types of a batch.
pub(crate) type EventTypes = Distinct<TenantEventType>;

impl<T: Clone + Eq + Hash> Distinct<T> {
    pub(crate) fn of(asked: impl Iterator<Item = T>) -> Self {
        let mut distinct: Vec<T> = Vec::new();
        let mut seen: HashMap<T, usize> = HashMap::new();
        let indexes = asked.map(|asked| {
            *seen.entry(asked).or_insert_with_key(|new| {
                distinct.push(new.clone());
                distinct.len() - 1
            })
        });
        let indexes = indexes.collect();
        Self { distinct, indexes }
    }
}

/// How many event types the cache holds. When it is full it is emptied; the types in use soon return.
const MAX_EVENT_TYPES: usize = 1024;

/// Of longer lists only the length is cached: comparing them costs more than a query.
const MAX_SUBSCRIBERS: usize = 64;

/// Batches with more event types than this do not use the cache, for the same reason.
const MAX_TYPES_PER_BATCH: usize = 8;

#[derive(Clone, Debug)]
enum Cached {
    Listed(Arc<[Match]>),
    /// Few, but too many to list.
    Counted(usize),
    Many,
}

#[derive(Debug, Default)]
pub(crate) struct SubscriberCache(Mutex<HashMap<TenantEventType, Cached>>);

impl SubscriberCache {
    /// Returns the subscribers of each of these event types, `None` for a type that has many; or `None` if one of them is
    /// not cached.
    pub(crate) fn get(&self, event_types: &[TenantEventType]) -> Option<Vec<Option<Arc<[Match]>>>> {
        if event_types.len() > MAX_TYPES_PER_BATCH {
            return None;
        }
        let cached = self.lock();
        let found = event_types.iter().map(|event_type| match cached.get(event_type)? {
            Cached::Listed(found) => Some(Some(Arc::clone(found))),
            Cached::Many => Some(None),
            Cached::Counted(_) => None,
        });
        found.collect()
    }

    /// Returns how many deliveries an event of this type is likely to be written with.
    pub(crate) fn expected_deliveries(&self, event_type: &TenantEventType) -> usize {
        match self.lock().get(event_type) {
            Some(Cached::Listed(found)) => found.len(),
            Some(Cached::Counted(count)) => *count,
            Some(Cached::Many) | None => 0,
        }
    }

    /// Caches the subscribers that a query has found for each of these event types; `None` for a type that has many.
    pub(crate) fn insert(&self, event_types: &[TenantEventType], found: &[Option<Arc<[Match]>>]) {
        self.put(event_types, found.iter().map(|found| found.as_ref().map_or(Cached::Many, few)));
    }

    /// Caches the subscribers of an event type, for events without channels, after they were counted.
    pub(crate) fn insert_counted(&self, event_type: &TenantEventType, found: &Audience) {
        let found = match found {
            Audience::Few(found) => few(&found.as_slice().into()),
            Audience::Many(_) => Cached::Many,
        };
        self.put(std::slice::from_ref(event_type), std::iter::once(found));
    }

    fn put(&self, event_types: &[TenantEventType], found: impl Iterator<Item = Cached>) {
        if event_types.len() > MAX_TYPES_PER_BATCH {
            return;
        }
        let mut cached = self.lock();
        for (event_type, found) in event_types.iter().zip(found) {
            if cached.len() >= MAX_EVENT_TYPES {
                cached.clear();
            }
            cached.insert(event_type.clone(), found);
        }
    }

    /// Empties the cache. After an outage the next batch begins with a read, which is safe to retry.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantEventType, Cached>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn few(found: &Arc<[Match]>) -> Cached {
    if found.len() > MAX_SUBSCRIBERS {
        Cached::Counted(found.len())
    } else {
        Cached::Listed(Arc::clone(found))
    }
}
