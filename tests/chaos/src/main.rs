//! The chaos test: it kills, stops and disconnects real servers, workers and PostgreSQL at random, or the one program over
//! SQLite, and lets their disk fill up. Then it checks that everything acknowledged was delivered and that every request is
//! accounted for.
//!
//! `cargo xtask chaos --seconds 30 --seed 7` builds the programs and runs this, and `--database sqlite` does so over SQLite.
//! It connects only to 127.0.0.0/8. Several runs can go side by side.
//!
//! | module | what it does |
//! |---|---|
//! | `cluster`, `member` | the programs, and a breakable link between each program and PostgreSQL |
//! | `faults` | the faults of programs, and how they are chosen |
//! | `postgres`, `bouncer`, `sqlite` | the databases and their faults |
//! | `queue` | Redis as the queue, and its faults |
//! | `days` | partitions of PostgreSQL that begin, come and go |
//! | `disk` | a file system that can be full |
//! | `audience` | the subscribers, and how they answer |
//! | `ledger` | the publisher: which events it sent, and which were acknowledged |
//! | `operator` | deactivates, cancels, retries, requeues and deletes, and reverses that at the end |
//! | `referee` | triggers that record who claims a job and who ends that claim |
//! | `incident`, `logbook`, `watch` | the faults that happened, the programs' logs, samples taken during the run |
//! | `records` | reading the database, past the programs |
//! | `facts`, `checks` | the final state, and what must hold |
//! | `settle`, `report` | waiting for the end, and the final report |
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "test code: a panic with a description is a failed test, and it talks to the person who runs it"
)]

mod audience;
mod bouncer;
mod checks;
mod cluster;
mod days;
mod deck;
mod disk;
mod facts;
mod faults;
mod incident;
mod ledger;
mod logbook;
mod member;
mod members;
mod moment;
mod operator;
mod postgres;
mod queue;
mod records;
mod referee;
mod report;
mod run;
mod settle;
mod sqlite;
mod watch;

use std::process::ExitCode;

use clap::{Parser, ValueEnum as _};
use tokio::signal::unix::{SignalKind, signal};

use crate::run::Kind;

/// Kill, stop and disconnect programs and databases at random, and check that nothing is lost
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask chaos", bin_name = "cargo xtask chaos")]
struct Args {
    /// The database under the programs
    #[arg(long, value_enum, default_value = "postgres")]
    database: Kind,

    /// Duration of the faults in seconds; settling and checking take about half a minute more
    #[arg(long, value_name = "N", default_value = "30", value_parser = clap::value_parser!(u64).range(5..=86_400))]
    seconds: u64,

    /// Seed of all random choices [default: a new one each time]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,

    /// Events published per second
    #[arg(long, value_name = "N", default_value = "25", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| u64::try_from(moment::now()).unwrap_or(0) % 1_000_000);
    let database = args.database.to_possible_value().expect("no variant is hidden");
    let database = database.get_name();
    println!("chaos: {} s of faults over {database} with seed {seed}", args.seconds);
    if args.database == Kind::Pgbouncer && bouncer::Bouncer::find().is_none() {
        println!("skipped: there is no PgBouncer 1.21 or newer");
        return ExitCode::SUCCESS;
    }
    if let Some(place) = args.database.redis()
        && queue::Queue::start(place).is_none()
    {
        return ExitCode::SUCCESS;
    }
    let held = tokio::select! {
        held = run::run(args.database, args.seconds, seed, f64::from(args.rate)) => held,
        // Dropping the run ends all programs.
        () = stop_signal() => return ExitCode::FAILURE,
    };
    if held {
        println!("chaos: all guarantees held (seed {seed})");
        ExitCode::SUCCESS
    } else {
        let seconds = args.seconds;
        eprintln!(
            "chaos: FAILED; repeat with: cargo xtask chaos --database {database} --seconds {seconds} --seed {seed}"
        );
        ExitCode::FAILURE
    }
}

async fn stop_signal() {
    let listen = |kind| signal(kind).expect("a signal handler");
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt()), listen(SignalKind::terminate()));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
