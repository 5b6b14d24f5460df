//! An event as it is given.

use axum::http::HeaderMap;
use postrider_core::{EventData, TenantId};
use postrider_dispatch::{IdempotencyKey, NewEvent};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::problem::Errors;

/// The header that says the same as `id`.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// An event to be dispatched.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EventRequest {
    /// Its type: 1 to 128 characters of `A-Z a-z 0-9 . _ -`.
    #[schema(value_type = String, required = true, pattern = "^[A-Za-z0-9_.-]{1,128}$", example = "order.created")]
    event: Option<String>,
    /// What it says: an object or an array, which every subscriber gets byte for byte.
    #[schema(value_type = Object, required = true, example = json!({"order": 1}))]
    data: Option<Box<RawValue>>,
    /// Who emits it: 1 to 128 printable ASCII characters. If not given, the server's default.
    #[schema(max_length = 128, example = "my-agent")]
    agent_id: Option<String>,
    /// What makes a repeated request one event: 1 to 255 printable ASCII characters of your choice.
    #[schema(max_length = 255, example = "order-1-created")]
    id: Option<String>,
}

impl EventRequest {
    /// The event, if every field holds; `errors` has what does not. `header` is the `Idempotency-Key`.
    pub(super) fn judge(
        self,
        tenant: TenantId,
        header: Option<IdempotencyKey>,
        trace: Option<String>,
        errors: &mut Errors,
    ) -> Option<NewEvent> {
        let event = errors.require("event", self.event);
        let event = event.and_then(|event| errors.check("event", event.parse()));
        // Null arrives as nothing.
        let data = self.data.map(EventData::from_raw);
        if data.is_none() {
            errors.add("data", "data must be given, and be an object or an array");
        }
        let data = data.and_then(|data| errors.check("data", data));
        let agent_id = self.agent_id.and_then(|agent| errors.check("agent_id", agent.parse()));
        let id = self.id.and_then(|id| errors.check("id", IdempotencyKey::parse(&id)));
        if let (Some(id), Some(header)) = (&id, &header)
            && id != header
        {
            errors.add("id", "`id` and the header `Idempotency-Key` say the same thing; these differ");
        }
        Some(NewEvent { tenant, event_type: event?, data: data?, agent_id, key: id.or(header), trace })
    }
}

/// The `Idempotency-Key`, if there is one.
pub(super) fn idempotency_key(headers: &HeaderMap, errors: &mut Errors) -> Option<IdempotencyKey> {
    let value = headers.get(IDEMPOTENCY_KEY)?;
    // What is not ASCII becomes nothing, which is no key either.
    errors.check("Idempotency-Key", IdempotencyKey::parse(value.to_str().unwrap_or_default()))
}
