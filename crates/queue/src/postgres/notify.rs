//! Waking workers in other processes by NOTIFY, and listening for their notifications.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use postrider_database::sql::execute;
use postrider_database::{Batch, Column, Database, Kind, Writes};
use sea_orm::DatabaseConnection;
use sea_orm::sqlx::Executor as _;
use sea_orm::sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::job::LaneId;
use crate::turns::Turns;
use crate::wake::{Bell, Wakeups};
use crate::workers::Workers;

const CHANNEL: &str = "postrider_jobs";
const NOTIFY: &str = "SELECT pg_notify('postrider_jobs', payload) FROM unnest($1::text[]) AS payload";

/// How many lanes a notification can name: a payload has less than 8,000 bytes (PostgreSQL's manual, "NOTIFY").
const NAMED: usize = 240;

/// How many notifications are sent at once. Lanes that they cannot name are found by searching.
const AT_ONCE: usize = 8;

/// Any lane, in a notification. Other programs than this one may send an empty one, which means the same.
const ANY: &str = "*";

/// The shortest time between two notifications of one process.
const DEBOUNCE: Duration = Duration::from_millis(1);

/// A transaction that enqueues also notifies if this process has not done so for this long. Such commits wait for each
/// other, so under load notifications are sent apart.
const CALM: Duration = Duration::from_millis(15);

/// After how long without a notification the connection is pinged.
const SILENCE: Duration = Duration::from_secs(20);

/// How long a connection may take to answer before it is closed.
const ANSWER: Duration = Duration::from_secs(5);

/// How long to wait before listening again after an error.
const RECONNECT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Notifier {
    database: Database,
    outbox: Arc<Outbox>,
    here: Here,
    _sender: AbortOnDropHandle<()>,
    listener: OnceLock<AbortOnDropHandle<()>>,
}

impl Notifier {
    pub(super) fn new(database: Database, workers: Arc<Workers>, turns: Arc<Turns>) -> Self {
        let outbox = Arc::new(Outbox::default());
        let sender = tokio::spawn(send(database.clone(), Arc::clone(&outbox)));
        Self {
            database,
            outbox,
            here: Here { bell: Arc::new(Bell::new()), workers, turns },
            _sender: AbortOnDropHandle::new(sender),
            listener: OnceLock::new(),
        }
    }

    /// Wakes the workers that serve these lanes: in this process at once, and in others soon.
    pub(super) fn wake(&self, lanes: &[LaneId]) {
        self.here.hint(lanes);
        if lanes.is_empty() {
            self.outbox.add(lanes);
        } else {
            self.tell_others(lanes, true);
        }
    }

    /// Wakes workers in this process if they serve one of these lanes. No lanes are any lanes.
    pub(super) fn wake_here(&self, lanes: &[LaneId]) {
        self.here.hint(lanes);
    }

    /// Adds to `writes` a notification about those lanes that other processes serve, unless one was sent a moment ago. Returns
    /// whether it did.
    pub(super) fn wake_with(&self, lanes: &[LaneId], writes: &mut Writes) -> bool {
        const NOTIFIED: &[Column] = &[Column::new("lanes", Kind::Text)];
        let theirs = self.theirs(lanes, true);
        if theirs.is_empty() || theirs.len() > AT_ONCE * NAMED || !self.outbox.is_calm() {
            return false;
        }
        let mut rows = Batch::new(NOTIFIED);
        for payload in payloads(Lanes { named: theirs.into_iter().collect(), any: false }) {
            rows.push([payload.into()]);
        }
        // A notification returns nothing, which is not NULL: no row is inserted.
        writes.push(
            rows,
            "INSERT INTO lanes (id) SELECT NULL::uuid FROM input WHERE pg_notify('postrider_jobs', lanes) IS NULL",
        );
        true
    }

    /// Takes note of lanes with promoted jobs before a claim, and wakes the workers that serve them in other processes.
    pub(super) fn promoted(&self, lanes: &[LaneId]) {
        self.here.note(lanes);
        self.tell_others(lanes, false);
    }

    pub(super) fn wakeups(&self) -> Wakeups {
        self.listener.get_or_init(|| {
            AbortOnDropHandle::new(tokio::spawn(listen(self.database.clone(), self.here.clone())))
        });
        self.here.bell.listen()
    }

    /// Notifies other processes of the lanes that they serve. `unknown`: also if this one does not know which.
    fn tell_others(&self, lanes: &[LaneId], unknown: bool) {
        let theirs = self.theirs(lanes, unknown);
        if !theirs.is_empty() {
            self.outbox.add(&theirs);
        }
    }

    fn theirs(&self, lanes: &[LaneId], unknown: bool) -> Vec<LaneId> {
        let workers = self.here.workers.view();
        let theirs = |lane: &LaneId| if workers.is_known() { !workers.serves(*lane) } else { unknown };
        lanes.iter().copied().filter(theirs).collect()
    }
}

/// The workers of this process, and what wakes them.
#[derive(Clone, Debug)]
struct Here {
    bell: Arc<Bell>,
    workers: Arc<Workers>,
    turns: Arc<Turns>,
}

impl Here {
    /// Wakes workers if they serve one of these lanes. No lanes are any lanes.
    fn hint(&self, lanes: &[LaneId]) {
        if lanes.is_empty() {
            self.hint_any();
        } else if self.note(lanes) {
            self.bell.ring();
        }
    }

    fn hint_any(&self) {
        self.turns.hint_any();
        self.bell.ring();
    }

    /// Remembers those of the lanes that workers here serve. Returns whether there is one.
    fn note(&self, lanes: &[LaneId]) -> bool {
        let workers = self.workers.view();
        let served: Vec<LaneId> = lanes.iter().copied().filter(|lane| workers.serves(*lane)).collect();
        self.turns.hint(&served);
        !served.is_empty()
    }
}

