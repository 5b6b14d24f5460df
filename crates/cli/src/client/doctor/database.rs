//! Checks of a deployment's database.

use std::time::Duration;

use postrider_core::{Keyring, SystemRandom, chain};
use postrider_program::Purpose;
use postrider_settings::{DatabaseArgs, SecretKeys};
use postrider_store::{Store, StoreError};

use super::{Check, Finding};

/// A wait for a worker that is worth a warning.
const LONG_WAIT: Duration = Duration::from_mins(1);
/// A difference between the clocks that is worth a warning.
const SKEW: u64 = 5_000;

pub(super) async fn checks(args: &DatabaseArgs) -> Vec<Check> {
    // Secrets are not read, so no key is needed.
    let keyring = Keyring::parse(&Keyring::generate_key(&SystemRandom));
    let keys = match keyring {
        Ok(keyring) => SecretKeys { keyring, lost: true },
        Err(error) => return vec![Check::new("database", Finding::Failed, chain(&error).to_string())],
    };
    let store = match postrider_program::open_store(args, keys, Purpose::Api, false).await {
        Ok((_, store)) => store,
        Err(error) => return vec![Check::new("database", Finding::Failed, chain(&error).to_string())],
    };
    let mut checks =
        vec![Check::new("database", Finding::Fine, "it answers, and has the schema of this release")];
    checks.push(result("database clock", clock(&store).await));
    checks.push(result("queue", queue(&store).await));
    store.database().close().await;
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

async fn queue(store: &Store) -> Result<(Finding, String), StoreError> {
    let depth = store.queue().depth().await?;
    let oldest = depth.oldest_ready.unwrap_or_default();
    let finding = if oldest >= LONG_WAIT { Finding::Warning } else { Finding::Fine };
    let counts = format!(
        "{} ready, {} scheduled, {} held, {} running",
        depth.ready, depth.scheduled, depth.held, depth.running
    );
    Ok((finding, format!("{counts}; the oldest ready job waits for {:.1} s", oldest.as_secs_f64())))
}
