//! One subscriber at full speed: first with a high concurrency, then with the default policy.

use super::{
    Arc, Arrivals, Deployment, Goal, Manner, Receiver, Report, Value, flood, json, straight, wide,
    wide_worker,
};

const BENCH: &str = "throughput";

pub(crate) async fn run(report: &mut Report, events: u32) {
    let events = events as usize;
    let straight = straight(report, BENCH, events).await;

    let rate = one_subscriber(report, BENCH, events, wide()).await;
    report.with_goal(BENCH, "events acknowledged and delivered", rate, "events/s", Goal::AtLeast(6000.0));
    report.with_goal(BENCH, "share of the straight rate", rate / straight * 100.0, "%", Goal::AtLeast(10.0));

    let rate = one_subscriber(report, "throughput, default policy", events / 2, json!({})).await;
    report.add("throughput, default policy", "events acknowledged and delivered", rate, "events/s");
}

async fn one_subscriber(report: &mut Report, bench: &'static str, events: usize, policy: Value) -> f64 {
    let run = Arc::new(Arrivals::new(1, events));
    let receiver = Receiver::start(&run).await;
    let deployment = Deployment::start(wide_worker(1)).await;
    deployment.subscribe(&receiver.url(Manner::Healthy, 0), policy).await;
    let (rate, _) = flood(report, bench, &deployment, (&run, 1, events)).await;
    rate
}
