//! One subscriber at full speed on a new database: no warm-up, and plans made for empty tables.

use super::{
    Arc, Arrivals, CONNECTIONS, Deployment, Goal, Manner, Receiver, Report, a_second, load, settled, wide,
    wide_worker,
};
use crate::load::Sent;

const BENCH: &str = "cold";
const SECOND: u32 = 1_000_000;

pub(crate) async fn run(report: &mut Report, events: u32) {
    let events = events as usize;
    let run = Arc::new(Arrivals::new(1, events));
    let receiver = Receiver::start(&run).await;
    let deployment = Deployment::start(wide_worker(1)).await;
    deployment.subscribe(&receiver.url(Manner::Healthy, 0), wide()).await;
    let from = run.now();
    let target = deployment.target("/v1/events");
    let sent = load::closed(&target, &run, CONNECTIONS, events, load::event).await;
    run.wait_for(events as u64).await;
    let took = run.took_since(from);
    settled(report, BENCH, &deployment, &run, events).await;
    report.must(sent.refused == 0, format!("{BENCH}: {} requests were refused", sent.refused));
    report.add(BENCH, "events acknowledged and delivered", a_second(events, took), "events/s");

    let tenths = per(&run, &sent, from, SECOND / 10);
    eprintln!("bench: {BENCH}: deliveries in each tenth of the first second: {:?}", &tenths[..10]);
    let mut seconds = per(&run, &sent, from, SECOND);
    let first = seconds.remove(0);
    seconds.sort_unstable();
    let [first, steady] = [first, seconds[seconds.len() / 2]].map(f64::from);
    report.add(BENCH, "deliveries in the first second", first, "");
    report.add(BENCH, "deliveries in a second, median of the others", steady, "");
    let share = first / steady.max(1.0) * 100.0;
    report.with_goal(BENCH, "first second, relative to the others", share, "%", Goal::AtLeast(80.0));
}

/// How many deliveries arrived in each span of this many microseconds, while events were sent.
fn per(run: &Arrivals, sent: &Sent, from: u32, span: u32) -> Vec<u32> {
    let seconds = u32::try_from(sent.took.as_secs()).unwrap_or(0).max(2);
    let mut counts = vec![0_u32; (seconds * SECOND / span) as usize];
    for event in 0..sent.due.len() {
        let place = run.at(0, event).map(|at| at.saturating_sub(from) / span);
        if let Some(count) = place.and_then(|place| counts.get_mut(place as usize)) {
            *count += 1;
        }
    }
    counts
}
