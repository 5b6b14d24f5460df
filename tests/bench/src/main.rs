//! The benchmarks: real servers, workers and PostgreSQL under an open-loop load, and a receiver, all on this machine.
//!
//! `cargo xtask bench` builds everything with optimisations and runs this. It speaks to 127.0.0.0/8 only, and asserts
//! of its runs that nothing was lost and nothing doubled; of speed it asserts nothing.
//!
//! | module | what it does |
//! |---|---|
//! | `scenario` | the runs, one module each |
//! | `deployment` | PostgreSQL and the programs of a run |
//! | `backlog` | rows that were there before a run |
//! | `load`, `receiver`, `arrivals` | what is sent, what answers, and when what arrived |
//! | `usage`, `statements` | processor time and memory of the programs, and what they asked of PostgreSQL |
//! | `latency`, `report` | percentiles, and the table |
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a tool for the person who runs it: a panic with a description is a run that failed"
)]

mod arrivals;
mod backlog;
mod deployment;
mod latency;
mod load;
mod receiver;
mod report;
mod scenario;
mod statements;
mod usage;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::report::Report;

/// Measures Postrider on this machine, and the machine beside it
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Args {
    /// What to measure; everything if none is named
    #[arg(value_enum)]
    benches: Vec<Bench>,

    /// How long a run with a fixed rate lasts
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,

    /// Events of a run that goes as fast as it can
    #[arg(long, value_name = "N", default_value = "60000", value_parser = clap::value_parser!(u32).range(100..=5_000_000))]
    events: u32,

    /// Deliveries in the store before the backlog run
    #[arg(long, value_name = "N", default_value = "10000000", value_parser = clap::value_parser!(u32).range(1000..=100_000_000))]
    deliveries: u32,

    /// Jobs that wait during the backlog and isolation runs
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    jobs: u32,

    /// Which cases of the isolation run: (a) one hangs, (b) some of a hundred are in trouble, (c) a flooded lane, (d) open breakers
    #[arg(long, value_name = "LETTERS", default_value = "abcd")]
    cases: String,

    /// Where to write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// One subscriber, as fast as it goes
    Throughput,
    /// Ten subscribers of each event, as fast as it goes
    Fanout,
    /// 500 events a second: acknowledgement and arrival; and dispatch alone
    Latency,
    /// Batches of a thousand: ingest, then drain
    Ingest,
    /// As throughput, with a long history and many waiting jobs
    Backlog,
    /// Healthy subscribers beside hanging, failing, slow and flooded ones
    Isolation,
    /// One process over SQLite
    Sqlite,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    tokio::select! {
        code = measure(&args) => code,
        // All programs end with what holds them.
        () = told_to_stop() => ExitCode::FAILURE,
    }
}

async fn measure(args: &Args) -> ExitCode {
    let all = Bench::value_variants();
    let benches = if args.benches.is_empty() { all } else { &args.benches };
    let mut report = Report::new();
    for bench in benches {
        eprintln!("bench: {}", bench.to_possible_value().expect("no variant is hidden").get_name());
        match bench {
            Bench::Throughput => scenario::throughput::run(&mut report, args.events).await,
            Bench::Fanout => scenario::fanout::run(&mut report, args.events).await,
            Bench::Latency => scenario::latency::run(&mut report, args.seconds).await,
            Bench::Ingest => scenario::ingest::run(&mut report).await,
            Bench::Backlog => {
                scenario::backlog::run(&mut report, args.events, args.deliveries, args.jobs).await;
            }
            Bench::Isolation => {
                scenario::isolation::run(&mut report, args.seconds, args.jobs, &args.cases).await;
            }
            Bench::Sqlite => scenario::sqlite::run(&mut report, args.events / 3).await,
        }
    }
    println!("{report}");
    if let Some(path) = &args.json
        && let Err(error) = std::fs::write(path, report.json().to_string())
    {
        eprintln!("bench: cannot write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if report.held() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn told_to_stop() {
    let listen = |kind| signal(kind).expect("a signal handler");
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt()), listen(SignalKind::terminate()));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
