//! `postrider dev`: one process over SQLite.

use std::net::SocketAddr;

use postrider_testkit::{Api, Program};

use super::{
    Arc, Arrivals, CONNECTIONS, Duration, Goal, Manner, Receiver, Report, Target, a_second, arrived, load,
    wide,
};
use crate::{
    deployment::{ADMIN_KEY, SECRET_KEY, beside_us, subscribe},
    usage,
};

const BENCH: &str = "sqlite";

pub(crate) async fn run(report: &mut Report, events: u32) {
    let events = events as usize;
    let run = Arc::new(Arrivals::new(1, events));
    let receiver = Receiver::start(&run).await;
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
    let address: SocketAddr = program.wait_for_address(is_api, Duration::from_mins(1)).await;
    let api = Api::new(format!("http://{address}"), ADMIN_KEY);
    subscribe(&api, &receiver.url(Manner::Healthy, 0), "bench.event", wide()).await;

    let from = run.now();
    let target =
        Target { addresses: vec![address], path: "/v1/events".to_owned(), key: ADMIN_KEY, expected: 202 };
    let sent = load::closed(&target, &run, CONNECTIONS, events, load::event).await;
    run.wait_for(events as u64).await;
    let took = run.took_since(from);
    arrived(report, BENCH, &run, events);
    report.must(sent.refused == 0, "sqlite: requests were refused");
    let rate = a_second(events, took);
    report.with_goal(BENCH, "events acknowledged and delivered", rate, "events/s", Goal::AtLeast(2000.0));
    report.add(BENCH, "events acknowledged", a_second(events, sent.took), "events/s");
    report.latencies(BENCH, "acknowledgement at full load", &sent.acknowledged, None);
    let process = program.id().unwrap_or_default();
    report.add(BENCH, "memory, peak", usage::peak_memory(process), "MiB");
}
