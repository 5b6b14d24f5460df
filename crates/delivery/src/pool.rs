//! The open connections, and who may use them.
//!
//! An HTTP/1.1 connection carries one request at a time and then waits here for the next. An HTTP/2 connection carries as
//! many as its receiver allows. While one is being opened, further requests to its origin wait for it instead of opening
//! one each.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::connection::{Facts, Message, NoAnswer, Sender};
use crate::connector::Connector;
use crate::failure::Failure;
use crate::habits::Habits;
use crate::head::Flaws;
use crate::local::LocalTrouble;
use crate::origin::Origin;
use crate::progress::{Phase, Progress};
use crate::resend::EndReason;
use crate::tls::Versions;

/// The connections of one client. Clones share them.
#[derive(Clone)]
pub(crate) struct Pool {
    open: Arc<Mutex<Open>>,
    /// How long a connection may wait for its next request.
    idle_timeout: Duration,
    /// How many HTTP/1.1 connections wait, and how many may.
    idle: Arc<AtomicUsize>,
    max_idle: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Open {
    origins: HashMap<Origin, Connections>,
    habits: Habits,
    /// Whether a task is removing idle connections.
    sweeping: bool,
}

/// The connections to one origin.
#[derive(Default)]
struct Connections {
    /// Idle HTTP/1.1 connections; the last was used last.
    http1: Vec<Idle>,
    http2: Vec<Shared>,
    /// Whether the last new connection spoke HTTP/1.1: then requests do not wait for each other's connections.
    speaks_http1: bool,
    /// The number of requests that the last HTTP/2 connection could carry.
    allowed: Option<usize>,
    /// The connection that is being opened, and how many more requests may wait for it.
    opening: Option<(watch::Receiver<Opening>, usize)>,
    used_at: Option<Instant>,
}

/// An HTTP/1.1 connection that waits for a request.
struct Idle {
    sender: Sender,
    facts: Arc<Facts>,
    until: Instant,
    _counted: CountedIdle,
}

/// An idle connection, counted until dropped.
struct CountedIdle(Arc<AtomicUsize>);

impl CountedIdle {
    /// Returns `None` if there are as many as may be.
    fn new(pool: &Pool) -> Option<Self> {
        let most = pool.max_idle.load(Ordering::Relaxed);
        if pool.idle.fetch_add(1, Ordering::AcqRel) >= most {
            pool.idle.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Self(pool.idle.clone()))
    }
}

impl Drop for CountedIdle {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// An HTTP/2 connection.
struct Shared {
    sender: hyper::client::conn::http2::SendRequest<http_body_util::Full<bytes::Bytes>>,
    facts: Arc<Facts>,
    /// Since when it has carried no request.
    idle_since: Option<Instant>,
}

/// How the opening of a connection ended, for those that wait for it.
#[derive(Clone, Debug)]
enum Opening {
    /// It goes on; or it was given up, if its sender is gone.
    Pending,
    Done,
    Failed(Failure),
}

/// Idle connections per origin, so that the connections of one burst serve the next. There are never more than attempts
/// were in flight at once.
const MAX_IDLE: usize = 512;
/// The number of requests that an HTTP/2 connection carries at once, even if its receiver allows more.
const MAX_STREAMS: usize = 100;
/// How long the requests that wait for a new HTTP/2 connection wait for its receiver's settings.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to remember the version of HTTP of an origin without connections.
const FORGET_AFTER: Duration = Duration::from_mins(1);

/// What [`Pool::take`] found.
enum Taken {
    Ready(Lease),
    /// Another request is opening a connection that may serve this one.
    Wait(watch::Receiver<Opening>),
    /// Open one. Those that wait for it learn how that ended.
    Open(Versions, watch::Sender<Opening>),
}

/// The right to send a request on a connection. Dropping it closes an HTTP/1.1 connection.
pub(crate) struct Lease {
    sender: Sender,
    facts: Arc<Facts>,
    /// Counts the request on an HTTP/2 connection.
    _stream: Option<Stream>,
    origin: Origin,
    pool: Pool,
}

/// A request on an HTTP/2 connection, counted until dropped.
struct Stream(Arc<Facts>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.active.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Pool {
    pub(crate) fn new(idle_timeout: Duration) -> Self {
        let max_idle = Arc::new(AtomicUsize::new(usize::MAX));
        Self { open: Arc::default(), idle_timeout, idle: Arc::default(), max_idle }
    }

    /// Keeps at most this many idle HTTP/1.1 connections from now on.
    pub(crate) fn keep_idle(&self, most: usize) {
        self.max_idle.store(most, Ordering::Relaxed);
    }

    /// Returns the right to send a request to `origin`, on an open connection unless `new` asks for a new one.
    pub(crate) async fn lease(
        &self,
        connector: &Connector,
        origin: &Origin,
        new: bool,
        progress: &Progress,
    ) -> Result<Lease, Failure> {
        let mut alone = new;
        loop {
            let (versions, outcome) = match self.take(origin, alone) {
                Taken::Ready(lease) => {
                    tracing::trace!(host = &*origin.host, http2 = lease.is_http2(), "connection reused");
                    return Ok(lease);
                }
                Taken::Wait(mut opening) => {
                    progress.enter(Phase::Connect);
                    let ended = opening.wait_for(|opening| !matches!(opening, Opening::Pending)).await;
                    match ended.as_deref() {
                        Ok(Opening::Failed(failure)) => return Err(failure.clone()),
                        Ok(_) => {}
                        // It was cut short by the deadline of its own attempt, which says nothing about this one.
                        Err(_) => alone = true,
                    }
                    continue;
                }
                Taken::Open(versions, outcome) => (versions, outcome),
            };
            // Boxed, since few attempts open a connection.
            let opened = match Box::pin(connector.connect(origin, versions, progress)).await {
                Ok(opened) => {
                    tracing::trace!(host = &*origin.host, http2 = opened.h2, "connection opened");
                    opened
                }
                Err(failure) => {
                    if failure.local == Some(LocalTrouble::Descriptors) {
                        // Idle connections have some.
                        self.lock().origins.values_mut().for_each(|connections| connections.http1.clear());
                    }
                    if Instant::now() < progress.deadline() {
                        let _ = outcome.send(Opening::Failed(failure.clone()));
                    }
                    return Err(failure);
                }
            };
            let (sender, facts, settings) = Box::pin(Sender::start(opened)).await?;
            return Ok(self.add(origin, sender, facts, settings, outcome));
        }
    }

    /// The receiver of `origin` requires HTTP/1.1.
    fn require_http1(&self, origin: &Origin) {
        let mut open = self.lock();
        open.habits.learn_http1(origin);
        if let Some(connections) = open.origins.get_mut(origin) {
            connections.http2.clear();
            connections.speaks_http1 = true;
        }
    }

    fn take(&self, origin: &Origin, alone: bool) -> Taken {
        let now = Instant::now();
        let mut open = self.lock();
        let Open { origins, habits, .. } = &mut *open;
        let versions = if habits.requires_http1(origin) { Versions::Http1 } else { Versions::Both };
        if !origins.contains_key(origin) {
            origins.insert(origin.clone(), Connections::default());
        }
        let Some(connections) = origins.get_mut(origin) else {
            return Taken::Open(versions, watch::Sender::new(Opening::Pending));
        };
        connections.used_at = Some(now);
        if alone {
            return Taken::Open(versions, watch::Sender::new(Opening::Pending));
        }
        if let Some((sender, facts)) = connections.idle_http1(now) {
            return Taken::Ready(self.hand_out(origin, sender, facts));
        }
        let requests = habits.requests(origin);
        if let Some((sender, facts, filled)) = connections.shared_http2(requests) {
            if filled {
                habits.filled(origin);
            }
            return Taken::Ready(self.hand_out(origin, sender, facts));
        }
        if !origin.https || versions == Versions::Http1 || connections.speaks_http1 {
            return Taken::Open(versions, watch::Sender::new(Opening::Pending));
        }
        if let Some((opening, room)) = &mut connections.opening
            && *room > 0
            && opening.has_changed().is_ok_and(|changed| !changed)
        {
            *room -= 1;
            return Taken::Wait(opening.clone());
        }
        let (outcome, opening) = watch::channel(Opening::Pending);
        let room = requests.min(connections.allowed.unwrap_or(MAX_STREAMS)).saturating_sub(1);
        connections.opening = Some((opening, room));
        Taken::Open(versions, outcome)
    }

    /// Adds a new connection, and leases it to the request that opened it.
    fn add(
        &self,
        origin: &Origin,
        sender: Sender,
        facts: Facts,
        settings: Option<oneshot::Receiver<usize>>,
        outcome: watch::Sender<Opening>,
    ) -> Lease {
        let facts = Arc::new(facts);
        let mut open = self.lock();
        let connections = open.origins.entry(origin.clone()).or_default();
        connections.speaks_http1 = !sender.is_http2();
        if let Sender::Http2(sender) = &sender {
            let (sender, facts) = (sender.clone(), facts.clone());
            connections.http2.push(Shared { sender, facts, idle_since: None });
        }
        drop(open);
        match settings {
            None => drop(outcome.send(Opening::Done)),
            Some(settings) => {
                let (pool, origin, facts) = (self.clone(), origin.clone(), facts.clone());
                tokio::spawn(async move {
                    let limit = match timeout(SETTINGS_TIMEOUT, settings).await {
                        Ok(Ok(limit)) => limit.min(MAX_STREAMS),
                        // It has ended, or its receiver does not begin to speak HTTP/2.
                        _ => 1,
                    };
                    facts.streams.allowed.store(limit, Ordering::Release);
                    if let Some(connections) = pool.lock().origins.get_mut(&origin) {
                        connections.allowed = Some(limit.max(1));
                    }
                    let _ = outcome.send(Opening::Done);
                });
            }
        }
        self.sweep();
        self.hand_out(origin, sender, facts)
    }

    /// Leases a connection on which the request is counted already.
    fn hand_out(&self, origin: &Origin, sender: Sender, facts: Arc<Facts>) -> Lease {
        let stream = sender.is_http2().then(|| Stream(facts.clone()));
        Lease { sender, facts, _stream: stream, origin: origin.clone(), pool: self.clone() }
    }

    /// Starts a task that closes idle connections, unless there is one. It ends with the last connection.
    fn sweep(&self) {
        if std::mem::replace(&mut self.lock().sweeping, true) {
            return;
        }
        let (open, idle_timeout) = (Arc::downgrade(&self.open), self.idle_timeout);
        let pause = (idle_timeout / 4).clamp(Duration::from_millis(20), Duration::from_secs(1));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let Some(open) = Weak::upgrade(&open) else { return };
                let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Instant::now();
                open.origins.retain(|_, connections| connections.retain(now, idle_timeout));
                if open.origins.is_empty() {
                    open.sweeping = false;
                    return;
                }
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    /// Takes the HTTP/1.1 connection that was used last.
    fn idle_http1(&mut self, now: Instant) -> Option<(Sender, Arc<Facts>)> {
        let mut unready = Vec::new();
        let mut found = None;
        while let Some(idle) = self.http1.pop() {
            if idle.until <= now || idle.sender.is_closed() {
                continue;
            }
            if matches!(&idle.sender, Sender::Http1(sender) if sender.is_ready()) {
                found = Some((idle.sender, idle.facts));
                break;
            }
            // Its task has not noticed yet that the last response is complete.
            unready.push(idle);
        }
        self.http1.extend(unready.into_iter().rev());
        found
    }

    /// Joins the first HTTP/2 connection that has room. Returns also whether it has got its last request.
    fn shared_http2(&mut self, requests: usize) -> Option<(Sender, Arc<Facts>, bool)> {
        self.http2.retain(|shared| !shared.sender.is_closed());
        let shared = self.http2.iter_mut().find(|shared| {
            let streams = &shared.facts.streams;
            !streams.retired.load(Ordering::Acquire)
                && streams.opened.load(Ordering::Acquire) < requests
                && streams.active.load(Ordering::Acquire) < streams.allowed.load(Ordering::Acquire)
        })?;
        shared.idle_since = None;
        let streams = &shared.facts.streams;
        streams.active.fetch_add(1, Ordering::AcqRel);
        let filled = streams.opened.fetch_add(1, Ordering::AcqRel) + 1 >= requests;
        Some((Sender::Http2(shared.sender.clone()), shared.facts.clone(), filled))
    }

    /// Removes what has ended or been idle for too long, and returns whether the origin is still worth remembering.
    fn retain(&mut self, now: Instant, idle_timeout: Duration) -> bool {
        self.http1.retain(|idle| idle.until > now && !idle.sender.is_closed());
        self.http2.retain_mut(|shared| {
            let streams = &shared.facts.streams;
            if shared.sender.is_closed() || streams.retired.load(Ordering::Acquire) {
                return false;
            }
            if streams.active.load(Ordering::Acquire) > 0 {
                shared.idle_since = None;
                return true;
            }
            now < *shared.idle_since.get_or_insert(now) + idle_timeout
        });
        let unused = self.http1.is_empty() && self.http2.is_empty();
        !unused || self.used_at.is_some_and(|used| now < used + FORGET_AFTER)
    }
}

impl Lease {
    /// Sends a request and waits for the headers of its response.
    pub(crate) async fn send(&mut self, message: &Message) -> Result<Response<Incoming>, NoAnswer> {
        let sent = self.sender.send(message, &self.facts).await;
        if let Err(unanswered) = &sent
            && self.sender.is_http2()
        {
            self.learn(unanswered.reason);
        }
        sent
    }

    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        self.facts.remote
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.sender.is_http2()
    }

    /// Returns what was wrong with the head of the response.
    pub(crate) fn flaws(&self) -> Flaws {
        self.facts.flaws()
    }

    /// Stops using an HTTP/2 connection that its receiver is ending, and learns how many requests it has served.
    fn learn(&self, reason: EndReason) {
        let streams = &self.facts.streams;
        if reason == EndReason::Failed {
            return;
        }
        streams.retired.store(true, Ordering::Release);
        match reason {
            EndReason::Http1Required => self.pool.require_http1(&self.origin),
            EndReason::Refused | EndReason::Unsent => {
                streams.unprocessed.fetch_add(1, Ordering::AcqRel);
                // A connection that was closed while it was idle says nothing about how many requests it serves.
                if streams.refusing.fetch_or(reason == EndReason::Refused, Ordering::AcqRel)
                    || reason == EndReason::Refused
                {
                    self.pool.lock().habits.learn_requests(&self.origin, streams.processed());
                }
            }
            EndReason::Closed | EndReason::Failed => {}
        }
    }

    /// Gives an HTTP/1.1 connection back after its response. The receiver keeps it for `keep_alive`, if it has said so.
    pub(crate) fn finish(self, keep_alive: Option<Duration>) {
        let Self { sender, facts, origin, pool, .. } = self;
        if sender.is_http2() || sender.is_closed() {
            return;
        }
        let keep = keep_alive.map_or(pool.idle_timeout, |keep| keep.min(pool.idle_timeout));
        let Some(counted) = CountedIdle::new(&pool) else { return };
        let idle = Idle { sender, facts, until: Instant::now() + keep, _counted: counted };
        let mut open = pool.lock();
        let connections = open.origins.entry(origin).or_default();
        if connections.http1.len() < MAX_IDLE {
            tracing::trace!(?keep, "connection idle");
            connections.http1.push(idle);
        }
    }
}
