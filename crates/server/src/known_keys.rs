//! The keys that this server knows, so that a request with a key costs no round trip.
//!
//! A key that was read is used for 5 s at most, and no longer than until this server hears that it was changed. A key in use is read again in the background after half of that, so that no request
//! waits for it. What was not found is remembered as well, apart and bounded, so that wrong keys cannot displace right ones.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use postrider_core::{KeyId, Timestamp, chain};
use postrider_store::keys::{ApiKey, KeysOf};
use postrider_store::{Store, StoreError};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::rate::Meter;

/// How long what was read may be used. A revocation takes effect everywhere within this time.
const FRESH: Duration = Duration::from_secs(5);

/// After how long a key in use is read again.
const REFRESH: Duration = Duration::from_millis(2500);

/// How many keys are remembered, and how many ids that no key has.
const MOST: usize = 100_000;
const MOST_UNKNOWN: usize = 10_000;

/// How many keys of each [`Turn`] are read at once.
const READERS: usize = 16;

/// Those who wait for a key to be read. None of them delays another kind.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// Requests with a key that this server has known before.
    Known,
    /// Requests with a key that is new to this server.
    New,
    /// Requests from an address that has shown too many wrong keys: one key is read at a time.
    Suspect,
}

/// How often uses of keys are written.
const NOTE_INTERVAL: Duration = Duration::from_secs(10);

const MINUTE: i64 = 60_000;

/// The keys that this server knows.
#[derive(Clone, Debug)]
pub(crate) struct KnownKeys(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    started: Instant,
    known: RwLock<HashMap<KeyId, Arc<KnownKey>>>,
    unknown: Mutex<HashMap<KeyId, Instant>>,
    /// Reading one key happens once at a time. By a secret hash, so that nobody can choose whom to wait for.
    gates: [[tokio::sync::Mutex<()>; READERS]; 3],
    hasher: RandomState,
    /// How often a key was changed here. What was read before the last time may be old.
    changes: AtomicU64,
    /// The keys that were used since the last time that uses were written.
    used: Mutex<HashMap<KeyId, Timestamp>>,
}

/// What a server knows of a key without reading it.
#[derive(Clone, Debug)]
pub(crate) enum Fresh {
    Known(Arc<KnownKey>),
    /// There is no such key.
    Missing,
    /// It has to be read.
    Unread,
}

/// A key, as it was when it was read.
#[derive(Debug)]
pub(crate) struct KnownKey {
    pub(crate) key: ApiKey,
    read_at: Instant,
    /// Whether it is being read again.
    refreshing: AtomicBool,
    lasting: Arc<Lasting>,
}

/// What outlasts reading a key again.
#[derive(Debug, Default)]
struct Lasting {
    meter: Meter,
    /// The minute whose use was noted last.
    noted: AtomicI64,
}

impl KnownKeys {
    /// Starts to write uses of keys, and to hear of keys that other servers change, for as long as the result lives. The caller
    /// must be within a Tokio runtime.
    pub(crate) fn start(store: Store) -> (Self, JoinSet<()>) {
        let gates = std::array::from_fn(|_| std::array::from_fn(|_| tokio::sync::Mutex::default()));
        let shared = Arc::new(Shared {
            store,
            started: Instant::now(),
            known: RwLock::default(),
            unknown: Mutex::default(),
            gates,
            hasher: RandomState::new(),
            changes: AtomicU64::new(0),
            used: Mutex::default(),
        });
        let mut noting = JoinSet::new();
        noting.spawn(note_uses(Arc::clone(&shared)));
        let keys = Self(shared);
        let (hearing, store) = (keys.clone(), keys.0.store.clone());
        noting.spawn(async move { store.hear_changed_keys(|id| hearing.forget(id)).await });
        (keys, noting)
    }

    /// Returns what this server knows of a key, without waiting.
    pub(crate) fn fresh(&self, id: KeyId) -> Fresh {
        let Some(known) = self.0.known(id) else {
            let unknown = self.0.unknown().get(&id).is_some_and(|read_at| read_at.elapsed() < FRESH);
            return if unknown { Fresh::Missing } else { Fresh::Unread };
        };
        let age = known.read_at.elapsed();
        if age >= FRESH {
            return Fresh::Unread;
        }
        if age >= REFRESH && !known.refreshing.swap(true, Ordering::Relaxed) {
            let shared = Arc::clone(&self.0);
            tokio::spawn(async move {
                // If it fails, requests read it again once it is too old.
                if let Err(error) = shared.read(id).await {
                    tracing::debug!(error = %chain(&error), "a key was not read again");
                }
            });
        }
        Fresh::Known(known)
    }

