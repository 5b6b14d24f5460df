//! Tenants: registered, changed, shown and deleted.

mod request;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use postrider_api::Cursor;
use postrider_api::tenant::{
    TenantChangeRequest, TenantCountsView, TenantDeletionView, TenantList, TenantRequest,
    TenantRetentionView, TenantView, TenantsQuery,
};
use postrider_core::key::Scope;
use postrider_core::{TenantId, chain, id};
use postrider_store::Page;
use postrider_store::retention::Age;
use postrider_store::tenants::{Closed, Deletable, Tenant, TenantCounts, TenantRetention};
use utoipa_axum::routes;

use crate::audit::Audited;
use crate::caller::Caller;
use crate::created::created;
use crate::extract::{JsonBody, Parameters, PathTenant};
use crate::needs::Needs;
use crate::page;
use crate::problem::Problem;
use crate::routes::Routes;
use crate::state::ApiState;
use crate::stats::view::{delivery_stats_view, subscriber_stats_view};

/// How many steps of holding or releasing lanes a request takes.
const STEPS: usize = 20;

const MANAGE: Needs = Needs::scope(Scope::TenantsManage).on_deployment();

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .add(MANAGE, routes!(list))
        .add(MANAGE, routes!(register))
        .add(MANAGE, routes!(read))
        .add(MANAGE, routes!(change))
        .add(MANAGE, routes!(delete))
}

fn tenant_view(tenant: Tenant, counts: TenantCounts) -> TenantView {
    let TenantRetention { history, payloads, dead } = tenant.retention;
    let age = |age: Option<_>| age.map(|age| Age::For(age).to_string());
    TenantView {
        id: tenant.id,
        name: tenant.name,
        metadata: tenant.metadata.into(),
        active: tenant.active,
        only_registered_types: tenant.only_registered,
        egress_proxy: tenant.egress_proxy.as_ref().map(ToString::to_string),
        retention: TenantRetentionView { history: age(history), payloads: age(payloads), dead: age(dead) },
        counts: TenantCountsView {
            subscribers: subscriber_stats_view(counts.subscribers),
            deliveries: delivery_stats_view(counts.deliveries),
        },
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
    let path = format!("/v1/tenants/{}", new.id);
    let tenant = shown(&state, state.store.tenant(&new.id).await?).await?;
    Ok(created(path, tenant))
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
        let data = found.filter(is_after).into_iter().collect();
        return with_counts(&state, Page { items: data, next: None }).await;
    }
    let tenants = state.store.tenants(page::request(query.limit, query.cursor)).await?;
    with_counts(&state, tenants).await
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
    shown(&state, state.store.tenant(&id).await?).await
}

/// Change a tenant
///
/// Fields that are absent keep their value. A shorter retention takes effect step by step, once a worker has heard of it.
///
/// With `active: false` the tenant's events are refused with 403, by other servers a few seconds later, and its deliveries
/// wait; nothing is lost. With `active: true` both go on.
///
/// Workers use another `egress_proxy` within 5 s.
#[utoipa::path(
    patch, path = "/v1/tenants/{id}", operation_id = "change_tenant", tag = "tenants",
    params(("id" = String, Path, description = "The tenant's id.")),
    request_body = TenantChangeRequest,
    responses((status = 200, description = "The changed tenant.", body = TenantView))
)]
async fn change(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathTenant(id): PathTenant,
    body: JsonBody,
) -> Result<Json<TenantView>, Problem> {
    let request: TenantChangeRequest = body.parse()?;
    reach(&caller, &id)?;
    let mut was_active = true;
    let change = |tenant: &mut Tenant| {
        was_active = tenant.active;
        request::change(tenant, request)
    };
    let tenant = store.change_tenant(&id, change).await?;
    if let Some(tenant) = tenant.as_ref().filter(|tenant| tenant.active != was_active) {
        set_active(&state, tenant).await;
    }
    shown(&state, tenant).await
}

/// Makes the change of `active` effective as far as this request can.
async fn set_active(state: &ApiState, tenant: &Tenant) {
    if tenant.active {
        state.tenants.open(&tenant.id);
    } else {
        state.tenants.close(&tenant.id, Closed::Inactive);
    }
    for _ in 0..STEPS {
        match state.store.hold_lanes_of(&tenant.id).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(tenant = %tenant.id, error = %chain(&error), "lanes not held or released yet; a worker goes on");
                return;
            }
        }
    }
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
        Deletable::Begun => state.tenants.close(&id, Closed::BeingDeleted),
        Deletable::Missing => {}
    }
    Ok((StatusCode::ACCEPTED, shown(&state, state.store.tenant(&id).await?).await?))
}

/// Answers a tenant that the request does not concern as an unknown one.
fn reach(caller: &Caller, tenant: &TenantId) -> Result<(), Problem> {
    if caller.concerns(tenant) { Ok(()) } else { Err(Problem::missing("tenant")) }
}

async fn shown(state: &ApiState, found: Option<Tenant>) -> Result<Json<TenantView>, Problem> {
    let tenant = found.ok_or_else(|| Problem::missing("tenant"))?;
    let counts = state.store.tenant_counts([&tenant.id]).await?.remove(&tenant.id).unwrap_or_default();
    Ok(Json(tenant_view(tenant, counts)))
}

async fn with_counts(
    state: &ApiState,
    tenants: Page<Tenant, id::TenantPlace>,
) -> Result<Json<TenantList>, Problem> {
    let counts = state.store.tenant_counts(tenants.items.iter().map(|tenant| &tenant.id)).await?;
    Ok(Json(page::list(tenants, |tenant| {
        let counts = counts.get(&tenant.id).copied().unwrap_or_default();
        tenant_view(tenant, counts)
    })))
}
