//! API keys: created, changed, rotated, shown and revoked.

mod request;

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use postrider_api::Moment;
use postrider_api::key::{
    CreatedKeyView, KeyChangeRequest, KeyLimitsView, KeyList, KeyRequest, KeyTenant, KeyView, KeysQuery,
    RotateKeyRequest,
};
use postrider_core::audit::AuditAction;
use postrider_core::id;
use postrider_core::key::{KeyKind, KeyLimits, KeyRate, NewKey, Scope};
use postrider_store::keys::{ApiKey, MAX_KEYS};
use utoipa_axum::routes;
use zeroize::Zeroizing;

use crate::audit::Audited;
use crate::caller::Caller;
use crate::created::created;
use crate::extract::{JsonBody, Parameters, PathId};
use crate::needs::Needs;
use crate::page;
use crate::problem::Problem;
use crate::routes::Routes;
use crate::state::ApiState;

const MANAGE: Needs = Needs::scope(Scope::KeysManage).on_deployment();

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .add(MANAGE, routes!(list))
        .add(MANAGE, routes!(create))
        .add(MANAGE, routes!(read))
        .add(MANAGE, routes!(change))
        .add(MANAGE, routes!(revoke))
        .add(MANAGE, routes!(rotate))
}

fn key_view(key: ApiKey) -> KeyView {
    let KeyLimits { event_types, subscribers, networks, rate } = key.powers.limits;
    KeyView {
        id: key.id,
        name: key.name,
        tenant: key.powers.tenant.map_or(KeyTenant::All, KeyTenant::Of),
        scopes: key.powers.scopes.iter().collect(),
        limits: KeyLimitsView {
            event_types: event_types.iter().map(ToString::to_string).collect(),
            subscriber_ids: subscribers,
            cidrs: networks.iter().map(ToString::to_string).collect(),
            requests_per_second: rate.map(KeyRate::per_second),
            burst: rate.map(KeyRate::burst),
        },
        created_at: key.created_at.into(),
        created_by: key.created_by,
        expires_at: key.powers.expires_at.map(Moment),
        revoked_at: key.revoked_at.map(Moment),
        last_used_at: key.last_used_at.map(Moment),
    }
}

fn created_view(key: ApiKey, new: &NewKey) -> CreatedKeyView {
    CreatedKeyView { view: key_view(key), key: Zeroizing::new(new.expose().to_owned()) }
}

/// Create a key
///
/// The answer is the only one that shows the key. It is no stronger than the key that this request shows: its scopes,
/// limits, tenant and end are all within that one's.
#[utoipa::path(
    post, path = "/v1/keys", operation_id = "create_key", tag = "keys", request_body = KeyRequest,
    responses(
        (status = 201, description = "The key, with its text.", body = CreatedKeyView),
        (
            status = 409, description = "The key's tenant is being deleted.", body = postrider_api::Problem,
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
    let (name, powers) = request::new_key(body.parse::<KeyRequest>()?, &caller)?;
    request::no_stronger(&powers, &caller)?;
    if let Some(tenant) = &powers.tenant {
        state.tenants.admit(tenant)?;
    }
    let kind = if powers.tenant.is_some() { KeyKind::Tenant } else { KeyKind::Operator };
    let new = NewKey::generate(kind, state.store.ids());
    let now = state.store.ids().clock().now();
    let key = ApiKey::new(&new, name, powers, now, caller.actor.id());
    if !store.create_key(&key).await? {
        let detail = format!("there are {MAX_KEYS} keys that work; revoke some of them");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    state.keys.forget(key.id);
    if let Some(tenant) = &key.powers.tenant {
        state.tenants.has_written(&state.store, tenant).await;
    }
    let path = format!("/v1/keys/{}", key.id);
    Ok(created(path, Json(created_view(key, &new))))
}

/// List keys
///
/// Newest first, those that were revoked or have expired among them. An operator who names no tenant gets the keys of all
/// tenants and of operators.
#[utoipa::path(
    get, path = "/v1/keys", operation_id = "list_keys", tag = "keys", params(KeysQuery),
    responses((status = 200, description = "A page of keys.", body = KeyList))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Parameters(query): Parameters<KeysQuery>,
) -> Result<Json<KeyList>, Problem> {
    let keys = state.store.keys(caller.keys_of(), page::request(query.limit, query.cursor)).await?;
    Ok(Json(page::list(keys, key_view)))
}

/// Get a key
#[utoipa::path(
    get, path = "/v1/keys/{id}", operation_id = "get_key", tag = "keys",
    params(("id" = String, Path, description = "The key's id, `key_…`.")),
    responses((status = 200, description = "The key, without its text.", body = KeyView))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<id::Key>,
) -> Result<Json<KeyView>, Problem> {
    shown(state.store.key(caller.keys_of(), id).await?)
}