    /// Returns a key, and reads it if this server does not know it well enough. However many requests want it, it is read
    /// once. `None` if there is no such key. `suspect`: the request is from an address that has shown too many wrong keys.
    pub(crate) async fn find(&self, id: KeyId, suspect: bool) -> Result<Option<Arc<KnownKey>>, StoreError> {
        let by_hash = usize::try_from(self.0.hasher.hash_one(id) % READERS as u64).unwrap_or(0);
        let (turn, gate) = match (self.0.known(id), suspect) {
            (Some(_), _) => (Turn::Known, by_hash),
            (None, false) => (Turn::New, by_hash),
            (None, true) => (Turn::Suspect, 0),
        };
        let _turn = self.0.gates[turn as usize][gate].lock().await;
        match self.fresh(id) {
            Fresh::Known(known) => Ok(Some(known)),
            Fresh::Missing => Ok(None),
            Fresh::Unread => self.0.read(id).await,
        }
    }

    /// Forgets a key that was changed, by a request to this server or to another one.
    pub(crate) fn forget(&self, id: KeyId) {
        self.0.changes.fetch_add(1, Ordering::SeqCst);
        self.0.known.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        self.0.unknown().remove(&id);
    }

    /// Nanoseconds since this server started, for meters.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_nanos()).unwrap_or(u64::MAX / 2)
    }

    /// Takes note that a key is used. Costs a comparison, except once a minute.
    pub(crate) fn note_use(&self, known: &KnownKey, now: Timestamp) {
        let minute = now.millis().div_euclid(MINUTE);
        if known.lasting.noted.swap(minute, Ordering::Relaxed) != minute {
            self.0.used.lock().unwrap_or_else(PoisonError::into_inner).insert(known.key.id, now);
        }
    }
}

impl KnownKey {
    pub(crate) fn meter(&self) -> &Meter {
        &self.lasting.meter
    }
}

impl Shared {
    fn known(&self, id: KeyId) -> Option<Arc<KnownKey>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn unknown(&self) -> MutexGuard<'_, HashMap<KeyId, Instant>> {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, id: KeyId) -> Result<Option<Arc<KnownKey>>, StoreError> {
        // Before the key is read: that is how old it may be.
        let (read_at, changes) = (Instant::now(), self.changes.load(Ordering::SeqCst));
        let found = self.store.key(KeysOf::Everyone, id).await?;
        let Some(key) = found else {
            self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
            let mut unknown = self.unknown();
            if changes == self.changes.load(Ordering::SeqCst) {
                make_room(&mut unknown, MOST_UNKNOWN, |read_at| read_at.elapsed() < FRESH);
                unknown.insert(id, read_at);
            }
            return Ok(None);
        };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let lasting = known.get(&id).map(|before| Arc::clone(&before.lasting)).unwrap_or_default();
        let read = Arc::new(KnownKey { key, read_at, refreshing: AtomicBool::new(false), lasting });
        // Otherwise it was changed while it was being read, and serves only this request, which began before.
        if changes == self.changes.load(Ordering::SeqCst) {
            make_room(&mut known, MOST, |known| known.read_at.elapsed() < FRESH);
            known.insert(id, Arc::clone(&read));
        }
        Ok(Some(read))
    }
}

/// Makes room for one entry: drops those that are of no use any more or, if there are none, all of them.
fn make_room<T>(entries: &mut HashMap<KeyId, T>, most: usize, is_fresh: impl Fn(&T) -> bool) {
    if entries.len() >= most {
        entries.retain(|_, entry| is_fresh(entry));
    }
    if entries.len() >= most {
        entries.clear();
    }
}

async fn note_uses(shared: Arc<Shared>) {
    loop {
        sleep(NOTE_INTERVAL).await;
        let used = std::mem::take(&mut *shared.used.lock().unwrap_or_else(PoisonError::into_inner));
        let used: Vec<_> = used.into_iter().collect();
        if let Err(error) = shared.store.note_key_uses(&used).await {
            // The next minute is noted again.
            tracing::debug!(error = %chain(&error), "the use of keys was not noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_by_dropping_what_is_of_no_use() {
        let id = |number| KeyId::from_uuid(format!("00000000-0000-0000-0000-{number:012}").parse().unwrap());
        let mut entries: HashMap<_, _> = (0..10).map(|number| (id(number), number)).collect();
        make_room(&mut entries, 11, |_| false);
        assert_eq!(entries.len(), 10, "there is room");
        make_room(&mut entries, 10, |number| *number < 5);
        assert_eq!(entries.len(), 5);
        make_room(&mut entries, 5, |_| true);
        assert!(entries.is_empty());
    }
}
