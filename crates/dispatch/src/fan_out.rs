//! The task that makes the deliveries of events with many subscribers.

use std::time::Duration;

use postrider_core::chain;
use postrider_database::{Dialect, Purpose, comes_from_trouble};
use postrider_store::Store;
use postrider_store::fan_out::{FannedOut, Step};
use postrider_telemetry::metric;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::filters::Filters;

/// How many deliveries a step makes. Everything else waits for a step on SQLite, which has one connection.
const STEP: usize = 500;
const STEP_ON_SQLITE: usize = 200;

/// The longest pause after a step.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long to wait for another process that takes the steps.
const BUSY: Duration = Duration::from_millis(500);

/// How long to wait after an error, at first and at most.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Wakes the task, which ends when the last handle is dropped.
#[derive(Clone, Debug)]
pub(crate) struct FanOuts(mpsc::Sender<()>);

impl FanOuts {
    /// Starts the task. Must be called within a tokio runtime.
    pub(crate) fn start(store: &Store, filters: &Filters) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        // Not with the connections for intake, so that small events overtake.
        let database = store.database().serving(Purpose::Delivery);
        tokio::spawn(run(store.clone().over(database), filters.clone(), receiver));
        Self(sender)
    }

    /// Lets the task look for deliveries to make.
    pub(crate) fn wake(&self) {
        // When the channel is full, the task is about to look.
        let _ = self.0.try_send(());
    }
}

/// Takes steps until none is left to take, whenever it is woken. It rests after a step for as long as the step took, so that
/// other work has the database for half of the time at least.
async fn run(store: Store, filters: Filters, mut woken: mpsc::Receiver<()>) {
    let max = match store.database().dialect() {
        Dialect::Postgres => STEP,
        Dialect::Sqlite => STEP_ON_SQLITE,
    };
    let (mut last, mut again) = (None, AGAIN);
    while woken.recv().await.is_some() {
        while !woken.is_closed() {
            let began = Instant::now();
            match store.database().answered(store.fan_out(last.as_ref(), max, &filters)).await {
                Ok(FannedOut::Step(Step { tenant, event, jobs, complete })) => {
                    let took = began.elapsed();
                    metrics::histogram!(metric::FAN_OUT_STEP).record(took.as_secs_f64());
                    tracing::debug!(%tenant, %event, jobs, complete, "made deliveries of an event with many subscribers");
                    (last, again) = (Some(tenant), AGAIN);
                    sleep(took.min(LONGEST_PAUSE)).await;
                }
                Ok(FannedOut::Busy) => sleep(BUSY).await,
                Ok(FannedOut::Nothing) => break,
                Err(error) => {
                    if !comes_from_trouble(&error) {
                        tracing::warn!(error = %chain(&error), "fanning out an event failed; it will be repeated");
                    }
                    sleep(again).await;
                    again = (2 * again).min(LONGEST_WAIT);
                }
            }
        }
    }
}
