//! A throwaway PostgreSQL server in a temporary folder, on a free port of 127.0.0.1.

mod account;
mod fetched;
mod keeper;
mod programs;

use std::{
    env,
    fmt::Write as _,
    fs,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::Write as _,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{self, Command},
};

pub(crate) use self::account::is_root;
use self::{account::Account, keeper::Keeper, programs::Programs};
use crate::Error;

/// The environment variable that names the server of the tests.
pub const URL_VARIABLE: &str = "POSTRIDER_TEST_DATABASE_URL";

/// The environment variable that names the major version of servers that are started; without it any usable version is.
pub const VERSION_VARIABLE: &str = "POSTRIDER_TEST_POSTGRES";

/// How many ports to try: another program may take a free port before PostgreSQL does.
const PORT_TRIES: usize = 5;

/// Whether acknowledged writes survive [`Postgres::stop`] with [`Stop::Immediate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// `fsync`, `full_page_writes` and `synchronous_commit` are off: fast, for tests.
    Off,
    /// PostgreSQL's own defaults: for measurements and for faults.
    On,
}

/// How to stop the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Disconnects the clients and shuts down cleanly.
    Fast,
    /// Like a crash: writes no checkpoint, so that the next start has to recover.
    Immediate,
}

/// The configuration of a server.
#[derive(Clone, Debug)]
pub struct Options {
    settings: Vec<(String, String)>,
    version: Option<u32>,
}

impl Options {
    /// A server with this durability, 300 connections and 256 MB of shared buffers, of the version that
    /// [`VERSION_VARIABLE`] names.
    pub fn new(durability: Durability) -> Self {
        let mut settings = vec![
            ("max_connections".to_owned(), "300".to_owned()),
            ("shared_buffers".to_owned(), "256MB".to_owned()),
            ("listen_addresses".to_owned(), "127.0.0.1".to_owned()),
        ];
        if durability == Durability::Off {
            for name in ["fsync", "full_page_writes", "synchronous_commit"] {
                settings.push((name.to_owned(), "off".to_owned()));
            }
        }
        Self { settings, version: None }
    }

    /// Chooses the major version. `None` leaves the choice to [`VERSION_VARIABLE`].
    pub fn version(mut self, version: Option<u32>) -> Self {
        self.version = version;
        self
    }

    /// Adds a setting of `postgresql.conf`. The last one of a name counts.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }
}

/// A running server. The keeper removes it and its folder when this value is dropped or this process dies, even by
/// `SIGKILL`.
///
/// ```no_run
/// use xtask::postgres::{Durability, Options, Postgres, Stop};
///
/// let mut server = Postgres::start(&Options::new(Durability::On).set("log_statement", "all"))?;
/// println!("{}", server.url());
/// server.stop(Stop::Immediate)?;
/// server.start_again()?; // on the same port, with the same data
/// # Ok::<(), xtask::Error>(())
/// ```
#[derive(Debug)]
pub struct Postgres {
    keeper: Keeper,
    folder: PathBuf,
    port: u16,
}

impl Postgres {
    /// Creates a cluster and starts it. Installs PostgreSQL first if there is none and apt-get can, or fetches the chosen
    /// version.
    ///
    /// # Errors
    /// [`Error::NoPostgres`] says what to install; other errors have the end of the server's log.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let programs = programs(options)?;
        let account = Account::for_server()?;
        let folder = new_folder_name(account);

