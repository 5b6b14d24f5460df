//! Subscribers that a request names by their id or their uid.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use postrider_core::{SubscriberId, SubscriberRef, TenantId};
use postrider_store::Store;

use crate::caller::Caller;
use crate::extract::id_in_path;
use crate::problem::Problem;
use crate::state::ApiState;

/// The subscriber that the `{id}` of the path names, if the caller reaches it: it exists if it is named by its uid, and may not
/// exist if it is named by its id. Anything else is answered like an unknown one: 404.
pub(crate) struct PathSubscriber(pub(crate) SubscriberId);

impl FromRequestParts<ApiState> for PathSubscriber {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let PathName(named) = PathName::from_request_parts(parts, state).await?;
        let caller = Caller::from_request_parts(parts, state).await?;
        let found = resolve(&state.store, &caller.tenant, &named).await?;
        let id = found.ok_or_else(|| Problem::missing("subscriber"))?;
        caller.reach(id, "subscriber")?;
        Ok(Self(id))
    }
}

/// The `{id}` of the path as it is: an id or a uid.
pub(crate) struct PathName(pub(crate) SubscriberRef);

impl FromRequestParts<ApiState> for PathName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        id_in_path(parts, state).await.map(Self).ok_or_else(|| Problem::missing("subscriber"))
    }
}

/// The id of a subscriber; `None` if the tenant has none with this uid. An id costs no query.
pub(crate) async fn resolve(
    store: &Store,
    tenant: &TenantId,
    named: &SubscriberRef,
) -> Result<Option<SubscriberId>, Problem> {
    match named {
        SubscriberRef::Id(id) => Ok(Some(*id)),
        SubscriberRef::Uid(uid) => Ok(store.subscriber_with_uid(tenant, uid).await?),
    }
}

/// The subscriber by which a request filters; see [`Caller::filtered`]. A uid that no subscriber has is refused: a
/// misspelt name must not look like a quiet subscriber.
pub(crate) async fn filtered(
    store: &Store,
    caller: &Caller,
    given: Option<SubscriberRef>,
) -> Result<Option<SubscriberId>, Problem> {
    let Some(named) = given else { return caller.filtered(None) };
    match resolve(store, &caller.tenant, &named).await? {
        Some(id) => caller.filtered(Some(id)),
        // A limited key must not learn which uids there are.
        None if caller.subscribers().is_some() => Err(Caller::must_name_its_own()),
        None => {
            Err(Problem::field("subscriber_id", "is neither a subscriber's id, `sub_…`, nor the uid of one"))
        }
    }
}
