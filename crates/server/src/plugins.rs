//! Plugins of the deployment: installed, listed and removed.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postrider_api::plugin::{PluginList, PluginRequest, PluginView};
use postrider_core::chain;
use postrider_core::key::Scope;
use postrider_core::plugin::{PluginName, PluginVersion};
use postrider_plugin::limits::MAX_MODULE;
use postrider_plugin::{Module, ModuleError};
use postrider_store::plugins::{MAX_PLUGINS, Plugin, PluginAdded, PluginRemoved};
use tokio::task::spawn_blocking;
use utoipa_axum::routes;

use crate::audit::Audited;
use crate::extract::{JsonBody, PathPlugin};
use crate::needs::Needs;
use crate::problem::{Errors, Problem};
use crate::routes::Routes;
use crate::state::ApiState;

const MANAGE: Needs = Needs::scope(Scope::PluginsManage).on_deployment();

/// A module in base64, and some room for the rest of the request.
const MAX_BODY: usize = MAX_MODULE.div_ceil(3) * 4 + 4096;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .add(MANAGE, routes!(list))
        .add(MANAGE.with_body_of(MAX_BODY), routes!(install))
        .add(MANAGE, routes!(remove))
}

fn view(plugin: Plugin) -> PluginView {
    let Plugin { name, version, checksum, size, created_at } = plugin;
    PluginView { name, version, checksum, size, created_at: created_at.into() }
}

/// List plugins
///
/// In the order of their names, all on one page.
#[utoipa::path(
    get, path = "/v1/plugins", operation_id = "list_plugins", tag = "plugins",
    responses((status = 200, description = "All plugins.", body = PluginList))
)]
async fn list(State(state): State<ApiState>) -> Result<Json<PluginList>, Problem> {
    let data = state.store.plugins().await?.into_iter().map(view).collect();
    Ok(Json(PluginList { data, next_cursor: None }))
}

/// Install a plugin
///
/// A plugin of the same name is replaced, for all subscribers that use it, within 5 s. The server checks the module and
/// refuses one that imports anything or exceeds the bounds of plugins.
#[utoipa::path(
    post, path = "/v1/plugins", operation_id = "install_plugin", tag = "plugins",
    request_body = PluginRequest,
    responses(
        (status = 200, description = "The plugin, which replaces another version.", body = PluginView),
        (status = 201, description = "The new plugin.", body = PluginView),
        (
            status = 409, description = "The plugin has this version already, with another module, or there are too many plugins.",
            body = postrider_api::Problem, content_type = "application/problem+json"
        ),
    )
)]
async fn install(Audited(store): Audited, body: JsonBody) -> Result<Response, Problem> {
    let (request, _room) = body.into_parsed::<PluginRequest>()?;
    let mut errors = Errors::default();
    let name = errors.require("name", request.name);
    let name = name.and_then(|name| errors.check("name", name.parse::<PluginName>()));
    let version = errors.require("version", request.version);
    let version = version.and_then(|version| errors.check("version", version.parse::<PluginVersion>()));
    let module = match errors.require("module", request.module) {
        Some(module) => checked(module).await?.map_err(|message| errors.add("module", &message)).ok(),
        None => None,
    };
    let (name, version, module) = errors.finish((|| Some((name?, version?, module?)))())?;
    let (status, plugin) = match store.add_plugin(&name, &version, module).await? {
        PluginAdded::Created(plugin) => (StatusCode::CREATED, plugin),
        PluginAdded::Replaced(plugin) => (StatusCode::OK, plugin),
        PluginAdded::VersionTaken => {
            let detail = format!(
                "version {version} of the plugin has another module; give the new one another version"
            );
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        PluginAdded::TooMany => {
            let detail = format!("there are {MAX_PLUGINS} plugins already; remove one of them");
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
    };
    let location = HeaderValue::try_from(format!("/v1/plugins/{name}"));
    let mut response = (status, Json(view(plugin))).into_response();
    if let (StatusCode::CREATED, Ok(location)) = (status, location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// The bytes of a module that can be a plugin, or what is wrong with it. It is decoded and compiled off the async threads.
async fn checked(module: String) -> Result<Result<Vec<u8>, String>, Problem> {
    let checked = spawn_blocking(move || {
        let wasm = STANDARD.decode(module).map_err(|error| format!("must be base64: {error}"))?;
        Module::compile(&wasm).map_err(|error: ModuleError| chain(&error).to_string())?;
        Ok(wasm)
    });
    checked.await.map_err(|_| Problem::internal())
}

/// Remove a plugin
///
/// A plugin that subscribers use cannot be removed.
#[utoipa::path(
    delete, path = "/v1/plugins/{name}", operation_id = "remove_plugin", tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name.")),
    responses(
        (status = 204, description = "The plugin is removed."),
        (
            status = 404, description = "There is no such plugin.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
        (
            status = 409, description = "A subscriber uses it.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn remove(Audited(store): Audited, PathPlugin(name): PathPlugin) -> Result<StatusCode, Problem> {
    match store.remove_plugin(&name).await? {
        PluginRemoved::Done => Ok(StatusCode::NO_CONTENT),
        PluginRemoved::Missing => Err(Problem::missing("plugin")),
        PluginRemoved::InUse => {
            let detail = format!("subscribers use the plugin `{name}`; change them first");
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
    }
}
