use std::{
    env,
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use xtask::postgres::{Durability, Options, Postgres, Stop, URL_VARIABLE};

/// If a server is given, this machine may lack PostgreSQL's programs.
fn server_is_given_from_outside() -> bool {
    env::var_os(URL_VARIABLE).is_some() && !Path::new("/usr/lib/postgresql").exists()
}

fn answers(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !holds() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_server_comes_back_after_a_crash_and_leaves_nothing_behind() {
    if server_is_given_from_outside() {
        return;
    }
    let options = Options::new(Durability::On).set("shared_buffers", "16MB").set("max_connections", "10");
    let mut server = Postgres::start(&options).expect("a server");
    let (port, folder) = (server.port(), server.folder().to_owned());
    assert!(answers(port));

    server.stop(Stop::Immediate).expect("a stop");
    assert!(!answers(port));
    server.start_again().expect("a start on the same port");
    assert!(answers(port));
    server.stop(Stop::Fast).expect("a stop");
    server.stop(Stop::Fast).expect_err("it does not run");
    server.start_again().expect("a start");

    drop(server);
    assert!(!answers(port));
    assert!(!folder.exists());
}

#[test]
fn a_setting_that_postgres_refuses_is_reported_with_its_log() {
    if server_is_given_from_outside() {
        return;
    }
    let error = Postgres::start(&Options::new(Durability::Off).set("no_such_setting", "it's"))
        .expect_err("PostgreSQL knows no such setting")
        .to_string();
    assert!(error.contains("no_such_setting"), "{error}");
}

#[test]
fn a_command_gets_the_server_and_its_status_is_returned() {
    let status = task("test -n \"$POSTRIDER_TEST_DATABASE_URL\" && exit 7").wait().expect("a status");
    assert_eq!(status.code(), Some(7));
}

/// Kills the task once while it creates the server, and once while a command runs.
#[test]
fn a_killed_task_leaves_nothing_behind() {
    if server_is_given_from_outside() {
        return;
    }
    for wait_for in ["PG_VERSION", "postmaster.pid"] {
        let mut task = task("exec cat >/dev/null");
        let folder = format!("postrider-postgres-{}-", task.id());
        let find = || {
            let entries = env::temp_dir().read_dir().expect("the temporary folder");
            let mut paths = entries.flatten().map(|entry| entry.path());
            paths.find(|path| path.to_string_lossy().contains(&folder))
        };
        eventually("the server's folder", || {
            find().is_some_and(|folder| folder.join("data").join(wait_for).exists())
        });
        task.kill().expect("a running task");
        task.wait().expect("a status");
        eventually("the folder is gone", || find().is_none());
    }
}

/// A script that reads standard input ends with the test.
fn task(script: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["postgres", "--", "sh", "-c", script])
        .env_remove(URL_VARIABLE)
        .stdin(Stdio::piped())
        .spawn()
        .expect("the task itself")
}

#[test]
fn a_chosen_version_is_started_or_refused_with_a_reason() {
    if server_is_given_from_outside() {
        return;
    }
    let error =
        Postgres::start(&Options::new(Durability::Off).version(Some(14))).expect_err("too old").to_string();
    assert!(error.contains("15 or newer"), "{error}");
    let options = Options::new(Durability::Off).set("shared_buffers", "16MB").version(Some(18));
    match Postgres::start(&options) {
        Ok(server) => {
            let version =
                std::fs::read_to_string(server.folder().join("data/PG_VERSION")).expect("its version");
            assert_eq!(version.trim(), "18");
        }
        Err(error) => {
            let reason = error.to_string();
            assert!(reason.contains("PostgreSQL 18 is not installed"), "{reason}");
            println!("skipped: {reason}");
        }
    }
}
