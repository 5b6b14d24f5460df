//! Subscribers: created, changed, shown and deleted.

mod auth;
mod format;
mod plugin;
mod put;
mod request;
mod secret;
mod simulate;
mod test_event;
mod transform;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use postrider_api::Moment;
use postrider_api::list::Flag;
use postrider_api::secret::SecretView;
use postrider_api::subscriber::{
    BreakerState, BreakerView, ChangeRequest, CreatedSubscriberView, SubscriberList, SubscriberRequest,
    SubscriberView, SubscribersQuery,
};
use postrider_core::Secret;
use postrider_core::key::Scope;
use postrider_store::health::{Breaker, Health};
use postrider_store::subscribers::{
    Changing, Subscriber, SubscriberChange, SubscriberFilter, SubscriberState,
};
use utoipa_axum::routes;

use crate::audit::Audited;
use crate::caller::Caller;
use crate::created::created;
use crate::extract::{JsonBody, Parameters};
use crate::named::PathSubscriber;
use crate::needs::Needs;
use crate::page;
use crate::problem::Problem;
use crate::routes::Routes;
use crate::state::ApiState;

const READ: Needs = Needs::scope(Scope::SubscribersRead).for_some_subscribers();
const WRITE: Needs = Needs::scope(Scope::SubscribersWrite).for_some_subscribers();
const TEST: Needs = Needs::scope(Scope::EventsWrite).with_capacity().for_some_subscribers();

/// It may read a secret.
const SIMULATE: Needs = Needs::scope(Scope::EventsRead).for_some_subscribers().with_audited_read();

pub(crate) use self::request::validated;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .add(READ, routes!(list))
        .add(Needs::scope(Scope::SubscribersWrite), routes!(create))
        .add(READ, routes!(read))
        .add(WRITE, routes!(change))
        .add(WRITE, routes!(put::put))
        .add(WRITE, routes!(delete))
        .add(WRITE, routes!(activate))
        .add(WRITE, routes!(deactivate))
        .add(WRITE, routes!(pause))
        .add(WRITE, routes!(resume))
        .add(TEST, routes!(test_event::test_subscriber))
        .add(SIMULATE, routes!(simulate::simulate))
        .add(
            Needs::scope(Scope::SecretsRead).for_some_subscribers().with_audited_read(),
            routes!(secret::read_secret),
        )
        .add(Needs::scope(Scope::SecretsRotate).for_some_subscribers(), routes!(secret::rotate_secret))
}

fn breaker_view(health: Health) -> BreakerView {
    let (state, open_until) = match health.breaker {
        Breaker::Closed => (BreakerState::Closed, None),
        Breaker::Open(until) => (BreakerState::Open, Some(until.into())),
        Breaker::HalfOpen => (BreakerState::HalfOpen, None),
    };
    BreakerView {
        state,
        failures: health.failures,
        failing_since: health.failing_since.map(Moment),
        open_until,
    }
}

fn subscriber_view(subscriber: Subscriber) -> SubscriberView {
    let inactive = match subscriber.state {
        SubscriberState::Active => None,
        SubscriberState::Inactive { since, reason } => Some((since, reason)),
    };
    SubscriberView {
        id: subscriber.id,
        uid: subscriber.uid,
        url: subscriber.url.as_str().to_owned(),
        events: subscriber.events.iter().map(ToString::to_string).collect(),
        description: subscriber.description,
        headers: subscriber.header_names,
        active: inactive.is_none(),
        deactivated_at: inactive.map(|(since, _)| since.into()),
        deactivation_reason: inactive.map(|(_, reason)| reason),
        paused_at: subscriber.paused_at.map(Moment),
        policy_version: subscriber.policy.version().to_string(),
        policy: subscriber.policy.fields().clone(),
        format: subscriber.format.name(),
        format_options: format::options(&subscriber.format),
        plugin: subscriber.plugin.map(plugin::shown),
        metadata: subscriber.metadata.into(),
        channels: subscriber.channels,
        filter: subscriber.filter.map(Into::into),
        transform_version: subscriber.transform.as_ref().map(|transform| transform.version().to_string()),
        transform: subscriber.transform.as_ref().map(transform::view),
        auth: subscriber.auth.map(auth::view),
        notify_url: subscriber.notify.url.map(|url| url.as_str().to_owned()),
        notify_email: subscriber.notify.email.map(|email| email.as_str().to_owned()),
        breaker: breaker_view(subscriber.health),
        created_at: subscriber.created_at.into(),
        updated_at: subscriber.updated_at.into(),
    }
}

