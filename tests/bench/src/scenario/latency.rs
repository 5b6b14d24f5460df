//! 500 events per second at a fixed rate; a single caller with ten subscribers; and a database that is far away.

use super::{
    Arc, Arrivals, CONNECTIONS, Deployment, Duration, Goal, Manner, Receiver, Report, Shape, json, load,
    settled, statements_of,
};
use crate::{latency::Latencies, statements};

const BENCH: &str = "latency";
const RATE: f64 = 500.0;

pub(crate) async fn run(report: &mut Report, seconds: u64) {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let events = (seconds as f64 * RATE) as usize;
    let run = Arc::new(Arrivals::new(1, events));
    let receiver = Receiver::start(&run).await;
    let deployment = Deployment::start(Shape::default()).await;
    deployment.subscribe(&receiver.url(Manner::Healthy, 0), json!({})).await;
    deployment.warm().await;
    let target = deployment.target("/v1/events");
    statements::reset(&deployment.database).await;
    let cpu = deployment.cpu();
    let sent = load::open(&target, &run, CONNECTIONS, events, RATE, load::event).await;
    run.wait_for(events as u64).await;
    #[allow(clippy::cast_precision_loss)]
    report.usage(BENCH, &deployment, deployment.cpu().since(cpu), events as f64);
    statements_of(report, BENCH, &deployment, events).await;
    report.must(sent.refused == 0, "latency: requests were refused");
    settled(report, BENCH, &deployment, &run, events).await;

    let arrivals = Latencies::new(waited(&run, 0, &sent.due));
    report.latencies(BENCH, "acknowledgement at 500 a second", &sent.acknowledged, Some((2.0, 10.0)));
    report.latencies(BENCH, "dispatch to arrival at 500 a second", &arrivals, Some((5.0, 25.0)));
    alone(report).await;
    far(report).await;
}

/// Ten events per second with a database that is 10 ms away.
async fn far(report: &mut Report) {
    const EVENTS: usize = 100;
    const ROUND_TRIP: Duration = Duration::from_millis(10);
    let run = Arc::new(Arrivals::new(1, EVENTS));
    let receiver = Receiver::start(&run).await;
    let deployment = Deployment::start(Shape { round_trip: ROUND_TRIP, ..Shape::default() }).await;
    deployment.subscribe(&receiver.url(Manner::Healthy, 0), json!({})).await;
    deployment.warm().await;
    let sent = load::open(&deployment.target("/v1/events"), &run, 1, EVENTS, 10.0, load::event).await;
    run.wait_for(EVENTS as u64).await;
    settled(report, BENCH, &deployment, &run, EVENTS).await;
    let arrivals = Latencies::new(waited(&run, 0, &sent.due));
    let trips = |times: &Latencies| times.percentile(50.0) / 1e3 / ROUND_TRIP.as_secs_f64();
    let what = "acknowledgement with a database that is 10 ms away, p50";
    report.add(BENCH, what, trips(&sent.acknowledged), "round trips");
    let what = "arrival with a database that is 10 ms away, p50";
    report.with_goal(BENCH, what, trips(&arrivals), "round trips", Goal::Under(2.5));
}

/// Sends one request after the other, with pauses in which everything is delivered.
async fn alone(report: &mut Report) {
    const EVENTS: usize = 200;
    let run = Arc::new(Arrivals::new(10, EVENTS));
    let receiver = Receiver::start(&run).await;
    let deployment = Deployment::start(Shape::default()).await;
    for subscriber in 0..10 {
        deployment.subscribe(&receiver.url(Manner::Healthy, subscriber), json!({})).await;
    }
    deployment.warm().await;
    let target = deployment.target("/v1/events");
    let sent = load::open(&target, &run, 1, EVENTS, 20.0, load::event).await;
    run.wait_for(10 * EVENTS as u64).await;
    settled(report, BENCH, &deployment, &run, 10 * EVENTS).await;
    let p50 = sent.acknowledged.percentile(50.0);
    report.with_goal(BENCH, "dispatch to 10 subscribers, alone, p50", p50, "ms", Goal::Under(3.0));
    let p99 = sent.acknowledged.percentile(99.0);
    report.add(BENCH, "dispatch to 10 subscribers, alone, p99", p99, "ms");
}

/// The time from when each event was due until it arrived; events that never arrived count until the end of the run.
pub(super) fn waited(run: &Arrivals, subscriber: usize, due: &[u32]) -> Vec<u32> {
    let end = run.now();
    due.iter()
        .enumerate()
        .map(|(event, due)| run.at(subscriber, event).unwrap_or(end).saturating_sub(*due))
        .collect()
}
