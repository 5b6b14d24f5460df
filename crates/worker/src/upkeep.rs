//! The worker's periodic tasks.
//!
//! Each task is a file with its interval and a function `run`, and a line in [`TASKS`].

mod delete_tenants;
mod drain;
mod end_listeners;
mod erase;
mod extend;
mod fan_out;
mod fold_statistics;
mod hold_lanes;
mod keep_partitions;
mod measure;
mod notify_owners;
mod read_proxies;
mod read_watched;
mod refill;
mod relay;
mod remove_audit;
mod remove_expired;
mod remove_keys;
mod remove_lanes;
mod remove_of_tenants;
mod remove_payloads;
mod remove_replays;
mod remove_sandboxes;
mod remove_sessions;
mod remove_statistics;
mod remove_tail;
mod replay;
mod rescue;
mod steps;
mod tidy;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use postrider_core::chain;
use postrider_database::comes_from_trouble;
use postrider_store::StoreError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::shared::Shared;

const TASKS: [Task; 30] = [
    Task::of_one("remove expired events", remove_expired::interval, |shared| {
        Box::pin(remove_expired::run(shared))
    })
    .first_after(Duration::from_millis(700))
    .of_any_length(),
    Task::of_one("remove expired payloads", remove_payloads::interval, |shared| {
        Box::pin(remove_payloads::run(shared))
    })
    .first_after(Duration::from_millis(900))
    .of_any_length(),
    Task::of_one("remove expired data of tenants", remove_of_tenants::interval, |shared| {
        Box::pin(remove_of_tenants::run(shared))
    })
    .first_after(Duration::from_millis(1100))
    .of_any_length(),
    Task::of_each("keep partitions", keep_partitions::interval, |shared| {
        Box::pin(keep_partitions::run(shared))
    })
    .first_after(Duration::from_millis(300)),
    Task::of_each("read egress proxies", read_proxies::interval, |shared| {
        Box::pin(read_proxies::run(shared))
    }),
    Task::of_each("read who follows deliveries", read_watched::interval, |shared| {
        Box::pin(read_watched::run(shared))
    }),
    Task::of_one("remove old rows of the live tail", remove_tail::interval, |shared| {
        Box::pin(remove_tail::run(shared))
    }),
    Task::of_one("remove expired sandboxes", remove_sandboxes::interval, |shared| {
        Box::pin(remove_sandboxes::run(shared))
    })
    .first_after(Duration::from_millis(1500)),
    Task::of_one("end listeners", end_listeners::interval, |shared| Box::pin(end_listeners::run(shared))),
    Task::of_each("extend leases", extend::interval, |shared| Box::pin(extend::run(shared))),
    Task::of_one("rescue jobs", rescue::interval, |shared| Box::pin(rescue::run(shared))),
    Task::of_one("relay the outbox", relay::interval, |shared| Box::pin(relay::run(shared))),
    Task::of_one("fill the queue", refill::interval, |shared| Box::pin(refill::run(shared))).of_any_length(),
    Task::of_one("tidy the queue", tidy::interval, |shared| Box::pin(tidy::run(shared))),
    Task::of_one("end deliveries of inactive subscribers", drain::interval, |shared| {
        Box::pin(drain::run(shared))
    }),
    Task::of_one("erase payloads", erase::interval, |shared| Box::pin(erase::run(shared))),
    Task::of_one("delete tenants", delete_tenants::interval, |shared| Box::pin(delete_tenants::run(shared))),
    Task::of_one("hold the lanes of inactive tenants", hold_lanes::interval, |shared| {
        Box::pin(hold_lanes::run(shared))
    }),
    Task::of_one("continue fan-outs", fan_out::interval, |shared| Box::pin(fan_out::run(shared))),
    Task::of_one("continue replays", replay::interval, |shared| Box::pin(replay::run(shared))),
    Task::of_one("remove old replays", remove_replays::interval, |shared| {
        Box::pin(remove_replays::run(shared))
    }),
    Task::of_one("remove idempotency keys", remove_keys::interval, |shared| {
        Box::pin(remove_keys::run(shared))
    }),
    Task::of_one("remove old rows of the audit trail", remove_audit::interval, |shared| {
        Box::pin(remove_audit::run(shared))
    }),
    Task::of_one("remove expired sessions", remove_sessions::interval, |shared| {
        Box::pin(remove_sessions::run(shared))
    }),
    Task::of_one("remove lanes", remove_lanes::interval, |shared| Box::pin(remove_lanes::run(shared))),
    Task::of_one("fold statistics", fold_statistics::interval, |shared| {
        Box::pin(fold_statistics::run(shared))
    }),
    Task::of_one("remove statistics", remove_statistics::interval, |shared| {
        Box::pin(remove_statistics::run(shared))
    }),
    Task::of_one("notify owners", notify_owners::interval, |shared| Box::pin(notify_owners::run(shared)))
        .of_any_length(),
    Task::of_one("find certificates that expire", notify_owners::interval_of_certificates, |shared| {
        Box::pin(notify_owners::certificates(shared))
    })
    .first_after(Duration::from_millis(1300)),
    Task::of_each("measure the queue", measure::interval, |shared| Box::pin(measure::run(shared))),
];

