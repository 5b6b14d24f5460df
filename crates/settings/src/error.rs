//! What can be wrong with a setting.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;

use postrider_telemetry::OtlpError;

/// A setting is missing or invalid. Names the setting's environment variable and never contains its value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A required setting is not set.
    #[error("{name} is missing: {hint}")]
    Missing {
        /// The environment variable.
        name: &'static str,
        /// What to set it to.
        hint: &'static str,
    },
    /// The value is invalid: the type that uses it rejected it.
    #[error("{name}")]
    Refused {
        /// The environment variable.
        name: &'static str,
        /// What is wrong, and what was expected.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The program cannot listen on the address.
    #[error("{name}: cannot listen on {address}")]
    Address {
        /// The environment variable.
        name: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why the program cannot listen on it.
        source: std::io::Error,
    },
    /// One of OpenTelemetry's own variables is invalid.
    #[error(transparent)]
    OpenTelemetry(#[from] OtlpError),
    /// A file that the setting names cannot be read.
    #[error("{name}: cannot read {}", path.display())]
    Unreadable {
        /// The environment variable.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: std::io::Error,
    },
}

impl SettingsError {
    /// The value of `name` was rejected by what uses it.
    pub fn refused(name: &'static str, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Refused { name, source: Box::new(source) }
    }
}
