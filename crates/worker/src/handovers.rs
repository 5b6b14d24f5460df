//! The attempts that wait for the answers of listeners. One task reads the answers for all attempts of this worker, while there are
//! any.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postrider_core::{HandoverId, chain};
use postrider_database::comes_from_trouble;
use postrider_store::Store;
use postrider_store::listeners::{Handover, HandoverState};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// How often answers are read.
const POLL: Duration = Duration::from_millis(50);

/// How long a request waits for a stream to take it. A stream that has broken comes back within that time.
const UNTAKEN: Duration = Duration::from_secs(5);

/// The attempts of this worker that wait.
#[derive(Debug)]
pub(crate) struct Handovers {
    store: Store,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    all: HashMap<HandoverId, Waiter>,
    /// Whether the task runs that reads answers.
    reading: bool,
}

#[derive(Debug)]
struct Waiter {
    handover: Handover,
    since: Instant,
    answer: oneshot::Sender<Answer>,
}

/// What has become of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Given(Value),
    /// No stream has taken it, or its listener has ended.
    Untaken,
}

impl Handovers {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, waiting: Arc::default() }
    }

    /// Waits for an answer; `None` if it cannot be read any more.
    pub(crate) async fn wait(&self, handover: Handover) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        let id = handover.id;
        let _place = Place { waiting: Arc::clone(&self.waiting), id };
        let starts = {
            let mut waiting = lock(&self.waiting);
            waiting.all.insert(id, Waiter { handover, since: Instant::now(), answer });
            !std::mem::replace(&mut waiting.reading, true)
        };
        if starts {
            tokio::spawn(read(self.store.clone(), Arc::clone(&self.waiting)));
        }
        answered.await.ok()
    }
}

/// Reads answers until nobody waits.
async fn read(store: Store, waiting: Arc<Mutex<Waiting>>) {
    loop {
        sleep(POLL).await;
        let asked: Vec<Handover> = {
            let mut waiting = lock(&waiting);
            if waiting.all.is_empty() {
                waiting.reading = false;
                return;
            }
            waiting.all.values().map(|waiter| waiter.handover.clone()).collect()
        };
        let states = match store.database().answered(store.handover_states(&asked)).await {
            Ok(states) => states,
            Err(error) => {
                if !comes_from_trouble(&error) {
                    tracing::debug!(error = %chain(&error), "answers of listeners not read; it will be repeated");
                }
                continue;
            }
        };
        let mut states: HashMap<_, _> = states.into_iter().collect();
        let mut waiting = lock(&waiting);
        for Handover { id, .. } in asked {
            let Some(waiter) = waiting.all.get(&id) else { continue };
            let answer = match states.remove(&id) {
                Some(HandoverState::Answered(answer)) => Answer::Given(answer),
                Some(HandoverState::Taken) => continue,
                Some(HandoverState::Waiting) if waiter.since.elapsed() < UNTAKEN => continue,
                Some(HandoverState::Waiting) | None => Answer::Untaken,
            };
            if let Some(waiter) = waiting.all.remove(&id) {
                // The attempt may have ended in between.
                let _ = waiter.answer.send(answer);
            }
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of an attempt among those that wait, until it is dropped.
struct Place {
    waiting: Arc<Mutex<Waiting>>,
    id: HandoverId,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.waiting).all.remove(&self.id);
    }
}

/// Removes a request from the database at the end of its attempt, also if the attempt is given up.
pub(crate) struct End {
    store: Store,
    handover: Option<Handover>,
}

impl End {
    pub(crate) fn of(store: Store, handover: Handover) -> Self {
        Self { store, handover: Some(handover) }
    }

    pub(crate) async fn now(mut self) {
        if let Some(handover) = self.handover.take() {
            end(&self.store, &handover).await;
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // Without a runtime the process ends, and upkeep removes the row.
        if let (Some(handover), Ok(runtime)) = (self.handover.take(), tokio::runtime::Handle::try_current()) {
            let store = self.store.clone();
            runtime.spawn(async move { end(&store, &handover).await });
        }
    }
}

/// If it fails, upkeep removes the row.
async fn end(store: &Store, handover: &Handover) {
    if let Err(error) = store.database().answered(store.end_handover(handover)).await {
        tracing::debug!(error = %chain(&error), "a request to a listener was not removed");
    }
}
