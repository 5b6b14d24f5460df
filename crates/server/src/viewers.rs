//! Who follows what happens, within limits.

mod filter;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use postrider_core::id::TailPlaceId;
use postrider_core::{TenantId, Timestamp};
use postrider_store::Store;
use postrider_telemetry::metric;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub(crate) use self::filter::Filter;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::rate::Exceeded;

/// How many viewers a key, and this server, may have.
const MAX_OF_KEY: usize = 20;
const MAX_VIEWERS: usize = 200;

/// How many rows wait for a viewer that reads slowly.
const WAITING: usize = 50;

/// How many rows a viewer gets in a second.
pub(crate) const ROWS_PER_SECOND: f64 = 50.0;

/// After how many seconds a client that was refused should try again.
const RETRY_AFTER: u64 = 5;

/// The viewers of this server.
#[derive(Clone, Debug)]
pub(crate) struct Viewers(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    all: Mutex<All>,
    /// Whether the server stops.
    closing: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct All {
    viewers: HashMap<u64, Arc<Viewer>>,
    next: u64,
    /// Whether the reader runs.
    reading: bool,
}

/// A row as viewers are sent it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) id: TailPlaceId,
    /// For those who may see payloads.
    pub(crate) shown: Bytes,
    /// For the others, if there is a difference.
    pub(crate) hidden: Option<Bytes>,
}

impl Item {
    pub(crate) fn frame(&self, shows_payloads: bool) -> Bytes {
        match &self.hidden {
            Some(hidden) if !shows_payloads => hidden.clone(),
            _ => self.shown.clone(),
        }
    }
}

/// A viewer, as the reader sees it.
#[derive(Debug)]
pub(crate) struct Viewer {
    pub(crate) tenant: TenantId,
    actor: String,
    /// When it came.
    pub(crate) joined_at: Timestamp,
    pub(crate) filter: Filter,
    items: mpsc::Sender<Arc<Item>>,
    pub(crate) missing: Missing,
    rate: Mutex<Rate>,
}

/// What a viewer was not sent, since it was last told.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    pub(crate) rows: AtomicU64,
    pub(crate) overload: AtomicBool,
    pub(crate) gap: AtomicBool,
}

#[derive(Debug)]
struct Rate {
    left: f64,
    at: Instant,
}

/// A viewer's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Joined {
    shared: Arc<Shared>,
    number: u64,
    pub(crate) viewer: Arc<Viewer>,
    pub(crate) items: mpsc::Receiver<Arc<Item>>,
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) shows_payloads: bool,
}

impl Viewers {
    pub(crate) fn new(store: Store) -> Self {
        let closing = watch::Sender::new(false);
        Self(Arc::new(Shared { store, all: Mutex::default(), closing }))
    }

    /// Ends all streams, now and from now on.
    pub(crate) fn close(&self) {
        self.0.closing.send_replace(true);
    }

    /// What tells whether the server stops, for other streams that would never end.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.0.closing.subscribe()
    }

    /// Takes a place. Nobody reads for the viewers yet if the second of the results is there: then a reader must be started.
    ///
    /// # Errors
    /// 429 if the key or the server has too many viewers.
    pub(crate) fn join(
        &self,
        caller: &Caller,
        filter: Filter,
        shows_payloads: bool,
    ) -> Result<(Joined, Option<Arc<Shared>>), Problem> {
        let actor = caller.actor.id();
        let (sender, items) = mpsc::channel(WAITING);
        let mut all = self.0.lock();
        let of_key = all.viewers.values().filter(|viewer| viewer.actor == actor).count();
        let refused = |detail| Err(Problem::limited(detail, Exceeded { retry_after: RETRY_AFTER }));
        if of_key >= MAX_OF_KEY {
            return refused("the key follows the live tail 20 times already");
        }
        if all.viewers.len() >= MAX_VIEWERS {
            return refused("too many clients follow the live tail of this server; try again later");
        }
        let viewer = Arc::new(Viewer {
            tenant: caller.tenant.clone(),
            actor,
            joined_at: self.0.store.ids().clock().now(),
            filter,
            items: sender,
            missing: Missing::default(),
            rate: Mutex::new(Rate { left: ROWS_PER_SECOND, at: Instant::now() }),
        });
        all.next += 1;
        let number = all.next;
        all.viewers.insert(number, Arc::clone(&viewer));
        set_gauge(&all);
        let unread = (!all.reading).then(|| Arc::clone(&self.0));
        all.reading = true;
        let closing = self.0.closing.subscribe();
        Ok((Joined { shared: Arc::clone(&self.0), number, viewer, items, closing, shows_payloads }, unread))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The viewers of each tenant. `None`, and the reader must end, if there are none.
    pub(crate) fn by_tenant(&self) -> Option<HashMap<TenantId, Vec<Arc<Viewer>>>> {
        let mut all = self.lock();
        if all.viewers.is_empty() {
            all.reading = false;
            return None;
        }
        let mut by_tenant: HashMap<TenantId, Vec<Arc<Viewer>>> = HashMap::new();
        for viewer in all.viewers.values() {
            by_tenant.entry(viewer.tenant.clone()).or_default().push(Arc::clone(viewer));
        }
        Some(by_tenant)
    }
}

impl Viewer {
    /// Whether the viewer's rate allows another row.
    pub(crate) fn admit(&self) -> bool {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let earned = (now - rate.at).as_secs_f64() * ROWS_PER_SECOND;
        *rate = Rate { left: (rate.left + earned).min(ROWS_PER_SECOND), at: now };
        let admitted = rate.left >= 1.0;
        if admitted {
            rate.left -= 1.0;
        }
        admitted
    }

    /// Hands a row over, or counts it if too many wait.
    pub(crate) fn send(&self, item: &Arc<Item>) {
        if self.items.try_send(Arc::clone(item)).is_err() {
            self.leave_out(1);
        }
    }

    pub(crate) fn leave_out(&self, rows: u64) {
        self.missing.rows.fetch_add(rows, Ordering::Relaxed);
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let mut all = self.shared.lock();
        all.viewers.remove(&self.number);
        set_gauge(&all);
    }
}

fn set_gauge(all: &All) {
    metrics::gauge!(metric::TAIL_VIEWERS).set(u32::try_from(all.viewers.len()).unwrap_or(u32::MAX));
}

/// How long a row takes at the rate of a viewer.
pub(crate) fn pace() -> Duration {
    Duration::from_secs_f64(1.0 / ROWS_PER_SECOND)
}
