//! Asking name servers, as `/etc/hosts` and `/etc/resolv.conf` say.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use hickory_resolver::Hosts;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use tokio::time::{Instant, timeout};

use super::answer::{Answer, NoAnswer};
use super::server::{Server, addresses};

/// The name servers, and what the system's files say. Clones share them.
#[derive(Clone)]
pub(super) struct Upstream(Arc<Settings>);

struct Settings {
    /// The servers that the operator named; empty for the system's.
    servers: Vec<SocketAddr>,
    loaded: Mutex<Option<(Seen, Arc<Loaded>)>>,
}

/// What the files said.
struct Loaded {
    servers: Vec<Server>,
    hosts: Hosts,
    search: Vec<Name>,
    /// A name with so many dots is asked for as it is, before the search list.
    ndots: usize,
}

/// The files as they were read, and when they were last looked at.
#[derive(Clone, Copy)]
struct Seen {
    files: [Option<(SystemTime, u64)>; 2],
    at: Instant,
}

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// How often to look whether the files have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How much of a file is read.
const MAX_FILE: u64 = 1024 * 1024;
/// How often all servers are asked, if none of them answers.
const ROUNDS: usize = 3;
/// How many servers of the system are asked, and how many names a search tries: somewhat more than by the C library.
const MAX_SERVERS: usize = 4;
const MAX_SEARCH: usize = 8;
/// How long the addresses of one family wait for those of the other.
const OTHER_FAMILY: Duration = Duration::from_millis(300);

impl Upstream {
    /// Asks these servers, or the system's if there are none.
    pub(super) fn new(servers: Vec<SocketAddr>) -> Self {
        Self(Arc::new(Settings { servers, loaded: Mutex::default() }))
    }

    /// Looks a host up: in `/etc/hosts`, and then with the name servers, along the search list.
    pub(super) async fn look_up(&self, host: &str) -> Result<Answer, NoAnswer> {
        let loaded = self.0.loaded();
        let name = Name::from_str_relaxed(host).map_err(|_| NoAnswer::NoName)?;
        let pinned = loaded.pinned(&name);
        if !pinned.is_empty() {
            return Ok(Answer::Found(pinned, LOOK_AGAIN));
        }
        loaded.search(&name, None).await
    }

    /// Returns whether any server says anything about these hosts, and about the root of all names if there are none. All are
    /// asked at once.
    pub(super) async fn knows_any(&self, hosts: &[Box<str>]) -> bool {
        let loaded = self.0.loaded();
        let mut names = Vec::new();
        for host in hosts {
            if let Ok(name) = Name::from_str_relaxed(host) {
                names.push((name, RecordType::A));
            }
        }
        if names.is_empty() {
            names.push((Name::root(), RecordType::NS));
        }
        let mut asked = FuturesUnordered::new();
        for server in &loaded.servers {
            for (name, kind) in &names {
                asked.push(loaded.search(name, Some((server, *kind))));
            }
        }
        while let Some(answer) = asked.next().await {
            if answer.is_ok() {
                return true;
            }
        }
        false
    }
}

impl Settings {
    /// Returns what the files say now, or said a moment ago.
    fn loaded(&self) -> Arc<Loaded> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((seen, known)) = &mut *loaded {
            if now < seen.at + LOOK_AGAIN {
                return known.clone();
            }
            seen.at = now;
            if seen.files == files() {
                return known.clone();
            }
        }
        // Before they are read, so that a change while they are read is noticed.
        let seen = Seen { files: files(), at: now };
        let read = Arc::new(Loaded::read(&self.servers));
        *loaded = Some((seen, read.clone()));
        read
    }
}

impl Loaded {
    fn read(servers: &[SocketAddr]) -> Self {
        let mut hosts = Hosts::default();
        if let Err(error) = read(HOSTS).and_then(|text| hosts.read_hosts_conf(&*text)) {
            tracing::warn!(file = HOSTS, %error, "hosts file not read; names in it are unknown");
        }
        let (servers, search, ndots) =
            if servers.is_empty() { system(read(RESOLV_CONF)) } else { (servers.to_vec(), Vec::new(), 1) };
        Self { servers: servers.into_iter().map(Server::new).collect(), hosts, search, ndots }
    }

