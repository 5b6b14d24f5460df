//! Simulating deliveries: what a subscriber would be sent, and why, without a request or a row.
//!
//! | file | what it holds |
//! |---|---|
//! | `everyone` | what becomes of an event at each subscriber |
//! | `timetable` | when attempts are made, in virtual time |

mod everyone;
mod timetable;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use bytes::Bytes;
use postrider_api::attempt::HeaderView;
use postrider_api::event::EventRequest;
use postrider_api::simulate::{
    FilterResultView, MatchReason, SimulateRequest, SimulatedRequestView, SimulationList, SimulationView,
    TransformResultView,
};
use postrider_core::format::Format;
use postrider_core::key::Scope;
use postrider_core::plugin::SelectedPlugin;
use postrider_core::script::Script;
use postrider_core::signing::{Signer, sha256};
use postrider_core::{
    AgentId, Channels, CustomHeaders, Envelope, EventId, EventPattern, EventType, Expression, Policy, Random,
    Secret, SubscriberId, SubscriberRef, TargetUrl, Transform, chain,
};
use postrider_delivery::{Encoded, Webhook};
use postrider_shape::{Event, ShapeError, Shaped, Wanted};
use postrider_store::deliveries::DeliveryFilter;
use postrider_store::subscribers::{Subscriber, SubscriberState};
use postrider_store::{PageRequest, Store};

use self::timetable::timetable;
use super::request;
use crate::audit::Audited;
use crate::caller::Caller;
use crate::events::validated;
use crate::extract::JsonBody;
use crate::matching::{Criteria, filtered, subject};
use crate::named::resolve;
use crate::problem::{Errors, Problem};
use crate::sandboxes::script_of;
use crate::state::ApiState;

/// How many of a subscriber's latest events are simulated.
const LATEST: u16 = 5;

/// What replaces a value that the caller must not see.
const MASK: &str = "***";

/// An event, as far as a delivery shows it.
struct Simulated {
    id: EventId,
    event_type: EventType,
    agent_id: AgentId,
    channels: Option<Channels>,
    envelope: Bytes,
}

/// A subscriber, as far as a delivery depends on it.
struct Recipient {
    id: Option<SubscriberId>,
    url: TargetUrl,
    events: Vec<EventPattern>,
    channels: Option<Channels>,
    active: bool,
    policy: Policy,
    format: Format,
    filter: Option<Expression>,
    transform: Option<Transform>,
    plugin: Option<SelectedPlugin>,
    signer: Signer,
    shows_signatures: bool,
    own_headers: Vec<String>,
}

