//! One run, from the first process to the tally.

use std::{
    collections::HashMap,
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
    process,
    sync::Arc,
    time::Duration,
};

use fastrand::Rng;
use postrider_core::SubscriberId;
use postrider_testkit::{Api, Receiver};
use sea_orm::DatabaseConnection;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    audience::{self, PROBE, SUBSCRIBERS, Subscriber},
    checks::{self, Evidence, Repeats},
    cluster::{ADMIN_KEY, DatabaseServer, start_members},
    facts::{DEAD, Facts, count},
    faults::{torment, torment_database},
    incident::Chronicle,
    ledger::Ledger,
    logbook::Logbook,
    member::{Address, Member},
    moment::Anchor,
    operator::Operator,
    watch::Watch,
};

/// How long all may take to be delivered once the faults are over: some take two at a time, and what they could not
/// take meanwhile grows with the run.
fn settling(seconds: u64) -> Duration {
    Duration::from_secs(90 + seconds / 2)
}

/// How long the last few may take.
const PROBED: Duration = Duration::from_secs(90);
/// How long a server may go on refusing once the faults are over.
const RECOVERY: Duration = Duration::from_secs(10);
/// How many violations are shown.
const SHOWN: usize = 20;

/// Whether all held.
pub(crate) async fn run(seconds: u64, seed: u64, rate: f64) -> bool {
    let (chronicle, logbook, watch) =
        (Arc::<Chronicle>::default(), Arc::<Logbook>::default(), Arc::<Watch>::default());
    let anchor = Anchor::new();
    let server = DatabaseServer::start().await;
    let database = server.connect().await;
    let receiver = Arc::new(Receiver::start().await);
    let (servers, workers) = start_members(&server, &chronicle, &logbook, &database).await;
    let ledger = Ledger::new(servers.iter().map(Member::address).collect(), ADMIN_KEY, &chronicle);
    let ledger = Arc::new(ledger);
    let subscribers = subscribe(&servers[0].address(), &receiver).await;

    let addresses = servers.iter().map(Member::address).collect();
    let operator = Arc::new(Operator::new(addresses, ADMIN_KEY, &subscribers, &chronicle));

    println!("chaos: it begins");
    let (faults, publishing, watching) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let rng = |name: &str| {
        let mut hasher = DefaultHasher::new();
        (seed, name).hash(&mut hasher);
        Rng::with_seed(hasher.finish())
    };
    let members = servers.iter().chain(&workers).map(|member| (member.who, member.address())).collect();
    let looking =
        Arc::clone(&watch).look(database.clone(), members, Arc::clone(&chronicle), watching.clone());
    let looking = tokio::spawn(looking);
    let publisher = tokio::spawn(Arc::clone(&ledger).publish(rng("publisher"), rate, publishing.clone()));
    let behaving = tokio::spawn(audience::behave(Arc::clone(&receiver), rng("receivers"), faults.clone()));
    let operating = {
        let (operator, rng, stop) = (Arc::clone(&operator), rng("operator"), faults.clone());
        tokio::spawn(async move { operator.operate(rng, stop).await })
    };
    let tormented = tokio::spawn(torment_database(
        server.clone(),
        database.clone(),
        rng("database"),
        Arc::clone(&chronicle),
        faults.clone(),
    ));
    let start = |members: Vec<Member>| -> Vec<JoinHandle<Member>> {
        let last = members.len() - 1;
        let each = members.into_iter().enumerate();
        each.map(|(index, member)| {
            let rng = rng(&member.who.to_string());
            tokio::spawn(torment(member, rng, index == last, faults.clone()))
        })
        .collect()
    };
    let (servers, workers) = (start(servers), start(workers));

    sleep(Duration::from_secs(seconds)).await;
    println!("chaos: no more faults; settling");
    faults.cancel();
    publishing.cancel();
    tormented.await.expect("the database's faults");
    behaving.await.expect("the receivers' behaviour");
    let mut servers = all(servers).await;
    let mut workers = all(workers).await;
    publisher.await.expect("the publisher");
    operating.await.expect("the operator");

    let start = Instant::now();
    let mut wrong = Vec::new();
    let has_settled = settle_all(&database, &operator, settling(seconds)).await;
    let settled = start.elapsed();
    if has_settled {
        wrong.extend(probe(&database, &ledger, &receiver, &mut servers, &mut workers).await);
        settle(&database, PROBED).await;
    } else {
        wrong.push(format!("not all was delivered within {:?}", settling(seconds)));
    }
    watching.cancel();
    looking.await.expect("the watch");

    for member in servers.iter_mut().chain(&mut workers) {
        // As a side effect notes who ended by itself.
        member.lives().await;
        member.archive();
    }
    let facts = Facts::gather(&database, subscribers, &receiver, anchor).await;
    let evidence = Evidence {
        facts: &facts,
        ledger: &ledger,
        operator: &operator,
        chronicle: &chronicle,
        logbook: &logbook,
        watch: &watch,
    };
    let (found, repeats) = checks::all(evidence, &database).await;
    wrong.extend(found);
    wrong.extend(chronicle.violations());
    tally(evidence, repeats, settled);
    if wrong.is_empty() {
        return true;
    }
    for violation in wrong.iter().take(SHOWN) {
        eprintln!("chaos: WRONG: {violation}");
    }
    eprintln!(
        "chaos: {} violations; logs and incidents are in {}",
        wrong.len(),
        keep(seed, evidence).display()
    );
    false
}

