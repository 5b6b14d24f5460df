//! Shared transactions: what arrives while a batch is being committed makes the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::commit::{Prepared, commit};
use crate::dispatcher::{Dispatcher, Shared};
use crate::error::DispatchError;
use crate::event::Dispatched;

/// How many bytes of data a batch gathers before it is committed.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// How many events a batch gathers before it is committed.
const MAX_EVENTS: usize = if Dispatcher::MAX_BATCH < 500 { Dispatcher::MAX_BATCH } else { 500 };

/// How long a batch waits at most for another one's commit: that one may hang.
const PATIENCE: Duration = Duration::from_millis(20);

type Answer = Result<Dispatched, DispatchError>;

/// An event that waits for its batch.
struct Waiting {
    event: Prepared,
    answer: oneshot::Sender<Answer>,
}

/// The tasks that commit batches. They end when the last dispatcher is gone and all is committed.
#[derive(Clone, Debug)]
pub(crate) struct Flushers {
    waiting: mpsc::Sender<Waiting>,
}

/// What the flushers know of each other.
#[derive(Debug)]
struct Flow {
    /// Whoever holds it gathers. It is held while waiting, and is no lock on anything else.
    receiver: Mutex<mpsc::Receiver<Waiting>>,
    /// How many events are being committed now.
    committing: AtomicUsize,
    /// A batch has been committed.
    committed: Notify,
}

impl Flushers {
    pub(crate) fn start(shared: &Arc<Shared>, flushers: usize, room: usize) -> Self {
        let (sender, receiver) = mpsc::channel(room);
        let flow = Arc::new(Flow {
            receiver: Mutex::new(receiver),
            committing: AtomicUsize::new(0),
            committed: Notify::new(),
        });
        for _ in 0..flushers {
            tokio::spawn(flush(Arc::clone(shared), Arc::clone(&flow)));
        }
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
        let Some((batch, committing)) = flow.gather().await else { return };
        let (events, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.event, waiting.answer)).unzip();
        let results = commit(&shared, &events).await;
        drop(committing);
        for (result, answer) in results.into_iter().zip(answers) {
            // Whoever asked may be gone; the event is as durable as the answer would have said.
            let _ = answer.send(result);
        }
    }
}

impl Flow {
    /// Waits for one event, and takes what else is there; none when no more can come. A batch that is smaller than what
    /// is being committed waits for more until that is done: on a busy server fewer, larger batches cost less than many,
    /// and on an idle one what is being committed is one event.
    async fn gather(&self) -> Option<(Vec<Waiting>, Committing<'_>)> {
        let mut receiver = self.receiver.lock().await;
        let first = receiver.recv().await?;
        let until = Instant::now() + PATIENCE;
        let mut bytes = first.event.size();
        let mut batch = vec![first];
        while batch.len() < MAX_EVENTS && bytes < MAX_BYTES {
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
            batch.push(next);
        }
        self.committing.fetch_add(batch.len(), Ordering::Relaxed);
        let committing = Committing { events: batch.len(), flow: self };
        Some((batch, committing))
    }
}

/// Counts events as being committed until it is dropped, even by a panic: nobody may wait for what will not end.
struct Committing<'a> {
    events: usize,
    flow: &'a Flow,
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        self.flow.committing.fetch_sub(self.events, Ordering::Relaxed);
        self.flow.committed.notify_one();
    }
}
