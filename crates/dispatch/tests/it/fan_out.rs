//! Events with many subscribers: stored at once, and delivered to each subscriber once, step by step.

use std::time::{Duration, Instant};

use postrider_core::{EventId, SubscriberId, TenantId};
use postrider_database::Dialect;
use postrider_dispatch::{Dispatched, Dispatcher, FanOut, NewEvent};
use postrider_store::events::Event;
use postrider_store::fan_out::{FannedOut, Step};
use postrider_store::intake::Everyone;
use postrider_store::stats::StatsFilter;
use postrider_store::subscribers::SubscriberChange;
use postrider_store::{PageRequest, Store};
use postrider_testkit::eventually;
use sea_orm::TransactionTrait as _;
use serde_json::json;
use tokio::time::timeout;

use crate::stage::{Stage, event, keyed, on_both};

on_both!(
    an_event_with_many_subscribers_goes_to_each_once,
    a_hundred_subscribers_are_few,
    a_repeat_tells_how_many_jobs_exist_by_then,
    a_step_that_was_cut_off_leaves_nothing,
    processes_that_take_steps_at_the_same_time_do_not_repeat_them,
    changes_of_subscribers_during_a_fan_out,
    tenants_take_turns,
    an_event_with_few_subscribers_overtakes,
    many_events_to_many_subscribers_are_answered_quickly,
    many_deliveries_are_written_in_several_statements,
    an_application_s_transaction_promises_the_deliveries,
);

const DEADLINE: Duration = Duration::from_mins(1);

fn created() -> NewEvent {
    event("order.created", &json!({ "total": 3 }))
}

/// Stores an event, and leaves its deliveries to the test.
async fn promise(stage: &Stage, dispatcher: &Dispatcher, event: NewEvent) -> Dispatched {
    let transaction = stage.database.connection().begin().await.unwrap();
    let answer = dispatcher.dispatch_in(&transaction, event).await.unwrap();
    transaction.commit().await.unwrap();
    answer
}

async fn step(store: &Store, after: Option<&TenantId>, max: usize) -> Step {
    match store.fan_out(after, max, &Everyone).await.unwrap() {
        FannedOut::Step(step) => step,
        other => panic!("{other:?}"),
    }
}

async fn stored(stage: &Stage, tenant: &TenantId, event: EventId) -> Event {
    stage.store.event(tenant, event).await.unwrap().unwrap()
}

/// Waits until the deliveries of an event are made.
async fn complete(stage: &Stage, event: EventId) -> Event {
    eventually(DEADLINE, || async {
        let event = stored(stage, &stage.tenant, event).await;
        (!event.continues).then_some(event)
    })
    .await
}

/// Checks that there is one delivery, with its job, for each of `subscribers` subscribers of each event.
async fn once_each(stage: &Stage, events: usize, subscribers: usize) {
    let each = i64::try_from(events * subscribers).unwrap();
    // A delivery's id is its event's, with its number in the last 20 bits.
    let event = match stage.store.database().dialect() {
        Dialect::Postgres => "substr(id::text, 1, 31)",
        Dialect::Sqlite => "substr(hex(id), 1, 27)",
    };
    let pairs =
        format!("SELECT count(*) FROM (SELECT DISTINCT {event}, subscriber_id FROM deliveries) AS pairs");
    let with_jobs = "SELECT count(*) FROM deliveries JOIN jobs ON jobs.id = deliveries.job_id \
        AND jobs.subject = deliveries.id AND jobs.lane = deliveries.subscriber_id";
    for sql in [&pairs, with_jobs, "SELECT count(*) FROM deliveries", "SELECT count(*) FROM jobs"] {
        assert_eq!(stage.count(sql).await, each, "{sql}");
    }
    assert_eq!(stage.rows_of("fan_outs").await, 0);
    let stats = stage.store.stats(&stage.tenant, &StatsFilter::default()).await.unwrap();
    assert_eq!(stats.deliveries.total, u64::try_from(each).unwrap());
}

