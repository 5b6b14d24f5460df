//! Postrider's programs, run as a user runs them, and tested by their visible behaviour.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test, and skipped parts are printed"
)]

mod answers;
mod api;
mod archive;
mod browser;
mod cli;
mod client;
mod clock;
mod console;
mod crowd;
mod deployment;
mod descriptors;
mod dev;
mod exposition;
mod failover;
mod full_disk;
mod limits;
mod local_trouble;
mod logs;
mod main_job;
mod memory;
mod metrics;
mod migration;
mod pgbouncer;
mod plugins;
mod portal;
mod redis;
mod replays;
mod restarts;
mod retention;
mod rotation;
mod scarce;
mod schedule;
mod schemathesis;
mod secrecy;
mod serve;
mod servers;
mod shutdown;
mod signature;
mod sqs;
mod start;
mod targets;
mod tls;
mod traces;
mod verifiers;
