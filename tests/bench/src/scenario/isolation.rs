//! The latency of healthy subscribers beside failing ones, compared with a run in which all are healthy.

use sea_orm::{ConnectionTrait as _, DatabaseTransaction, TransactionTrait as _};

use super::{
    Arc, Arrivals, CONNECTIONS, Deployment, Duration, Goal, Manner, Receiver, Report, SETTLE, Shape,
    costliest, json, latency::waited, load,
};
use crate::{
    QueuePlace,
    backlog::{self, Waiting},
    deployment::subscribe,
    latency::Latencies,
    statements,
};

/// One kind of trouble.
struct Trouble {
    bench: &'static str,
    healthy: usize,
    /// The number of other subscribers, and how they behave.
    others: &'static [(usize, Manner)],
    /// Additional waiting jobs.
    waiting: Option<Kind>,
    /// Events per second; each goes to all subscribers.
    rate: f64,
}

#[derive(Clone, Copy)]
enum Kind {
    InLine,
    BehindBreakers,
    AboveTheirRate,
    /// Jobs that were delivered since a transaction began that is still open.
    BesideSnapshot,
    /// Jobs in lanes of which another transaction holds the first two thirds.
    Locked,
}

const TROUBLES: [Trouble; 7] = [
    Trouble {
        bench: "isolation (a): 1 of 10 hangs",
        healthy: 9,
        others: &[(1, Manner::Hanging)],
        waiting: None,
        rate: 60.0,
    },
    Trouble {
        bench: "isolation (b): 10 of 100 hang, 10 fail, 10 take 2 s",
        healthy: 70,
        others: &[(10, Manner::Hanging), (10, Manner::Failing), (10, Manner::Slow)],
        waiting: None,
        rate: 6.0,
    },
    Trouble {
        bench: "isolation (c): one lane with a million jobs",
        healthy: 9,
        others: &[],
        waiting: Some(Kind::InLine),
        rate: 60.0,
    },
    Trouble {
        bench: "isolation (d): ten thousand lanes behind open breakers",
        healthy: 9,
        others: &[],
        waiting: Some(Kind::BehindBreakers),
        rate: 60.0,
    },
    Trouble {
        bench: "isolation (e): an open snapshot, 150,000 deliveries old",
        healthy: 9,
        others: &[],
        waiting: Some(Kind::BesideSnapshot),
        rate: 60.0,
    },
    Trouble {
        bench: "isolation (f): twenty thousand lanes above their rate",
        healthy: 9,
        others: &[],
        waiting: Some(Kind::AboveTheirRate),
        rate: 60.0,
    },
    Trouble {
        bench: "isolation (g): 200 of 300 lanes are locked",
        healthy: 9,
        others: &[],
        waiting: Some(Kind::Locked),
        rate: 60.0,
    },
];

pub(crate) async fn run(report: &mut Report, seconds: u64, jobs: u32, cases: &str, queue: QueuePlace) {
    // Those about rows and locks of the queue's tables say nothing about another queue.
    let fits = |case: char| queue == QueuePlace::Database || "abcdf".contains(case);
    for (_, trouble) in ('a'..).zip(&TROUBLES).filter(|(case, _)| cases.contains(*case) && fits(*case)) {
        let alone = measure(report, trouble, seconds, None, queue).await;
        report.latencies(trouble.bench, "dispatch to arrival when all are healthy", &alone, None);
        let beside = measure(report, trouble, seconds, Some(jobs), queue).await;
        report.latencies(trouble.bench, "dispatch to arrival of the healthy", &beside, None);
        let ratio = beside.percentile(99.0) / alone.percentile(99.0).max(f64::EPSILON);
        report.with_goal(
            trouble.bench,
            "p99 with trouble, relative to p99 without",
            ratio,
            "times",
            Goal::Under(2.0),
        );
    }
}

