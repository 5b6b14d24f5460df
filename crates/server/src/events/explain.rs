//! Explaining which subscribers got an event, and why others did not.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use postrider_api::explain::{ExplainList, ExplainQuery, ExplainReason, Explained, ExplainedView};
use postrider_api::simulate::MatchReason;
use postrider_core::key::Scope;
use postrider_core::{DeliveryId, Expression, SubscriberId, id};
use postrider_filter::Subject;
use postrider_store::Page;
use postrider_store::events::Event;
use postrider_store::explain::{Matching, MatchingThen};
use postrider_store::subscribers::Subscriber;

use crate::caller::Caller;
use crate::extract::{Parameters, PathId};
use crate::matching::{Criteria, TEST_EVENT, filtered, subject};
use crate::named;
use crate::page;
use crate::problem::Problem;
use crate::state::ApiState;

/// Explain an event
///
/// For each subscriber of the tenant, newest first, or for one of them: whether the event matched it, and if not, why. The answer
/// describes the subscriber as it was when the event was dispatched (`"as_of": "event"`). Where no version of the subscriber is
/// kept from then, it describes the present (`"as_of": "now"`): the last 50 changes of what a subscriber receives are kept, for
/// as long as events are, and none from before the release that began to keep them. Subscribers that were deleted are left out.
///
/// A subscriber that has a delivery of the event is `matched`. A filter is asked again, unless the payload is gone: then
/// `filter` is the reason for a subscriber that matches otherwise and has no delivery. A filter of the present is asked only
/// for a key with the scope `payloads:read`. A key that is limited to some subscribers names one of them.
#[utoipa::path(
    get, path = "/v1/events/{id}/explain", operation_id = "explain_event", tag = "events",
    params(("id" = String, Path, description = "The event's id, `evt_…`."), ExplainQuery),
    responses((status = 200, description = "A page of subscribers.", body = ExplainList))
)]
pub(super) async fn explain(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<id::Event>,
    Parameters(query): Parameters<ExplainQuery>,
) -> Result<Json<ExplainList>, Problem> {
    let found = state.store.event(&caller.tenant, id).await?;
    let event = found.ok_or_else(|| Problem::missing("event"))?;
    let subscribers = match named::filtered(&state.store, &caller, query.subscriber_id).await? {
        None => {
            let page = page::request(query.limit, query.cursor);
            state.store.subscribers(&caller.tenant, page).await?
        }
        Some(one) => {
            let found = state.store.subscriber(&caller.tenant, one).await?;
            Page { items: found.into_iter().collect(), next: None }
        }
    };
    let ids: Vec<SubscriberId> = subscribers.items.iter().map(|subscriber| subscriber.id).collect();
    let deliveries = state.store.deliveries_to(&caller.tenant, id, &ids).await?;
    let then = state.store.matching_then(&subscribers.items, event.dispatched_at).await?;
    let explaining = Explaining { event, then, deliveries, may_ask_now: caller.may(Scope::PayloadsRead) };
    let results = explaining.ask_filters(&state, &caller, &subscribers.items).await?;
    let shown = |subscriber: Subscriber| explaining.explained(&subscriber, &results);
    Ok(Json(page::list(subscribers, shown)))
}

/// What is known of an event and of some subscribers.
struct Explaining {
    event: Event,
    then: HashMap<SubscriberId, MatchingThen>,
    deliveries: HashMap<SubscriberId, DeliveryId>,
    /// Whether filters of the present may be asked about the payload.
    may_ask_now: bool,
}

