//! Subscribers' secrets: read and rotated.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use postrider_api::secret::{PreviousSecretView, RotateRequest, SecretView, SecretsView};
use postrider_core::Secret;
use postrider_store::subscribers::{PreviousSecret, Rotated};

use crate::audit::Audited;
use crate::caller::Caller;
use crate::extract::JsonBody;
use crate::named::PathSubscriber;
use crate::problem::{Errors, Problem};
use crate::state::ApiState;

/// Get a subscriber's secret
///
/// With the replaced ones that still sign beside it.
#[utoipa::path(
    get, path = "/v1/subscribers/{id}/secret", operation_id = "get_secret", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`, or its uid.")),
    responses((status = 200, description = "The secrets.", body = SecretsView))
)]
pub(super) async fn read_secret(
    Audited(store): Audited,
    caller: Caller,
    PathSubscriber(id): PathSubscriber,
) -> Result<Json<SecretsView>, Problem> {
    let found = store.secret(&caller.tenant, id).await?;
    let (secret, previous) = found.ok_or_else(|| Problem::missing("subscriber"))?;
    let previous = previous.into_iter().map(|PreviousSecret { secret, until }| PreviousSecretView {
        secret: SecretView::from(&secret),
        expires_at: until.into(),
    });
    Ok(Json(SecretsView { secret: SecretView::from(&secret), previous: previous.collect() }))
}

/// Rotate a subscriber's secret
///
/// During the overlap both secrets sign every delivery, so that receivers can switch from the old one to the new one
/// without rejecting anything. Several rotations may overlap: up to 10 replaced secrets sign beside the newest one. If the
/// server lacks the key that decrypts the present secret, there is no overlap.
#[utoipa::path(
    post, path = "/v1/subscribers/{id}/secret/rotate", operation_id = "rotate_secret", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`, or its uid.")),
    request_body = Option<RotateRequest>,
    responses(
        (status = 200, description = "The new secret.", body = SecretView),
        (
            status = 409, description = "10 replaced secrets still sign.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
pub(super) async fn rotate_secret(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathSubscriber(id): PathSubscriber,
    body: JsonBody,
) -> Result<Json<SecretView>, Problem> {
    let request: RotateRequest = body.parse_or_default()?;
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
    match store.rotate_secret(&caller.tenant, id, &secret, overlap).await? {
        Rotated::Done(_) => Ok(Json(SecretView::from(&secret))),
        Rotated::TooManyPrevious => Err(Problem::new(
            StatusCode::CONFLICT,
            "10 replaced secrets still sign; wait until one expires, or rotate with `overlap_seconds` 0, which ends all of them",
        )),
        Rotated::Missing => Err(Problem::missing("subscriber")),
    }
}