        // The keeper comes first, so that it can clean up after whatever fails below.
        let keeper = Keeper::start(&folder, &programs, account)?;
        let mut server = Self { keeper, folder, port: 0 };
        server.order("initdb")?;
        server.start_on_free_port(options)?;
        Ok(server)
    }

    /// Starts a hot standby of this server, which is stopped and started again for that: the standby begins with a copy of
    /// its folder, as `pg_basebackup` is not in every distribution.
    ///
    /// # Errors
    /// Fails as [`Self::start`] does.
    pub fn standby(&mut self, options: &Options) -> Result<Self, Error> {
        self.stop(Stop::Fast)?;
        let primary = format!("host=127.0.0.1 port={} user=postrider", self.port);
        let options = options.clone().set("primary_conninfo", primary);
        let account = Account::for_server()?;
        let folder = new_folder_name(account);
        let keeper = Keeper::start(&folder, &programs(&options)?, account)?;
        let mut standby = Self { keeper, folder, port: 0 };
        standby.order(&format!("copy {}", self.folder.display()))?;
        self.start_again()?;
        standby.start_on_free_port(&options)?;
        Ok(standby)
    }

    /// Makes a standby a primary, and waits until it accepts writes.
    ///
    /// # Errors
    /// Fails if the server is not a standby.
    pub fn promote(&mut self) -> Result<(), Error> {
        self.order("promote")
    }

    fn start_on_free_port(&mut self, options: &Options) -> Result<(), Error> {
        let mut tries = 1;
        loop {
            self.port = free_port()?;
            self.write_settings(options)?;
            match self.order("start") {
                Err(Error::Postgres { log, .. }) if tries < PORT_TRIES && log.contains("could not bind") => {
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    /// The URL of the maintenance database `postgres`, for the superuser `postrider`.
    pub fn url(&self) -> String {
        self.database_url("postgres")
    }

    /// The URL of a database. The name is not escaped.
    pub fn database_url(&self, name: &str) -> String {
        format!("postgres://postrider@127.0.0.1:{}/{name}", self.port)
    }

    /// The port on 127.0.0.1. [`Self::stop`] and [`Self::start_again`] keep it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder with the server's data, log and socket.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stops the server and keeps its data.
    ///
    /// # Errors
    /// Fails if the server does not stop within a minute, or was not running.
    pub fn stop(&mut self, how: Stop) -> Result<(), Error> {
        self.order(match how {
            Stop::Fast => "stop-fast",
            Stop::Immediate => "stop-immediate",
        })
    }

    /// Starts the server again after [`Self::stop`], on the same port and with the same data and settings.
    ///
    /// # Errors
    /// Fails if the server does not start; the error has the end of its log.
    pub fn start_again(&mut self) -> Result<(), Error> {
        self.order("start")
    }

    fn order(&mut self, order: &str) -> Result<(), Error> {
        if self.keeper.order(order).map_err(Error::Keeper)? {
            Ok(())
        } else {
            Err(Error::Postgres { order: order.to_owned(), log: last_lines(&self.folder.join("log"), 20) })
        }
    }

    fn write_settings(&self, options: &Options) -> Result<(), Error> {
        let mut text = String::new();
        let own =
            [("port", self.port.to_string()), ("unix_socket_directories", self.folder.display().to_string())];
        let given = options.settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
        for (name, value) in given.chain(own) {
            let value = value.replace('\\', "\\\\").replace('\'', "''");
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name} = '{value}'");
        }
        // Appending keeps the file's owner, and the last line of a name counts.
        let path = self.folder.join("data/postgresql.conf");
        fs::File::options()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(Error::file(path))
    }
}

/// Names the version of the servers that a command starts.
pub(crate) fn with_version(command: &mut Command, version: Option<u32>) -> &mut Command {
    command.envs(version.map(|version| (VERSION_VARIABLE, version.to_string())))
}

/// The folder with PostgreSQL's programs of the chosen version.
fn programs(options: &Options) -> Result<PathBuf, Error> {
    let version = options.version.map_or_else(version_from_environment, |version| Ok(Some(version)))?;
    let programs = match version {
        Some(version) => Programs::of_version(version)?,
        None => Programs::find_or_install()?,
    };
    Ok(programs.folder().to_owned())
}

fn version_from_environment() -> Result<Option<u32>, Error> {
    match env::var(VERSION_VARIABLE) {
        Ok(version) if !version.is_empty() => version.parse().map(Some).map_err(|_| {
            Error::Usage(format!("{VERSION_VARIABLE}: expected a major version such as 18, got {version:?}"))
        }),
        _ => Ok(None),
    }
}

fn new_folder_name(account: Account) -> PathBuf {
    let random = RandomState::new().build_hasher().finish();
    account.temporary_folder().join(format!("postrider-postgres-{}-{random:016x}", process::id()))
}

fn free_port() -> Result<u16, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Error::Usage(format!("cannot find a free port on 127.0.0.1: {error}")))
}

fn last_lines(path: &Path, count: usize) -> String {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return format!("(no log: {error})"),
    };
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
