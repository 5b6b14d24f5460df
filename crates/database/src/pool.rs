//! The connections of a process to PostgreSQL.
//!
//! One pool serves all purposes, and no purpose can take the connections that belong to another ([`shares`]). Unlike the
//! pool of sqlx it pings no connection that was in use a moment ago, discards every connection that is older than a failure,
//! gives idle connections back within seconds, and reports why it cannot connect.

mod lease;
mod shares;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgPool};
use sea_orm::{DbErr, RuntimeErr, SqlxError};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

pub(crate) use self::lease::Lease;
use self::lease::Live;
pub use self::shares::Connections;
use self::shares::Shares;
use crate::failover::Failover;
use crate::session::NOTICED;
use crate::{Config, Pooler, Purpose, session};

/// A connection that was used within this time is not pinged.
const TRUSTED: Duration = Duration::from_secs(5);
/// How long a connection may take to answer a ping.
const PING: Duration = Duration::from_secs(3);
/// A connection that was idle for this long is closed, except one for each purpose.
const IDLE: Duration = Duration::from_secs(5);
/// The greatest age of a connection.
const OLDEST: Duration = Duration::from_mins(30);
/// How long the pool makes do with the connections it has after the server refused another.
const SCARCE: Duration = Duration::from_millis(300);

/// A pool of connections to PostgreSQL. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Where to connect. The pool itself is not used.
    target: PgPool,
    failover: Arc<Failover>,
    /// What each connection runs first.
    setup: String,
    acquire_timeout: Duration,
    state: Mutex<State>,
    /// Notified whenever a connection of a closed pool has been closed.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    shares: Shares,
    /// The one used last is at the end.
    idle: Vec<Live>,
    waiting: VecDeque<Waiting>,
    /// When a connection last failed. Older ones are not used again.
    failed_at: Option<Instant>,
    /// Why the last attempt to connect failed, and until when none is made.
    refused: Option<(Instant, String)>,
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    purpose: Purpose,
    sender: oneshot::Sender<Lease>,
}

impl Pool {
    /// A pool without connections, and the task that closes idle ones. Must be called within a Tokio runtime.
    pub(crate) fn new(target: PgPool, failover: Arc<Failover>, config: &Config) -> Self {
        let state = Mutex::new(State { shares: Shares::new(config.max_connections), ..State::default() });
        let inner = Arc::new(Inner {
            target,
            failover,
            // Behind a pooler it would reach other clients.
            setup: match config.pooler {
                Pooler::None => session::setup(config),
                Pooler::Transaction => String::new(),
            },
            acquire_timeout: config.acquire_timeout,
            state,
            emptied: Notify::new(),
        });
        tokio::spawn(close_idle(Arc::downgrade(&inner)));
        Self(inner)
    }

    /// Takes a connection, or opens one.
    pub(crate) async fn acquire(&self, purpose: Purpose) -> Result<Lease, DbErr> {
        let deadline = Instant::now() + self.0.acquire_timeout;
        loop {
            let Ok(lease) = timeout_at(deadline, self.lease(purpose)).await else {
                return Err(self.timed_out());
            };
            let mut lease = lease?;
            match timeout_at(deadline, self.ready(&mut lease)).await {
                Ok(Ok(())) => return Ok(lease),
                Ok(Err(error)) if may_pass(&error) => self.0.refuse(error.to_string()),
                Ok(Err(error)) => return Err(DbErr::Conn(RuntimeErr::SqlxError(error.into()))),
                Err(_) => {
                    // After a refusal there may have been little time left to wait.
                    let was_refused = self.0.state().refused.is_some();
                    if !was_refused {
                        self.0.refuse("it did not answer".to_owned());
                    }
                    return Err(self.timed_out());
                }
            }
        }
    }

