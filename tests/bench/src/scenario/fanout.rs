//! Ten subscribers of each event at full speed, with one worker and with two.

use super::{Arc, Arrivals, Deployment, Goal, Manner, Receiver, Report, flood, json, straight, wide_worker};

const BENCH: &str = "fanout";
const SUBSCRIBERS: usize = 10;

pub(crate) async fn run(report: &mut Report, events: u32) {
    let events = events as usize / 4;
    straight(report, BENCH, events).await;
    let rate = flood_ten(report, BENCH, events, 1).await;
    report.with_goal(BENCH, "deliveries", rate, "deliveries/s", Goal::AtLeast(10_000.0));
    let rate = flood_ten(report, "fanout, two workers", events, 2).await;
    report.add("fanout, two workers", "deliveries", rate, "deliveries/s");
}

async fn flood_ten(report: &mut Report, bench: &'static str, events: usize, workers: usize) -> f64 {
    let run = Arc::new(Arrivals::new(SUBSCRIBERS, events));
    let receiver = Receiver::start(&run).await;
    let deployment = Deployment::start(wide_worker(workers)).await;
    for subscriber in 0..SUBSCRIBERS {
        deployment.subscribe(&receiver.url(Manner::Healthy, subscriber), json!({})).await;
    }
    let (rate, ..) = flood(report, bench, &deployment, (&run, SUBSCRIBERS, events)).await;
    #[allow(clippy::cast_precision_loss)]
    let rate = rate * SUBSCRIBERS as f64;
    rate
}
