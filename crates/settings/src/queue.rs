//! Where the queue is.

#![allow(clippy::doc_markdown, reason = "`--help` shows these comments as they are written")]

use clap::Args;

use crate::SecretText;

/// The queue.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Queue")]
pub struct QueueArgs {
    /// URL of a queue outside the database: redis://host:6379/0, rediss://…, redis+cluster://… or sqs://region/queue
    ///
    /// Without it the queue is in the database. All programs of a deployment need the same queue.
    #[arg(
        long,
        env = "POSTRIDER_QUEUE_URL",
        value_name = "URL",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub queue_url: Option<SecretText>,
}

impl QueueArgs {
    /// The URL, if one is set.
    pub fn url(&self) -> Option<&str> {
        self.queue_url.as_ref().and_then(SecretText::trimmed)
    }
}
