//! Checks of a deployment's database.

use std::time::Duration;

use postrider_core::{Keyring, SystemRandom, chain};
use postrider_program::Purpose;
use postrider_settings::{DatabaseArgs, QueueArgs, SecretKeys};
use postrider_store::examine::Examination;
use postrider_store::{Store, StoreError};

use super::{Check, Finding};

/// A wait for a worker that is worth a warning.
const LONG_WAIT: Duration = Duration::from_mins(1);
/// Below this, dead rows are no sign of trouble.
const MANY_ROWS: u64 = 100_000;
/// Programs make partitions a week ahead, so less means that they have not for days.
const PARTITIONS: Duration = Duration::from_hours(3 * 24);
/// A difference between the clocks that is worth a warning.
const SKEW: u64 = 5_000;

pub(super) async fn checks(args: &DatabaseArgs, queue: &QueueArgs) -> Vec<Check> {
    // Secrets are not read, so no key is needed.
    let keyring = Keyring::parse(&Keyring::generate_key(&SystemRandom));
    let keys = match keyring {
        Ok(keyring) => SecretKeys { keyring, lost: true },
        Err(error) => return vec![Check::new("database", Finding::Failed, chain(&error).to_string())],
    };
    let store = match postrider_program::open_store(args, queue, keys, Purpose::Api, false).await {
        Ok((_, store)) => store,
        Err(error) => return vec![Check::new("database", Finding::Failed, chain(&error).to_string())],
    };
    let mut checks =
        vec![Check::new("database", Finding::Fine, "it answers, and has the schema of this release")];
    match store.examine().await {
        Ok(found) => checks.extend(examined(&found)),
        Err(error) => checks.push(Check::new("database state", Finding::Failed, chain(&error).to_string())),
    }
    checks.push(result("database clock", clock(&store).await));
    checks.push(result("queue", depth(&store).await));
    store.database().close().await;
    checks
}

fn examined(found: &Examination) -> Vec<Check> {
    let finding = |is_fine: bool| if is_fine { Finding::Fine } else { Finding::Warning };
    let [gone, live] = found.bloat;
    let is_bloated = gone > MANY_ROWS && gone > live;
    let megabytes = found.size / 1_000_000;
    let mut checks = vec![
        Check::new("database version", Finding::Fine, found.version.clone()),
        Check::new(
            "durability",
            finding(found.durable),
            "fsync, full_page_writes and synchronous_commit must be on, or a crash loses acknowledged events",
        ),
        Check::new(
            "disk",
            Finding::Fine,
            format!("the database takes {megabytes} MB; watch the space that is left"),
        ),
        Check::new("bloat", finding(!is_bloated), format!("{gone} dead rows or free pages beside {live}")),
        Check::new("workers", finding(found.workers > 0), format!("{} workers run", found.workers)),
    ];
    if let Some(ahead) = found.partitions_ahead {
        let days = ahead.as_secs_f64() / 86_400.0;
        checks.push(Check::new(
            "partitions",
            finding(ahead >= PARTITIONS),
            format!("there are partitions for {days:.1} days"),
        ));
    }
    checks
}

fn result(name: &'static str, found: Result<(Finding, String), StoreError>) -> Check {
    match found {
        Ok((finding, detail)) => Check::new(name, finding, detail),
        Err(error) => Check::new(name, Finding::Failed, chain(&error).to_string()),
    }
}

async fn clock(store: &Store) -> Result<(Finding, String), StoreError> {
    let skew = store.clock_skew().await?;
    let finding = if skew.millis.unsigned_abs() >= SKEW { Finding::Warning } else { Finding::Fine };
    Ok((
        finding,
        format!(
            "this machine is {} ms ahead of it, give or take {} ms",
            skew.millis,
            skew.uncertainty.as_millis()
        ),
    ))
}

async fn depth(store: &Store) -> Result<(Finding, String), StoreError> {
    let depth = store.queue().depth().await?;
    let oldest = depth.oldest_ready.unwrap_or_default();
    let finding = if oldest >= LONG_WAIT { Finding::Warning } else { Finding::Fine };
    let counts = format!(
        "{} ready, {} scheduled, {} held, {} running",
        depth.ready, depth.scheduled, depth.held, depth.running
    );
    Ok((finding, format!("{counts}; the oldest ready job waits for {:.1} s", oldest.as_secs_f64())))
}
