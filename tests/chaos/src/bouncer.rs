//! PgBouncer in transaction mode between the programs and PostgreSQL.

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::PathBuf,
    process::{self, Command},
    sync::Arc,
    time::Duration,
};

use postrider_testkit::{Process, Program, eventually};
use tokio::sync::Mutex;

/// Names the PgBouncer programs of the tests, like `PATH`.
const VARIABLE: &str = "POSTRIDER_TEST_PGBOUNCERS";
/// The first version that keeps track of prepared statements in transaction mode.
const OLDEST: (u32, u32) = (1, 21);
const START: Duration = Duration::from_secs(30);

/// A running PgBouncer, which faults can kill.
#[derive(Clone, Debug)]
pub(crate) struct Bouncer {
    program: Program,
    process: Arc<Mutex<Option<Process>>>,
    port: u16,
    _folder: Arc<Folder>,
}

impl Bouncer {
    /// The path of a PgBouncer that will do.
    pub(crate) fn find() -> Option<PathBuf> {
        let named = env::var_os(VARIABLE).unwrap_or_default();
        let installed = ["/usr/sbin/pgbouncer", "/usr/local/bin/pgbouncer"].map(PathBuf::from);
        let found = env::split_paths(&named).chain(installed).map(|path| (version(&path), path));
        found
            .filter(|(version, _)| version.is_some_and(|version| version >= OLDEST))
            .max()
            .map(|(_, path)| path)
    }

    /// Starts PgBouncer before the database `chaos` on a port, for these roles.
    pub(crate) async fn start(path: PathBuf, database: u16, roles: &[String]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let folder = Folder::new();
        let (settings, users) = (folder.0.join("pgbouncer.ini"), folder.0.join("users"));
        let list: Vec<String> = roles.iter().map(|role| format!("\"{role}\" \"\"")).collect();
        fs::write(&users, list.join("\n")).expect("a list of users");
        // Fewer connections than each program opens, so that they are shared. After a failed login it waits for 15 s by
        // default, for which all programs would be without a database.
        let text = format!(
            "[databases]\nchaos = host=127.0.0.1 port={database} dbname=chaos\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = 4\nmax_client_conn = 500\nmax_prepared_statements = 200\nserver_login_retry = 1\n",
            users.display()
        );
        fs::write(&settings, text).expect("the settings");
        let mut program = Program::at(path);
        // It refuses to run as root.
        if fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
            program = program.args(["-u", "nobody"]);
        }
        let program = program.arg(settings);
        let this = Self { program, process: Arc::default(), port, _folder: Arc::new(folder) };
        this.start_again().await;
        this
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) async fn kill(&self) {
        if let Some(mut process) = self.process.lock().await.take() {
            process.signal("KILL").await;
            process.wait(START).await;
        }
    }

    pub(crate) async fn start_again(&self) {
        *self.process.lock().await = Some(self.program.start());
        eventually(START, || async { TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok() }).await;
    }
}

/// The major and minor version of a PgBouncer.
fn version(path: &PathBuf) -> Option<(u32, u32)> {
    let output = Command::new(path).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.split_whitespace().nth(1)?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// A folder for the settings, which hold no secret: another account reads them.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = env::temp_dir().join(format!("postrider-chaos-bouncer-{}", process::id()));
        let made = fs::create_dir(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
        made.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Best effort: nothing else uses the folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}
