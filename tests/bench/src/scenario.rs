//! The benchmark runs.

pub(crate) mod backlog;
pub(crate) mod cold;
pub(crate) mod console;
pub(crate) mod fanout;
pub(crate) mod ingest;
pub(crate) mod isolation;
pub(crate) mod latency;
pub(crate) mod sqlite;
pub(crate) mod throughput;
pub(crate) mod wide;
pub(crate) mod workers;

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    arrivals::Arrivals,
    deployment::{Cpu, Deployment, Shape},
    load::{self, Sent, Target},
    receiver::{Manner, Receiver},
    report::{Goal, Report},
    statements::{self, Costly, Waits},
};

/// Requests in flight in a run at full speed.
const CONNECTIONS: usize = 128;
/// How long the last deliveries of a run may take to be recorded.
const SETTLE: Duration = Duration::from_secs(30);

/// A policy that does not limit the speed of deliveries.
fn wide() -> Value {
    json!({"concurrency": 256})
}

/// Worker settings for subscribers with the policy [`wide()`].
fn wide_worker(workers: usize) -> Shape {
    Shape { workers, ..Shape::default() }
}

/// Measures the generator straight against the receiver, which shows the speed of the machine.
async fn straight(report: &mut Report, bench: &'static str, events: usize) -> f64 {
    let run = Arc::new(Arrivals::new(1, events));
    let receiver = Receiver::start(&run).await;
    let target = Target {
        addresses: vec![receiver.address],
        path: "/healthy/0".to_owned(),
        key: "no-key-needed",
        expected: 200,
    };
    let sent = load::closed(&target, &run, CONNECTIONS, events, load::event).await;
    let rate = a_second(events, sent.took);
    report.must(sent.refused == 0 && run.repeated() == 0, format!("{bench}: the straight run lost requests"));
    report.add(bench, "baseline: generator straight to receiver", rate, "requests/s");
    rate
}

/// Sends all events as fast as they are acknowledged, waits until every subscriber has received all of them, and reports.
/// Returns the rate, what was sent, and the processor time that it took.
async fn flood(
    report: &mut Report,
    bench: &'static str,
    deployment: &Deployment,
    (run, subscribers, events): (&Arc<Arrivals>, usize, usize),
) -> (f64, Sent, Cpu) {
    let deliveries = events * subscribers;
    deployment.warm().await;
    statements::reset(&deployment.database).await;
    let waits = Waits::watch(deployment.database.clone());
    let (cpu, from) = (deployment.cpu(), run.now());
    let sent = load::closed(&deployment.target("/v1/events"), run, CONNECTIONS, events, load::event).await;
    run.wait_for(deliveries as u64).await;
    let took = run.took_since(from);
    let used = deployment.cpu().since(cpu);
    settled(report, bench, deployment, run, deliveries).await;
    report.must(sent.refused == 0, format!("{bench}: {} requests were refused", sent.refused));

    report.add(bench, "events acknowledged", a_second(events, sent.took), "events/s");
    report.latencies(bench, "acknowledgement at full load", &sent.acknowledged, None);
    statements_of(report, bench, deployment, deliveries).await;
    #[allow(clippy::cast_precision_loss)]
    report.usage(bench, deployment, used, deliveries as f64);
    for (event, times) in waits.counts().into_iter().take(8) {
        eprintln!("bench: {bench}: PostgreSQL seen {event} {times} times");
    }
    (a_second(events, took), sent, used)
}

/// Reports the PostgreSQL statements since the last reset.
async fn statements_of(report: &mut Report, bench: &'static str, deployment: &Deployment, deliveries: usize) {
    #[allow(clippy::cast_precision_loss)]
    let statements = statements::count(&deployment.database).await / deliveries as f64;
    report.add(bench, "SQL statements per delivery", statements, "");
    costliest(bench, deployment).await;
}

/// Prints the statements that took PostgreSQL the most time since the last reset.
async fn costliest(bench: &str, deployment: &Deployment) {
    for (table, updated, in_place) in statements::updates(&deployment.database).await {
        eprintln!("bench: {bench}: of {updated} updates of {table} {in_place} were in place");
    }
    for Costly { time, planning, calls, query } in statements::costliest(&deployment.database).await {
        let query: String = query.chars().take(100).collect();
        eprintln!("bench: {bench}: {time:.0} ms, planning {planning:.0}, in {calls} calls of {query}");
    }
}

/// Checks that no delivery was lost, repeated or left over.
async fn settled(
    report: &mut Report,
    bench: &'static str,
    deployment: &Deployment,
    run: &Arrivals,
    expected: usize,
) {
    let started = std::time::Instant::now();
    let mut left = deployment.left().await;
    while left > 0.0 && started.elapsed() < SETTLE {
        tokio::time::sleep(Duration::from_millis(100)).await;
        left = deployment.left().await;
    }
    report.must(left == 0.0, format!("{bench}: {left} jobs and pending deliveries are left"));
    arrived(report, bench, run, expected);
}

fn arrived(report: &mut Report, bench: &'static str, run: &Arrivals, expected: usize) {
    let (arrived, repeated) = (run.arrived(), run.repeated());
    report.must(arrived == expected as u64, format!("{bench}: {arrived} of {expected} deliveries arrived"));
    report.must(repeated == 0, format!("{bench}: {repeated} deliveries arrived twice"));
}

fn a_second(count: usize, took: Duration) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let count = count as f64;
    count / took.as_secs_f64().max(f64::EPSILON)
}
