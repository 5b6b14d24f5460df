//! One name server.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_resolver::Resolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::time::Instant;

use super::answer::{Answer, NoAnswer};
use super::sockets::{SERVER_TIMEOUT, Sockets};
use crate::local::LocalTrouble;

/// How many addresses of a name are taken.
const MAX_ADDRESSES: usize = 64;
/// How many queries a TCP connection carries at once.
const MAX_QUERIES: usize = 256;

/// A name server, and whether it answers.
pub(super) struct Server {
    /// Making it fails only if it cannot set up TLS, of which it has none.
    resolver: Result<Resolver<Sockets>, NetError>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answered_at: Option<Instant>,
    /// Whether it has answered nothing since a query began to which it gave no answer.
    silent: bool,
}

impl Server {
    pub(super) fn new(address: SocketAddr) -> Self {
        let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
        (udp.port, tcp.port) = (address.port(), address.port());
        let server = NameServerConfig::new(address.ip(), true, vec![udp, tcp]);
        let mut options = ResolverOpts::default();
        options.timeout = SERVER_TIMEOUT;
        options.attempts = 0;
        options.max_active_requests = MAX_QUERIES;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.edns0 = false;
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let builder = Resolver::builder_with_config(config, Sockets::default()).with_options(options);
        Self { resolver: builder.build(), state: Mutex::default() }
    }

    /// Returns whether it did not answer lately.
    pub(super) fn is_silent(&self) -> bool {
        self.state().silent
    }

    /// Asks for records of a name.
    pub(super) async fn ask(&self, name: Name, kind: RecordType) -> Result<Answer, NoAnswer> {
        let began = Instant::now();
        let answer = judged(match &self.resolver {
            Ok(resolver) => resolver.lookup(name, kind).await,
            Err(error) => Err(error.clone()),
        });
        let mut state = self.state();
        match &answer {
            Ok(_) => *state = State { answered_at: Some(Instant::now()), silent: false },
            Err(NoAnswer::Silent) if state.answered_at.is_none_or(|at| at < began) => state.silent = true,
            Err(_) => {}
        }
        drop(state);
        answer
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn judged(asked: Result<Lookup, NetError>) -> Result<Answer, NoAnswer> {
    match asked {
        Ok(found) => {
            let ttl = found.valid_until().saturating_duration_since(std::time::Instant::now());
            let addresses = addresses(&found);
            Ok(if addresses.is_empty() { Answer::Nothing(None) } else { Answer::Found(addresses, ttl) })
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            Ok(Answer::Nothing(none.negative_ttl.map(|seconds| Duration::from_secs(seconds.into()))))
        }
        Err(NetError::Timeout) => Err(NoAnswer::Silent),
        Err(NetError::Io(error)) if LocalTrouble::of(&error).is_some() => Err(NoAnswer::Local(error)),
        Err(error) => Err(NoAnswer::Failed(Arc::new(io::Error::other(error)))),
    }
}

/// Returns the addresses in an answer, each once.
pub(super) fn addresses(found: &Lookup) -> Vec<IpAddr> {
    let addresses = found.answers().iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(IpAddr::from(address.0)),
        RData::AAAA(address) => Some(IpAddr::from(address.0)),
        _ => None,
    });
    let mut distinct = Vec::new();
    for address in addresses {
        if distinct.len() < MAX_ADDRESSES && !distinct.contains(&address) {
            distinct.push(address);
        }
    }
    distinct
}