async fn an_event_with_many_subscribers_goes_to_each_once(stage: &Stage) {
    // Some have several patterns that match.
    stage.crowd(&stage.tenant, &["*", "order.*"], 700).await;
    stage.crowd(&stage.tenant, &["order.created", "order.*"], 600).await;
    stage.crowd(&stage.tenant, &["user.*"], 10).await;
    let dispatcher = stage.dispatcher();
    let mut wakeups = stage.store.queue().wakeups();
    wakeups.mark_seen();
    let answer = dispatcher.dispatch(created()).await.unwrap();
    assert_eq!((answer.subscribers_found, answer.jobs_created), (1300, 0));
    assert_eq!(answer.fan_out, FanOut::Continuing);
    assert!(answer.subscribers.is_empty() && answer.jobs.is_empty());

    let event = complete(stage, answer.id).await;
    assert_eq!((event.subscribers_found, event.jobs_created), (1300, 1300));
    once_each(stage, 1, 1300).await;
    timeout(DEADLINE, wakeups.woken()).await.expect("workers are woken");
    let listed = stage.store.events(&stage.tenant, None, PageRequest::default()).await.unwrap().items;
    assert_eq!((listed[0].jobs_created, listed[0].continues), (1300, false));
}

async fn a_hundred_subscribers_are_few(stage: &Stage) {
    stage.crowd(&stage.tenant, &["order.*", "*"], 100).await;
    let dispatcher = stage.dispatcher();
    for _ in 0..2 {
        let few = dispatcher.dispatch(created()).await.unwrap();
        assert_eq!((few.subscribers_found, few.jobs_created, few.fan_out), (100, 100, FanOut::Complete));
        assert_eq!((few.subscribers.len(), few.jobs.len()), (100, 100));
    }
    let one_more = stage.subscribe(&["order.created"]).await;
    for _ in 0..2 {
        let many = dispatcher.dispatch(created()).await.unwrap();
        assert_eq!((many.subscribers_found, many.fan_out), (101, FanOut::Continuing));
        complete(stage, many.id).await;
    }
    // A test event goes to one of them.
    let test = dispatcher.dispatch_to(one_more, created()).await.unwrap();
    assert_eq!((test.subscribers, test.fan_out), (vec![one_more], FanOut::Complete));
    assert!(stage.store.delete_subscriber(&stage.tenant, one_more).await.unwrap());
    let few = dispatcher.dispatch(created()).await.unwrap();
    assert_eq!((few.subscribers.len(), few.fan_out), (100, FanOut::Complete));
    assert_eq!(stage.rows_of("deliveries").await, 3 * 100 + 2 * 101 + 1);
}

async fn a_repeat_tells_how_many_jobs_exist_by_then(stage: &Stage) {
    stage.crowd(&stage.tenant, &["order.*"], 150).await;
    let dispatcher = stage.dispatcher();
    let request = || keyed("order.created", &json!({ "total": 3 }), "order-1");
    let first = promise(stage, &dispatcher, request()).await;
    for (jobs_created, fan_out) in
        [(0, FanOut::Continuing), (100, FanOut::Continuing), (150, FanOut::Complete)]
    {
        let again = promise(stage, &dispatcher, request()).await;
        assert_eq!(again, Dispatched { duplicate: true, jobs_created, fan_out, ..first.clone() });
        stage.store.fan_out(None, 100, &Everyone).await.unwrap();
    }
    once_each(stage, 1, 150).await;
}

/// A process may die anywhere in a step. Here the step's future is dropped after more and more time.
async fn a_step_that_was_cut_off_leaves_nothing(stage: &Stage) {
    const SUBSCRIBERS: usize = 600;
    stage.crowd(&stage.tenant, &["*"], SUBSCRIBERS).await;
    promise(stage, &stage.dispatcher(), created()).await;
    let (mut cut_off, mut micros) = (0, 50);
    loop {
        match timeout(Duration::from_micros(micros), stage.store.fan_out(None, 25, &Everyone)).await {
            Ok(Ok(FannedOut::Nothing)) => break,
            Ok(result) => drop(result.unwrap()),
            Err(_) => cut_off += 1,
        }
        // In one statement: a commit that was cut off may take effect at any moment.
        let missing = "SELECT coalesce((SELECT jobs_created FROM fan_outs), (SELECT jobs_created FROM events)) \
            - (SELECT count(*) FROM deliveries)";
        assert_eq!(stage.count(missing).await, 0);
        // Slowly enough that steps are cut off in each of their statements.
        micros += 50 + micros / 20;
    }
    println!("{cut_off} steps were cut off");
    assert!(cut_off > 3);
    once_each(stage, 1, SUBSCRIBERS).await;
}

