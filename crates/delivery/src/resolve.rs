//! Name resolution.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;

use crate::local::LocalTrouble;

/// Resolves host names.
///
/// The client judges every address that an implementation returns, so implementations need not filter.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// Returns all addresses of `host`, in the order in which to try them.
    ///
    /// # Errors
    /// Fails if the name has no address, or the lookup failed.
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError>;

    /// Returns whether the resolver works at all. While it does not, a lookup that takes too long is nobody's fault.
    fn is_available(&self) -> bool {
        true
    }
}

/// Why a name was not resolved.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The name does not exist, or has no address.
    #[error("the name has no address")]
    NoAddress,
    /// The name servers of the name do not answer, although others do.
    #[error("the name servers do not answer")]
    Silent,
    /// The lookup failed.
    #[error("the name could not be resolved")]
    Failed(#[source] Arc<io::Error>),
    /// The resolver itself is unavailable, which says nothing about the name.
    #[error("the resolver is unavailable")]
    Unavailable,
    /// The lookup was cancelled, as when the runtime shuts down.
    #[error("the lookup was cancelled")]
    Cancelled,
}

impl ResolveError {
    /// Returns what this machine lacked for the lookup; `None` if the failure is about the name.
    pub(crate) fn local_trouble(&self) -> Option<LocalTrouble> {
        match self {
            Self::Failed(error) => LocalTrouble::of(error),
            Self::Unavailable => Some(LocalTrouble::Resolver),
            Self::NoAddress | Self::Silent | Self::Cancelled => None,
        }
    }
}
