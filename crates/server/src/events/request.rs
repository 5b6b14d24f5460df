//! Validation of an event request.

use axum::http::HeaderMap;
use postrider_api::event::EventRequest;
use postrider_core::{Channels, EventData, Metadata, TenantId};
use postrider_dispatch::{IdempotencyKey, NewEvent};

use crate::problem::Errors;

/// The header that means the same as the field `id`.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The validated event, or `None` if `errors` received a complaint. `header` is the `Idempotency-Key`.
pub(crate) fn validated(
    request: EventRequest,
    tenant: TenantId,
    header: Option<IdempotencyKey>,
    trace: Option<String>,
    errors: &mut Errors,
) -> Option<NewEvent> {
    let event_type = errors.require("event", request.event_type);
    let event_type = event_type.and_then(|event_type| errors.check("event", event_type.parse()));
    // A `null` deserialises as an absent field.
    let data = request.data.map(EventData::from_raw);
    if data.is_none() {
        errors.add("data", "data is required and must be an object or an array");
    }
    let data = data.and_then(|data| errors.check("data", data));
    let agent_id = request.agent_id.and_then(|agent| errors.check("agent_id", agent.parse()));
    let id = request.id.and_then(|id| errors.check("id", IdempotencyKey::parse(&id)));
    if let (Some(id), Some(header)) = (&id, &header)
        && id != header
    {
        errors.add("id", "`id` and the header `Idempotency-Key` differ; give only one of them");
    }
    let channels = request.channels.and_then(|words| errors.check("channels", Channels::try_from(words)));
    let metadata = errors.check("metadata", Metadata::try_from(request.metadata.unwrap_or_default()));
    let (event_type, data, metadata) = (event_type?, data?, metadata?);
    Some(NewEvent { tenant, event_type, data, agent_id, key: id.or(header), trace, channels, metadata })
}

/// The `Idempotency-Key`, if the request has a valid one.
pub(crate) fn idempotency_key(headers: &HeaderMap, errors: &mut Errors) -> Option<IdempotencyKey> {
    let value = headers.get(IDEMPOTENCY_KEY)?;
    // A value outside ASCII becomes empty, which is not a valid key either.
    errors.check("Idempotency-Key", IdempotencyKey::parse(value.to_str().unwrap_or_default()))
}