/// Simulate a delivery
///
/// Answers which events the subscriber would receive and why, the exact request, and when attempts would follow. Nothing is sent,
/// resolved or stored. Without `event` and `event_id`, the latest five events that the subscriber received are simulated. With an
/// event alone, the answer shows what would become of it at each subscriber, without signatures. With `script`, attempts and their
/// times are those at a receiver that answers so.
#[utoipa::path(
    post, path = "/v1/simulate", operation_id = "simulate", tag = "subscribers", request_body = SimulateRequest,
    responses(
        (status = 200, description = "What would become of each event.", body = SimulationList),
        (
            status = 404, description = "There is no such subscriber or event.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
pub(super) async fn simulate(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    body: JsonBody,
) -> Result<Json<SimulationList>, Problem> {
    let request: SimulateRequest = body.parse()?;
    let mut errors = Errors::default();
    let named =
        request.subscriber_id.map(|text| errors.check("subscriber_id", text.parse::<SubscriberRef>()));
    let has_event = request.event.is_some() || request.event_id.is_some();
    let names_none = named.is_none() && request.subscriber.is_none();
    if named.is_some() && request.subscriber.is_some() || names_none && !has_event {
        errors.add("subscriber_id", "give `subscriber_id` or `subscriber`, or an event alone");
    }
    if request.event.is_some() && request.event_id.is_some() {
        errors.add("event_id", "give `event` or `event_id`, not both");
    }
    if request.event.is_none() && request.event_id.is_none() && request.subscriber.is_some() {
        errors.add("event", "is required for a subscriber that does not exist");
    }
    let script = request.script.map(|script| script_of(&script, &mut errors));
    let event_id = request.event_id.map(|text| errors.check("event_id", text.parse::<EventId>()));
    errors.finish(Some(()))?;
    let script = script.flatten();
    if names_none {
        let Some(event) = given_event(&state, &caller, request.event, event_id.flatten()).await?.pop() else {
            return Ok(Json(SimulationList::default()));
        };
        let all = everyone::simulated_for_all(&event, &store, &caller, script.as_ref(), &state);
        return Ok(Json(all.await?));
    }
    let random = state.store.ids().random();
    let recipient = match (named.flatten(), request.subscriber) {
        (Some(named), _) => existing(&store, &caller, &named, random).await?,
        (None, Some(draft)) => {
            let new = request::validated(draft, &state).map_err(|problem| problem.within("subscriber"))?;
            Recipient {
                id: None,
                signer: Signer::new(&new.secret, &[]),
                url: new.url,
                events: new.events,
                channels: new.channels,
                active: new.active,
                policy: new.policy,
                format: new.format,
                filter: new.filter,
                transform: new.transform,
                plugin: new.plugin,
                shows_signatures: true,
                own_headers: masked_headers(
                    new.headers.names().map(str::to_owned).collect(),
                    new.auth.is_some_and(|new| new.auth.kind().sets_authorization()),
                ),
            }
        }
        (None, None) => return Err(Problem::internal()),
    };
    let events = if has_event {
        given_event(&state, &caller, request.event, event_id.flatten()).await?
    } else {
        let filter = DeliveryFilter { subscriber: recipient.id, ..DeliveryFilter::default() };
        let page = PageRequest { limit: LATEST, before: None };
        let deliveries = state.store.deliveries(&caller.tenant, &filter, page).await?.items;
        let ids: Vec<EventId> = deliveries.iter().map(|delivery| delivery.id.event()).collect();
        stored(&state, &caller, &ids).await?
    };
    let mut data = Vec::with_capacity(events.len());
    for event in &events {
        data.push(simulated(event, &recipient, script.as_ref(), &state).await?);
    }
    Ok(Json(SimulationList { data, truncated: false }))
}

/// The event that a request gives or names; none if its payload is gone.
async fn given_event(
    state: &ApiState,
    caller: &Caller,
    given: Option<EventRequest>,
    id: Option<EventId>,
) -> Result<Vec<Simulated>, Problem> {
    let Some(event) = given else { return stored(state, caller, id.as_slice()).await };
    let mut errors = Errors::within("event");
    let event = validated(event, caller.tenant.clone(), None, None, &mut errors);
    let event = errors.finish(event)?;
    let agent_id = event.agent_id.unwrap_or_default();
    let (event_type, data) = (&event.event_type, &event.data);
    let timestamp = state.store.ids().clock().now();
    let envelope = Envelope { event_type, timestamp, agent_id: &agent_id, data }.to_bytes().into();
    let id = state.store.ids().next();
    Ok(vec![Simulated { id, event_type: event.event_type, agent_id, channels: event.channels, envelope }])
}

/// A subscriber that exists. Its secret is read, and that is noted, only for those who may read it.
async fn existing(
    store: &Store,
    caller: &Caller,
    named: &SubscriberRef,
    random: &std::sync::Arc<dyn Random>,
) -> Result<Recipient, Problem> {
    let missing = || Problem::missing("subscriber");
    let id = resolve(store, &caller.tenant, named).await?.ok_or_else(missing)?;
    caller.reach(id, "subscriber")?;
    let found = store.subscriber(&caller.tenant, id).await?.ok_or_else(missing)?;
    let shows_signatures = caller.may(Scope::SecretsRead);
    let signer = if shows_signatures {
        let (secret, previous) = store.secret(&caller.tenant, id).await?.ok_or_else(missing)?;
        let previous: Vec<Secret> = previous.into_iter().map(|previous| previous.secret).collect();
        Signer::new(&secret, &previous)
    } else {
        Signer::new(&Secret::generate(random), &[])
    };
    Ok(recipient_of(found, signer, shows_signatures))
}

fn recipient_of(found: Subscriber, signer: Signer, shows_signatures: bool) -> Recipient {
    Recipient {
        id: Some(found.id),
        url: found.url,
        events: found.events,
        channels: found.channels,
        active: found.state == SubscriberState::Active,
        policy: found.policy,
        format: found.format,
        filter: found.filter,
        transform: found.transform,
        plugin: found.plugin,
        signer,
        shows_signatures,
        own_headers: masked_headers(
            found.header_names.unwrap_or_default(),
            found.auth.and_then(|auth| auth.fields).is_some_and(|fields| fields.kind.sets_authorization()),
        ),
    }
}

/// Stored events with their payloads.
async fn stored(state: &ApiState, caller: &Caller, ids: &[EventId]) -> Result<Vec<Simulated>, Problem> {
    if !caller.may(Scope::PayloadsRead) {
        return Err(Problem::needs(Scope::PayloadsRead));
    }
    let mut events = Vec::with_capacity(ids.len());
    for id in ids {
        let found = state.store.event(&caller.tenant, *id).await?;
        let event = found.ok_or_else(|| Problem::missing("event"))?;
        // What is gone cannot be sent.
        let Some(envelope) = state.store.envelopes(&[(caller.tenant.clone(), *id)]).await?.remove(id) else {
            continue;
        };
        let (event_type, agent_id, channels) = (event.event_type, event.agent_id, event.channels);
        events.push(Simulated { id: *id, event_type, agent_id, channels, envelope });
    }
    Ok(events)
}

async fn simulated(
    event: &Simulated,
    recipient: &Recipient,
    script: Option<&Script>,
    state: &ApiState,
) -> Result<SimulationView, Problem> {
    let filter = recipient
        .filter
        .as_ref()
        .map(|filter| filtered(filter, &subject(event.id, event.channels.as_ref(), &event.envelope)));
    let reason = reason(event, recipient, filter.as_ref());
    let shaped = shaped(event, recipient, &recipient.format, state).await?;
    let transform = if recipient.transform.is_some() || recipient.plugin.is_some() {
        Some(transformed(event, recipient, state).await?)
    } else {
        None
    };
    let request = match shaped {
        Ok(shaped) => Some(request_of(event, recipient, shaped, state).await?),
        Err(_) => None,
    };
    let (attempts, end) = timetable(&recipient.policy, state.targets.request_timeout(), script);
    Ok(SimulationView {
        event_id: event.id,
        subscriber_id: recipient.id,
        matched: reason == MatchReason::Matched,
        reason,
        filter,
        transform,
        request,
        attempts,
        end,
    })
}

/// What the subscriber would get in a format; or why its transform fails.
async fn shaped(
    event: &Simulated,
    recipient: &Recipient,
    format: &Format,
    state: &ApiState,
) -> Result<Result<Shaped, String>, Problem> {
    let wanted =
        Wanted { format, transform: recipient.transform.as_ref(), plugin: recipient.plugin.as_ref() };
    let about = Event { id: event.id, channels: event.channels.clone() };
    match state.shaper.shape(&about, event.envelope.clone(), &wanted).await {
        Ok(shaped) => Ok(Ok(shaped)),
        Err(error @ ShapeError::Envelope(_)) => {
            tracing::error!(event = %event.id, error = %chain(&error), "event cannot be simulated");
            Err(Problem::internal())
        }
        Err(error @ ShapeError::Unavailable(_)) => {
            tracing::warn!(error = %chain(&error), "plugin not loaded for a simulation");
            Err(Problem::unavailable())
        }
        Err(error) => Ok(Err(error.to_string())),
    }
}

async fn transformed(
    event: &Simulated,
    recipient: &Recipient,
    state: &ApiState,
) -> Result<TransformResultView, Problem> {
    Ok(match shaped(event, recipient, &Format::Data, state).await? {
        Ok(shaped) => {
            let version = shaped.transform.map(|version| version.to_string());
            let data = Some(String::from_utf8_lossy(&shaped.body).into_owned());
            TransformResultView { version, data, error: None }
        }
        Err(error) => TransformResultView { version: None, data: None, error: Some(error) },
    })
}

async fn request_of(
    event: &Simulated,
    recipient: &Recipient,
    shaped: Shaped,
    state: &ApiState,
) -> Result<SimulatedRequestView, Problem> {
    let made = shaped.merged_headers(&CustomHeaders::default()).map_err(|_| Problem::internal())?;
    let method = recipient.policy.method();
    let body = if method.has_body() { shaped.body } else { Bytes::new() };
    let webhook = Webhook {
        method,
        event_id: event.id,
        event_type: &event.event_type,
        agent_id: &event.agent_id,
        body: Encoded::for_policy(&recipient.policy, body.clone()).await,
        content_type: shaped.content_type,
        content_headers: &shaped.headers,
        timestamp: state.store.ids().clock().now(),
        signer: &recipient.signer,
        headers: &made.unwrap_or_default(),
        traceparent: None,
    };
    let headers = webhook.headers().map_err(|_| Problem::internal())?;
    Ok(SimulatedRequestView {
        method: method.as_str().into(),
        url: recipient.url.masked(),
        headers: shown(&headers, recipient),
        body: String::from_utf8_lossy(&body).into_owned(),
        body_sha256: hex::encode(sha256(&webhook.body.bytes)),
    })
}

fn reason(event: &Simulated, recipient: &Recipient, filter: Option<&FilterResultView>) -> MatchReason {
    let Recipient { active, events, channels, .. } = recipient;
    let criteria = Criteria { active: *active, events, channels: channels.as_ref() };
    match criteria.reason(&event.event_type, event.channels.as_ref()) {
        MatchReason::Matched if filter.is_some_and(|filter| filter.result == Some(false)) => {
            MatchReason::Filter
        }
        reason => reason,
    }
}

/// The headers, the subscriber's own ones masked. Those that a delivery sets replace own ones of the same name.
fn shown(headers: &HeaderMap, recipient: &Recipient) -> Vec<HeaderView> {
    let own = recipient.own_headers.iter().filter(|name| !headers.contains_key(name.as_str()));
    let own = own.map(|name| HeaderView { name: name.to_ascii_lowercase(), value: MASK.into() });
    let all = headers.iter().map(|(name, value)| {
        let is_shown = recipient.shows_signatures || !value.is_sensitive();
        let value = value.to_str().ok().filter(|_| is_shown).unwrap_or(MASK);
        HeaderView { name: name.as_str().into(), value: value.into() }
    });
    own.chain(all).collect()
}

/// The names of the headers whose values are masked: the subscriber's own, and that of its authentication.
fn masked_headers(mut own: Vec<String>, authorizes: bool) -> Vec<String> {
    const AUTHORIZATION: &str = "authorization";
    if authorizes && !own.iter().any(|name| name.eq_ignore_ascii_case(AUTHORIZATION)) {
        own.push(AUTHORIZATION.to_owned());
    }
    own
}
