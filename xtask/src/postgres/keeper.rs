use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use super::account::Account;
use crate::Error;

/// Obeys one order a line and answers each with an exit status. When the orders end, because the pipe was closed
/// or its holder is dead, it stops the server and removes the folder. There is no other clean-up.
///
/// The keeper carries out one order at a time, so the clean-up never races with an `initdb` or a start.
const SCRIPT: &str = r#"
trap '' HUP INT TERM PIPE
folder=$1 programs=$2
umask 077
control() { "$programs/pg_ctl" --pgdata="$folder/data" --wait --timeout=60 "$@"; }
obey() {
    case $1 in
        copy) cp -a "$2/data" "$folder/data" && : >"$folder/data/standby.signal" ;;
        promote) control promote ;;
        initdb) "$programs/initdb" --pgdata="$folder/data" --auth=trust --username=postrider \
            --no-sync --encoding=UTF8 --locale=C ;;
        start) control --log="$folder/log" start ;;
        stop-fast) control --mode=fast stop ;;
        stop-immediate) control --mode=immediate stop ;;
        *) return 64 ;;
    esac
}
mkdir "$folder" || exit 1
while read -r order from; do
    obey "$order" "$from" </dev/null >>"$folder/log" 2>&1
    echo $? 2>/dev/null
done
[ ! -f "$folder/data/postmaster.pid" ] || obey stop-immediate </dev/null >/dev/null 2>&1
rm -rf "$folder"
"#;

/// The process that owns the server and its folder.
///
/// It runs in its own process group, so that Ctrl-C at a terminal ends the tests but not the keeper.
#[derive(Debug)]
pub(super) struct Keeper {
    process: Child,
    /// `None` only during `drop`.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Keeper {
    pub(super) fn start(folder: &Path, programs: &Path, account: Account) -> Result<Self, Error> {
        let mut command = Command::new("sh");
        command
            .args(["-c", SCRIPT, "postrider-postgres-keeper"])
            .args([folder, programs])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LC_ALL", "C")
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        account.apply(&mut command);

        let mut process = command.spawn().map_err(Error::spawn("sh"))?;
        let (Some(orders), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(Error::Keeper(io::Error::other("it has no pipes")));
        };
        Ok(Self { process, orders: Some(orders), answers: BufReader::new(answers) })
    }

    /// Sends an order and waits until it is carried out. Returns whether it succeeded.
    pub(super) fn order(&mut self, order: &str) -> io::Result<bool> {
        if let Some(orders) = &mut self.orders {
            writeln!(orders, "{order}")?;
        }
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(answer.trim() == "0")
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Err(error) = self.process.wait() {
            eprintln!("xtask: cannot wait for the throwaway PostgreSQL to end: {error}");
        }
    }
}
