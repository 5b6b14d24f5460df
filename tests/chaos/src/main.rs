//! The chaos test: real servers, workers and PostgreSQL; everything that can be killed, stopped or cut off is, at
//! random; then all that was acknowledged is looked for, and all that was sent is accounted for.
//!
//! `cargo xtask chaos --seconds 30 --seed 7` builds the programs and runs this. It speaks to 127.0.0.0/8 only.
//!
//! | module | what it does |
//! |---|---|
//! | `cluster`, `member` | the programs, PostgreSQL, and a link for each between the two |
//! | `faults` | what is done to them |
//! | `audience` | the subscribers, and how they answer |
//! | `ledger` | the publisher: what was asked for, and what was acknowledged |
//! | `operator` | deactivates, cancels, retries, requeues, deletes, and makes up for it |
//! | `referee` | notes in the database who claims a job, and who ends that claim |
//! | `incident`, `logbook`, `watch` | what was done, what the programs logged, what was seen on the way |
//! | `facts`, `checks` | what is there at the end, and what must hold of it |
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "test code: a panic with a description is a failed test, and it talks to the person who runs it"
)]

mod audience;
mod checks;
mod cluster;
mod facts;
mod faults;
mod incident;
mod ledger;
mod logbook;
mod member;
mod moment;
mod operator;
mod referee;
mod report;
mod run;
mod settle;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// Kills, stops and cuts off servers, workers and PostgreSQL at random, and checks that nothing is lost
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask chaos", bin_name = "cargo xtask chaos")]
struct Args {
    /// How long faults go on; settling and checking take about half a minute more
    #[arg(long, value_name = "N", default_value = "30", value_parser = clap::value_parser!(u64).range(5..=86_400))]
    seconds: u64,

    /// What the faults are drawn from; another each time if not given
    #[arg(long, value_name = "S")]
    seed: Option<u64>,

    /// Events a second
    #[arg(long, value_name = "N", default_value = "25", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| u64::try_from(moment::now()).unwrap_or(0) % 1_000_000);
    println!("chaos: {} s of faults from seed {seed}", args.seconds);
    let held = tokio::select! {
        held = run::run(args.seconds, seed, f64::from(args.rate)) => held,
        // All programs end with what holds them.
        () = told_to_stop() => return ExitCode::FAILURE,
    };
    if held {
        println!("chaos: all held (seed {seed})");
        ExitCode::SUCCESS
    } else {
        eprintln!("chaos: FAILED; again with: cargo xtask chaos --seconds {} --seed {seed}", args.seconds);
        ExitCode::FAILURE
    }
}

async fn told_to_stop() {
    let listen = |kind| signal(kind).expect("a signal handler");
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt()), listen(SignalKind::terminate()));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
