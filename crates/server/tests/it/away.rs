//! The database becomes unavailable in several ways, and comes back.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use postrider_core::TenantId;
use postrider_database::{Config as DatabaseConfig, Database, Purpose};
use postrider_store::PageRequest;
use postrider_telemetry::{Program, Readiness, listener, prometheus};
use postrider_testkit::api::Answer;
use postrider_testkit::{TestDatabase, eventually};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use url::Url;

use crate::api::TestServer;

const DEADLINE: Duration = Duration::from_secs(30);
const ACQUIRE: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(2);
/// How long an answer may take on a busy machine, apart from waiting for the database.
const SLACK: Duration = Duration::from_secs(3);

/// The state of the connections to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Open,
    /// Connections hang: nothing is passed on, and no error is reported.
    Hanging,
    /// All connections are reset, including new ones.
    Cut,
}

/// A link to the database that can break.
struct Proxy {
    address: SocketAddr,
    target: SocketAddr,
    link: watch::Sender<Link>,
    accepting: JoinSet<()>,
}

impl Proxy {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut proxy =
            Self { address, target, link: watch::Sender::new(Link::Open), accepting: JoinSet::new() };
        proxy.accept(listener);
        proxy
    }

    fn accept(&mut self, listener: TcpListener) {
        let (target, link) = (self.target, self.link.subscribe());
        self.accepting.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                open.spawn(pass(client, target, link.clone()));
            }
        });
    }

    /// Ends all connections, and rejects new ones until the socket listens.
    async fn refuse(&mut self) -> TcpSocket {
        self.accepting.shutdown().await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        socket
    }
}

async fn pass(mut client: TcpStream, target: SocketAddr, mut link: watch::Receiver<Link>) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    loop {
        let state = *link.borrow_and_update();
        match state {
            Link::Cut => {
                let _ = client.set_zero_linger();
                return;
            }
            Link::Hanging => {
                if link.changed().await.is_err() {
                    return;
                }
            }
            Link::Open => tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
                changed = link.changed() => if changed.is_err() { return },
            },
        }
    }
}

struct Stage {
    server: TestServer,
    proxy: Proxy,
    acknowledged: Vec<String>,
}

