//! Names to addresses.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::Semaphore;

/// Finds the addresses of a name.
///
/// What it answers is judged by the caller, each time: an implementation need not filter.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// All addresses of `host`, in the order in which they should be tried.
    ///
    /// # Errors
    /// If the name has no address, or that could not be found out.
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError>;
}

/// Why a name was not resolved.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolveError {
    /// The name exists, but has no address.
    #[error("the name has no address")]
    NoAddress,
    /// There is no such name, or no server of names answered. The system does not tell which.
    #[error("the name could not be resolved")]
    Failed(#[source] Arc<io::Error>),
    /// The lookup ended without an answer, as when the runtime shuts down.
    #[error("the lookup was abandoned")]
    Abandoned,
}

/// The operating system's resolver (`getaddrinfo`), with `/etc/hosts` and all that it heeds.
///
/// A lookup occupies a thread until the system gives up on it, which no deadline can shorten. So
/// that one name whose servers never answer cannot take all threads, attempts that want the same
/// name at the same time share one lookup, and the lookups of all names have a limit.
#[derive(Clone)]
pub struct SystemResolver {
    flights: Arc<Mutex<HashMap<String, Flight>>>,
    room: Arc<Semaphore>,
}

type Flight = Shared<BoxFuture<'static, Result<Vec<IpAddr>, ResolveError>>>;

/// Half of the threads that tokio keeps for blocking calls unless told otherwise.
const MAX_LOOKUPS: usize = 256;

impl Default for SystemResolver {
    fn default() -> Self {
        Self { flights: Arc::default(), room: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }
}

impl SystemResolver {
    /// The lookup of `host` that is under way, or a new one.
    fn flight(&self, host: &str) -> Flight {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(host) {
            return flight.clone();
        }
        let (resolver, name) = (self.clone(), host.to_owned());
        // A task of its own, since those who wait may all give up before the system does.
        let lookup = tokio::spawn(async move {
            let permit = resolver.room.acquire().await;
            let found = lookup(&name).await;
            drop(permit);
            resolver.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            found
        });
        let flight = lookup.map(|joined| joined.unwrap_or(Err(ResolveError::Abandoned))).boxed().shared();
        flights.insert(host.to_owned(), flight.clone());
        flight
    }
}

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        self.flight(host).await
    }
}

async fn lookup(host: &str) -> Result<Vec<IpAddr>, ResolveError> {
    let answers =
        tokio::net::lookup_host((host, 0)).await.map_err(|error| ResolveError::Failed(error.into()))?;
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
    async fn localhost_is_resolved_and_flights_end() {
        let resolver = SystemResolver::default();
        let (one, two) = tokio::join!(resolver.resolve("localhost"), resolver.resolve("localhost"));
        assert!(one.unwrap().iter().all(IpAddr::is_loopback));
        assert!(two.is_ok());
        assert!(resolver.flights.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn those_who_want_the_same_name_share_a_lookup() {
        let resolver = SystemResolver::default();
        let (one, two) = (resolver.flight("localhost"), resolver.flight("localhost"));
        assert!(one.ptr_eq(&two));
        assert!(!one.ptr_eq(&resolver.flight("localhost.")));
    }

    #[tokio::test]
    async fn a_name_that_cannot_exist_fails() {
        // `.invalid` never resolves (RFC 6761); without a network the lookup fails as well.
        let failed = SystemResolver::default().resolve("postrider.invalid").await;
        assert!(matches!(failed, Err(ResolveError::Failed(_) | ResolveError::NoAddress)), "{failed:?}");
    }
}
