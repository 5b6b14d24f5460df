//! Redis servers, each in a folder of its own.
//!
//! Without Redis (Debian's `redis-server`), [`RedisServer::start`] and [`RedisCluster::start`] return `None` and print that
//! the test is skipped.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Where distributions put the server.
const SERVERS: [&str; 4] = [
    "/usr/bin/redis-server",
    "/usr/local/bin/redis-server",
    "/usr/bin/valkey-server",
    "/usr/local/bin/valkey-server",
];

/// What a server keeps on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Nothing: a restart loses everything.
    Nothing,
    /// An append-only file that is written to disk each second. A crash of the machine may lose the last second.
    EverySecond,
}

/// A Redis server. It ends with this value.
#[derive(Debug)]
pub struct RedisServer {
    process: Child,
    port: u16,
    folder: TempDir,
    more: Vec<String>,
}

impl RedisServer {
    /// Starts a server.
    pub fn start(keeps: Keeps) -> Option<Self> {
        let append = if keeps == Keeps::Nothing { "no" } else { "yes" };
        Self::start_with(&["--appendonly", append, "--appendfsync", "everysec"])
    }

    /// Starts a server with these options.
    pub fn start_with(options: &[&str]) -> Option<Self> {
        let program = program()?;
        let folder = tempfile::tempdir().unwrap();
        let mut more = vec![
            "--maxmemory".to_owned(),
            "1gb".to_owned(),
            "--maxmemory-policy".to_owned(),
            "noeviction".to_owned(),
            "--save".to_owned(),
            String::new(),
        ];
        more.extend(options.iter().map(|&option| option.to_owned()));
        let port = free_port();
        let process = run(&program, folder.path(), port, &more);
        let server = Self { process, port, folder, more };
        server.wait();
        Some(server)
    }

    /// The URL of the server's database 0.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// The port on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends the server at once, as a crash does.
    pub fn kill(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }

    /// Starts the server again, on the same port and with what it has kept.
    pub fn restart(&mut self) {
        self.kill();
        self.process = run(&program().unwrap(), self.folder.path(), self.port, &self.more);
        self.wait();
    }

    /// Runs a command with `redis-cli` and returns what it prints.
    pub fn cli(&self, arguments: &[&str]) -> String {
        cli(self.port, arguments)
    }

    fn wait(&self) {
        let end = Instant::now() + Duration::from_secs(30);
        while cli(self.port, &["PING"]).trim() != "PONG" {
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "Redis did not start: {}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three nodes of a Redis Cluster, each a master.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts a cluster.
    pub fn start() -> Option<Self> {
        Self::start_with(0)
    }

    /// Starts a cluster whose masters have so many replicas each, which take over within a second or two.
    pub fn start_with(replicas: usize) -> Option<Self> {
        let nodes = 3 * (1 + replicas);
        let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--appendonly", "yes"];
        let nodes = (0..nodes).map(|_| RedisServer::start_with(&options)).collect::<Option<Vec<_>>>()?;
        let mut create = vec!["--cluster".to_owned(), "create".to_owned()];
        create.extend(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)));
        create.extend(["--cluster-replicas".to_owned(), replicas.to_string(), "--cluster-yes".to_owned()]);
        let create: Vec<&str> = create.iter().map(String::as_str).collect();
        let created = cli(nodes[0].port, &create);
        assert!(created.contains("All 16384 slots covered"), "{created}");
        let end = Instant::now() + Duration::from_secs(30);
        for node in &nodes {
            while !node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok") {
                assert!(Instant::now() < end, "the cluster is not ready");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Some(Self { nodes })
    }

    /// The URL of the cluster for the queue.
    pub fn url(&self) -> String {
        let others: Vec<_> =
            self.nodes[1..].iter().map(|node| format!("node=127.0.0.1:{}", node.port)).collect();
        format!("redis+cluster://127.0.0.1:{}?{}", self.nodes[0].port, others.join("&"))
    }

    /// The nodes.
    pub fn nodes(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }
}

fn program() -> Option<String> {
    let found = SERVERS.into_iter().find(|path| Path::new(path).is_file());
    if found.is_none() {
        println!("skipped: there is no redis-server");
    }
    found.map(str::to_owned)
}

/// Runs a server until the end of the shell's input, which also comes when this process is killed.
pub(crate) const UNTIL_END_OF_INPUT: &str =
    "\"$@\" <&- & server=$!; cat >/dev/null; kill -9 $server; wait $server";

fn run(program: &str, folder: &Path, port: u16, more: &[String]) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            UNTIL_END_OF_INPUT,
            "sh",
            program,
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--dir",
        ])
        .arg(folder)
        .args(more)
        .stdin(Stdio::piped())
        .stdout(log)
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

fn cli(port: u16, arguments: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    if arguments.first() != Some(&"--cluster") {
        command.args(["-p", &port.to_string()]);
    }
    let output = command.args(arguments).stdin(Stdio::null()).output().expect("redis-cli");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A free port whose cluster bus port, 10,000 higher, is free, too.
fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        if port < 50_000 && TcpStream::connect((Ipv4Addr::LOCALHOST, port + 10_000)).is_err() {
            return port;
        }
    }
}
