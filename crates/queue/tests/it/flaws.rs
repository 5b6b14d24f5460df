//! The suite detects likely mistakes of an implementation: each flaw fails the rule named with it.

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
    RetriesFirst breaks retries_come_after_first_tries;
    PromotesEarly breaks a_delayed_job_is_never_early;
    RescuesLiveLeases breaks an_extended_lease_is_not_rescued;
    RescueForgetsTheLane breaks a_lane_counts_running_jobs_through_rescue_and_fencing;
    RescuesForEver breaks an_exhausted_job_is_leased_to_its_rescuer;
    ReleaseGoesToTheBack breaks a_released_job_returns_as_it_was;
    BuriedStays breaks a_done_or_buried_job_is_removed;
    FinishForgetsTheLane breaks a_lane_never_runs_more_than_it_allows;
    OneLaneTakesAll breaks lanes_take_fair_turns;
    ForgetsOwners breaks owners_take_fair_turns;
    ForgetsToRing breaks a_wakeup_between_claiming_and_waiting_is_not_missed;
    LosesEveryThousandth breaks a_hundred_thousand_jobs_are_each_done_once;
    StopsAtPausedLanes breaks paused_lanes_do_not_hide_open_ones;
    KeepsTheDebtOfTheOldRate breaks a_changed_rate_holds_at_once;
    ChangesGiveABurst breaks a_changed_rate_gives_no_second_burst;
    ResumingEndsHolds breaks a_held_lane_gives_nothing_until_it_is_released;
    OneReleaseEndsAllHolds breaks a_lane_that_is_held_twice_is_released_twice;
    ListsLanesOfAllOwners breaks lanes_are_listed_by_depth_and_by_age;
    RepeatsPages breaks every_lane_is_listed_once;
    ForgetsWhyItIsClosed breaks a_listed_lane_says_why_it_is_closed;
    NeverForgetsWorkers breaks workers_are_listed_until_they_check_out;
}
