//! `postrider dev`: one process over SQLite.

use std::net::SocketAddr;

use postrider_testkit::{Api, Process, Program};
use tempfile::TempDir;

use super::{
    Arc, Arrivals, CONNECTIONS, Duration, Goal, Manner, Receiver, Report, Target, Value, a_second, arrived,
    json, latency::waited, load, wide,
};
use crate::{
    deployment::{ADMIN_KEY, SECRET_KEY, beside_us, subscribe},
    latency::Latencies,
    usage,
};

const BENCH: &str = "sqlite";

pub(crate) async fn run(report: &mut Report, events: u32) {
    let events = events as usize;
    at_full_speed(report, BENCH, (1, events), wide()).await;
    at_full_speed(report, "sqlite, default policy", (1, events), json!({})).await;
    at_full_speed(report, "sqlite, ten subscribers", (10, events / 10), json!({})).await;
    at_full_speed(report, "sqlite, a hundred subscribers", (100, events / 100), json!({})).await;
}

async fn at_full_speed(
    report: &mut Report,
    bench: &'static str,
    (subscribers, events): (usize, usize),
    policy: Value,
) {
    let run = Arc::new(Arrivals::new(subscribers, events));
    let receiver = Receiver::start(&run).await;
    let dev = Dev::start().await;
    for subscriber in 0..subscribers {
        subscribe(&dev.api, &receiver.url(Manner::Healthy, subscriber), "bench.event", policy.clone()).await;
    }
    let from = run.now();
    let sent = load::closed(&dev.target(), &run, CONNECTIONS, events, load::event).await;
    run.wait_for((subscribers * events) as u64).await;
    let took = run.took_since(from);
    arrived(report, bench, &run, subscribers * events);
    report.must(sent.refused == 0, format!("{bench}: requests were refused"));
    let rate = a_second(subscribers * events, took);
    report.with_goal(bench, "deliveries", rate, "deliveries/s", Goal::AtLeast(4000.0));
    report.add(bench, "events acknowledged", a_second(events, sent.took), "events/s");
    report.latencies(bench, "acknowledgement at full load", &sent.acknowledged, None);
    report.add(bench, "memory, peak", usage::peak_memory(dev.program.id().unwrap_or_default()), "MiB");
}

/// The latency of a healthy subscriber, alone and beside three whose rate limits hold back 120,000 jobs.
pub(crate) async fn beside_rate_limits(report: &mut Report, seconds: u64) {
    const BENCH: &str = "isolation (h): three rate limits on SQLite";
    const RATE: f64 = 60.0;
    const BATCHES: usize = 40;
    const BATCH: usize = 1_000;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let events = (seconds as f64 * RATE) as usize;
    let dev = Dev::start().await;
    let mut p99 = Vec::new();
    for when in ["alone", "beside them"] {
        let run = Arc::new(Arrivals::new(1, events));
        let receiver = Receiver::start(&run).await;
        if when != "alone" {
            for _ in 0..3 {
                let policy = json!({"rate_limit": {"per_second": 1}});
                subscribe(&dev.api, &receiver.url(Manner::Healthy, usize::MAX), "flood.event", policy).await;
            }
            for _ in 0..BATCHES {
                let event = json!({"event": "flood.event", "data": {}});
                let batch = json!({"events": vec![event; BATCH]});
                let (status, answer) = dev.api.post("/v1/events/batch", &batch).await;
                assert_eq!(status, 202, "{answer}");
            }
        }
        subscribe(&dev.api, &receiver.url(Manner::Healthy, 0), "bench.event", json!({})).await;
        let sent = load::open(&dev.target(), &run, CONNECTIONS, events, RATE, load::event).await;
        run.wait_for(events as u64).await;
        let arrivals = Latencies::new(waited(&run, 0, &sent.due));
        report.must(sent.refused == 0, format!("{BENCH}: requests were refused"));
        report.latencies(BENCH, &format!("dispatch to arrival {when}"), &arrivals, None);
        p99.push(arrivals.percentile(99.0));
    }
    let ratio = p99[1] / p99[0].max(f64::EPSILON);
    report.with_goal(BENCH, "p99 with trouble, relative to p99 without", ratio, "times", Goal::Under(2.0));
}

/// A running `postrider dev`.
struct Dev {
    api: Api,
    address: SocketAddr,
    program: Process,
    // Removed last, after the program has ended.
    _folder: TempDir,
}

impl Dev {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = Program::at(beside_us("postrider"))
            .arg("dev")
            .env("POSTRIDER_DATA", folder.path())
            .env("POSTRIDER_LISTEN", "127.0.0.1:0")
            .env("POSTRIDER_TELEMETRY_LISTEN", "127.0.0.1:0")
            .env("POSTRIDER_ADMIN_KEY", ADMIN_KEY)
            .env("POSTRIDER_SECRET_KEY", SECRET_KEY)
            .env("POSTRIDER_ALLOW_NETS", "127.0.0.0/8")
            .env("POSTRIDER_LOG_FORMAT", "json")
            .start();
        let is_api = |line: &str| line.contains("\"service\":\"api\"");
        let address = program.wait_for_address(is_api, Duration::from_mins(1)).await;
        Self { api: Api::new(format!("http://{address}"), ADMIN_KEY), address, program, _folder: folder }
    }

    fn target(&self) -> Target {
        Target { addresses: vec![self.address], path: "/v1/events".to_owned(), key: ADMIN_KEY, expected: 202 }
    }
}
