//! Name resolution.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::Semaphore;

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
}

/// Why a name was not resolved.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The name exists, but has no address.
    #[error("the name has no address")]
    NoAddress,
    /// The name does not exist, or no name server answered; the operating system does not say which.
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
            Self::NoAddress | Self::Cancelled => None,
        }
    }
}

/// The operating system's resolver (`getaddrinfo`), which also reads `/etc/hosts`.
///
/// A lookup occupies a thread until the operating system gives up, and no deadline can shorten that. Therefore
/// concurrent lookups of one name share a thread, so that a name whose servers never answer cannot occupy all threads;
/// and the number of lookups is limited.
#[derive(Clone)]
pub struct SystemResolver {
    lookups: Arc<Mutex<HashMap<String, Lookup>>>,
    permits: Arc<Semaphore>,
}

type Lookup = Shared<BoxFuture<'static, Result<Vec<IpAddr>, ResolveError>>>;

/// The number of concurrent lookups: half of tokio's default limit of threads for blocking calls.
const MAX_LOOKUPS: usize = 256;

impl Default for SystemResolver {
    fn default() -> Self {
        Self { lookups: Arc::default(), permits: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }
}

impl SystemResolver {
    /// Returns the running lookup of `host`, or starts one.
    fn lookup(&self, host: &str) -> Lookup {
        let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = lookups.get(host) {
            return lookup.clone();
        }
        let (resolver, name) = (self.clone(), host.to_owned());
        // A separate task, because all attempts that wait for the lookup may time out before it ends.
        let task = tokio::spawn(async move {
            let permit = resolver.permits.acquire().await;
            let found = getaddrinfo(&name).await;
            drop(permit);
            resolver.lookups.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            found
        });
        let lookup = task.map(|joined| joined.unwrap_or(Err(ResolveError::Cancelled))).boxed().shared();
        lookups.insert(host.to_owned(), lookup.clone());
        lookup
    }
}

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        self.lookup(host).await
    }
}

async fn getaddrinfo(host: &str) -> Result<Vec<IpAddr>, ResolveError> {
    let answers = tokio::net::lookup_host((host, 0)).await.map_err(|error| {
        // getaddrinfo does not say that it could open neither file nor socket.
        let want = std::fs::File::open("/dev/null").err().filter(|error| LocalTrouble::of(error).is_some());
        ResolveError::Failed(want.unwrap_or(error).into())
    })?;
    let mut addresses = Vec::new();
    for answer in answers {
        if !addresses.contains(&answer.ip()) {
            addresses.push(answer.ip());
        }
    }
    if addresses.is_empty() { Err(ResolveError::NoAddress) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn localhost_is_resolved_and_its_lookup_forgotten() {
        let resolver = SystemResolver::default();
        let (one, two) = tokio::join!(resolver.resolve("localhost"), resolver.resolve("localhost"));
        assert!(one.unwrap().iter().all(IpAddr::is_loopback));
        assert!(two.is_ok());
        assert!(resolver.lookups.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn concurrent_lookups_of_one_name_are_shared() {
        let resolver = SystemResolver::default();
        let (one, two) = (resolver.lookup("localhost"), resolver.lookup("localhost"));
        assert!(one.ptr_eq(&two));
        assert!(!one.ptr_eq(&resolver.lookup("localhost.")));
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_an_error() {
        // `.invalid` never resolves (RFC 6761, §6.4); without a network the lookup fails as well.
        let failed = SystemResolver::default().resolve("postrider.invalid").await;
        assert!(matches!(failed, Err(ResolveError::Failed(_) | ResolveError::NoAddress)), "{failed:?}");
    }
}
