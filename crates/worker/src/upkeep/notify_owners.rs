//! Notifies the owners of subscribers that fail, or whose certificates expire.

use std::time::Duration;

use futures_util::future::join_all;
use postrider_store::StoreError;
use postrider_store::owner_notices::RaisedNotice;

use super::steps::Steps;
use crate::config::Config;
use crate::owner_notice;
use crate::shared::Shared;

/// How many subscribers one transaction looks at.
const MAX: u32 = 100;
/// How many notices are sent at once.
const AT_ONCE: u32 = 20;
/// How long nobody else sends a notice that this worker sends: longer than that takes.
const LEASE: Duration = Duration::from_mins(3);

pub(super) fn interval(_: &Config) -> Duration {
    Duration::from_secs(1)
}

/// Writes the notices that are due, and sends those that were written.
pub(super) async fn run(shared: &Shared) -> Result<(), StoreError> {
    let with_email = shared.config.mailer.is_some();
    let mut steps = Steps::for_a_second();
    while steps.next().await {
        let raised = shared.store.raise_failing(&shared.config.breaker, with_email, MAX).await?;
        raised.iter().for_each(log);
        let taken = shared.store.take_notices(with_email, AT_ONCE, LEASE).await?;
        if raised.is_empty() && taken.is_empty() {
            return Ok(());
        }
        for sent in join_all(taken.into_iter().map(|notice| owner_notice::send(shared, notice))).await {
            sent?;
        }
    }
    Ok(())
}

pub(super) fn interval_of_certificates(_: &Config) -> Duration {
    Duration::from_mins(1)
}

/// Writes notices about certificates, and removes those that nobody could send.
pub(super) async fn certificates(shared: &Shared) -> Result<(), StoreError> {
    let mut steps = Steps::for_a_second();
    while steps.next().await {
        let raised = shared.store.raise_certificates(shared.config.mailer.is_some(), MAX).await?;
        raised.iter().for_each(log);
        if raised.is_empty() {
            break;
        }
    }
    shared.store.remove_stale_notices().await
}

fn log(raised: &RaisedNotice) {
    let RaisedNotice { tenant, subscriber, kind } = raised;
    tracing::warn!(%tenant, %subscriber, stage = kind.as_str(), "the owner of a subscriber is to be notified");
}
