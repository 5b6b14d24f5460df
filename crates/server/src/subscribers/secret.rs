//! Subscribers' secrets: shown, and rotated.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use postrider_core::{Secret, id};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::auth::Caller;
use crate::extract::{JsonBody, PathId};
use crate::problem::{Errors, Problem};
use crate::state::ApiState;

/// How long a former secret signs beside the new one if nobody says: a day; and at most: seven.
const DEFAULT_OVERLAP: u64 = 24 * 60 * 60;
const MAX_OVERLAP: u64 = 7 * DEFAULT_OVERLAP;

/// A secret. It has no Debug, so that no log can show it.
#[derive(Serialize, ToSchema)]
pub(super) struct SecretView {
    /// What deliveries are signed with.
    #[schema(value_type = String, example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: Zeroizing<String>,
    /// Of a `whsk_` secret the key that receivers verify with (`whpk_…`).
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
}

impl SecretView {
    pub(super) fn of(secret: &Secret) -> Self {
        Self { secret: Zeroizing::new(secret.expose().to_owned()), public_key: secret.public_key() }
    }
}

/// Get a subscriber's secret
#[utoipa::path(
    get, path = "/v1/subscribers/{id}/secret", operation_id = "get_secret", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`.")),
    responses((status = 200, description = "The secret.", body = SecretView))
)]
pub(super) async fn read_secret(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<id::Subscriber>,
) -> Result<Json<SecretView>, Problem> {
    let secret = state.store.secret(&caller.tenant, id).await?;
    secret.map(|secret| Json(SecretView::of(&secret))).ok_or_else(|| Problem::missing("subscriber"))
}

/// How a secret is to be rotated.
// No Debug: it holds a secret.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateRequest {
    /// The new secret: 8 to 256 characters, or a `whsec_` or `whsk_` key. Made if not given.
    #[schema(value_type = Option<String>)]
    secret: Option<Zeroizing<String>>,
    /// How long the former secret signs beside the new one: up to seven days; a day if not given.
    #[schema(maximum = 604_800, default = 86_400)]
    overlap_seconds: Option<u64>,
}

/// Rotate a subscriber's secret
///
/// For the time of the overlap both secrets sign, so that receivers can change theirs in between.
#[utoipa::path(
    post, path = "/v1/subscribers/{id}/secret/rotate", operation_id = "rotate_secret", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`.")),
    request_body = Option<RotateRequest>,
    responses((status = 200, description = "The new secret.", body = SecretView))
)]
pub(super) async fn rotate_secret(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<id::Subscriber>,
    body: JsonBody,
) -> Result<Json<SecretView>, Problem> {
    let request: RotateRequest = body.parse_or_default()?;
    let mut errors = Errors::default();
    let secret = match request.secret {
        Some(secret) => errors.check("secret", Secret::parse(&secret)),
        None => Some(Secret::generate(state.store.ids().random())),
    };
    let overlap = request.overlap_seconds.unwrap_or(DEFAULT_OVERLAP);
    if overlap > MAX_OVERLAP {
        errors.add("overlap_seconds", &format!("an overlap has at most {MAX_OVERLAP} seconds"));
    }
    let secret = errors.finish(secret)?;
    let overlap = Duration::from_secs(overlap);
    if state.store.rotate_secret(&caller.tenant, id, &secret, overlap).await? {
        Ok(Json(SecretView::of(&secret)))
    } else {
        Err(Problem::missing("subscriber"))
    }
}
