//! How much a worker takes on at once.

#![allow(clippy::doc_markdown, reason = "`--help` shows these comments as they are written")]

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;

use crate::bounds;
use crate::retention::age;
use crate::value::{count_in, duration, duration_in, size_in};
use crate::{Age, RetentionArgs, SecretText, SettingsError};

/// A worker's limits, and when it stops sending to a failing subscriber.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Worker")]
pub struct WorkerArgs {
    /// Maximum number of requests in flight in this worker, of which one of several tenants gets at most seven eighths
    #[arg(
        long, env = "POSTRIDER_CONCURRENCY", value_name = "N", default_value = "512",
        value_parser = count_in::<NonZeroU32>(bounds::CONCURRENCY)
    )]
    pub concurrency: NonZeroU32,

    /// Maximum number of requests in flight to one subscriber, over all workers, unless its policy sets one
    #[arg(
        long, env = "POSTRIDER_SUBSCRIBER_CONCURRENCY", value_name = "N", default_value = "32",
        value_parser = count_in::<NonZeroU32>(bounds::SUBSCRIBER_CONCURRENCY)
    )]
    pub subscriber_concurrency: NonZeroU32,

    /// Bytes of payloads that this worker holds at once
    ///
    /// Deliveries of one event share its payload. Payloads of up to 16 KiB do not count. What does not fit waits, while
    /// smaller payloads pass it; a payload that is larger than this is held alone.
    #[arg(
        long, env = "POSTRIDER_PAYLOAD_MEMORY", value_name = "SIZE", default_value = "256MiB",
        value_parser = size_in(bounds::PAYLOAD_MEMORY)
    )]
    pub payload_memory: usize,

    /// How long a claimed job stays with a worker that has gone silent
    // Three request timeouts: a lease outlives any attempt even when extensions fail for a while.
    #[arg(
        long, env = "POSTRIDER_LEASE", value_name = "DURATION", default_value = "90s",
        value_parser = duration_in(bounds::LEASE)
    )]
    pub lease: Duration,

    /// Number of consecutive failures that open a subscriber's circuit breaker (0 disables it)
    #[arg(long, env = "POSTRIDER_BREAKER_FAILURES", value_name = "N", default_value = "10")]
    pub breaker_failures: u32,

    /// How long a subscriber may fail without a single success before it is deactivated (0s disables it)
    #[arg(
        long, env = "POSTRIDER_DEACTIVATE_AFTER", value_name = "DURATION", default_value = "5d",
        value_parser = duration
    )]
    pub deactivate_after: Duration,

    /// How long the idempotency keys of events are kept: for so long a repeated event is not dispatched again
    #[arg(
        long, env = "POSTRIDER_RETAIN_KEYS", value_name = "DURATION", default_value = "24h",
        value_parser = duration_in(bounds::KEYS)
    )]
    pub retain_keys: Duration,
    /// SMTP relay for notices to owners of subscribers: smtps://user:password@host, or smtp://… with ?tls=required
    #[arg(
        long,
        env = "POSTRIDER_SMTP_URL",
        value_name = "URL",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub smtp_url: Option<SecretText>,

    /// Sender of notices to owners of subscribers: an address such as hooks@example.com
    #[arg(long, env = "POSTRIDER_SMTP_FROM", value_name = "ADDRESS")]
    pub smtp_from: Option<String>,

    /// How long the audit trail is kept: an age, or `forever`
    #[arg(
        long, env = "POSTRIDER_RETAIN_AUDIT", value_name = "AGE", default_value = "365d", value_parser = age
    )]
    pub retain_audit: Age,

    /// How long events, deliveries and attempts are kept.
    #[command(flatten)]
    pub retention: RetentionArgs,
}

impl WorkerArgs {
    /// Returns how long a subscriber may fail without a success before it is deactivated; `None` if it never is.
    pub fn deactivate_after(&self) -> Option<Duration> {
        Some(self.deactivate_after).filter(|limit| !limit.is_zero())
    }

    /// Returns the URL of the SMTP relay and the sender of mail; `None` if there is no relay.
    ///
    /// # Errors
    /// Fails if one of them is given without the other.
    pub fn smtp(&self) -> Result<Option<(&str, &str)>, SettingsError> {
        let url = self.smtp_url.as_ref().and_then(SecretText::trimmed);
        let from = self.smtp_from.as_deref().map(str::trim).filter(|from| !from.is_empty());
        match (url, from) {
            (None, None) => Ok(None),
            (Some(url), Some(from)) => Ok(Some((url, from))),
            (Some(_), None) => Err(SettingsError::Missing {
                name: "POSTRIDER_SMTP_FROM",
                hint: "with POSTRIDER_SMTP_URL, set it to the sender's address, such as hooks@example.com",
            }),
            (None, Some(_)) => Err(SettingsError::Missing {
                name: "POSTRIDER_SMTP_URL",
                hint: "with POSTRIDER_SMTP_FROM, set it to the relay, such as smtps://user:password@mail.example.com",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        worker: WorkerArgs,
    }

    #[test]
    fn a_relay_and_a_sender_go_together() {
        let smtp = |given: &[&str]| {
            let args = ["test"].iter().chain(given).copied();
            let worker = Only::parse_from(args).worker;
            assert!(!format!("{worker:?}").contains("s3cret"));
            worker.smtp().map(|smtp| smtp.map(|(url, from)| (url.to_owned(), from.to_owned())))
        };
        let (url, from) =
            (["--smtp-url", "smtps://u:s3cret@mail.example"], ["--smtp-from", "hooks@example.com"]);
        assert!(matches!(smtp(&[]), Ok(None)));
        assert_eq!(smtp(&[url, from].concat()).unwrap(), Some((url[1].to_owned(), from[1].to_owned())));
        for (given, missing) in [(url, "POSTRIDER_SMTP_FROM"), (from, "POSTRIDER_SMTP_URL")] {
            let error = smtp(&given).unwrap_err().to_string();
            assert!(error.starts_with(missing) && !error.contains("s3cret"), "{error}");
        }
    }
}
