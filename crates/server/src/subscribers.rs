//! Subscribers: who gets what.

mod request;
mod schema;
mod secret;
mod test_event;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use postrider_core::id;
use postrider_core::subscriber::PolicyFields;
use postrider_store::health::{Breaker, Health};
use postrider_store::subscriber::{Subscriber, SubscriberChange, SubscriberState};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::extract::{JsonBody, Parameters, PathId};
use crate::moment::Moment;
use crate::page::{self, Cursor, Limit, List};
use crate::problem::Problem;
use crate::state::ApiState;
use request::{ChangeRequest, SubscriberRequest};
use schema::PolicySchema;
use secret::SecretView;

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(read, change, delete))
        .routes(routes!(activate))
        .routes(routes!(deactivate))
        .routes(routes!(test_event::test_subscriber))
        .routes(routes!(secret::read_secret))
        .routes(routes!(secret::rotate_secret))
}

/// A subscriber. Its secret and the values of its headers are not shown.
#[derive(Debug, Serialize, ToSchema)]
struct SubscriberView {
    /// Its id.
    #[schema(example = "sub_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// Where its deliveries go.
    #[schema(example = "https://example.com/hook")]
    url: String,
    /// Which events it wants.
    #[schema(example = json!(["order.*"]))]
    events: Vec<String>,
    /// What its owner says of it.
    description: String,
    /// The names of the headers that are added to its deliveries.
    #[schema(example = json!(["authorization"]))]
    headers: Vec<String>,
    /// Whether it gets anything.
    active: bool,
    /// Since when it gets nothing; null while it is active.
    deactivated_at: Option<Moment>,
    /// Why it gets nothing: `requested`, `gone` (it answered 410) or `failing`; null while it is active.
    #[schema(example = json!(null))]
    deactivation_reason: Option<&'static str>,
    /// How it wants to be delivered to; what is missing is as the deployment's settings say.
    #[schema(value_type = PolicySchema)]
    policy: PolicyFields,
    /// Its circuit breaker.
    breaker: BreakerView,
    /// When it was created.
    created_at: Moment,
    /// When it was last changed.
    updated_at: Moment,
}

/// A circuit breaker: it opens when attempts fail again and again, and nothing is sent for a while.
#[derive(Debug, Serialize, ToSchema)]
struct BreakerView {
    /// `closed`, `open`, or `half_open`: one delivery at a time is let through, to see how it fares.
    #[schema(example = "closed")]
    state: &'static str,
    /// Failures in a row.
    failures: u32,
    /// Since when it fails; null if it does not.
    failing_since: Option<Moment>,
    /// Until when nothing is sent; null unless it is open.
    open_until: Option<Moment>,
}

impl From<Health> for BreakerView {
    fn from(health: Health) -> Self {
        let open_until = if let Breaker::Open(until) = health.breaker { Some(until.into()) } else { None };
        Self {
            state: health.breaker.as_str(),
            failures: health.failures,
            failing_since: health.failing_since.map(Moment),
            open_until,
        }
    }
}

impl From<Subscriber> for SubscriberView {
    fn from(subscriber: Subscriber) -> Self {
        let inactive = match subscriber.state {
            SubscriberState::Active => None,
            SubscriberState::Inactive { since, reason } => Some((since, reason)),
        };
        Self {
            id: subscriber.id.to_string(),
            url: subscriber.url.as_str().to_owned(),
            events: subscriber.events.iter().map(ToString::to_string).collect(),
            description: subscriber.description,
            headers: subscriber.header_names,
            active: inactive.is_none(),
            deactivated_at: inactive.map(|(since, _)| since.into()),
            deactivation_reason: inactive.map(|(_, reason)| reason.as_str()),
            policy: subscriber.policy.fields().clone(),
            breaker: subscriber.health.into(),
            created_at: subscriber.created_at.into(),
            updated_at: subscriber.updated_at.into(),
        }
    }
}

/// A new subscriber, with its secret.
#[derive(Serialize, ToSchema)]
struct CreatedView {
    #[serde(flatten)]
    subscriber: SubscriberView,
    #[serde(flatten)]
    secret: SecretView,
}

