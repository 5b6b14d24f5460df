//! The OpenAPI description, generated from the routes.

use axum::http::Method;
use postrider_core::key::Scope;
use utoipa::OpenApi;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem,
};
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, Header, Object, Ref, RefOr, Response, ResponseBuilder, Schema, Type};

use crate::needs::{Needs, Trail};
use crate::webhook;

/// Everything that does not belong to one route.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Postrider",
        description = "Events in, webhooks out. Every path under `/v1` requires a key with the scopes \
            that it names: the operator's from the server's environment, which has all of them, or one made with `POST /v1/keys`. \
            The key of a tenant acts for that tenant. Errors are problem \
            documents (RFC 9457) that name the invalid fields; a request that fails with 4xx stores nothing. Lists are \
            newest first, one page at a time. Every answer has the header `x-request-id`: the caller's, if the request has \
            one of up to 128 characters of `A-Za-z0-9._:-`, or a new one; problems repeat it. Writes of a tenant that is \
            being deleted are answered with 409.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    servers((url = "/", description = "The server that answers this description")),
    tags(
        (name = "events", description = "Dispatching and reading events"),
        (name = "subscribers", description = "Endpoints that receive events"),
        (name = "deliveries", description = "One event on its way to one subscriber"),
        (name = "dead letters", description = "Deliveries that Postrider has given up"),
        (name = "replays", description = "Delivering again what matches a filter"),
        (name = "tail", description = "What happens, as it happens"),
        (name = "sandboxes", description = "Receivers for tests"),
        (name = "listeners", description = "Deliveries to a program on another machine"),
        (name = "plugins", description = "WebAssembly modules that change what subscribers receive"),
        (name = "tenants", description = "The owners of data"),
        (name = "audit", description = "Who changed what, and when"),
        (name = "portal", description = "Pages for the owners of subscribers"),
        (name = "keys", description = "Who may call the API, and what they may do"),
        (name = "stats", description = "Counts and latencies"),
        (name = "queue", description = "Who is running, what is waiting, for how long, and why"),
        (name = "operation", description = "For operators and monitoring; no key required"),
    ),
    components(schemas(
        postrider_api::Problem,
        postrider_api::tail::LeftOutView,
        postrider_api::tail::TailAttemptView,
        postrider_api::listener::ListenerDeliveryView,
        postrider_core::audit::AuditAction,
    ))
)]
pub(crate) struct Api;

const KEY: &str = "key";

/// The routes without a key, which are not handlers of this crate's API router.
const PUBLIC: [(&str, &str, &str, &str); 4] = [
    ("/healthz", "get_health", "Whether the process is alive", "application/json"),
    ("/readyz", "get_readiness", "Whether the server can work", "application/json"),
    ("/openapi.json", "get_description", "This description", "application/json"),
    ("/docs", "get_docs", "This description, for people", "text/html"),
];

/// The description as JSON.
pub(crate) fn document(mut api: utoipa::openapi::OpenApi) -> String {
    for (path, name, summary, media_type) in PUBLIC {
        let response = |description: &str| {
            ResponseBuilder::new().description(description).content(media_type, Content::default())
        };
        let mut operation = OperationBuilder::new()
            .tag("operation")
            .operation_id(Some(name))
            .summary(Some(summary))
            .securities(Some([]))
            .response("200", response(summary));
        if path == "/readyz" {
            operation = operation.response("503", response("The server cannot work; `reason` says why."));
        }
        api.paths.paths.insert(path.to_owned(), PathItem::new(HttpMethod::Get, operation));
    }
    let key = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A key. The roles that an operation names are scopes."));
    let components = api.components.get_or_insert_default();
    components.add_security_scheme(KEY, SecurityScheme::Http(key.build()));
    components.schemas.extend(webhook::schemas());
    api.webhooks = Some(webhook::description());
    // All values are plain data, so that serialising them cannot fail.
    api.to_json().unwrap_or_default()
}