async fn processes_that_take_steps_at_the_same_time_do_not_repeat_them(stage: &Stage) {
    stage.crowd(&stage.tenant, &["*"], 400).await;
    let dispatcher = stage.dispatcher();
    for _ in 0..3 {
        promise(stage, &dispatcher, created()).await;
    }
    let work = |store: Store| {
        tokio::spawn(async move {
            while store.fan_out(None, 30, &Everyone).await.unwrap() != FannedOut::Nothing {}
        })
    };
    let working =
        [work(stage.store.clone()), work(stage.another_store().await), work(stage.another_store().await)];
    for process in working {
        process.await.unwrap();
    }
    once_each(stage, 3, 400).await;
}

async fn changes_of_subscribers_during_a_fan_out(stage: &Stage) {
    stage.crowd(&stage.tenant, &["*"], 100).await;
    let mut mine: Vec<SubscriberId> = Vec::new();
    for _ in 0..50 {
        mine.push(stage.subscribe(&["*"]).await);
    }
    let inactive = stage.subscribe_for(&stage.tenant, &["*"], false).await;
    let answer = promise(stage, &stage.dispatcher(), created()).await;
    assert_eq!(answer.subscribers_found, 150);
    assert_eq!(step(&stage.store, None, 100).await.jobs, 100);

    let (deactivated, deleted) = (mine[10], mine[20]);
    let off = SubscriberChange { active: Some(false), ..SubscriberChange::default() };
    stage.store.change_subscriber(&stage.tenant, deactivated, off).await.unwrap().unwrap();
    assert!(stage.store.delete_subscriber(&stage.tenant, deleted).await.unwrap());
    let new = stage.subscribe(&["*"]).await;
    let last = step(&stage.store, None, 100).await;
    assert_eq!((last.jobs, last.complete), (49, true));

    let of = async |id: SubscriberId| {
        let id = id.uuid().simple();
        let id = match stage.store.database().dialect() {
            Dialect::Postgres => format!("'{id}'::uuid"),
            Dialect::Sqlite => format!("x'{id}'"),
        };
        stage.count(&format!("SELECT count(*) FROM deliveries WHERE subscriber_id = {id}")).await
    };
    assert_eq!((of(inactive).await, of(new).await, of(deleted).await, of(mine[30]).await), (0, 0, 0, 1));
    // Its delivery exists, and ends without a request.
    assert_eq!(of(deactivated).await, 1);
    while stage.store.drain(None, 100).await.unwrap().is_some() {}
    let cancelled = stage.count("SELECT count(*) FROM deliveries WHERE status = 3").await;
    assert_eq!(cancelled, 1);
    let event = stored(stage, &stage.tenant, answer.id).await;
    assert_eq!((event.subscribers_found, event.jobs_created, event.continues), (150, 149, false));
}

async fn tenants_take_turns(stage: &Stage) {
    let (acme, globex): (TenantId, TenantId) = ("acme".parse().unwrap(), "globex".parse().unwrap());
    let dispatcher = stage.dispatcher();
    let mut events = Vec::new();
    for (tenant, subscribers, count) in [(&acme, 400, 3), (&globex, 200, 1)] {
        stage.crowd(tenant, &["*"], subscribers).await;
        for _ in 0..count {
            let event = NewEvent { tenant: tenant.clone(), ..created() };
            events.push(promise(stage, &dispatcher, event).await.id);
        }
    }
    let (mut last, mut turns) = (None, Vec::new());
    loop {
        match stage.store.fan_out(last.as_ref(), 100, &Everyone).await.unwrap() {
            FannedOut::Nothing => break,
            FannedOut::Busy => panic!("there is no other process"),
            FannedOut::Step(step) => {
                turns.push((step.tenant.to_string(), step.event, step.complete));
                last = Some(step.tenant);
            }
        }
    }
    let of_globex = turns.iter().position(|(tenant, _, complete)| tenant == "globex" && *complete);
    assert!(of_globex.is_some_and(|place| place < 6), "{turns:?}");
    // The events of one tenant take turns, too.
    let first: Vec<_> =
        turns.iter().filter(|(tenant, ..)| tenant == "acme").map(|(_, event, _)| *event).collect();
    assert_eq!(first[..3], events[..3], "{turns:?}");
    assert_eq!(stage.rows_of("deliveries").await, 3 * 400 + 200);
}

