//! The suite notices what an implementer may get wrong: each flaw fails the rule named with it.

use postrider_queue::conformance;

use crate::memory::{Flaw, InMemory};

macro_rules! flaws {
    ($($flaw:ident breaks $rule:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[allow(non_snake_case)]
        async fn $flaw() {
            let judged = tokio::spawn(async {
                conformance::$rule(&InMemory::flawed(Flaw::$flaw)).await;
            });
            let noticed = judged.await.is_err_and(|error| error.is_panic());
            assert!(noticed, "a queue with this flaw passes the rule `{}`", stringify!($rule));
        }
    )*};
}

flaws! {
    FinishIgnoresTheToken breaks an_expired_lease_is_rescued_and_fenced;
    ExtendIgnoresTheToken breaks an_extended_lease_is_not_rescued;
    NoLaneCap breaks a_lane_never_runs_more_than_it_allows;
    NewestFirst breaks a_lane_keeps_its_order;
    RetriesFirst breaks what_is_tried_again_comes_after_what_is_new;
    PromotesEarly breaks a_delay_is_waited_for_to_its_end;
    RescuesLiveLeases breaks an_extended_lease_is_not_rescued;
    RescueForgetsTheLane breaks a_lane_counts_what_it_runs_through_rescue_and_fencing;
    RescuesForEver breaks a_job_rescued_too_often_is_handed_over;
    ReleaseGoesToTheBack breaks a_released_job_comes_back_as_it_was;
    BuriedStays breaks what_is_done_or_buried_is_gone;
    FinishForgetsTheLane breaks a_lane_never_runs_more_than_it_allows;
    OneLaneTakesAll breaks lanes_take_fair_turns;
    ForgetsToRing breaks a_wakeup_between_claiming_and_waiting_is_not_missed;
    LosesEveryThousandth breaks a_hundred_thousand_jobs_are_each_done_once;
    HalfABatch breaks a_batch_is_enqueued_whole_or_not_at_all;
    StopsAtPausedLanes breaks paused_lanes_hide_no_others;
}
