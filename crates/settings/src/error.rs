//! What can be wrong with a setting.

use std::error::Error;
use std::path::PathBuf;

/// A setting is missing or makes no sense. The message names its variable and never its value.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It is needed and not set.
    #[error("{name} is missing: {hint}")]
    Missing {
        /// The environment variable.
        name: &'static str,
        /// What to set it to.
        hint: &'static str,
    },
    /// Its value makes no sense.
    #[error("{name}: {reason}")]
    Invalid {
        /// The environment variable.
        name: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Its value was refused by what it is for.
    #[error("{name}: {source}")]
    Refused {
        /// The environment variable.
        name: &'static str,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A file that it names cannot be read.
    #[error("{name}: cannot read {}: {source}", path.display())]
    Unreadable {
        /// The environment variable.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl SettingsError {
    pub(crate) fn refused(name: &'static str, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Refused { name, source: Box::new(source) }
    }

    pub(crate) fn invalid(name: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { name, reason: reason.into() }
    }
}
