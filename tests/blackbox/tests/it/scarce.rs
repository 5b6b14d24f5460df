//! Fewer connections than the programs would open.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use postrider_testkit::receiver::Gate;
use postrider_testkit::{Api, Behaviour, Receiver, eventually};
use sea_orm::sqlx::{Connection as _, postgres::PgConnection};
use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::json;
use xtask::postgres::Postgres;

use crate::client::{idle, subscribe, text};
use crate::deployment::{DEADLINE, Deployment, Member, program};
use crate::servers;

/// The connections of a server, and those that only superusers may use. Idle programs keep 15 to 17: three are the server's, and each
/// worker has two.
const USABLE: usize = 20;
const RESERVED: usize = 3;

const END_PROGRAMS: &str =
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'postrider-2'";

const WORKERS: usize = 6;
const CLIENTS: usize = 16;
/// How many events are acknowledged before three workers stop, and after.
const EVENTS: [usize; 2] = [3000, 500];

/// Sends events until `count` are acknowledged. Returns their ids, and how many were refused.
async fn send(api: &Api, count: usize) -> (BTreeSet<String>, usize) {
    let client = async |_: usize| {
        let (mut acknowledged, mut refused) = (BTreeSet::new(), 0);
        while acknowledged.len() < count.div_ceil(CLIENTS) {
            let answer = api.post_raw("/v1/events", json!({"event": "a", "data": {}}).to_string()).await;
            match answer.status {
                202 => _ = acknowledged.insert(text(&answer.json()["id"]).to_owned()),
                503 => refused += 1,
                status => panic!("{status}: {}", answer.text()),
            }
        }
        (acknowledged, refused)
    };
    let (ids, refused): (Vec<_>, Vec<_>) = join_all((0..CLIENTS).map(client)).await.into_iter().unzip();
    (ids.into_iter().flatten().collect(), refused.into_iter().sum())
}