/// Create a subscriber
///
/// The answer is the one listing that shows the secret, which is made (`whsec_…`) if none is given.
#[utoipa::path(
    post, path = "/v1/subscribers", operation_id = "create_subscriber", tag = "subscribers",
    request_body = SubscriberRequest,
    responses((status = 201, description = "The subscriber, with its secret.", body = CreatedView))
)]
async fn create(State(state): State<ApiState>, caller: Caller, body: JsonBody) -> Result<Response, Problem> {
    let request: SubscriberRequest = body.parse()?;
    let new = request.judge(&state.targets, state.store.ids().random()).await?;
    let secret = SecretView::of(&new.secret);
    let subscriber = state.store.create_subscriber(&caller.tenant, new).await?;
    let location = HeaderValue::try_from(format!("/v1/subscribers/{}", subscriber.id));
    let created = CreatedView { subscriber: subscriber.into(), secret };
    let mut response = (StatusCode::CREATED, Json(created)).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Which subscribers are wanted.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SubscribersQuery {
    /// How many: 1 to 250; 50 if not given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 250)]
    limit: Option<Limit>,
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor<id::Subscriber>>,
}

/// List subscribers
///
/// Newest first.
#[utoipa::path(
    get, path = "/v1/subscribers", operation_id = "list_subscribers", tag = "subscribers", params(SubscribersQuery),
    responses((status = 200, description = "A page of subscribers.", body = List<SubscriberView>))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Parameters(query): Parameters<SubscribersQuery>,
) -> Result<Json<List<SubscriberView>>, Problem> {
    let page = page::request(query.limit, query.cursor);
    let subscribers = state.store.subscribers(&caller.tenant, page).await?;
    Ok(Json(List::of(subscribers, SubscriberView::from)))
}

/// Get a subscriber
#[utoipa::path(
    get, path = "/v1/subscribers/{id}", operation_id = "get_subscriber", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`.")),
    responses((status = 200, description = "The subscriber.", body = SubscriberView))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<id::Subscriber>,
) -> Result<Json<SubscriberView>, Problem> {
    shown(state.store.subscriber(&caller.tenant, id).await?)
}

/// Change a subscriber
///
/// What is not given stays. A change counts from the next attempt on. The secret is changed by
/// `POST /v1/subscribers/{id}/secret/rotate`.
#[utoipa::path(
    patch, path = "/v1/subscribers/{id}", operation_id = "change_subscriber", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`.")),
    request_body = ChangeRequest,
    responses((status = 200, description = "The subscriber as it is now.", body = SubscriberView))
)]
async fn change(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<id::Subscriber>,
    body: JsonBody,
) -> Result<Json<SubscriberView>, Problem> {
    let request: ChangeRequest = body.parse()?;
    let change = request.judge(&state.targets).await?;
    shown(state.store.change_subscriber(&caller.tenant, id, change).await?)
}

/// Delete a subscriber
///
/// Its events and deliveries stay readable; what is pending ends `cancelled`.
#[utoipa::path(
    delete, path = "/v1/subscribers/{id}", operation_id = "delete_subscriber", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`.")),
    responses((status = 204, description = "It is gone."))
)]
async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<id::Subscriber>,
) -> Result<StatusCode, Problem> {
    if state.store.delete_subscriber(&caller.tenant, id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::missing("subscriber"))
    }
}

/// Activate a subscriber
///
/// It gets the events that are dispatched from now on.
#[utoipa::path(
    post, path = "/v1/subscribers/{id}/activate", operation_id = "activate_subscriber", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`.")),
    responses((status = 200, description = "The subscriber as it is now.", body = SubscriberView))
)]
async fn activate(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<id::Subscriber>,
) -> Result<Json<SubscriberView>, Problem> {
    let change = SubscriberChange { active: Some(true), ..SubscriberChange::default() };
    shown(state.store.change_subscriber(&caller.tenant, id, change).await?)
}

/// Deactivate a subscriber
///
/// No request to it begins any more, but for those already claimed; what is pending ends `cancelled`.
#[utoipa::path(
    post, path = "/v1/subscribers/{id}/deactivate", operation_id = "deactivate_subscriber", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`.")),
    responses((status = 200, description = "The subscriber as it is now.", body = SubscriberView))
)]
async fn deactivate(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<id::Subscriber>,
) -> Result<Json<SubscriberView>, Problem> {
    let change = SubscriberChange { active: Some(false), ..SubscriberChange::default() };
    shown(state.store.change_subscriber(&caller.tenant, id, change).await?)
}

fn shown(found: Option<Subscriber>) -> Result<Json<SubscriberView>, Problem> {
    found.map(|subscriber| Json(subscriber.into())).ok_or_else(|| Problem::missing("subscriber"))
}
