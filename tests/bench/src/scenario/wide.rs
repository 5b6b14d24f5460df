//! Events with very many subscribers, beside the events of another tenant.

use std::time::Instant;

use postrider_testkit::Api;
use tokio::task::JoinSet;

use super::{
    Arc, Arrivals, CONNECTIONS, Deployment, Duration, Goal, Manner, Receiver, Report, Shape, costliest, json,
    load::{self, Sent},
};
use crate::{latency::Latencies, statements};

const BENCH: &str = "wide";
/// Events per second of the other tenant, each to this many subscribers.
const RATE: f64 = 100.0;
const HEALTHY: usize = 3;
/// The number of the first event beside the crowd's: more than any run has.
const BESIDE: usize = 60_000;
/// How many events at once go to a tenth of the crowd.
const AT_ONCE: usize = 60;
/// How many subscribers are created at the same time.
const CREATING: usize = 48;
/// How long all deliveries may take to be made.
const LONGEST: Duration = Duration::from_mins(10);

pub(crate) async fn run(report: &mut Report, seconds: u64, crowd: u32) {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let events = (seconds as f64 * RATE) as usize;
    let run = Arc::new(Arrivals::new(HEALTHY, 2 * BESIDE));
    let receiver = Receiver::start(&run).await;
    let deployment = Deployment::start(Shape::default()).await;
    for subscriber in 0..HEALTHY {
        deployment.subscribe(&receiver.url(Manner::Healthy, subscriber), json!({})).await;
    }
    deployment.warm().await;
    let api = deployment.api.clone().with_header("x-tenant-id", "crowd");
    gather(&api, &receiver.url(Manner::Healthy, usize::MAX), crowd as usize).await;
    statements::execute(&deployment.database, "ANALYZE").await;

    let target = deployment.target("/v1/events");
    let sent = load::open(&target, &run, CONNECTIONS, events, RATE, load::event).await;
    run.wait_for((HEALTHY * events) as u64).await;
    let alone = latencies(report, &run, (&sent, 0), "alone");

    statements::reset(&deployment.database).await;
    let (memory, started) = (deployment.peak_memory().0, Instant::now());
    let wide = tokio::spawn({
        let (api, database) = (api.clone(), deployment.database.clone());
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let begun = Instant::now();
            let answered = post(&api, "crowd.all").await;
            made(&database).await;
            (answered, begun.elapsed())
        }
    });
    let sent = load::open(&target, &run, CONNECTIONS, events, RATE, |n| load::event(BESIDE + n)).await;
    let ended = started.elapsed();
    let (answered, took) = wide.await.expect("the event with many subscribers");
    run.wait_for((2 * HEALTHY * events) as u64).await;
    costliest(BENCH, &deployment).await;
    let beside = latencies(report, &run, (&sent, BESIDE), "beside an event to the crowd");
    let used = deployment.peak_memory().0 - memory;
    eprintln!("bench: {BENCH}: the load took {ended:?}, the deliveries were made in {took:?}");
    report.add(BENCH, "acknowledgement of the event to the crowd", answered.as_secs_f64() * 1000.0, "ms");
    report.with_goal(BENCH, "until all its deliveries are made", took.as_secs_f64(), "s", Goal::Under(20.0));
    report.with_goal(BENCH, "memory that it costs the server, peak", used, "MiB", Goal::Under(100.0));
    for (what, place) in [("acknowledgement", 0), ("arrival", 1)] {
        let ratio = beside[place] / alone[place].max(f64::EPSILON);
        let what = format!("p99 of {what} beside it, relative to p99 alone");
        report.with_goal(BENCH, what, ratio, "times", Goal::Under(2.0));
    }
    at_once(report, &deployment, &api).await;
}

/// Reports the times of a run, and returns the 99th percentiles of acknowledgement and arrival.
fn latencies(report: &mut Report, run: &Arrivals, (sent, first): (&Sent, usize), when: &str) -> [f64; 2] {
    report.must(sent.refused == 0, format!("{BENCH}: requests were refused {when}"));
    let end = run.now();
    let arrival = |subscriber, place: usize| run.at(subscriber, first + place);
    let missing = (0..HEALTHY).any(|one| (0..sent.due.len()).any(|place| arrival(one, place).is_none()));
    report.must(!missing, format!("{BENCH}: events were lost {when}"));
    let times = (0..HEALTHY).flat_map(|subscriber| {
        let times = sent.due.iter().enumerate();
        times.map(move |(place, due)| arrival(subscriber, place).unwrap_or(end).saturating_sub(*due))
    });
    let arrivals = Latencies::new(times.collect());
    report.latencies(BENCH, &format!("acknowledgement {when}"), &sent.acknowledged, None);
    report.latencies(BENCH, &format!("dispatch to arrival {when}"), &arrivals, None);
    [sent.acknowledged.percentile(99.0), arrivals.percentile(99.0)]
}

/// Sends many events at once, each to a tenth of the crowd.
async fn at_once(report: &mut Report, deployment: &Deployment, api: &Api) {
    let (memory, begun) = (deployment.peak_memory().0, Instant::now());
    let mut posts = JoinSet::new();
    for _ in 0..AT_ONCE {
        let api = api.clone();
        posts.spawn(async move { post(&api, "crowd.tenth").await });
    }
    let worst = posts.join_all().await.into_iter().max().unwrap_or_default();
    let what = format!("worst acknowledgement of {AT_ONCE} events at once to a tenth of the crowd");
    report.add(BENCH, what, worst.as_secs_f64() * 1000.0, "ms");
    made(&deployment.database).await;
    report.add(BENCH, "until all their deliveries are made", begun.elapsed().as_secs_f64(), "s");
    let used = deployment.peak_memory().0 - memory;
    report.add(BENCH, "memory that they cost the server, peak", used, "MiB");
}

/// Creates the subscribers; each tenth of them receives two types of events.
async fn gather(api: &Api, url: &str, crowd: usize) {
    let begun = Instant::now();
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut creating = JoinSet::new();
    for _ in 0..CREATING {
        let (api, url, next) = (api.clone(), url.to_owned(), Arc::clone(&next));
        creating.spawn(async move {
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number >= crowd {
                    return;
                }
                let events =
                    if number % 10 == 0 { &["crowd.all", "crowd.tenth"][..] } else { &["crowd.all"] };
                let (status, answer) =
                    api.post("/v1/subscribers", &json!({"url": url, "events": events})).await;
                assert_eq!(status, 201, "{answer}");
            }
        });
    }
    creating.join_all().await;
    eprintln!("bench: {BENCH}: created {crowd} subscribers in {:?}", begun.elapsed());
}

/// Sends an event, and returns how long its acknowledgement took.
async fn post(api: &Api, event: &str) -> Duration {
    let begun = Instant::now();
    let (status, answer) = api.post("/v1/events", &json!({"event": event, "data": {}})).await;
    assert_eq!(status, 202, "{answer}");
    begun.elapsed()
}

/// Waits until the deliveries of all events are made.
async fn made(database: &sea_orm::DatabaseConnection) {
    let begun = Instant::now();
    while statements::number(database, "SELECT count(*)::float8 FROM fan_outs").await > 0.0 {
        assert!(begun.elapsed() < LONGEST, "the fan-outs do not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