/// How often a worker that does not lead looks at least whether it does. Its process sleeps in between.
const NOT_LEADING: Duration = Duration::from_secs(1);

/// The time between the first runs of two tasks. Many have the same interval, and those that run together each open a connection.
const APART: Duration = Duration::from_millis(30);

type Run = fn(&Shared) -> Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + '_>>;

/// A task that runs once per interval, counted from the end of its last run.
struct Task {
    /// The name in the log.
    name: &'static str,
    interval: fn(&Config) -> Duration,
    run: Run,
    /// When it first runs, if not after an interval.
    first_after: Option<Duration>,
    /// Every worker does it, for itself. Any other task one worker does for all.
    each: bool,
    /// Whether a run may take longer than the database's deadline. It is dropped at shutdown.
    of_any_length: bool,
}

impl Task {
    const fn of_each(name: &'static str, interval: fn(&Config) -> Duration, run: Run) -> Self {
        Self { name, interval, run, first_after: None, each: true, of_any_length: false }
    }

    const fn of_one(name: &'static str, interval: fn(&Config) -> Duration, run: Run) -> Self {
        Self { each: false, ..Self::of_each(name, interval, run) }
    }

    const fn first_after(self, pause: Duration) -> Self {
        Self { first_after: Some(pause), ..self }
    }

    const fn of_any_length(self) -> Self {
        Self { of_any_length: true, ..self }
    }
}

/// Starts the periodic tasks, which run until `stop`.
pub(crate) fn start(shared: &Arc<Shared>, stop: &CancellationToken) -> TaskTracker {
    let tasks = TaskTracker::new();
    let outage = Arc::new(Outage::default());
    let mut apart = Duration::ZERO;
    for task in &TASKS {
        let first_after = task.first_after.unwrap_or_else(|| (task.interval)(&shared.config) + apart);
        apart += APART;
        tasks.spawn(repeat(task, first_after, Arc::clone(shared), Arc::clone(&outage), stop.clone()));
    }
    tasks.close();
    tasks
}

/// When a task last told that the database is unavailable. All of them fail then, and one line a minute says enough.
#[derive(Default)]
struct Outage(Mutex<Option<Instant>>);

impl Outage {
    /// Returns whether this is the first failure within a minute.
    fn is_news(&self) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = told.is_none_or(|told| told.elapsed() >= Duration::from_mins(1));
        if is_news {
            *told = Some(Instant::now());
        }
        is_news
    }
}

async fn repeat(
    task: &'static Task,
    first_after: Duration,
    shared: Arc<Shared>,
    outage: Arc<Outage>,
    stop: CancellationToken,
) {
    let interval = (task.interval)(&shared.config);
    let mut pause = first_after;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = interval;
        if !task.each && !shared.presence.duties().leads {
            pause = interval.max(NOT_LEADING);
            continue;
        }
        let run = (task.run)(&shared);
        let ran = if task.of_any_length {
            tokio::select! {
                () = stop.cancelled() => return,
                ran = run => ran,
            }
        } else {
            // Not cancelled by `stop`: a run ends by itself, within the database's deadline.
            shared.store.database().answered(run).await
        };
        match ran {
            Err(error) if !comes_from_trouble(&error) && (!error.is_unavailable() || outage.is_news()) => {
                tracing::warn!(task = task.name, error = %chain(&error), "periodic task failed; it will run again");
            }
            _ => {}
        }
    }
}
