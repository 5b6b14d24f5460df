//! One subscriber's events in batches of a thousand: the rate of intake, then the rate of delivery.

use super::{
    Arc, Arrivals, Deployment, Goal, Manner, Receiver, Report, a_second, load, settled, wide, wide_worker,
};

const BENCH: &str = "ingest";
const EVENTS: usize = 100_000;
const BATCH: usize = 1000;

pub(crate) async fn run(report: &mut Report) {
    let run = Arc::new(Arrivals::new(1, EVENTS));
    let receiver = Receiver::start(&run).await;
    let mut deployment = Deployment::without_workers(wide_worker(1)).await;
    deployment.subscribe(&receiver.url(Manner::Healthy, 0), wide()).await;
    let target = deployment.target("/v1/events/batch");
    let cpu = deployment.cpu();
    let sent = load::closed(&target, &run, 4, EVENTS / BATCH, |n| load::batch(n * BATCH, BATCH)).await;
    let used = deployment.cpu().since(cpu);
    report.must(sent.refused == 0, "ingest: batches were refused");
    let rate = a_second(EVENTS, sent.took);
    report.with_goal(BENCH, "100,000 events in batches of 1,000", rate, "events/s", Goal::AtLeast(20_000.0));
    report.latencies(BENCH, "acknowledgement of a batch", &sent.acknowledged, None);
    report.add(BENCH, "processor time of server, total", used.server, "s");
    report.add(BENCH, "processor time of PostgreSQL, total", used.postgres, "s");

    let from = run.now();
    deployment.start_workers().await;
    run.wait_for(EVENTS as u64).await;
    let took = run.took_since(from);
    settled(report, BENCH, &deployment, &run, EVENTS).await;
    report.add(BENCH, "drained by one worker", a_second(EVENTS, took), "deliveries/s");
}
