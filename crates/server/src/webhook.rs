//! The description of the request that a subscriber receives.

use std::iter;

use postrider_api::event::DeliveryBody;
use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{
    Content, Object, Paths, Ref, RefOr, Required, Response, ResponseBuilder, Schema, Type,
};
use utoipa::{PartialSchema as _, ToSchema as _};

/// Headers of a delivery: name, whether every delivery has it, description.
const HEADERS: [(&str, bool, &str); 8] = [
    ("webhook-id", true, "The event's id. It is the same in every attempt, so use it to discard duplicates."),
    ("webhook-timestamp", true, "The time of the attempt, in Unix seconds."),
    (
        "webhook-signature",
        true,
        "Standard Webhooks 1.0.0: `v1,` and the base64 HMAC-SHA256 of `id.timestamp.body`; `v1a,` and an Ed25519 \
         signature if the secret is a `whsk_` key. While a secret is being rotated there are several, separated by \
         spaces.",
    ),
    ("X-Agent-Signature", true, "`sha256=` and the hexadecimal HMAC-SHA256 of the body."),
    ("X-Agent-ID", true, "The emitter of the event."),
    ("X-Event-Type", true, "The event type."),
    ("User-Agent", true, "Always `AI-Agent-Webhook/1.0`."),
    ("traceparent", false, "W3C Trace Context, if the event was dispatched within a trace."),
];

/// Responses of a receiver, and what follows from them.
const RESPONSES: [(&str, &str); 5] = [
    (
        "2XX",
        "The delivery has succeeded. Postrider stores the status, the headers and the beginning of the body.",
    ),
    (
        "410",
        "The receiver wants no further deliveries. Postrider gives this delivery up and deactivates the subscriber.",
    ),
    (
        "429",
        "The attempt has failed. The next one starts after `Retry-After`, but no earlier than the retry policy says.",
    ),
    ("503", "The same as 429."),
    (
        "default",
        "The attempt has failed. Redirects are not followed. The next attempt follows the subscriber's policy; after \
         the last one, the delivery is dead.",
    ),
];

/// The `webhooks` of the description.
pub(crate) fn description() -> Paths {
    let body = RequestBodyBuilder::new()
        .content("application/json", Content::new(Some(Ref::from_schema_name(DeliveryBody::name()))))
        .required(Some(Required::True));
    let operation = OperationBuilder::new()
        .operation_id(Some("deliver_event"))
        .tag("deliveries")
        .summary(Some("A delivery to a subscriber"))
        .description(Some(
            "Postrider sends this request to the subscriber's `url`, with the subscriber's own `headers` added. The \
             body shown is that of the format `postrider`; a subscriber may ask for another `format`. It is the same, byte \
             for byte, in every attempt under one format.",
        ))
        .parameters(Some(HEADERS.map(|(name, always, description)| header(name, always, description))))
        .request_body(Some(body.build()))
        .responses(RESPONSES.into_iter().fold(
            utoipa::openapi::Responses::new(),
            |mut responses, (status, description)| {
                let response: Response = ResponseBuilder::new().description(description).build();
                responses.responses.insert(status.to_owned(), response.into());
                responses
            },
        ))
        .securities(Some([]));
    PathsBuilder::new().path("delivery", PathItem::new(HttpMethod::Post, operation)).build()
}

/// The schemas that the description refers to.
pub(crate) fn schemas() -> impl Iterator<Item = (String, RefOr<Schema>)> {
    iter::once((DeliveryBody::name().into_owned(), DeliveryBody::schema()))
}

fn header(name: &str, always: bool, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(if always { Required::True } else { Required::False })
        .description(Some(description))
        .schema(Some(Object::with_type(Type::String)))
        .build()
}