/// While an event to many subscribers is stored without its deliveries, others are stored with theirs.
async fn an_event_with_few_subscribers_overtakes(stage: &Stage) {
    let small: TenantId = "small".parse().unwrap();
    stage.subscribe_for(&small, &["*"], true).await;
    stage.crowd(&stage.tenant, &["*"], 5_000).await;
    let dispatcher = stage.dispatcher();
    let wide = dispatcher.dispatch(created()).await.unwrap();
    let mut overtook = 0;
    while stored(stage, &stage.tenant, wide.id).await.continues {
        let event = NewEvent { tenant: small.clone(), ..created() };
        let answer = dispatcher.dispatch(event).await.unwrap();
        assert_eq!((answer.jobs.len(), answer.fan_out), (1, FanOut::Complete));
        overtook += 1;
    }
    println!("{overtook} events overtook");
    assert!(overtook > 3);
    assert_eq!(stage.rows_of("deliveries").await, 5_000 + overtook);
}

async fn many_events_to_many_subscribers_are_answered_quickly(stage: &Stage) {
    batch(stage, 300, 150).await;
}

/// `cargo test … -- --ignored a_thousand_events` on a release build; run it alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a million deliveries"]
async fn a_thousand_events_to_a_thousand_subscribers() {
    let stage = Stage::of(postrider_testkit::TestDatabase::postgres().await).await;
    batch(&stage, 1000, 1000).await;
}

async fn batch(stage: &Stage, events: usize, subscribers: usize) {
    stage.crowd(&stage.tenant, &["*"], subscribers).await;
    let started = Instant::now();
    let dispatcher = stage.dispatcher();
    let results = dispatcher.dispatch_batch((0..events).map(|_| created()).collect()).await;
    println!("{events} events were stored in {:?}", started.elapsed());
    assert_eq!(results.len(), events);
    for answer in results {
        let answer = answer.unwrap();
        assert_eq!((answer.subscribers_found, answer.fan_out), (subscribers, FanOut::Continuing));
    }
    assert!(started.elapsed() < Duration::from_secs(15));
    eventually(10 * DEADLINE, || async { (stage.rows_of("fan_outs").await == 0).then_some(()) }).await;
    println!("{} deliveries were made in {:?}", events * subscribers, started.elapsed());
    once_each(stage, events, subscribers).await;
}

async fn many_deliveries_are_written_in_several_statements(stage: &Stage) {
    stage.crowd(&stage.tenant, &["*"], 90).await;
    let dispatcher = stage.dispatcher();
    let results = dispatcher.dispatch_batch((0..120).map(|_| created()).collect()).await;
    assert!(results.iter().all(|result| result.as_ref().is_ok_and(|one| one.jobs.len() == 90)));
    once_each(stage, 120, 90).await;
}

async fn an_application_s_transaction_promises_the_deliveries(stage: &Stage) {
    stage.crowd(&stage.tenant, &["*"], 120).await;
    let dispatcher = stage.dispatcher();
    let before = stage.counts().await;
    let transaction = stage.database.connection().begin().await.unwrap();
    let undone = dispatcher.dispatch_in(&transaction, created()).await.unwrap();
    assert_eq!((undone.subscribers_found, undone.fan_out), (120, FanOut::Continuing));
    transaction.rollback().await.unwrap();
    assert_eq!(stage.counts().await, before);

    let answer = promise(stage, &dispatcher, created()).await;
    assert_eq!(stage.store.open_fan_outs().await.unwrap().count, 1);
    let long = Duration::from_hours(1);
    assert!(!stage.store.fan_outs_wait(long).await.unwrap());
    stage.database.advance(2 * long).await;
    assert!(stage.store.fan_outs_wait(long).await.unwrap());
    assert!(stage.store.open_fan_outs().await.unwrap().oldest > long);
    dispatcher.wake();
    complete(stage, answer.id).await;
    once_each(stage, 1, 120).await;
    assert_eq!(stage.store.open_fan_outs().await.unwrap().count, 0);
}
