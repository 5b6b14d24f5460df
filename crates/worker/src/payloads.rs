//! The payloads that this worker holds: each once, however many deliveries send it, and a bounded number of bytes.
//!
//! Loading a job also loads its body if that is small ([`SMALL_BODY`]). A larger one is requested here. It is shared if
//! the worker holds it already or is about to; otherwise it is loaded once the bytes in flight leave room for it
//! ([`ByteBudget`]). The bytes are given back when the last attempt that sends them drops them.
//!
//! A job keeps its worker slot while it waits. So that there are always slots for others, only half of them may wait; the
//! queue gets the other jobs back for a while.
//!
//! [`SMALL_BODY`]: postrider_store::loading::SMALL_BODY

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_core::budget::ByteBudget;
use postrider_core::{EventId, TenantId};
use postrider_store::StoreError;
use postrider_telemetry::metric;
use tokio::sync::{Notify, oneshot};

/// How long smaller payloads pass the one that has waited longest: about as long as an attempt takes, or large ones would
/// hold up all others.
const MAX_BYPASS: Duration = Duration::from_secs(10);

/// How many bytes one statement loads, unless a single payload is larger.
const PORTION: usize = 4 * 1024 * 1024;

/// When a job comes back that found too many others waiting: the least and the longest delay. Jobs come back one after
/// another, [`RETURN_INTERVAL`] apart, or they would all be claimed in vain again and again.
const RETURN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
const RETURN_INTERVAL: Duration = Duration::from_millis(5);

/// The payloads of this worker.
#[derive(Clone, Debug)]
pub(crate) struct Payloads(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Notified when there is something to load.
    more_to_load: Notify,
    /// The number of jobs that wait for room, and the most that may.
    waiting: AtomicUsize,
    most_waiting: usize,
}

#[derive(Debug)]
struct State {
    budget: ByteBudget<EventId>,
    known: HashMap<EventId, Known>,
    /// Those that are being loaded and whose turn has not come yet.
    to_load: VecDeque<EventId>,
    /// When the last of the jobs returns that found too many others waiting.
    last_return: Option<Instant>,
}

/// An event's payload, as far as this worker is concerned.
#[derive(Debug)]
enum Known {
    /// There is no room for it yet.
    Waiting(Awaited),
    /// It has its bytes in the budget, and is being loaded.
    Loading(Awaited),
    /// The attempts that send it hold it.
    Held(Weak<Payload>),
}

#[derive(Debug)]
struct Awaited {
    tenant: TenantId,
    bytes: usize,
    asked: Vec<oneshot::Sender<Answer>>,
}

impl Awaited {
    fn is_wanted(&self) -> bool {
        self.asked.iter().any(|asked| !asked.is_closed())
    }
}

type Answer = Result<Arc<Payload>, Refused>;

/// Why a payload was not loaded.
#[derive(Clone, Debug)]
pub(crate) enum Refused {
    /// The event no longer exists, or the worker has stopped loading.
    Gone,
    /// The database refuses to read it.
    Unreadable(Arc<StoreError>),
}

/// How many payloads one statement loads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Portion {
    /// Up to [`PORTION`] bytes.
    Several,
    Single,
}

/// The answer to a request for a payload.
#[derive(Debug)]
pub(crate) enum Requested {
    /// The worker holds it.
    Held(Bytes),
    /// It will arrive.
    Coming(Arrival),
    /// Too many jobs wait for payloads. The job is to come back after this time.
    Crowded(Duration),
}

/// A payload that will arrive.
#[derive(Debug)]
pub(crate) struct Arrival {
    answer: oneshot::Receiver<Answer>,
    /// Counts the job among those that wait for room.
    _waiting: Option<WaitingJob>,
}

impl Arrival {
    /// Waits for the payload.
    pub(crate) async fn arrived(self) -> Result<Bytes, Refused> {
        self.answer.await.unwrap_or(Err(Refused::Gone)).map(shared_bytes)
    }
}