/// Reads until `sending` is done. Each read must be answered.
async fn reads_while<T>(api: &Api, sending: impl Future<Output = T>) -> T {
    let reader = async {
        for number in 0.. {
            let path = ["/v1/deliveries", "/v1/events", "/v1/stats", "/v1/subscribers"][number % 4];
            let (status, answer) = api.get(path).await;
            assert_eq!(status, 200, "{path}: {answer}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        unreachable!("it reads for ever")
    };
    tokio::select! {
        () = reader => unreachable!("it reads for ever"),
        sent = sending => sent,
    }
}

async fn all_arrive(receiver: &Receiver, acknowledged: &BTreeSet<String>) {
    let arrived = || async {
        let requests = receiver.requests();
        let ids: BTreeSet<_> = requests.iter().filter_map(|request| request.header("webhook-id")).collect();
        acknowledged.iter().all(|id| ids.contains(&**id)).then_some(())
    };
    eventually(DEADLINE * 2, arrived).await;
}

/// How many connections the programs have.
async fn programs(server: &Postgres) -> usize {
    let admin = servers::connect(&server.database_url(servers::NAME)).await;
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'postrider-2'";
    let statement = Statement::from_string(admin.get_database_backend(), sql);
    let count = admin.query_all_raw(statement).await.expect("rows").len();
    admin.close().await.expect("it closes");
    count
}

/// Takes every connection that ordinary roles may have from the programs.
async fn take_all(server: &Postgres, url: &str) -> Vec<PgConnection> {
    let mut taken = Vec::new();
    let end = Instant::now() + DEADLINE;
    while taken.len() < USABLE {
        assert!(Instant::now() < end, "{} connections", taken.len());
        match PgConnection::connect(url).await {
            Ok(connection) => taken.push(connection),
            Err(_) => servers::run(server, servers::NAME, END_PROGRAMS).await,
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_workers_share_the_connections_that_there_are() {
    let options = servers::options().set("max_connections", (USABLE + RESERVED).to_string());
    let postgres = servers::start(&options).await;
    // The superuser could use the reserved connections.
    servers::run(
        &postgres,
        servers::NAME,
        "CREATE ROLE app LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO app",
    )
    .await;
    let url = postgres.database_url(servers::NAME).replace("postrider@", "app@");
    let own = [("POSTRIDER_DATABASE_CONNECTIONS", "16")];
    let server = Member::start(&program("postrider-server", &url, &own)).await;
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        // A program that finds no connection for 5 s ends, and its supervisor starts it again.
        eventually(DEADLINE, || async { (programs(&postgres).await <= USABLE - 3).then_some(()) }).await;
        workers.push(Member::start(&program("postrider-worker", &url, &own)).await);
    }
    let (api, receiver) = (server.api().await, Receiver::start().await);
    subscribe(&api, &receiver.url("/")).await;

    let began = Instant::now();
    let (mut acknowledged, refused) = reads_while(&api, send(&api, EVENTS[0])).await;
    let sent = began.elapsed();
    all_arrive(&receiver, &acknowledged).await;
    println!(
        "{} events in {sent:?}, all delivered after {:?}; {refused} refused",
        EVENTS[0],
        began.elapsed()
    );
    assert_eq!(refused, 0);

    let rest = workers.split_off(WORKERS / 2);
    join_all(workers.into_iter().map(Member::stop)).await;
    let (more, refused) = reads_while(&api, send(&api, EVENTS[1])).await;
    acknowledged.extend(more);
    all_arrive(&receiver, &acknowledged).await;
    assert_eq!(refused, 0);

    // Nothing is left, and the log says so in the server's own words.
    let taken = take_all(&postgres, &url).await;
    let words = |line: &str| line.contains("remaining connection slots are reserved");
    // The first one finds its connection dead, and one may end while it waits for the server's answer.
    eventually(DEADLINE, || async {
        let answer = api.post_raw("/v1/events", json!({"event": "a", "data": {}}).to_string()).await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.header("retry-after").is_some());
        server.process.stderr().iter().any(|line| words(line)).then_some(())
    })
    .await;
    assert_eq!(server.telemetry.get("/readyz").await.0, 503);
    rest[0].process.wait_for_line(words, DEADLINE).await;

    let given_back = Instant::now();
    join_all(taken.into_iter().map(PgConnection::close)).await;
    eventually(DEADLINE, || async { (api.get("/readyz").await.0 == 200).then_some(()) }).await;
    acknowledged.extend(send(&api, 100).await.0);
    all_arrive(&receiver, &acknowledged).await;
    idle(&api).await;
    assert!(given_back.elapsed() < Duration::from_secs(15), "{:?}", given_back.elapsed());
    join_all(rest.into_iter().map(Member::stop)).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_for_each_program_is_enough() {
    let deployment = Deployment::with(1, &[("POSTRIDER_DATABASE_CONNECTIONS", "1")]).await;
    let (api, receiver) = (&deployment.api, Receiver::start().await);
    subscribe(api, &receiver.url("/")).await;
    let (acknowledged, refused) = reads_while(api, send(api, 20)).await;
    assert_eq!(refused, 0);
    all_arrive(&receiver, &acknowledged).await;
    idle(api).await;
    assert_eq!(receiver.requests().len(), acknowledged.len(), "each event arrived once");
    deployment.stop().await;
}

/// The jobs of a worker that was killed are rescued by one with two connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rescue_needs_no_more_than_two_connections() {
    let own = [("POSTRIDER_DATABASE_CONNECTIONS", "2")];
    let mut deployment = Deployment::with(1, &own).await;
    let (api, receiver, gate) = (deployment.api.clone(), Receiver::start().await, Gate::closed());
    receiver.on("/", Behaviour::Status(200).behind(&gate));
    subscribe(&api, &receiver.url("/")).await;
    let (acknowledged, _) = send(&api, 16).await;
    receiver.wait_for(acknowledged.len(), DEADLINE).await;
    let mut killed = deployment.workers.remove(0);
    killed.process.signal("KILL").await;
    killed.process.wait(DEADLINE).await;
    gate.open();

    deployment.add_worker(&own).await;
    // The leases of the killed worker expire while the other one delivers.
    deployment.database.advance(Duration::from_mins(10)).await;
    let (more, refused) = reads_while(&api, send(&api, 200)).await;
    assert_eq!(refused, 0);
    all_arrive(&receiver, &more).await;
    idle(&api).await;
    let requests = acknowledged.len() * 2 + more.len();
    assert_eq!(receiver.requests().len(), requests, "each of the killed worker's deliveries is repeated");
    deployment.stop().await;
}