/// Makes the subscribers.
async fn subscribe(server: &Address, receiver: &Receiver) -> HashMap<Uuid, &'static Subscriber> {
    let address = server.live().api.expect("a server that has started");
    let api = Api::new(format!("http://{address}"), ADMIN_KEY);
    let mut made = HashMap::new();
    for subscriber in SUBSCRIBERS {
        let (status, answer) = api.post("/v1/subscribers", &subscriber.request(receiver)).await;
        assert_eq!(status, 201, "POST /v1/subscribers: {answer}");
        let id: SubscriberId = answer["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        made.insert(id.uuid(), subscriber);
    }
    made
}

async fn all<T>(tasks: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut done = Vec::with_capacity(tasks.len());
    for task in tasks {
        done.push(task.await.expect("a task that ends well"));
    }
    done
}

/// Waits until nothing is left to do.
async fn settle(database: &DatabaseConnection, within: Duration) -> bool {
    const LEFT: &str =
        "SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM deliveries WHERE status = 0)";
    let start = Instant::now();
    while start.elapsed() < within {
        if count(database, LEFT).await == 0 {
            return true;
        }
        sleep(Duration::from_millis(100)).await;
    }
    false
}

/// Waits until nothing is left to do, and all that was cancelled has been delivered after all.
async fn settle_all(database: &DatabaseConnection, operator: &Operator, within: Duration) -> bool {
    const CANCELLED: &str = "SELECT count(*) FROM deliveries WHERE status = 3";
    let start = Instant::now();
    while start.elapsed() < within {
        operator.make_up().await;
        if settle(database, within).await && count(database, CANCELLED).await == 0 {
            return true;
        }
    }
    false
}

/// Each server takes an event, and each worker delivers one while the others are stopped.
async fn probe(
    database: &DatabaseConnection,
    ledger: &Ledger,
    receiver: &Receiver,
    servers: &mut [Member],
    workers: &mut [Member],
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, server) in servers.iter().enumerate() {
        if !delivered(ledger, receiver, index).await {
            wrong.push(format!("{} does not work at the end", server.who));
        }
    }
    for lone in 0..workers.len() {
        // Nobody is to be stopped in the middle of something.
        for worker in workers.iter_mut() {
            worker.signal("CONT").await;
        }
        settle(database, PROBED).await;
        for (index, worker) in workers.iter_mut().enumerate() {
            worker.signal(if index == lone { "CONT" } else { "STOP" }).await;
        }
        if !delivered(ledger, receiver, 0).await {
            wrong.push(format!("{} does not work at the end", workers[lone].who));
        }
    }
    for worker in workers {
        worker.signal("CONT").await;
    }
    wrong
}

/// Whether a server takes an event, and it is delivered, within some seconds.
async fn delivered(ledger: &Ledger, receiver: &Receiver, server: usize) -> bool {
    let before = receiver.requests_to("/probe").len();
    let start = Instant::now();
    // Connections that the last fault broke may still be found out, one by one.
    while ledger.publish_one(PROBE, server).await.is_none() {
        if start.elapsed() > RECOVERY {
            return false;
        }
        sleep(Duration::from_millis(100)).await;
    }
    // Less than a lease: the workers that are stopped meanwhile must not lose theirs.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        if receiver.requests_to("/probe").len() > before {
            return true;
        }
        sleep(Duration::from_millis(20)).await;
    }
    false
}

fn tally(evidence: Evidence<'_>, repeats: Repeats, settled: Duration) {
    let facts = evidence.facts;
    let entries = evidence.ledger.entries();
    let acknowledged = entries.iter().filter(|entry| entry.acknowledged.is_some()).count();
    let attempts: usize = facts.attempts.values().map(Vec::len).sum();
    let requests: usize = facts.arrivals.values().map(Vec::len).sum();
    let dead = facts.deliveries.values().filter(|delivery| delivery.status == DEAD).count();
    println!(
        "events      {} asked for, {acknowledged} acknowledged, {} stored",
        entries.len(),
        facts.events.len()
    );
    for (answer, count) in evidence.ledger.answers() {
        println!("            {count:>6} × {answer}");
    }
    println!("deliveries  {}, of which dead {dead}; {} deleted", facts.deliveries.len(), facts.deleted.len());
    println!("attempts    {attempts} recorded, {requests} requests received");
    println!("repeats     {}, of {} claims that were lost", repeats.found, repeats.allowed);
    println!("operator");
    for (what, count) in evidence.operator.done() {
        println!("            {count:>6} × {what}");
    }
    println!("faults");
    for (fault, count) in evidence.chronicle.counts() {
        println!("            {count:>6} × {fault}");
    }
    for ((who, instance), memory) in evidence.watch.memory() {
        if let (Some(first), Some(last), true) = (memory.first(), memory.last(), memory.len() > 10) {
            println!("memory      {who} (process {instance}): {first} to {last} KiB in {} s", memory.len());
        }
    }
    println!("settled     in {settled:.1?}");
}

/// Writes the logs and the incidents to a folder, for whoever looks for the cause.
fn keep(seed: u64, evidence: Evidence<'_>) -> PathBuf {
    let folder = env::temp_dir().join(format!("postrider-chaos-{seed}-{}", process::id()));
    let mut incidents = evidence.chronicle.incidents();
    incidents.sort_by_key(|incident| incident.from);
    let lines: Vec<String> = incidents.iter().map(|incident| format!("{incident:?}")).collect();
    let kept = fs::create_dir_all(&folder)
        .and_then(|()| fs::write(folder.join("incidents"), lines.join("\n")))
        .and_then(|()| evidence.logbook.write_to(&folder));
    if let Err(error) = kept {
        eprintln!("chaos: cannot keep the logs: {error}");
    }
    folder
}