impl Explaining {
    fn explained(
        &self,
        subscriber: &Subscriber,
        results: &HashMap<SubscriberId, Option<bool>>,
    ) -> ExplainedView {
        let delivery = self.deliveries.get(&subscriber.id).copied();
        let then = self.then.get(&subscriber.id);
        // What a delivery proves is about the time of the event.
        let certain = delivery.is_some() || self.is_test() || self.precedes(subscriber);
        let as_of = if certain || then.is_none_or(|then| then.is_of_then) {
            Explained::Event
        } else {
            Explained::Now
        };
        let reason = if delivery.is_some() {
            ExplainReason::Matched
        } else if self.is_test() {
            ExplainReason::NotAsked
        } else if self.precedes(subscriber) {
            ExplainReason::CreatedLater
        } else {
            self.reason(subscriber.id, then.map(|then| &then.matching), results)
        };
        ExplainedView {
            subscriber_id: subscriber.id,
            url: subscriber.url.as_str().to_owned(),
            matched: reason == ExplainReason::Matched,
            reason,
            as_of,
            delivery_id: delivery,
        }
    }

    /// Why a subscriber without a delivery did not get the event, if it existed.
    fn reason(
        &self,
        subscriber: SubscriberId,
        matching: Option<&Matching>,
        results: &HashMap<SubscriberId, Option<bool>>,
    ) -> ExplainReason {
        let Some(matching) = matching else { return ExplainReason::Inactive };
        match self.before_filters(matching) {
            MatchReason::Inactive => ExplainReason::Inactive,
            MatchReason::Pattern => ExplainReason::Pattern,
            MatchReason::Channel => ExplainReason::Channel,
            MatchReason::Filter => ExplainReason::Filter,
            MatchReason::Matched if matching.filter.is_none() => ExplainReason::Matched,
            // Nothing else is left that could have kept the event from it.
            MatchReason::Matched => match results.get(&subscriber) {
                Some(Some(false)) | None => ExplainReason::Filter,
                Some(_) => ExplainReason::Matched,
            },
        }
    }

    /// Asks the filters that decide. Those that cannot be asked are missing from the result.
    async fn ask_filters(
        &self,
        state: &ApiState,
        caller: &Caller,
        subscribers: &[Subscriber],
    ) -> Result<HashMap<SubscriberId, Option<bool>>, Problem> {
        let filters: Vec<_> = subscribers.iter().filter_map(|subscriber| self.deciding(subscriber)).collect();
        if filters.is_empty() || self.event.payload_gone.is_some() {
            return Ok(HashMap::new());
        }
        let (id, channels) = (self.event.id, self.event.channels.clone());
        let _room = state.memory.room_while_running(2 * self.event.envelope_size).await?;
        let envelope = state.store.envelopes(&[(caller.tenant.clone(), id)]).await?.remove(&id);
        // It went between the two reads.
        let Some(envelope) = envelope else { return Ok(HashMap::new()) };
        let ask = move || {
            let subject: Result<Subject, String> = subject(id, channels.as_ref(), &envelope);
            let results = filters.into_iter().map(|(id, filter)| (id, filtered(&filter, &subject).result));
            results.collect()
        };
        tokio::task::spawn_blocking(ask).await.map_err(|_| Problem::internal())
    }

    /// The filter of a subscriber, if it decides whether it got the event and may be asked.
    fn deciding(&self, subscriber: &Subscriber) -> Option<(SubscriberId, Expression)> {
        let MatchingThen { matching, is_of_then } = self.then.get(&subscriber.id)?;
        let filter = matching.filter.clone()?;
        let decides = !self.deliveries.contains_key(&subscriber.id)
            && !self.is_test()
            && !self.precedes(subscriber)
            && self.before_filters(matching) == MatchReason::Matched;
        (decides && (*is_of_then || self.may_ask_now)).then_some((subscriber.id, filter))
    }

    fn before_filters(&self, Matching { active, events, channels, .. }: &Matching) -> MatchReason {
        let criteria = Criteria { active: *active, events, channels: channels.as_ref() };
        criteria.reason(&self.event.event_type, self.event.channels.as_ref())
    }

    /// Whether it went to one subscriber, whatever the others match.
    fn is_test(&self) -> bool {
        self.event.event_type.as_str() == TEST_EVENT
    }

    fn precedes(&self, subscriber: &Subscriber) -> bool {
        self.event.dispatched_at < subscriber.created_at
    }
}
