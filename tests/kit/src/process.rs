//! Postrider's programs, as a user would start them.

use std::{
    env,
    ffi::{OsStr, OsString},
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::Notify,
    time::timeout,
};

/// The variables that a program inherits from this process; tests set all others explicitly.
const INHERITED: [&str; 5] = ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE", "RUST_BACKTRACE"];

/// A program of this workspace, about to be started.
///
/// ```no_run
/// # async fn example() {
/// use postrider_testkit::Program;
/// use std::time::Duration;
///
/// let mut server = Program::named("postrider-server").env("POSTRIDER_LISTEN", "127.0.0.1:0").start();
/// let address = server.wait_for_address(|line| line.contains("listening"), Duration::from_secs(10)).await;
/// server.terminate().await;
/// assert!(server.wait(Duration::from_secs(10)).await.success());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
}

impl Program {
    /// A program in the folder of the test executable (`target/<profile>/`).
    pub fn named(name: &str) -> Self {
        let test = env::current_exe().expect("the path of the test executable");
        // Tests are in target/<profile>/deps/, and examples in a folder at the same depth.
        let folder = test.parent().and_then(|deps| deps.parent()).expect("a folder above `deps`");
        let path = folder.join(format!("{name}{}", env::consts::EXE_SUFFIX));
        assert!(
            path.is_file(),
            "{} is not built: run `cargo xtask test`, or `cargo build --workspace --bins` first",
            path.display()
        );
        Self::at(path)
    }

    /// A program at a path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), arguments: Vec::new(), variables: Vec::new() }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable. Apart from the inherited ones the environment is empty.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// The same program with at most this many file descriptors, which it cannot change (`ulimit -n`).
    pub fn with_descriptors(self, most: u32) -> Self {
        let script = format!(r#"ulimit -n {most}; exec "$0" "$@""#);
        let mut arguments = vec!["-c".into(), script.into(), self.path.into_os_string()];
        arguments.extend(self.arguments);
        Self { path: "/bin/sh".into(), arguments, variables: self.variables }
    }

    /// Starts the program. Must be called within a tokio runtime.
    pub fn start(&self) -> Process {
        let mut child = self
            .command()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.path.display()));
        let stdout = Lines::read_from(child.stdout.take().expect("a pipe"));
        let stderr = Lines::read_from(child.stderr.take().expect("a pipe"));
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Process { name, child, stdout, stderr }
    }

    /// The command that starts the program, for tests that choose its standard output and error themselves.
    pub fn command(&self) -> Command {
        let passed_on = INHERITED.iter().filter_map(|name| Some((name, env::var_os(name)?)));
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(passed_on)
            // Tests compare lines, so no colours.
            .env("NO_COLOR", "1")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

/// A running program, killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Process {
    /// The process id; `None` once the process has ended and been waited for.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The lines it has printed to standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.all()
    }

    /// The lines it has printed to standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.all()
    }

    /// Waits for a matching line on standard output or standard error, and returns the first one.
    pub async fn wait_for_line(&self, fits: impl Fn(&str) -> bool, deadline: Duration) -> String {
        let found = timeout(deadline, async {
            tokio::select! {
                Some(line) = self.stdout.find(&fits) => Some(line),
                Some(line) = self.stderr.find(&fits) => Some(line),
                else => None,
            }
        });
        let problem = match found.await {
            Ok(Some(line)) => return line,
            Ok(None) => "has ended without printing the line".to_owned(),
            Err(elapsed) => format!("has not printed the line within {deadline:?} ({elapsed})"),
        };
        panic!("{} {problem}; {}", self.name, self.printed());
    }

    /// Waits for a matching line that contains a socket address (`address=127.0.0.1:8080`, in text or JSON), and returns
    /// that address.
    pub async fn wait_for_address(&self, fits: impl Fn(&str) -> bool, deadline: Duration) -> SocketAddr {
        let line = self.wait_for_line(|line| fits(line) && address_in(line).is_some(), deadline).await;
        address_in(&line).expect("the matching line contains an address")
    }

    /// Sends SIGTERM.
    pub async fn terminate(&self) {
        self.signal("TERM").await;
    }

    /// Sends a signal, named without `SIG`: `INT`, `KILL`, `STOP`, `CONT`, …
    pub async fn signal(&self, name: &str) {
        let Some(id) = self.child.id() else { return };
        // The shell's built-in `kill`, since not every machine has the program.
        let command = format!("kill -s {name} {id}");
        let status = Command::new("sh").args(["-c", &command]).status().await.expect("a shell");
        assert!(status.success(), "`{command}` failed");
    }

    /// Waits until the program ends.
    pub async fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let Ok(status) = timeout(deadline, self.child.wait()).await else {
            panic!("{} has not ended within {deadline:?}; {}", self.name, self.printed());
        };
        let status = status.expect("a status");
        // Its last lines may still be in the pipes, which a grandchild may hold open for ever.
        let _ = timeout(Duration::from_secs(1), async { tokio::join!(self.stdout.end(), self.stderr.end()) })
            .await;
        status
    }

    /// Whether the program is still running.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a state").is_none()
    }

    fn printed(&self) -> String {
        let (stdout, stderr) = (self.stdout().join("\n"), self.stderr().join("\n"));
        format!("its output so far:\n{stdout}\nand its errors:\n{stderr}")
    }
}

