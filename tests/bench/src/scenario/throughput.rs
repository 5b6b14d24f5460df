//! One subscriber at full speed: first with a high concurrency, then with the default policy.

use super::{
    Arc, Arrivals, Deployment, Goal, Manner, Receiver, Report, Shape, Value, flood, json, straight, wide,
    wide_worker,
};

use crate::QueuePlace;

const BENCH: &str = "throughput";
const ON_REDIS: &str = "throughput, queue on Redis";
const DEFAULT: &str = "throughput, default policy";

pub(crate) async fn run(report: &mut Report, events: u32, queue: QueuePlace) {
    let events = events as usize;
    let straight = straight(report, BENCH, events).await;

    let (rate, postgres) = one_subscriber(report, BENCH, events, wide(), QueuePlace::Database).await;
    report.with_goal(BENCH, "events acknowledged and delivered", rate, "events/s", Goal::AtLeast(6000.0));
    report.with_goal(BENCH, "share of the straight rate", rate / straight * 100.0, "%", Goal::AtLeast(10.0));

    if queue == QueuePlace::Redis {
        let (on_redis, with_redis) = one_subscriber(report, ON_REDIS, events, wide(), queue).await;
        report.add(ON_REDIS, "events acknowledged and delivered", on_redis, "events/s");
        let relative = on_redis / rate * 100.0;
        report.with_goal(ON_REDIS, "rate, relative to PostgreSQL alone", relative, "%", Goal::AtLeast(100.0));
        let relative = with_redis / postgres * 100.0;
        let what = "processor time of PostgreSQL, relative to PostgreSQL alone";
        report.with_goal(ON_REDIS, what, relative, "%", Goal::Under(75.0));
        return;
    }

    let (rate, _) = one_subscriber(report, DEFAULT, events / 2, json!({}), queue).await;
    report.add(DEFAULT, "events acknowledged and delivered", rate, "events/s");
}

/// Returns how many events a second were delivered, and the processor time of PostgreSQL.
async fn one_subscriber(
    report: &mut Report,
    bench: &'static str,
    events: usize,
    policy: Value,
    queue: QueuePlace,
) -> (f64, f64) {
    let run = Arc::new(Arrivals::new(1, events));
    let receiver = Receiver::start(&run).await;
    let deployment = Deployment::start(Shape { queue, ..wide_worker(1) }).await;
    deployment.subscribe(&receiver.url(Manner::Healthy, 0), policy).await;
    let (rate, _, used) = flood(report, bench, &deployment, (&run, 1, events)).await;
    (rate, used.postgres)
}
