//! Tenants: registered, changed, shown and deleted.

mod request;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use postrider_api::Cursor;
use postrider_api::tenant::{
    TenantChangeRequest, TenantDeletionView, TenantList, TenantRequest, TenantRetentionView, TenantView,
    TenantsQuery,
};
use postrider_core::TenantId;
use postrider_core::key::Scope;
use postrider_store::retention::Age;
use postrider_store::tenants::{Deletable, Tenant, TenantRetention};
use utoipa_axum::routes;

use crate::audit::Audited;
use crate::caller::Caller;
use crate::extract::{JsonBody, Parameters, PathTenant};
use crate::needs::Needs;
use crate::page;
use crate::problem::Problem;
use crate::routes::Routes;
use crate::state::ApiState;

const MANAGE: Needs = Needs::scope(Scope::TenantsManage).on_deployment();

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .add(MANAGE, routes!(list))
        .add(MANAGE, routes!(register))
        .add(MANAGE, routes!(read))
        .add(MANAGE, routes!(change))
        .add(MANAGE, routes!(delete))
}

fn tenant_view(tenant: Tenant) -> TenantView {
    let TenantRetention { history, payloads, dead } = tenant.retention;
    let age = |age: Option<_>| age.map(|age| Age::For(age).to_string());
    TenantView {
        id: tenant.id,
        name: tenant.name,
        metadata: tenant.metadata.into(),
        retention: TenantRetentionView { history: age(history), payloads: age(payloads), dead: age(dead) },
        created_at: tenant.created_at.into(),
        deletion: tenant
            .deletion
            .map(|deletion| TenantDeletionView { requested_at: deletion.since.into(), rows: deletion.rows }),
    }
}

/// Register a tenant
///
/// A tenant need not be registered before its data comes: its first successful write registers it, without a name. `default`
/// and `operator` are always registered.
#[utoipa::path(
    post, path = "/v1/tenants", operation_id = "register_tenant", tag = "tenants", request_body = TenantRequest,
    responses(
        (status = 201, description = "The tenant.", body = TenantView),
        (
            status = 409, description = "There is a tenant with this id.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn register(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    body: JsonBody,
) -> Result<Response, Problem> {
    let new = request::new_tenant(body.parse::<TenantRequest>()?)?;
    if !caller.concerns(&new.id) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "the request acts for another tenant"));
    }
    if !store.register_tenant(&new).await? {
        return Err(Problem::new(StatusCode::CONFLICT, "there is a tenant with this id"));
    }
    let tenant = state.store.tenant(&new.id).await?.ok_or_else(|| Problem::missing("tenant"))?;
    let location = HeaderValue::try_from(format!("/v1/tenants/{}", tenant.id));
    let mut response = (StatusCode::CREATED, Json(tenant_view(tenant))).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// List tenants
///
/// Those that were registered last come first.
#[utoipa::path(
    get, path = "/v1/tenants", operation_id = "list_tenants", tag = "tenants", params(TenantsQuery),
    responses((status = 200, description = "A page of tenants.", body = TenantList))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Parameters(query): Parameters<TenantsQuery>,
) -> Result<Json<TenantList>, Problem> {
    if caller.one_tenant {
        let found = state.store.tenant(&caller.tenant).await?;
        let is_after = |tenant: &Tenant| query.cursor.is_none_or(|Cursor(before)| tenant.place < before);
        let data = found.filter(is_after).map(tenant_view).into_iter().collect();
        return Ok(Json(TenantList { data, next_cursor: None }));
    }
    let tenants = state.store.tenants(page::request(query.limit, query.cursor)).await?;
    Ok(Json(page::list(tenants, tenant_view)))
}

/// Get a tenant
#[utoipa::path(
    get, path = "/v1/tenants/{id}", operation_id = "get_tenant", tag = "tenants",
    params(("id" = String, Path, description = "The tenant's id.")),
    responses((status = 200, description = "The tenant.", body = TenantView))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    PathTenant(id): PathTenant,
) -> Result<Json<TenantView>, Problem> {
    reach(&caller, &id)?;
    shown(state.store.tenant(&id).await?)
}

/// Change a tenant
///
/// Fields that are absent keep their value. A shorter retention takes effect step by step, once a worker has heard of it.
#[utoipa::path(
    patch, path = "/v1/tenants/{id}", operation_id = "change_tenant", tag = "tenants",
    params(("id" = String, Path, description = "The tenant's id.")),
    request_body = TenantChangeRequest,
    responses((status = 200, description = "The changed tenant.", body = TenantView))
)]
async fn change(
    Audited(store): Audited,
    caller: Caller,
    PathTenant(id): PathTenant,
    body: JsonBody,
) -> Result<Json<TenantView>, Problem> {
    let request: TenantChangeRequest = body.parse()?;
    reach(&caller, &id)?;
    shown(store.change_tenant(&id, |tenant| request::change(tenant, request)).await?)
}

/// Delete a tenant
///
/// Deletes the tenant with its subscribers, events, deliveries and all else. From now on its writes are refused with 409.
/// Half a minute later a worker deletes its data, step by step; `deletion` of the tenant shows how far it has come. When
/// nothing is left, the tenant is not registered any more. `default` and `operator` cannot be deleted.
#[utoipa::path(
    delete, path = "/v1/tenants/{id}", operation_id = "delete_tenant", tag = "tenants",
    params(("id" = String, Path, description = "The tenant's id.")),
    responses(
        (status = 202, description = "The tenant, which is being deleted.", body = TenantView),
        (
            status = 409, description = "Postrider itself needs this tenant.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn delete(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathTenant(id): PathTenant,
) -> Result<(StatusCode, Json<TenantView>), Problem> {
    reach(&caller, &id)?;
    match store.delete_tenant(&id).await? {
        Deletable::Needed => {
            return Err(Problem::new(StatusCode::CONFLICT, format!("the tenant `{id}` cannot be deleted")));
        }
        Deletable::Begun => state.tenants.refuse(&id),
        Deletable::Missing => {}
    }
    Ok((StatusCode::ACCEPTED, shown(state.store.tenant(&id).await?)?))
}

/// Answers a tenant that the request does not concern as an unknown one.
fn reach(caller: &Caller, tenant: &TenantId) -> Result<(), Problem> {
    if caller.concerns(tenant) { Ok(()) } else { Err(Problem::missing("tenant")) }
}

fn shown(found: Option<Tenant>) -> Result<Json<TenantView>, Problem> {
    found.map(|tenant| Json(tenant_view(tenant))).ok_or_else(|| Problem::missing("tenant"))
}