impl Stage {
    async fn start() -> Self {
        let database = TestDatabase::postgres().await;
        let mut url: Url = database.url().parse().unwrap();
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, url.port().unwrap_or(5432)));
        let proxy = Proxy::to(target).await;
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(proxy.address.port())).unwrap();
        let config = DatabaseConfig {
            acquire_timeout: ACQUIRE,
            answer_timeout: ANSWER,
            // Longer than any test holds connections.
            idle_transaction_timeout: 4 * DEADLINE,
            ..DatabaseConfig::new(url.as_str().parse().unwrap())
        };
        let server = TestServer::over(database, config, telemetry, |config| config).await;
        server.subscriber(&["*"]).await;
        let mut stage = Self { server, proxy, acknowledged: Vec::new() };
        for n in 0..3 {
            assert_eq!(stage.publish(&format!("before-{n}")).await.status, 202);
        }
        assert_eq!(stage.probes().await, (200, 200));
        stage
    }

    async fn publish(&mut self, key: &str) -> Answer {
        let body = format!(r#"{{"event":"a","data":{{"key":"{key}"}},"id":"{key}"}}"#);
        let answer = self.server.api.post_raw("/v1/events", body).await;
        if answer.status == 202 {
            self.acknowledged.push(answer.json()["id"].as_str().unwrap().to_owned());
        }
        answer
    }

    /// The statuses of `/healthz` and `/readyz`.
    async fn probes(&self) -> (u16, u16) {
        let api = self.server.without_key();
        (api.get("/healthz").await.0, api.get("/readyz").await.0)
    }

    /// While the database is unavailable, every call that needs it says so within a short time.
    async fn assert_away(&mut self, within: Duration) {
        for n in 0..4 {
            let started = Instant::now();
            let answer = self.publish(&format!("away-{n}")).await;
            assert_eq!(answer.status, 503, "{}", answer.text());
            let after = answer.header("retry-after").and_then(|after| after.parse::<u32>().ok());
            assert!(after.is_some_and(|after| (1..60).contains(&after)), "{:?}", answer.headers);
            assert!(started.elapsed() < within + SLACK, "{:?}", started.elapsed());
        }
        let batch = r#"{"events":[{"event":"a","data":{}}]}"#;
        let answer = self.server.api.post_raw("/v1/events/batch", batch).await;
        assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true));
        let started = Instant::now();
        for path in ["/v1/events", "/v1/stats"] {
            let answer = self.server.api.send(http::Method::GET, path, &[], "").await;
            assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true), "{path}");
        }
        assert!(started.elapsed() < 2 * (within + SLACK), "{:?}", started.elapsed());
        // It is alive but not ready; the result of the last readiness check is cached for a moment.
        eventually(DEADLINE, || async { (self.probes().await == (200, 503)).then_some(()) }).await;
    }

    /// The API works again without a restart, and an unacknowledged event is stored once.
    async fn assert_back(mut self) {
        eventually(DEADLINE, || async { (self.probes().await == (200, 200)).then_some(()) }).await;
        let deadline = Instant::now() + DEADLINE;
        for n in 0..20 {
            // Each broken connection in the pool may fail one request.
            while self.publish(&format!("away-{n}")).await.status != 202 {
                assert!(Instant::now() < deadline, "events are taken again");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        for n in 0..3 {
            let repeat = self.publish(&format!("before-{n}")).await;
            assert_eq!((repeat.status, repeat.json()["duplicate"].as_bool()), (202, Some(true)));
        }
        let everything = PageRequest { limit: 250, before: None };
        let tenant = TenantId::default();
        let events = self.server.store.events(&tenant, None, everything).await.unwrap();
        let mut stored: Vec<_> = events.items.iter().map(|event| event.id.to_string()).collect();
        self.acknowledged.sort();
        self.acknowledged.dedup();
        stored.sort();
        assert_eq!(stored, self.acknowledged, "the acknowledged events and no others are stored");
        assert_eq!(stored.len(), 3 + 20);
        let depth = self.server.store.queue().depth().await.unwrap();
        assert_eq!(depth.ready, 23, "one job each");
    }
}

fn telemetry(database: &Database) -> axum::Router {
    use std::sync::OnceLock;

    // The metrics recorder belongs to the process, so all tests share it.
    static METRICS: OnceLock<prometheus::PrometheusHandle> = OnceLock::new();
    let metrics = METRICS.get_or_init(|| prometheus::install(Program::Server, "0").unwrap()).clone();
    let database = database.clone();
    let readiness = Readiness::new(Duration::from_secs(2), move || {
        let database = database.clone();
        async move { database.ping().await.map_err(|_| "the database does not answer".to_owned()) }
    });
    listener::routes(metrics, readiness)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_recovers_after_database_connections_are_cut() {
    let mut stage = Stage::start().await;
    stage.proxy.link.send_replace(Link::Cut);
    stage.assert_away(ACQUIRE).await;
    stage.proxy.link.send_replace(Link::Open);
    stage.assert_back().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_recovers_after_the_database_restarts() {
    let mut stage = Stage::start().await;
    let socket = stage.proxy.refuse().await;
    stage.assert_away(ACQUIRE).await;
    stage.proxy.accept(socket.listen(64).unwrap());
    stage.assert_back().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_recovers_after_database_connections_hang() {
    let mut stage = Stage::start().await;
    stage.proxy.link.send_replace(Link::Hanging);
    stage.assert_away(ANSWER).await;
    // Hanging connections never recover, but new ones work.
    stage.proxy.link.send_replace(Link::Cut);
    stage.proxy.link.send_replace(Link::Open);
    stage.assert_back().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_recovers_after_the_connection_pool_was_exhausted() {
    let mut stage = Stage::start().await;
    let pool = stage.server.database.clone();
    let mut taken = Vec::new();
    for purpose in Purpose::ALL {
        while let Ok(transaction) = pool.serving(purpose).begin().await {
            taken.push(transaction);
        }
    }
    assert_eq!(pool.connections().in_use, pool.connections().max);
    stage.assert_away(ACQUIRE).await;
    drop(taken);
    stage.assert_back().await;
}
