//! The description of the API: made from the routes themselves.

use utoipa::OpenApi;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem,
};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, Object, Ref, RefOr, Response, ResponseBuilder, Type};

use crate::problem::Problem;

/// What is not of one route.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Postrider",
        description = "Events in, webhooks out. Every path under `/v1` wants the operator's key. Errors are problem \
            documents (RFC 9457) that name the fields which are wrong; of a request that is refused nothing is \
            stored. Lists are newest first, a page at a time.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "events", description = "What happened"),
        (name = "subscribers", description = "Who wants to know"),
        (name = "deliveries", description = "One event on its way to one subscriber"),
        (name = "dead letters", description = "Deliveries that were given up"),
        (name = "stats", description = "Counts and latencies"),
        (name = "operation", description = "For those who run it; no key needed"),
    ),
    components(schemas(Problem))
)]
pub(crate) struct Api;

const KEY: &str = "operator_key";

/// The description as JSON, with what all routes have in common.
pub(crate) fn complete(mut api: utoipa::openapi::OpenApi) -> String {
    for item in api.paths.paths.values_mut() {
        let PathItem { get, post, patch, delete, .. } = item;
        for operation in [get, post, patch, delete].into_iter().flatten() {
            complete_operation(operation);
        }
    }
    for (path, summary, media_type) in [
        ("/healthz", "Whether the process lives", "application/json"),
        ("/readyz", "Whether it can do its work (503 if not)", "application/json"),
        ("/metrics", "Metrics for Prometheus", "text/plain"),
        ("/openapi.json", "This description", "application/json"),
        ("/docs", "This description, for people", "text/html"),
    ] {
        let response = ResponseBuilder::new().description(summary).content(media_type, Content::default());
        let operation =
            OperationBuilder::new().tag("operation").summary(Some(summary)).response("200", response);
        api.paths.paths.insert(path.to_owned(), PathItem::new(HttpMethod::Get, operation));
    }
    let key = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("The operator's key"));
    let components = api.components.get_or_insert_default();
    components.add_security_scheme(KEY, SecurityScheme::Http(key.build()));
    // Made of plain values: this cannot fail.
    api.to_json().unwrap_or_default()
}

fn complete_operation(operation: &mut Operation) {
    operation.security = Some(vec![SecurityRequirement::new::<_, _, String>(KEY, [])]);
    let parameters = operation.parameters.get_or_insert_default();
    let is_id =
        |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(parameter) if parameter.name == "id");
    let has_id = parameters.iter().any(is_id);
    let tenant = ParameterBuilder::new()
        .name("X-Tenant-ID")
        .parameter_in(ParameterIn::Header)
        .description(Some("For whom the operator acts; `default` if not given."))
        .schema(Some(Object::with_type(Type::String)));
    parameters.push(tenant.build().into());
    let mut errors = vec![
        ("401", "No key, or not the operator's."),
        ("422", "A field, parameter or header is wrong; `errors` names it."),
        ("503", "Not now; `Retry-After` says when to try again."),
    ];
    if has_id {
        errors.push(("404", "There is no such thing."));
    }
    if operation.request_body.is_some() {
        errors.extend([
            ("400", "The body is not JSON."),
            ("413", "The body is over the limit."),
            ("415", "The body is not said to be JSON."),
        ]);
    }
    for (status, description) in errors {
        let response = problem(description);
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| response.into());
    }
}

fn problem(description: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new().description(description).content("application/problem+json", content).build()
}
