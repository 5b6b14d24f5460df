//! Postrider's own resolver, which asks name servers itself.
//!
//! The operating system's resolver occupies a thread for each lookup until it gives up, so names whose servers never answer
//! delay all others. This one has a deadline for each lookup, makes one lookup of a name at a time, and keeps room for names
//! that are not known to be silent. Addresses are cached for as long as their servers say, within bounds; if these do not
//! answer, the last ones are used. See `docs/adr/0049-names-are-resolved-by-ourselves.md`.
//!
//! | module | contents |
//! |---|---|
//! | `answer` | what is learnt about a name |
//! | `upstream` | the name servers, `/etc/hosts` and `/etc/resolv.conf` |
//! | `server`, `sockets` | one name server, and how it is reached |
//! | `names` | what is known of names |
//! | `pulse` | whether name servers work at all |

mod answer;
mod names;
mod pulse;
mod server;
mod sockets;
mod upstream;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use self::answer::{Answer, NoAnswer};
use self::names::{Known, Names};
use self::pulse::Pulse;
use self::upstream::Upstream;
use crate::resolve::{Resolve, ResolveError};

/// How long a lookup may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a lookup may take before earlier addresses of the name are used, and before it is suspected that no name server
/// works.
const TARDY: Duration = Duration::from_millis(500);
/// How long all name servers have to show that one of them works.
const PROBE: Duration = Duration::from_millis(1400);
/// How many such names are asked for.
const PROBED: usize = 3;
/// How many lookups there are at once, and how many of those about names whose servers were silent the last time.
const LOOKUPS: usize = 1024;
const SUSPECTS: usize = 256;

/// A resolver that asks name servers itself. Clones are cheap and share what is known of names.
///
/// It reads `/etc/hosts` and `/etc/resolv.conf` (servers, search list, `ndots`), and reads them again when they change. It
/// must be used within a tokio runtime.
#[derive(Clone)]
pub struct DnsResolver(Arc<Inner>);

struct Inner {
    upstream: Upstream,
    names: Mutex<Names>,
    /// The lookups that run, each with its number.
    lookups: Mutex<HashMap<Box<str>, (u64, Weak)>>,
    pulse: Pulse,
    permits: Semaphore,
    suspects: Semaphore,
    number: AtomicU64,
}

type Resolved = Result<Vec<IpAddr>, ResolveError>;
type Lookup = Shared<BoxFuture<'static, Resolved>>;
type Weak = WeakShared<BoxFuture<'static, Resolved>>;

impl DnsResolver {
    /// Makes a resolver that asks these name servers, in their order, or those of the system if there are none.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self(Arc::new(Inner {
            upstream: Upstream::new(servers),
            names: Mutex::default(),
            lookups: Mutex::default(),
            pulse: Pulse::default(),
            permits: Semaphore::new(LOOKUPS),
            suspects: Semaphore::new(SUSPECTS),
            number: AtomicU64::new(0),
        }))
    }

    /// Returns the running lookup of a name, or begins one. It ends when nobody waits for it any more.
    fn lookup(&self, name: &str) -> Lookup {
        let mut lookups = self.0.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = lookups.get(name).and_then(|(_, lookup)| lookup.upgrade()) {
            return lookup;
        }
        let number = self.0.number.fetch_add(1, Ordering::Relaxed);
        let running = Running { inner: self.0.clone(), name: name.into(), number, began: None, ended: false };
        let lookup = running.run().boxed().shared();
        if let Some(weak) = lookup.downgrade() {
            lookups.insert(name.into(), (number, weak));
        }
        lookup
    }
}

