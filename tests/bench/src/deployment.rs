//! PostgreSQL, servers and workers of a run, and the resources that they use.

use std::{env, fs, net::SocketAddr, path::PathBuf, time::Duration};

use postrider_testkit::proxy::{Link, Proxy};
use postrider_testkit::redis::{Keeps, RedisServer};
use postrider_testkit::{Api, Process, Program};
use sea_orm::{ConnectOptions, Database, DatabaseConnection};
use serde_json::{Value, json};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use xtask::postgres::{Durability, Options, Postgres};

use crate::{QueuePlace, load::Target, statements, usage};

pub(crate) const ADMIN_KEY: &str = "bench-operator-key-bench-operator-key";
/// The base64 of 32 bytes; the benchmark has no secrets.
pub(crate) const SECRET_KEY: &str = "YmVuY2hiZW5jaGJlbmNoYmVuY2hiZW5jaGJlbmNoYmU=";
const START: Duration = Duration::from_mins(1);

/// The programs to start.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) servers: usize,
    pub(crate) workers: usize,
    /// How long a round trip from the programs to PostgreSQL takes at least.
    pub(crate) round_trip: Duration,
    /// Where the queue is.
    pub(crate) queue: QueuePlace,
    /// Additional environment variables of the workers.
    pub(crate) worker: Vec<(&'static str, String)>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            servers: 1,
            workers: 1,
            round_trip: Duration::ZERO,
            queue: QueuePlace::Database,
            worker: Vec::new(),
        }
    }
}

/// The running programs, which end when this is dropped.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) api: Api,
    pub(crate) database: DatabaseConnection,
    addresses: Vec<SocketAddr>,
    servers: Vec<Process>,
    workers: Vec<Process>,
    shape: Shape,
    /// The URL for the programs.
    url: String,
    /// The Redis with the queue.
    redis: Option<RedisServer>,
    _link: Proxy,
    // Dropped last, after the programs have ended.
    postgres: Postgres,
}

/// Processor seconds by part.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) server: f64,
    pub(crate) worker: f64,
    pub(crate) postgres: f64,
    /// The Redis with the queue, if there is one.
    pub(crate) redis: f64,
    pub(crate) bench: f64,
}

impl Deployment {
    /// Starts PostgreSQL with its default settings (`fsync` on) except for 256 MB of shared buffers, a server, and the workers.
    pub(crate) async fn start(shape: Shape) -> Self {
        let mut deployment = Self::without_workers(shape).await;
        deployment.start_workers().await;
        deployment
    }

    /// Starts the same without the workers.
    pub(crate) async fn without_workers(shape: Shape) -> Self {
        let options = Options::new(Durability::On)
            .set("shared_preload_libraries", "pg_stat_statements")
            .set("pg_stat_statements.track_utility", "on")
            .set("pg_stat_statements.track_planning", "on");
        let started = spawn_blocking(move || Postgres::start(&options)).await.expect("a thread");
        let postgres = started.unwrap_or_else(|error| panic!("{error}"));
        let mut options = ConnectOptions::new(postgres.url());
        options.max_connections(3).sqlx_logging(false).set_application_name("bench");
        let database = Database::connect(options).await.expect("the database");
        statements::execute(&database, "CREATE EXTENSION pg_stat_statements").await;

        let (link, url) = Proxy::before(&postgres.url()).await;
        let is_far = !shape.round_trip.is_zero();
        let url = if is_far { url } else { postgres.url() };
        if is_far {
            link.set(Link::Slow(shape.round_trip / 2));
        }
        let redis = (shape.queue == QueuePlace::Redis)
            .then(|| RedisServer::start(Keeps::EverySecond).expect("a redis-server"));
        let (mut addresses, mut servers) = (Vec::new(), Vec::new());
        for _ in 0..shape.servers {
            let server = program("postrider-server", &url, redis.as_ref())
                .env("POSTRIDER_LISTEN", "127.0.0.1:0")
                .env("POSTRIDER_ADMIN_KEY", ADMIN_KEY)
                .env("POSTRIDER_MIGRATE", "true")
                .start();
            addresses.push(server.wait_for_address(|line| line.contains("\"service\":\"api\""), START).await);
            servers.push(server);
        }
        let api = Api::new(format!("http://{}", addresses[0]), ADMIN_KEY);
        Self {
            api,
            database,
            addresses,
            servers,
            workers: Vec::new(),
            shape,
            url,
            redis,
            _link: link,
            postgres,
        }
    }

    pub(crate) async fn start_workers(&mut self) {
        for _ in 0..self.shape.workers {
            let mut worker = program("postrider-worker", &self.url, self.redis.as_ref());
            for (name, value) in &self.shape.worker {
                worker = worker.env(*name, value);
            }
            let worker = worker.start();
            worker.wait_for_line(|line| line.contains("worker started"), START).await;
            self.workers.push(worker);
        }
    }

    pub(crate) fn target(&self, path: &str) -> Target {
        Target { addresses: self.addresses.clone(), path: path.to_owned(), key: ADMIN_KEY, expected: 202 }
    }

    /// Creates a subscriber of all events of the benchmark.
    pub(crate) async fn subscribe(&self, url: &str, policy: Value) {
        subscribe(&self.api, url, "bench.event", policy).await;
    }

    /// Deletes all subscribers.
    pub(crate) async fn unsubscribe_all(&self) {
        let (status, listed) = self.api.get("/v1/subscribers").await;
        assert_eq!(status, 200, "{listed}");
        for subscriber in listed["data"].as_array().expect("a list") {
            let id = subscriber["id"].as_str().expect("an id");
            let (status, answer) = self.api.delete(&format!("/v1/subscribers/{id}")).await;
            assert_eq!(status, 204, "{answer}");
        }
    }

