//! One run, from the first process to the final report.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use clap::ValueEnum;
use fastrand::Rng;
use postrider_core::SubscriberId;
use postrider_testkit::{Api, Receiver, redis::Keeps};
use sea_orm::DatabaseConnection;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    audience::{self, SUBSCRIBERS, Subscriber},
    bouncer::Bouncer,
    checks::{self, Evidence},
    cluster::{ADMIN_KEY, parts, start_cluster, start_whole},
    days,
    facts::Facts,
    faults::torment,
    incident::Chronicle,
    ledger::Ledger,
    logbook::Logbook,
    member::{Address, Member},
    members::Members,
    moment::Anchor,
    operator::Operator,
    postgres::PostgresServer,
    queue::{Queue, Where},
    records::Records,
    referee, report,
    settle::{PROBE_TIME, probe, settle, settle_all, settle_statistics, settling_time},
    sqlite::DataFolder,
    watch::Watch,
};

/// The database that the programs use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Two servers and three workers over PostgreSQL
    Postgres,
    /// The same with PgBouncer in transaction mode between them and PostgreSQL
    Pgbouncer,
    /// `postrider dev` over SQLite
    Sqlite,
    /// Two servers and three workers over PostgreSQL, with the queue on a Redis that writes its file each second
    Redis,
    /// The same with a Redis that keeps nothing
    RedisInMemory,
    /// The same with a Redis Cluster of three masters and their replicas, which take over
    RedisCluster,
}

impl Kind {
    /// The Redis with the queue, if there is one.
    pub(crate) fn redis(self) -> Option<Where> {
        match self {
            Self::Redis => Some(Where::One(Keeps::EverySecond)),
            Self::RedisInMemory => Some(Where::One(Keeps::Nothing)),
            Self::RedisCluster => Some(Where::Cluster),
            Self::Postgres | Self::Pgbouncer | Self::Sqlite => None,
        }
    }
}

/// Runs faults for `seconds`, then checks every guarantee. Returns whether all of them held.
pub(crate) async fn run(kind: Kind, seconds: u64, seed: u64, rate: f64) -> bool {
    let (stage, members) = Stage::start(kind, Duration::from_secs(seconds)).await;
    let watching = CancellationToken::new();
    let watch = stage.start_watch(&members, watching.clone());

    println!("chaos: starting faults");
    let mut members = stage.torment(members, Duration::from_secs(seconds), Seeds(seed), rate).await;
    println!("chaos: faults are over; settling");
    let settled = stage.settle(&mut members, settling_time(seconds)).await;
    watching.cancel();
    watch.await.expect("the watch");
    members.archive().await;

    let facts = stage.gather().await;
    let evidence = stage.evidence(&facts);
    let (found, repeats) = checks::all(evidence, &stage.records).await;
    let violations: Vec<String> =
        settled.violations.into_iter().chain(found).chain(stage.chronicle.violations()).collect();
    report::print(evidence, repeats, settled.took);
    report::violations(&violations, seed, evidence)
}

/// Everything in a run except the programs that the faults hit.
struct Stage {
    database: Database,
    queue: Option<Queue>,
    records: Records,
    receiver: Arc<Receiver>,
    subscribers: HashMap<Uuid, &'static Subscriber>,
    ledger: Arc<Ledger>,
    operator: Arc<Operator>,
    chronicle: Arc<Chronicle>,
    logbook: Arc<Logbook>,
    watch: Arc<Watch>,
    anchor: Anchor,
}

/// What the faults of the database hit.
enum Database {
    Postgres(PostgresServer, DatabaseConnection),
    Sqlite(DataFolder),
}

/// How the run settled after the faults.
struct Settled {
    took: Duration,
    violations: Vec<String>,
}

impl Stage {
    async fn start(kind: Kind, faults: Duration) -> (Self, Members) {
        let (chronicle, logbook) = (Arc::<Chronicle>::default(), Arc::<Logbook>::default());
        let anchor = Anchor::new();
        let receiver = Arc::new(Receiver::start().await);
        let queue =
            kind.redis().map(|place| Queue::start(place).expect("a Redis; the caller has looked for one"));
        let (database, records, members) = match kind {
            Kind::Postgres | Kind::Pgbouncer | Kind::Redis | Kind::RedisInMemory | Kind::RedisCluster => {
                let bouncer = (kind == Kind::Pgbouncer)
                    .then(|| Bouncer::find().expect("a PgBouncer; the caller has looked for one"));
                let roles: Vec<String> = parts().map(referee::role).collect();
                let server = PostgresServer::start(bouncer, &roles).await;
                let connection = server.connect().await;
                days::prepare(&connection, faults).await;
                let members = start_cluster(&server, queue.as_ref(), &chronicle, &logbook, &connection).await;
                let records = Records::Postgres(connection.clone());
                (Database::Postgres(server, connection), records, members)
            }
            Kind::Sqlite => {
                let folder = DataFolder::new();
                let members = start_whole(&folder, &chronicle, &logbook).await;
                let records = folder.records();
                (Database::Sqlite(folder), records, members)
            }
        };
        let servers = &members.servers;
        let addresses = || servers.iter().map(Member::address).collect();
        let ledger = Arc::new(Ledger::new(addresses(), ADMIN_KEY, &chronicle));
        let subscribers = subscribe(&servers[0].address(), &receiver).await;
        let operator = Arc::new(Operator::new(addresses(), ADMIN_KEY, &subscribers, &chronicle));
        let stage = Self {
            database,
            queue,
            records,
            receiver,
            subscribers,
            ledger,
            operator,
            chronicle,
            logbook,
            watch: Arc::default(),
            anchor,
        };
        (stage, members)
    }