#[async_trait]
impl Resolve for DnsResolver {
    async fn resolve(&self, host: &str) -> Resolved {
        let host = host.to_ascii_lowercase();
        let known = self.0.names().get(&host);
        match known {
            Known::Valid(addresses) | Known::Stale(addresses, false) => Ok(addresses),
            Known::Failed(error) => Err(error),
            Known::Nothing => self.lookup(&host).await,
            Known::Stale(addresses, true) => {
                let lookup = self.lookup(&host);
                if let Ok(resolved) = timeout(TARDY, lookup.clone()).await {
                    return resolved;
                }
                self.0.names().postpone(&host);
                // To its end, so that a slow server is heard.
                tokio::spawn(lookup);
                Ok(addresses)
            }
        }
    }

    fn is_available(&self) -> bool {
        !self.0.pulse.is_down()
    }
}

/// A lookup. Dropping it ends it.
struct Running {
    inner: Arc<Inner>,
    name: Box<str>,
    number: u64,
    /// When it began to ask.
    began: Option<Instant>,
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut lookups = self.inner.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        if lookups.get(&*self.name).is_some_and(|(number, _)| *number == self.number) {
            lookups.remove(&*self.name);
        }
        drop(lookups);
        // All attempts that waited for it have run out of time.
        let waited = self.began.is_some_and(|began| began.elapsed() >= TARDY);
        if waited && !self.ended && !self.inner.pulse.is_down() {
            self.inner.names().silent(&self.name, ResolveError::Silent);
        }
    }
}

impl Running {
    async fn run(mut self) -> Resolved {
        let began = Instant::now();
        let inner = self.inner.clone();
        let asked = timeout(DEADLINE, async {
            let _suspects = if inner.names().is_suspect(&self.name) {
                Some(inner.suspects.acquire().await)
            } else {
                None
            };
            let _permit = inner.permits.acquire().await;
            self.began = Some(Instant::now());
            inner.upstream.look_up(&self.name).await
        });
        let answer = tokio::select! {
            answer = asked => answer.unwrap_or(Err(NoAnswer::Silent)),
            () = inner.broken(began) => Err(NoAnswer::Silent),
        };
        self.ended = true;
        let error = match answer {
            Ok(Answer::Found(addresses, ttl)) => {
                inner.names().found(&self.name, addresses.clone(), ttl);
                inner.heard(&self.name);
                return Ok(addresses);
            }
            Ok(Answer::Nothing(ttl)) => {
                inner.names().nothing(&self.name, ttl, ResolveError::NoAddress);
                inner.heard(&self.name);
                return Err(ResolveError::NoAddress);
            }
            Err(NoAnswer::NoName) => return Err(ResolveError::NoAddress),
            Err(NoAnswer::Local(error)) => {
                return inner.names().stale(&self.name).ok_or(ResolveError::Failed(error));
            }
            Err(NoAnswer::Silent) => ResolveError::Silent,
            Err(NoAnswer::Failed(error)) => ResolveError::Failed(error),
        };
        if !inner.works(began).await {
            return inner.names().stale(&self.name).ok_or(ResolveError::Unavailable);
        }
        inner.names().silent(&self.name, error.clone()).ok_or(error)
    }
}

impl Inner {
    /// Returns once it is clear that no name server works. While one does, never.
    async fn broken(&self, began: Instant) {
        sleep(TARDY).await;
        if self.works(began).await {
            std::future::pending::<()>().await;
        }
    }

    /// Takes note of an answer, unless it is ours (RFC 6761).
    fn heard(&self, name: &str) {
        let name = name.trim_end_matches('.');
        let last = name.rsplit('.').next().unwrap_or(name);
        if !["localhost", "invalid", "onion"].contains(&last) {
            self.pulse.answered();
        }
    }

    /// Returns whether any name server works.
    async fn works(&self, began: Instant) -> bool {
        self.pulse.works(began, || self.probe()).await
    }

    /// Asks for names that had addresses: if none of them has any more, it is not for their owners to answer.
    async fn probe(&self) -> bool {
        let (mut names, expired) = self.names().proven(PROBED);
        if expired > 0 {
            names.truncate(expired);
        }
        timeout(PROBE, self.upstream.knows_any(&names)).await.unwrap_or(false)
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for DnsResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsResolver").finish_non_exhaustive()
    }
}
