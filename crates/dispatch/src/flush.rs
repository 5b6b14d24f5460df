//! Shared transactions: events that arrive while one batch is being committed form the next.
//!
//! Events with many subscribers are passed on to a task of their own, because counting their subscribers takes time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::commit::{Answer, MAX_DELIVERIES, Prepared, commit_narrow, commit_wide};
use crate::error::DispatchError;
use crate::shared::Shared;

/// How many bytes of data a batch gathers before it is committed.
const MAX_BYTES: usize = 1024 * 1024;

/// How many events a batch gathers before it is committed.
const MAX_EVENTS: usize = 500;

/// The longest that a batch waits for the commit of another, which may hang.
const MAX_WAIT: Duration = Duration::from_millis(20);

/// After a commit of this many events or more, the next batch gathers events for twice as long as the commit took. A busy
/// database therefore gets fewer and larger statements. A few callers who send one event after another do not wait.
const MANY_EVENTS: usize = 8;

/// The longest that a batch gathers events because of the previous commit.
const MAX_REST: Duration = Duration::from_millis(6);

/// An event that waits for its batch.
struct Waiting {
    event: Prepared,
    answer: oneshot::Sender<Answer>,
}

/// The tasks that commit batches. They end once the last dispatcher is dropped and every event is committed.
#[derive(Clone, Debug)]
pub(crate) struct Flushers {
    waiting: mpsc::Sender<Waiting>,
}

/// State that the flushers share.
#[derive(Debug)]
struct Flow {
    /// The flusher that holds the lock gathers the next batch. It holds the lock while it waits for events.
    receiver: Mutex<mpsc::Receiver<Waiting>>,
    /// How many events are being committed now.
    committing: AtomicUsize,
    /// When the next batch may be committed.
    rested_at: watch::Sender<Instant>,
    /// Notified when a batch has been committed.
    committed: Notify,
    /// Takes the events that have many subscribers.
    wide: mpsc::Sender<Waiting>,
}

impl Flushers {
    pub(crate) fn start(shared: &Arc<Shared>, flushers: usize, room: usize) -> Self {
        let (sender, receiver) = mpsc::channel(room);
        let (wide, wide_receiver) = mpsc::channel(room);
        let flow = Arc::new(Flow {
            receiver: Mutex::new(receiver),
            committing: AtomicUsize::new(0),
            rested_at: watch::Sender::new(Instant::now()),
            committed: Notify::new(),
            wide,
        });
        for _ in 0..flushers {
            tokio::spawn(flush(Arc::clone(shared), Arc::clone(&flow)));
        }
        tokio::spawn(flush_wide(Arc::clone(shared), wide_receiver));
        Self { waiting: sender }
    }

    pub(crate) async fn dispatch(&self, event: Prepared) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.waiting.send(Waiting { event, answer }).await.map_err(|_| DispatchError::Closed)?;
        answered.await.unwrap_or(Err(DispatchError::Closed))
    }
}

async fn flush(shared: Arc<Shared>, flow: Arc<Flow>) {
    loop {
        let Some((batch, committing)) = flow.gather(&shared).await else { return };
        let (events, waiting): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.event, waiting.answer)).unzip();
        let answers = commit_narrow(&shared, &events).await;
        drop(committing);
        for ((answer, waiting), event) in answers.into_iter().zip(waiting).zip(events) {
            match answer {
                // The caller may have stopped waiting; the event is durable all the same.
                Some(answer) => drop(waiting.send(answer)),
                // Fails only when the runtime ends, and the caller learns that its event was dropped.
                None => drop(flow.wide.send(Waiting { event, answer: waiting }).await),
            }
        }
    }
}

/// Commits events with many subscribers. Those that arrive while one batch is being committed form the next.
async fn flush_wide(shared: Arc<Shared>, mut receiver: mpsc::Receiver<Waiting>) {
    while let Some(first) = receiver.recv().await {
        let mut bytes = first.event.size();
        let mut batch = vec![first];
        while batch.len() < MAX_EVENTS && bytes < MAX_BYTES {
            let Ok(next) = receiver.try_recv() else { break };
            bytes += next.event.size();
            batch.push(next);
        }
        let events: Vec<&Prepared> = batch.iter().map(|waiting| &waiting.event).collect();
        let answers = commit_wide(&shared, &events).await;
        for (waiting, answer) in batch.into_iter().zip(answers) {
            let _ = waiting.answer.send(answer);
        }
    }
}

impl Flow {
    /// Waits for one event, and takes those that have arrived with it. Returns `None` once all dispatchers are dropped.
    ///
    /// A batch that is smaller than the one being committed waits for more events until that commit is done: under load,
    /// few large batches cost less than many small ones. On an idle server at most one event is being committed, so a
    /// single event never waits. [`MANY_EVENTS`] says when a batch also waits after a commit.
    async fn gather(&self, shared: &Shared) -> Option<(Vec<Waiting>, Committing<'_>)> {
        let mut receiver = self.receiver.lock().await;
        let first = receiver.recv().await?;
        let rested_at = *self.rested_at.borrow();
        sleep_until(rested_at).await;
        let until = Instant::now() + MAX_WAIT;
        let (mut bytes, mut deliveries) = (first.event.size(), expected_deliveries(shared, &first.event));
        let mut batch = vec![first];
        while batch.len() < MAX_EVENTS && bytes < MAX_BYTES && deliveries < MAX_DELIVERIES {
            let next = match receiver.try_recv() {
                Ok(next) => next,
                Err(_) if batch.len() >= self.committing.load(Ordering::Relaxed) => break,
                Err(_) => tokio::select! {
                    next = receiver.recv() => match next {
                        Some(next) => next,
                        None => break,
                    },
                    () = self.committed.notified() => continue,
                    () = sleep_until(until) => break,
                },
            };
            bytes += next.event.size();
            deliveries += expected_deliveries(shared, &next.event);
            batch.push(next);
        }
        self.committing.fetch_add(batch.len(), Ordering::Relaxed);
        let committing = Committing { events: batch.len(), since: Instant::now(), flow: self };
        Some((batch, committing))
    }
}

/// Returns how many deliveries an event is likely to be written with.
fn expected_deliveries(shared: &Shared, Prepared { event, only, .. }: &Prepared) -> usize {
    let of_type =
        || shared.subscribers.expected_deliveries(&(event.tenant.clone(), event.event_type.clone()));
    only.map_or_else(of_type, |_| 1)
}

/// Counts events as being committed until dropped. Also dropped by a panic, after which no flusher waits for them.
struct Committing<'a> {
    events: usize,
    since: Instant,
    flow: &'a Flow,
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        self.flow.committing.fetch_sub(self.events, Ordering::Relaxed);
        if self.events >= MANY_EVENTS {
            let now = Instant::now();
            self.flow.rested_at.send_replace(now + (2 * (now - self.since)).min(MAX_REST));
        }
        self.flow.committed.notify_one();
    }
}