    fn start_watch(&self, members: &Members, stop: CancellationToken) -> JoinHandle<()> {
        let members = members.all().map(|member| (member.who, member.address())).collect();
        let (watch, records) = (Arc::clone(&self.watch), self.records.clone());
        tokio::spawn(watch.look(records, members, Arc::clone(&self.chronicle), stop))
    }

    /// Publishes events, acts as an operator, and inflicts faults on everything for `duration`.
    async fn torment(&self, members: Members, duration: Duration, seeds: Seeds, rate: f64) -> Members {
        let (faults, publishing) = (CancellationToken::new(), CancellationToken::new());
        let publisher =
            tokio::spawn(Arc::clone(&self.ledger).publish(seeds.rng("publisher"), rate, publishing.clone()));
        let receivers = tokio::spawn(audience::behave(
            Arc::clone(&self.receiver),
            seeds.rng("receivers"),
            faults.clone(),
        ));
        let operator = tokio::spawn({
            let (operator, rng, stop) = (Arc::clone(&self.operator), seeds.rng("operator"), faults.clone());
            async move { operator.operate(rng, stop).await }
        });
        let (rng, chronicle, stop) = (seeds.rng("database"), Arc::clone(&self.chronicle), faults.clone());
        let database = match &self.database {
            Database::Postgres(server, connection) => {
                tokio::spawn(server.clone().torment(connection.clone(), rng, chronicle, stop))
            }
            Database::Sqlite(folder) => tokio::spawn(folder.clone().torment(rng, chronicle, stop)),
        };
        let queue = self.queue.clone().map(|queue| {
            let (rng, chronicle) = (seeds.rng("queue"), Arc::clone(&self.chronicle));
            tokio::spawn(queue.torment(rng, chronicle, faults.clone()))
        });
        let servers = torment_each(members.servers, seeds, &faults);
        let workers = torment_each(members.workers, seeds, &faults);

        sleep(duration).await;
        faults.cancel();
        publishing.cancel();
        database.await.expect("the database's faults");
        if let Some(queue) = queue {
            queue.await.expect("the queue's faults");
        }
        receivers.await.expect("the receivers' behaviour");
        let members = Members { servers: join(servers).await, workers: join(workers).await };
        publisher.await.expect("the publisher");
        operator.await.expect("the operator");
        members
    }

    /// Waits until everything is delivered, and checks that every program works.
    async fn settle(&self, members: &mut Members, within: Duration) -> Settled {
        let start = Instant::now();
        let has_settled = settle_all(&self.records, &self.operator, within).await;
        let took = start.elapsed();
        let violations = if has_settled {
            let violations = probe(&self.records, &self.ledger, &self.receiver, members).await;
            settle(&self.records, PROBE_TIME).await;
            settle_statistics(&self.records, PROBE_TIME).await;
            violations
        } else {
            vec![format!("not everything was delivered within {within:?}")]
        };
        Settled { took, violations }
    }

    async fn gather(&self) -> Facts {
        Facts::gather(&self.records, self.subscribers.clone(), &self.receiver, self.anchor).await
    }

    fn evidence<'a>(&'a self, facts: &'a Facts) -> Evidence<'a> {
        Evidence {
            facts,
            knows_claims: self.queue.is_none(),
            ledger: &self.ledger,
            operator: &self.operator,
            chronicle: &self.chronicle,
            logbook: &self.logbook,
            watch: &self.watch,
        }
    }
}

/// The run's seed, from which every random choice derives.
#[derive(Clone, Copy)]
struct Seeds(u64);

impl Seeds {
    /// A generator for one part of the run, so that the parts do not depend on each other's order.
    fn rng(self, part: &str) -> Rng {
        let mut hasher = DefaultHasher::new();
        (self.0, part).hash(&mut hasher);
        Rng::with_seed(hasher.finish())
    }
}

fn torment_each(members: Vec<Member>, seeds: Seeds, stop: &CancellationToken) -> Vec<JoinHandle<Member>> {
    let last = members.len().saturating_sub(1);
    let each = members.into_iter().enumerate();
    each.map(|(index, member)| {
        let rng = seeds.rng(&member.who.to_string());
        // A program that is alone is killed like the others.
        let survives = index == last && last > 0;
        tokio::spawn(torment(member, rng, survives, stop.clone()))
    })
    .collect()
}

async fn join<T>(tasks: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut done = Vec::with_capacity(tasks.len());
    for task in tasks {
        done.push(task.await.expect("a task that does not panic"));
    }
    done
}

/// Creates the subscribers through the API.
async fn subscribe(server: &Address, receiver: &Receiver) -> HashMap<Uuid, &'static Subscriber> {
    let address = server.live().api.expect("a server that has started");
    let api = Api::new(format!("http://{address}"), ADMIN_KEY);
    let mut made = HashMap::new();
    for subscriber in SUBSCRIBERS.iter().chain(audience::crowd()) {
        let (status, answer) = api.post("/v1/subscribers", &subscriber.request(receiver)).await;
        assert_eq!(status, 201, "POST /v1/subscribers: {answer}");
        let id: SubscriberId = answer["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        made.insert(id.uuid(), subscriber);
    }
    made
}