/// The socket address that follows `address` in a log line.
fn address_in(line: &str) -> Option<SocketAddr> {
    line.match_indices("address").find_map(|(start, word)| {
        let rest = line[start + word.len()..].trim_start_matches(['"', '=', ':', ' ']);
        let rest = rest.strip_prefix("http://").unwrap_or(rest);
        let end = rest.find(|c: char| c.is_whitespace() || "\",}/".contains(c)).unwrap_or(rest.len());
        rest[..end].parse().ok()
    })
}

/// The lines of a stream, read in the background until it ends.
#[derive(Clone, Debug, Default)]
struct Lines {
    shared: Arc<SharedLines>,
}

#[derive(Debug, Default)]
struct SharedLines {
    read: Mutex<Read>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Read {
    lines: Vec<String>,
    is_at_end: bool,
}

impl Lines {
    fn read_from(stream: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let this = Self::default();
        let lines = this.clone();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
                lines.change(|read| read.lines.push(text));
                line.clear();
            }
            lines.change(|read| read.is_at_end = true);
        });
        this
    }

    fn change(&self, change: impl FnOnce(&mut Read)) {
        change(&mut self.shared.read.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.changed.notify_waiters();
    }

    fn look<T>(&self, look: impl FnOnce(&Read) -> T) -> T {
        look(&self.shared.read.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn all(&self) -> Vec<String> {
        self.look(|read| read.lines.clone())
    }

    /// The first matching line; `None` if the stream ends without one.
    async fn find(&self, fits: impl Fn(&str) -> bool) -> Option<String> {
        let mut seen = 0;
        loop {
            // Registered before looking, so that no line is missed.
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            let (found, is_at_end) = self.look(|read| {
                let found = read.lines[seen..].iter().find(|line| fits(line)).cloned();
                seen = read.lines.len();
                (found, read.is_at_end)
            });
            if found.is_some() || is_at_end {
                return found;
            }
            changed.await;
        }
    }

    async fn end(&self) {
        self.find(|_| false).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_text_and_in_json() {
        let expected = Some("127.0.0.1:4321".parse().unwrap());
        for line in [
            "2026-11-23T10:00:00Z  INFO listening address=127.0.0.1:4321",
            "INFO listening address=127.0.0.1:4321 worker=x",
            r#"{"level":"INFO","fields":{"message":"listening","address":"127.0.0.1:4321"}}"#,
            "the address: http://127.0.0.1:4321/",
        ] {
            assert_eq!(address_in(line), expected, "{line}");
        }
        assert_eq!(address_in("address=nowhere"), None);
        assert_eq!(address_in("listening on address=[::1]:80"), Some("[::1]:80".parse().unwrap()));
    }
}
