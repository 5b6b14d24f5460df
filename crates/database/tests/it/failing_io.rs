//! Writes, syncs and truncations of SQLite's files that fail at every possible call.
//!
//! The calls fail in a process of its own, into which a library is loaded that replaces those of libc.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use postrider_database::{Config, Database};
use sea_orm::ConnectionTrait as _;
use tempfile::TempDir;

use crate::transactions::{committed, insert};

const URL: &str = "FAILING_IO_URL";
const FILE: &str = "failing.db";

/// The transactions of one run.
const TRANSACTIONS: i64 = 6;

/// `errno.h` on Linux.
const EIO: u32 = 5;
const ENOSPC: u32 = 28;

#[test]
fn io_that_fails_at_any_call_loses_nothing_acknowledged() {
    let Some((_folder, library)) = library() else { return };
    let (_, calls) = run(&library, 0, 0, 0);
    assert!(calls > 20, "{calls} calls");
    let numbers = std::sync::Mutex::new(1..=calls);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(call) = { numbers.lock().expect("no panic").next() } {
                    // One call, and a while of failing calls, which a full disk is.
                    for (error, to) in [(EIO, call), (ENOSPC, call + 12)] {
                        run(&library, error, call, to);
                    }
                }
            });
        }
    });
}

/// Runs transactions in a process of their own, and compares what it acknowledged with what is in the file. Returns the
/// transactions that were acknowledged, and the number of calls.
fn run(library: &Path, error: u32, from: usize, to: usize) -> (Vec<i64>, usize) {
    let what = format!("error {error} from call {from} to {to}");
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join(FILE).display());
    let output: Output = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "failing_io::transactions_of_a_child", "--ignored", "--nocapture"])
        .env("LD_PRELOAD", library)
        .env(URL, &url)
        .env("FAILING_IO_FILE", FILE)
        .env("FAILING_IO_ERROR", error.to_string())
        .env("FAILING_IO_FROM", from.to_string())
        .env("FAILING_IO_TO", to.to_string())
        .output()
        .expect("a process");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {stdout}\n{stderr}");
    let number = |line: &str, label: &str| line.strip_prefix(label).and_then(|text| text.parse::<i64>().ok());
    let acknowledged: Vec<i64> = stdout.lines().filter_map(|line| number(line, "acknowledged ")).collect();
    let calls = stderr.lines().find_map(|line| number(line, "calls ")).expect("the number of calls");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let found = runtime.block_on(committed(&url));
    for id in &acknowledged {
        assert!(found.contains(id), "{what}: {id} was acknowledged, but there is only {found:?}");
    }
    for id in &found {
        // Both rows of a transaction, or none.
        assert!(found.contains(&(id / 2 * 2)) && found.contains(&(id / 2 * 2 + 1)), "{what}: {found:?}");
    }
    // At most one transaction fails for one failing call.
    let failed = usize::try_from(TRANSACTIONS).expect("a small number") - acknowledged.len();
    assert!(failed <= to - from + 1 || to == 0, "{what}: {acknowledged:?}\n{stdout}");
    (acknowledged, usize::try_from(calls).expect("a small number"))
}

#[tokio::test]
#[ignore = "io_that_fails_at_any_call_loses_nothing_acknowledged starts it"]
async fn transactions_of_a_child() {
    let Ok(url) = env::var(URL) else { return };
    let database = loop {
        match Database::connect(Config::new(url.parse().expect("a database URL"))).await {
            Ok(database) => break database,
            Err(error) => println!("not opened: {error}"),
        }
    };
    let table = "CREATE TABLE IF NOT EXISTS things (id bigint PRIMARY KEY, filler blob)";
    while let Err(error) = database.connection().execute_unprepared(table).await {
        println!("no table: {error}");
    }
    // So that checkpoints happen too.
    let _ = database.connection().execute_unprepared("PRAGMA wal_autocheckpoint = 40").await;
    for id in (0..2 * TRANSACTIONS).step_by(2) {
        match insert(&database, id).await {
            Ok(()) => println!("acknowledged {id}"),
            Err(error) => println!("failed {id}: {error:?}"),
        }
    }
    database.close().await;
}

/// Compiles the library. `None`, after printing a line that begins with `skipped:`, if there is no C compiler.
fn library() -> Option<(TempDir, PathBuf)> {
    let folder = tempfile::tempdir().expect("a folder");
    let library = folder.path().join("failing_io.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/failing_io.c");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).args([source, "-ldl"]).output();
    match compiled {
        Ok(done) if done.status.success() => Some((folder, library)),
        failed => {
            println!("skipped: the library that makes I/O fail cannot be compiled: {failed:?}");
            None
        }
    }
}
