//! The subscribers last found for each event type, so that most events are written without a query before.
//!
//! The cache may be stale. The statement that writes an event also checks that the cached list still holds, and writes
//! nothing if it does not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use postrider_core::{EventType, SubscriberId, TenantId};

/// An event type of one tenant.
pub(crate) type TenantEventType = (TenantId, EventType);

/// The event types of a batch, each once.
pub(crate) struct EventTypes {
    pub(crate) distinct: Vec<TenantEventType>,
    /// For each event of the batch, the index of its type in `distinct`.
    pub(crate) indexes: Vec<usize>,
}

impl EventTypes {
    pub(crate) fn of<'a>(events: impl Iterator<Item = (&'a TenantId, &'a EventType)>) -> Self {
        let mut distinct: Vec<TenantEventType> = Vec::new();
        let mut seen: HashMap<TenantEventType, usize> = HashMap::new();
        let indexes = events.map(|(tenant, event_type)| {
            *seen.entry((tenant.clone(), event_type.clone())).or_insert_with_key(|new| {
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

/// Lists longer than this are not cached: comparing them costs more than a query.
const MAX_SUBSCRIBERS: usize = 64;

/// Batches with more event types than this do not use the cache, for the same reason.
const MAX_TYPES_PER_BATCH: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct SubscriberCache(Mutex<HashMap<TenantEventType, Arc<[SubscriberId]>>>);

impl SubscriberCache {
    /// Returns the subscribers of each of these event types, or `None` if one of them is not cached.
    pub(crate) fn get(&self, event_types: &[TenantEventType]) -> Option<Vec<Vec<SubscriberId>>> {
        if event_types.len() > MAX_TYPES_PER_BATCH {
            return None;
        }
        let cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        event_types.iter().map(|event_type| cached.get(event_type).map(|found| found.to_vec())).collect()
    }

    /// Caches the subscribers that a query has found for each of these event types.
    pub(crate) fn insert(&self, event_types: &[TenantEventType], found: &[Vec<SubscriberId>]) {
        if event_types.len() > MAX_TYPES_PER_BATCH {
            return;
        }
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (event_type, found) in event_types.iter().zip(found) {
            if found.len() > MAX_SUBSCRIBERS {
                cached.remove(event_type);
                continue;
            }
            if cached.len() >= MAX_EVENT_TYPES {
                cached.clear();
            }
            cached.insert(event_type.clone(), found.as_slice().into());
        }
    }

    /// Empties the cache. After an outage the next batch begins with a read, which is safe to retry.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
