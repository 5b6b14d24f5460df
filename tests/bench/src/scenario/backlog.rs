//! The throughput run in an empty system, and in one with a long history and many waiting jobs; and days of that history
//! dropped beside a steady load.

use super::{
    Arc, Arrivals, CONNECTIONS, Deployment, Duration, Goal, Manner, Receiver, Report, flood, latency::waited,
    load, settled, wide, wide_worker,
};
use crate::{
    backlog::{self, Waiting},
    latency::Latencies,
};

const BENCH: &str = "backlog";
const DROPS: &str = "backlog, days dropped";
/// Events per second while days are dropped.
const RATE: f64 = 200.0;
/// How many days are dropped.
const DROPPED: u32 = 5;

/// What there is in the system, and what is done with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// How many events are sent at full speed.
    pub(crate) events: usize,
    pub(crate) deliveries: u32,
    /// Over how many days the deliveries are spread.
    pub(crate) days: u32,
    pub(crate) jobs: u32,
    /// How long the steady load lasts, with and without days being dropped.
    pub(crate) seconds: u64,
}

pub(crate) async fn run(report: &mut Report, size: Size) {
    let Size { events, deliveries, jobs, .. } = size;
    let run = Arc::new(Arrivals::new(1, events));
    let receiver = Receiver::start(&run).await;
    let deployment = deployment(&receiver, None).await;
    let (empty, ..) = flood(report, "backlog, empty", &deployment, (&run, 1, events)).await;
    report.add(BENCH, "events acknowledged and delivered, empty system", empty, "events/s");
    drop(deployment);

    let run = Arc::new(Arrivals::new(1, events));
    let receiver = Receiver::start(&run).await;
    let deployment = self::deployment(&receiver, Some(size)).await;
    let (full, ..) = flood(report, BENCH, &deployment, (&run, 1, events)).await;
    let what = format!("events acknowledged and delivered, {deliveries} deliveries and {jobs} jobs");
    report.add(BENCH, what, full, "events/s");
    let share = full / empty * 100.0;
    report.with_goal(BENCH, "share of the empty system's rate", share, "%", Goal::AtLeast(80.0));
    deployment.unsubscribe_all().await;
    drops(report, &deployment, size.seconds).await;
}

async fn deployment(receiver: &Receiver, before: Option<Size>) -> Deployment {
    let mut deployment = Deployment::without_workers(wide_worker(1)).await;
    deployment.subscribe(&receiver.url(Manner::Healthy, 0), wide()).await;
    if let Some(Size { deliveries, days, jobs, .. }) = before {
        eprintln!("bench: {BENCH}: writing {deliveries} deliveries over {days} days, and {jobs} jobs");
        backlog::history(&deployment.database, deliveries, days).await;
        backlog::jobs(&deployment.database, jobs, Waiting::Later).await;
    }
    deployment.start_workers().await;
    deployment
}

/// Compares the latency of a steady load alone with that beside days being dropped.
async fn drops(report: &mut Report, deployment: &Deployment, seconds: u64) {
    let alone = steady(report, deployment, seconds, "alone").await;
    let database = deployment.database.clone();
    let pause = Duration::from_secs(seconds) / (DROPPED + 1);
    let dropping = tokio::spawn(async move {
        let mut dropped = 0;
        for _ in 0..DROPPED {
            tokio::time::sleep(pause).await;
            let begun = std::time::Instant::now();
            while !backlog::drop_oldest_day(&database).await {
                assert!(begun.elapsed() < Duration::from_mins(1), "a day cannot be dropped");
            }
            eprintln!("bench: {DROPS}: dropping a day took {:?}", begun.elapsed());
            dropped += 1;
        }
        dropped
    });
    let beside = steady(report, deployment, seconds, "while days are dropped").await;
    let dropped = dropping.await.expect("days are dropped");
    report.add(DROPS, "days dropped", f64::from(dropped), "");
    let ratio = beside / alone.max(f64::EPSILON);
    report.with_goal(DROPS, "p99 of arrival, relative to p99 without", ratio, "times", Goal::Under(2.0));
}

/// Sends events at a fixed rate to a subscriber of its own. Returns the 99th percentile of arrival.
async fn steady(report: &mut Report, deployment: &Deployment, seconds: u64, when: &str) -> f64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let events = (seconds as f64 * RATE) as usize;
    let run = Arc::new(Arrivals::new(1, events));
    let receiver = Receiver::start(&run).await;
    deployment.subscribe(&receiver.url(Manner::Healthy, 0), wide()).await;
    let target = deployment.target("/v1/events");
    let sent = load::open(&target, &run, CONNECTIONS, events, RATE, load::event).await;
    run.wait_for(events as u64).await;
    report.must(sent.refused == 0, format!("{DROPS}: requests were refused {when}"));
    settled(report, DROPS, deployment, &run, events).await;
    let arrivals = Latencies::new(waited(&run, 0, &sent.due));
    report.latencies(DROPS, &format!("acknowledgement {when}"), &sent.acknowledged, None);
    report.latencies(DROPS, &format!("dispatch to arrival {when}"), &arrivals, None);
    deployment.unsubscribe_all().await;
    arrivals.percentile(99.0)
}
