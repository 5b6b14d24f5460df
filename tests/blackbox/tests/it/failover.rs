//! PostgreSQL stops accepting writes: a failover to a standby, and a server that becomes read-only.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postrider_testkit::proxy::Proxy;
use postrider_testkit::receiver::Gate;
use postrider_testkit::{Api, Behaviour, Receiver, eventually};
use serde_json::json;
use tokio::task::{JoinHandle, block_in_place};
use xtask::postgres::{Postgres, Stop};

use crate::client::{idle, list, subscribe, text};
use crate::deployment::{DEADLINE, Member, program};
use crate::servers;

/// How many deliveries are in flight when the writes begin to fail.
const IN_FLIGHT: usize = 8;
/// For how long the database accepts no writes.
const OUTAGE: Duration = Duration::from_secs(4);
/// How soon after that everything works again.
const RECOVERED: Duration = Duration::from_secs(10);

/// A server and a worker whose database accepts writes, with deliveries in flight.
struct Scene {
    server: Member,
    worker: Member,
    api: Api,
    receiver: Receiver,
    gate: Gate,
}

impl Scene {
    async fn start(url: &str) -> Self {
        let server = Member::start(&program("postrider-server", url, &[])).await;
        let worker = Member::start(&program("postrider-worker", url, &[])).await;
        let (api, receiver, gate) = (server.api().await, Receiver::start().await, Gate::closed());
        receiver.on("/", Behaviour::Status(200).behind(&gate));
        subscribe(&api, &receiver.url("/")).await;
        let this = Self { server, worker, api, receiver, gate };
        for _ in 0..IN_FLIGHT {
            assert_eq!(this.send().await.status, 202);
        }
        this.receiver.wait_for(IN_FLIGHT, DEADLINE).await;
        this
    }

    async fn send(&self) -> postrider_testkit::api::Answer {
        send(&self.api).await
    }

    /// Waits until both programs say that they cannot write, without a request that writes.
    async fn become_unready(&self, words: &str) {
        for member in [&self.server, &self.worker] {
            let unready = || async {
                let (status, answer) = member.telemetry.get("/readyz").await;
                (status == 503).then_some(answer)
            };
            let answer = eventually(DEADLINE, unready).await;
            assert!(text(&answer["reason"]).contains(words), "{answer}");
        }
        assert_eq!(self.api.get("/readyz").await.0, 503);
    }

    /// Events are refused, outcomes wait, and the programs stay unready.
    async fn cannot_write(&self, are_reads_answered: bool) {
        self.gate.open();
        let began = Instant::now();
        while began.elapsed() < OUTAGE {
            let answer = self.send().await;
            assert_eq!(answer.status, 503, "{}", answer.text());
            assert!(answer.header("retry-after").is_some(), "{}", answer.text());
            if are_reads_answered {
                assert_eq!(list(&self.api, "/v1/deliveries?status=succeeded").await.len(), 0);
            }
            for member in [&self.server, &self.worker] {
                assert_eq!(member.telemetry.get("/readyz").await.0, 503);
            }
        }
    }

    /// The database accepts writes since `since`.
    async fn recover(&self, since: Instant) {
        eventually(DEADLINE, || async { (self.send().await.status == 202).then_some(()) }).await;
        let accepted = since.elapsed();
        for member in [&self.server, &self.worker] {
            let ready = || async { (member.telemetry.get("/readyz").await.0 == 200).then_some(()) };
            eventually(DEADLINE, ready).await;
        }
        idle(&self.api).await;
        println!("events after {accepted:?}, everything after {:?}", since.elapsed());
        assert!(since.elapsed() < RECOVERED, "{:?}", since.elapsed());
    }

    /// Every acknowledged event arrived, and no event twice.
    fn arrived_once(&self, acknowledged: &[String]) {
        let mut requests = BTreeMap::<String, usize>::new();
        for request in self.receiver.requests() {
            let id = request.header("webhook-id").expect("an id").to_owned();
            *requests.entry(id).or_default() += 1;
        }
        assert!(requests.values().all(|&count| count == 1), "{requests:?}");
        assert!(
            requests.len() > IN_FLIGHT && acknowledged.iter().all(|id| requests.contains_key(id)),
            "{requests:?}"
        );
    }

