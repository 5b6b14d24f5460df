//! Subscribers' secrets: read and rotated.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use postrider_api::secret::{RotateRequest, SecretView};
use postrider_core::{Secret, id};

use crate::caller::Caller;
use crate::extract::{JsonBody, PathId};
use crate::problem::{Errors, Problem};
use crate::state::ApiState;

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
    caller.reach(id, "subscriber")?;
    let secret = state.store.secret(&caller.tenant, id).await?;
    secret.map(|secret| Json(SecretView::from(&secret))).ok_or_else(|| Problem::missing("subscriber"))
}

/// Rotate a subscriber's secret
///
/// During the overlap both secrets sign every delivery, so that receivers can switch from the old one to the new one
/// without rejecting anything.
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
    caller.reach(id, "subscriber")?;
    let mut errors = Errors::default();
    let secret = match request.secret {
        Some(secret) => errors.check("secret", Secret::parse(&secret)),
        None => Some(Secret::generate(state.store.ids().random())),
    };
    let overlap = request.overlap_seconds.map_or(RotateRequest::DEFAULT_OVERLAP, Duration::from_secs);
    if overlap > RotateRequest::MAX_OVERLAP {
        let max = RotateRequest::MAX_OVERLAP.as_secs();
        errors.add("overlap_seconds", &format!("must be at most {max}"));
    }
    let secret = errors.finish(secret)?;
    if state.store.rotate_secret(&caller.tenant, id, &secret, overlap).await? {
        Ok(Json(SecretView::from(&secret)))
    } else {
        Err(Problem::missing("subscriber"))
    }
}
