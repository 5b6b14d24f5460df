//! Sandboxes: receivers for tests, created, listed and deleted.
//!
//! | file | what it holds |
//! |---|---|
//! | `receiver` | `/sandbox/{token}`, which answers as the script says |
//! | `requests` | lists what was received, and waits for it |

mod receiver;
mod requests;

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use postrider_api::sandbox::{SandboxList, SandboxRequest, SandboxView};
use postrider_core::id;
use postrider_core::inside::{new_token, sandbox_url};
use postrider_core::key::Scope;
use postrider_core::policy::Span;
use postrider_core::script::Script;
use postrider_store::sandboxes::{MAX_SANDBOXES, MAX_TTL, NewSandbox, Sandbox};
use serde_json::Value;
use utoipa_axum::routes;

pub(crate) use self::receiver::routes as receiver;
use crate::audit::Audited;
use crate::caller::Caller;
use crate::created::created;
use crate::extract::{JsonBody, PathId};
use crate::needs::Needs;
use crate::problem::{Errors, Problem};
use crate::routes::Routes;
use crate::state::ApiState;

const USE: Needs = Needs::scope(Scope::SandboxUse);

/// For how long a sandbox may take requests, and for how long it does unless its creator says otherwise.
const TTL: RangeInclusive<Duration> = Duration::from_secs(10)..=MAX_TTL;
const DEFAULT_TTL: Duration = Duration::from_hours(1);

/// The beginning of sandboxes' URLs in an application that mounts the API and does not say where.
const NO_BASE: &str = "http://localhost:8080";

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .add(USE, routes!(create))
        .add(USE, routes!(list))
        .add(USE, routes!(read))
        .add(USE, routes!(delete))
        .add(USE.with_audited_read(), routes!(requests::list))
}

fn view(sandbox: Sandbox) -> SandboxView {
    SandboxView {
        id: sandbox.id,
        url: sandbox.url,
        script: Value::from(&sandbox.script),
        received: sandbox.received,
        created_at: sandbox.created_at.into(),
        expires_at: sandbox.expires_at.into(),
    }
}

/// Create a sandbox
///
/// A receiver inside Postrider, at a URL of its own. It answers as its script says, keeps up to 200 requests, and checks their
/// signatures. A subscriber with this URL needs no permission for targets on the server's machine. After 200 requests or its
/// `ttl` it answers 410, which ends deliveries and deactivates the subscriber.
///
/// Deliveries look as if another program had answered: `reset` is a failed attempt, and `cut` a success with a note, since the
/// status decides. Requests that other programs send to the URL over HTTP are answered and kept as well.
#[utoipa::path(
    post, path = "/v1/sandboxes", operation_id = "create_sandbox", tag = "sandboxes",
    request_body = SandboxRequest,
    responses(
        (status = 201, description = "The new sandbox.", body = SandboxView),
        (
            status = 409, description = "This server offers no sandboxes, or the tenant has 50 already.",
            body = postrider_api::Problem, content_type = "application/problem+json"
        ),
    )
)]
async fn create(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request: SandboxRequest = body.parse_or_default()?;
    let mut errors = Errors::default();
    let ttl = request.ttl.map_or(DEFAULT_TTL, |Span(ttl)| ttl);
    if !TTL.contains(&ttl) {
        errors.add("ttl", "must be between 10s and 24h");
    }
    let script = request.script.map_or(Some(Script::default()), |script| script_of(&script, &mut errors));
    let script = errors.finish(script)?;
    if !state.config.sandbox {
        let detail = "this server offers no sandboxes; its operator can set POSTRIDER_SANDBOX to `on`";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let token = new_token(&**store.ids().random());
    let base = state.config.public_url.as_deref().unwrap_or(NO_BASE);
    let url = sandbox_url(base, &token);
    let new = NewSandbox { token, url, script, ttl };
    let Some(sandbox) = store.create_sandbox(&caller.tenant, new).await? else {
        let detail = format!("there are {MAX_SANDBOXES} sandboxes already; delete one of them");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    };
    let path = format!("/v1/sandboxes/{}", sandbox.id);
    Ok(created(path, Json(view(sandbox))))
}

/// The script of a request; `None` after adding what is wrong with it.
pub(crate) fn script_of(value: &Value, errors: &mut Errors) -> Option<Script> {
    match Script::try_from(value) {
        Ok(script) => Some(script),
        Err(error) => {
            let field = error.place.map_or_else(|| "script".to_owned(), |place| format!("script[{place}]"));
            errors.add(&field, &error.reason);
            None
        }
    }
}

/// List sandboxes
///
/// Newest first, all on one page.
#[utoipa::path(
    get, path = "/v1/sandboxes", operation_id = "list_sandboxes", tag = "sandboxes",
    responses((status = 200, description = "All sandboxes of the tenant.", body = SandboxList))
)]
async fn list(State(state): State<ApiState>, caller: Caller) -> Result<Json<SandboxList>, Problem> {
    let data = state.store.sandboxes(&caller.tenant).await?.into_iter().map(view).collect();
    Ok(Json(SandboxList { data, next_cursor: None }))
}

/// Get a sandbox
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}", operation_id = "get_sandbox", tag = "sandboxes",
    params(("id" = String, Path, description = "The sandbox's id, `sbx_…`.")),
    responses((status = 200, description = "The sandbox.", body = SandboxView))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<id::Sandbox>,
) -> Result<Json<SandboxView>, Problem> {
    let found = state.store.sandbox(&caller.tenant, id).await?;
    Ok(Json(view(found.ok_or_else(missing)?)))
}

/// Delete a sandbox
///
/// With all requests that it has received. Its URL is unknown from then on.
#[utoipa::path(
    delete, path = "/v1/sandboxes/{id}", operation_id = "delete_sandbox", tag = "sandboxes",
    params(("id" = String, Path, description = "The sandbox's id, `sbx_…`.")),
    responses((status = 204, description = "The sandbox is deleted."))
)]
async fn delete(
    Audited(store): Audited,
    caller: Caller,
    PathId(id): PathId<id::Sandbox>,
) -> Result<StatusCode, Problem> {
    if store.delete_sandbox(&caller.tenant, id).await? { Ok(StatusCode::NO_CONTENT) } else { Err(missing()) }
}

/// `PathId` answers a malformed id with the same words as every other route.
fn missing() -> Problem {
    Problem::missing("object")
}
