//! The response of one viewer.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Extensions, HeaderMap, StatusCode};
use bytes::Bytes;
use futures_util::stream;
use postrider_api::tail::LeftOutReason;
use postrider_core::chain;
use postrider_core::id::TailPlaceId;
use postrider_core::key::Scope;
use postrider_telemetry::metric;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::NEEDS;
use super::backlog::Backlog;
use super::item::{self, end, left_out};
use crate::auth;
use crate::caller::Caller;
use crate::state::ApiState;
use crate::viewers::{Filter, Joined, pace};

/// How often a viewer learns how many rows are missing.
const TELL_EACH: Duration = Duration::from_secs(1);

/// Each so many times its key is checked.
const CHECK_EACH: u32 = 2;

/// After how long without a row a comment is sent.
const QUIET: Duration = Duration::from_secs(15);

/// What begins the stream: something, so that proxies pass it on, and how long to wait before connecting again.
const BEGINNING: Bytes = Bytes::from_static(b": connected\nretry: 1000\n\n");
const KEEP_ALIVE: Bytes = Bytes::from_static(b":\n\n");

/// A viewer that is about to be answered.
pub(super) struct Follower {
    pub(super) state: ApiState,
    pub(super) caller: Caller,
    pub(super) headers: HeaderMap,
    pub(super) extensions: Extensions,
    pub(super) filter: Filter,
    /// The last row that it has seen.
    pub(super) last: Option<TailPlaceId>,
    pub(super) viewer: Joined,
}

struct Following {
    follower: Follower,
    backlog: Backlog,
    phase: Phase,
    ticks: Interval,
    ticked: u32,
    sent_at: Instant,
    /// When the next row of the backlog may be sent.
    next_at: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Beginning,
    Resuming,
    Following,
    Ended,
}

impl Follower {
    pub(super) fn into_body(self) -> Body {
        let mut ticks = interval(TELL_EACH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let now = Instant::now();
        let following = Following {
            follower: self,
            backlog: Backlog::default(),
            phase: Phase::Beginning,
            ticks,
            ticked: 0,
            sent_at: now,
            next_at: now,
        };
        Body::from_stream(stream::unfold(following, |mut following| async move {
            let frame = following.next().await?;
            following.sent_at = Instant::now();
            Some((Ok::<_, Infallible>(frame), following))
        }))
    }
}

impl Following {
    /// The next part of the response; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        match self.phase {
            Phase::Beginning => {
                self.phase = Phase::Resuming;
                return Some(BEGINNING);
            }
            Phase::Resuming => {
                self.phase = Phase::Following;
                if let Some(last) = self.follower.last {
                    self.resume(last).await;
                }
            }
            Phase::Following => {}
            Phase::Ended => return None,
        }
        loop {
            let Joined { items, closing, shows_payloads, .. } = &mut self.follower.viewer;
            let has_backlog = !self.backlog.rows.is_empty();
            tokio::select! {
                biased;
                // An error: the server is gone.
                () = async { drop(closing.wait_for(|closing| *closing).await) } => {
                    return Some(self.end("shutdown"));
                }
                _ = self.ticks.tick() => {
                    if let Some(frame) = self.tick().await {
                        return Some(frame);
                    }
                }
                () = sleep_until(self.next_at), if has_backlog => {
                    self.next_at = Instant::now() + pace();
                    if let Some(frame) = self.next_of_backlog().await {
                        return Some(frame);
                    }
                }
                item = items.recv(), if !has_backlog => {
                    let Some(item) = item else { return Some(self.end("shutdown")) };
                    if !self.backlog.ids.contains(&item.id) {
                        metrics::counter!(metric::TAIL_ROWS, metric::RESULT => "sent").increment(1);
                        return Some(item.frame(*shows_payloads));
                    }
                }
            }
        }
    }

    fn end(&mut self, reason: &str) -> Bytes {
        self.phase = Phase::Ended;
        end(reason)
    }

    /// Reads what the viewer has missed.
    async fn resume(&mut self, last: TailPlaceId) {
        let Follower { state, caller, filter, viewer, .. } = &self.follower;
        let reading = Backlog::read(&state.store, &caller.tenant, filter, last);
        let missing = &viewer.viewer.missing;
        match state.store.database().answered(reading).await {
            Ok(backlog) => {
                missing.gap.fetch_or(backlog.gap, Ordering::Relaxed);
                missing.overload.fetch_or(backlog.overload, Ordering::Relaxed);
                missing.rows.fetch_add(backlog.left_out, Ordering::Relaxed);
                self.backlog = backlog;
            }
            Err(error) => {
                tracing::debug!(error = %chain(&error), "a viewer could not be resumed");
                missing.gap.store(true, Ordering::Relaxed);
            }
        }
    }

    async fn next_of_backlog(&mut self) -> Option<Bytes> {
        let row = self.backlog.rows.pop_front()?;
        let Follower { state, caller, viewer, .. } = &self.follower;
        let reading = item::read(&state.store, &caller.tenant, &row);
        let Ok(item) = state.store.database().answered(reading).await else {
            viewer.viewer.leave_out(1);
            return None;
        };
        let frame = item?.frame(viewer.shows_payloads);
        metrics::counter!(metric::TAIL_ROWS, metric::RESULT => "sent").increment(1);
        Some(frame)
    }

    /// Checks the key, and tells the viewer what is missing.
    async fn tick(&mut self) -> Option<Bytes> {
        self.ticked = self.ticked.wrapping_add(1);
        if self.ticked.is_multiple_of(CHECK_EACH) && !self.may_go_on().await {
            return Some(self.end("key"));
        }
        let missing = &self.follower.viewer.viewer.missing;
        if missing.gap.swap(false, Ordering::Relaxed) {
            return Some(left_out(None, LeftOutReason::Gap));
        }
        if missing.overload.swap(false, Ordering::Relaxed) {
            return Some(left_out(None, LeftOutReason::Overload));
        }
        let rows = missing.rows.swap(0, Ordering::Relaxed);
        if rows > 0 {
            metrics::counter!(metric::TAIL_ROWS, metric::RESULT => "left_out").increment(rows);
            return Some(left_out(Some(rows), LeftOutReason::Rate));
        }
        (self.sent_at.elapsed() >= QUIET).then_some(KEEP_ALIVE)
    }

    /// Whether the key still allows what the viewer sees.
    async fn may_go_on(&mut self) -> bool {
        let Follower { state, headers, extensions, caller, filter, viewer, .. } = &mut self.follower;
        let actor = match auth::actor(state, headers, extensions).await {
            Ok(actor) => actor,
            // Nobody knows while the database is unavailable, and there is nothing to see then.
            Err(problem) => return problem.status() == StatusCode::SERVICE_UNAVAILABLE,
        };
        let Ok(now) = auth::caller(actor, Some(NEEDS), headers) else { return false };
        let reaches = match filter.subscriber {
            Some(subscriber) => now.reaches(subscriber),
            None => now.subscribers().is_none(),
        };
        viewer.shows_payloads = now.may(Scope::PayloadsRead);
        now.tenant == caller.tenant && reaches
    }
}
