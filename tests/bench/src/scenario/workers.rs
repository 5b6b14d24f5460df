//! What workers and servers that are not needed cost: few events, full speed, and nothing at all.

use super::{
    Arc, Arrivals, CONNECTIONS, Deployment, Duration, Goal, Manner, Receiver, Report, Shape, a_second, json,
    latency::waited, load, settled,
};
use crate::latency::Latencies;

const BENCH: &str = "workers";

/// Events per second while there is little to do.
const RATE: f64 = 50.0;

pub(crate) async fn run(report: &mut Report, seconds: u64, events: u32) {
    let alone = few(report, 1, seconds).await;
    for workers in [4, 12] {
        let beside = few(report, workers, seconds).await;
        let what = |what| format!("{what} of {workers} workers at 50 a second, relative to one");
        let times = |many: f64, one: f64| many / one.max(f64::EPSILON);
        report.with_goal(
            BENCH,
            what("processor time"),
            times(beside.cpu, alone.cpu),
            "times",
            Goal::Under(1.3),
        );
        report.with_goal(BENCH, what("arrival p50"), times(beside.p50, alone.p50), "times", Goal::Under(1.3));
    }
    idle(report, seconds).await;
    let events = events as usize / 4;
    let one = flat_out(report, Shape::default(), 10, events).await;
    let eight = flat_out(report, Shape { workers: 8, ..Shape::default() }, 10, events).await;
    let what = "deliveries per second of eight workers, relative to one";
    report.with_goal(BENCH, what, eight / one, "times", Goal::AtLeast(0.9));
}

/// Four servers where one is enough.
pub(crate) async fn servers(report: &mut Report, events: u32) {
    let events = events as usize / 2;
    let one = flat_out(report, Shape::default(), 1, events).await;
    let four = flat_out(report, Shape { servers: 4, ..Shape::default() }, 1, events).await;
    let what = "events per second of four servers, relative to one";
    report.with_goal(BENCH, what, four / one, "times", Goal::AtLeast(0.9));
}

/// What a run with few events used: the share of a core, and the median time to arrival in milliseconds.
struct Used {
    cpu: f64,
    p50: f64,
}

/// Few events to five subscribers.
async fn few(report: &mut Report, workers: usize, seconds: u64) -> Used {
    const SUBSCRIBERS: usize = 5;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let events = (seconds as f64 * RATE) as usize;
    let run = Arc::new(Arrivals::new(SUBSCRIBERS, events));
    let receiver = Receiver::start(&run).await;
    let deployment = Deployment::start(Shape { workers, ..Shape::default() }).await;
    for subscriber in 0..SUBSCRIBERS {
        deployment.subscribe(&receiver.url(Manner::Healthy, subscriber), json!({})).await;
    }
    deployment.warm().await;
    let target = deployment.target("/v1/events");
    crate::statements::reset(&deployment.database).await;
    let (cpu, began) = (deployment.cpu(), run.now());
    let sent = load::open(&target, &run, CONNECTIONS, events, RATE, load::event).await;
    run.wait_for((SUBSCRIBERS * events) as u64).await;
    let used = deployment.cpu().since(cpu);
    let took = f64::from(run.now() - began) / 1e6;
    super::costliest(BENCH, &deployment).await;
    settled(report, BENCH, &deployment, &run, SUBSCRIBERS * events).await;
    report.must(sent.refused == 0, "workers: requests were refused");
    let arrivals: Vec<u32> = (0..SUBSCRIBERS).flat_map(|one| waited(&run, one, &sent.due)).collect();
    let arrivals = Latencies::new(arrivals);
    let cpu = (used.server + used.worker + used.postgres) / took * 100.0;
    let share = format!("processor time of {workers} at 50 a second, with server and PostgreSQL");
    report.add(BENCH, share, cpu, "% of a core");
    report.add(BENCH, format!("of that, {workers} workers"), used.worker / took * 100.0, "% of a core");
    report.add(
        BENCH,
        format!("of that, PostgreSQL beside {workers}"),
        used.postgres / took * 100.0,
        "% of a core",
    );
    report.latencies(BENCH, &format!("dispatch to arrival with {workers}"), &arrivals, None);
    Used { cpu, p50: arrivals.percentile(50.0) }
}

/// Twelve workers without anything to do.
async fn idle(report: &mut Report, seconds: u64) {
    let deployment = Deployment::start(Shape { workers: 12, ..Shape::default() }).await;
    deployment.warm().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let cpu = deployment.cpu();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let used = deployment.cpu().since(cpu);
    #[allow(clippy::cast_precision_loss)]
    let share = (used.worker + used.postgres) / seconds as f64 * 100.0;
    report.with_goal(BENCH, "twelve idle workers and PostgreSQL", share, "% of a core", Goal::Under(5.0));
}

/// As many events as possible. Returns the number of deliveries a second.
async fn flat_out(report: &mut Report, shape: Shape, subscribers: usize, events: usize) -> f64 {
    let what = format!("{} workers, {} servers, {subscribers} subscribers", shape.workers, shape.servers);
    let run = Arc::new(Arrivals::new(subscribers, events));
    let receiver = Receiver::start(&run).await;
    let deployment = Deployment::start(shape).await;
    let policy = if subscribers == 1 { super::wide() } else { json!({}) };
    for subscriber in 0..subscribers {
        deployment.subscribe(&receiver.url(Manner::Healthy, subscriber), policy.clone()).await;
    }
    deployment.warm().await;
    crate::statements::reset(&deployment.database).await;
    let (cpu, from) = (deployment.cpu(), run.now());
    let target = deployment.target("/v1/events");
    let sent = load::closed(&target, &run, CONNECTIONS, events, load::event).await;
    run.wait_for((subscribers * events) as u64).await;
    let took = run.took_since(from);
    let used = deployment.cpu().since(cpu);
    super::costliest(BENCH, &deployment).await;
    settled(report, BENCH, &deployment, &run, subscribers * events).await;
    report.must(sent.refused == 0, format!("workers: {} requests were refused", sent.refused));
    let rate = a_second(subscribers * events, took);
    report.add(BENCH, format!("deliveries with {what}"), rate, "deliveries/s");
    let total = (used.server + used.worker + used.postgres) / used.bench.max(f64::EPSILON);
    report.add(BENCH, format!("processor time with {what}, relative to the generator's"), total, "times");
    rate
}