    /// One line says that the database cannot write, with its words, and one that it can, with a count.
    fn logged_once(&self, words: &str) {
        for member in [&self.server, &self.worker] {
            let output = member.output();
            let with = |text: &str| output.lines().filter(|line| line.contains(text)).collect::<Vec<_>>();
            let (began, ended) = (with("the database cannot write"), with("the database can write again"));
            assert_eq!((began.len(), ended.len()), (1, 1), "{output}");
            assert!(began[0].contains(words), "{began:?}");
            assert!(ended[0].contains("failed="), "{ended:?}");
            is_quiet(member);
        }
    }

    async fn stop(self) {
        self.worker.stop().await;
        self.server.stop().await;
    }
}

/// No line repeats for each request or statement.
fn is_quiet(member: &Member) {
    let output = member.output();
    let loud = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
    let loud: Vec<_> = output.lines().filter(loud).collect();
    assert!(loud.len() < 15, "{} lines: {loud:#?}", loud.len());
}

async fn send(api: &Api) -> postrider_testkit::api::Answer {
    api.post_raw("/v1/events", json!({"event": "a", "data": {}}).to_string()).await
}

/// Sends events one after the other until `stop`. Returns the ids of the acknowledged ones.
fn client(api: &Api, stop: &'static AtomicBool) -> JoinHandle<Vec<String>> {
    let api = api.clone();
    tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        while !stop.load(Ordering::SeqCst) {
            let answer = send(&api).await;
            match answer.status {
                202 => acknowledged.push(text(&answer.json()["id"]).to_owned()),
                503 => assert!(answer.header("retry-after").is_some(), "{}", answer.text()),
                status => panic!("{status}: {}", answer.text()),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        acknowledged
    })
}

async fn pair() -> (Postgres, Postgres) {
    let mut primary = servers::start(&servers::options()).await;
    let standby = block_in_place(|| primary.standby(&servers::options())).expect("a standby");
    (primary, standby)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_a_standby_loses_and_repeats_nothing() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let (mut primary, mut standby) = pair().await;
    let (link, url) = Proxy::before(&primary.database_url(servers::NAME)).await;
    let scene = Scene::start(&url).await;
    let client = client(&scene.api, &STOP);

    // Ships everything to the standby, to which an address, a proxy or a name then leads.
    block_in_place(|| primary.stop(Stop::Fast)).expect("it stops");
    link.lead_to(SocketAddr::from((Ipv4Addr::LOCALHOST, standby.port())));
    scene.become_unready("read-only").await;
    scene.cannot_write(true).await;
    block_in_place(|| standby.promote()).expect("a primary");
    scene.recover(Instant::now()).await;

    STOP.store(true, Ordering::SeqCst);
    let acknowledged = client.await.expect("a client");
    idle(&scene.api).await;
    scene.arrived_once(&acknowledged);
    scene.logged_once("read-only");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_programs_follow_a_primary_among_two_hosts() {
    let (mut primary, mut standby) = pair().await;
    let (first, second) = (primary.port(), standby.port());
    let url = format!("postgres://postrider@127.0.0.1:{first},127.0.0.1:{second}/{}", servers::NAME);
    let scene = Scene::start(&url).await;
    block_in_place(|| primary.stop(Stop::Immediate)).expect("it stops");
    scene.become_unready("").await;
    scene.cannot_write(false).await;
    block_in_place(|| standby.promote()).expect("a primary");
    scene.recover(Instant::now()).await;
    scene.arrived_once(&[]);
    is_quiet(&scene.server);
    is_quiet(&scene.worker);
    scene.stop().await;
}

/// Without a failover: a managed server whose disk is nearly full, or an operator who freezes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_becomes_read_only_is_noticed_without_a_write() {
    let postgres = servers::start(&servers::options()).await;
    let scene = Scene::start(&postgres.database_url(servers::NAME)).await;
    let freeze = "ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf()";
    servers::run(&postgres, servers::NAME, freeze).await;
    scene.become_unready("read-only").await;
    scene.cannot_write(true).await;
    let thaw = "ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf()";
    servers::run(&postgres, servers::NAME, thaw).await;
    scene.recover(Instant::now()).await;
    scene.arrived_once(&[]);
    scene.logged_once("read-only");
    scene.stop().await;
}