/// The lanes that the next notifications name.
#[derive(Debug, Default)]
struct Outbox {
    lanes: Mutex<Lanes>,
    due: Notify,
    /// When the last notification was sent or added to a transaction.
    last: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Lanes {
    named: BTreeSet<LaneId>,
    any: bool,
}

impl Outbox {
    /// Adds lanes. No lanes are any lanes.
    fn add(&self, lanes: &[LaneId]) {
        {
            let mut next = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            let room = (AT_ONCE * NAMED).saturating_sub(next.named.len());
            next.any |= lanes.is_empty() || lanes.len() > room;
            next.named.extend(lanes.iter().take(room));
        }
        self.due.notify_one();
    }

    /// Waits until there is something to send, and returns it.
    async fn next(&self) -> Vec<String> {
        self.due.notified().await;
        let next = std::mem::take(&mut *self.lanes.lock().unwrap_or_else(PoisonError::into_inner));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        payloads(next)
    }

    /// Returns whether no notification was sent lately. If so, the caller sends one now.
    fn is_calm(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let calm = last.is_none_or(|at| at.elapsed() >= CALM);
        if calm {
            *last = Some(Instant::now());
        }
        calm
    }
}

/// The ids of lanes, one after the other, in as many notifications as it takes.
fn payloads(Lanes { named, any }: Lanes) -> Vec<String> {
    let named: Vec<String> = named.iter().map(|lane| lane.0.simple().to_string()).collect();
    let any = any.then(|| ANY.to_owned());
    named.chunks(NAMED).map(<[String]>::concat).chain(any).collect()
}

/// The lanes that a notification names; none if it names any lane, or was sent by another program.
fn parsed(payload: &str) -> Vec<LaneId> {
    let ids = payload.as_bytes().chunks(32).map(|id| Uuid::try_parse_ascii(id).map(LaneId));
    ids.collect::<Result<_, _>>().unwrap_or_default()
}

/// Sends a notification whenever one is due. Those that become due while one is sent share the next.
async fn send(database: Database, outbox: Arc<Outbox>) {
    loop {
        let lanes = outbox.next().await;
        if let Err(error) = database.answered(execute(database.connection(), NOTIFY, [lanes.into()])).await {
            // Workers poll, so a lost hint costs little.
            tracing::debug!(%error, "could not notify workers");
        }
        tokio::time::sleep(DEBOUNCE).await;
    }
}

/// Wakes workers for each notification, and whenever one may have been missed.
async fn listen(database: Database, here: Here) {
    // Behind a pooler without a direct way, workers in this process are woken, and the others poll. So they do where there
    // is only one connection, as the one that listens is open all the time.
    let Some(connection) = database.listening() else { return };
    if !database.give_up_one() {
        return;
    }
    loop {
        if let Err(error) = hear(connection, &here).await {
            tracing::debug!(%error, "listening for notifications failed");
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn hear(connection: &DatabaseConnection, here: &Here) -> Result<(), sea_orm::sqlx::Error> {
    let pool = connection.get_postgres_connection_pool();
    let mut listener = answered(PgListener::connect_with(pool)).await?;
    let mut asleep = here.workers.asleep();
    loop {
        // PostgreSQL wakes every session that listens for every notification, whatever it says.
        if *asleep.borrow_and_update() {
            answered(listener.unlisten_all()).await?;
        } else {
            answered(listener.listen(CHANNEL)).await?;
            here.hint_any();
        }
        loop {
            tokio::select! {
                heard = tokio::time::timeout(SILENCE, listener.try_recv()) => {
                    let Ok(heard) = heard else {
                        // The silence may be that of a network that drops all packets.
                        answered(listener.execute("SELECT 1")).await?;
                        here.hint_any();
                        continue;
                    };
                    match heard? {
                        Some(notification) => here.hint(&parsed(notification.payload())),
                        // The connection was lost, and the next call reconnects.
                        None => here.hint_any(),
                    }
                }
                changed = asleep.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    break;
                }
            }
        }
    }
}

/// Limits how long an operation may take: if the network drops its packets, no answer would ever arrive.
async fn answered<T>(
    asked: impl Future<Output = Result<T, sea_orm::sqlx::Error>>,
) -> Result<T, sea_orm::sqlx::Error> {
    tokio::time::timeout(ANSWER, asked).await.unwrap_or(Err(sea_orm::sqlx::Error::PoolTimedOut))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(number: u128) -> LaneId {
        LaneId(Uuid::from_u128(number))
    }

    #[test]
    fn a_notification_names_lanes() {
        let lanes = BTreeSet::from([1, 7, u128::MAX].map(lane));
        let sent = payloads(Lanes { named: lanes.clone(), any: false });
        assert_eq!(
            sent.iter().map(|payload| parsed(payload)).collect::<Vec<_>>(),
            [lanes.into_iter().collect::<Vec<_>>()]
        );
        for other in ["", ANY, "x", &"y".repeat(64)] {
            assert_eq!(parsed(other), []);
        }
    }

    #[tokio::test]
    async fn lanes_are_named_beside_too_many_to_name() {
        let outbox = Outbox::default();
        outbox.add(&[lane(1)]);
        outbox.add(&[]);
        outbox.add(&(2..=5_000).map(lane).collect::<Vec<_>>());
        let sent = outbox.next().await;
        assert!(sent.iter().all(|payload| payload.len() < 8_000));
        let named: Vec<LaneId> = sent.iter().flat_map(|payload| parsed(payload)).collect();
        assert_eq!(named, (1..=1_920).map(lane).collect::<Vec<_>>());
        assert_eq!(sent.last().map(String::as_str), Some(ANY));
    }
}