/// Change a key
///
/// Fields that are absent keep their value. The result is no stronger than the key that this request shows. A change
/// reaches every server within 5 s.
#[utoipa::path(
    patch, path = "/v1/keys/{id}", operation_id = "change_key", tag = "keys",
    params(("id" = String, Path, description = "The key's id, `key_…`.")),
    request_body = KeyChangeRequest,
    responses(
        (status = 200, description = "The changed key.", body = KeyView),
        (
            status = 409, description = "The key was revoked.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn change(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathId(id): PathId<id::Key>,
    body: JsonBody,
) -> Result<Json<KeyView>, Problem> {
    let request: KeyChangeRequest = body.parse()?;
    let change = |key: &mut ApiKey| {
        not_revoked(key)?;
        request::change(key, request)?;
        request::no_stronger(&key.powers, &caller)
    };
    let changed = store.change_key(caller.keys_of(), id, AuditAction::KeyChanged, change).await?;
    state.keys.forget(id);
    shown(changed)
}

/// Revoke a key
///
/// Requests with it are answered with 401: at once by this server, and within 5 s by all others. May be repeated. The key
/// stays listed.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", operation_id = "revoke_key", tag = "keys",
    params(("id" = String, Path, description = "The key's id, `key_…`.")),
    responses((status = 204, description = "The key is revoked."))
)]
async fn revoke(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathId(id): PathId<id::Key>,
) -> Result<StatusCode, Problem> {
    let found = store.revoke_key(caller.keys_of(), id).await?;
    state.keys.forget(id);
    if found { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::missing("key")) }
}

/// Rotate a key
///
/// Gives the key a new text. During the overlap the one before is accepted as well, so that programs can switch one by one.
/// The key keeps its id, scopes and limits, and must be no stronger than the one that this request shows. The answer is the
/// only one that shows the new text.
#[utoipa::path(
    post, path = "/v1/keys/{id}/rotate", operation_id = "rotate_key", tag = "keys",
    params(("id" = String, Path, description = "The key's id, `key_…`.")),
    request_body = Option<RotateKeyRequest>,
    responses(
        (status = 200, description = "The key, with its new text.", body = CreatedKeyView),
        (
            status = 409, description = "The key was revoked, or too many of its earlier texts are still accepted.",
            body = postrider_api::Problem, content_type = "application/problem+json"
        ),
    )
)]
async fn rotate(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathId(id): PathId<id::Key>,
    body: JsonBody,
) -> Result<Json<CreatedKeyView>, Problem> {
    let request: RotateKeyRequest = body.parse_or_default()?;
    let overlap = request.overlap_seconds.map_or(RotateKeyRequest::DEFAULT_OVERLAP, Duration::from_secs);
    if overlap > RotateKeyRequest::MAX_OVERLAP {
        let max = RotateKeyRequest::MAX_OVERLAP.as_secs();
        return Err(Problem::field("overlap_seconds", &format!("must be at most {max}")));
    }
    let ids = state.store.ids();
    let mut new = None;
    let rotate = |key: &mut ApiKey| {
        not_revoked(key)?;
        request::no_stronger(&key.powers, &caller)?;
        let kind = if key.powers.tenant.is_some() { KeyKind::Tenant } else { KeyKind::Operator };
        let now = ids.clock().now();
        let made = new.insert(NewKey::with_id(kind, key.id, ids.random()));
        let rotated = key.rotate(made, now, now + overlap);
        rotated.map_err(|error| Problem::new(StatusCode::CONFLICT, error.to_string()))
    };
    let rotated = store.change_key(caller.keys_of(), id, AuditAction::KeyRotated, rotate).await?;
    state.keys.forget(id);
    match (rotated, new) {
        (Some(key), Some(new)) => Ok(Json(created_view(key, &new))),
        _ => Err(Problem::missing("key")),
    }
}

fn not_revoked(key: &ApiKey) -> Result<(), Problem> {
    match key.revoked_at {
        None => Ok(()),
        Some(_) => Err(Problem::new(StatusCode::CONFLICT, "the key was revoked; create another one")),
    }
}

fn shown(found: Option<ApiKey>) -> Result<Json<KeyView>, Problem> {
    found.map(|key| Json(key_view(key))).ok_or_else(|| Problem::missing("key"))
}