impl Payloads {
    /// No payloads. They may take `limit` bytes, and the jobs in half of this many worker slots may wait for room.
    pub(crate) fn new(limit: usize, slots: u32) -> Self {
        #[allow(clippy::cast_precision_loss)] // Exact up to 2^53 bytes.
        metrics::gauge!(metric::PAYLOAD_BYTES_MAX).set(limit as f64);
        metrics::gauge!(metric::PAYLOAD_BYTES).set(0.0);
        metrics::gauge!(metric::PAYLOADS_WAITING).set(0.0);
        let state = State {
            budget: ByteBudget::new(limit, MAX_BYPASS),
            known: HashMap::new(),
            to_load: VecDeque::new(),
            last_return: None,
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            more_to_load: Notify::new(),
            waiting: AtomicUsize::new(0),
            most_waiting: (slots as usize / 2).max(1),
        }))
    }

    /// Requests the payload of a tenant's event, which has this many bytes.
    pub(crate) fn request(&self, tenant: &TenantId, event: EventId, bytes: usize) -> Requested {
        let now = Instant::now();
        let mut state = self.0.state();
        if let Some(Known::Held(payload)) = state.known.get(&event)
            && let Some(payload) = payload.upgrade()
        {
            // Unlocked first: dropping the last reference to a payload takes the lock.
            drop(state);
            return Requested::Held(shared_bytes(payload));
        }
        let waits = match state.known.get(&event) {
            Some(Known::Waiting(_)) => true,
            Some(Known::Loading(_)) => false,
            Some(Known::Held(_)) | None => !state.budget.take(bytes, now),
        };
        if waits && self.0.waiting.load(Ordering::Relaxed) >= self.0.most_waiting {
            return Requested::Crowded(state.next_return(now));
        }
        let (asked, answer) = oneshot::channel();
        match state.known.get_mut(&event) {
            Some(Known::Waiting(awaited) | Known::Loading(awaited)) => awaited.asked.push(asked),
            Some(Known::Held(_)) | None => {
                let awaited = Awaited { tenant: tenant.clone(), bytes, asked: vec![asked] };
                if waits {
                    state.known.insert(event, Known::Waiting(awaited));
                    state.budget.wait(event, bytes, now);
                } else {
                    state.known.insert(event, Known::Loading(awaited));
                    state.to_load.push_back(event);
                    self.0.more_to_load.notify_one();
                }
            }
        }
        state.measure();
        // Counted before another request can look.
        let waiting = waits.then(|| WaitingJob::new(&self.0));
        drop(state);
        Requested::Coming(Arrival { answer, _waiting: waiting })
    }

    /// Waits for payloads that have room, and returns as many of them as one statement loads.
    pub(crate) async fn next_portion(&self, portion: Portion) -> Vec<(TenantId, EventId)> {
        let limit = match portion {
            Portion::Several => PORTION,
            Portion::Single => 0,
        };
        loop {
            let portion = self.0.take_portion(limit);
            if !portion.is_empty() {
                return portion;
            }
            self.0.more_to_load.notified().await;
        }
    }

    /// Takes back payloads that could not be loaded. The others come first.
    pub(crate) fn put_back(&self, events: Vec<(TenantId, EventId)>) {
        self.0.state().to_load.extend(events.into_iter().map(|(_, event)| event));
    }

    /// Hands a loaded payload to the jobs that asked for it.
    pub(crate) fn arrived(&self, event: EventId, answer: Result<Bytes, Refused>) {
        let mut state = self.0.state();
        let Some(Known::Loading(awaited)) = state.known.remove(&event) else { return };
        match answer {
            Ok(bytes) => {
                let payload =
                    Arc::new(Payload { event, bytes, room: awaited.bytes, payloads: Arc::clone(&self.0) });
                state.known.insert(event, Known::Held(Arc::downgrade(&payload)));
                // As in `request`.
                drop(state);
                for asked in awaited.asked {
                    // The attempt may have been cancelled.
                    let _ = asked.send(Ok(Arc::clone(&payload)));
                }
            }
            Err(refused) => {
                state.budget.give_back(awaited.bytes);
                self.0.admit(&mut state);
                drop(state);
                for asked in awaited.asked {
                    let _ = asked.send(Err(refused.clone()));
                }
            }
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes payloads of this many bytes, and one at least.
    fn take_portion(&self, limit: usize) -> Vec<(TenantId, EventId)> {
        let mut state = self.state();
        let (mut portion, mut size) = (Vec::new(), 0);
        while let Some(&event) = state.to_load.front() {
            let Some(Known::Loading(awaited)) = state.known.get(&event) else {
                state.to_load.pop_front();
                continue;
            };
            let (tenant, bytes) = (awaited.tenant.clone(), awaited.bytes);
            let is_wanted = awaited.is_wanted();
            if !is_wanted {
                state.to_load.pop_front();
                state.known.remove(&event);
                state.budget.give_back(bytes);
                self.admit(&mut state);
                continue;
            }
            if !portion.is_empty() && size + bytes > limit {
                break;
            }
            state.to_load.pop_front();
            size += bytes;
            portion.push((tenant, event));
        }
        portion
    }

    /// Gives the bytes of a dropped payload back.
    fn release(&self, payload: &Payload) {
        let mut state = self.state();
        state.budget.give_back(payload.room);
        // It may have been requested again in the meantime.
        if let Some(Known::Held(known)) = state.known.get(&payload.event)
            && known.strong_count() == 0
        {
            state.known.remove(&payload.event);
        }
        self.admit(&mut state);
    }

    /// Lets payloads in that wait for room.
    fn admit(&self, state: &mut State) {
        let State { budget, known, to_load, .. } = state;
        budget.retain(|event| {
            let is_wanted = matches!(known.get(event), Some(Known::Waiting(awaited)) if awaited.is_wanted());
            if !is_wanted {
                known.remove(event);
            }
            is_wanted
        });
        for event in budget.admit(Instant::now()) {
            if let Some(Known::Waiting(awaited)) = known.remove(&event) {
                known.insert(event, Known::Loading(awaited));
                to_load.push_back(event);
            }
        }
        if !to_load.is_empty() {
            self.more_to_load.notify_one();
        }
        state.measure();
    }
}

impl State {
    /// Returns when a job comes back that found too many others waiting.
    fn next_return(&mut self, now: Instant) -> Duration {
        let earliest = self.last_return.map_or(now, |last| last + RETURN_INTERVAL);
        let delay = earliest.saturating_duration_since(now).clamp(RETURN.0, RETURN.1);
        self.last_return = Some(now + delay);
        delay
    }

    fn measure(&self) {
        #[allow(clippy::cast_precision_loss)] // Exact up to 2^53 bytes.
        metrics::gauge!(metric::PAYLOAD_BYTES).set(self.budget.used() as f64);
    }
}

/// A payload, shared by all attempts that send it.
#[derive(Debug)]
struct Payload {
    event: EventId,
    bytes: Bytes,
    /// Its bytes in the budget.
    room: usize,
    payloads: Arc<Inner>,
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.payloads.release(self);
    }
}

/// Returns the bytes of a payload, which hold it until the last copy of them is dropped.
fn shared_bytes(payload: Arc<Payload>) -> Bytes {
    struct Owner(Arc<Payload>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0.bytes
        }
    }
    Bytes::from_owner(Owner(payload))
}

/// Counts a job that waits for room until dropped.
#[derive(Debug)]
struct WaitingJob(Arc<Inner>);

impl WaitingJob {
    fn new(payloads: &Arc<Inner>) -> Self {
        payloads.waiting.fetch_add(1, Ordering::Relaxed);
        metrics::gauge!(metric::PAYLOADS_WAITING).increment(1.0);
        Self(Arc::clone(payloads))
    }
}

impl Drop for WaitingJob {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!(metric::PAYLOADS_WAITING).decrement(1.0);
    }
}
