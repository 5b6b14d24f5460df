//! A worker's configuration from the settings of a program.

use postrider_settings::{RetentionArgs, RetryArgs, SettingsError, ShutdownArgs, WorkerArgs};
use postrider_store::health::BreakerPolicy;
use postrider_store::retention::{Age, RetentionSettings};

use crate::config::Config;
use crate::mail::{MailError, Mailer};

impl Config {
    /// Returns the configuration that the settings describe.
    ///
    /// # Errors
    /// Fails if the retry schedule is invalid.
    pub fn from_settings(
        worker: &WorkerArgs,
        retry: &RetryArgs,
        shutdown: ShutdownArgs,
    ) -> Result<Self, SettingsError> {
        Ok(Self {
            concurrency: worker.concurrency,
            subscriber_concurrency: worker.subscriber_concurrency,
            payload_memory: worker.payload_memory,
            lease: worker.lease,
            shutdown_grace: shutdown.shutdown_grace,
            retry: retry.config()?,
            retention: retention(worker.retention),
            retain_keys: worker.retain_keys,
            retain_audit: match worker.retain_audit {
                postrider_settings::Age::Forever => None,
                postrider_settings::Age::For(age) => Some(age),
            },
            breaker: BreakerPolicy {
                breaker_failures: worker.breaker_failures,
                deactivate_after: worker.deactivate_after(),
                ..BreakerPolicy::default()
            },
            mailer: mailer(worker)?,
            ..Self::default()
        })
    }
}

/// Returns what sends mail; `None` if no relay is set.
fn mailer(worker: &WorkerArgs) -> Result<Option<Mailer>, SettingsError> {
    let Some((url, from)) = worker.smtp()? else { return Ok(None) };
    Mailer::new(url, from).map(Some).map_err(|error| {
        let name =
            if matches!(error, MailError::From(_)) { "POSTRIDER_SMTP_FROM" } else { "POSTRIDER_SMTP_URL" };
        SettingsError::refused(name, error)
    })
}

/// Returns what these settings say about the retention.
pub fn retention(args: RetentionArgs) -> RetentionSettings {
    let age = |age| match age {
        postrider_settings::Age::Forever => Age::Forever,
        postrider_settings::Age::For(time) => Age::For(time),
    };
    RetentionSettings {
        history: args.retain_history.map(age),
        payloads: args.retain_payloads.map(age),
        dead: args.retain_dead.map(age),
    }
}

#[cfg(test)]
mod tests {
    use postrider_settings::bounds;

    use super::*;

    #[test]
    fn the_settings_have_the_bounds_of_the_configuration() {
        assert_eq!(bounds::CONCURRENCY, Config::CONCURRENCY);
        assert_eq!(bounds::SUBSCRIBER_CONCURRENCY, Config::CONCURRENCY);
        assert_eq!(bounds::PAYLOAD_MEMORY, Config::PAYLOAD_MEMORY);
        assert_eq!(bounds::LEASE, Config::LEASE);
        assert_eq!(bounds::SHUTDOWN_GRACE, Config::SHUTDOWN_GRACE);
    }
}
