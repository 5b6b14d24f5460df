//! Who was found to ask for which events, so that most events are written without asking first.
//!
//! It is never relied on: the statement that writes an event finds out whether it still holds, and writes nothing if
//! it does not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use postrider_core::{EventType, SubscriberId, TenantId};

/// A type of event of a tenant's.
pub(crate) type Kind = (TenantId, EventType);

/// The kinds of some events, each once.
pub(crate) struct Kinds {
    pub(crate) all: Vec<Kind>,
    /// Where in them that of each event is.
    pub(crate) places: Vec<usize>,
}

impl Kinds {
    pub(crate) fn of<'a>(events: impl Iterator<Item = (&'a TenantId, &'a EventType)>) -> Self {
        let mut all: Vec<Kind> = Vec::new();
        let mut seen: HashMap<Kind, usize> = HashMap::new();
        let places = events.map(|(tenant, event)| {
            *seen.entry((tenant.clone(), event.clone())).or_insert_with_key(|kind| {
                all.push(kind.clone());
                all.len() - 1
            })
        });
        let places = places.collect();
        Self { all, places }
    }
}

/// How many kinds are remembered. Past that all are forgotten, and those in use are soon back.
const KINDS: usize = 1024;

/// To compare more than this costs more than to ask.
const SUBSCRIBERS: usize = 64;
const AT_ONCE: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<HashMap<Kind, Arc<[SubscriberId]>>>);

impl Known {
    /// The subscribers of each of these kinds, if all are known.
    pub(crate) fn of(&self, kinds: &[Kind]) -> Option<Vec<Vec<SubscriberId>>> {
        if kinds.len() > AT_ONCE {
            return None;
        }
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.iter().map(|kind| known.get(kind).map(|found| found.to_vec())).collect()
    }

    pub(crate) fn learn(&self, kinds: &[Kind], found: &[Vec<SubscriberId>]) {
        if kinds.len() > AT_ONCE {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, found) in kinds.iter().zip(found) {
            if found.len() > SUBSCRIBERS {
                known.remove(kind);
                continue;
            }
            if known.len() >= KINDS {
                known.clear();
            }
            known.insert(kind.clone(), found.as_slice().into());
        }
    }

    /// The next events ask first, as is well after the database was away: what only reads can be repeated.
    pub(crate) fn forget_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
