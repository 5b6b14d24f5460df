//! An HTTP/1.1 server that records requests and behaves as configured.

mod behaviour;
mod connection;
mod record;
mod tls;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

pub use self::{
    behaviour::{Behaviour, Gate},
    record::ReceivedRequest,
};
use self::{record::Journal, tls::Authority};

/// A receiver of webhooks on a free port of 127.0.0.1. Dropping it closes its connections.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use postrider_testkit::{Api, Behaviour, Receiver};
/// use std::time::Duration;
///
/// let receiver = Receiver::start().await;
/// receiver.on("/hook", Behaviour::sequence([500, 200])); // fails once, then works
///
/// let client = Api::without_key(receiver.url(""));
/// assert_eq!(client.post_raw("/hook", "one").await.status, 500);
/// assert_eq!(client.post_raw("/hook", "two").await.status, 200);
///
/// let requests = receiver.wait_for(2, Duration::from_secs(5)).await;
/// assert_eq!(requests[1].body, b"two");
/// # });
/// ```
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    /// The host in its URLs if it uses TLS.
    tls: Option<Tls>,
    journal: Arc<Journal>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Tls {
    host: String,
    ca_pem: String,
}

impl Receiver {
    /// Starts a receiver of plain HTTP.
    pub async fn start() -> Self {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// Starts a receiver of plain HTTP at a given address, such as that of a dropped receiver.
    pub async fn start_on(address: SocketAddr) -> Self {
        Self::bind(address, None, None).await
    }

    /// Starts a receiver of HTTPS. Its certificate is for `host`, a name or an IP address, and from its own authority:
    /// see [`Self::ca_pem`].
    pub async fn start_tls(host: &str) -> Self {
        let authority = Authority::new();
        let acceptor = authority.acceptor_for(host);
        let tls = Tls { host: host.to_owned(), ca_pem: authority.pem() };
        Self::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Some(acceptor), Some(tls)).await
    }

    async fn bind(address: SocketAddr, acceptor: Option<TlsAcceptor>, tls: Option<Tls>) -> Self {
        let listener = TcpListener::bind(address)
            .await
            .unwrap_or_else(|error| panic!("a receiver cannot listen on {address}: {error}"));
        let address = listener.local_addr().expect("a bound address");
        let journal = Arc::new(Journal::default());
        let accepting = tokio::spawn(accept(listener, acceptor, Arc::clone(&journal)));
        Self { address, tls, journal, accepting }
    }

    /// The address on which the receiver listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path such as `/hook`.
    pub fn url(&self, path: &str) -> String {
        match &self.tls {
            Some(tls) => format!("https://{}:{}{path}", tls.host, self.address.port()),
            None => format!("http://{}{path}", self.address),
        }
    }

    /// The certificate of the authority to trust, in PEM. Panics for a receiver of plain HTTP.
    pub fn ca_pem(&self) -> &str {
        self.tls.as_ref().map(|tls| tls.ca_pem.as_str()).expect("a receiver started by `start_tls`")
    }

    /// Sets the behaviour for requests to a path, without query, from now on. The default is to answer 200.
    pub fn on(&self, path: &str, behaviour: Behaviour) {
        self.journal.set_behaviour(path, behaviour);
    }

    /// The requests so far, in the order in which they were complete.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.journal.requests()
    }

    /// The requests so far to a path, without query.
    pub fn requests_to(&self, path: &str) -> Vec<ReceivedRequest> {
        self.requests().into_iter().filter(|request| request.path() == path).collect()
    }

    /// Waits for at least `count` requests, and returns all requests so far.
    pub async fn wait_for(&self, count: usize, deadline: Duration) -> Vec<ReceivedRequest> {
        self.wait_until(count, deadline, |_| true).await
    }

    /// Waits for at least `count` requests to a path, and returns all requests to it so far.
    pub async fn wait_for_path(&self, path: &str, count: usize, deadline: Duration) -> Vec<ReceivedRequest> {
        self.wait_until(count, deadline, |request| request.path() == path).await
    }

    /// The largest number of requests that were in progress at the same time.
    pub fn peak_in_flight(&self) -> usize {
        self.journal.peak_in_flight()
    }

    async fn wait_until(
        &self,
        count: usize,
        deadline: Duration,
        counts: impl Fn(&ReceivedRequest) -> bool,
    ) -> Vec<ReceivedRequest> {
        let enough = timeout(deadline, self.journal.wait_for(count, &counts)).await;
        enough.unwrap_or_else(|_| {
            let all: Vec<_> =
                self.requests().into_iter().map(|request| (request.method, request.target)).collect();
            panic!("the receiver waited {deadline:?} for {count} requests and got {all:?}")
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, journal: Arc<Journal>) {
    // Dropped with this task, so that connections do not outlive their receiver.
    let mut connections = JoinSet::new();
    for number in 0.. {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (acceptor, journal) = (acceptor.clone(), Arc::clone(&journal));
        connections.spawn(connection::serve(stream, number, acceptor, journal));
        while connections.try_join_next().is_some() {}
    }
}
