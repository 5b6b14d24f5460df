//! Creating or replacing a subscriber by its name.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use postrider_api::subscriber::{CreatedSubscriberView, SubscriberRequest, SubscriberView};
use postrider_core::SubscriberRef;
use postrider_store::StoreError;
use postrider_store::subscribers::Changing;

use super::{created_subscriber, request, subscriber_view};
use crate::audit::Audited;
use crate::caller::Caller;
use crate::extract::JsonBody;
use crate::named::{PathName, resolve};
use crate::problem::Problem;
use crate::state::ApiState;

/// How often to look again when others create and delete the subscriber at the same time.
const MOST_TRIES: u32 = 5;

/// Create or replace a subscriber
///
/// A uid that no subscriber has creates one, and the answer includes its secret. Otherwise the subscriber is replaced: fields
/// that are absent take their default, except the secret, which is kept. A secret that is given signs at once and alone. A
/// `url` at another host needs the secret, or `keep_secrets`. An id that no subscriber has is 404. May be repeated.
#[utoipa::path(
    put, path = "/v1/subscribers/{id}", operation_id = "put_subscriber", tag = "subscribers",
    params(("id" = String, Path, description = "The subscriber's id, `sub_…`, or its uid.")),
    request_body = SubscriberRequest,
    responses(
        (status = 200, description = "The replaced subscriber.", body = SubscriberView),
        (status = 201, description = "The new subscriber, with its secret.", body = CreatedSubscriberView),
        (
            status = 409, description = "Another subscriber has the `uid`.", body = postrider_api::Problem,
            content_type = "application/problem+json"
        ),
    )
)]
pub(super) async fn put(
    State(state): State<ApiState>,
    Audited(store): Audited,
    caller: Caller,
    PathName(named): PathName,
    body: JsonBody,
) -> Result<Response, Problem> {
    let mut request: SubscriberRequest = body.parse()?;
    match &named {
        SubscriberRef::Id(id) => {
            caller.reach(*id, "subscriber")?;
            // Before the body is judged: an unknown id is answered alike whatever the body says.
            let found = state.store.subscriber(&caller.tenant, *id).await?;
            found.ok_or_else(|| Problem::missing("subscriber"))?;
        }
        SubscriberRef::Uid(uid) => match &request.uid {
            Some(given) if given != uid.as_str() => {
                return Err(Problem::field("uid", "differs from the uid in the path"));
            }
            _ => request.uid = Some(uid.to_string()),
        },
    }
    let secrets = request::Secrets { are_given: request.secret.is_some(), may_move: request.keep_secrets };
    let new = request::new_subscriber(request, &caller.tenant, &state).await?;
    for _ in 0..MOST_TRIES {
        if let Some(id) = resolve(&store, &caller.tenant, &named).await? {
            caller.reach(id, "subscriber")?;
            let change = |present: Changing<'_>| request::replacement(new.clone(), secrets, &present);
            match store.change_subscriber_with(&caller.tenant, id, change).await? {
                Some(replaced) => return Ok(Json(subscriber_view(replaced)).into_response()),
                None if matches!(named, SubscriberRef::Id(_)) => return Err(Problem::missing("subscriber")),
                // It was deleted a moment ago.
                None => {}
            }
        } else if caller.subscribers().is_some() {
            // A limited key creates none, and must not learn which uids there are.
            return Err(Problem::missing("subscriber"));
        } else {
            match store.create_subscriber(&caller.tenant, new.clone()).await {
                Ok(subscriber) => return Ok(created_subscriber(subscriber, &new.secret)),
                // Another request created it a moment ago.
                Err(StoreError::UidTaken) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Err(Problem::new(
        StatusCode::CONFLICT,
        "others create and delete this subscriber at the same time; try again",
    ))
}
