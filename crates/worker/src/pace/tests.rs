//! The protocol in tokio's paused time, in which only waits take time.

use super::*;

const POLL: Duration = Duration::from_secs(1);
const NOTHING: Found = Found { jobs: 0, more: false, lanes_full: false, opens_in: None };

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A worker with a full lane.
fn full() -> Signals {
    let signals = Signals::default();
    ClaimPace::new().claimed(&signals, Instant::now(), Found { lanes_full: true, ..NOTHING });
    signals
}

/// How long the claimer waits after a claim.
async fn waited(
    pace: &ClaimPace,
    signals: &Signals,
    next: Next,
    woken: impl Future<Output = ()>,
) -> Duration {
    let began = Instant::now();
    pace.wait(signals, next, woken, POLL).await;
    began.elapsed()
}

async fn never() {
    std::future::pending::<()>().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_claimer_waits_for_the_poll_interval_or_the_next_opening() {
    let (signals, mut pace) = (Signals::default(), ClaimPace::new());
    let next = pace.claimed(&signals, Instant::now(), NOTHING);
    assert_eq!(waited(&pace, &signals, next, never()).await, POLL);
    let next = pace.claimed(&signals, Instant::now(), Found { opens_in: Some(ms(300)), ..NOTHING });
    assert_eq!(waited(&pace, &signals, next, never()).await, ms(300));
    let next = pace.claimed(&signals, Instant::now(), Found { opens_in: Some(2 * POLL), ..NOTHING });
    assert_eq!(waited(&pace, &signals, next, never()).await, POLL);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_left_ready_jobs_is_followed_by_the_next_at_once() {
    let (signals, mut pace) = (Signals::default(), ClaimPace::new());
    let next = pace.claimed(&signals, Instant::now(), Found { jobs: 9, more: true, ..NOTHING });
    assert_eq!(next, Next::ClaimAgain);
    assert_eq!(waited(&pace, &signals, next, never()).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_is_answered_after_a_rest_that_doubles_with_each_empty_claim() {
    let (signals, mut pace) = (Signals::default(), ClaimPace::new());
    for rest in [0, 1, 2, 4, 8, 8] {
        let next = pace.claimed(&signals, Instant::now(), NOTHING);
        assert_eq!(waited(&pace, &signals, next, async {}).await, ms(rest));
    }
    let next = pace.claimed(&signals, Instant::now(), Found { jobs: 1, ..NOTHING });
    assert_eq!(waited(&pace, &signals, next, async {}).await, Duration::ZERO, "found jobs end the rest");
}

#[tokio::test(start_paused = true)]
async fn locked_jobs_are_claimed_after_a_rest_or_when_jobs_finish() {
    let (signals, mut pace) = (Signals::default(), ClaimPace::new());
    for rest in [1, 1, 2, 4, 8, 8] {
        let next = pace.claimed(&signals, Instant::now(), Found { more: true, ..NOTHING });
        assert_eq!(next, Next::Contended);
        assert_eq!(waited(&pace, &signals, next, never()).await, ms(rest));
    }
    signals.jobs_finished(false);
    assert_eq!(waited(&pace, &signals, Next::Contended, never()).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn finished_jobs_end_a_wait_only_if_lanes_are_full() {
    let (signals, mut pace) = (Signals::default(), ClaimPace::new());
    let found = Found { jobs: 1, ..NOTHING };
    signals.jobs_finished(false);
    let next = pace.claimed(&signals, Instant::now(), found);
    assert_eq!(waited(&pace, &signals, next, never()).await, POLL);
    let next = pace.claimed(&signals, Instant::now(), Found { lanes_full: true, ..found });
    assert_eq!(waited(&pace, &signals, next, never()).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn after_a_claim_of_several_jobs_finished_ones_wait_for_the_claim_interval() {
    let (signals, mut pace) = (Signals::default(), ClaimPace::new());
    for (jobs, wait) in [(SEVERAL - 1, Duration::ZERO), (SEVERAL, CLAIM_INTERVAL)] {
        signals.jobs_finished(false);
        let next = pace.claimed(&signals, Instant::now(), Found { jobs, lanes_full: true, ..NOTHING });
        assert_eq!(waited(&pace, &signals, next, never()).await, wait, "{jobs} jobs");
    }
    signals.jobs_finished(false);
    let next = pace.claimed(&signals, Instant::now(), Found { jobs: SEVERAL, lanes_full: true, ..NOTHING });
    let finish = async {
        sleep(ms(3)).await;
        signals.jobs_finished(true);
    };
    let (waited, ()) = tokio::join!(waited(&pace, &signals, next, never()), finish);
    assert_eq!(waited, ms(3), "nothing else is in flight");
}

#[tokio::test(start_paused = true)]
async fn the_earliest_due_time_ends_a_wait() {
    let (signals, mut pace) = (Signals::default(), ClaimPace::new());
    let next = pace.claimed(&signals, Instant::now(), NOTHING);
    signals.job_due_in(ms(500));
    signals.job_due_in(ms(200));
    signals.job_due_in(ms(700));
    assert!(!signals.take_if_due());
    assert_eq!(waited(&pace, &signals, next, never()).await, ms(200));
    assert!(signals.take_if_due(), "the due time is reached");
    assert!(!signals.take_if_due(), "and forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_due_time_that_is_learnt_during_a_wait_ends_it() {
    let (signals, pace) = (Signals::default(), ClaimPace::new());
    signals.job_due_in(ms(900));
    let next = Next::Idle { lanes_full: false, opens_in: None };
    let learn = async {
        sleep(ms(100)).await;
        signals.job_due_in(ms(50));
    };
    let (waited, ()) = tokio::join!(waited(&pace, &signals, next, never()), learn);
    assert_eq!(waited, ms(150));
}

#[tokio::test(start_paused = true)]
async fn a_large_batch_is_recorded_at_once() {
    let (signals, pace) = (Signals::default(), RecordPace::new());
    assert_eq!(pace.gather_until(&signals, SMALL_BATCH, BATCH), None);
    assert_eq!(pace.gather_until(&full(), SMALL_BATCH, BATCH), None);
}

#[tokio::test(start_paused = true)]
async fn a_small_batch_waits_for_the_record_interval_while_no_lane_is_full() {
    let (signals, mut pace) = (Signals::default(), RecordPace::new());
    sleep(ms(3)).await;
    let until = pace.gather_until(&signals, 1, 1).unwrap();
    assert_eq!(until - Instant::now(), ms(7), "since the last batch");
    pace.recording();
    let until = pace.gather_until(&signals, SMALL_BATCH - 1, 500).unwrap();
    assert_eq!(until - Instant::now(), RECORD_INTERVAL);
    sleep(ms(11)).await;
    assert!(pace.gather_until(&signals, 1, 1).unwrap() < Instant::now(), "a single outcome is not delayed");
}

#[tokio::test(start_paused = true)]
async fn a_small_batch_waits_for_other_requests_while_lanes_are_full() {
    let (signals, pace) = (full(), RecordPace::new());
    sleep(ms(1)).await;
    let until = pace.gather_until(&signals, 2, 3).unwrap();
    assert_eq!(until - Instant::now(), GATHER_OUTCOMES);
    assert!(pace.gather_until(&signals, 3, 3).unwrap() < Instant::now(), "no other request is in flight");
}

#[tokio::test(start_paused = true)]
async fn the_claimer_waits_for_more_slots_if_few_are_free() {
    let slots = Arc::new(Semaphore::new(16));
    let began = Instant::now();
    assert_eq!(free_slots(&slots, 16).await, 16);
    assert!(began.elapsed().is_zero());

    let _taken = slots.acquire_many(15).await.unwrap();
    assert_eq!(free_slots(&slots, 16).await, 1);
    assert_eq!(began.elapsed(), GATHER_SLOTS);

    let last = slots.acquire().await.unwrap();
    let release = async {
        sleep(ms(100)).await;
        drop(last);
    };
    let (free, ()) = tokio::join!(free_slots(&slots, 16), release);
    assert_eq!(free, 1);
    assert_eq!(began.elapsed(), GATHER_SLOTS + ms(100) + GATHER_SLOTS);
}

#[test]
fn a_backoff_doubles_up_to_its_longest_and_starts_again_after_a_success() {
    let mut backoff = Backoff::for_records();
    assert!(backoff.is_first());
    let waits: Vec<_> = (0..8).map(|_| backoff.next().as_millis()).collect();
    assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
    assert!(!backoff.is_first());
    backoff.reset();
    assert!(backoff.is_first());
    assert_eq!(backoff.next(), ms(50));
    assert_eq!(Backoff::for_claims().next(), ms(100));
}