/// Measures the latency of deliveries to healthy subscribers, with or without trouble.
async fn measure(
    report: &mut Report,
    trouble: &Trouble,
    seconds: u64,
    jobs: Option<u32>,
    queue: QueuePlace,
) -> Latencies {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let events = (seconds as f64 * trouble.rate) as usize;
    let others = trouble.others.iter().flat_map(|(count, manner)| std::iter::repeat_n(*manner, *count));
    let others: Vec<Manner> =
        others.map(|manner| if jobs.is_some() { manner } else { Manner::Healthy }).collect();
    let run = Arc::new(Arrivals::new(trouble.healthy + others.len(), events));
    let receiver = Receiver::start(&run).await;
    let mut deployment = Deployment::without_workers(Shape { queue, ..Shape::default() }).await;
    for subscriber in 0..trouble.healthy {
        deployment.subscribe(&receiver.url(Manner::Healthy, subscriber), json!({})).await;
    }
    // While all subscribers are healthy: deliveries to hanging ones never end.
    deployment.start_workers().await;
    deployment.warm().await;
    for (subscriber, manner) in (trouble.healthy..).zip(others) {
        deployment.subscribe(&receiver.url(manner, subscriber), json!({})).await;
    }
    let held = match (trouble.waiting, jobs) {
        (Some(kind), Some(jobs)) => wait(&deployment, &receiver, kind, jobs).await,
        _ => None,
    };
    deployment.pass_jobs_on().await;
    let target = deployment.target("/v1/events");
    statements::reset(&deployment.database).await;
    let sent = load::open(&target, &run, CONNECTIONS, events, trouble.rate, load::event).await;
    let arrived = || (0..trouble.healthy).all(|one| (0..events).all(|event| run.at(one, event).is_some()));
    let started = std::time::Instant::now();
    while !arrived() && started.elapsed() < SETTLE {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(held);
    costliest(trouble.bench, &deployment).await;
    report.must(sent.refused == 0, format!("{}: requests were refused", trouble.bench));
    report.must(arrived(), format!("{}: healthy subscribers did not receive all events", trouble.bench));
    let times = (0..trouble.healthy).flat_map(|subscriber| waited(&run, subscriber, &sent.due)).collect();
    Latencies::new(times)
}

/// Makes jobs wait. Returns a transaction to keep open, if there is one.
async fn wait(
    deployment: &Deployment,
    receiver: &Receiver,
    kind: Kind,
    jobs: u32,
) -> Option<DatabaseTransaction> {
    const BESIDE: u32 = 150_000;
    let database = &deployment.database;
    let url = receiver.url(Manner::Healthy, usize::MAX);
    match kind {
        Kind::InLine => {
            subscribe(&deployment.api, &url, "flood.event", json!({})).await;
            backlog::jobs(database, jobs, Waiting::InLine(&url)).await;
            None
        }
        Kind::BehindBreakers => {
            backlog::jobs(database, jobs, Waiting::BehindBreakers).await;
            None
        }
        Kind::AboveTheirRate => {
            backlog::jobs(database, jobs, Waiting::AboveTheirRate).await;
            None
        }
        Kind::BesideSnapshot => {
            let open = database.begin().await.expect("a transaction");
            // With an id of its own, as a forgotten `BEGIN` with a write would have.
            open.execute_unprepared("SELECT pg_current_xact_id()").await.expect("an id");
            subscribe(&deployment.api, &url, "flood.event", json!({"concurrency": 256})).await;
            backlog::jobs(database, BESIDE, Waiting::InLine(&url)).await;
            let left = "SELECT count(*)::float8 FROM jobs";
            while statements::number(database, left).await > 0.0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Some(open)
        }
        Kind::Locked => {
            // Locked before the workers see a job of theirs: those of the other lanes end, since they have no delivery.
            let lock = backlog::open_lanes(database).await;
            let open = database.begin().await.expect("a transaction");
            open.execute_unprepared(&lock).await.expect("a lock");
            backlog::jobs(database, jobs.min(30_000), Waiting::InOpenLanes).await;
            Some(open)
        }
    }
}