/// Create a subscriber
///
/// The response is the only one about a subscriber that includes its secret. The server generates one (`whsec_…`) if the
/// request has none.
#[utoipa::path(
    post, path = "/v1/subscribers", operation_id = "create_subscriber", tag = "subscribers",
    request_body = SubscriberRequest,
    responses(
        (status = 201, description = "The subscriber, with its secret.", body = CreatedSubscriberView),
        (
            status = 409, description = "Another subscriber has the `uid`.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn create(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request: SubscriberRequest = body.parse()?;
    let new = request::new_subscriber(request, &caller.tenant, &state).await?;
    let secret = new.secret.clone();
    Ok(created_subscriber(store.create_subscriber(&caller.tenant, new).await?, &secret))
}

/// The answer about a new subscriber.
fn created_subscriber(subscriber: Subscriber, secret: &Secret) -> Response {
    let path = format!("/v1/subscribers/{}", subscriber.id);
    let secret = SecretView::from(secret);
    let view = CreatedSubscriberView { subscriber: subscriber_view(subscriber), secret };
    created(path, Json(view))
}

/// List subscribers
///
/// Newest first. Of several filters, all must fit.
#[utoipa::path(
    get, path = "/v1/subscribers", operation_id = "list_subscribers", tag = "subscribers", params(SubscribersQuery),
    responses((status = 200, description = "A page of subscribers.", body = SubscriberList))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Parameters(query): Parameters<SubscribersQuery>,
) -> Result<Json<SubscriberList>, Problem> {
    let mut filter = SubscriberFilter {
        ids: caller.subscribers().map(<[_]>::to_vec),
        event_type: query.event_type,
        active: query.active.map(|Flag(active)| active),
        failing: query.failing.map(|Flag(failing)| failing),
        url: query.url.map(String::from),
    };
    if let Some(uid) = &query.uid {
        let found = state.store.subscriber_with_uid(&caller.tenant, uid).await?;
        filter.ids = Some(found.into_iter().filter(|id| caller.reaches(*id)).collect());
    }
    let page = page::request(query.limit, query.cursor);
    let subscribers = state.store.find_subscribers(&caller.tenant, &filter, page).await?;
    Ok(Json(page::list(subscribers, subscriber_view)))
}