    pub(crate) fn cpu(&self) -> Cpu {
        let of = |process: &Process| process.id().map_or(0.0, usage::cpu_seconds);
        Cpu {
            server: self.servers.iter().map(of).sum(),
            worker: self.workers.iter().map(of).sum(),
            postgres: self.postmaster().map_or(0.0, usage::family_cpu_seconds),
            redis: self.redis.as_ref().map_or(0.0, cpu_of_redis),
            bench: usage::cpu_seconds(std::process::id()),
        }
    }

    /// The peak memory of the largest server and of the largest worker, in MiB.
    pub(crate) fn peak_memory(&self) -> (f64, f64) {
        let of = |process: &Process| process.id().map_or(0.0, usage::peak_memory);
        let largest = |processes: &[Process]| processes.iter().map(of).fold(0.0, f64::max);
        (largest(&self.servers), largest(&self.workers))
    }

    /// Puts all jobs that were written into the tables of the queue in PostgreSQL into the queue on Redis, if the queue is
    /// there, and tells it about all lanes.
    pub(crate) async fn pass_jobs_on(&self) {
        const PASS: &str = "WITH told AS (
                INSERT INTO changed_lanes (lane, version) SELECT id, state_version FROM lanes ON CONFLICT (lane) DO NOTHING
            ), moved AS (DELETE FROM jobs RETURNING id, lane, owner, subject
            ), numbered AS (SELECT *, row_number() OVER (ORDER BY id) / 1000 AS part FROM moved)
            INSERT INTO outbox (id, created_at, jobs)
            SELECT min(id::text)::uuid, 0, convert_to(json_agg(
                json_build_object('id', id, 'lane', lane, 'owner', owner, 'subject', subject) ORDER BY id
            )::text, 'UTF8') FROM numbered GROUP BY part";
        if self.redis.is_none() {
            return;
        }
        statements::execute(&self.database, PASS).await;
        let left = "SELECT ((SELECT count(*) FROM outbox) + (SELECT count(*) FROM changed_lanes))::float8";
        while statements::number(&self.database, left).await > 0.0 {
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// The number of jobs and pending deliveries left for the benchmark's own subscribers.
    pub(crate) async fn left(&self) -> f64 {
        let sql = "WITH own AS MATERIALIZED (SELECT subscriber_id AS id FROM subscriptions WHERE pattern = 'bench.event') \
            SELECT ((SELECT count(*) FROM jobs JOIN own ON own.id = jobs.lane) \
                + (SELECT count(*) FROM deliveries JOIN own ON own.id = subscriber_id WHERE status = 0))::float8";
        statements::number(&self.database, sql).await
    }

    /// Sends some events and analyses the tables, as autovacuum does a minute after the first start of a deployment:
    /// plans made for empty tables are not representative.
    pub(crate) async fn warm(&self) {
        for _ in 0..20 {
            let event = json!({"event": "bench.event", "data": {"warm": true}});
            let batch = json!({"events": vec![event; 50]});
            let (status, answer) = self.api.post("/v1/events/batch", &batch).await;
            assert_eq!(status, 202, "{answer}");
        }
        let deadline = Instant::now() + START;
        // The programs make a week of partitions when they start.
        let made = "SELECT count(*)::float8 FROM partitions";
        while self.left().await > 0.0 || statements::number(&self.database, made).await < 8.0 {
            assert!(Instant::now() < deadline, "the first events are not delivered");
            sleep(Duration::from_millis(20)).await;
        }
        statements::execute(&self.database, "ANALYZE").await;
    }

    fn postmaster(&self) -> Option<u32> {
        let file = fs::read_to_string(self.postgres.folder().join("data/postmaster.pid")).ok()?;
        file.lines().next()?.trim().parse().ok()
    }
}

impl Cpu {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            server: self.server - before.server,
            worker: self.worker - before.worker,
            postgres: self.postgres - before.postgres,
            redis: self.redis - before.redis,
            bench: self.bench - before.bench,
        }
    }
}

pub(crate) async fn subscribe(api: &Api, url: &str, event: &str, policy: Value) {
    let body = json!({"url": url, "events": [event], "policy": policy});
    let (status, answer) = api.post("/v1/subscribers", &body).await;
    assert_eq!(status, 201, "{answer}");
}

/// Processor seconds of Redis, by its own count.
fn cpu_of_redis(redis: &RedisServer) -> f64 {
    let info = redis.cli(&["INFO", "cpu"]);
    let used = info.lines().filter_map(|line| {
        let (name, value) = line.trim().split_once(':')?;
        matches!(name, "used_cpu_sys" | "used_cpu_user").then(|| value.parse::<f64>().ok())?
    });
    used.sum()
}

fn program(name: &str, url: &str, redis: Option<&RedisServer>) -> Program {
    let mut program = Program::at(beside_us(name));
    if let Some(redis) = redis {
        program = program.env("POSTRIDER_QUEUE_URL", redis.url());
    }
    program
        .env("POSTRIDER_DATABASE_URL", url)
        .env("POSTRIDER_SECRET_KEY", SECRET_KEY)
        .env("POSTRIDER_TELEMETRY_LISTEN", "127.0.0.1:0")
        .env("POSTRIDER_ALLOW_NETS", "127.0.0.0/8")
        .env("POSTRIDER_SHUTDOWN_GRACE", "3s")
        .env("POSTRIDER_LOG_FORMAT", "json")
}

/// A program in the folder of this one, where `cargo xtask bench` builds it.
pub(crate) fn beside_us(name: &str) -> PathBuf {
    let us = env::current_exe().expect("the path of this program");
    let path = us.with_file_name(format!("{name}{}", env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is not built: run `cargo xtask bench`", path.display());
    path
}
