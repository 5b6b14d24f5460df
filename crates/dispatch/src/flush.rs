//! Shared transactions: what arrives while a batch is being committed makes the next one.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};

use crate::commit::{Prepared, commit};
use crate::dispatcher::{Dispatcher, Shared};
use crate::error::DispatchError;
use crate::event::Dispatched;

/// How many bytes of data a batch gathers before it is committed.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// How many events a batch gathers before it is committed.
const MAX_EVENTS: usize = if Dispatcher::MAX_BATCH < 500 { Dispatcher::MAX_BATCH } else { 500 };

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

impl Flushers {
    pub(crate) fn start(shared: &Arc<Shared>, flushers: usize, room: usize) -> Self {
        let (sender, receiver) = mpsc::channel(room);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..flushers {
            tokio::spawn(flush(Arc::clone(shared), Arc::clone(&receiver)));
        }
        Self { waiting: sender }
    }

    pub(crate) async fn dispatch(&self, event: Prepared) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.waiting.send(Waiting { event, answer }).await.map_err(|_| DispatchError::Closed)?;
        answered.await.unwrap_or(Err(DispatchError::Closed))
    }
}

async fn flush(shared: Arc<Shared>, receiver: Arc<Mutex<mpsc::Receiver<Waiting>>>) {
    loop {
        let Some(batch) = gather(&receiver).await else { return };
        let (events, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.event, waiting.answer)).unzip();
        for (result, answer) in commit(&shared, &events).await.into_iter().zip(answers) {
            // Whoever asked may be gone; the event is as durable as the answer would have said.
            let _ = answer.send(result);
        }
    }
}

/// Waits for one event, and takes what else is there; none when no more can come.
async fn gather(receiver: &Mutex<mpsc::Receiver<Waiting>>) -> Option<Vec<Waiting>> {
    // Held while waiting, so that one flusher at a time gathers. It is no lock on anything else.
    let mut receiver = receiver.lock().await;
    let first = receiver.recv().await?;
    let mut bytes = first.event.size();
    let mut batch = vec![first];
    while batch.len() < MAX_EVENTS && bytes < MAX_BYTES {
        let Ok(next) = receiver.try_recv() else { break };
        bytes += next.event.size();
        batch.push(next);
    }
    Some(batch)
}