/// Get a subscriber
#[utoipa::path(
    get, path = "/v1/subscribers/{id}", operation_id = "get_subscriber", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`, or its uid.")),
    responses((status = 200, description = "The subscriber.", body = SubscriberView))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    PathSubscriber(id): PathSubscriber,
) -> Result<Json<SubscriberView>, Problem> {
    shown(state.store.subscriber(&caller.tenant, id).await?)
}

/// Change a subscriber
///
/// A JSON merge patch (RFC 7396): fields that are absent keep their value, also within `policy`, `headers` and `auth`, and null
/// resets or removes one. A change takes effect with the next attempt. To change the secret, call
/// `POST /v1/subscribers/{id}/secret/rotate`. A URL at another host needs `keep_secrets`, or the secret, every header, and the
/// secret field of `auth`.
#[utoipa::path(
    patch, path = "/v1/subscribers/{id}", operation_id = "change_subscriber", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`, or its uid.")),
    request_body = ChangeRequest,
    responses(
        (status = 200, description = "The changed subscriber.", body = SubscriberView),
        (
            status = 409, description = "Another subscriber has the `uid`.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn change(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathSubscriber(id): PathSubscriber,
    body: JsonBody,
) -> Result<Json<SubscriberView>, Problem> {
    let request: ChangeRequest = body.parse()?;
    request::check_new_target(&request, &caller.tenant, &state).await?;
    let change = |present: Changing<'_>| request::subscriber_change(request, &present, &state);
    shown(store.change_subscriber_with(&caller.tenant, id, change).await?)
}

/// Delete a subscriber
///
/// Its events and deliveries stay readable. Its pending deliveries end `cancelled`.
#[utoipa::path(
    delete, path = "/v1/subscribers/{id}", operation_id = "delete_subscriber", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`, or its uid.")),
    responses((status = 204, description = "The subscriber is deleted."))
)]
async fn delete(
    Audited(store): Audited,
    caller: Caller,
    PathSubscriber(id): PathSubscriber,
) -> Result<StatusCode, Problem> {
    if store.delete_subscriber(&caller.tenant, id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::missing("subscriber"))
    }
}

/// Activate a subscriber
///
/// The subscriber receives events that are dispatched from now on. Earlier failures no longer count, so its circuit
/// breaker closes, also if it was active already.
#[utoipa::path(
    post, path = "/v1/subscribers/{id}/activate", operation_id = "activate_subscriber", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`, or its uid.")),
    responses((status = 200, description = "The changed subscriber.", body = SubscriberView))
)]
async fn activate(
    Audited(store): Audited,
    caller: Caller,
    PathSubscriber(id): PathSubscriber,
) -> Result<Json<SubscriberView>, Problem> {
    let change =
        SubscriberChange { active: Some(true), forget_failures: true, ..SubscriberChange::default() };
    shown(store.change_subscriber(&caller.tenant, id, change).await?)
}

/// Deactivate a subscriber
///
/// No further request to it starts, except those that a worker has already claimed. Its pending deliveries end
/// `cancelled`.
#[utoipa::path(
    post, path = "/v1/subscribers/{id}/deactivate", operation_id = "deactivate_subscriber", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`, or its uid.")),
    responses((status = 200, description = "The changed subscriber.", body = SubscriberView))
)]
async fn deactivate(
    Audited(store): Audited,
    caller: Caller,
    PathSubscriber(id): PathSubscriber,
) -> Result<Json<SubscriberView>, Problem> {
    let change = SubscriberChange { active: Some(false), ..SubscriberChange::default() };
    shown(store.change_subscriber(&caller.tenant, id, change).await?)
}

/// Pause a subscriber
///
/// It still receives events, but their deliveries wait until it is resumed. No further request to it starts, except those
/// that a worker has already claimed. A paused subscriber stays paused while its circuit breaker opens and closes.
#[utoipa::path(
    post, path = "/v1/subscribers/{id}/pause", operation_id = "pause_subscriber", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`, or its uid.")),
    responses((status = 200, description = "The changed subscriber.", body = SubscriberView))
)]
async fn pause(
    Audited(store): Audited,
    caller: Caller,
    PathSubscriber(id): PathSubscriber,
) -> Result<Json<SubscriberView>, Problem> {
    let change = SubscriberChange { paused: Some(true), ..SubscriberChange::default() };
    shown(store.change_subscriber(&caller.tenant, id, change).await?)
}

/// Resume a subscriber
///
/// Ends a pause. What has waited is delivered at the subscriber's own pace.
#[utoipa::path(
    post, path = "/v1/subscribers/{id}/resume", operation_id = "resume_subscriber", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`, or its uid.")),
    responses((status = 200, description = "The changed subscriber.", body = SubscriberView))
)]
async fn resume(
    Audited(store): Audited,
    caller: Caller,
    PathSubscriber(id): PathSubscriber,
) -> Result<Json<SubscriberView>, Problem> {
    let change = SubscriberChange { paused: Some(false), ..SubscriberChange::default() };
    shown(store.change_subscriber(&caller.tenant, id, change).await?)
}

fn shown(found: Option<Subscriber>) -> Result<Json<SubscriberView>, Problem> {
    found.map(|subscriber| Json(subscriber_view(subscriber))).ok_or_else(|| Problem::missing("subscriber"))
}