    /// Waits for a connection, or for the right to open one.
    async fn lease(&self, purpose: Purpose) -> Result<Lease, DbErr> {
        let receiver = {
            let mut state = self.0.state();
            if state.closed {
                return Err(closed());
            }
            state.shares.note(purpose);
            // A caller that waits already for the same purpose is first.
            let is_first = state.waiting.iter().all(|waiting| waiting.purpose != purpose);
            if is_first && let Some(lease) = self.0.take(&mut state, purpose) {
                return Ok(lease);
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push_back(Waiting { purpose, sender });
            receiver
        };
        receiver.await.map_err(|_| closed())
    }

    /// Makes sure that a lease has a connection that answers.
    async fn ready(&self, lease: &mut Lease) -> Result<(), SqlxError> {
        let Some(live) = lease.live_mut() else { return self.open(lease).await };
        if live.used_at.elapsed() < TRUSTED {
            return Ok(());
        }
        let Ok(connection) = lease.start() else { return self.open(lease).await };
        let answer = tokio::time::timeout(PING, connection.ping()).await;
        let answer = answer.unwrap_or_else(|_| Err(SqlxError::Io(std::io::ErrorKind::TimedOut.into())));
        if lease.end(answer).is_ok() { Ok(()) } else { self.open(lease).await }
    }

    async fn open(&self, lease: &mut Lease) -> Result<(), SqlxError> {
        let options = self.0.target.connect_options();
        let mut connection = PgConnectOptions::connect(&options).await?;
        self.0.failover.check(&mut connection).await?;
        if !self.0.setup.is_empty() {
            connection.execute(AssertSqlSafe(self.0.setup.as_str())).await?;
        }
        self.0.state().refused = None;
        lease.opened(connection);
        Ok(())
    }

    /// Forgets which purposes have had a connection: the statements at start are for none.
    pub(crate) fn forget_purposes(&self) {
        self.0.state().shares.forget_purposes();
    }

    /// Gives up one connection for good, which the caller opens elsewhere. Returns `false` if there is only one.
    pub(crate) fn give_up_one(&self) -> bool {
        self.0.state().shares.give_up_one()
    }

    /// The number of connections.
    pub(crate) fn connections(&self) -> Connections {
        self.0.state().shares.connections()
    }

    /// Discards what is idle, and from now on whatever was opened before.
    pub(crate) fn distrust(&self) {
        self.0.distrust();
    }

    /// Closes all connections, and waits for those in use.
    pub(crate) async fn close(&self) {
        let idle = {
            let mut state = self.0.state();
            state.closed = true;
            // Callers that wait get an error.
            state.waiting.clear();
            let idle = std::mem::take(&mut state.idle);
            state.shares.closed(idle.len());
            idle
        };
        for live in idle {
            if let Err(error) = live.connection.close().await {
                tracing::debug!(%error, "a database connection did not close cleanly");
            }
        }
        loop {
            let emptied = self.0.emptied.notified();
            if self.0.state().shares.connections().in_use == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// The error of a call that has got no connection in time.
    fn timed_out(&self) -> DbErr {
        let state = self.0.state();
        let within = self.0.acquire_timeout;
        let text = match &state.refused {
            Some((_, reason)) => format!("no connection to the database within {within:?}: {reason}"),
            None => format!(
                "no connection to the database was free within {within:?}; all {} are in use",
                state.shares.connections().max
            ),
        };
        DbErr::Conn(RuntimeErr::Internal(text))
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an idle connection, or the right to open one, if `purpose` may have one now.
    fn take(self: &Arc<Self>, state: &mut State, purpose: Purpose) -> Option<Lease> {
        let is_scarce = state.refused.as_ref().is_some_and(|(until, _)| Instant::now() < *until);
        if !state.shares.admits(purpose, is_scarce) {
            return None;
        }
        let live = state.idle.pop();
        if live.is_none() && (is_scarce || !state.shares.may_open()) {
            return None;
        }
        state.shares.take(purpose, live.is_some());
        Some(Lease::new(Arc::clone(self), purpose, live))
    }

    /// Hands connections to those who wait, in turn.
    fn serve(self: &Arc<Self>) {
        loop {
            let (sender, lease) = {
                let mut state = self.state();
                state.waiting.retain(|waiting| !waiting.sender.is_closed());
                let next = (0..state.waiting.len()).find_map(|place| {
                    let purpose = state.waiting.get(place)?.purpose;
                    Some((place, self.take(&mut state, purpose)?))
                });
                let Some((place, lease)) = next else { return };
                let Some(Waiting { sender, .. }) = state.waiting.remove(place) else { return };
                (sender, lease)
            };
            // If the caller has gone, the lease comes back and serves the next one.
            drop(sender.send(lease));
        }
    }

    /// Makes do with the connections that there are, for a moment.
    fn refuse(self: &Arc<Self>, reason: String) {
        let again = Instant::now() + SCARCE;
        self.state().refused = Some((again, reason));
        let inner = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep_until(again).await;
            if let Some(inner) = inner.upgrade() {
                inner.serve();
            }
        });
    }

    fn distrust(self: &Arc<Self>) {
        let idle = {
            let mut state = self.state();
            state.failed_at = Some(Instant::now());
            let idle = std::mem::take(&mut state.idle);
            state.shares.closed(idle.len());
            idle
        };
        drop(idle);
        self.serve();
    }

    /// Takes back a lease, with its connection if that may be used again.
    fn put_back(self: &Arc<Self>, purpose: Purpose, live: Option<Live>, is_running: bool) {
        let rejected = {
            let mut state = self.state();
            let failed_at = state.failed_at;
            let (kept, rejected) = match live {
                Some(live) if !state.closed && live.is_usable(failed_at) => (Some(live), None),
                live => (None, live),
            };
            state.shares.put_back(purpose, kept.is_some(), is_running);
            state.idle.extend(kept);
            rejected
        };
        drop(rejected);
        if is_running {
            // The server may go on with the statement until it notices, so the connection still counts.
            let inner = Arc::downgrade(self);
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move {
                    sleep(NOTICED).await;
                    if let Some(inner) = inner.upgrade() {
                        inner.state().shares.noticed();
                        inner.serve();
                    }
                });
            }
        }
        self.emptied.notify_waiters();
        self.serve();
    }
}

/// Closes connections that have been idle for long, except one for each purpose.
async fn close_idle(inner: Weak<Inner>) {
    loop {
        sleep(IDLE / 5).await;
        let Some(inner) = inner.upgrade() else { return };
        let surplus: Vec<Live> = {
            let mut state = inner.state();
            if state.closed {
                return;
            }
            let most = state.shares.surplus();
            // The ones used last are at the end.
            let old = state.idle.iter().take(most).take_while(|live| live.used_at.elapsed() > IDLE).count();
            let surplus: Vec<Live> = state.idle.drain(..old).collect();
            state.shares.closed(old);
            surplus
        };
        for live in surplus {
            if let Err(error) = live.connection.close().await {
                tracing::debug!(%error, "an idle database connection did not close cleanly");
            }
        }
    }
}

/// Returns whether connecting may succeed later: the server is not there, starts, stops, has too many clients, or is not
/// the one that accepts writes.
fn may_pass(error: &SqlxError) -> bool {
    match error {
        SqlxError::Io(_) | SqlxError::Configuration(_) => true,
        SqlxError::Database(error) => error
            .code()
            .is_some_and(|code| code.starts_with("53") || code.starts_with("57") || code.starts_with("08")),
        _ => false,
    }
}

fn closed() -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(SqlxError::PoolClosed.into()))
}
