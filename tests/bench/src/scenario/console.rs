//! How long the console's pages take over a long history, and how large they are.

use std::io::Write as _;
use std::process::Command;
use std::time::Instant;

use http::Method;
use postrider_testkit::Api;
use postrider_testkit::api::Answer;

use super::{Arc, Arrivals, Deployment, Goal, Manner, Receiver, Report, Shape, json};
use crate::backlog;
use crate::deployment::ADMIN_KEY;
use crate::latency::Latencies;
use crate::statements;

const BENCH: &str = "console";
const LOADS: usize = 15;
const SUBSCRIBERS: usize = 20;
/// The most that a page may take, in milliseconds.
const SLOWEST: f64 = 200.0;
/// The most that pages and what they load may have, compressed, in KiB.
const LARGEST_PAGE: f64 = 20.0;
const LARGEST_FILE: f64 = 8.0;
const LARGEST_CHARTS: f64 = 23.0;

/// How much there is before the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) deliveries: u32,
    pub(crate) days: u32,
}

/// Somebody who has signed in.
struct Visitor {
    api: Api,
    cookie: String,
}

pub(crate) async fn run(report: &mut Report, size: Size) {
    let run = Arc::new(Arrivals::new(1, 1));
    let receiver = Receiver::start(&run).await;
    let deployment = Deployment::start(Shape::default()).await;
    for subscriber in 0..SUBSCRIBERS {
        deployment.subscribe(&receiver.url(Manner::Healthy, subscriber), json!({})).await;
    }
    // With roll-ups, and with what the programs write themselves.
    deployment.warm().await;
    backlog::history(&deployment.database, size.deliveries, size.days).await;
    backlog::dead_letters(&deployment.database, size.deliveries / 100, size.days).await;
    statements::execute(&deployment.database, "CHECKPOINT").await;

    let visitor = Visitor::sign_in(deployment.target("").addresses[0]).await;
    let mut slowest = (0.0, "");
    let pages = pages(&deployment).await;
    for (name, path) in &pages {
        let (times, size) = visitor.load(report, name, path).await;
        let worst = times.percentile(100.0);
        report.add(BENCH, format!("{name}, median"), times.percentile(50.0), "ms");
        report.with_goal(BENCH, format!("{name}, slowest of {LOADS}"), worst, "ms", Goal::Under(SLOWEST));
        report.with_goal(BENCH, format!("{name}, gzipped"), size, "KiB", Goal::Under(LARGEST_PAGE));
        if worst > slowest.0 {
            slowest = (worst, name);
        }
    }
    visitor.files(report).await;
    eprintln!("bench: {BENCH}: the slowest page is {} with {:.1} ms", slowest.1, slowest.0);
}

/// The pages, and their paths below `/console`.
async fn pages(deployment: &Deployment) -> Vec<(&'static str, String)> {
    let first = async |path: &str, field: &str| {
        let (status, page) = deployment.api.get(path).await;
        assert_eq!(status, 200, "{page}");
        page["data"][0][field].as_str().unwrap_or_else(|| panic!("{path} has nothing: {page}")).to_owned()
    };
    let dead = first("/v1/deliveries?status=dead&limit=1", "id").await;
    let of_many = first("/v1/deliveries?status=dead&limit=1", "subscriber_id").await;
    let event = first("/v1/events?event=old.event&limit=1", "id").await;
    let since = first("/v1/events?event=old.event&limit=1", "created_at").await;
    let page = |name, path: &str| (name, path.to_owned());
    vec![
        page("Now", ""),
        page("Events", "/events"),
        page("Events of a type", "/events?event=old.event"),
        ("An event", format!("/events/{event}")),
        page("Deliveries", "/deliveries"),
        page("Deliveries, dead", "/deliveries?status=dead"),
        page("Deliveries, 5xx of a pattern", "/deliveries?response_code=5xx&event=dead.*"),
        page("Deliveries, none that match", "/deliveries?response_code=418"),
        ("Deliveries of a subscriber", format!("/deliveries?subscriber_id={of_many}")),
        ("Deliveries before a time", format!("/deliveries?until={since}")),
        ("A delivery", format!("/deliveries/{dead}")),
        ("Two attempts", format!("/deliveries/{dead}/diff?from=1&to=2")),
        page("Dead letters", "/dead-letters"),
        page("Subscribers", "/subscribers"),
        page("Subscribers, failing", "/subscribers?failing=true"),
        ("A subscriber", format!("/subscribers/{of_many}")),
        page("Event types", "/event-types"),
        page("Queue", "/queue"),
        page("Live tail", "/tail"),
        page("Replays", "/replays"),
        page("Keys", "/keys"),
        page("Tenants", "/tenants"),
        page("Audit", "/audit"),
        page("Sessions", "/sessions"),
        page("Settings", "/settings"),
    ]
}

impl Visitor {
    async fn sign_in(address: std::net::SocketAddr) -> Self {
        let api = Api::without_key(format!("http://{address}"));
        let headers =
            [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "same-origin")];
        let answer = api.send(Method::POST, "/console/login", &headers, format!("key={ADMIN_KEY}")).await;
        let cookie = answer.header("set-cookie").and_then(|cookie| cookie.split(';').next());
        let cookie = cookie.unwrap_or_else(|| panic!("signing in failed: {}", answer.text())).to_owned();
        Self { api, cookie }
    }

    async fn get(&self, path: &str) -> Answer {
        self.api.send(Method::GET, &format!("/console{path}"), &[("cookie", &self.cookie)], "").await
    }

    /// Loads a page several times. Returns the times, and the size in KiB.
    async fn load(&self, report: &mut Report, name: &str, path: &str) -> (Latencies, f64) {
        let (mut times, mut size) = (Vec::new(), 0.0);
        for _ in 0..LOADS {
            let started = Instant::now();
            let answer = self.get(path).await;
            times.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
            report.must(answer.status == 200, format!("{BENCH}: {name} answered {}", answer.status));
            size = gzipped(&answer.body);
        }
        (Latencies::new(times), size)
    }

    /// Reports the sizes of what pages load.
    async fn files(&self, report: &mut Report) {
        let html = self.get("").await.text();
        let names = html.split('"').filter_map(|text| Some(text.split_once("assets/")?.1));
        for name in names.collect::<std::collections::BTreeSet<_>>() {
            let answer = self.get(&format!("/assets/{name}")).await;
            report.must(answer.status == 200, format!("{BENCH}: {name} answered {}", answer.status));
            let most = if name.starts_with("uplot") { LARGEST_CHARTS } else { LARGEST_FILE };
            let (stem, ending) = (name.split('.').next(), name.rsplit('.').next());
            let what = format!("{}.{}, gzipped", stem.unwrap_or_default(), ending.unwrap_or_default());
            report.with_goal(BENCH, what, gzipped(&answer.body), "KiB", Goal::Under(most));
        }
    }
}

/// The compressed size in KiB.
fn gzipped(bytes: &[u8]) -> f64 {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("a disk with room");
    let gzip = Command::new("gzip").arg("-c").arg(file.path()).output().expect("the program gzip");
    assert!(gzip.status.success(), "gzip failed");
    #[allow(clippy::cast_precision_loss)]
    let size = gzip.stdout.len() as f64;
    size / 1024.0
}