    /// Returns the addresses that the hosts file gives to a name.
    fn pinned(&self, name: &Name) -> Vec<IpAddr> {
        let of = |kind| {
            let found = self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
            found.map(|found| addresses(&found)).unwrap_or_default()
        };
        [of(RecordType::AAAA), of(RecordType::A)].concat()
    }

    /// Asks for a name as it is, and with the domains of the search list, until one of them has addresses; or asks one server for
    /// some other kind of records.
    async fn search(&self, name: &Name, only: Option<(&Server, RecordType)>) -> Result<Answer, NoAnswer> {
        let (mut nothing, mut failure) = (None, None);
        for candidate in self.candidates(name) {
            let answer = match only {
                Some((server, kind)) => server.ask(candidate, kind).await,
                None => self.both(candidate).await,
            };
            match answer {
                Ok(Answer::Nothing(ttl)) => nothing = ttl,
                Ok(found) => return Ok(found),
                // Another one may exist. If none does, this one may.
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(Answer::Nothing(nothing)), Err)
    }

    /// Returns the names to ask for, in order (resolv.conf(5): `search`, `ndots`).
    fn candidates(&self, name: &Name) -> Vec<Name> {
        let mut absolute = name.clone();
        absolute.set_fqdn(true);
        if name.is_fqdn() || name.is_localhost() {
            return vec![absolute];
        }
        let mut candidates: Vec<Name> = Vec::new();
        for domain in self.search.iter().take(MAX_SEARCH) {
            if let Ok(mut searched) = name.clone().append_domain(domain) {
                searched.set_fqdn(true);
                candidates.push(searched);
            }
        }
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        candidates.insert(if dots >= self.ndots { 0 } else { candidates.len() }, absolute);
        candidates
    }

    /// Asks for the addresses of both families. If those of one are known, the others are not waited for long: some servers
    /// never answer questions for the family that they do not know (RFC 8305, §3).
    async fn both(&self, name: Name) -> Result<Answer, NoAnswer> {
        let v6 = Box::pin(self.ask(name.clone(), RecordType::AAAA));
        let v4 = Box::pin(self.ask(name, RecordType::A));
        let is_found = |answer: &Result<Answer, NoAnswer>| matches!(answer, Ok(Answer::Found(..)));
        let (v6, v4) = match select(v6, v4).await {
            Either::Left((v6, v4)) if is_found(&v6) => {
                (v6, timeout(OTHER_FAMILY, v4).await.unwrap_or(Err(NoAnswer::Silent)))
            }
            Either::Right((v4, v6)) if is_found(&v4) => {
                (timeout(OTHER_FAMILY, v6).await.unwrap_or(Err(NoAnswer::Silent)), v4)
            }
            Either::Left((v6, v4)) => (v6, v4.await),
            Either::Right((v4, v6)) => (v6.await, v4),
        };
        together(v6, v4)
    }

    /// Asks one server after the other: in the order in which they are named, since the first may know names that the others do
    /// not, but those last that have answered nothing lately.
    async fn ask(&self, name: Name, kind: RecordType) -> Result<Answer, NoAnswer> {
        for _ in 0..ROUNDS {
            let mut failure = None;
            let (silent, lively): (Vec<_>, Vec<_>) =
                self.servers.iter().partition(|server| server.is_silent());
            for server in lively.into_iter().chain(silent) {
                match server.ask(name.clone(), kind).await {
                    Err(NoAnswer::Silent) => {}
                    Err(error @ NoAnswer::Failed(_)) => failure = Some(error),
                    answer => return answer,
                }
            }
            if let Some(failure) = failure {
                return Err(failure);
            }
        }
        Err(NoAnswer::Silent)
    }
}

/// Joins what is known of the two families.
fn together(v6: Result<Answer, NoAnswer>, v4: Result<Answer, NoAnswer>) -> Result<Answer, NoAnswer> {
    match (v6, v4) {
        (Ok(Answer::Found(mut v6, ttl)), Ok(Answer::Found(v4, other))) => {
            v6.extend(v4);
            Ok(Answer::Found(v6, ttl.min(other)))
        }
        (Ok(found @ Answer::Found(..)), _) | (_, Ok(found @ Answer::Found(..))) => Ok(found),
        (Ok(Answer::Nothing(ttl)), Ok(Answer::Nothing(other))) => {
            Ok(Answer::Nothing(ttl.into_iter().chain(other).min()))
        }
        (Err(local @ NoAnswer::Local(_)), _) | (_, Err(local @ NoAnswer::Local(_))) => Err(local),
        (_, Err(error)) | (Err(error), _) => Err(error),
    }
}

/// Returns the name servers in `/etc/resolv.conf`, its search list, and `ndots`.
fn system(resolv_conf: io::Result<Vec<u8>>) -> (Vec<SocketAddr>, Vec<Name>, usize) {
    let parsed = resolv_conf.map_err(NetError::from).and_then(parse_resolv_conf);
    let (config, options) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // As the C library does.
            let server = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53);
            tracing::warn!(
                file = RESOLV_CONF, %error, %server,
                "no name servers found; asking the one on this machine. POSTRIDER_DNS_SERVERS names others"
            );
            return (vec![server], Vec::new(), 1);
        }
    };
    let (domain, mut search, servers) = config.into_parts();
    if search.is_empty() {
        search.extend(domain);
    }
    let servers = servers.into_iter().take(MAX_SERVERS).map(|server| SocketAddr::new(server.ip, 53));
    (servers.collect(), search, options.ndots)
}

fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_FILE).read_to_end(&mut text)?;
    Ok(text)
}

fn files() -> [Option<(SystemTime, u64)>; 2] {
    [RESOLV_CONF, HOSTS].map(|path| {
        let read = std::fs::metadata(path).ok()?;
        Some((read.modified().ok()?, read.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(resolv_conf: &str, host: &str) -> Vec<String> {
        let (_, search, ndots) = system(Ok(resolv_conf.as_bytes().to_vec()));
        let loaded = Loaded { servers: Vec::new(), hosts: Hosts::default(), search, ndots };
        let names = loaded.candidates(&Name::from_str_relaxed(host).unwrap());
        names.iter().map(Name::to_string).collect()
    }

    #[test]
    fn the_search_list_follows_names_with_enough_dots() {
        let plain = "nameserver 10.0.0.2\nsearch a.test b.test\n";
        assert_eq!(candidates(plain, "host"), ["host.a.test.", "host.b.test.", "host."]);
        assert_eq!(candidates(plain, "www.host"), ["www.host.", "www.host.a.test.", "www.host.b.test."]);
        assert_eq!(candidates(plain, "www.host."), ["www.host."]);
        assert_eq!(candidates(plain, "localhost"), ["localhost."]);
        let cluster = "nameserver 10.96.0.10\nsearch svc.cluster.local\noptions ndots:5\n";
        assert_eq!(candidates(cluster, "hook.shop"), ["hook.shop.svc.cluster.local.", "hook.shop."]);
        assert_eq!(candidates(cluster, "a.b.c.d.e.f"), ["a.b.c.d.e.f.", "a.b.c.d.e.f.svc.cluster.local."]);
        let domain = "nameserver 10.0.0.2\ndomain a.test\n";
        assert_eq!(candidates(domain, "host"), ["host.a.test.", "host."]);
    }

    #[test]
    fn without_name_servers_the_one_on_this_machine_is_asked() {
        let missing = || Err(io::ErrorKind::NotFound.into());
        for text in [missing(), Ok(Vec::new()), Ok(b"search a.test\n".to_vec())] {
            assert_eq!(system(text), (vec!["127.0.0.1:53".parse().unwrap()], Vec::new(), 1));
        }
        let (servers, ..) = system(Ok(b"# ours\nnameserver 10.0.0.2\nnameserver fd00::2\n".to_vec()));
        assert_eq!(servers, ["10.0.0.2:53".parse().unwrap(), "[fd00::2]:53".parse().unwrap()]);
    }
}
