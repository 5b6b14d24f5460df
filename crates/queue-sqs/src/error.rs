//! Errors of SQS.

use postrider_queue::QueueError;

/// Why SQS does not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqsError {
    /// No credentials were found, or those that were found cannot be used.
    #[error(
        "no usable AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, a web identity, or give the container or the instance a role"
    )]
    Credentials(#[source] reqsign_core::Error),
    /// SQS cannot be reached.
    #[error("cannot reach SQS")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// SQS did not answer in time.
    #[error("SQS did not answer within {0} seconds")]
    Slow(u64),
    /// SQS answered with an error.
    #[error("SQS refused {call}: {code}: {message}")]
    Refused {
        /// The call.
        call: &'static str,
        /// The code of the error.
        code: String,
        /// Its text, up to 300 characters.
        message: String,
        /// Whether the same call may succeed later.
        passes: bool,
    },
    /// SQS answered with something else than the call's answer.
    #[error("SQS answered {0} with something unexpected")]
    Answer(&'static str, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// A queue does not exist.
    #[error("there is no queue {queue:?} in this region and account{hint}")]
    Missing {
        /// Its name.
        queue: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A queue cannot be used as it is.
    #[error("the queue {queue:?} cannot be used: {reason}")]
    Unfit {
        /// Its name.
        queue: String,
        /// Why.
        reason: &'static str,
    },
}

impl SqsError {
    /// Whether the same call may succeed later, without anybody changing anything.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Slow(_) => true,
            Self::Refused { passes, .. } => *passes,
            _ => false,
        }
    }
}

impl From<SqsError> for QueueError {
    /// Whatever SQS says while a program runs, such as that a key has expired or a queue is gone: jobs wait until somebody has
    /// seen to it.
    fn from(error: SqsError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}
