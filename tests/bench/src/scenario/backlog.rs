//! The throughput run in an empty system, and in one with a long history and many waiting jobs.

use super::{Arc, Arrivals, Deployment, Goal, Manner, Receiver, Report, flood, wide, wide_worker};
use crate::backlog::{self, Waiting};

const BENCH: &str = "backlog";

pub(crate) async fn run(report: &mut Report, events: u32, deliveries: u32, jobs: u32) {
    let events = events as usize / 2;
    let empty = throughput(report, "backlog, empty", events, None).await;
    report.add(BENCH, "events acknowledged and delivered, empty system", empty, "events/s");
    let full = throughput(report, BENCH, events, Some((deliveries, jobs))).await;
    let what = format!("events acknowledged and delivered, {deliveries} deliveries and {jobs} jobs");
    report.add(BENCH, what, full, "events/s");
    report.with_goal(
        BENCH,
        "share of the empty system's rate",
        full / empty * 100.0,
        "%",
        Goal::AtLeast(80.0),
    );
}

async fn throughput(
    report: &mut Report,
    bench: &'static str,
    events: usize,
    before: Option<(u32, u32)>,
) -> f64 {
    let run = Arc::new(Arrivals::new(1, events));
    let receiver = Receiver::start(&run).await;
    let mut deployment = Deployment::without_workers(wide_worker(1)).await;
    deployment.subscribe(&receiver.url(Manner::Healthy, 0), wide()).await;
    if let Some((deliveries, jobs)) = before {
        eprintln!("bench: {bench}: writing {deliveries} deliveries and {jobs} jobs");
        backlog::history(&deployment.database, deliveries).await;
        backlog::jobs(&deployment.database, jobs, Waiting::Later).await;
    }
    deployment.start_workers().await;
    let (rate, _) = flood(report, bench, &deployment, (&run, 1, events)).await;
    rate
}
