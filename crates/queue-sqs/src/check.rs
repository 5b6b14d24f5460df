//! What is checked of a queue when a program starts.

use std::fmt;
use std::time::Duration;

use crate::calls::{GetQueueAttributes, GetQueueUrl, QueueAttributes, QueueUrl};
use crate::client::Client;
use crate::error::SqsError;
use crate::url::SqsUrl;

/// For how long a queue should keep messages: what waits for longer has to be sent again.
const SHORTEST_RETENTION: Duration = Duration::from_hours(4 * 24);

/// What operators should know about a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// It keeps messages for less than four days.
    ShortRetention,
    /// It delays messages.
    Delay,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ShortRetention => {
                "the queue keeps messages for less than four days (MessageRetentionPeriod); what waits for longer is lost, and sent again later"
            }
            Self::Delay => "the queue delays each message (DelaySeconds), and so each delivery",
        })
    }
}

/// A queue that can be used.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) url: String,
    pub(crate) retention: Duration,
    pub(crate) warnings: Vec<Warning>,
}

/// Finds a queue by its name, and checks it.
pub(crate) async fn find(client: &Client, url: &SqsUrl, name: &str, fifo: bool) -> Result<Found, SqsError> {
    let asked = GetQueueUrl { queue_name: name, account: url.account.as_deref() };
    let found = client.call::<QueueUrl>("GetQueueUrl", &asked).await;
    let QueueUrl { queue_url } = found.map_err(|error| missing(error, name, fifo))?;
    let attributes = attributes(client, &queue_url).await?;
    let unfit = |reason| Err(SqsError::Unfit { queue: name.to_owned(), reason });
    if attributes.attributes.get("FifoQueue").is_some_and(|is| is == "true") != fifo {
        return unfit(if fifo { "it is no FIFO queue" } else { "it is a FIFO queue" });
    }
    let retention = Duration::from_secs(attributes.number("MessageRetentionPeriod").unwrap_or_default());
    if retention < Duration::from_mins(1) {
        return unfit("it does not say for how long it keeps messages (MessageRetentionPeriod)");
    }
    let mut warnings = Vec::new();
    if retention < SHORTEST_RETENTION {
        warnings.push(Warning::ShortRetention);
    }
    if attributes.number("DelaySeconds").unwrap_or_default() > 0 {
        warnings.push(Warning::Delay);
    }
    Ok(Found { url: queue_url, retention, warnings })
}

pub(crate) async fn attributes(client: &Client, queue: &str) -> Result<QueueAttributes, SqsError> {
    let asked = GetQueueAttributes { queue_url: queue, attribute_names: ["All"] };
    client.call("GetQueueAttributes", &asked).await
}

/// The error for a queue that does not exist.
fn missing(error: SqsError, name: &str, fifo: bool) -> SqsError {
    match &error {
        SqsError::Refused { code, .. } if code == "QueueDoesNotExist" || code == "NonExistentQueue" => {
            let hint = if fifo {
                "; create it, name another one with fifo=…, or keep the jobs of ordered subscribers in the database with fifo=none"
            } else {
                "; create it first"
            };
            SqsError::Missing { queue: name.to_owned(), hint }
        }
        _ => error,
    }
}
