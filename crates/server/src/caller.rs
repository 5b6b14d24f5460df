//! Who makes a request, and what they may do.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use postrider_core::key::{KeyLimits, Powers, Scope, Scopes};
use postrider_core::{EventType, SubscriberId, TenantId, Timestamp};
use postrider_store::keys::KeysOf;

use crate::known_keys::KnownKey;
use crate::problem::Problem;

/// Whose key a request shows.
#[derive(Clone, Debug)]
pub(crate) enum Actor {
    /// The operator, with the key in the server's environment.
    Environment,
    /// A key of an operator or of a tenant.
    Key(Arc<KnownKey>),
    /// Somebody who has used a link to the portal.
    #[cfg(feature = "console")]
    Guest(Arc<Guest>),
}

/// A session in the portal.
#[cfg(feature = "console")]
#[derive(Debug)]
pub(crate) struct Guest {
    /// The word that stands for the session.
    pub(crate) name: String,
    /// The name of the key that made the link.
    pub(crate) key: String,
    /// A tenant's, no more than those of that key.
    pub(crate) powers: Powers,
}

/// Who makes an authenticated request, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The tenant for which the request acts.
    pub(crate) tenant: TenantId,
    pub(crate) actor: Actor,
    /// Whether the request may concern only that tenant, in the calls that otherwise concern the whole deployment.
    pub(crate) one_tenant: bool,
}

impl Actor {
    pub(crate) fn scopes(&self) -> Scopes {
        match self {
            Self::Environment => Scopes::ALL,
            Self::Key(known) => known.key.powers.scopes,
            #[cfg(feature = "console")]
            Self::Guest(guest) => guest.powers.scopes,
        }
    }

    /// The tenant of the key; `None` if it is an operator's.
    pub(crate) fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Environment => None,
            Self::Key(known) => known.key.powers.tenant.as_ref(),
            #[cfg(feature = "console")]
            Self::Guest(guest) => guest.powers.tenant.as_ref(),
        }
    }

    pub(crate) fn limits(&self) -> Option<&KeyLimits> {
        match self {
            Self::Environment => None,
            Self::Key(known) => Some(&known.key.powers.limits),
            #[cfg(feature = "console")]
            Self::Guest(guest) => Some(&guest.powers.limits),
        }
    }

    fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Self::Environment => None,
            Self::Key(known) => known.key.powers.expires_at,
            #[cfg(feature = "console")]
            Self::Guest(guest) => guest.powers.expires_at,
        }
    }

    /// The name of the key.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Environment => "environment".to_owned(),
            Self::Key(known) => known.key.name.clone(),
            #[cfg(feature = "console")]
            Self::Guest(guest) => format!("portal, by {}", guest.key),
        }
    }

    /// The word that stands for the actor in what it has created and changed.
    pub(crate) fn id(&self) -> String {
        match self {
            Self::Environment => "environment".to_owned(),
            Self::Key(known) => known.key.id.to_string(),
            #[cfg(feature = "console")]
            Self::Guest(guest) => guest.name.clone(),
        }
    }
}

impl Caller {
    /// What the caller could give to a key.
    pub(crate) fn powers(&self) -> Powers {
        Powers {
            tenant: self.one_tenant.then(|| self.tenant.clone()),
            scopes: self.actor.scopes(),
            limits: self.actor.limits().cloned().unwrap_or_default(),
            expires_at: self.actor.expires_at(),
        }
    }

    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.actor.scopes().contains(scope)
    }

    /// Whether the caller is an operator. Only operators see what concerns the whole deployment.
    pub(crate) fn is_operator(&self) -> bool {
        self.actor.tenant().is_none()
    }

    /// Whose keys the request concerns.
    pub(crate) fn keys_of(&self) -> KeysOf<'_> {
        if self.one_tenant { KeysOf::Tenant(&self.tenant) } else { KeysOf::Everyone }
    }

    /// Whether the request concerns this tenant, in calls that concern the whole deployment otherwise.
    pub(crate) fn concerns(&self, tenant: &TenantId) -> bool {
        !self.one_tenant || self.tenant == *tenant
    }

    /// Refuses an event type that the key may not dispatch.
    pub(crate) fn may_dispatch(&self, event_type: &EventType) -> Result<(), Problem> {
        if self.actor.limits().is_none_or(|limits| limits.allow_event(event_type)) {
            return Ok(());
        }
        let detail = format!("the key may not dispatch events of the type `{event_type}`");
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }

    /// The subscribers to which the key is limited; `None` if it is not.
    pub(crate) fn subscribers(&self) -> Option<&[SubscriberId]> {
        self.actor.limits().map(|limits| limits.subscribers.as_slice()).filter(|list| !list.is_empty())
    }

    /// Whether the key reaches a subscriber.
    pub(crate) fn reaches(&self, subscriber: SubscriberId) -> bool {
        self.subscribers().is_none_or(|list| list.contains(&subscriber))
    }

    /// Answers a subscriber that the key does not reach as an unknown one, of which `what` is not found.
    pub(crate) fn reach(&self, subscriber: SubscriberId, what: &str) -> Result<(), Problem> {
        if self.reaches(subscriber) { Ok(()) } else { Err(Problem::missing(what)) }
    }

    /// The subscriber by which a request filters. A key that is limited to one need not name it; one that is limited to
    /// several must name one of them.
    pub(crate) fn filtered(&self, given: Option<SubscriberId>) -> Result<Option<SubscriberId>, Problem> {
        match (self.subscribers(), given) {
            (None, given) => Ok(given),
            (Some([only]), None) => Ok(Some(*only)),
            (Some(list), Some(given)) if list.contains(&given) => Ok(Some(given)),
            (Some(_), _) => Err(Self::must_name_its_own()),
        }
    }

    /// The answer to a key that is limited to some subscribers and names none of them.
    pub(crate) fn must_name_its_own() -> Problem {
        let detail = "the key is limited to some subscribers; name one of them as `subscriber_id`";
        Problem::new(StatusCode::FORBIDDEN, detail)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(|| {
            tracing::error!("a route of the API did not pass through authentication");
            Problem::internal()
        })
    }
}
