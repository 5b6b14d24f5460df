//! Rate limits and order hold across all workers, each a separate process.

use std::time::Instant;

use postrider_testkit::receiver::ReceivedRequest;
use postrider_testkit::{Behaviour, Receiver, TestDatabase, eventually};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::json;

use crate::client::{idle, list, subscribe_with, text};
use crate::deployment::{DEADLINE, Deployment};
use crate::exposition::{Exposition, sums};

/// Records when each job is claimed, by the database's clock, which claims use.
const WATCH_CLAIMS: &str = "
    CREATE TABLE claimed (job uuid NOT NULL, at bigint NOT NULL);
    CREATE FUNCTION note_claim() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO claimed VALUES (NEW.id, (extract(epoch FROM statement_timestamp()) * 1000)::bigint);
        RETURN NULL;
    END $$;
    CREATE TRIGGER watch_claims AFTER UPDATE ON jobs FOR EACH ROW
        WHEN (OLD.lease_token IS NULL AND NEW.lease_token IS NOT NULL) EXECUTE FUNCTION note_claim();";

/// The times of claims in milliseconds, and the number of jobs claimed.
async fn claims(database: &TestDatabase) -> (Vec<i64>, usize) {
    let sql = "SELECT at, (SELECT count(DISTINCT job) FROM claimed) AS jobs FROM claimed ORDER BY at";
    let rows =
        database.connection().query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap();
    let jobs = rows.first().map_or(0, |row| row.try_get::<i64>("", "jobs").unwrap());
    (rows.iter().map(|row| row.try_get("", "at").unwrap()).collect(), usize::try_from(jobs).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_is_exact_over_three_workers() {
    const PER_SECOND: i64 = 50;
    const BURST: i64 = 25;
    /// Milliseconds between two claims at the full rate.
    const INTERVAL: i64 = 1000 / PER_SECOND;
    /// Enough for 20 s.
    const EVENTS: i64 = BURST + 20 * PER_SECOND;

    let mut deployment = Deployment::start(0).await;
    let receiver = Receiver::start().await;
    deployment.database.connection().execute_unprepared(WATCH_CLAIMS).await.unwrap();
    let policy = json!({"rate_limit": {"per_second": PER_SECOND, "burst": BURST}});
    let subscriber = json!({"url": receiver.url("/hook"), "events": ["*"], "policy": policy});
    subscribe_with(&deployment.api, subscriber).await;
    dispatch_many(&deployment, EVENTS).await;
    let began = Instant::now();
    for _ in 0..3 {
        deployment.add_worker(&[]).await;
    }
    // These hold however slow the machine is.
    let requests = receiver.wait_for(usize::try_from(EVENTS).unwrap(), 4 * DEADLINE).await;
    idle(&deployment.api).await;
    let database = deployment.stop().await;

    let (claims, jobs) = claims(&database).await;
    assert_eq!((claims.len(), jobs), (requests.len(), requests.len()), "no job is claimed twice");
    let span = claims.last().unwrap() - claims[0];
    println!("{} claims in {span} ms", claims.len());
    for (from, first) in claims.iter().enumerate() {
        for (count, last) in (1..).zip(&claims[from..]) {
            let most = BURST + (last - first) / INTERVAL;
            assert!(count <= most, "{count} claims within {} ms; at most {most}", last - first);
        }
    }
    // A request arrives after its claim.
    for (count, request) in (1..).zip(&requests) {
        let after = i64::try_from((request.arrived - began).as_millis()).unwrap() + 2;
        assert!(count <= BURST + after / INTERVAL, "{count} requests within {after} ms of the start");
    }

    // Workers that claim take everything that the rate allows. If no worker claimed for longer than a burst lasts, the
    // machine was too slow, and that time does not count.
    let slept: i64 = claims.windows(2).map(|pair| (pair[1] - pair[0] - BURST * INTERVAL).max(0)).sum();
    let allowed = BURST + (span - slept) / INTERVAL;
    println!("{allowed} claims were allowed; no worker claimed for {slept} ms");
    assert!(EVENTS * 100 >= allowed * 95, "{EVENTS} of {allowed}");
}

/// Dispatches one batch after the other.
async fn dispatch_many(deployment: &Deployment, count: i64) -> Vec<String> {
    let events: Vec<_> = (0..count).map(|number| json!({"event": "a", "data": {"number": number}})).collect();
    let mut ids = Vec::new();
    for some in events.chunks(100) {
        let (status, answer) = deployment.api.post("/v1/events/batch", &json!({"events": some})).await;
        assert_eq!(status, 202, "{answer}");
        let results = answer["results"].as_array().unwrap();
        ids.extend(results.iter().map(|result| text(&result["id"]).to_owned()));
    }
    assert_eq!(ids.len(), usize::try_from(count).unwrap());
    ids
}

/// The receiver fails at random, and a worker is killed during a request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordered_subscriber_receives_events_in_order_when_a_worker_is_killed() {
    const EVENTS: i64 = 40;
    /// The request during which a worker is killed, counted from 0.
    const FATAL: usize = 25;
    let own = [("POSTRIDER_LEASE", "10s"), ("POSTRIDER_BREAKER_FAILURES", "0")];
    let mut deployment = Deployment::with(3, &own).await;
    let receiver = Receiver::start().await;
    // One in three fails, without a pattern.
    let mut dice = 20_261_123_u32;
    let answers: Vec<Option<u16>> = (0..2000)
        .map(|request| {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let status = if (dice >> 16).is_multiple_of(3) { 500 } else { 200 };
            (request != FATAL).then_some(status)
        })
        .collect();
    let behaviours = answers.iter().map(|status| status.map_or(Behaviour::Hang, Behaviour::Status));
    receiver.on("/hook", Behaviour::Sequence(behaviours.collect()));
    let policy = json!({"ordered": true, "schedule": ["20ms"], "jitter_percent": 0, "max_attempts": 30});
    let subscriber = json!({"url": receiver.url("/hook"), "events": ["*"], "policy": policy});
    subscribe_with(&deployment.api, subscriber).await;
    let expected = dispatch_many(&deployment, EVENTS).await;

    receiver.wait_for(FATAL + 1, DEADLINE).await;
    kill_the_busy_worker(&mut deployment).await;
    idle(&deployment.api).await;
    let deliveries = list(&deployment.api, "/v1/deliveries?limit=100").await;
    deployment.stop().await;

    assert_eq!(
        deliveries.iter().filter(|delivery| delivery["status"] == "succeeded").count(),
        expected.len()
    );
    let requests = receiver.requests();
    let id = |request: &ReceivedRequest| request.header("webhook-id").unwrap().to_owned();
    let answered = requests.iter().zip(&answers);
    let well = answered.filter(|(_, status)| **status == Some(200));
    let mut arrived: Vec<_> = well.map(|(request, _)| id(request)).collect();
    arrived.dedup();
    assert_eq!(arrived, expected, "all events arrived in order");
    let mut turns: Vec<_> = requests.iter().map(id).collect();
    turns.dedup();
    assert_eq!(turns, expected, "no event is attempted before the previous ones have arrived");
    assert!(requests.len() > expected.len() + 1, "some failed");
}

/// Kills the worker whose request is in flight; the request hangs until then.
async fn kill_the_busy_worker(deployment: &mut Deployment) {
    let at_work = eventually(DEADLINE, || async {
        for (place, worker) in deployment.workers.iter().enumerate() {
            let metrics = [Exposition::of(&worker.telemetry).await];
            if !sums(&metrics, "webhook_in_flight", &[]).is_empty() {
                return Some(place);
            }
        }
        None
    })
    .await;
    let mut worker = deployment.workers.remove(at_work);
    worker.process.signal("KILL").await;
    let status = worker.process.wait(DEADLINE).await;
    assert!(!status.success(), "{status}");
}
