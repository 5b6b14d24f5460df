//! PgBouncer before the PostgreSQL of the tests.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use url::Url;

use crate::eventually;

/// The environment variable that names the programs to test with, like `PATH`.
pub const PGBOUNCERS_VARIABLE: &str = "POSTRIDER_TEST_PGBOUNCERS";

/// The versions of PgBouncer that there are, oldest first. Without any, prints that the test is skipped.
pub fn installed() -> Vec<Installed> {
    let named = env::var_os(PGBOUNCERS_VARIABLE);
    let named = named.map(|paths| env::split_paths(&paths).collect::<Vec<_>>()).unwrap_or_default();
    let paths = if named.is_empty() { vec![PathBuf::from("/usr/sbin/pgbouncer")] } else { named };
    let mut found: Vec<_> = paths.iter().filter_map(|path| Installed::at(path)).collect();
    found.sort_by_key(|installed| installed.version);
    if found.is_empty() {
        #[allow(clippy::print_stderr, reason = "it talks to the person who runs the tests")]
        {
            eprintln!("skipped: there is no PgBouncer");
        }
    }
    found
}

/// A PgBouncer that can be started.
#[derive(Clone, Debug)]
pub struct Installed {
    path: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
}

impl Installed {
    fn at(path: &Path) -> Option<Self> {
        let output = Command::new(path).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut numbers = text.split_whitespace().nth(1)?.split('.').map(str::parse);
        let version = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Self { path: path.to_owned(), version })
    }

    /// Whether it keeps track of prepared statements in transaction mode.
    pub fn prepares(&self) -> bool {
        self.version >= (1, 21)
    }

    /// Starts it before the server of `url`, in a pool mode, with at most `sessions` sessions for each database.
    pub async fn start(&self, url: &str, mode: &str, sessions: u32) -> PgBouncer {
        let server = Url::parse(url).expect("a URL");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pgbouncer.ini");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let prepared = if self.prepares() { "max_prepared_statements = 200" } else { "" };
        let settings = format!(
            "[databases]\n* = host={} port={} user={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = {sessions}\n\
             max_client_conn = 500\nadmin_users = {}\n{prepared}\n",
            server.host_str().expect("a host"),
            server.port().expect("a port"),
            server.username(),
            server.username(),
        );
        fs::write(&file, settings).expect("a configuration");
        let mut command = Command::new(&self.path);
        // It refuses to run as root.
        if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
            command.args(["-u", "nobody"]);
        }
        let process = command.arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut url = server.clone();
        url.set_port(Some(port)).expect("a port");
        let bouncer = PgBouncer { process: process.expect("PgBouncer starts"), url, _folder: folder };
        eventually(Duration::from_secs(30), || async {
            tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()
        })
        .await;
        bouncer
    }
}

/// A running PgBouncer, ended when this is dropped.
#[derive(Debug)]
pub struct PgBouncer {
    process: Child,
    url: Url,
    _folder: TempDir,
}

impl PgBouncer {
    /// The URL of the database through PgBouncer.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// A pool of another client.
    pub async fn connect(&self) -> sea_orm::DatabaseConnection {
        let mut options = sea_orm::ConnectOptions::new(self.url.as_str());
        // PgBouncer refuses this parameter.
        options.map_sqlx_postgres_opts(|options| options.extra_float_digits(None));
        sea_orm::Database::connect(options).await.expect("PgBouncer answers")
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