/// Adds to an operation what follows from `needs`, and what all operations have in common.
pub(crate) fn complete(operation: &mut Operation, method: &Method, needs: Needs) {
    let scopes: Vec<_> = needs.scopes.iter().map(Scope::as_str).collect();
    let named = scopes.iter().map(|scope| format!("`{scope}`")).collect::<Vec<_>>().join(" and ");
    let before = operation.description.take().map_or_else(String::new, |text| format!("{text}\n\n"));
    operation.description = Some(format!("{before}Needs {named}."));
    operation.security = Some(vec![SecurityRequirement::new(KEY, scopes)]);
    let parameters = operation.parameters.get_or_insert_default();
    let is_name = |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(parameter) if ["id", "name"].contains(&&*parameter.name));
    let has_id = parameters.iter().any(is_name);
    parameters.iter_mut().for_each(never_empty);
    let tenant = ParameterBuilder::new()
        .name("X-Tenant-ID")
        .parameter_in(ParameterIn::Header)
        .description(Some(if needs.deployment {
            "The tenant for which an operator acts. Default: the whole deployment."
        } else {
            "The tenant for which an operator acts. Default: `default`."
        }))
        .schema(Some(text("^[a-z0-9_-]{1,64}$")));
    parameters.push(tenant.build().into());
    let once = method == Method::POST && needs.trail == Trail::Changes;
    if once {
        let key = ParameterBuilder::new()
            .name("Idempotency-Key")
            .parameter_in(ParameterIn::Header)
            .description(Some(
                "Up to 255 printable ASCII characters, chosen by the caller. For 24 hours the same request with the same \
                 credential and key is not carried out again, but answered as the first time, with the header \
                 `Idempotency-Replayed`.",
            ))
            .schema(Some(text("^[ -~]{1,255}$")));
        parameters.push(key.build().into());
    }
    let mut errors = vec![
        ("401", "The key is missing, wrong, expired or revoked."),
        (
            "403",
            "The key lacks a scope, which `needs` names, or its limits or its tenant do not allow the request.",
        ),
        ("429", "The key has made too many requests, or the address has shown too many wrong keys."),
        ("422", "A field, parameter or header is invalid; `errors` names it."),
        ("500", "The server failed; its log has the cause."),
        ("503", "The server cannot handle the request now. Try again after `Retry-After` seconds."),
    ];
    let writes = [Method::POST, Method::PUT, Method::PATCH].contains(method);
    if writes && !once {
        errors.push(("409", "The tenant is being deleted."));
    }
    if once {
        errors.push((
            "409",
            "The `Idempotency-Key` was used for another request, or for one that is not answered yet. Or the tenant is being deleted.",
        ));
    }
    if has_id {
        errors.push(("404", "Not found."));
    }
    if let Some(body) = &mut operation.request_body {
        if let RefOr::T(body) = body {
            for content in body.content.values_mut() {
                if let RefOr::T(content) = content {
                    without_null(content);
                }
            }
        }
        errors.extend([
            ("400", "The body is not JSON."),
            ("413", "The body exceeds the limit."),
            ("415", "The `Content-Type` is not JSON."),
        ]);
    }
    let responses = &mut operation.responses.responses;
    for (status, description) in errors {
        let response = problem(description);
        responses.entry(status.to_owned()).or_insert_with(|| response.into());
    }
    for (status, response) in responses {
        if let RefOr::T(response) = response {
            response.headers.extend(headers(status).map(|(name, header)| (name.to_owned(), header.into())));
        }
    }
}

/// A text that matches a pattern.
fn text(pattern: &str) -> Object {
    let mut text = Object::with_type(Type::String);
    text.pattern = Some(pattern.to_owned());
    text
}

/// An empty parameter is refused, because it would select everything.
fn never_empty(parameter: &mut RefOr<Parameter>) {
    if let RefOr::T(Parameter { schema: Some(RefOr::T(Schema::Object(schema))), .. }) = parameter
        && schema.schema_type == SchemaType::Type(Type::String)
        && schema.min_length.is_none()
    {
        schema.min_length = Some(1);
    }
}

/// A body that may be absent must still not be `null`, which is how utoipa describes an `Option`.
fn without_null(content: &mut Content) {
    let Some(RefOr::T(Schema::OneOf(either))) = &content.schema else { return };
    let reference = either.items.iter().find(|item| matches!(item, RefOr::Ref(_)));
    if let (2, Some(reference)) = (either.items.len(), reference) {
        content.schema = Some(reference.clone());
    }
}

fn problem(description: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new().description(description).content("application/problem+json", content).build()
}

/// The headers of responses with that status.
fn headers(status: &str) -> impl Iterator<Item = (&'static str, Header)> {
    let own = match status {
        "201" => Some(("Location", Type::String, "The path of what was created.")),
        "401" => Some(("WWW-Authenticate", Type::String, "Always `Bearer`.")),
        "429" | "503" => Some(("Retry-After", Type::Integer, "After how many seconds to try again.")),
        _ => None,
    };
    let common = ("Cache-Control", Type::String, "Always `no-store`.");
    own.into_iter().chain([common]).map(|(name, kind, description)| {
        let header =
            HeaderBuilder::new().schema(Some(Object::with_type(kind))).description(Some(description));
        (name, header.build())
    })
}
