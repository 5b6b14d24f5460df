//! The benchmarks: real servers, workers and PostgreSQL under an open-loop load, and a receiver, all on this machine.
//!
//! `cargo xtask bench` builds everything with optimisations and runs this. It connects only to 127.0.0.0/8. It asserts
//! that no run lost or repeated a delivery, and asserts nothing about speed.
//!
//! | module | what it does |
//! |---|---|
//! | `scenario` | the runs, one module each |
//! | `deployment` | PostgreSQL and the programs of a run |
//! | `backlog` | rows that exist before a run |
//! | `load`, `receiver`, `arrivals` | the load generator, the receiver, and the arrival times |
//! | `usage`, `statements` | processor time and memory of the programs, and their PostgreSQL statements |
//! | `latency`, `report` | percentiles, and the table of results |
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

/// Measure Postrider on this machine, relative to the machine's own speed
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Args {
    /// Benchmarks to run [default: all]
    #[arg(value_enum)]
    benches: Vec<Bench>,

    /// Duration of runs with a fixed rate, in seconds
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,

    /// Number of events in runs at full speed
    #[arg(long, value_name = "N", default_value = "60000", value_parser = clap::value_parser!(u32).range(100..=5_000_000))]
    events: u32,

    /// Days of the history before the backlog and console runs, a partition each; the backlog run drops five of them
    #[arg(long, value_name = "N", default_value = "60", value_parser = clap::value_parser!(u32).range(6..=400))]
    days: u32,

    /// Deliveries in the store before the backlog and console runs
    #[arg(long, value_name = "N", default_value = "10000000", value_parser = clap::value_parser!(u32).range(1000..=100_000_000))]
    deliveries: u32,

    /// Waiting jobs during the backlog and isolation runs
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    jobs: u32,

    /// Subscribers of the event of the wide run
    #[arg(long, value_name = "N", default_value = "100000", value_parser = clap::value_parser!(u32).range(2000..=1_000_000))]
    crowd: u32,

    /// Cases of the isolation run: (a) one receiver hangs, (b) some of a hundred fail, (c) a flooded lane, (d) open breakers,
    /// (e) an open snapshot, (f) lanes above their rate, (g) lanes that others have locked, (h) rate limits on SQLite
    #[arg(long, value_name = "LETTERS", default_value = "abcdefgh")]
    cases: String,

    /// Where the queue is in the throughput and isolation runs
    #[arg(long, value_enum, default_value = "database")]
    queue: QueuePlace,

    /// File to write the results to, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Where the queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum QueuePlace {
    /// In PostgreSQL
    #[default]
    Database,
    /// On a Redis of its own, whose append-only file is written each second. The throughput run measures PostgreSQL alone, too
    Redis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// One subscriber at full speed
    Throughput,
    /// The same from the first second of a new database on
    Cold,
    /// Ten subscribers of each event at full speed
    Fanout,
    /// Acknowledgement and arrival at 500 events per second, and dispatch alone
    Latency,
    /// Batches of a thousand: ingest, then drain
    Ingest,
    /// Throughput with a long history and many waiting jobs
    Backlog,
    /// Healthy subscribers beside hanging, failing, slow and flooded ones
    Isolation,
    /// Events to very many subscribers, beside those of another tenant
    Wide,
    /// One process over SQLite
    Sqlite,
    /// Many workers where one is enough
    Workers,
    /// Four servers where one is enough
    Servers,
    /// The pages of the console over a long history: times and sizes
    Console,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    tokio::select! {
        code = measure(&args) => code,
        // Dropping the run ends all programs.
        () = stop_signal() => ExitCode::FAILURE,
    }
}

async fn measure(args: &Args) -> ExitCode {
    let all = Bench::value_variants();
    let benches = if args.benches.is_empty() { all } else { &args.benches };
    let mut report = Report::new();
    for bench in benches {
        eprintln!("bench: {}", bench.to_possible_value().expect("no variant is hidden").get_name());
        match bench {
            Bench::Throughput => scenario::throughput::run(&mut report, args.events, args.queue).await,
            Bench::Cold => scenario::cold::run(&mut report, args.events).await,
            Bench::Fanout => scenario::fanout::run(&mut report, args.events).await,
            Bench::Latency => scenario::latency::run(&mut report, args.seconds).await,
            Bench::Ingest => scenario::ingest::run(&mut report).await,
            Bench::Backlog => {
                let size = scenario::backlog::Size {
                    events: args.events as usize / 2,
                    deliveries: args.deliveries,
                    days: args.days,
                    jobs: args.jobs,
                    seconds: args.seconds,
                };
                scenario::backlog::run(&mut report, size).await;
            }
            Bench::Isolation => {
                let (seconds, jobs) = (args.seconds, args.jobs);
                scenario::isolation::run(&mut report, seconds, jobs, &args.cases, args.queue).await;
                if args.cases.contains('h') {
                    scenario::sqlite::beside_rate_limits(&mut report, args.seconds).await;
                }
            }
            Bench::Wide => scenario::wide::run(&mut report, args.seconds, args.crowd).await,
            Bench::Sqlite => scenario::sqlite::run(&mut report, args.events / 3).await,
            Bench::Servers => scenario::workers::servers(&mut report, args.events).await,
            Bench::Console => {
                let size = scenario::console::Size { deliveries: args.deliveries, days: args.days };
                scenario::console::run(&mut report, size).await;
            }
            Bench::Workers => scenario::workers::run(&mut report, args.seconds, args.events).await,
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

async fn stop_signal() {
    let listen = |kind| signal(kind).expect("a signal handler");
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt()), listen(SignalKind::terminate()));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
